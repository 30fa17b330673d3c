"""Densities on a line: from a score to a density, distances, loss floors, and the pictures of score_sde."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.integrate import simpson
from torch import Tensor, nn

from scorefield.densities import GaussianMixture
from scorefield.gallery.report import save_animation, save_figure
from scorefield.recovery import integrate_score, normalise

F64 = torch.float64
EXACT, LEARNED, ROWS = "black", "#D55E00", "#0072B2"
Curves = dict[str, np.ndarray]
"""Curves over one grid, by their name in the legend."""


def mixture(weights: Sequence[float], means: Sequence[float], stds: Sequence[float]) -> GaussianMixture:
    """Return a mixture of Gaussians on the line, in float64."""
    variances = torch.tensor(stds, dtype=F64).square()
    return GaussianMixture(
        torch.tensor(weights, dtype=F64), torch.tensor(means, dtype=F64)[:, None], variances[:, None, None]
    )


def column(grid: np.ndarray) -> Tensor:
    """Return the points of a grid as rows, (n, 1)."""
    return torch.from_numpy(grid)[:, None]


def pdf(density: GaussianMixture, grid: np.ndarray) -> np.ndarray:
    """Return a density on a grid, (n,)."""
    return density.log_prob(column(grid)).exp().numpy()


def noise_floor(density: GaussianMixture, ratios: Tensor) -> np.ndarray:
    """Return 1 - s^2 E |score|^2 of data + s z at each s: E (s score(x) + z)^2 of the exact score, by quadrature.

    It is what no network can go below, (k,); half of it where the loss has a factor 1/2.
    """
    grid = np.linspace(-20, 20, 8001)
    found = []
    for s in ratios.tolist():
        noised = density.noised(1.0, s)
        square = noised.score(column(grid))[:, 0].square().numpy()
        found.append(1 - s**2 * float(simpson(pdf(noised, grid) * square, x=grid)))
    return np.array(found)


def mass_below(place: float, density: np.ndarray, grid: np.ndarray) -> float:
    """Return the share of a density on a grid that lies below a place."""
    return float(np.trapezoid(density * (grid < place), grid) / np.trapezoid(density, grid))


def summed(score: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Return the density that the tutorials recover from a score: the exponential of its inclusive cumulative sum.

    The sum is half a cell ahead of the integral: with the exact score the total variation is 0.02.
    """
    dx = grid[1] - grid[0]
    log_density = np.cumsum(score) * dx
    density = np.exp(log_density - log_density.max())
    return density / (density.sum() * dx)


def integrated(score: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Return the density of a score by cumulative Simpson, error h^4, normalised on the grid."""
    return np.exp(normalise(integrate_score(grid, score), grid))


def dense(*sizes: int, generator: torch.Generator) -> nn.Sequential:
    """Return dense layers with ReLU between them, weights uniform by Glorot, biases zero: the network of the page."""
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
        nn.init.xavier_uniform_(layer.weight, generator=generator)
        nn.init.zeros_(layer.bias)
        layers += [nn.ReLU(inplace=True), layer] if i else [layer]
    return nn.Sequential(*layers)


@torch.no_grad()
def values(net: nn.Module, grid: np.ndarray, level: float) -> np.ndarray:
    """Return what a network of (x, level) says on a grid, (n,)."""
    x = column(grid).float()
    return net(torch.cat([x, torch.full_like(x, level)], 1))[:, 0].double().numpy()


def panels(columns: int, width: float = 5.0) -> tuple[Figure, list[Axes]]:
    """Return a figure with so many axes beside one another."""
    figure = Figure((width * columns, 3.6), layout="constrained")
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def draw(axes: Axes, grid: np.ndarray, curves: Curves, title: str, ylabel: str, color: str | None = None) -> Axes:
    """Draw curves; one called 'exact' is black and below the others."""
    for name, curve in curves.items():
        if name.startswith("exact"):
            axes.plot(grid, curve, color=EXACT, linewidth=2.5, alpha=0.5, label=name)
        else:
            axes.plot(grid, curve, color=color, label=name)
    axes.set(title=title, xlabel="x", ylabel=ylabel)
    axes.legend(fontsize=8)
    return axes


def draw_bars(axes: Axes, x: Tensor, bins: int, grid: np.ndarray, curves: Curves, title: str) -> Axes:
    """Draw the histogram of samples, as a density, and curves over it."""
    axes.hist(x.flatten().numpy(), bins, density=True, color=ROWS, alpha=0.4, label=f"{len(x):,} samples")
    return draw(axes, grid, curves, title, "density")


def draw_paths(axes: Axes, times: np.ndarray, path: Tensor, title: str, xlabel: str) -> Axes:
    """Draw trajectories, (times, chains)."""
    axes.plot(times, path.numpy(), color=ROWS, linewidth=0.4, alpha=0.35)
    axes.set(title=title, xlabel=xlabel, ylabel="x")
    return axes


def animate(
    path: Path,
    grid: np.ndarray,
    truth: Curves,
    frames: Sequence[np.ndarray],
    titles: Sequence[str],
    fps: int,
    **box: object,
) -> None:
    """Write an animation of one curve, a frame each, over fixed ones; box: the limits and names of the axes.

    A density, whose axis starts at zero, is filled.
    """
    figure, (axes,) = panels(1)
    for name, curve in truth.items():
        axes.plot(grid, curve, color=EXACT, alpha=0.5, linewidth=2.5, label=name)
    (line,) = axes.plot(grid, frames[0], color=LEARNED, label="learned")
    axes.set(xlabel="x", **box)
    filled = axes.fill(grid, frames[0], color=LEARNED, alpha=0.25)[0] if axes.get_ylim()[0] == 0 else None
    axes.legend(loc="upper right", fontsize=8)
    axes.set_title(titles[0])

    def show(i: int) -> None:
        line.set_ydata(frames[i])
        axes.set_title(titles[i])
        if filled is not None:
            filled.set_xy(np.column_stack([[grid[0], *grid, grid[-1]], [0.0, *frames[i], 0.0]]))

    save_animation(figure, show, len(frames), fps, path)


def picture(path: Path, grid: np.ndarray, curves: Curves, title: str, ylabel: str) -> None:
    """Write a figure of curves alone."""
    figure, (axes,) = panels(1, 6.0)
    draw(axes, grid, curves, title, ylabel)
    save_figure(figure, path)
