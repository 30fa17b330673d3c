"""Pictures of whole tables and runs, how they are saved and what is refused."""

import itertools
import struct
import subprocess
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
from drawn import axes, draws, functions, mixture, normal, one
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

from scorefield import reports as plots

# Tables


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_label_is_cut_or_hidden_by_another(generator, monkeypatch, kind):
    figure = plots.overview(*tables(kind, generator))
    boxes = texts(figure, monkeypatch)
    assert figure.bbox.width == 1_500
    assert len(boxes) > 20
    for text, box in boxes.items():
        canvas = figure.bbox
        assert min(box.x0, box.y0, canvas.width - box.x1, canvas.height - box.y1) >= 0, f"{text} is cut"
    for (first, a), (second, b) in itertools.combinations(boxes.items(), 2):
        width = min(a.x1, b.x1) - max(a.x0, b.x0)
        height = min(a.y1, b.y1) - max(a.y0, b.y0)
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


@pytest.mark.slow
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
