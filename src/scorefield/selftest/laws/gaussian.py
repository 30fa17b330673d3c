"""R09: what comes out of samplers on Gaussian data has exactly the law that theory gives it."""

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from scorefield.diffusion.by_name import PROCESSES
from scorefield.diffusion.denoisers import Denoiser, ExactDenoiser
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.process import Process
from scorefield.diffusion.published import VE, VP, SubVP
from scorefield.diffusion.times import grid
from scorefield.inference import exponential, samplers
from scorefield.inference.samplers import SAMPLERS
from scorefield.numerics.shapes import Grid
from scorefield.numerics.tensors import spawn
from scorefield.selftest.cases import DENSITIES, F64
from scorefield.selftest.laws.oracle import BLOCK, Oracle
from scorefield.selftest.nulls import Deviates, sees
from scorefield.selftest.numbers import second, second_walks
from scorefield.selftest.report import Check, Entry, Failures, Plan, Worst

GAUSSIAN = DENSITIES["gauss-2d"]

STARTS = (None, 3.0, 0.5)
"""The noise ratios from which samplers walk; None is the end of the process, where they start at the prior."""

STEPS = (1, 2, 5, 50)

LAST = 1e-3
"""The noise ratio at which a walk ends, with a jump to the clean part."""

FIXED = [name for name, row in SAMPLERS.items() if not row.adapts]

NOISY = [name for name in FIXED if SAMPLERS[name].stochastic]

ADAPTIVE = [name for name, row in SAMPLERS.items() if row.adapts]

ALLOWED = {"adaptive_flow": 1e-3, "adaptive_sde": 1e-2}
"""The default tolerances of the samplers that choose their steps: what mean and standard deviation may be off by."""


class Units:
    """Stands for normals: of rows 0, e1, e2 and then one for each number drawn, the k-th draw is 1 in the k-th."""

    def __init__(self, draws: int = 0) -> None:
        self.draws, self.k = draws, 0

    @property
    def rows(self) -> np.ndarray:
        """The rows that start."""
        return np.concatenate([np.zeros((1, 2)), np.eye(2), np.zeros((2 * self.draws, 2))])

    def __call__(self) -> np.ndarray:
        """Return the next draw."""
        z = np.zeros((3 + 2 * self.draws, 2))
        if self.k < self.draws:
            z[3 + 2 * self.k : 5 + 2 * self.k] = np.eye(2)
        self.k += 1
        return z


def law_of(end: Callable[[Units], np.ndarray], mean: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return mean and covariance of what an affine map of start and normals makes of a Gaussian start."""
    end(count := Units())
    found = end(Units(count.k))
    slope, gains = found[1:3] - found[0], found[3:] - found[0]
    return found[0] + mean @ slope, slope.T @ covariance @ slope + gains.T @ gains


def path_from(process: Process, start: float | None, steps: int) -> Grid:
    """Return times with equal steps in log s/a, from a noise ratio or the process's end to LAST."""
    if start is None:
        return grid(process, steps, math.inf, LAST)
    return process.time(torch.from_numpy(np.geomspace(start, LAST, steps + 1)))


def start_law(process: Process, t: Tensor) -> GaussianMixture:
    """Return the law of the noised Gaussian at t."""
    return GAUSSIAN.noised(float(process.mean_coef(t)), float(process.std(t)))


class Gaussian(second.Mixture):
    """One Gaussian, asked for many rows at once."""

    def __call__(self, x: np.ndarray, a: float, s: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the clean part and the noise of rows."""
        residual = (x - a * self.mean) @ np.linalg.inv(a**2 * self.covariance + s**2 * np.eye(2))
        return self.mean + a * residual @ self.covariance, s * residual


def by_recursion(name: str, process: Process, path: Grid) -> tuple[np.ndarray, ...]:
    """Return mean and covariance at the end by the sampler's recursion in NumPy."""
    model = Gaussian(np.ones(1), GAUSSIAN.means.numpy(), GAUSSIAN.covariances.numpy())
    kind = next(kind for kind, made in PROCESSES.items() if made is type(process))
    walk = second_walks.Walk(model, kind, vars(process), path.tolist(), process.t_max)
    (_, _, a, s), (_, _, b, r) = walk.levels[0], walk.levels[-1]

    def end(units: Units) -> np.ndarray:
        walk.normals = (units() for _ in itertools.count())
        return model(second_walks.SAMPLERS[name](walk, units.rows), b, r)[0]

    return law_of(end, a * model.mean, a**2 * model.covariance + s**2 * np.eye(2))


def by_package(name: str, process: Process, path: Grid) -> tuple[np.ndarray, ...]:
    """Return mean and covariance at the end by the package's own sampler and model, with units for its normals."""
    model, start = ExactDenoiser(GAUSSIAN, process), start_law(process, path[0])

    def end(units: Units) -> np.ndarray:
        draw = lambda x, generator=None: torch.from_numpy(units())
        with patch.object(samplers, "normal_like", draw), patch.object(exponential, "normal_like", draw):
            return samplers.draw_block(model, torch.from_numpy(units.rows), SAMPLERS[name].make(None), path).numpy()

    return law_of(end, start.mean.numpy(), start.covariance.numpy())


def apart(found: tuple[np.ndarray, ...], truth: tuple[np.ndarray, ...]) -> float:
    """Return by how much two laws differ, in standard deviations."""
    spread = np.sqrt(np.diag(truth[1]))
    mean = np.abs(found[0] - truth[0]) / (spread + np.abs(truth[0]))
    return float(max(mean.max(), (np.abs(found[1] - truth[1]) / np.outer(spread, spread)).max()))


def sums_of(
    name: str, process: Process, start: float | None, path: Grid, n: int, seed: int, law: tuple[np.ndarray, ...]
) -> np.ndarray:
    """Return n, and of n samples, made white by their law, the sums of both columns, their squares and that of u.

    u = (z_1 + z_2) / sqrt 2: with it the squares tell all three numbers of a covariance.
    """
    exact = start_law(process, path[0])
    model = ExactDenoiser(GAUSSIAN, process) if SAMPLERS[name].adapts else Oracle(GAUSSIAN, process)
    generator = spawn(seed, "law", name, repr(process), str(start), len(path))
    sampler = SAMPLERS[name].make(generator)
    mean, white = torch.from_numpy(law[0]), torch.linalg.inv(torch.linalg.cholesky(torch.from_numpy(law[1]))).T
    total = torch.zeros(5, dtype=F64)
    for rows in [min(BLOCK, n - k) for k in range(0, n, BLOCK)]:
        x = (model.prior() if start is None else exact).sample(rows, generator)
        z = (samplers.draw_block(model, x, sampler, path) - mean) @ white
        u = z.sum(1) / math.sqrt(2)
        total += torch.cat([z.sum(0), z.square().sum(0), u.square().sum()[None]])
    return np.array([n, *total.tolist()])


def add_sums(deviates: Deviates, name: str, sums: np.ndarray, allowed: float = 0.0) -> None:
    """Add the tests of five sums, with a bias that mean and standard deviation may have."""
    n = sums[0]
    for column, total in zip(("1", "2"), sums[1:3], strict=True):
        deviates.normal(f"mean {column} of {name}", max(0.0, abs(total) - n * allowed) / math.sqrt(n))
    for column, total in zip(("1", "2", "1 + 2"), sums[3:], strict=True):
        nearest = min(max(n, total / (1 + allowed) ** 2), total / (1 - allowed) ** 2)
        deviates.chi_squared(f"variance {column} of {name}", nearest, int(n))


def case(name: str, process: Process, start: float | None, steps: int) -> str:
    """Say which walk is meant."""
    return f"{name}, {type(process).__name__}, from {start or 'the end'}, {steps} steps"


def exact_laws(plan: Plan) -> Iterator[Check]:
    """Compare the affine maps of start and normals that samplers are on Gaussian data with their recursions."""
    missing = Failures("every sampler has a recursion")
    for name in FIXED:
        missing.add(name, None if name in second_walks.SAMPLERS else "no recursion in NumPy")
    yield missing.check()
    exact = Worst("exact law against NumPy's recursion, in standard deviations", 1e-8)
    steps = [k for k in STEPS if k <= plan.of(5, 50, 50)]
    for name, kind, start, k in itertools.product(FIXED, PROCESSES.values(), STARTS, steps):
        path = path_from(kind(), start, k)
        error = apart(by_package(name, kind(), path), by_recursion(name, kind(), path))
        exact.add(case(name, kind(), start, k), error)
    yield exact.check()


def drawn_laws(plan: Plan) -> Iterator[Check]:
    """Compare draws of the samplers that draw with their recursions, each case and all cases of a sampler together."""
    each, together, pooled = Deviates(), Deviates(), dict[str, np.ndarray]()
    n, steps = plan.of(20_000, 60_000, 1_000_000), [k for k in STEPS if k <= plan.of(5, 50, 50)]
    for name, process, start, k in itertools.product(NOISY, (VP(), SubVP(), VE()), STARTS, steps):
        path = path_from(process, start, k)
        sums = sums_of(name, process, start, path, n, plan.seed, by_recursion(name, process, path))
        add_sums(each, case(name, process, start, k), sums)
        pooled[name] = pooled.get(name, 0) + sums
    yield each.check(f"draws of each case, {sees(n, len(each.found))}", n)
    for name, sums in pooled.items():
        add_sums(together, name, sums)
    yield together.check(f"draws of all cases, {sees(sums[0], len(together.found))}", int(sums[0]))


def adaptive_laws(plan: Plan) -> Iterator[Check]:
    """Compare draws of the samplers that choose their steps with the data, within their tolerance."""
    for name in ADAPTIVE:
        deviates, n, total = Deviates(), plan.of(500, 2_000, 50_000), np.zeros(6)
        for process, start in itertools.product((VP(), SubVP(), VE()), STARTS):
            total += sums_of(name, process, start, path_from(process, start, 1), n, plan.seed, clean_law(process))
        add_sums(deviates, name, total, ALLOWED[name])
        yield deviates.check(f"{sees(total[0], 5)} beyond the tolerance, {ALLOWED[name]:g}", int(total[0]))


def gaussian_laws(plan: Plan) -> Iterator[Check]:
    """Compare every sampler's law for Gaussian data with what it must be."""
    for part in (exact_laws, drawn_laws, adaptive_laws):
        yield from part(plan)


def clean_law(process: Process) -> tuple[np.ndarray, ...]:
    """Return mean and covariance of the clean part where s/a is LAST: those of the data, less what noise hides."""
    t = process.time(torch.tensor(LAST, dtype=F64))
    noised, a = start_law(process, t).covariance, process.mean_coef(t)
    gain = a * GAUSSIAN.covariance @ torch.linalg.inv(noised)
    return GAUSSIAN.mean.numpy(), (a * gain @ GAUSSIAN.covariance).numpy()


def standard_prior() -> AbstractContextManager:
    """Plant a prior N(0, I), whatever the process."""
    standard = lambda model: GaussianMixture.gaussian(
        torch.zeros_like(model.mean), torch.eye(len(model.mean)).to(model.mean)
    )
    return patch.object(Denoiser, "prior", standard)


TESTS = {"R09": Entry("samplers against their exact discrete law", gaussian_laws, standard_prior, smoke=False)}
