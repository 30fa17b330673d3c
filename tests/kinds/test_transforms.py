"""Laws of the table transform: it inverts, its Jacobian is right, types and constants come back."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch
from cases import z_limit
from torch import Generator

from scorefield.kinds.tables.columns import FEW, Column, fit_column, suggestions
from scorefield.kinds.tables.units import TableTransform


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


def curved(n: int = 300) -> tuple[pd.DataFrame, dict]:
    """A table with every kind of column, and its bounds."""
    draw = np.random.Generator(np.random.PCG64(3))
    frame = pd.DataFrame(
        {
            "plain": draw.normal(3, 2, n),
            "positive": np.exp(draw.normal(size=n)),
            "below": 5 - np.exp(draw.normal(size=n)),
            "share": draw.beta(0.5, 2, n),
            "heavy": draw.standard_t(1.5, n),
            "price": np.exp(1.5 * draw.normal(size=n)) * 1e-3,
            "rating": draw.integers(1, 6, n) / 2,
            "count": draw.poisson(0.7, n),
        }
    )
    return frame, {"positive": (0, math.inf), "below": (-math.inf, 5), "share": (0, 1), "count": (0, math.inf)}


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


def test_collinear_columns_are_named():
    x = np.random.Generator(np.random.PCG64(0)).normal(size=(100, 4))
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "c": 3 * x[:, 0] - x[:, 1] + 7, "d": x[:, 2], "e": x[:, 3]})
    with pytest.raises(ValueError, match=r"; a, b, c are collinear or duplicates, so there is no density: .* --drop c"):
        TableTransform.fit(frame)
    with pytest.raises(ValueError, match=r"; a, f are collinear"):
        TableTransform.fit(frame.drop(columns="c").assign(f=frame["a"] * 1e6))
    TableTransform.fit(frame.round().astype(int))  # cells make integers independent
    TableTransform.fit(frame.iloc[:8])  # too few rows to tell
    with pytest.raises(ValueError, match=r"a, b, c are collinear"):
        TableTransform.fit(frame.iloc[:11])
    TableTransform.fit(frame.iloc[:10])  # two rows a column are too few
    TableTransform.fit(frame.assign(c=frame["c"] + 1e-4 * x[::-1, 0]))
    with pytest.raises(ValueError, match=r"a, b, c are collinear"):
        TableTransform.fit(frame.round(6))  # as a text file holds them
    with pytest.raises(ValueError, match=r"a, b, c are collinear"):
        TableTransform.fit((frame * 1e-9).round(12))  # coarse for their size, at many places


def test_whole_tables_of_duplicates_are_named():
    draw = np.random.Generator(np.random.PCG64(0)).integers(0, 5, (50, 2))
    with pytest.raises(ValueError, match=r"; a, c are collinear"):
        TableTransform.fit(pd.DataFrame({"a": draw[:, 0], "b": draw[:, 1], "c": 4 - draw[:, 0]}))


def test_the_log_jacobian_is_that_of_the_map():
    """log |det dz/dx| by autograd through central differences of the map, for one row; the cells of integers are 1 wide."""
    frame, bounds = curved()
    transform = TableTransform.fit(frame, bounds)
    row = frame.astype(float).iloc[[5]]
    rows = []
    for i in transform.varying:
        step = 1e-5 * max(abs(row.iat[0, i]), 1e-3)
        up, down = row.copy(), row.copy()
        up.iat[0, i] += step
        down.iat[0, i] -= step
        rows.append((transform.forward(up) - transform.forward(down))[0] / (2 * step))
    expected = float(torch.stack(rows).det().abs().log())
    assert float(transform.log_jacobian(row)) == pytest.approx(expected, abs=1e-5)


def test_the_width_of_integer_cells_turns_densities_into_probabilities():
    """Tens carry log 10 more than the same numbers as floats; rounded floats stay densities."""
    values = np.random.Generator(np.random.PCG64(0)).integers(0, 9, 200) * 10
    whole, broken = (TableTransform.fit(pd.DataFrame({"a": values.astype(kind)})) for kind in (int, float))
    assert whole.columns[0].step == broken.columns[0].step == 10
    frame = pd.DataFrame({"a": values})
    assert (whole.log_jacobian(frame) - broken.log_jacobian(frame) - math.log(10)).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("dtype", "value"), [("uint8", -30.0), ("uint8", 400.0), ("int8", 200.0), ("int64", 1e300), ("uint64", -5.0)]
)
def test_samples_stay_in_the_range_of_their_type(dtype, value):
    frame = pd.DataFrame({"a": np.array([1, 2, 3], dtype=dtype)})
    transform = TableTransform.fit(frame)
    column = transform.columns[0]
    z = (torch.tensor([[value]], dtype=torch.float64) - column.centre) / column.spread
    back = transform.inverse(z)["a"]
    assert back.dtype == dtype
    limits = np.iinfo(dtype)
    expected = min(max(value, limits.min), limits.max)
    assert float(back[0]) == pytest.approx(expected, rel=1e-9)


def test_equal_rows_are_refused_and_constants_named():
    with pytest.raises(ValueError, match=r"at least one column that varies; got 3 equal rows.*nothing to learn"):
        TableTransform.fit(pd.DataFrame({"a": [1.0, 1.0, 1.0]}))
    assert TableTransform.fit(table()).constant == ["fixed", "always"]


def test_bounds_are_suggested_where_values_crowd_towards_them():
    draw = np.random.Generator(np.random.PCG64(0))
    frame = pd.DataFrame(
        {
            "far": draw.normal(50, 1, 400),
            "around": draw.normal(0, 1, 400),
            "price": draw.exponential(1, 400) + 1e-9,
            "count": draw.poisson(2, 400),
            "share": draw.beta(1, 2, 400),
            "percent": draw.integers(0, 101, 400),
            "zeros": draw.exponential(1, 400) * (draw.random(400) < 0.5),
            "flag": draw.random(400) < 0.5,
            "two": draw.integers(0, 2, 400),
        }
    )
    columns = TableTransform.fit(frame).columns
    assert suggestions(columns, frame) == "--positive price,count --bounds share=0:1,percent=0:100"
    bounded = {"price": (0, math.inf), "count": (0, math.inf), "share": (0, 1), "percent": (0, 100)}
    assert suggestions(TableTransform.fit(frame, bounded).columns, frame) == ""


def test_a_bound_is_suggested_for_three_values_and_none_for_two():
    """0, 1, 2 are counts; 0 and 1 are a choice, which no bound describes better."""
    frame = pd.DataFrame({"three": np.arange(300) % 3, "two": np.arange(300) % 2})
    assert suggestions(TableTransform.fit(frame).columns, frame) == "--positive three"


def test_a_column_of_one_value_is_a_constant():
    assert fit_column("a", np.array([3.0])).is_constant


@pytest.mark.parametrize(("skew", "tail"), [(0.3, 1.0), (-0.3, 1.0), (0.0, 0.5), (0.0, 2.0)])
def test_skew_or_tails_of_either_kind_bend_a_column(skew, tail):
    """And the map is bent: z of 1 is sinh(tail asinh(1) - skew), not 1."""
    column = Column("a", "<f8", spread=1.0, skew=skew, tail=tail)
    assert column.is_bent
    z, _ = column.forward(torch.ones(1, dtype=torch.float64))
    assert float(z) == pytest.approx(math.sinh(tail * math.asinh(1) - skew), rel=1e-14)
    assert not Column("a", "<f8", spread=1.0).is_bent


def test_a_column_has_mean_0_and_variance_1_with_its_cells():
    """Plain, on a lattice, bounded and bent ones; a lattice's cells add step^2 / 12 before scaling."""
    frame, bounds = curved()
    for name in frame.columns:
        column = fit_column(name, frame[name].to_numpy(), bounds.get(name))
        z, slope = column.forward(torch.from_numpy(frame[name].to_numpy(np.float64, copy=True)))
        curved_lattice = column.step > 0 and (column.is_bounded or column.is_bent)  # cells are bent with it
        cells = 0.0 if curved_lattice else (column.step / column.spread) ** 2 / 12
        assert float(z.mean()) == pytest.approx(0, abs=0.02 if curved_lattice else 1e-9), name
        assert float(z.var(correction=0)) + cells == pytest.approx(1, abs=0.05 if curved_lattice else 1e-9), name
        assert slope.isfinite().all(), name


def test_a_transform_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TableTransform.fit(table()).columns = ()


def test_tenths_come_back_as_they_are_written():
    """3 * 0.1 is not 0.3, and 0.3 is what a file holds and what a sample must be."""
    values = np.random.Generator(np.random.PCG64(0)).integers(0, 50, 400) / 10
    column = fit_column("a", values)
    assert column.step == 0.1
    z, _ = column.forward(torch.from_numpy(values))
    assert (column.inverse(z) == values).all()


def test_too_few_rows_suggest_nothing():
    """Positive numbers of a wide spread: from FEW rows on they are said to be positive, with one less they are not."""
    values = np.random.Generator(np.random.PCG64(0)).exponential(1, FEW)
    for rows, expected in ((values, "--positive a"), (values[1:], ""), (values[: FEW // 2], "")):
        frame = pd.DataFrame({"a": rows})
        assert suggestions(TableTransform.fit(frame).columns, frame) == expected, len(rows)
