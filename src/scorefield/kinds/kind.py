"""What a kind of data is: all that the commands and the estimators need to know of it."""

import abc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import pandas as pd

from scorefield.runs.folder import Run
from scorefield.training.config import Config
from scorefield.training.problem import Problem

Request = dict[str, Any]
"""What `fit` was asked for, by the names of its options; what was left out is not there."""


@runtime_checkable
class Source(Protocol):
    """Data that were read: the digest of the whole, and notes on how they were read."""

    @property
    def digest(self) -> str: ...

    @property
    def notes(self) -> list[str]: ...


@runtime_checkable
class Units(Protocol):
    """The map between the user's units and coordinates; dim is their number."""

    @property
    def dim(self) -> int: ...


@runtime_checkable
class Evaluation(Protocol):
    """What `evaluate` finds: lines to print, and the same as one flat object."""

    def lines(self) -> list[str]: ...

    def as_json(self) -> dict[str, object]: ...


@dataclass(frozen=True)
class Drawing:
    """What a user asks of `sample` beside the number of samples; None where it is left to the run."""

    sampler: str | None = None
    steps: int | None = None
    tol: float | None = None
    label: str | None = None
    guidance: float = 1.0


@dataclass(frozen=True)
class Settings:
    """The settings of a new run and why its process has its range, in words."""

    config: Config
    range_reason: str = ""


@dataclass(frozen=True)
class Opened:
    """A RUN that was read, and its estimator."""

    run: Run
    estimator: Any


class Kind(abc.ABC):
    """One kind of data.

    name: of several data sets of it, such as tables; noun: what one data set holds; drawn: what is drawn from it, in
    the plural. key: the entry of config.toml that holds its units. options: the options of `fit` that only it takes.
    """

    name: ClassVar[str]
    noun: ClassVar[str]
    drawn: ClassVar[str]
    key: ClassVar[str]
    options: ClassVar[frozenset[str]]

    # ------------------------------------------------------------------------------------------- to learn

    @abc.abstractmethod
    def owns(self, data: str) -> bool:
        """Return whether DATA, a path or a built-in name, is of this kind."""

    @abc.abstractmethod
    def built_in(self, data: str) -> bool:
        """Return whether DATA is a name of this kind and no path."""

    @abc.abstractmethod
    def check(self, request: Request) -> None:
        """Raise ValueError for what this kind cannot be asked to learn, before anything is read."""

    @abc.abstractmethod
    def read(self, request: Request) -> Source:
        """Return the data that a request names. Raises ValueError for what cannot be read."""

    @abc.abstractmethod
    def learn_units(self, source: Any, request: Request) -> Units:
        """Return the units that the rows to learn from ask for."""

    @abc.abstractmethod
    def problem(self, source: Any, units: Any, request: Request, device: str) -> Problem:
        """Return what is to be learned, in model units."""

    @abc.abstractmethod
    def settings(self, problem: Any, request: Request) -> Settings:
        """Return the settings of a new run, for one step."""

    @abc.abstractmethod
    def words(self, source: Any, units: Any, settings: Settings, request: Request) -> list[str]:
        """Return what `fit` says of a new run: the data, what was chosen, and why."""

    @abc.abstractmethod
    def facts(self, source: Any) -> dict[str, object]:
        """Return what config.toml keeps of the data, its digest among it."""

    @abc.abstractmethod
    def content(self, source: Any, units: Any) -> dict[str, object]:
        """Return the units as plain values for config.toml, under `key`."""

    def test_rows(self, source: Any) -> pd.DataFrame | None:
        """Return rows to keep in the RUN for a test, None where there are none."""
        return None

    # ------------------------------------------------------------------------------------------- to use

    @abc.abstractmethod
    def units_of(self, run: Run) -> Units:
        """Return the units that config.toml holds. Raises ValueError, KeyError or TypeError where it is damaged."""

    @abc.abstractmethod
    def estimator(self, run: Run, units: Any) -> Any:
        """Return the fitted estimator of a run."""

    @abc.abstractmethod
    def check_drawing(self, run: Run, asked: Drawing, out: Path, n: int, force: bool) -> None:
        """Raise ValueError for what cannot be drawn, and where n samples could not be written to a path."""

    @abc.abstractmethod
    def draw(self, opened: Opened, asked: Drawing, out: Path, n: int, seed: int, force: bool) -> str:
        """Draw n samples and write them to a path; return what there is to say of how they were drawn."""

    @abc.abstractmethod
    def log_probs(self, opened: Opened, points: Path, bound: bool) -> Iterator[pd.DataFrame]:
        """Yield tables of the log-probability at points of a file, and of its errors, block by block."""

    @abc.abstractmethod
    def evaluate(self, opened: Opened, against: Path | None, seed: int) -> tuple[Evaluation, list[str]]:
        """Return how a run compares with data that it has not seen, and notes on these."""

    @abc.abstractmethod
    def plot(self, opened: Opened, folder: Path) -> list[str]:
        """Draw a run into a folder; return notes."""

    def threads(self) -> int:
        """Return how many threads are fastest."""
        return 1
