"""Tables to coordinates and back: types, bounds, bent columns, gradients and densities."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from cases import z_limit
from tables_to_transform import curved, table
from torch import Generator

from scorefield.kinds.tables.units import TableTransform


def test_the_round_trip_gives_the_table_back_with_its_types():
    frame = table()
    transform = TableTransform.fit(frame)
    back = transform.inverse(transform.forward(frame))
    assert list(back.columns) == list(frame.columns)
    assert (back.dtypes == frame.dtypes).all()
    pd.testing.assert_frame_equal(back, frame, rtol=1e-14, check_exact=False)
    for name in ("fixed", "count", "flag", "level", "always"):
        assert (back[name] == frame[name]).all()


def test_dequantised_values_come_back_exactly():
    frame = table()
    transform = TableTransform.fit(frame)
    back = transform.inverse(transform.forward(frame, Generator().manual_seed(0)))
    for name in ("count", "flag", "level"):
        assert (back[name] == frame[name]).all()


def test_dequantising_spreads_evenly_over_the_cell():
    """z-tests of mean 0 and variance 1/12 of what is added to columns on a lattice, nothing to others. False alarm 1e-6."""
    frame = table(20_000).drop(columns="count")
    transform = TableTransform.fit(frame)
    z, plain = transform.forward(frame, Generator().manual_seed(0)), transform.forward(frame)
    spread = torch.tensor([transform.columns[i].spread for i in transform.varying])
    added = (z - plain) @ torch.linalg.inv(transform.white) * spread
    columns = [transform.columns[i] for i in transform.varying]
    assert [column.name for column in columns if column.step] == ["flag", "level"]
    for values, column in zip(added.T, columns, strict=True):
        if column.is_bent:
            continue
        if not column.step:
            assert values.abs().max() < 1e-12
            continue
        assert float(values.min()) >= -0.5 - 1e-9
        assert float(values.max()) <= 0.5 + 1e-9
        n = len(values)
        assert abs(float(values.mean())) < z_limit(6) * math.sqrt(1 / 12 / n)
        assert abs(float((12 * values**2).mean()) - 1) < z_limit(6) * math.sqrt(0.8 / n)


def test_coordinates_are_white():
    """Mean 0 and covariance W C W = I with C = (1 - r) S + r I: S of the columns and the cells of integers, r one number.

    Standardised columns have variance 1 with their cells, so C has a diagonal of 1 and off it a fixed share of S.
    """
    frame = table()
    transform = TableTransform.fit(frame)
    z = transform.forward(frame)
    assert z.mean(0).abs().max() < 1e-7
    inverse = torch.linalg.inv(transform.white)
    standard = z @ inverse
    plain, shrunk = standard.mT @ standard / len(z), inverse @ inverse
    off = ~torch.eye(len(plain), dtype=torch.bool)
    kept = (shrunk / plain)[off].mean()
    assert 0.1 < kept < 0.99
    assert (shrunk - kept * plain)[off].abs().max() < 1e-7
    assert (shrunk.diagonal() - 1).abs().max() < 1e-7


def test_every_kind_of_column_is_recognised():
    frame, bounds = curved()
    columns = {column.name: column for column in TableTransform.fit(frame, bounds).columns}
    assert [name for name, column in columns.items() if column.is_bent] == ["share", "heavy", "price"]
    assert {name: column.step for name, column in columns.items() if column.step} == {"rating": 0.5, "count": 1.0}
    assert [name for name, column in columns.items() if column.is_bounded] == list(bounds)
    assert columns["count"].lower == -0.5
    assert columns["heavy"].tail < 0.6


def test_curved_columns_come_back():
    frame, bounds = curved()
    transform = TableTransform.fit(frame, bounds)
    back = transform.inverse(transform.forward(frame))
    pd.testing.assert_frame_equal(back, frame, rtol=1e-11, check_exact=False)
    assert (back["rating"] == frame["rating"]).all()
    spread = transform.inverse(transform.forward(frame, Generator().manual_seed(1)))
    assert (spread["rating"] == frame["rating"]).all()
    assert (spread["count"] == frame["count"]).all()


@pytest.mark.parametrize("far", [1.0, 30.0, 1e4, 1e300])
def test_samples_never_leave_their_bounds(far):
    frame, bounds = curved()
    frame["share"] = frame["share"].astype(np.float32)
    transform = TableTransform.fit(frame, bounds)
    z = far * torch.randn(500, len(frame.columns), dtype=torch.float64, generator=Generator().manual_seed(0))
    with np.errstate(over="ignore"):
        back = transform.inverse(z @ transform.white)
    for name, (low, high) in bounds.items():
        inside = (
            (back[name] >= low) & (back[name] <= high) if name == "count" else (low < back[name]) & (back[name] < high)
        )
        assert inside.all()
    assert back["count"].dtype.kind == "i"


def test_values_outside_their_bounds_are_named():
    frame, bounds = curved()
    with pytest.raises(
        ValueError, match=r"column plain: expected values above 4 and below 5; got .*, one of \d+ outside"
    ):
        TableTransform.fit(frame, bounds | {"plain": (4, 5)})
    with pytest.raises(ValueError, match=r"bounds were given for pain; expected some of the columns plain, positive"):
        TableTransform.fit(frame, {"pain": (4, 5)})
    with pytest.raises(ValueError, match=r"bounds of plain must be a lower and a larger upper one; got 5 and 4"):
        TableTransform.fit(frame, {"plain": (5, 4)})
    transform = TableTransform.fit(frame, bounds)
    with pytest.raises(ValueError, match=r"column share: .* inside the bounds of the run, 0 to 1; got 1, where the"):
        transform.forward(frame.assign(share=frame["share"].where(frame.index != 7, 1.0)))


def test_the_gradient_is_pulled_back():
    """For log p(z) = -|z|^2 / 2 it is the central difference of -|z(x)|^2 / 2 + log |dz/dx| in each column, to 1e-5."""
    frame, bounds = curved(200)
    transform = TableTransform.fit(frame, bounds)
    frame = frame.astype(float)
    height = lambda rows: transform.log_jacobian(rows) - transform.forward(rows).square().sum(1) / 2
    found = transform.pull_back(frame, -transform.forward(frame))
    for column in range(len(frame.columns)):
        x = frame.iloc[:, column].to_numpy()
        step = np.full(len(x), 1e-4 * transform.columns[column].spread)
        for bound in bounds.get(frame.columns[column], ()):
            step = np.minimum(step, 1e-4 * np.maximum(np.abs(x - bound), transform.columns[column].step))
        up, down = frame.copy(), frame.copy()
        up.iloc[:, column] += step
        down.iloc[:, column] -= step
        slope = (height(up) - height(down)) / torch.from_numpy(2 * step)
        scale = 1 + found[:, column].abs()
        assert ((found[:, column] - slope) / scale).abs().max() < 1e-5, frame.columns[column]


def test_the_density_of_a_curved_column_integrates_to_one():
    """exp(log N(z; 0, 1) + log |dz/dx|) over a fine grid of u, whose spacing in x is known: 1 to 1e-6 for each column."""
    frame, bounds = curved()
    for name in ("plain", "positive", "below", "share", "heavy", "price"):
        transform = TableTransform.fit(frame[[name]], {k: v for k, v in bounds.items() if k == name})
        z = torch.linspace(-8, 8, 20_001, dtype=torch.float64)[:, None]
        x = transform.inverse(z)
        log_p = -(transform.forward(x)[:, 0] ** 2) / 2 - math.log(2 * math.pi) / 2 + transform.log_jacobian(x)
        total = torch.trapezoid(log_p.exp(), torch.from_numpy(x[name].to_numpy(copy=True)))
        assert float(total) == pytest.approx(1, abs=1e-5), name
