"""Pictures in two dimensions: points, densities as images, scores as streams, and particles that move in them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from scorefield.gallery.curves import LEARNED, SAMPLE, panels
from scorefield.gallery.report import save_animation
from scorefield.types import Field

MESH, STREAMS = 81, 15
"""Points along each axis of an image and of a field of streams."""


def mesh(limit: float, count: int = MESH) -> tuple[np.ndarray, Tensor]:
    """Return so many points of the axis from -limit to limit, and the rows of their square, y outside, float64."""
    axis = torch.linspace(-limit, limit, count, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return axis.numpy(), torch.stack([x.flatten(), y.flatten()], 1)


def frame(axes: Axes, title: str, limit: float) -> Axes:
    """Give axes a title and the square from -limit to limit."""
    axes.set(title=title, xlabel="x1", ylabel="x2", xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    return axes


def draw_points(
    axes: Axes, x: Tensor, title: str, limit: float, colour: str = SAMPLE, marker: str = ".", size: float = 4.0
) -> Axes:
    """Draw a dot for each row of x."""
    axes.plot(*x.double().T.numpy(), marker, color=colour, markersize=size, markeredgewidth=0.6)
    return frame(axes, title, limit)


def draw_density(axes: Axes, log_density: np.ndarray, title: str, limit: float, top: float | None = None) -> Axes:
    """Draw exp of a log-density on the rows of a mesh as an image; top: the value of the darkest colour."""
    side = round(len(log_density) ** 0.5)
    image = np.exp(log_density).reshape(side, side)
    axes.imshow(
        image,
        origin="lower",
        extent=(-limit, limit, -limit, limit),
        cmap="Blues",
        vmin=0,
        vmax=top,
        interpolation="bilinear",
    )
    return frame(axes, title, limit)


@torch.no_grad()
def draw_streams(axes: Axes, score: Field, limit: float) -> None:
    """Draw the lines along which a score points uphill."""
    axis, rows = mesh(limit, STREAMS)
    x, y = score(rows).double().T.numpy().reshape(2, STREAMS, STREAMS)
    axes.streamplot(axis, axis, x, y, density=0.6, color="0.45", linewidth=0.6, arrowsize=0.7)


@torch.no_grad()
def draw_arrows(axes: Axes, score: Field, x: Tensor, scale: float, colour: str = "0.5") -> None:
    """Draw the score at rows x as arrows; scale: the score whose arrow is one unit of x long."""
    axes.quiver(
        *x.T.numpy(),
        *score(x).double().T.numpy(),
        angles="xy",
        scale_units="xy",
        scale=scale,
        color=colour,
        width=0.004,
    )


def animate_particles(
    path: Path, fields: Mapping[str, Field], states: Mapping[str, Sequence[Tensor]], every: int, limit: float, fps: int
) -> None:
    """Write particles that move in fixed fields, one field a panel, by its title; a frame for some of the states."""
    figure, places = panels(len(fields), width=4.2)
    dots = []
    for axes, (title, score) in zip(places, fields.items(), strict=True):
        draw_points(axes, states[title][0], title, limit)
        dots.append(axes.lines[-1])
        draw_streams(axes, score, limit)
    count = min(map(len, states.values()))

    def show(i: int) -> None:
        for line, axes, title in zip(dots, places, fields, strict=True):
            line.set_data(*states[title][every * i].double().T.numpy())
            axes.set_title(f"{title}, step {every * i}")

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
        draw_density(axes, log_densities[i] - log_densities[i].max(), "", limit, top=1.0)
        draw_streams(axes, scores[i], limit)
        draw_points(axes, states[i], f"t = {times[i]:.3f}", limit, LEARNED[0], size=2.0)

    save_animation(figure, show, len(states), fps, path)
