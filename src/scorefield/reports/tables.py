"""Pictures of data, samples, densities and scores: tables and an Axes in, the Axes out."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure, SubFigure

from scorefield.reports.figures import DATA, DEPTH, FEW, SAMPLES, Column, Table, described, finish, outside, sides_of

PointFunction: TypeAlias = Callable[[np.ndarray], np.ndarray]  # (n, d) -> log-density (n,) or score (n, d)
POINTS = 5_000  # more dots only hide one another


def histogram(axes: Axes, data: Table, samples: Table, log_density: PointFunction) -> Axes:
    """Draw one column: the density curve over histograms of data and samples, with areas that are shares."""
    columns, (data, samples) = described(data, samples, exactly=1)
    _bars(axes, columns[0], data, samples)
    (grid,), values = _evaluate(log_density, columns, ())
    axes.plot(grid, np.exp(values), "k", label="learned density")
    axes.set_ylabel("density")
    return finish(axes, columns, "Data and samples", *outside(columns, data=data, samples=samples))


def log_density_curve(axes: Axes, data: Table, log_density: PointFunction) -> Axes:
    """Draw the log-density of one column over the range of the data, at most 32 nats deep."""
    columns, _ = described(data, exactly=1)
    (grid,), values = _evaluate(log_density, columns, ())
    axes.plot(grid, values, "k")
    floor = max(np.nanmax(values) - DEPTH, axes.get_ylim()[0])
    axes.set(ylabel="log-density (nats)", ylim=(floor, None))
    return finish(axes, columns, f"Learned log-density (at most {DEPTH} nats deep)")


def score_curve(axes: Axes, data: Table, score: PointFunction) -> Axes:
    """Draw the score of one column over the range of the data."""
    columns, _ = described(data, exactly=1)
    (grid,), values = _evaluate(score, columns, (1,))
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.plot(grid, values, "k")
    axes.set_ylabel("score (nats per unit)")
    return finish(axes, columns, "Learned score: the slope of the log-density")


def scatter(axes: Axes, points: Table, data: Table, title: str = "Data", colour: str = DATA) -> Axes:
    """Draw the first 5,000 rows of points, a table of two columns, as dots within the range of the data."""
    columns, (_, points) = described(data, points, exactly=2)
    notes = [*_dots(axes, columns, points, colour), *outside(columns, rows=points)]
    return finish(axes, columns, f"{title} ({len(points):,} rows)", *notes)


def density_map(axes: Axes, data: Table, log_density: PointFunction) -> Axes:
    """Draw the density of two columns as an image with a colour bar, over the range of the data."""
    columns, _ = described(data, exactly=2)
    grids, values = _evaluate(log_density, columns, ())
    image = axes.pcolormesh(*grids, np.exp(values), shading="gouraud", cmap="viridis", vmin=0)
    axes.figure.colorbar(image, cax=axes.inset_axes((1.03, 0, 0.04, 1)), label="density")
    return finish(axes, columns, "Learned density")


def score_field(axes: Axes, data: Table, log_density: PointFunction, score: PointFunction) -> Axes:
    """Draw the score of two columns as arrows over contours of the log-density.

    An arrow fills r / (1 + r) of its room, r its length over the lower quartile of lengths, so that those far
    out do not swamp the others; colours tell the true length. Where the axes are too different for a common
    scale, the score is per length of an axis: arrows still point straight uphill on the page.
    """
    columns, _ = described(data, exactly=2)
    grids, values = _evaluate(log_density, columns, ())
    levels = np.nanmax(values) - np.array([*(DEPTH / 2**k for k in range(6)), -1.0])
    axes.contourf(*grids, values, levels, colors=[str(grey) for grey in np.linspace(0.95, 0.7, 6)])
    lengths, sides = sides_of(columns)
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
    return finish(axes, columns, "Learned score: arrows point uphill", *notes)


def marginals(figure: Figure | SubFigure, data: Table, samples: Table) -> list[Axes]:
    """Draw every column, data against samples, as small histograms: at most 16, constant columns last."""
    columns, (real, made) = described(data, samples, most=16)
    rows, across = -(-len(columns) // 4), min(4, len(columns))
    panels = [figure.add_subplot(rows, across, j + 1) for j in range(len(columns))]
    for j, axes in enumerate(panels):
        _bars(axes, columns[j], real.iloc[:, [j]], made.iloc[:, [j]])
        finish(axes, [columns[j]], ticks=4).set_yticks([])
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower right", ncols=2, frameon=False)
    first = f"One by one: {len(columns)} columns, {data.shape[1] - len(columns)} left out"
    lines = [first, *outside(columns, data=real, samples=made)]
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=10)
    return panels


def pair_plot(figure: Figure | SubFigure, data: Table, samples: Table) -> np.ndarray:
    """Draw at most 5 columns in pairs: data below the diagonal, samples above, histograms of both on it."""
    columns, (real, made) = described(data, samples, most=5)
    panels, notes = figure.subplots(len(columns), len(columns), squeeze=False), set()
    for (i, j), axes in np.ndenumerate(panels):
        if i == j:
            _bars(axes, columns[i], real.iloc[:, [i]], made.iloc[:, [i]])
            finish(axes, [columns[i]], ticks=3).set_yticks([])
        else:
            table, colour = (real, DATA) if i > j else (made, SAMPLES)
            notes |= {*_dots(axes, [columns[j], columns[i]], table.iloc[:, [j, i]], colour)}
            finish(axes, [columns[j], columns[i]], ticks=3).set_box_aspect(None)
        if i < j == len(columns) - 1:
            axes.yaxis.set(ticks_position="right", label_position="right")
        axes.label_outer()
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_offset_text().set_visible(False)  # which label_outer shows again
    first = f"In pairs: {len(columns)} columns, {data.shape[1] - len(columns)} left out"
    lines = [first, "below the diagonal data, above it samples", *sorted(notes)]
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=10)
    return panels


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
