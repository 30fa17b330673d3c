"""Pictures of data, samples, densities and scores: tables and an Axes in, the Axes out.

Only matplotlib's objects are used (Figure, Axes), never pyplot: no global state changes and no window opens.
Axes show a robust range of the data, and a picture says which share of the rows lies outside of it.
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from scorefield.data.atomic import replacing

Table: TypeAlias = pd.DataFrame | np.ndarray  # numbers (n, d); the columns of an array are called x1 ... xd
PointFunction: TypeAlias = Callable[[np.ndarray], np.ndarray]  # (n, d) -> log-density (n,) or score (n, d)
DATA, SAMPLES = "#0072B2", "#D55E00"  # blue and vermilion of Okabe and Ito (2008), distinct to every eye
POINTS = 5_000  # more dots only hide one another
FEW = 40  # integers on an axis that still have a bin each, and dots spread to show how many there are
DEPTH = 32  # nats below the top: e^-32 = 1e-14 is less than any data set can show


class Column(NamedTuple):
    """How a column is drawn: its name, its bins from end to end of the axis, whether it holds integers."""

    name: str
    edges: np.ndarray
    integral: bool


def histogram(axes: Axes, data: Table, samples: Table, log_density: PointFunction) -> Axes:
    """Draw one column: the density curve over histograms of data and samples, with areas that are shares."""
    columns, (data, samples) = _describe(data, samples, exactly=1)
    _bars(axes, columns[0], data, samples)
    (grid,), values = _evaluate(log_density, columns, ())
    axes.plot(grid, np.exp(values), "k", label="learned density")
    axes.set_ylabel("density")
    return _finish(axes, columns, "Data and samples", *_outside(columns, data=data, samples=samples))


def log_density_curve(axes: Axes, data: Table, log_density: PointFunction) -> Axes:
    """Draw the log-density of one column over the range of the data, at most 32 nats deep."""
    columns, _ = _describe(data, exactly=1)
    (grid,), values = _evaluate(log_density, columns, ())
    axes.plot(grid, values, "k")
    floor = max(np.nanmax(values) - DEPTH, axes.get_ylim()[0])
    axes.set(ylabel="log-density (nats)", ylim=(floor, None))
    return _finish(axes, columns, f"Learned log-density (at most {DEPTH} nats deep)")


def score_curve(axes: Axes, data: Table, score: PointFunction) -> Axes:
    """Draw the score of one column over the range of the data."""
    columns, _ = _describe(data, exactly=1)
    (grid,), values = _evaluate(score, columns, (1,))
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.plot(grid, values, "k")
    axes.set_ylabel("score (nats per unit)")
    return _finish(axes, columns, "Learned score: the slope of the log-density")


def scatter(axes: Axes, points: Table, data: Table, title: str = "Data", colour: str = DATA) -> Axes:
    """Draw the first 5,000 rows of points, a table of two columns, as dots within the range of the data."""
    columns, (_, points) = _describe(data, points, exactly=2)
    notes = [*_dots(axes, columns, points, colour), *_outside(columns, rows=points)]
    return _finish(axes, columns, f"{title} ({len(points):,} rows)", *notes)


def density_map(axes: Axes, data: Table, log_density: PointFunction) -> Axes:
    """Draw the density of two columns as an image with a colour bar, over the range of the data."""
    columns, _ = _describe(data, exactly=2)
    grids, values = _evaluate(log_density, columns, ())
    image = axes.pcolormesh(*grids, np.exp(values), shading="gouraud", cmap="viridis", vmin=0)
    axes.figure.colorbar(image, cax=axes.inset_axes((1.03, 0, 0.04, 1)), label="density")
    return _finish(axes, columns, "Learned density")


def score_field(axes: Axes, data: Table, log_density: PointFunction, score: PointFunction) -> Axes:
    """Draw the score of two columns as arrows over contours of the log-density.

    An arrow fills r / (1 + r) of its room, r its length over the lower quartile of lengths, so that those far
    out do not swamp the others; colours tell the true length. Where the axes are too different for a common
    scale, the score is per length of an axis: arrows still point straight uphill on the page.
    """
    columns, _ = _describe(data, exactly=2)
    grids, values = _evaluate(log_density, columns, ())
    levels = np.nanmax(values) - np.array([*(DEPTH / 2**k for k in range(6)), -1.0])
    axes.contourf(*grids, values, levels, colors=[str(grey) for grey in np.linspace(0.95, 0.7, 6)])
    lengths, sides = _sides(columns)
    counts = (18 * sides / sides.max()).round().astype(int)
    ends = [np.linspace(c.edges[0], c.edges[-1], 2 * m + 1) for c, m in zip(columns, counts, strict=True)]
    places, values = _evaluate(score, columns, (2,), [halves[1::2] for halves in ends])
    arrows = values * lengths / sides
    size = np.linalg.norm(arrows, axis=-1)
    longest = np.nanmax(size) or 1.0
    short = arrows / (size + (np.nanquantile(size, 0.25) or longest))[..., None]
    norm = LogNorm(np.clip(np.nanquantile(size, 0.05), longest / 1000, longest / 10), longest)
    quiver = axes.quiver(
        *places,
        short[..., 0],
        short[..., 1],
        size,
        norm=norm,
        cmap="plasma_r",
        pivot="mid",
        angles="uv",
        scale_units="width",
        scale=counts[0],
        units="inches",
        width=0.018,
    )
    label = f"true length (nats per {'unit' if (lengths == sides).all() else 'length of an axis'})"
    axes.figure.colorbar(quiver, cax=axes.inset_axes((1.03, 0, 0.04, 1)), extend="min", label=label)
    notes = "arrow lengths compressed, colours true", f"grey: 1, 2, 4, 8, 16, {DEPTH} nats below the top"
    return _finish(axes, columns, "Learned score: arrows point uphill", *notes)


def marginals(figure: Figure | SubFigure, data: Table, samples: Table) -> list[Axes]:
    """Draw every column, data against samples, as small histograms: at most 16, constant columns last."""
    columns, (real, made) = _describe(data, samples, most=16)
    rows, across = -(-len(columns) // 4), min(4, len(columns))
    panels = [figure.add_subplot(rows, across, j + 1) for j in range(len(columns))]
    for j, axes in enumerate(panels):
        _bars(axes, columns[j], real.iloc[:, [j]], made.iloc[:, [j]])
        _finish(axes, [columns[j]], ticks=4).set_yticks([])
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower right", ncols=2, frameon=False)
    first = f"One by one: {len(columns)} columns, {data.shape[1] - len(columns)} left out"
    lines = [first, *_outside(columns, data=real, samples=made)]
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=10)
    return panels


def pair_plot(figure: Figure | SubFigure, data: Table, samples: Table) -> np.ndarray:
    """Draw at most 5 columns in pairs: data below the diagonal, samples above, histograms of both on it."""
    columns, (real, made) = _describe(data, samples, most=5)
    panels, notes = figure.subplots(len(columns), len(columns), squeeze=False), set()
    for (i, j), axes in np.ndenumerate(panels):
        if i == j:
            _bars(axes, columns[i], real.iloc[:, [i]], made.iloc[:, [i]])
            _finish(axes, [columns[i]], ticks=3).set_yticks([])
        else:
            table, colour = (real, DATA) if i > j else (made, SAMPLES)
            notes |= {*_dots(axes, [columns[j], columns[i]], table.iloc[:, [j, i]], colour)}
            _finish(axes, [columns[j], columns[i]], ticks=3).set_box_aspect(None)
        if i < j == len(columns) - 1:
            axes.yaxis.set(ticks_position="right", label_position="right")
        axes.label_outer()
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_offset_text().set_visible(False)  # which label_outer shows again
    first = f"In pairs: {len(columns)} columns, {data.shape[1] - len(columns)} left out"
    lines = [first, "below the diagonal data, above it samples", *sorted(notes)]
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=10)
    return panels


def loss_curves(axes: Axes, steps: np.ndarray, training: np.ndarray, validation: np.ndarray) -> Axes:
    """Draw losses relative to that of the trivial model against the step; NaN where none was measured."""
    axes.plot(steps, training, color=DATA, label="training")
    axes.plot(steps, validation, "o", color=SAMPLES, markersize=4, label="validation")
    axes.axhline(1, color="black", linestyle="--", linewidth=1, label="trivial model")
    axes.set_xscale("log", nonpositive="mask")
    limits = np.nanquantile([training, validation], [0.01, 0.99]).clip([-np.inf, 1], [0, np.inf])
    axes.set(xlabel="training step", ylabel="loss / loss of the trivial model", ylim=1.1 * limits)
    return _finish(axes, [], "Loss: lower is better")


def overview(data: Table, samples: Table, log_density: PointFunction, score: PointFunction) -> Figure:
    """Return the one picture that shows what was learned, 10 inches wide.

    One column: histograms, log-density, score. Two: data, samples, density, score field. More: each column
    and pairs of columns, data against samples; then neither function is called.
    """
    columns, _ = _describe(data)
    remembered = functools.cache(lambda raw: log_density(np.frombuffer(raw).reshape(-1, len(columns)).copy()))
    once = lambda points: remembered(points.tobytes())
    figure = Figure(figsize=(10, 9), layout=ConstrainedLayoutEngine(w_pad=0.07, h_pad=0.07))
    if len(columns) == 1:
        panels = figure.subplots(3, 1, sharex=True)
        histogram(panels[0], data, samples, once).label_outer()
        log_density_curve(panels[1], data, once).label_outer()
        score_curve(panels[2], data, score)
        figure.align_ylabels(panels)
    elif len(columns) == 2:
        panels, (_, (width, height)) = figure.subplots(2, 2), _sides(columns)
        figure.set_size_inches(10, 2 * min(3.5 * height / width, 6) + 2)
        scatter(panels[0, 0], data, data)
        scatter(panels[0, 1], samples, data, "Samples", SAMPLES)
        density_map(panels[1, 0], data, once)
        score_field(panels[1, 1], data, once, score)
    else:
        heights = 1.7 * -(-min(len(columns), 16) // 4) + 0.8, 9
        figure.set_size_inches(10, sum(heights))
        parts = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)
        marginals(parts[0, 0], data, samples)
        pair_plot(parts[1, 0], data, samples)
    return figure


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure at 150 dots an inch, whole or not at all, in the format of the extension (.png)."""
    path = Path(path)
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix[1:], dpi=150)


def _describe(*tables: Table, exactly: int = 0, most: int = 0) -> tuple[list[Column], list[pd.DataFrame]]:
    """Return how to draw the columns of the first table, and all tables as frames of floats."""
    names = list(getattr(tables[0], "columns", [f"x{j + 1}" for j in range(tables[0].shape[-1])]))
    frames = [t if isinstance(t, pd.DataFrame) else pd.DataFrame(t, columns=names) for t in tables]
    if any(list(frame.columns) != names for frame in frames) or len(names) != (exactly or len(names)):
        raise ValueError(f"expected {exactly or 'the same'} columns; got {[list(f.columns) for f in frames]}")
    order = np.argsort((frames[0].nunique() == 1).to_numpy(), stable=True)[:most] if most else slice(None)
    frames = [frame.iloc[:, order].astype(float) for frame in frames]
    return [_column(str(name), values.to_numpy()) for name, values in frames[0].items()], frames


def _column(name: str, values: np.ndarray) -> Column:
    """Return how to draw a column: from its 0.1 % to its 99.9 % quantile and a margin of 5 %, robustly.

    But at most half the 1 % to 99 % distance beyond these two: one wild row in a hundred ruins nothing.
    """
    values = values[np.isfinite(values)]
    if not len(values):
        raise ValueError(f"expected numbers in column {name!r}; got none that is finite; drop the column")
    first, last = np.quantile(values, 0.01, method="higher"), np.quantile(values, 0.99, method="lower")
    reach = (last - first) / 2 or np.inf
    low, high = np.quantile(values, [0.001, 0.999]).clip(first - reach, last + reach)
    bins = round(np.clip(3 * len(values) ** (1 / 3), 10, 60))
    margin = 0.05 * (high - low)
    if ((values == values.round()) & (np.abs(values) < 2**52)).all():  # as many integers in every bin
        low, high = np.floor(low) - np.floor(margin) - 0.5, np.ceil(high) + np.floor(margin) + 0.5
        step = 1 if high - low <= FEW else np.ceil((high - low) / bins)
        return Column(name, low + step * np.arange(np.ceil((high - low) / step) + 1), True)
    margin = margin or 0.5 + 0.05 * abs(low)
    return Column(name, np.linspace(low - margin, high + margin, bins + 1), False)


def _evaluate(
    field: PointFunction, columns: list[Column], event: tuple[int, ...], grids: list[np.ndarray] | None = None
) -> tuple[list[np.ndarray], np.ndarray]:
    """Return grids over the axes and values [y, x] there, for integers at the nearest; NaN if not finite."""
    grids = grids or [np.linspace(c.edges[0], c.edges[-1], 400 // len(columns) ** 2) for c in columns]
    low, high = np.array([column.edges[[0, -1]] for column in columns]).T
    mesh = np.stack(np.meshgrid(*grids), -1)
    mesh = np.where([column.integral for column in columns], mesh.round().clip(low + 0.5, high - 0.5), mesh)
    values = np.asarray(field(mesh.reshape(-1, len(columns))), float)
    shape, finite = (mesh[..., 0].size, *event), np.isfinite(values)
    if values.shape != shape or not finite.any():
        raise ValueError(f"expected finite values of shape {shape}; got {finite.sum()} in {values.shape}")
    return grids, np.where(finite, values, np.nan).reshape(*mesh.shape[:-1], *event)


def _outside(columns: list[Column], **tables: pd.DataFrame) -> list[str]:
    """Return a line on the shares of rows with a value beyond the axes; no line if there are none."""
    low, high = np.array([column.edges[[0, -1]] for column in columns]).T
    shares = {name: 1 - ((low <= t) & (t <= high)).all(axis=1).mean() for name, t in tables.items()}
    told = [f"{100 * share:.3g} % of the {name}" for name, share in shares.items() if share > 0]
    return [f"outside the axes: {', '.join(told)}"] if told else []


def _bars(axes: Axes, column: Column, data: pd.DataFrame, samples: pd.DataFrame) -> None:
    for table, name, colour, alpha in (data, "data", DATA, 0.4), (samples, "samples", SAMPLES, 1):
        heights = np.histogram(table, column.edges)[0] / len(table) / np.diff(column.edges)
        axes.stairs(
            heights,
            column.edges,
            fill=alpha < 1,
            color=colour,
            alpha=alpha,
            linewidth=1.5,
            label=f"{name} ({len(table):,} rows)",
        )


def _dots(axes: Axes, columns: list[Column], points: pd.DataFrame, colour: str) -> list[str]:
    """Draw rows as dots, smaller and fainter where there are many; return notes on what was done to them."""
    lattice = [column.integral and np.ptp(column.edges) <= FEW for column in columns]
    shown = points.to_numpy()[:POINTS]
    x, y = (shown + np.random.default_rng(0).uniform(-0.3, 0.3, shown.shape) * lattice).T
    weight = min(1, 20 / np.sqrt(len(shown)))
    axes.scatter(x, y, s=20 * weight, alpha=0.3 + 0.5 * weight, color=colour, linewidths=0)
    notes = [f"dots: the first {POINTS:,} rows"] if len(points) > POINTS else []
    return notes + ["dots of integers are spread by up to 0.3"] * any(lattice)


def _sides(columns: list[Column]) -> tuple[np.ndarray, np.ndarray]:
    """Return the lengths of two axes and the sides of their box: to scale, or equal if that were a sliver."""
    lengths = np.array([np.ptp(column.edges) for column in columns])
    return lengths, lengths if lengths.max() <= 4 * lengths.min() else np.ones(2)


def _finish(axes: Axes, columns: list[Column], *lines: str, ticks: int = 6) -> Axes:
    """Give axes their limits, names and ticks, two columns a box to scale, and a picture title and legend."""
    for column, axis, way in zip(columns, (axes.xaxis, axes.yaxis), "xy", strict=False):
        axes.set(**{f"{way}lim": column.edges[[0, -1]]})
        axis.set_major_locator(MaxNLocator(ticks, integer=column.integral, steps=[1, 2, 2.5, 5, 10]))
        axis.get_major_formatter().format_ticks([*axis.get_majorticklocs()])
        factor = axis.get_major_formatter().get_offset()  # like 1e6; matplotlib lets it overlap with names
        axis.get_offset_text().set_visible(False)
        name = fill(column.name, 6 * ticks, max_lines=2, placeholder="…")
        axis.set_label_text(f"{name}\n{'in ' * factor.startswith('1')}{factor}".strip(), parse_math=False)
    if len(columns) == 2:
        axes.set_box_aspect(1 / np.divide(*_sides(columns)[1]))
    legend = bool(lines and axes.get_legend_handles_labels()[0])
    if legend:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False, borderpad=0)
    axes.set_title("\n".join(lines), loc="left", fontsize=10, pad=24 if legend and len(lines) > 1 else 6)
    return axes


def errors_by_level(axes: Axes, ratios: Sequence[float], errors: Mapping[str, Sequence[float]], label: str) -> Axes:
    """Draw the error of several objectives against the noise level; logarithmic where all errors are positive."""
    styles = itertools.cycle(("-", "--", ":"))
    for k, (name, values) in enumerate(errors.items()):
        axes.plot(ratios, values, linestyle=next(styles), color=f"C{k % 10}", marker=".", label=name)
    positive = all(value > 0 for values in errors.values() for value in values)
    axes.set(xscale="log", yscale="log" if positive else "linear", xlabel="noise ratio s / a", ylabel=label)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return axes
