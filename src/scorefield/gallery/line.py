"""Densities on a line: from a score to a density, loss floors, and networks of a point and a level."""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from scipy.integrate import simpson
from torch import Tensor, nn

from scorefield.diffusion.densities import GaussianMixture
from scorefield.inference.path_integral import integrate_score, normalise
from scorefield.numerics.tensors import unfilled

F64 = torch.float64


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
        layer = unfilled(nn.Linear, inputs, outputs)
        nn.init.xavier_uniform_(layer.weight, generator=generator)
        nn.init.zeros_(layer.bias)
        layers += [nn.ReLU(inplace=True), layer] if i else [layer]
    return nn.Sequential(*layers)


@torch.no_grad()
def values(net: nn.Module, grid: np.ndarray, level: float) -> np.ndarray:
    """Return what a network of (x, level) says on a grid, (n,)."""
    x = column(grid).float()
    return net(torch.cat([x, torch.full_like(x, level)], 1))[:, 0].double().numpy()
