"""Pictures of one column: histograms, curves, their limits."""

import numpy as np
import pandas as pd
import pytest
from drawn import axes, draws, functions, mixture, normal

from scorefield import reports as plots

# One column


def test_histogram_bars_are_shares_of_all_rows_and_the_curve_is_the_density(generator):
    density = mixture(1.0)
    data, samples = draws(density, 5_000, generator, ["x (m)"]), draws(density, 300, generator, ["x (m)"])
    picture = plots.histogram(axes(), data, samples, functions(density)[0])
    for bars, table in zip(picture.patches, [data, samples], strict=True):
        heights, edges, _ = bars.get_data()
        inside = ((table >= edges[0]) & (table <= edges[-1])).to_numpy().mean()
        assert (heights * np.diff(edges)).sum() == pytest.approx(inside, abs=1e-12)
        counts = np.histogram(table, edges)[0]
        np.testing.assert_allclose(heights * np.diff(edges) * len(table), counts, atol=1e-9)
        assert tuple(edges[[0, -1]]) == picture.get_xlim()
    grid, curve = picture.lines[0].get_data()
    np.testing.assert_allclose(curve, np.exp(functions(density)[0](grid[:, None])))
    assert np.trapezoid(curve, grid) == pytest.approx(1, abs=5e-3)
    assert picture.get_xlabel() == "x (m)"
    labels = [text.get_text() for text in picture.get_legend().get_texts()]
    assert labels == ["data (5,000 rows)", "samples (300 rows)", "learned density"]


def test_integers_have_a_bin_each_and_are_the_only_places_where_a_function_is_asked():
    data = pd.DataFrame({"children": [0, 0, 0, 1, 1, 2, 3, 3, 3, 5]})
    asked = []
    picture = plots.histogram(axes(), data, data, lambda x: asked.append(x) or -x[:, 0])
    heights, edges, _ = picture.patches[0].get_data()
    assert edges.tolist() == [-0.5, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5]
    np.testing.assert_allclose(heights, [0.3, 0.2, 0.1, 0.3, 0, 0.1])
    plots.score_curve(axes(), data, lambda x: asked.append(x) or -x)
    assert set(np.concatenate(asked).ravel()) == {0, 1, 2, 3, 4, 5}


def test_a_few_dozen_integers_have_a_bin_each_however_few_the_rows():
    data = np.arange(36)[:, None]
    edges = plots.histogram(axes(), data, data, lambda x: -x[:, 0]).patches[0].get_data().edges
    assert set(np.diff(edges)) == {1}


def test_bins_of_many_integers_hold_equally_many():
    data = np.random.default_rng(0).integers(100, 1000, (500, 1))
    edges = plots.histogram(axes(), data, data, lambda x: -x[:, 0]).patches[0].get_data().edges
    (step,) = set(np.diff(edges))
    assert step == round(step) > 1
    assert (edges % 1 == 0.5).all()
    assert len(edges) <= 61


def test_log_density_curve_and_its_depth():
    data = normal(1_000, 1)
    picture = plots.log_density_curve(axes(), data, lambda x: -(x[:, 0] ** 2))
    grid, values = picture.lines[0].get_data()
    np.testing.assert_allclose(values, -(grid**2))
    assert picture.get_ylim()[0] > -32
    deep = plots.log_density_curve(axes(), data, lambda x: 7 - 1e4 * x[:, 0] ** 2)
    assert deep.get_ylim()[0] == deep.lines[0].get_ydata().max() - 32


def test_score_curve_is_the_score(generator):
    density = mixture(1.0)
    picture = plots.score_curve(axes(), draws(density, 500, generator, ["a"]), functions(density)[1])
    grid, values = picture.lines[-1].get_data()
    np.testing.assert_allclose(values, functions(density)[1](grid[:, None])[:, 0])
    assert picture.get_ylabel() == "score (nats per unit)"


# Limits


@pytest.mark.parametrize("n", [60, 150, 100_000])
def test_limits_cover_the_quantiles(n):
    data = normal(n, 1)
    low, high = plots.log_density_curve(axes(), data, lambda x: -(x[:, 0] ** 2)).get_xlim()
    first, last = np.quantile(data, [0.001, 0.999])
    assert low < first < last < high
    assert high - low < 1.2 * (last - first)


@pytest.mark.parametrize("n", [60, 150, 2_000])
@pytest.mark.parametrize("wild", [1e3, -1e9])
def test_one_wild_row_does_not_ruin_a_picture_and_is_told(n, wild):
    data = normal(n, 2)
    data[3, 1] = wild
    picture = plots.scatter(axes(), data, data)
    low, high = picture.get_ylim()
    assert high - low < 12
    outside = ((data < [picture.get_xlim()[0], low]) | (data > [picture.get_xlim()[1], high])).any(1).mean()
    assert outside >= 1 / n
    assert f"outside the axes: {100 * outside:.3g} % of the rows" in picture.get_title(loc="left")


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_mode_with_two_percent_of_the_rows_is_in_the_picture(sign):
    data = sign * np.concatenate([normal(9_800, 1), 50 + normal(200, 1)])
    limits = plots.log_density_curve(axes(), data, lambda x: -(x[:, 0] ** 2)).get_xlim()
    low, high = sorted(sign * np.array(limits))
    assert low < -3
    assert high > 50


def test_numbers_that_are_not_finite_count_as_outside():
    data, samples = normal(100, 1), normal(50, 1, seed=1) / 9
    samples[:3, 0] = np.nan, np.inf, -np.inf
    picture = plots.histogram(axes(), data, samples, lambda x: -(x[:, 0] ** 2))
    assert "outside the axes: 6 % of the samples" in picture.get_title(loc="left")
    heights, edges, _ = picture.patches[1].get_data()
    assert (heights * np.diff(edges)).sum() == pytest.approx(0.94)


@pytest.mark.parametrize("value", [0.0, 7.0, 3.3, -1e-9, 1e17])
def test_a_constant_column_is_inside_its_axis(value):
    data = np.full((20, 1), value)
    low, high = plots.log_density_curve(axes(), data, lambda x: -x[:, 0] * 0).get_xlim()
    assert low < value < high
