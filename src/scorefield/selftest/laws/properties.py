"""R26: properties that hold for whatever Hypothesis thinks of, not only for the cases that somebody wrote down."""

import dataclasses
import importlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch

from scorefield.selftest.laws import mathematics, storage
from scorefield.selftest.laws.draws import Draw
from scorefield.selftest.report import Check, Entry, Failures, Plan
from scorefield.training import trainer as training


@dataclass(frozen=True)
class Property:
    """What returns an error, how large it may be, and how many cases the quick form tries."""

    check: Callable[[Draw], float]
    allowed: float
    quick: int = 500


PROPERTIES = [
    Property(mathematics.predictions_come_back, 1e-8),
    Property(mathematics.score_is_noise, 1e-9),
    Property(mathematics.schedules_increase, 1e-9),
    Property(mathematics.kernels_compose, 1e-8),
    Property(mathematics.noise_adds_up, 1e-9),
    Property(mathematics.rows_are_alone, 1e-9),
    Property(mathematics.samples_move_with_the_data, 1e-7),
    Property(mathematics.samples_are_a_seeds, 0.0),
    Property(mathematics.grids_end_exactly, 0.0),
    Property(mathematics.noise_has_no_type, 0.0),
    Property(mathematics.paths_can_be_asked_again, 0.0),
    Property(mathematics.the_average_is_one, 1e-12),
    Property(mathematics.training_resumes, 0.0),
    Property(mathematics.independent_blocks_add_up, 1e-4, 50),
    Property(mathematics.probes_belong_to_rows, 0.0, 20),
    Property(storage.settings_come_back, 0.0),
    Property(storage.checkpoints_come_back, 0.0),
    Property(storage.tables_come_back, 0.0),
    Property(storage.units_come_back, 1e-9),
    Property(storage.slopes_are_the_maps, 1e-5),
    Property(storage.pixels_come_back, 1e-9),
]


class Counterexample(ValueError):
    """A case for which a property does not hold."""


def trouble(row: Property, count: int, plan: Plan) -> str | None:
    """Try a property on so many cases, the same for seed 0; return the simplest that fails, in smoke the first."""
    hypothesis = importlib.import_module("hypothesis")
    strategies = importlib.import_module("hypothesis.strategies")

    def test(data: Any) -> None:  # noqa: ANN401, the type is of a library that need not be there
        error = row.check(Draw(data.draw, strategies))
        if not error <= row.allowed:
            raise Counterexample(f"{error:.3g} > {row.allowed:g}")

    fixed = hypothesis.settings(
        max_examples=count,
        derandomize=plan.seed == 0,
        database=None,
        deadline=None,
        verbosity=hypothesis.Verbosity.quiet,
        suppress_health_check=list(hypothesis.HealthCheck),
        report_multiple_bugs=False,
        phases=[phase for phase in hypothesis.Phase if phase.name != "shrink" or plan.size != "smoke"],
    )
    attempt = fixed(hypothesis.given(strategies.data())(test))
    try:
        (attempt if plan.seed == 0 else hypothesis.seed(plan.seed)(attempt))()
    except Exception as error:  # whatever is raised is what is looked for
        return f"{type(error).__name__}: {error}"
    return None


def tried(check: Callable[[Draw], float], plan: Plan) -> Check:
    """Try one property on as many cases as the plan wants."""
    row = next(row for row in PROPERTIES if row.check is check)
    count, found = plan.of(10, row.quick, 500), Failures(check.__name__.replace("_", " "))
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, HYPOTHESIS_STORAGE_DIRECTORY=folder):
        found.add("simplest case", trouble(row, count, plan))
    return dataclasses.replace(found.check(), n=count)


def run(plan: Plan) -> Iterator[Check]:
    """Try every property."""
    return (tried(row.check, plan) for row in PROPERTIES)


def inverted_average() -> AbstractContextManager:
    """Plant a decay that keeps what it should forget."""
    lerp = torch._foreach_lerp_
    return patch.object(training.torch, "_foreach_lerp_", lambda mine, other, weight: lerp(mine, other, 1 - weight))


TESTS = {"R26": Entry("properties tried by Hypothesis", run, inverted_average, smoke=True, needs="hypothesis")}
