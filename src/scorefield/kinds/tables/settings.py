"""The settings of a table's run, chosen from its rows."""

from typing import Any

from scorefield.diffusion.by_name import named, span_for
from scorefield.diffusion.process import Process
from scorefield.diffusion.sde import LinearSDE
from scorefield.kinds.kind import Settings
from scorefield.kinds.tables.problem import TableProblem, largest_distance
from scorefield.numerics.shapes import Rows
from scorefield.training.config import LINEAR, Config
from scorefield.training.problem import members_for


def choose_settings(
    problem: TableProblem,
    *,
    process: str | Process | LinearSDE,
    level: float,
    **choices: Any,  # noqa: ANN401
) -> Settings:
    """Return the settings of a run for one step: those chosen, the range of its process, and how many networks.

    process: a name, which gets its range from the rows, or a process, which has one. choices: of `Config`.
    Raises ValueError for names that do not exist.
    """
    name, span, reason = _range(process, problem.train)
    members = members_for(len(problem.train) + len(problem.validation))
    return Settings(Config(steps=1, process=name, span=span, level=level, members=members, **choices), reason)


def _range(process: str | Process | LinearSDE, rows: Rows) -> tuple[str, tuple[float, ...], str]:
    """Return the name of a process, its range and the reason for it in words."""
    if isinstance(process, LinearSDE):
        return LINEAR, (), ""
    if isinstance(process, Process):
        return *named(process), ""
    return process, *span_for(process, largest_distance(rows))


def automatic_steps(n: int, members: int) -> int:
    """Return how many steps to train on n rows: 100 sqrt(n), from 500 to 8,000, or 4,000 each for several members."""
    return int(min(8000 if members == 1 else 4000, max(500, 100 * n**0.5)))
