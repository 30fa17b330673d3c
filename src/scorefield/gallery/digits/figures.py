"""Pictures of tutorial 003: grids of digits, its figure 3, and the curves of its losses."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from scorefield.gallery.drawing.curves import EXACT, LEARNED
from scorefield.gallery.report import save_figure

SIDE, SHOWN = 8, 4
"""Pixels along an image, and images along a grid."""

PRINTED = {0: 324.45, 25: 306.8, 50: 285.2, 75: 272.3, 100: 249.1, 125: 236.2, 150: 231.3, 175: 230.4, 200: 231.9}
"""The published validation loss by epoch, read off its figure."""

BEST = {189: 223.34}
"""The published best network's epoch and loss."""


def draw_grid(axes: Axes, x: Tensor, title: str) -> Axes:
    """Draw the first 16 images of x (n, 64) in four rows, -1 black and 1 white."""
    tiles = x[: SHOWN**2].reshape(SHOWN, SHOWN, SIDE, SIDE).transpose(1, 2).reshape(SHOWN * SIDE, SHOWN * SIDE)
    axes.imshow(tiles.numpy(), cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
    for k in range(1, SHOWN):
        for line in axes.axhline, axes.axvline:
            line(k * SIDE - 0.5, color="0.45", linewidth=0.6)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=10)
    return axes


def draw_grids(path: Path, grids: Mapping[str, Tensor], columns: int = 4) -> None:
    """Write several grids of 16 images by their titles."""
    rows = -(-len(grids) // columns)
    figure = Figure((2.8 * columns, 3.1 * rows), layout="constrained")
    every = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, (title, x) in zip(every, grids.items(), strict=False):
        draw_grid(axes, x, title)
    for axes in every[len(grids) :]:
        axes.set_axis_off()
    save_figure(figure, path)


def draw_figure_3(path: Path, real: Tensor, generated: Tensor, runs: Sequence[Sequence[float]]) -> None:
    """Write the tutorial's figure 3: real digits, generated ones, and the validation loss with the published points."""
    figure = Figure((12.6, 3.9), layout="constrained")
    first, second, third = figure.subplots(1, 3, width_ratios=(1, 1, 1.5))
    draw_grid(first, real, "A: real")
    draw_grid(second, generated, "B: generated, as published")
    draw_validation(third, runs, "C: validation loss, new noise each epoch")
    save_figure(figure, path)


def draw_validation(axes: Axes, runs: Sequence[Sequence[float]], title: str) -> Axes:
    """Draw the published loss over the epochs of each seed, the published points and best, and a zero network."""
    for i, run in enumerate(runs):
        label = {0: "first seed", 1: "other seeds"}.get(i)
        axes.plot(run, color=LEARNED[0] if i == 0 else "0.8", zorder=2 if i == 0 else 1, linewidth=0.9, label=label)
    axes.plot([*PRINTED], [*PRINTED.values()], "o", color="k", markersize=4, zorder=3, label="published")
    axes.plot([*BEST], [*BEST.values()], "*", color="k", markersize=9, zorder=3, label="published best")
    axes.axhline(320, color="0.5", linestyle=":", label="zero network, 320")
    return finish(axes, title)


def draw_curves(axes: Axes, curves: Mapping[str, Sequence[float]], title: str) -> Axes:
    """Draw losses over their epochs, by name, and a dot at the smallest of each."""
    for (name, curve), colour in zip(curves.items(), LEARNED, strict=False):
        best = min(range(len(curve)), key=curve.__getitem__)
        axes.plot(curve, color=colour, linewidth=0.9, label=name)
        axes.plot([best], [curve[best]], "o", color=colour, markersize=5, markeredgecolor=EXACT)
    return finish(axes, title)


def finish(axes: Axes, title: str) -> Axes:
    """Name the axes of a loss over epochs."""
    axes.set(xlabel="epoch", ylabel="loss")
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8, frameon=False)
    return axes
