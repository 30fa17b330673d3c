"""What is to be learned, prepared once for one choice of settings: a model to train, and each member's rows."""

import abc
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from scorefield.diffusion.denoisers import ScoreModel
from scorefield.diffusion.densities import GaussianMixture
from scorefield.numerics.shapes import Rows
from scorefield.training.candidates import CHOICE_ROWS
from scorefield.training.config import Config

FEW_ROWS, SOME_ROWS = 2_000, 15_000
"""Below so many rows a run cross-validates: each of several networks learns without its own part of the rows."""

FEW_MEMBERS, SOME_MEMBERS = 5, 3
"""Networks that cross-validate each other."""


@dataclass(frozen=True)
class Part:
    """What one member learns from and is judged by.

    data: the rows to learn from, as they lie in memory; held_out: the rows that judge, in model units. base: the
    density in closed form that has not seen these, None for one Gaussian. truth: the density whose score is learned,
    where an objective needs one. labels: the classes of the rows to learn from and of those that judge.
    """

    data: Tensor
    held_out: Tensor
    base: GaussianMixture | None = None
    truth: GaussianMixture | None = None
    labels: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class Prepared:
    """A model that has learned nothing yet, a part for each of its members, and the base that it corrects, in words.

    units: rows as they lie in memory to model units. score_ratio: the noise ratio at which the score is read, None
    where held-out rows decide.
    """

    model: ScoreModel
    parts: tuple[Part, ...]
    base_name: str
    base_reason: str
    units: Callable[[Tensor], Tensor] = lambda rows: rows
    score_ratio: float | None = None


class Problem(abc.ABC):
    """What is to be learned: rows, where they are, and what is known of them. Each kind of data has its own."""

    @abc.abstractmethod
    def prepare(self, config: Config) -> Prepared:
        """Return the model of these settings and what its members learn from; the costly choices are made here."""


def members_for(rows: int) -> int:
    """Return how many networks to average for so many rows: five from 10 up to 2,000, three up to 15,000, else one."""
    if rows < FEW_ROWS:
        return FEW_MEMBERS if rows >= 10 else 1
    return SOME_MEMBERS if rows < SOME_ROWS else 1


def truth_for(config: Config, truth: GaussianMixture | None, rows: Rows) -> GaussianMixture | None:
    """Return the density whose score an objective learns: a given one, or with 'parzen' a kernel density of rows."""
    if config.objective != "parzen":
        return truth
    rows = rows[:CHOICE_ROWS]
    n, d = rows.shape
    return GaussianMixture.kde(rows, (4 / ((d + 2) * n)) ** (1 / (d + 4)))  # Silverman, 1986
