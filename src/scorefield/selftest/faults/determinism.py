"""R19: what a seed fixes: the same bytes again, the first rows of more rows, the same noise for every type."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import torch
from torch import Generator, Tensor

from scorefield.diffusion.denoisers import ScoreModel
from scorefield.diffusion.times import grid
from scorefield.inference import langevin, samplers
from scorefield.inference.likelihood import log_prob
from scorefield.inference.samplers import SAMPLERS
from scorefield.numerics import tensors
from scorefield.numerics.tensors import spawn
from scorefield.selftest.cases import table_learner
from scorefield.selftest.faults.forked import run, scorefield, warm
from scorefield.selftest.faults.guard import images
from scorefield.selftest.inputs.makers import npz
from scorefield.selftest.report import Check, Entry, Failures, Plan
from scorefield.training.config import Config

SIZES, ALL = (1, 7, 32, 64), 1000
"""Numbers of rows that must be the first of ALL rows."""

STEPS = 6
"""Steps of a walk."""

CHUNKED, THREADED, DEVICE = 1e-5, 1e-6, 1e-3
"""What rounding may change: with the rows that are computed at once; relative, with the threads; with the device."""

THREADS = (1, 2, 4)

TYPES = (torch.float32, torch.bfloat16, torch.float16)


def matrix(plan: Plan) -> Iterator[Check]:
    """Draw, train and answer again with the same seed, in other numbers, types, chunks, threads and devices."""
    warm()
    model = _model(plan.seed)
    yield _again(model, plan)
    yield _first_rows(model, plan)
    yield _types(plan)
    yield from _chunks(model, plan)
    yield from _threads(model, plan)
    if torch.cuda.is_available():
        found = _draw(_model(plan.seed).cuda(), "adams", 64, STEPS * 170).cpu()
        difference = (found - _draw(model, "adams", 64, STEPS * 170)).abs().max()
        yield Check("the graphics processor against the CPU", float(difference), DEVICE, 64)
    if plan.size != "smoke":
        yield _files()


def _model(seed: int) -> ScoreModel:
    """Return a model with a small network of weights that were drawn, in two columns."""
    config = Config(steps=1, seed=seed, width=32, depth=2, features=8)
    model = config.model(torch.zeros(2), torch.eye(2))
    draw = spawn(seed, "weights")
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.1 * tensors.normal(weights.shape, weights, draw))
    return model.eval()


def _draw(model: ScoreModel, sampler: str, n: int, steps: int = STEPS) -> Tensor:
    """Return samples; a sampler that chooses its own steps gets as many as it likes."""
    path = grid(model.process, steps)
    return samplers.sample(model, n, sampler=sampler, times=path, generator=Generator().manual_seed(0))


def _trained(seed: int) -> dict[str, Tensor]:
    rows = torch.randn(100, 2, generator=Generator().manual_seed(seed))
    learner = table_learner(Config(steps=20, seed=seed, width=16, features=8), rows[:90], rows[90:])
    for _ in learner.run():
        pass
    return learner.state()


def _names(plan: Plan) -> list[str]:
    return list(SAMPLERS) if plan.size != "smoke" else ["adams", "ancestral"]


def _again(model: ScoreModel, plan: Plan) -> Check:
    failures = Failures("the same seed again, to the bit")
    for name in _names(plan):
        first = _draw(model, name, 64)
        for k in range(2):
            failures.add(f"{name}, again {k}", None if torch.equal(_draw(model, name, 64), first) else "others")
    first_state = _trained(plan.seed)
    for k in range(plan.of(1, 2, 2)):
        state = _trained(plan.seed)
        changed = [name for name in first_state if not torch.equal(state[name], first_state[name])]
        failures.add(f"training, again {k}", f"{changed[0]} differs" if changed else None)
    return failures.check()


def _first_rows(model: ScoreModel, plan: Plan) -> Check:
    failures = Failures(f"the first of {ALL} samples, to the bit")
    draws: dict[str, Callable[[int], Tensor]] = {name: partial(_draw, model, name) for name in _names(plan)}
    with patch.object(langevin, "STEPS", STEPS):
        draws["langevin"] = lambda n: torch.cat(list(langevin.sample_blocks(model, 0.3, n, Generator().manual_seed(0))))
        for name, draw in draws.items():
            every = draw(ALL)
            for n in SIZES:
                failures.add(f"{name}, {n}", None if torch.equal(draw(n), every[:n]) else "others")
    return failures.check()


def _types(plan: Plan) -> Check:
    """Compare the noise of each type, drawn alone and by each sampler that follows given times."""
    failures = Failures("the same noise for every type, to the bit")
    double = tensors.normal((1000, 3), torch.zeros(0, dtype=torch.float64), Generator().manual_seed(plan.seed))
    for kind in TYPES:
        found = tensors.normal((1000, 3), torch.zeros(0, dtype=kind), Generator().manual_seed(plan.seed))
        failures.add(f"normals, {kind}", None if torch.equal(found, double.to(kind)) else "others")
    for name in (name for name in _names(plan) if not SAMPLERS[name].adapts):
        single, double_ = (_noise(_model(plan.seed).to(kind), name) for kind in (torch.float32, torch.float64))
        same = len(single) == len(double_) and all(map(torch.equal, single, double_))
        failures.add(f"{name}, float32 and float64", None if same else "others")
    return failures.check()


def _noise(model: ScoreModel, sampler: str) -> list[Tensor]:
    """Return all normals that are drawn for samples."""
    drawn: list[Tensor] = []
    original = torch.randn

    def randn(*shape: int, generator: Generator, dtype: torch.dtype, device: str | torch.device = "cpu") -> Tensor:
        drawn.append(original(*shape, generator=generator, dtype=dtype, device=device))
        return drawn[-1]

    with patch.object(torch, "randn", randn):
        _draw(model, sampler, 10)
    return drawn


def _chunks(model: ScoreModel, plan: Plan) -> Iterator[Check]:
    """Ask for the same rows at once and in parts: the network, walks without noise, log-probabilities."""
    x, t = model.prior().sample(ALL, Generator().manual_seed(plan.seed)), torch.tensor(0.3, dtype=torch.float64)
    path = grid(model.process, STEPS)
    few = x[: plan.of(16, 64, 64)]
    with torch.no_grad():
        yield _chunked("the network", lambda x: model.decompose(x, t)[1], x)
    for name in (name for name in _names(plan) if not SAMPLERS[name].stochastic):
        walk = lambda x, name=name: samplers.draw_block(model, x, SAMPLERS[name].make(None), path)
        yield _chunked(name, walk, few)
    double = _model(plan.seed).double()  # as an estimator asks for them
    yield _chunked("log-probabilities", lambda x: log_prob(double, x).value, few[:32].double())


def _chunked(what: str, answer: Callable[[Tensor], Tensor], x: Tensor) -> Check:
    whole, largest, count = answer(x), 0.0, 0
    for size in (size for size in SIZES if size < len(x)):
        parts = torch.cat([answer(part) for part in x.split(size)])
        largest, count = max(largest, float((parts - whole).abs().max())), count + 1
    return Check(f"rows computed in chunks, {what}", largest, CHUNKED, count)


def _threads(model: ScoreModel, plan: Plan) -> Iterator[Check]:
    """Draw and train with each number of threads, twice."""
    failures, largest = Failures("the same threads again, and noise with other threads, to the bit"), 0.0
    names = _names(plan)
    with TemporaryDirectory() as folder:
        found = {}
        for threads in THREADS:
            for k in range(2):
                path = Path(folder) / f"{threads}-{k}.npz"
                ended = run(partial(_at_threads, path, threads, model, names, plan.seed))
                if ended.code:
                    raise RuntimeError(ended.told[-1000:])
                with np.load(path) as content:
                    found[threads, k] = dict(content)
            first, second = found[threads, 0], found[threads, 1]
            for name, value in first.items():
                failures.add(f"{name}, {threads} threads", None if (value == second[name]).all() else "others")
            same = (first["noise"] == found[1, 0]["noise"]).all()
            failures.add(f"noise, {threads} threads", None if same else "others")
            for name in names:
                one = found[1, 0][name]
                largest = max(largest, float(np.abs(first[name] - one).max() / np.abs(one).max()))
    yield failures.check()
    yield Check("samples with other numbers of threads, relative", largest, THREADED, len(names) * (len(THREADS) - 1))


def _at_threads(path: Path, threads: int, model: ScoreModel, names: list[str], seed: int) -> None:
    torch.set_num_threads(threads)
    found = {name: _draw(model, name, 64).numpy() for name in names}
    found["noise"] = tensors.normal((100_000,), torch.zeros(0), Generator().manual_seed(seed)).numpy()
    found |= {f"trained {name}": value.numpy() for name, value in _trained(seed).items()}
    path.write_bytes(npz(**found))


def _files() -> Check:
    """Compare files: few rows are the beginning of many, byte for byte; so are images."""
    failures = Failures("files of few and of many samples")
    with TemporaryDirectory() as folder:
        place = Path(folder)
        run(scorefield("fit", "mixture-1d", "--rows", 8, "--steps", 5, "--out", place / "table", "--quiet"))
        images(place / "images")
        for made, suffix, few, many in (("table", "csv", 10, 1000), ("images", "npy", 10, 70)):
            for n in (few, many):
                out = place / f"{made}-{n}.{suffix}"
                ended = run(scorefield("sample", place / made, "-n", n, "--steps", STEPS, "--out", out, "--quiet"))
                failures.add(out.name, ended.told if ended.code else None)
            short, long = ((place / f"{made}-{n}.{suffix}").read_bytes() for n in (few, many))
            if suffix == "npy":
                short, long = (content[content.index(b"\n") + 1 :] for content in (short, long))
            failures.add(made, None if long.startswith(short) and len(long) > len(short) else "another beginning")
    return failures.check()


@contextmanager
def of_its_type() -> Iterator[None]:
    """Draw noise in the type of the samples, as PyTorch does where it is not told otherwise."""

    def drawn(shape: tuple[int, ...], like: Tensor, generator: Generator | None = None) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=like.dtype)

    with patch.object(tensors, "normal", drawn):
        yield


TESTS = {"R19": Entry("what a seed fixes", matrix, of_its_type, smoke=True)}
