"""What may become the base of a table, and what finding and fitting it may cost: functions of n and d alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from scorefield.diffusion.densities import GaussianMixture
from scorefield.training import em
from scorefield.training.em import Prepared

FOLDS = 5
"""Parts of the cross-validation."""

CHOICE_ROWS, CHOICE_NUMBERS = 5_000, 12_000_000
"""A base is chosen on at most so many rows, and on at most so many products of two columns."""

FIT_ROWS = 50_000
"""It is fitted to at most so many."""

MANY_NUMBERS = 20_000
"""Above this many numbers, rows times columns, one part for validation has to do, for the time it takes."""

STACK_ROWS = 2_000
"""Up to this many rows candidates are stacked and kernel densities are tried; above, the best one is taken."""

SCREENED, SCREEN_ROWS = 12, 500
"""Above SCREEN_ROWS rows only the SCREENED candidates that are best on the first part are tried on the others."""

COMPONENTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Numbers of components of the mixtures that are tried, until two in a row are worse than the best."""

REGULARISATION = (1e-4, 1e-2, 1e-1)
"""Variances added to the covariances of a mixture; the unit is that of white data."""

WIDTHS = np.geomspace(1.2, 0.03, 16)
"""Widths of the kernels that are tried, likewise."""

COMPARED = (1, 2, 4, 8)
"""Numbers of components of the mixtures by which two transforms are compared."""

LEAST_STEPS, MOST_STEPS = 5, 100
"""Steps of EM: as many as the work allows, but so many at least and at most."""

CHOICE_WORK, FIT_WORK, COMPARED_WORK = 1.5e10, 1.5e10, 1e10
"""Multiplications that a choice may take, all fits of the base, a comparison: 1e10 are about a second of one core."""

STACK_FITS, STACK_WORK = 6, 2.5e10
"""A stack, which members fit so often, leaves out its smallest weights until that takes at most so many."""

GAUSSIAN = "one Gaussian"


class Candidate(NamedTuple):
    """One way to fit a density to white rows: N(0, I) as it is, k Gaussians with a kind of covariance, or kernels.

    added: the variance that is added to each covariance; of kernels their width.
    """

    kind: str
    k: int
    added: float

    @property
    def name(self) -> str:
        """What it is, in words."""
        if self.kind == "kernels":
            return f"kernels of width {self.added:.2g}"
        return GAUSSIAN if self.kind == "white" else f"{self.k} Gaussians, {self.kind} covariance + {self.added:g}"

    def fit(self, rows: Prepared, steps: int = MOST_STEPS) -> GaussianMixture:
        """Return this density fitted to rows in at most so many steps of EM."""
        if self.kind == "white":
            d = rows.rows.shape[1]
            return GaussianMixture.gaussian(torch.zeros(d).double(), torch.eye(d).double())
        if self.kind == "kernels":
            return GaussianMixture.kde(torch.from_numpy(rows.rows), self.added)
        return _density(em.fit(rows, self.kind, self.k, self.added, steps))

    def step_work(self, n: int, d: int) -> int:
        """Return the multiplications of one of its steps on rows (n, d)."""
        return 0 if self.kind in ("white", "kernels") else em.step_work(self.kind, self.k, n, d)


def _density(mixture: em.Mixture) -> GaussianMixture:
    covariances = mixture.covariances
    if mixture.kind == "diag":
        covariances = covariances[:, :, None] * np.eye(mixture.means.shape[1])
    covariances = (covariances + covariances.swapaxes(1, 2)) / 2
    return GaussianMixture(*map(torch.from_numpy, (mixture.weights, mixture.means, covariances)))


WHITE = Candidate("white", 1, 0.0)


@dataclass(frozen=True)
class Plan:
    """What a choice may cost: rows looked at, parts held out, families of candidates, and steps of EM for each.

    work: the multiplications of k-means and EM, if every candidate is tried and takes all of its steps.
    """

    rows: int
    parts: int
    families: tuple[tuple[Candidate, ...], ...]
    steps: int
    work: int


def plan(n: int, d: int) -> Plan:
    """Return what is tried for white rows (n, d): a function of their numbers alone, whatever the time it takes.

    Where the work does not allow LEAST_STEPS for all mixtures, every second number of components and every second
    regularisation are left out; the best mixture is tried with all of these, unless it is the largest.
    """
    rows = min(n, CHOICE_ROWS, CHOICE_NUMBERS // em.features("full", d))
    parts = 1 if n > STACK_ROWS or rows * d > MANY_NUMBERS else min(FOLDS, rows)
    train = rows - math.ceil(rows / FOLDS)
    for every in (1, 2):
        families = _mixtures(d, train, COMPONENTS[every - 1 :: every], REGULARISATION[every - 1 :: every])
        tried = [candidate for family in families for candidate in family]
        costs = [candidate.step_work(train, d) for candidate in tried]
        second = [cost for cost, candidate in zip(costs, tried, strict=True) if candidate.k < COMPONENTS[-1]]
        costs = sorted(costs + 2 * sorted(second)[-1:])  # of the best mixture, with the other regularisations
        again = costs[-SCREENED:] if rows > SCREEN_ROWS else costs
        step = sum(costs) + (parts - 1) * sum(again)
        start = parts * _cluster_work(tried, train, d)
        steps = steps_within(CHOICE_WORK - start, step)
        if start + steps * step <= CHOICE_WORK:
            break
    if n - math.ceil(n / FOLDS) <= STACK_ROWS:
        families = (*families, tuple(Candidate("kernels", 0, float(width)) for width in WIDTHS))
    return Plan(rows, parts, families, steps, start + steps * step)


def fit_plan(parts: Sequence[Candidate], n: int, d: int, fits: int) -> tuple[int, int]:
    """Return on how many of n rows of d columns, and in how many steps of EM, densities are fitted so many times."""
    rows = min(n, FIT_ROWS)
    while rows > CHOICE_ROWS and fit_work(parts, rows, d, LEAST_STEPS) > FIT_WORK / fits:
        rows = max(CHOICE_ROWS, 9 * rows // 10)
    left = FIT_WORK / fits - fit_work(parts, rows, d, 0)
    return rows, steps_within(left, sum(part.step_work(rows, d) for part in parts))


def affordable(parts: Sequence[Candidate], n: int, d: int) -> bool:
    """Return whether a stack of densities can be fitted to n rows of d columns for each member, and for all rows."""
    return len(parts) == 1 or STACK_FITS * fit_work(parts, n, d, LEAST_STEPS) <= STACK_WORK


def fit_work(parts: Sequence[Candidate], n: int, d: int, steps: int) -> int:
    """Return the multiplications of a fit of densities to n rows of d columns in so many steps of EM."""
    return _cluster_work(parts, n, d) + steps * sum(part.step_work(n, d) for part in parts)


def _cluster_work(parts: Sequence[Candidate], n: int, d: int) -> int:
    return sum(em.cluster_work(k, n, d) for k in {part.k for part in parts if part.kind in em.KINDS})


def comparison(n: int, d: int, parts: int) -> tuple[list[Candidate], int]:
    """Return the mixtures by which transforms of n rows of d columns are compared, and in how many steps of EM.

    A component has d (d + 3) / 2 numbers: all together have at most half the data's.
    """
    tried = [Candidate("full", k, REGULARISATION[0]) for k in COMPARED if k == 1 or k * (d + 3) <= n]
    return tried, steps_within(COMPARED_WORK, parts * sum(candidate.step_work(n, d) for candidate in tried))


def steps_within(work: float, step: int) -> int:
    """Return how many steps of EM a work allows, LEAST_STEPS to MOST_STEPS, if one costs so many multiplications."""
    return int(min(MOST_STEPS, max(LEAST_STEPS, work / max(step, 1))))


def _mixtures(
    d: int, n: int, components: tuple[int, ...], regularisation: tuple[float, ...]
) -> tuple[tuple[Candidate, ...], ...]:
    """Return families of mixtures for n rows of d columns, each from the simplest on."""
    size = {"full": d * (d + 1) / 2 + d, "tied": d, "diag": 2 * d}
    return tuple(
        tuple(
            Candidate(kind, k, added)
            for k in components
            if k * 5 <= n and k * parameters <= n * d / 2 and not (k == 1 and kind == "diag")
        )
        for kind, parameters in size.items()
        for added in regularisation
    )
