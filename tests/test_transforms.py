"""Laws of the table transform: it inverts, its Jacobian is right, types and constants come back."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from cases import z_limit
from torch import Generator

from scorefield.transforms import TableTransform


def table(n: int = 500) -> pd.DataFrame:
    draw = np.random.Generator(np.random.PCG64(0))
    return pd.DataFrame(
        {
            "length": draw.normal(1e4, 3e-3, n),
            "fixed": np.full(n, 7.25),
            "count": draw.poisson(4, n),
            "small": draw.exponential(1e-6, n).astype(np.float32),
            "flag": draw.random(n) < 0.3,
            "level": draw.integers(0, 200, n).astype(np.uint8),
            "always": np.full(n, 3, dtype=np.int16),
        }
    )


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
    """z-tests of mean 0 and variance 1/12 of what is added to integer columns, nothing to others. False alarm 1e-6."""
    frame = table(20_000)
    transform = TableTransform.fit(frame)
    z, plain = transform.forward(frame, Generator().manual_seed(0)), transform.forward(frame)
    added = (z - plain) * transform.scales
    for column, whole in zip(added.T, transform.integral, strict=True):
        if not whole:
            assert (column == 0).all()
            continue
        assert float(column.min()) >= -0.5 - 1e-9
        assert float(column.max()) <= 0.5 + 1e-9
        n = len(column)
        assert abs(float(column.mean())) < z_limit(6) * math.sqrt(1 / 12 / n)
        assert abs(float((12 * column**2).mean()) - 1) < z_limit(6) * math.sqrt(0.8 / n)


def test_coordinates_are_standardised():
    """Mean 0 and variance 1 to 1e-9 for real columns; integer columns have variance 1 with their cell's 1/12 included."""
    frame = table()
    transform = TableTransform.fit(frame)
    z = transform.forward(frame)
    assert z.mean(0).abs().max() < 1e-7
    cell = torch.tensor(transform.integral) / 12 / transform.scales**2
    assert (z.var(0, correction=0) + cell - 1).abs().max() < 1e-7


def test_the_log_jacobian_is_that_of_the_map():
    transform = TableTransform.fit(table())
    frame = table(1)
    moved = frame.astype({"length": float, "small": float})
    z = transform.forward(moved)
    gains = []
    for i in transform.varying:
        shifted = moved.astype(float)
        shifted.iloc[0, i] += 1.0
        gains.append(float((transform.forward(shifted) - z).abs().sum()))
    assert transform.log_jacobian == pytest.approx(sum(map(math.log, gains)), rel=1e-9)


@pytest.mark.parametrize("scale", [1e-6, 1e-300, 1.0, 1e6, 1e140])
@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_units_do_not_matter(scale, shift):
    """R24: the coordinates of x c + b are those of x, and the log-Jacobian moves by -d log c."""
    x = np.random.Generator(np.random.PCG64(1)).normal(size=(200, 3))
    plain = TableTransform.fit(pd.DataFrame(x, columns=list("abc")))
    y = pd.DataFrame((x + shift) * scale, columns=list("abc"))
    moved = TableTransform.fit(y)
    assert (moved.forward(y) - plain.forward(pd.DataFrame(x, columns=list("abc")))).abs().max() < 1e-8
    assert moved.log_jacobian == pytest.approx(plain.log_jacobian - 3 * math.log(scale), abs=1e-8)


@pytest.mark.parametrize(
    ("dtype", "value"), [("uint8", -30.0), ("uint8", 400.0), ("int8", 200.0), ("int64", 1e300), ("uint64", -5.0)]
)
def test_samples_stay_in_the_range_of_their_type(dtype, value):
    frame = pd.DataFrame({"a": np.array([1, 2, 3], dtype=dtype)})
    transform = TableTransform.fit(frame)
    z = (torch.tensor([[value]], dtype=torch.float64) - transform.shift[0]) / transform.scale[0]
    back = transform.inverse(z)["a"]
    assert back.dtype == dtype
    limits = np.iinfo(dtype)
    expected = min(max(value, limits.min), limits.max)
    assert float(back[0]) == pytest.approx(expected, rel=1e-9)


def test_equal_rows_are_refused_and_constants_named():
    with pytest.raises(ValueError, match=r"at least one column that varies; got 3 equal rows.*nothing to learn"):
        TableTransform.fit(pd.DataFrame({"a": [1.0, 1.0, 1.0]}))
    assert TableTransform.fit(table()).constant == ["fixed", "always"]
