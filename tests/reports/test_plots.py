"""Pictures: what is drawn is read back from the artists and compared with what it should show."""

import itertools
import struct
import subprocess
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.quiver import Quiver
from matplotlib.text import Text

from scorefield import reports as plots
from scorefield.diffusion.densities import GaussianMixture


def one(kind, axes):
    """The one artist of a kind in an Axes."""
    (artist,) = [child for child in axes.get_children() if isinstance(child, kind)]
    return artist


def axes():
    return Figure(figsize=(5, 5)).subplots()


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def functions(density):
    """The log-density and the score of an exact density as functions of arrays."""
    return (
        lambda points: density.log_prob(torch.tensor(points)).numpy(),
        lambda points: density.score(torch.tensor(points)).numpy(),
    )


def mixture(*scales):
    """A mixture of two Gaussians in units given by scales."""
    means = torch.tensor([[-1.0, 0.5], [1.5, -0.5]], dtype=torch.float64)[:, : len(scales)]
    covariance = torch.tensor([[0.5, 0.2], [0.2, 0.3]], dtype=torch.float64)[: len(scales), : len(scales)]
    units = torch.tensor(scales, dtype=torch.float64)
    spread = (covariance * units * units[:, None])[None].expand(2, -1, -1)
    return GaussianMixture(torch.tensor([1.0, 2.0], dtype=torch.float64), means * units, spread)


def draws(density, n, generator, names):
    return pd.DataFrame(density.sample(n, generator).numpy(), columns=names)


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


# Two columns


def test_scatter_draws_the_first_rows_to_scale_and_says_how_many_there_are():
    names = ["x (m)", "y (m)"]
    data = pd.DataFrame(normal(500, 2) * [1, 2], columns=names)
    points = pd.DataFrame(normal(6_000, 2, seed=1), columns=names)
    picture = plots.scatter(axes(), points, data, "Samples", plots.SAMPLES)
    np.testing.assert_array_equal(one(PathCollection, picture).get_offsets(), points[:5_000])
    title = picture.get_title(loc="left")
    assert "Samples (6,000 rows)" in title
    assert "the first 5,000 rows" in title
    assert [picture.get_xlabel(), picture.get_ylabel()] == names
    same = plots.scatter(axes(), data, data)
    assert (picture.get_xlim(), picture.get_ylim()) == (same.get_xlim(), same.get_ylim())
    picture.figure.draw_without_rendering()
    corner, right, above = picture.transData.transform([(0, 0), (1, 0), (0, 1)])
    assert right[0] - corner[0] == pytest.approx(above[1] - corner[1])


def test_axes_of_different_units_make_a_square():
    data = normal(500, 2) * [1, 1e4]
    picture = plots.scatter(axes(), data, data)
    picture.figure.draw_without_rendering()
    assert picture.get_window_extent().width == pytest.approx(picture.get_window_extent().height)


def test_integers_are_spread_within_their_cell_and_that_is_told():
    data = np.random.default_rng(0).integers(0, 2, (400, 2))
    picture = plots.scatter(axes(), data, data)
    drawn = one(PathCollection, picture).get_offsets()
    np.testing.assert_array_equal(drawn.round(), data)
    assert 0.25 < np.abs(drawn - data).max() <= 0.3
    assert "spread by up to 0.3" in picture.get_title(loc="left")


def test_density_map_is_the_density_on_its_grid(generator):
    density = mixture(1.0, 1.0)
    picture = plots.density_map(axes(), draws(density, 500, generator, ["a", "b"]), functions(density)[0])
    image = one(QuadMesh, picture)
    points = image.get_coordinates().reshape(-1, 2)
    np.testing.assert_allclose(np.ravel(image.get_array()), np.exp(functions(density)[0](points)))
    (low, high), (bottom, top) = picture.get_xlim(), picture.get_ylim()
    np.testing.assert_allclose([points.min(0), points.max(0)], [(low, bottom), (high, top)])
    assert (picture.get_xlabel(), picture.get_ylabel()) == ("a", "b")


@pytest.mark.parametrize("scales", [(1.0, 1.0), (1e-3, 2e-3), (1.0, 500.0)])
def test_arrows_point_straight_uphill_on_the_page(generator, scales):
    density = mixture(*scales)
    log_density, score = functions(density)
    picture = plots.score_field(axes(), draws(density, 500, generator, ["a", "b"]), log_density, score)
    picture.figure.draw_without_rendering()
    quiver = one(Quiver, picture)
    points, arrows = np.stack([quiver.X, quiver.Y], -1), np.stack([quiver.U, quiver.V], -1)
    # The gradient per pixel, by central differences in pixels.
    pixels, back = picture.transData.transform(points), picture.transData.inverted()
    steps = 1e-4 * np.eye(2)
    rise = [log_density(back.transform(pixels + h)) - log_density(back.transform(pixels - h)) for h in steps]
    uphill = np.stack(rise, -1)
    cosine = (arrows * uphill).sum(1) / np.linalg.norm(arrows, axis=1) / np.linalg.norm(uphill, axis=1)
    np.testing.assert_allclose(cosine, 1, atol=1e-6)
    true = np.linalg.norm(uphill, axis=1) / 2e-4
    unit = np.asarray(quiver.get_array()) / true  # colours: the true length, in other units
    np.testing.assert_allclose(unit, unit[0], rtol=1e-5)
    ratio = true / np.quantile(true, 0.25)
    np.testing.assert_allclose(np.linalg.norm(arrows, axis=1), ratio / (1 + ratio), rtol=1e-5)
    # An arrow of length 1 would fill a cell, and arrows are in the middle of their cells.
    left, right = picture.get_xlim()
    cell = (right - left) / quiver.scale
    assert quiver.scale_units == "width"
    np.testing.assert_allclose(np.unique(quiver.X), left + cell * (np.arange(quiver.scale) + 0.5))
    if scales[1] < 4 * scales[0]:
        np.testing.assert_allclose(quiver.get_array(), np.linalg.norm(score(points), axis=1))


def test_contours_lie_where_the_log_density_is_so_many_nats_below_its_top():
    data = normal(2_000, 2)
    height = lambda points: 5 - 4 * (points**2).sum(1)
    picture = plots.score_field(axes(), data, height, lambda points: -8 * points)
    contours = one(QuadContourSet, picture)
    grid = np.linspace(*picture.get_xlim(), 100), np.linspace(*picture.get_ylim(), 100)
    top = height(np.stack(np.meshgrid(*grid), -1).reshape(-1, 2)).max()
    np.testing.assert_allclose(contours.levels[:6], top - np.array([32, 16, 8, 4, 2, 1]))
    vertices = np.concatenate([path.vertices for path in contours.get_paths() if len(path.vertices)])
    low, high = np.array([picture.get_xlim(), picture.get_ylim()]).T
    within = vertices[((vertices > low + 1e-6) & (vertices < high - 1e-6)).all(1)]
    away = np.abs(height(within)[:, None] - contours.levels).min(1)
    assert away.max() < 0.05


def test_a_gap_where_a_function_is_not_finite():
    data = normal(300, 2)
    half = lambda points: np.where(points[:, 0] > 0, -(points**2).sum(1), -np.inf)
    slope = lambda points: np.where(points[:, :1] > 0, -2 * points, np.nan)
    image = one(QuadMesh, plots.density_map(axes(), data, half))
    hidden = np.ma.getmaskarray(np.ma.masked_invalid(image.get_array()))
    np.testing.assert_array_equal(hidden, image.get_coordinates()[..., 0] <= 0)
    picture = plots.score_field(axes(), data, half, slope)
    picture.figure.draw_without_rendering()
    quiver = one(Quiver, picture)
    np.testing.assert_array_equal(quiver.Umask, quiver.X <= 0)


def test_a_flat_density_has_no_arrows():
    picture = plots.score_field(axes(), normal(100, 2), lambda x: np.zeros(len(x)), np.zeros_like)
    assert not one(Quiver, picture).U.any()


# Tables


@pytest.mark.parametrize(("d", "shown"), [(1, 1), (3, 3), (5, 5), (16, 16), (20, 16)])
def test_every_column_has_its_histogram(d, shown):
    data, samples = normal(100, d), normal(80, d, seed=1)
    figure = Figure(layout="constrained")
    panels = plots.marginals(figure, data, samples)
    assert figure.axes == panels
    assert [panel.get_xlabel() for panel in panels] == [f"x{j + 1}" for j in range(shown)]
    for j, panel in enumerate(panels):
        for bars, table in zip(panel.patches, (data, samples), strict=True):
            heights, edges, _ = bars.get_data()
            counts = np.histogram(table[:, j], edges)[0]
            np.testing.assert_allclose(heights, counts / len(table) / np.diff(edges))
    assert f"{shown} columns, {d - shown} left out" in figure.get_suptitle()


def test_constant_columns_come_last_and_the_others_in_their_order():
    data = normal(50, 64)
    data[:, [0, 8, 9]] = 3
    names = [f"pixel {j}" for j in range(64)]
    panels = plots.marginals(Figure(), pd.DataFrame(data, columns=names), data)
    varying = [name for j, name in enumerate(names) if j not in {0, 8, 9}]
    assert [panel.get_xlabel() for panel in panels] == varying[:16]
    panels = plots.marginals(Figure(), pd.DataFrame(data[:, :10], columns=names[:10]), data[:, :10])
    assert [panel.get_xlabel() for panel in panels][-3:] == ["pixel 0", "pixel 8", "pixel 9"]


@pytest.mark.parametrize(("d", "shown"), [(1, 1), (3, 3), (8, 5)])
def test_pairs_have_data_below_and_samples_above_the_diagonal(d, shown):
    data, samples = normal(100, d), normal(80, d, seed=1)
    figure = Figure(layout="constrained")
    panels = plots.pair_plot(figure, data, samples)
    assert panels.shape == (shown, shown)
    assert len(figure.axes) == shown**2
    for (i, j), panel in np.ndenumerate(panels):
        if i == j:
            assert len(panel.patches) == 2
        else:
            table = data if i > j else samples
            np.testing.assert_array_equal(one(PathCollection, panel).get_offsets(), table[:, [j, i]])
            assert panel.get_ylim() == panels[i, i].get_xlim()
        assert panel.get_xlim() == panels[j, j].get_xlim()
        assert panel.get_xlabel() == (f"x{j + 1}" if i == shown - 1 else "")
        named = i != j and (j == 0 or j == shown - 1)
        assert panel.get_ylabel() == (f"x{i + 1}" if named else "")
    assert f"{shown} columns, {d - shown} left out" in figure.get_suptitle()


# Losses


def test_loss_curves_with_the_trivial_model_at_one():
    steps = np.arange(0, 1_000, 10)
    training = 0.3 + 1 / (1 + steps / 50)
    training[1] = 500.0
    validation = np.where(steps % 100 == 0, training + 0.1, np.nan)
    picture = plots.loss_curves(axes(), steps, training, validation)
    lines = {line.get_label(): line for line in picture.lines}
    np.testing.assert_array_equal(lines["training"].get_ydata(), training)
    np.testing.assert_array_equal(lines["validation"].get_ydata(), validation)
    assert set(lines["trivial model"].get_ydata()) == {1}
    assert picture.get_xscale() == "log"
    low, high = picture.get_ylim()
    assert low == 0
    assert 1 < high < 3
    picture.figure.draw_without_rendering()
    assert picture.get_xlim()[0] > 5
    assert not np.isfinite(picture.transData.transform((0, 1))[0])


# The overview, on real drawings


def texts(figure, monkeypatch):
    """Draw a figure at 150 dots an inch and return the boxes of all texts that were drawn, in pixels."""
    drawn, draw = [], Text.draw
    figure.set_dpi(150)
    canvas = FigureCanvasAgg(figure)
    with monkeypatch.context() as patch:
        patch.setattr(Text, "draw", lambda text, renderer: (drawn.append(text), draw(text, renderer)))
        canvas.draw()
    seen = [text for text in drawn if text.get_visible() and text.get_text()]
    return {text: text.get_window_extent(canvas.get_renderer()) for text in seen}


def tables(kind, generator):
    """Data, samples, a log-density and a score of each kind of picture."""
    if kind == "line":
        density = mixture(1.0)
        data, samples = (draws(density, n, generator, ["waiting time (min)"]) for n in (3_000, 500))
        samples.iloc[0] = 1e9
        data.iloc[0] = -1e9
    elif kind in {"plane", "units", "tiny"}:
        density = mixture(*{"plane": (1.0, 1.0), "units": (1.0, 1e6), "tiny": (1e-9, 1e-9)}[kind])
        names = ["length of a leaf, a long name (m)", "y"]
        data, samples = (draws(density, n, generator, names) for n in (6_000, 500))
        samples.iloc[0] = 1e9
    elif kind == "counts":
        rng = np.random.default_rng(0)
        density = mixture(4.0, 4.0)
        data, samples = (pd.DataFrame(rng.integers(0, 17, (n, 2)), columns=["a", "b"]) for n in (700, 300))
    else:
        rng, density = np.random.default_rng(0), mixture(1.0)
        names = ["$x_1$", "_", "alcalinity of ash (mmol/l)", "long" * 40, *(f"column {j}" for j in range(15))]
        units = 10.0 ** rng.integers(-12, 12, 19)
        data, samples = (pd.DataFrame(rng.normal(size=(n, 19)) * units, columns=names) for n in (200, 300))
        data[names[4]] = samples[names[4]] = 3
    return data, samples, *functions(density)


KINDS = ["line", "plane", "units", "tiny", "counts", "table"]


@pytest.mark.parametrize("kind", KINDS)
def test_no_label_is_cut_or_hidden_by_another(generator, monkeypatch, kind):
    figure = plots.overview(*tables(kind, generator))
    boxes = texts(figure, monkeypatch)
    assert figure.bbox.width == 1_500
    assert len(boxes) > 20
    for text, box in boxes.items():
        canvas = figure.bbox
        assert min(box.x0, box.y0, canvas.width - box.x1, canvas.height - box.y1) >= 0, f"{text} is cut"
    for (first, one), (second, two) in itertools.combinations(boxes.items(), 2):
        width = min(one.x1, two.x1) - max(one.x0, two.x0)
        height = min(one.y1, two.y1) - max(one.y0, two.y0)
        assert min(width, height) <= 2, f"{first} and {second} overlap"


@pytest.mark.parametrize(("kind", "panels"), [("line", 3), ("plane", 4), ("table", 16 + 25)])
def test_overview_has_its_panels_and_asks_each_function_once(generator, kind, panels):
    data, samples, log_density, score = tables(kind, generator)
    calls = []
    figure = plots.overview(
        data,
        samples,
        lambda points: calls.append("log-density") or log_density(points),
        lambda points: calls.append("score") or score(points),
    )
    assert len(figure.axes) == panels
    assert max(figure.get_size_inches()) < 17
    assert calls == ([] if kind == "table" else ["log-density", "score"])


def test_names_are_shown_as_they_are_with_the_factor_of_the_ticks():
    data = pd.DataFrame(normal(50, 2) * [1, 1e8], columns=["$x_1$ ^{", "y (m)"])
    picture = plots.scatter(axes(), data, data)
    picture.figure.draw_without_rendering()
    assert (picture.get_xlabel(), picture.get_ylabel()) == ("$x_1$ ^{", "y (m)\nin 1e8")
    assert not picture.xaxis.label.get_parse_math()
    ticks = [text.get_text().replace("\N{MINUS SIGN}", "-") for text in picture.get_yticklabels()]
    assert [float(text) for text in ticks] == [y / 1e8 for y in picture.get_yticks()]


def test_overview_of_arrays_is_that_of_frames(generator, tmp_path):
    data, samples, *both = tables("line", generator)
    data, samples = (table.set_axis(["x1"], axis=1) for table in (data, samples))
    plots.save(plots.overview(data, samples, *both), tmp_path / "frames.png")
    plots.save(plots.overview(data.to_numpy(), samples.to_numpy(), *both), tmp_path / "arrays.png")
    assert (tmp_path / "frames.png").read_bytes() == (tmp_path / "arrays.png").read_bytes()


# Saving, state, errors


def test_saved_picture_has_150_dots_an_inch(tmp_path):
    plots.save(Figure(figsize=(4, 3)), str(tmp_path / "a.png"))
    content = (tmp_path / "a.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == (600, 450)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


class FullDisk(Figure):
    def savefig(self, file, **options):
        file.write(b"half")
        raise OSError("no space left")


def test_a_failed_save_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="no space left"):
        plots.save(FullDisk(), path)
    assert path.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(ValueError, match="docx"):
        plots.save(Figure(), tmp_path / "a.docx")


def test_no_global_state_is_touched(generator, tmp_path):
    before, state = dict(matplotlib.rcParams), np.random.get_state()[1].copy()
    plots.save(plots.overview(*tables("line", generator)), tmp_path / "a.png")
    assert dict(matplotlib.rcParams) == before
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_pyplot_is_never_imported():
    program = "import sys, scorefield.reports.tables; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


SWAPPED = pd.DataFrame(normal(9, 2), columns=["x2", "x1"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: plots.density_map(axes(), x[:, :1], lambda p: p[:, 0]), "expected 2 columns; got .*'x1'"),
        (lambda x: plots.score_curve(axes(), x, lambda p: p), "expected 1 columns; got .*'x1', 'x2'"),
        (lambda x: plots.marginals(Figure(), x, SWAPPED), "the same columns; got .*'x2', 'x1'"),
        (lambda x: plots.pair_plot(Figure(), x * np.nan, x), "column 'x1'; got none that is finite"),
        (lambda x: plots.density_map(axes(), x, lambda p: p), r"shape \(10000,\).*\(10000, 2\)"),
        (lambda x: plots.density_map(axes(), x, lambda p: -np.inf * p[:, 0] ** 0), "expected finite"),
        (lambda x: plots.score_curve(axes(), x[:, :1], lambda p: p[:, 0]), r"shape \(400, 1\).*\(400,\)"),
    ],
)
def test_errors_say_what_was_expected_and_what_came(call, message):
    with pytest.raises(ValueError, match=message):
        call(normal(30, 2))
