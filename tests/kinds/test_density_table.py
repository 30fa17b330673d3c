"""The table of `density`: masses of densities that are known, also of columns on a lattice."""

import numpy as np
import pandas as pd
import pytest

from scorefield import ScoreDensity
from scorefield.kinds.tables import density_grid
from scorefield.kinds.tables.density_grid import mass


def table_of(frame: pd.DataFrame) -> density_grid.DensityTable:
    """The density of a table by a fit that is its base alone."""
    estimator = ScoreDensity(max_iter=1, random_state=0).fit(frame)
    return density_grid.recover(estimator, frame, None, None)


@pytest.mark.slow
@pytest.mark.parametrize("step", [0.5, 2])
def test_a_column_on_a_lattice_has_a_density_that_sums_to_one(step):
    """Poisson counts of mean 12, halved or doubled (and whole): density times the cell is the probability of a value."""
    draw = np.random.Generator(np.random.PCG64(0))
    found = table_of(pd.DataFrame({"x": step * draw.poisson(12.0, 1500)}))
    x, density = found.axes[0].x, np.exp(found.logs["flow"])
    assert x[1] - x[0] == step
    assert float(mass(density, found.axes)) == pytest.approx(1.0, abs=0.02)
    factorials = np.array([float(np.prod(np.arange(1.0, k + 1))) for k in np.round(x / step)])
    truth = np.exp(-12.0) * 12.0 ** (x / step) / factorials
    assert np.abs(step * density - truth)[x >= 0].sum() / 2 < 0.06


@pytest.mark.slow
def test_in_other_units_the_density_changes_by_their_size():
    """The same normal rows in thousandths: the mass stays 1 and the density is 1,000 times larger."""
    draw = np.random.Generator(np.random.PCG64(0))
    rows = draw.normal(2.0, 0.5, 1000)
    found = [table_of(pd.DataFrame({"x": scale * rows})) for scale in (1.0, 1e-3)]
    for part in found:
        assert float(mass(np.exp(part.logs["flow"]), part.axes)) == pytest.approx(1.0, abs=1e-3)
    first, second = (part.logs["flow"] for part in found)
    assert np.abs(second - first - np.log(1e3)).max() < 1e-3
