"""Columns and their choice: collinear, duplicate and constant ones, integers, suggested bounds."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch
from tables_to_transform import curved, table

from scorefield.kinds.tables.columns import FEW, Column, fit_column, suggestions
from scorefield.kinds.tables.units import TableTransform


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
