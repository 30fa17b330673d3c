"""What each sampler costs and how far it is off on one model, and which to take for a wanted error."""

import copy
import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from scorefield.diffusion.denoisers import Denoiser
from scorefield.evaluation import metrics
from scorefield.inference import probability_flow, step_grid
from scorefield.inference.samplers import SAMPLERS, SamplerRow, grid_for
from scorefield.numerics.shapes import Samples, Times
from scorefield.numerics.tensors import spawn

BUDGETS = (6, 8, 12, 16, 24, 35, 50, 70, 100)
"""Evaluations a sample at which every sampler is measured."""

LARGER = (140, 200, 280, 400, 560, 800)
"""Evaluations that are tried beyond them where none is good enough."""

LATENTS = 256
"""Latents whose converged flow a deterministic sampler is compared with."""

ROWS = 1024
"""Samples of which the energy distance is taken."""

CONVERGED = 1e-7
"""The tolerance of the flow that counts as the truth."""


@dataclass(frozen=True)
class Point:
    """One sampler with one number of steps on one model.

    evaluations: network calls a sample, first and last included. error: root mean square distance of each sample to the
    end of the converged flow of its latent, in standard deviations of the data, and stderr its standard error; None of
    a stochastic sampler. change: how much larger its energy distance to fresh samples of the converged flow is than
    that of the flow of the same latents, in model units, and its standard error; None if not measured.
    """

    sampler: str
    steps: int
    evaluations: float
    error: float | None
    stderr: float | None
    change: float | None = None
    change_stderr: float | None = None

    def reaches(self, tol: float) -> bool:
        """Whether the error is at most tol even if it was underestimated by half of it and two standard errors.

        Few latents, near the borders between modes, make most of it, so 256 can miss them.
        """
        return self.error is not None and self.stderr is not None and 1.5 * self.error + 2 * self.stderr <= tol

    def describe(self) -> str:
        """Return the point in words."""
        error = "" if self.error is None else f": error {self.error:.2g} +- {self.stderr:.1g}"
        return f"{self.sampler}, {self.steps} steps, {self.evaluations:g} evaluations{error}"


class Counted(Denoiser):
    """A model that counts for how many rows it was asked."""

    def __init__(self, model: Denoiser) -> None:
        super().__init__(model.process, model.mean, model.covariance)
        self.model, self.rows = model, 0

    def decompose(self, x: Samples, t: Times) -> tuple[Samples, Samples]:
        self.rows += len(x)
        return self.model.decompose(x, t)

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.coefficients(t)

    def predict(self, x: Samples, t: Times) -> Samples:
        return self.model.predict(x, t)


class Bench:
    """Latents of a model and where the converged flow takes them: what samplers are measured against.

    rows: how many latents, of which the first LATENTS serve for errors and all for energy distances.
    """

    def __init__(self, model: Denoiser, seed: int = 0, rows: int = LATENTS) -> None:
        self.model, self.seed = model, seed
        self.latents = model.prior().sample(rows, spawn(seed, "latents"))
        self.truth = self._decode(self.latents)

    @cached_property
    def fresh(self) -> Tensor:
        """As many samples of the converged flow from other latents."""
        return self._decode(self.model.prior().sample(len(self.latents), spawn(self.seed, "others")))

    @cached_property
    def wanted(self) -> Tensor:
        """Where the model asks for short steps."""
        return step_grid.density(self.model)

    def _decode(self, latents: Tensor) -> Tensor:
        return probability_flow.decode(copy.deepcopy(self.model).double(), latents.double(), tol=CONVERGED).to(latents)

    @torch.no_grad()
    def measure(self, sampler: str, steps: int, distance: bool = False) -> Point:
        """Return what a sampler with so many steps costs, and its error.

        Args:
            sampler: One of SAMPLERS.
            steps: Of its walk.
            distance: Also measure the change of the energy distance.

        Raises:
            ValueError: the sampler is unknown.
        """
        times = grid_for(sampler, self.model, steps, self.wanted)
        row, counted = SAMPLERS[sampler], Counted(self.model)
        rows = len(self.latents) if distance else LATENTS
        *_, last = row.make(spawn(self.seed, "noise", sampler))(counted, self.latents[:rows], times)
        x, truth = counted.decompose(last, times[-1])[0], self.truth[:rows]
        point = Point(sampler, steps, counted.rows / len(x), None, None)
        if not row.stochastic:
            squares = (x - truth)[:LATENTS].double().flatten(1).square().sum(1)
            error = math.sqrt(float(squares.mean()))
            stderr = float(squares.std()) / math.sqrt(len(squares)) / (2 * error) if error else 0.0
            point = dataclasses.replace(point, error=error / self.model.spread, stderr=stderr / self.model.spread)
        if distance:
            found = metrics.energy_change(x, truth, self.fresh)
            point = dataclasses.replace(point, change=found.value, change_stderr=found.stderr)
        return point


def steps_for(row: SamplerRow, evaluations: int) -> int:
    """Return the most steps of a sampler within so many evaluations, the last jump included; 0 for one that adapts."""
    return 0 if row.evaluations is None else (evaluations - 1 - row.first) // row.evaluations


def plan() -> list[tuple[str, int]]:
    """Return every sampler with its steps at each of BUDGETS, and those that choose their own steps once."""
    counts = lambda row: [1] if row.adapts else [steps_for(row, budget) for budget in BUDGETS]
    return [(name, steps) for name, row in SAMPLERS.items() for steps in counts(row) if steps > 0]


def frontier(model: Denoiser, seed: int = 0) -> Iterator[Point]:
    """Yield the points of `plan`, with their energy distances."""
    bench = Bench(model, seed, ROWS)
    yield from (bench.measure(name, steps, distance=True) for name, steps in plan())


def best(points: Sequence[Point], tol: float) -> Point | None:
    """Return the cheapest point of fixed steps that reaches tol, of equally cheap ones the best; None if none does."""
    good = [point for point in points if point.reaches(tol) and not SAMPLERS[point.sampler].adapts]
    return min(good, key=lambda point: (point.evaluations, point.error), default=None)


def choose(model: Denoiser, tol: float, seed: int = 0, points: Sequence[Point] = ()) -> Point:
    """Return the cheapest deterministic sampler whose error on a model is small enough.

    Args:
        model: What is sampled.
        tol: The largest error, in standard deviations of the data; see `Point`.
        seed: Of the latents that are measured.
        points: What was measured already; else, and beyond it, more and more evaluations are tried.

    Raises:
        ValueError: tol is not positive.
        RuntimeError: none within reach is that accurate.
    """
    if not tol > 0:
        raise ValueError(f"expected a positive error to reach, in standard deviations of the data; got {tol}")
    if found := best(points, tol):
        return found
    bench, tried = Bench(model, seed), list(points)
    for budget in LARGER if points else (*BUDGETS, *LARGER):
        for name, row in SAMPLERS.items():
            if not row.stochastic and (steps := steps_for(row, budget)) > 0:
                tried.append(bench.measure(name, steps))
        if found := best(tried, tol):
            return found
    smallest = min((point for point in tried if point.error is not None), key=lambda point: point.error or 0.0)
    raise RuntimeError(
        f"no sampler reached an error of {tol:g} standard deviations within {LARGER[-1]} evaluations; "
        f"{smallest.sampler} came to {smallest.error:.2g} +- {smallest.stderr:.1g}: ask for that, or take adaptive_flow"
    )
