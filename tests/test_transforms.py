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
    added = (z - plain) @ torch.linalg.inv(torch.tensor(transform.whitening, dtype=torch.float64)) * transform.scales
    for column, whole in zip(added.T, transform.integral, strict=True):
        if not whole:
            assert column.abs().max() < 1e-12
            continue
        assert float(column.min()) >= -0.5 - 1e-9
        assert float(column.max()) <= 0.5 + 1e-9
        n = len(column)
        assert abs(float(column.mean())) < z_limit(6) * math.sqrt(1 / 12 / n)
        assert abs(float((12 * column**2).mean()) - 1) < z_limit(6) * math.sqrt(0.8 / n)


def test_coordinates_are_white():
    """Mean 0 and covariance W C W = I with C = (1 - r) S + r I: S of the columns and the cells of integers, r one number.

    Standardised columns have variance 1 with their cells, so C has a diagonal of 1 and off it a fixed share of S.
    """
    frame = table()
    transform = TableTransform.fit(frame)
    z = transform.forward(frame)
    assert z.mean(0).abs().max() < 1e-7
    inverse = torch.linalg.inv(torch.tensor(transform.whitening, dtype=torch.float64))
    standard = torch.from_numpy(frame.iloc[:, transform.varying].to_numpy(np.float64, copy=True))
    standard = (standard - standard.mean(0)) / transform.scales
    plain, shrunk = standard.mT @ standard / len(z), inverse @ inverse
    off = ~torch.eye(len(plain), dtype=torch.bool)
    kept = (shrunk / plain)[off].mean()
    assert 0.1 < kept < 0.99
    assert (shrunk - kept * plain)[off].abs().max() < 1e-7
    assert (shrunk.diagonal() - 1).abs().max() < 1e-7


def test_the_gradient_is_pulled_back():
    """For h(z) = |z|^2 / 2, grad_z = z: pull_back(z) is the central difference of h in each column, to 1e-6."""
    frame = table(200).astype({"count": float, "flag": float, "level": float, "small": float})
    transform = TableTransform.fit(frame)
    height = lambda rows: transform.forward(rows).square().sum(1) / 2
    found = transform.pull_back(transform.forward(frame))
    for column, i in enumerate(transform.varying):
        step = 1e-3 * transform.scale[i]
        up, down = frame.astype(float), frame.astype(float)
        up.iloc[:, i] += step
        down.iloc[:, i] -= step
        slope = (height(up) - height(down)) / (2 * step)
        assert ((found[:, column] - slope) * transform.scale[i]).abs().max() < 1e-6


def test_collinear_columns_are_named():
    x = np.random.Generator(np.random.PCG64(0)).normal(size=(100, 4))
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "c": 3 * x[:, 0] - x[:, 1] + 7, "d": x[:, 2], "e": x[:, 3]})
    with pytest.raises(ValueError, match=r"; a, b, c are collinear or duplicates, so there is no density: .* --drop c"):
        TableTransform.fit(frame)
    with pytest.raises(ValueError, match=r"; a, f are collinear"):
        TableTransform.fit(frame.drop(columns="c").assign(f=frame["a"] * 1e6))
    TableTransform.fit(frame.round().astype(int))  # cells make integers independent
    TableTransform.fit(frame.iloc[:8])  # too few rows to tell
    TableTransform.fit(frame.assign(c=frame["c"] + 1e-4 * x[::-1, 0]))


def test_the_log_jacobian_is_that_of_the_map():
    transform = TableTransform.fit(table())
    frame = table(1)
    moved = frame.astype({"length": float, "small": float})
    z = transform.forward(moved)
    columns = []
    for i in transform.varying:
        shifted = moved.astype(float)
        shifted.iloc[0, i] += 1.0
        columns.append((transform.forward(shifted) - z)[0])
    assert transform.log_jacobian == pytest.approx(float(torch.stack(columns).det().abs().log()), rel=1e-9)


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
