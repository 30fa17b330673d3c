"""What tutorial 004 is made of: its mixture, its losses and what they can tell, its networks, its rule for clusters.

The target is half N((0, 0), I), half N((3, 2), 0.5^2 I). The loss of the page at the level s,
E |score(x + s z) + z / s|^2, is 2 / s^2 less E |true score|^2 where the score is true, and 2 / s^2 where it is zero.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from scorefield.diffusion.densities import GaussianMixture
from scorefield.gallery.networks import dense, descend, shuffled
from scorefield.numerics.shapes import Field
from scorefield.numerics.tensors import normal_like, spawn
from scorefield.training.objectives.losses import explicit

F64 = torch.float64
MEANS, STDS = torch.tensor([[0.0, 0.0], [3.0, 2.0]], dtype=F64), torch.tensor([1.0, 0.5], dtype=F64)
TARGET = GaussianMixture(torch.ones(2, dtype=F64), MEANS, STDS.square()[:, None, None] * torch.eye(2, dtype=F64))
ROWS, BATCH = 10_000, 128

SINGLE, LEVELS = 0.1, (4.0, 2.0, 1.0, 0.5, 0.2, 0.01)
"""The noise of the first part of the page, and the levels of the second."""


@dataclass(frozen=True)
class Trained:
    """A network and the mean loss of each of its epochs."""

    net: nn.Sequential
    losses: list[float]

    def at(self, level: float) -> Field:
        """Return the score at a level of noise, in the type of the points; a network of x alone knows one only."""

        def score(x: Tensor) -> Tensor:
            return _answer(self.net, x.float(), torch.full_like(x[:, :1], level).float()).to(x)

        return score


def train(seed: int, levels: Sequence[float], epochs: int, *, power: int = 0, rows: int = ROWS) -> Trained:
    """Train the page's network by Adam on every pair of a row and a level, with fresh noise at each visit.

    The loss is `loss` with the weight s^power: 0 on the page. With one level the network does not see it.
    """
    clean, noise, order = TARGET.sample(rows, spawn(seed, "rows")).float(), spawn(seed, "noise"), spawn(seed, "order")
    net = dense(2 + (len(levels) > 1), 128, 128, 128, 2, activations=nn.SiLU(), generator=spawn(seed, "init"))
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    s, count, losses = torch.tensor(levels)[:, None], len(levels), []
    for _ in range(epochs):
        batches = []
        for pick in shuffled(rows * count, BATCH, order):
            batches.append(descend(optimiser, loss(net, clean[pick // count], s[pick % count], noise, power)))
        losses.append(sum(batches) / len(batches))
    return Trained(net, losses)


def loss(net: nn.Sequential, clean: Tensor, s: Tensor, generator: Generator, power: int = 0) -> Tensor:
    """Return the mean of s^power |score(x + s z) + z / s|^2 over rows (n, 2) at levels s (n, 1)."""
    z = normal_like(clean, generator)
    squares = 2 * explicit(lambda x: _answer(net, x, s), clean + s * z, lambda x: -z / s)
    return (s[:, 0] ** power * squares).mean()


def _answer(net: nn.Sequential, x: Tensor, s: Tensor) -> Tensor:
    return net(x if net[0].in_features == 2 else torch.cat([x, s], 1))


class Nodes(NamedTuple):
    """Points (n, 2) and weights (n,) whose sums are expectations."""

    points: Tensor
    weights: Tensor


def nodes(density: GaussianMixture, count: int = 160) -> Nodes:
    """Return count^2 midpoints of a box that reaches 9 standard deviations of the widest component beyond all means.

    For smooth functions their error falls exponentially: the cells are a quarter of the narrowest component.
    """
    reach = 9 * float(density.covariances.amax()) ** 0.5
    low, high = density.means.amin(0) - reach, density.means.amax(0) + reach
    side = (torch.arange(count, dtype=F64) + 0.5) / count
    points = low + (high - low) * torch.cartesian_prod(side, side)
    weights = density.log_prob(points).exp()
    return Nodes(points, weights / weights.sum())


def energy(density: GaussianMixture) -> float:
    """Return E |score|^2, by quadrature."""
    points, weights = nodes(density)
    return float(weights @ density.score(points).square().sum(1))


def floor(levels: Sequence[float], power: int = 0) -> float:
    """Return the mean over levels of s^power (2 / s^2 - E |score|^2), the loss of the true score."""
    return sum(s**power * (2 / s**2 - energy(TARGET.noised(1.0, s))) for s in levels) / len(levels)


def zero(levels: Sequence[float], power: int = 0) -> float:
    """Return the mean over levels of s^power 2 / s^2, the loss of a network that answers 0."""
    return sum(2 * s ** (power - 2) for s in levels) / len(levels)


def relative_error(score: Field, level: float) -> float:
    """Return E |score - truth|^2 / E |truth|^2 over the data noised by a level: 1 for a zero network."""
    noised = TARGET.noised(1.0, level)
    points, weights = nodes(noised)
    truth = noised.score(points)
    with torch.no_grad():
        error = score(points) - truth
    return float(weights @ error.square().sum(1) / (weights @ truth.square().sum(1)))


def is_right(x: Tensor) -> Tensor:
    """Return which points are nearer to the right component, distances in its and the other's standard deviations."""
    standardised = torch.cdist(x, MEANS.to(x)) / STDS.to(x)
    return standardised[:, 1] < standardised[:, 0]


class Clusters(NamedTuple):
    """The share of the right cluster, and the standard deviations within the right and the left."""

    mass: float
    right: float
    left: float


def clusters(x: Tensor, weights: Tensor | None = None) -> Clusters:
    """Return share and spreads of the clusters of points by `is_right`; a spread is the root mean over columns."""
    weights = torch.ones_like(x[:, 0]) if weights is None else weights
    right = is_right(x)
    spreads = []
    for part in right, ~right:
        w = weights * part / (weights * part).sum()
        spreads.append(float((w @ (x - w @ x).square()).mean().sqrt()))
    return Clusters(float(weights @ right.to(weights) / weights.sum()), *spreads)


@functools.cache
def exact_clusters() -> Clusters:
    """Return the share and the spreads that the target itself has by this rule, by quadrature: an error of 1e-5."""
    return clusters(*nodes(TARGET, 1500))
