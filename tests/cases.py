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
    "PROCESSES",
    "PROCESS_CASES",
    "Wavy",
    "Zero",
    "covering",
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


def covering(rounds: int = 1, **given):
    """Parametrise so that every row of every table (a dictionary, or a list) occurs, but not every combination.

    Case i of a round takes row i of each table, which begins again at its end; the k-th table moves by k rows a round.
    """
    tables = {key: rows if isinstance(rows, dict) else {str(row): row for row in rows} for key, rows in given.items()}
    cases = {}
    for r in range(rounds):
        for i in range(max(map(len, tables.values()))):
            names = [list(table)[(i + k * r) % len(table)] for k, table in enumerate(tables.values())]
            cases["-".join(names)] = [table[name] for table, name in zip(tables.values(), names, strict=True)]
    return pytest.mark.parametrize(tuple(tables), [pytest.param(*values, id=name) for name, values in cases.items()])


PROCESSES = {case.name: case.process for case in PROCESS_CASES}
