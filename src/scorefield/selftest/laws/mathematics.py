"""Properties of processes, models, samplers, training and likelihoods; each returns the error of one case."""

import itertools
import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from scorefield.diffusion import prediction, times
from scorefield.diffusion.by_name import PROCESSES
from scorefield.diffusion.denoisers import ExactDenoiser
from scorefield.diffusion.densities import GaussianMixture
from scorefield.inference import samplers
from scorefield.inference.likelihood import log_prob
from scorefield.inference.samplers import SAMPLERS, draw_block
from scorefield.numerics.brownian import LAST, BrownianPath
from scorefield.numerics.tensors import normal_like, spawn
from scorefield.selftest.cases import F64, learned
from scorefield.selftest.laws.draws import Draw, apart, wrong
from scorefield.training.trainer import Trainer

FIXED = [name for name, row in SAMPLERS.items() if not row.adapts]

MOVING = [name for name in FIXED if name not in ("adams", "euler", "euler_maruyama")]
"""Samplers whose steps are exact in x/a; the others take x itself, or x over its scale, for slow."""


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


def added(parts: Iterable[Tensor]) -> Tensor:
    """Return a sum of numbers as a tensor."""
    return sum(parts, torch.zeros((), dtype=F64))


def trainer_of(draw: Draw, steps: int) -> tuple[Trainer, Callable[[], Tensor]]:
    """Return a small model in training, and its loss, which depends on the step."""
    trainer = Trainer(learned(PROCESSES["vp"](), "v", 1, seed=draw.whole(0, 100)), steps, draw.real(1e-4, 1e-2))
    aim = draw.real(-1.0, 1.0)
    return trainer, lambda: added((p - aim * (1 + trainer.step)).square().sum() for p in trainer.model.parameters())


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
        decay = k / (k + 4)
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
        return lambda: added(((trainer.step + 1) * p).square().sum() for p in trainer.model.parameters())

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
