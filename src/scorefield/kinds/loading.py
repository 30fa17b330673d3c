"""The estimator of a RUN folder, whatever kind of data it learned."""

from pathlib import Path
from typing import Any

from scorefield.kinds.registry import kind_of_run, units_of
from scorefield.runs import folder as runs
from scorefield.runs.folder import Run


def load(folder: str | Path) -> Any:  # noqa: ANN401, each kind has its own
    """Return the fitted estimator of a RUN folder, made by `save` or by the command line; no pickle is read.

    A ScoreDensity where the run is one of a table, an ImageDensity where it is one of images. Raises ValueError where
    the folder is not a run or is damaged.
    """
    return estimator_of(runs.read(Path(folder)))


def estimator_of(run: Run) -> Any:  # noqa: ANN401, each kind has its own
    """Return the fitted estimator of a run. Raises ValueError where there is none yet or it is damaged."""
    kind = kind_of_run(run)
    return kind.estimator(run, units_of(kind, run))
