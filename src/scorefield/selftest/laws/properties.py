"""R26: properties that hold for whatever Hypothesis thinks of, not only for the cases that somebody wrote down."""

import dataclasses
import importlib
import itertools
import math
import os
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest.mock import patch

import numpy as np
import pandas as pd
import tomli_w
import torch
from torch import Tensor

from scorefield.data import read_table, write_blocks
from scorefield.diffusion import prediction, times
from scorefield.diffusion.by_name import PROCESSES, make
from scorefield.diffusion.denoisers import ExactDenoiser
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.networks import NETS
from scorefield.diffusion.process import Process
from scorefield.inference import samplers
from scorefield.inference.bound import Bound
from scorefield.inference.likelihood import log_prob
from scorefield.inference.samplers import SAMPLERS, draw_block
from scorefield.kinds.images.estimator import ImageDensity
from scorefield.kinds.images.units import PixelTransform
from scorefield.kinds.tables.units import TableTransform
from scorefield.numerics.brownian import LAST, BrownianPath
from scorefield.numerics.tensors import normal, normal_like, spawn
from scorefield.runs import checkpoint
from scorefield.selftest.cases import F64, learned
from scorefield.selftest.report import Check, Entry, Failures, Plan
from scorefield.training import trainer as training
from scorefield.training.config import Config
from scorefield.training.objectives.table import OBJECTIVES
from scorefield.training.trainer import AVERAGE, Trainer

Option = TypeVar("Option")

FIXED = [name for name, row in SAMPLERS.items() if not row.adapts]
MOVING = [name for name in FIXED if name not in ("adams", "euler", "euler_maruyama")]
"""Samplers whose steps are exact in x/a; the others take x itself, or x over its scale, for slow."""

TYPES = (F64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool)


class Draw:
    """What Hypothesis thinks of, one number after another."""

    def __init__(self, choose: Callable, strategies: object) -> None:
        self.choose, self.strategies = choose, strategies

    def whole(self, low: int, high: int) -> int:
        """Return a whole number, both ends included."""
        return self.choose(self.strategies.integers(low, high))  # type: ignore[attr-defined]

    def real(self, low: float, high: float) -> float:
        """Return a number, both ends included."""
        return self.choose(self.strategies.floats(low, high))  # type: ignore[attr-defined]

    def one_of(self, options: Sequence[Option]) -> Option:
        """Return one of some options."""
        return options[self.whole(0, len(options) - 1)]

    def normals(self, *shape: int) -> Tensor:
        """Return normals, float64, by a seed."""
        return normal(shape, torch.empty(0, dtype=F64), spawn(self.whole(0, 2**31)))

    def process(self) -> Process:
        """Return a registered process of any range."""
        name = self.one_of(list(PROCESSES))
        low = self.real(0.01, 2.0)
        spans = {
            "vp": (low, low + self.real(5.0, 30.0)),
            "ve": (0.01 * low, self.real(20.0, 200.0)),
            "edm": (self.real(20.0, 200.0),),
        }
        spans |= {"subvp": spans["vp"], "cosine": (0.01 * low,)}
        return make(name, spans.get(name, ()))

    def time(self, process: Process, low: float = 1e-3, high: float = 10.0) -> Tensor:
        """Return the time of a noise ratio."""
        ratio = math.exp(self.real(math.log(low), math.log(high)))
        return process.time(torch.tensor(ratio, dtype=F64))

    def mixture(self, d: int, components: int = 3) -> GaussianMixture:
        """Return a mixture of Gaussians."""
        root = 0.3 * self.normals(components, d, d)
        covariances = root @ root.mT + 0.1 * torch.eye(d, dtype=F64)
        return GaussianMixture(self.normals(components).exp(), self.normals(components, d), covariances)


def apart(x: Tensor, y: Tensor) -> float:
    """Return the largest difference, relative above 1."""
    return float(((x - y).abs() / y.abs().clamp(min=1)).max()) if x.numel() else 0.0


def wrong(right: bool) -> float:
    """Return 0 for right and infinity for wrong."""
    return 0.0 if right else math.inf


# -------------------------------------------------------------------------------------- processes and models


def predictions_come_back(draw: Draw) -> float:
    """Clean and noise from any prediction of them."""
    process, parts = draw.process(), draw.normals(2)
    t, name = draw.time(process), draw.one_of(list(prediction.PREDICTIONS))
    p, q = prediction.coefficients(name, process, t, draw.real(0.1, 3.0))
    a, s = process.mean_coef(t), process.std(t)
    clean, noise = parts
    found = prediction.solve(a * clean + s * noise, p * clean + q * noise, a, s, p, q)
    return apart(torch.stack(found), parts)


def score_is_noise(draw: Draw) -> float:
    """The score is -noise / s, and a clean + s noise is x, row by row with times of their own."""
    process = draw.process()
    model = learned(process, draw.one_of(["v", "noise", "clean"]), 2, seed=draw.whole(0, 100))
    x, t = draw.normals(3, 2), torch.stack([draw.time(process) for _ in range(3)])
    with torch.no_grad():
        (clean, noise), score = model.decompose(x, t), model.score(x, t)
    a, s = process.kernel(t, x)
    return max(apart(a * clean + s * noise, x), apart(s * score, -noise))


def schedules_increase(draw: Draw) -> float:
    """s/a grows with t and is what `time` inverts."""
    process = draw.process()
    low, high = sorted((draw.real(-8.0, 2.0), draw.real(-8.0, 2.0)))
    ratios = torch.tensor([low, high + 1e-6], dtype=F64).exp()
    t = process.time(ratios)
    return max(apart(process.ratio(t) / ratios, torch.ones(2, dtype=F64)), wrong(bool(t[0] < t[1])))


def kernels_compose(draw: Draw) -> float:
    """Both a and s at t follow from those at u, f and g in between (Chapman and Kolmogorov), by quadrature."""
    process = draw.process()
    u, t = sorted((draw.time(process), draw.time(process)))
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(60))
    between, width = (u + t) / 2 + (t - u) / 2 * nodes, (t - u) / 2 * weights
    gain = (width * process.drift(between)).sum().exp()
    to_end = process.mean_coef(t) / process.mean_coef(between)
    square = gain**2 * process.std(u) ** 2 + (width * (process.diffusion(between) * to_end) ** 2).sum()
    one = torch.ones((), dtype=F64)
    return max(apart(process.mean_coef(u) * gain / process.mean_coef(t), one), apart(square / process.std(t) ** 2, one))


def noise_adds_up(draw: Draw) -> float:
    """Noised twice is noised once by both."""
    density, x = draw.mixture(2), draw.normals(4, 2)
    a, s, b, r = (draw.real(0.1, 2.0) for _ in range(4))
    return apart(density.noised(a, s).noised(b, r).log_prob(x), density.noised(a * b, math.hypot(b * s, r)).log_prob(x))


def rows_are_alone(draw: Draw) -> float:
    """Any order of rows gives the same rows, and each is what it is alone, with one time or with times of their own."""
    process, n = draw.process(), draw.whole(1, 6)
    x, order = draw.normals(n, 2), draw.normals(n).argsort()
    t = torch.stack([draw.time(process) for _ in range(n)])
    errors = []
    for model in (learned(process, "v", 2), ExactDenoiser(draw.mixture(2), process)):
        parts = lambda x, t, model=model: torch.cat(model.decompose(x, t), 1).detach()
        alone = torch.cat([parts(x[i : i + 1], t[i]) for i in range(n)])
        errors += [apart(parts(x[order], t[order]), parts(x, t)[order]), apart(alone, parts(x, t))]
    return max(errors)


# ------------------------------------------------------------------------------------------------- sampling


def samples_move_with_the_data(draw: Draw) -> float:
    """Gaussian data moved by c: samples move by c, with the same noise, however few the steps."""
    process, name, steps = draw.process(), draw.one_of(MOVING), draw.whole(1, 5)
    density, shift, seed = draw.mixture(2, 1), draw.normals(2), draw.whole(0, 2**31)
    moved = GaussianMixture(density.weights, density.means + shift, density.covariances)
    path, ends = times.grid(process, steps, math.inf), []
    for data in (density, moved):
        model = ExactDenoiser(data, process)
        x = model.prior().sample(3, spawn(seed))
        ends.append(draw_block(model, x, SAMPLERS[name].make(spawn(seed, "noise")), path))
    return apart(ends[0] + shift, ends[1])


def samples_are_a_seeds(draw: Draw) -> float:
    """The same seed gives the same bytes, and fewer samples are the first of more, across blocks too."""
    name, n, seed = (
        draw.one_of(FIXED),
        draw.one_of([1, 5, samplers.BLOCK - 1, samplers.BLOCK + 3]),
        draw.whole(0, 2**31),
    )
    model = ExactDenoiser(GaussianMixture.gaussian(torch.tensor([0.5]), torch.tensor([[0.3]])), PROCESSES["vp"]())
    path = times.grid(model.process, 2)
    some = lambda n: samplers.sample(model, n, sampler=name, times=path, generator=spawn(seed))
    whole, few = some(n), draw.whole(0, n)
    return wrong(torch.equal(some(n), whole) and torch.equal(some(few), whole[:few]))


def grids_end_exactly(draw: Draw) -> float:
    """A grid has its steps, decreases, and ends where the process and the smallest ratio say."""
    process, steps, smallest = draw.process(), draw.whole(1, 300), math.exp(draw.real(-9.0, 0.0))
    power = draw.one_of([math.inf, draw.real(0.5, 20.0)])
    last = float(process.time(torch.tensor(smallest, dtype=F64)))
    paths = times.grid(process, steps, power, smallest), times.uniform_grid(process, steps, smallest)
    right = (len(p) == steps + 1 and float(p[0]) == process.t_max and bool((p.diff() < 0).all()) for p in paths)
    return wrong(all(right) and all(abs(float(path[-1]) - last) <= 1e-15 for path in paths))


def noise_has_no_type(draw: Draw) -> float:
    """Noise is the same in every type up to its rounding, whatever the shape."""
    shape, seed = tuple(draw.whole(0, 5) for _ in range(draw.whole(1, 3))), draw.whole(0, 2**62)
    kind = draw.one_of([torch.float32, torch.float16, torch.bfloat16])
    exact = normal_like(torch.empty(shape, dtype=F64), spawn(seed))
    return wrong(torch.equal(normal_like(torch.empty(shape, dtype=kind), spawn(seed)), exact.to(kind)))


def paths_can_be_asked_again(draw: Draw) -> float:
    """A Brownian path answers the same bits in any order and among any rows."""
    path = BrownianPath(draw.whole(0, 2**62), draw.whole(1, 3), lambda place: 1 + place)
    n = draw.whole(1, 5)
    places = torch.tensor([draw.whole(0, LAST) for _ in range(n)])
    order = draw.normals(n).argsort()
    found = path(torch.arange(n), places)
    return wrong(torch.equal(path(order, places[order]), found[order]))


# ------------------------------------------------------------------------------------- training and likelihood


def trainer_of(draw: Draw, steps: int) -> tuple[Trainer, Callable[[], Tensor]]:
    """Return a small model in training, and its loss, which depends on the step."""
    trainer = Trainer(learned(PROCESSES["vp"](), "v", 1, seed=draw.whole(0, 100)), steps, draw.real(1e-4, 1e-2))
    aim = draw.real(-1.0, 1.0)
    distance = lambda: sum((p - aim * (1 + trainer.step)).square().sum() for p in trainer.model.parameters())
    return trainer, distance  # type: ignore[return-value]


def parameters(model: torch.nn.Module) -> Tensor:
    """Return all weights as one vector."""
    return torch.cat([p.detach().flatten() for p in model.parameters()]).clone()


def the_average_is_one(draw: Draw) -> float:
    """The averaged weights are the sum over steps of the weights times the decays that followed."""
    steps = draw.whole(1, 25)
    trainer, loss = trainer_of(draw, steps)
    expected = parameters(trainer.model)
    error = 0.0
    for k, _ in enumerate(trainer.run(loss)):
        decay = min(AVERAGE, k / (k + 10))
        expected = decay * expected + (1 - decay) * parameters(trainer.model)
        error = max(error, apart(parameters(trainer.average), expected))
    return error


def training_resumes(draw: Draw) -> float:
    """First k steps, saved and loaded, and n - k more are n steps, to the bit."""
    n = draw.whole(1, 12)
    k, seed = draw.whole(0, n), draw.whole(0, 100)
    rate = draw.real(1e-4, 1e-2)

    def fresh() -> Trainer:
        return Trainer(learned(PROCESSES["vp"](), "v", 1, seed=seed), n, rate)

    def loss(trainer: Trainer) -> Callable[[], Tensor]:
        return lambda: sum(((trainer.step + 1) * p).square().sum() for p in trainer.model.parameters())  # type: ignore

    whole, first, second = fresh(), fresh(), fresh()
    list(whole.run(loss(whole)))
    list(itertools.islice(first.run(loss(first)), k))
    second.load_state(first.state())
    list(second.run(loss(second)))
    end, again = whole.state(), second.state()
    return wrong(end.keys() == again.keys() and all(torch.equal(end[name], again[name]) for name in end))


def independent_blocks_add_up(draw: Draw) -> float:
    """The log p of independent columns is the sum of theirs, and that of a Gaussian is known."""
    process = draw.process()
    first, second = draw.mixture(1, 1), draw.mixture(2, 1)
    covariance = torch.block_diag(first.covariances[0], second.covariances[0])
    both = GaussianMixture.gaussian(torch.cat([first.means[0], second.means[0]]), covariance)
    x = both.sample(2, spawn(draw.whole(0, 2**31)))
    value = lambda density, x: log_prob(ExactDenoiser(density, process), x, errors=False, tol=1e-6).value
    found = value(both, x)
    return max(apart(value(first, x[:, :1]) + value(second, x[:, 1:]), found), apart(found, both.log_prob(x)))


def probes_belong_to_rows(draw: Draw) -> float:
    """Equal rows get estimates of log p of their own, by probes of their own: in 8 columns they rarely meet."""
    model, n = learned(draw.process(), "v", 8, seed=draw.whole(0, 100)), draw.whole(2, 4)
    x, generator = draw.normals(1, 8).expand(n, 8), spawn(draw.whole(0, 2**31))
    found = log_prob(model, x, probes=4, sketch=draw.one_of([0, 2]), errors=False, tol=1e-3, generator=generator)
    return wrong(len(found.value.unique()) > 1)


# ------------------------------------------------------------------------------------------- files and units


def settings_come_back(draw: Draw) -> float:
    """Settings written to TOML are read as the same settings."""
    plain = [name for name, row in OBJECTIVES.items() if not row.energy and not row.law]
    process = draw.process()
    name = next(name for name, kind in PROCESSES.items() if kind is type(process))
    config = Config(
        steps=draw.whole(1, 2**62),
        seed=draw.whole(0, 2**62),
        process=name,
        span=dataclasses.astuple(process),
        predicts=draw.one_of(list(prediction.PREDICTIONS)),
        objective=draw.one_of(plain),
        network=draw.one_of(list(NETS)),
        learning_rate=draw.real(1e-300, 1e300),
        noise_median=draw.real(1e-3, 1e3),
        members=draw.whole(1, 9),
    )
    text = tomli_w.dumps(dataclasses.asdict(config))
    return wrong(Config.from_dict(tomllib.loads(text)) == config)


def tensor_of(draw: Draw) -> Tensor:
    """Return a tensor of any type and shape, without numbers and without dimensions too."""
    shape = tuple(draw.whole(0, 4) for _ in range(draw.whole(0, 3)))
    values = 100 * draw.normals(math.prod(shape)).reshape(shape)
    special = draw.one_of([0.0, math.inf, math.nan])
    kind = draw.one_of(TYPES)
    return (values + special if kind.is_floating_point else values.abs()).to(kind)


def same_bytes(x: Tensor, y: Tensor) -> bool:
    """Return whether two tensors are the same to the bit."""
    same = x.dtype == y.dtype and x.shape == y.shape
    return same and bool((x.flatten().view(torch.uint8) == y.flatten().view(torch.uint8)).all())


def checkpoints_come_back(draw: Draw) -> float:
    """Whatever finite tensors are saved are read, to the bit; of others nothing is kept."""
    model, state = ({f"t{k}": tensor_of(draw) for k in range(draw.whole(0, 3))} for _ in range(2))
    finite = all(bool(value.isfinite().all()) for value in [*model.values(), *state.values()])
    step, refused = draw.whole(0, 10**9), False
    with tempfile.TemporaryDirectory() as name, patch.object(os, "fsync"):  # the disk is not what is tested
        try:
            checkpoint.save(Path(name), step, model, state, "digest")
        except checkpoint.CheckpointError:
            refused = True
        found = checkpoint.latest(Path(name), "digest")
    if found is None:
        return wrong(refused and not finite)
    pairs = [(model, found.model), (state, found.state)]
    same = all(a.keys() == b.keys() and all(same_bytes(a[k], b[k]) for k in a) for a, b in pairs)
    return wrong(finite and not refused and found.step == step and same)


def tables_come_back(draw: Draw) -> float:
    """Any numbers whose squares are finite are read as they were written, by text too."""
    rows = draw.whole(2, 5)
    floats = [draw.real(-1e150, 1e150) for _ in range(rows)]
    whole = [draw.whole(-(2**53), 2**53) for _ in range(rows)]
    frame = pd.DataFrame({"a": floats, "b": whole, "c": [0.5 * k for k in range(rows)]})
    with tempfile.TemporaryDirectory() as name, patch.object(os, "fsync"):
        path = Path(name) / draw.one_of(["t.csv", "t.tsv", "t.parquet"])
        write_blocks(path, [frame], force=False)
        found = read_table(path).frame
    return wrong(found.astype(float).equals(frame.astype(float)))


def table_of(draw: Draw) -> tuple[pd.DataFrame, dict]:
    """Return a table of several kinds of columns, and bounds."""
    n = draw.whole(3, 30)
    z, scale = draw.normals(n, 4).numpy(), 10 ** draw.real(-8.0, 8.0)
    frame = pd.DataFrame({"plain": z[:, 0] * scale + draw.real(-10.0, 10.0) * scale, "positive": np.exp(z[:, 1])})
    frame["share"] = 1 / (1 + np.exp(-z[:, 2]))
    frame["count"] = (draw.whole(1, 50) * (np.abs(z[:, 3]) * 5).round()).astype(np.int64)
    frame["fixed"] = draw.real(-10.0, 10.0)
    return frame, {"positive": (0, math.inf), "share": (0, 1)}


def units_come_back(draw: Draw) -> float:
    """A table mapped to the model's units and back is the table."""
    frame, bounds = table_of(draw)
    transform = TableTransform.fit(frame, bounds, bend=False)
    back = transform.inverse(transform.forward(frame))
    exact = all((back[name] == frame[name]).all() for name in ("count", "fixed"))
    error = max(float((back[name] / frame[name] - 1).abs().max()) for name in ("positive", "share"))
    moved = float((back["plain"] - frame["plain"]).abs().max() / frame["plain"].abs().max())
    return max(error, moved, wrong(exact and bool((back.dtypes == frame.dtypes).all())))


def slopes_are_the_maps(draw: Draw) -> float:
    """The log-Jacobian of a table's units is that of the map, by differences around one row."""
    frame, bounds = table_of(draw)
    transform = TableTransform.fit(frame.drop(columns="count"), bounds, bend=False)
    row = frame.drop(columns="count").iloc[[draw.whole(0, len(frame) - 1)]]
    parts = []
    for i in transform.varying:
        value = float(row.iat[0, i])
        room = min(value, 1 - value) if row.columns[i] == "share" else value
        step = 1e-4 * (transform.columns[i].spread if row.columns[i] == "plain" else room)
        up, down = row.copy(), row.copy()
        up.iat[0, i], down.iat[0, i] = value + step, value - step
        parts.append((transform.forward(up) - transform.forward(down))[0] / (2 * step))
    slope = torch.linalg.slogdet(torch.stack(parts)).logabsdet
    return float((slope - transform.log_jacobian(row)).abs())


def pixels_come_back(draw: Draw) -> float:
    """Images mapped to the model's units and back are the images, and k even levels are log2 k bits."""
    kind = draw.one_of(["uint8", "uint16", "int64", "float32", "bool"])
    levels = draw.whole(2, 2 if kind == "bool" else 200)
    shape = (draw.whole(2, 6), draw.whole(1, 3), draw.whole(1, 5), draw.whole(1, 5))
    pixels = (draw.normals(*shape).numpy() * 1e3).astype(np.int64) % levels
    pixels[0].flat[0], pixels[1].flat[0] = 0, levels - 1
    images = pixels.astype(kind) if kind != "float32" else (pixels / levels).astype(np.float32)
    transform = PixelTransform.fit(images)
    back = transform.inverse(transform.forward(transform.rows(images)))
    even = torch.full((3,), -transform.dim * math.log(levels), dtype=F64)
    bits = ImageDensity.bits_per_dim(SimpleNamespace(transform_=transform), Bound(even, 0 * even)).value  # type: ignore
    same = back.dtype == images.dtype and np.allclose(back.astype(float), images.astype(float), rtol=0, atol=1e-6)
    return max(wrong(same), float((bits - math.log2(levels)).abs().max()))


@dataclass(frozen=True)
class Property:
    """What returns an error, how large it may be, and how many cases the quick form tries."""

    check: Callable[[Draw], float]
    allowed: float
    quick: int = 500


PROPERTIES = [
    Property(predictions_come_back, 1e-8),
    Property(score_is_noise, 1e-9),
    Property(schedules_increase, 1e-9),
    Property(kernels_compose, 1e-8),
    Property(noise_adds_up, 1e-9),
    Property(rows_are_alone, 1e-9),
    Property(samples_move_with_the_data, 1e-7),
    Property(samples_are_a_seeds, 0.0),
    Property(grids_end_exactly, 0.0),
    Property(noise_has_no_type, 0.0),
    Property(paths_can_be_asked_again, 0.0),
    Property(the_average_is_one, 1e-12),
    Property(training_resumes, 0.0),
    Property(independent_blocks_add_up, 1e-4, 50),
    Property(probes_belong_to_rows, 0.0, 20),
    Property(settings_come_back, 0.0),
    Property(checkpoints_come_back, 0.0),
    Property(tables_come_back, 0.0),
    Property(units_come_back, 1e-9),
    Property(slopes_are_the_maps, 1e-5),
    Property(pixels_come_back, 1e-9),
]


class Counterexample(ValueError):
    """A case for which a property does not hold."""


def trouble(row: Property, count: int, plan: Plan) -> str | None:
    """Try a property on so many cases, the same for seed 0; return the simplest that fails, in smoke the first."""
    hypothesis = importlib.import_module("hypothesis")
    strategies = importlib.import_module("hypothesis.strategies")

    def test(data: Any) -> None:  # noqa: ANN401, the type is of a library that need not be there
        error = row.check(Draw(data.draw, strategies))
        if not error <= row.allowed:
            raise Counterexample(f"{error:.3g} > {row.allowed:g}")

    fixed = hypothesis.settings(
        max_examples=count,
        derandomize=plan.seed == 0,
        database=None,
        deadline=None,
        verbosity=hypothesis.Verbosity.quiet,
        suppress_health_check=list(hypothesis.HealthCheck),
        report_multiple_bugs=False,
        phases=[phase for phase in hypothesis.Phase if phase.name != "shrink" or plan.size != "smoke"],
    )
    attempt = fixed(hypothesis.given(strategies.data())(test))
    try:
        (attempt if plan.seed == 0 else hypothesis.seed(plan.seed)(attempt))()
    except Exception as error:  # whatever is raised is what is looked for
        return f"{type(error).__name__}: {error}"
    return None


def tried(check: Callable[[Draw], float], plan: Plan) -> Check:
    """Try one property on as many cases as the plan wants."""
    row = next(row for row in PROPERTIES if row.check is check)
    count, found = plan.of(10, row.quick, 500), Failures(check.__name__.replace("_", " "))
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, HYPOTHESIS_STORAGE_DIRECTORY=folder):
        found.add("simplest case", trouble(row, count, plan))
    return dataclasses.replace(found.check(), n=count)


def run(plan: Plan) -> Iterator[Check]:
    """Try every property."""
    return (tried(row.check, plan) for row in PROPERTIES)


def inverted_average() -> AbstractContextManager:
    """Plant a decay that keeps what it should forget."""
    lerp = torch._foreach_lerp_
    return patch.object(training.torch, "_foreach_lerp_", lambda mine, other, weight: lerp(mine, other, 1 - weight))


TESTS = {"R26": Entry("properties tried by Hypothesis", run, inverted_average, smoke=True, needs="hypothesis")}
