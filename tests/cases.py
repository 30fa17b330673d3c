"""The table of cases of `scorefield.selftest`, as parameters of pytest. Every law of the tests is parametrised over it."""

import pytest

from scorefield.diffusion.prediction import PREDICTIONS
from scorefield.selftest.cases import (
    DENSITIES,
    F64,
    FALSE_ALARM,
    PROCESS_CASES,
    Wavy,
    Zero,
    f64,
    lattice,
    learned,
    middle_time,
    points,
    table_learner,
    z_limit,
)

__all__ = [
    "DENSITIES",
    "F64",
    "FALSE_ALARM",
    "PROCESS_CASES",
    "Wavy",
    "Zero",
    "densities",
    "each_density",
    "each_prediction",
    "each_process",
    "each_process_case",
    "f64",
    "lattice",
    "learned",
    "middle_time",
    "points",
    "table_learner",
    "z_limit",
]

each_process_case = pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in PROCESS_CASES])
each_process = pytest.mark.parametrize("process", [pytest.param(c.process, id=c.name) for c in PROCESS_CASES])
each_prediction = pytest.mark.parametrize("predicts", list(PREDICTIONS))


def densities(*dims: int):
    """Parametrise over the densities of these dimensions, or over all of them."""
    rows = [pytest.param(p, id=name) for name, p in DENSITIES.items() if not dims or p.dim in dims]
    return pytest.mark.parametrize("density", rows)


each_density = densities()
