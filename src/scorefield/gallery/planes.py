"""Pictures in two dimensions: contours of a density, arrows and streams of a score, particles."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from scorefield.gallery.curves import SAMPLE
from scorefield.gallery.report import save_animation
from scorefield.types import Field


def mesh(low: float, high: float, count: int) -> Tensor:
    """Return the points of a square grid with so many a side, (count^2, 2), float64, the second coordinate fastest."""
    side = torch.linspace(low, high, count, dtype=torch.float64)
    return torch.cartesian_prod(side, side)


def panels(columns: int = 1, rows: int = 1, width: float = 4.0) -> tuple[Figure, list[Axes]]:
    """Return a figure with square axes in rows and columns, row by row, each so many inches wide."""
    figure = Figure((width * columns, (width + 0.2) * rows), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def finish(axes: Axes, low: float, high: float, title: str) -> Axes:
    """Give axes a title and the square from low to high, to scale."""
    axes.set(title=title, xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.title.set_fontsize(10)
    return axes


def draw_contours(axes: Axes, density: Field, low: float, high: float, levels: int = 10) -> Axes:
    """Draw contours of a density, a function of points (n, 2), in black."""
    side = np.linspace(low, high, 80)
    values = density(mesh(low, high, 80)).reshape(80, 80).mT.numpy()
    axes.contour(side, side, values, levels, colors="black", linewidths=0.6, alpha=0.6)
    return axes


def draw_arrows(axes: Axes, score: Field, low: float, high: float, count: int, scale: float, width: float) -> Axes:
    """Draw a score as count^2 arrows; scale: the score whose arrow is as long as the axes; width: of the axes too."""
    points = mesh(low, high, count)
    with torch.no_grad():
        arrows = score(points)
    axes.quiver(*points.T.numpy(), *arrows.T.numpy(), scale=scale, width=width, color="0.15")
    return axes


def draw_streams(axes: Axes, score: Field, low: float, high: float, count: int = 40) -> Axes:
    """Draw the lines along which a score points."""
    with torch.no_grad():
        u, v = score(mesh(low, high, count)).reshape(count, count, 2).permute(2, 1, 0).numpy()
    side = np.linspace(low, high, count)
    axes.streamplot(side, side, u, v, density=1.1, color="0.6", linewidth=0.5, arrowsize=0.6)
    return axes


def draw_particles(axes: Axes, x: Tensor, colours: np.ndarray | str = SAMPLE, size: float = 4.0) -> Axes:
    """Draw points (n, 2) as dots."""
    axes.scatter(x[:, 0].numpy(), x[:, 1].numpy(), s=size, c=colours, linewidths=0)
    return axes


def angle_colours(x: Tensor) -> np.ndarray:
    """Return a colour for the angle of each point, (n, 3): red along the first axis, then green, then blue."""
    hue = np.arctan2(x[:, 1].numpy(), x[:, 0].numpy()) / (2 * np.pi) % 1
    return hsv_to_rgb(np.column_stack([hue, np.ones_like(hue), np.full_like(hue, 0.9)]))


def animate(
    path: Path, score: Field, states: Sequence[Tensor], titles: Sequence[str], fps: int, low: float, high: float
) -> None:
    """Write an animation of particles, the state of each frame, over the streams of a score."""
    figure, (axes,) = panels(width=4.5)
    draw_streams(axes, score, low, high)
    dots = axes.scatter(states[0][:, 0].numpy(), states[0][:, 1].numpy(), s=5, color=SAMPLE, linewidths=0, zorder=3)
    finish(axes, low, high, titles[0])

    def show(i: int) -> None:
        dots.set_offsets(states[i].numpy())
        axes.set_title(titles[i])

    save_animation(figure, show, len(states), fps, path)
