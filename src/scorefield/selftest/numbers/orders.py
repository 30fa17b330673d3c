"""R03, R04: orders of convergence without Monte Carlo, in the mean and along paths; the source of Brownian paths."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from unittest.mock import patch

import torch
from torch import Generator, Tensor

from scorefield.diffusion.denoisers import Denoiser, ExactDenoiser
from scorefield.diffusion.process import Process
from scorefield.inference import probability_flow, samplers
from scorefield.inference.adaptive import adaptive_flow, adaptive_sde
from scorefield.inference.samplers import SAMPLERS, euler_maruyama
from scorefield.inference.walking import walk
from scorefield.numerics import ode
from scorefield.numerics.brownian import LAST, BrownianPath
from scorefield.numerics.shapes import Samples
from scorefield.numerics.tensors import spawn
from scorefield.selftest.cases import DENSITIES, F64, f64, learned
from scorefield.selftest.numbers.affine import USUAL, Affine, exact_flow, gaussian_model, marginal, smooth_grid
from scorefield.selftest.report import Check, Entry, Failures, Plan, Worst

NOTHING = 1e-12
"""An error below this has nothing left to fall: a process may make a scheme exact."""


def orders(errors: Sequence[float]) -> list[float]:
    """Return log2 of the ratio of each two neighbouring errors."""
    return [math.log2(coarse / fine) for coarse, fine in itertools.pairwise(errors)]


# ---------------------------------------------------------------------------------------- orders in the mean

STEPS = {1: (128, 256, 512), 2: (64, 128, 256), 3: (64, 128, 256)}
"""Steps by the order that is stated: enough for it to show, few enough for rounding not to."""

LEGS = ((3.0, 1.0), (0.7, 0.2))
"""Ranges of s/a on which no leading error crosses zero, which would show another order there."""

LIMIT = {1: 5e-3, 2: 5e-4, 3: 1e-6}
"""What may be left of mean and variance with the most of these steps, by the order."""


def moment_errors(name: str, process: Process, leg: tuple[float, float], steps: int) -> tuple[float, float]:
    """Return the errors of mean and variance of a sampler on the Gaussian after so many steps."""
    chain, grid = Affine(SAMPLERS[name].make(None), gaussian_model(process)), smooth_grid(process, steps, *leg)
    mean, std = map(float, marginal(process, grid[-1]))
    found = chain.moments(grid)
    return abs(found[0] - mean), abs(found[1] - std**2)


def path_errors(name: str, model: Denoiser, x: Tensor, steps: Sequence[int]) -> list[float]:
    """Return the errors of a deterministic sampler against the flow solved to 1e-10, for each number of steps."""
    start, stop = math.log(3.0), math.log(0.3)
    with torch.no_grad():
        truth = probability_flow.transport(model, x, start, stop, 1e-10)
    ends = []
    for n in steps:
        *_, end = SAMPLERS[name].make(None)(model, x, smooth_grid(model.process, n))
        ends.append(float((end - truth).square().mean().sqrt()))
    return ends


def solver_errors(start: float, stop: float) -> list[float]:
    """Return the errors of the solver's steps of fixed size for y' = y cos t, y = exp(sin t)."""
    field = lambda t, y, rows: y * t.cos()[:, None]
    errors, rows = [], torch.arange(1)
    for n in (32, 64, 128):
        h, y = f64((stop - start) / n), f64([math.exp(math.sin(start))])
        for k in range(n):
            t = start + k * h
            y, _, _ = ode._step(field, t, y, field(t, y, rows), h, rows)
        errors.append(abs(float(y) - math.exp(math.sin(stop))))
    return errors


def adaptive_errors(name: str, process: Process) -> list[float]:
    """Return the errors of a sampler that adapts, in tolerances, at two of them: nine rows in ten are below.

    The flow's is that of the Gaussian in closed form; the SDE's, on one Brownian path, is that of a tenth of the
    smaller tolerance, which a row near the border between modes can leave by any distance.
    """
    grid = smooth_grid(process, 1, 30.0 if process.ratio(f64(process.t_max)) > 30 else 3.0, 0.03)
    if name == "adaptive_flow":
        model: Denoiser = gaussian_model(process)
        x = f64([-2.0], [0.0], [3.0])
        truth, tolerances = exact_flow(process, x, grid), [1e-3, 1e-5]
        end = lambda tol: next(adaptive_flow(tol)(model, x, grid))
    elif name == "adaptive_sde":
        model, tolerances = ExactDenoiser(DENSITIES["mixture-2d"], process), [1e-1, 2e-2]
        x = model.prior().sample(100, Generator().manual_seed(0))
        end = lambda tol: next(adaptive_sde(tol, Generator().manual_seed(1))(model, x, grid))
        truth = end(2e-3)
    else:
        raise NotImplementedError(f"no tolerance of {name} is known")
    rows = lambda tol: (end(tol) - truth).square().mean(1).sqrt() / tol / model.spread
    return [float(rows(tol).quantile(0.9)) for tol in tolerances]


def gaussian_orders(fixed: Sequence[str], usual: Mapping[str, Process]) -> Iterator[Check]:
    """Measure orders of mean and variance on the Gaussian."""
    gaussian = Worst("order of mean and variance on a Gaussian, less the one stated", 0.1)
    limit = Worst("error of mean and variance with the most steps, of what its order allows", 1.0)
    for name, (label, process), leg in itertools.product(fixed, usual.items(), LEGS):
        order = SAMPLERS[name].weak_order or 0
        for moment in zip(*(moment_errors(name, process, leg, steps) for steps in STEPS[order]), strict=True):
            limit.add(f"{name}, {label}", moment[-1] / LIMIT[order])
            if moment[-1] > NOTHING:
                gaussian.add(f"{name}, {label}", max(abs(found - order) for found in orders(moment)), 2)
    yield gaussian.check()
    yield limit.check()


def other_orders(fixed: Sequence[str], usual: Mapping[str, Process]) -> Iterator[Check]:
    """Measure orders of deterministic samplers on a mixture and on a network."""
    others = Worst("order on a mixture and on a network, less the one stated", 0.25)
    close = Worst("error on a mixture and on a network with the most steps", 0.02)
    z = torch.randn(20, 2, dtype=F64, generator=Generator().manual_seed(0))
    for name, (label, process) in itertools.product(fixed, usual.items()):
        if SAMPLERS[name].stochastic:
            continue
        order, x = SAMPLERS[name].strong_order or 0, marginal(process, smooth_grid(process, 1)[0])[1] * z
        for kind, model in (
            ("mixture", ExactDenoiser(DENSITIES["mixture-2d"], process)),
            ("network", learned(process, "v", 2)),
        ):
            errors = path_errors(name, model, x, [2 * n for n in STEPS[order]])
            others.add(f"{name}, {label}, {kind}", max(abs(found - order) for found in orders(errors)), 2)
            close.add(f"{name}, {label}, {kind}", errors[-1])
    yield others.check()
    yield close.check()


def convergence(plan: Plan) -> Iterator[Check]:
    """Measure the order of every sampler on every process against the one that its row states."""
    usual = dict(itertools.islice(USUAL.items(), plan.of(smoke=1, quick=len(USUAL), full=len(USUAL))))
    fixed = [name for name, row in SAMPLERS.items() if not row.adapts]
    yield from gaussian_orders(fixed, usual)
    yield from other_orders(fixed, usual)
    solver = Worst("order of the solver's steps, both ways, less 5", 0.1)
    for start, stop in ((0.0, 3.0), (3.0, 0.0)):
        solver.add(f"{start:g} to {stop:g}", max(abs(found - 5) for found in orders(solver_errors(start, stop))), 2)
    yield solver.check()
    adapting = [name for name, row in SAMPLERS.items() if row.adapts]
    tolerance = Worst("error of samplers that adapt, in tolerances", 10.0)
    for name, (label, process) in itertools.product(adapting, usual.items()):
        tolerance.add(f"{name}, {label}", max(adaptive_errors(name, process)), 2)
    yield tolerance.check()
    yield Check("registered samplers that were not measured", float(len(SAMPLERS) - len(fixed + adapting)), 0.0)


def heun_that_looks_back(model: Denoiser, x: Samples, t: Tensor, u: Tensor) -> Samples:
    """Take Heun's step with the second answer of the model asked at t."""
    a, b = model.process.mean_coef(t), model.process.mean_coef(u)
    h = model.process.ratio(u) - model.process.ratio(t)
    _, noise = model.decompose(x, t)
    _, noise_u = model.decompose(a * (x / a + h * noise), t)
    return b * (x / a + h * (noise + noise_u) / 2)


def one_time() -> AbstractContextManager:
    """Plant a Heun step that asks the model at one time only."""
    return patch.object(samplers, "heun", heun_that_looks_back)


# ---------------------------------------------------------------------------------------- orders along paths

CLOCKS: dict[str, Callable[[Process, Tensor], Tensor]] = {
    "euler_maruyama": lambda process, t: -t,
    "exponential_heun": lambda process, t: process.ratio(t) ** -2,
}
"""The variance of the driving noise of samplers that state a strong order."""


def response_errors(name: str, process: Process) -> list[float]:
    """Return the errors along a path on the Gaussian, over all paths: a sum over the path's independent increments.

    Each step's normal is spread over the fine increments in proportion, so that only what the step gets wrong is left.
    """
    fine = 2048
    chain = Affine(SAMPLERS[name].make(None), gaussian_model(process))
    points = smooth_grid(process, fine, 3.0, 0.15)
    clock = CLOCKS[name](process, points)

    def responses(steps: int) -> Tensor:
        """Return how the end state answers to a unit of each fine increment of the path, by the noise's own clock."""
        per = fine // steps
        _, gains, _ = chain(points[::per])
        return (gains / clock[::per].diff().sqrt()).repeat_interleave(per)

    truth = responses(fine)
    return [float(((responses(n) - truth).square() * clock.diff()).sum().sqrt()) for n in (32, 64, 128)]


FINE, LEVELS = 4096, (8, 16, 32, 64, 128, 256)
"""Steps of the reference and of the six levels."""


def brownian_slope(process: Process, w: Tensor) -> float:
    """Return the slope of the error of Euler-Maruyama over the step on a mixture, on paths w (rows, FINE + 1).

    The paths run over [0, 1] and are stretched to the process's times between noise ratios 3 and 0.3.
    """
    model = ExactDenoiser(DENSITIES["mixture-1d"], process)
    start, stop = process.time(f64(3.0, 0.3)).tolist()
    x = marginal(process, f64(start)[0])[1] * w.new_ones(len(w), 1)

    def end(steps: int) -> Tensor:
        drawn = iter(w[:, :: FINE // steps].diff(dim=1).T * steps**0.5)
        with patch.object(samplers, "normal_like", lambda x, generator=None: next(drawn)[:, None]):
            *_, last = walk(euler_maruyama())(model, x, torch.linspace(start, stop, steps + 1, dtype=F64))
        return last

    truth = end(FINE)
    heights = torch.stack([(end(n) - truth).square().mean().sqrt().log2() for n in LEVELS])
    places = -f64(*LEVELS).log2()
    places = places - places.mean()
    return float(places @ heights / places.square().sum())


def strong(plan: Plan) -> Iterator[Check]:
    """Measure errors along Brownian paths, and whether a path answers the same however it is asked."""
    usual = dict(itertools.islice(USUAL.items(), plan.of(smoke=1, quick=len(USUAL), full=len(USUAL))))
    stated = [name for name, row in SAMPLERS.items() if row.stochastic and row.strong_order]
    exact = Worst("order along a path on a Gaussian, over all paths, less the one stated", 0.15)
    for name, (label, process) in itertools.product(stated, usual.items()):
        found = orders(response_errors(name, process))
        exact.add(f"{name}, {label}", max(abs(order - (SAMPLERS[name].strong_order or 0)) for order in found), 2)
    yield exact.check()
    rows, seed = plan.of(smoke=200, quick=2_000, full=20_000), plan.seed
    path = BrownianPath(seed, 1, lambda place: place / LAST)
    places = torch.arange(FINE + 1) * (LAST // FINE)
    w = torch.stack([path(torch.full_like(places, row), places)[:, 0] for row in range(rows)])
    slope = Worst("slope of Euler-Maruyama on a mixture over six levels, less 1", 0.15)
    for label, process in usual.items():
        slope.add(label, abs(brownian_slope(process, w) - 1), rows)
    yield slope.check()
    yield from source(plan)


def source(plan: Plan) -> Iterator[Check]:
    """Ask a path a million times, and 500 times again."""
    draw, queries = spawn(plan.seed, "queries"), 500
    path = BrownianPath(plan.seed, 3, lambda place: 2 + 3 * place / LAST)
    rows = torch.randint(0, 50, (queries,), generator=draw)
    places, order = torch.randint(0, LAST + 1, (queries,), generator=draw), torch.randperm(queries, generator=draw)
    first, again = path(rows, places), Failures("values that differ where they are asked again, in another order")
    later = path(rows[order], places[order])
    for i in range(queries):
        alone = path(rows[i : i + 1], places[i : i + 1])[0]
        same = torch.equal(alone, first[i]) and torch.equal(later[order == i][0], first[i])
        again.add(f"row {int(rows[i])} at {int(places[i])}", None if same else "another value")
    yield again.check()
    length = plan.of(smoke=10_000, quick=1_000_000, full=1_000_000)
    along, whole = torch.arange(LAST - length, LAST + 1), BrownianPath(plan.seed, 1, path.clock)
    w = torch.cat([whole(torch.zeros_like(part), part) for part in along.split(200_000)])[:, 0]
    steps = w.diff()
    yield Check("increments that do not add up", abs(float(steps.sum() - (w[-1] - w[0]))), 1e-12, length)
    yield Check("increments that are zero", float((steps == 0).sum()), 0.0, length)


def forgetful() -> AbstractContextManager:
    """Plant a path that draws new normals whenever it is asked."""
    generator = Generator().manual_seed(0)
    draw = lambda self, rows, places: torch.randn(len(rows), self.columns, dtype=F64, generator=generator)
    return patch.object(BrownianPath, "_normals", draw)


TESTS = {
    "R03": Entry("convergence order", convergence, one_time, smoke=True),
    "R04": Entry("strong order and Brownian source", strong, forgetful, smoke=True),
}
