"""Pictures in one dimension: arrays and an Axes in, the Axes out."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scorefield.gallery.report import save_animation, save_figure

EXACT, SAMPLE = "0.35", "#0072B2"  # grey and the blue of Okabe and Ito (2008)
LEARNED = ["#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "black"]  # more of their colours

Curves = Mapping[str, np.ndarray]
"""Curves over one grid by their name in the legend; the first is the exact one."""


def panels(columns: int = 1, rows: int = 1, width: float = 6.0) -> tuple[Figure, list[Axes]]:
    """Return a figure with axes in rows and columns, row by row, each so many inches wide."""
    figure = Figure((width * columns, 3.8 * rows), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def draw_curves(axes: Axes, grid: np.ndarray, curves: Curves, title: str, ylabel: str) -> Axes:
    """Draw curves over a grid, the first, exact one grey and wide below the others."""
    exact, *others = curves.items()
    axes.plot(grid, exact[1], color=EXACT, linewidth=3, alpha=0.6, label=exact[0])
    for i, (name, curve) in enumerate(others):
        axes.plot(grid, curve, color=LEARNED[i % len(LEARNED)], label=name)
    axes.set(title=title, xlabel="x", ylabel=ylabel)
    axes.legend(fontsize=8, frameon=False)
    return axes


def draw_bars(axes: Axes, x: np.ndarray, bins: int, grid: np.ndarray, curves: Curves, title: str) -> Axes:
    """Draw the histogram of samples, as a density, and curves over it."""
    axes.hist(x, bins, density=True, color=SAMPLE, alpha=0.4, label=f"{len(x):,} samples")
    return draw_curves(axes, grid, curves, title, "density")


def draw_dots(axes: Axes, x: np.ndarray, grid: np.ndarray, curve: np.ndarray) -> Axes:
    """Draw a dot for each sample on a curve."""
    axes.plot(x, np.interp(x, grid, curve), ".", color=SAMPLE, markersize=3, label=f"{len(x):,} samples")
    return axes


def draw_paths(axes: Axes, times: np.ndarray, path: np.ndarray, title: str, xlabel: str) -> Axes:
    """Draw trajectories, (times, chains)."""
    axes.plot(times, path, color=SAMPLE, linewidth=0.4, alpha=0.35)
    axes.set(title=title, xlabel=xlabel, ylabel="x")
    return axes


def draw_losses(
    axes: Axes,
    runs: Sequence[Sequence[float]],
    title: str,
    floor: float,
    printed: Mapping[int, float],
    zero: float | None = None,
) -> Axes:
    """Draw the loss of the first run strong, of others faint, the numbers printed at steps as dots, floor and zero.

    floor: the loss of the exact score; zero: that of a network that returns 0. Where the floor is 0 the axis is
    logarithmic.
    """
    for i, run in enumerate(runs):
        label = {0: "first seed", 1: "other seeds"}.get(i)
        steps = range(1, len(run) + 1)
        axes.plot(steps, run, color=LEARNED[0] if i == 0 else "0.8", zorder=2 if i == 0 else 1, label=label, lw=0.8)
    if printed:
        axes.plot([*printed.keys()], [*printed.values()], ".", color="k", zorder=3, label="published")
    if zero is not None:
        axes.axhline(zero, color="0.5", linestyle=":", label=f"zero network, {zero:.4g}")
    if floor == 0:
        axes.set_yscale("log")
    else:
        axes.axhline(floor, color=SAMPLE, linestyle="--", label=f"exact scores, {floor:.5f}")
    axes.set(title=title, xlabel="step", ylabel="loss")
    axes.legend(fontsize=8, frameon=False)
    return axes


def animate(
    path: Path,
    grid: np.ndarray,
    exact: Curves,
    frames: Sequence[np.ndarray],
    titles: Sequence[str],
    fps: int,
    ylabel: str,
    ylim: tuple[float, float],
) -> None:
    """Write an animation of one curve, a frame each, over the exact one.

    A density, whose axis starts at zero, is filled.
    """
    figure, (axes,) = panels(width=5.0)
    draw_curves(axes, grid, {**exact, "learned": frames[0]}, titles[0], ylabel)
    axes.set_ylim(*ylim)
    line = axes.lines[-1]
    filled = axes.fill(grid, frames[0], color=LEARNED[0], alpha=0.25)[0] if ylim[0] == 0 else None

    def show(i: int) -> None:
        line.set_ydata(frames[i])
        axes.set_title(titles[i])
        if filled is not None:
            filled.set_xy(np.column_stack([[grid[0], *grid, grid[-1]], [0.0, *frames[i], 0.0]]))

    save_animation(figure, show, len(frames), fps, path)


def picture(path: Path, grid: np.ndarray, curves: Curves, title: str, ylabel: str) -> None:
    """Write a figure of curves alone."""
    figure, (axes,) = panels()
    draw_curves(axes, grid, curves, title, ylabel)
    save_figure(figure, path)
