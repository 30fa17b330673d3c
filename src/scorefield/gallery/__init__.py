"""Two tutorials on score matching made again: as published, and corrected, with every published number beside ours.

An entry is a module with `run(out, *, seeds=10, quick=False)`. It writes its figures and animations below
out / "as-published" and out / "corrected" and returns its results, one row a number (see `report.row`). With quick it
takes fewer steps and seeds, for tests.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from scorefield.gallery import score_sde
from scorefield.gallery.report import Results


@runtime_checkable
class Run(Protocol):
    """What an entry does: figures and animations into a folder, results back."""

    def __call__(self, out: Path, *, seeds: int = 10, quick: bool = False) -> Results:
        """Write figures below `out`; return the results."""


@dataclass(frozen=True)
class Entry:
    """A tutorial of the gallery: its title and what makes it."""

    title: str
    run: Run


ENTRIES: dict[str, Entry] = {
    "000-score-sde": Entry("Score-based modelling through stochastic differential equations", score_sde.run),
}
"""The entries by their name on the command line."""
