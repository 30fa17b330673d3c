"""Pictures in two dimensions: points, densities, scores as arrows or streams, and particles that move in them.

All show the square from -limit to limit.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from scorefield.gallery.drawing.curves import LEARNED, SAMPLE
from scorefield.gallery.report import save_animation
from scorefield.numerics.shapes import Field

MESH, STREAMS = 81, 25
"""Points along each side of an image, and of a field of streams."""


def mesh(limit: float, count: int = MESH) -> tuple[np.ndarray, Tensor]:
    """Return so many points of the axis from -limit to limit, and the rows of their square, y outside, float64."""
    axis = torch.linspace(-limit, limit, count, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return axis.numpy(), torch.stack([x.flatten(), y.flatten()], 1)


def panels(columns: int = 1, rows: int = 1, width: float = 4.0) -> tuple[Figure, list[Axes]]:
    """Return a figure with square axes in rows and columns, row by row, each so many inches wide."""
    figure = Figure((width * columns, (width + 0.2) * rows), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def frame(axes: Axes, title: str, limit: float) -> Axes:
    """Give axes a title and the square from -limit to limit, to scale."""
    axes.set(xlabel="x1", ylabel="x2", xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    axes.set_title(title, fontsize=10)
    return axes


def draw_points(
    axes: Axes, x: Tensor, colours: np.ndarray | str = SAMPLE, size: float = 4.0, marker: str = "o"
) -> Axes:
    """Draw a dot for each row of x; size: its area in square points."""
    stroke = 0.6 if marker == "x" else 0.0
    first, second = x.double().T.numpy()
    axes.scatter(first, second, s=size, c=colours, marker=marker, linewidths=stroke, zorder=3)
    return axes


def draw_density(axes: Axes, log_density: np.ndarray, limit: float, top: float | None = None) -> Axes:
    """Draw exp of a log-density on the rows of a mesh as an image; top: the value of the darkest colour."""
    side = round(len(log_density) ** 0.5)
    square, extent = np.exp(log_density).reshape(side, side), (-limit, limit, -limit, limit)
    axes.imshow(square, origin="lower", extent=extent, cmap="Blues", vmin=0, vmax=top, interpolation="bilinear")
    return axes


def draw_contours(axes: Axes, density: Field, limit: float, levels: int = 10) -> Axes:
    """Draw contours of a density, a function of points (n, 2), in black."""
    side, rows = mesh(limit)
    values = density(rows).reshape(MESH, MESH).numpy()
    axes.contour(side, side, values, levels, colors="black", linewidths=0.6, alpha=0.6)
    return axes


@torch.no_grad()
def draw_streams(axes: Axes, score: Field, limit: float) -> Axes:
    """Draw the lines along which a score points uphill."""
    axis, rows = mesh(limit, STREAMS)
    x, y = score(rows).double().T.numpy().reshape(2, STREAMS, STREAMS)
    axes.streamplot(axis, axis, x, y, density=0.8, color="0.5", linewidth=0.6, arrowsize=0.7)
    return axes


@torch.no_grad()
def draw_arrows(axes: Axes, score: Field, x: Tensor, scale: float, colour: str = "0.15") -> Axes:
    """Draw the score at rows x as arrows; scale: the score whose arrow is one unit of x long."""
    way = score(x).double().T.numpy()
    axes.quiver(*x.T.numpy(), *way, angles="xy", scale_units="xy", scale=scale, color=colour, width=0.004)
    return axes


def angle_colours(x: Tensor) -> np.ndarray:
    """Return a colour for the angle of each point, (n, 3): red along the first axis, then green, then blue."""
    hue = np.arctan2(x[:, 1].numpy(), x[:, 0].numpy()) / (2 * np.pi) % 1
    return hsv_to_rgb(np.column_stack([hue, np.ones_like(hue), np.full_like(hue, 0.9)]))


def animate_particles(
    path: Path, fields: Mapping[str, Field], states: Mapping[str, Sequence[Tensor]], every: int, limit: float, fps: int
) -> None:
    """Write particles that move in fixed fields, one field a panel, by its title; a frame for some of the states."""
    figure, places = panels(len(fields), width=4.5)
    for axes, (title, score) in zip(places, fields.items(), strict=True):
        draw_streams(axes, score, limit)
        draw_points(frame(axes, title, limit), states[title][0])
    dots = [axes.collections[-1] for axes in places]
    count = min(map(len, states.values()))

    def show(i: int) -> None:
        for cloud, axes, title in zip(dots, places, fields, strict=True):
            cloud.set_offsets(states[title][every * i].double().numpy())
            axes.set_title(f"{title}, step {every * i}", fontsize=10)

    save_animation(figure, show, -(-count // every), fps, path)


def animate_walk(
    path: Path,
    states: Sequence[Tensor],
    times: Sequence[float],
    scores: Sequence[Field],
    log_densities: Sequence[np.ndarray],
    limit: float,
    fps: int,
) -> None:
    """Write particles on their way through time: a frame each state, over the score and the density of that time.

    log_densities: on the rows of mesh(limit), up to a constant; each image is as dark as its highest point.
    """
    figure, (axes,) = panels(width=4.6)

    def show(i: int) -> None:
        axes.clear()
        draw_density(axes, log_densities[i] - log_densities[i].max(), limit, top=1.0)
        draw_streams(axes, scores[i], limit)
        draw_points(frame(axes, f"t = {times[i]:.3f}", limit), states[i], LEARNED[0])

    save_animation(figure, show, len(states), fps, path)
