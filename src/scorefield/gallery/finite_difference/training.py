"""What tutorial 001 is made of: the target 0.1 N(-3, 1) + 0.9 N(3, 1), losses, a network, training, recovery."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor, nn

from scorefield.diffusion.densities import GaussianMixture
from scorefield.gallery import line
from scorefield.gallery.networks import descend
from scorefield.numerics.shapes import Field
from scorefield.numerics.tensors import unfilled
from scorefield.training.objectives.losses import explicit, implicit

F64 = torch.float64
TARGET = GaussianMixture.isotropic(torch.tensor([0.1, 0.9], dtype=F64), torch.tensor([[-3.0], [3.0]], dtype=F64), 1.0)
GRID = torch.linspace(-10, 10, 200, dtype=F64)[:, None]
PDF, SCORE = TARGET.log_prob(GRID).exp(), TARGET.score(GRID)
DX = 20 / 199

STEPS = 500
EVERY = 4
"""Steps of a training, and between two scores that are kept of it."""

Loss = Callable[[Field], Tensor]
"""A score, such as a network, to one number."""


def esm(score: Field) -> Tensor:
    """Return a's loss, the grid's mean of pdf (score - truth)^2: the Fisher divergence in nats over 100 dx = 10.05."""
    return 2 * (PDF * explicit(score, GRID, lambda x: SCORE)).mean()


def plain(score: Field) -> Tensor:
    """Return b's loss, the grid's mean of (score - truth)^2."""
    return 2 * explicit(score, GRID, lambda x: SCORE).mean()


def fdsm(score: Field) -> Tensor:
    """Return c's loss, the grid's mean of pdf (score' + score^2 / 2) by differences: nats over 200 dx = 20.1."""
    return (PDF * implicit(score, GRID, step=0.05)).mean()


def empirical(sample: Tensor, step: float | None = None, curvature: float = 0.0) -> Loss:
    """Return d's loss in nats, the sample's mean of score' + score^2 / 2 by differences of half its mean gap."""
    step = step or float(sample.max() - sample.min()) / (2 * len(sample))
    return lambda score: implicit(score, sample, step=step, curvature=curvature).mean()


def network(generator: Generator) -> nn.Sequential:
    """Return the network 1 - 8 - 1 with 25 parameters: Glorot's uniform weights, no biases at the start."""
    layers = [unfilled(nn.Linear, *sizes, dtype=F64) for sizes in ((1, 8), (8, 1))]
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight, generator=generator)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1])


@dataclass(frozen=True)
class Trained:
    """The loss before each step, the score on the grid after every EVERY steps from 0 on, which of these is kept."""

    losses: list[float]
    scores: np.ndarray
    kept: int

    @property
    def score(self) -> np.ndarray:
        """The score that is kept, on the grid."""
        return self.scores[self.kept]


def train(
    start: nn.Module, loss: Loss, steps: int, *, warm_up: Loss | None = None, held_out: Loss | None = None
) -> Trained:
    """Train a copy of a network by Adam, full batch.

    warm_up: another loss for as many steps before. held_out: a loss that chooses the score to keep, else the last.
    """
    net = copy.deepcopy(start)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.03, fused=True)
    if warm_up:
        for _ in range(steps):
            descend(optimiser, warm_up(net))
    losses, scores, tests = [], [], []
    for step in range(steps + 1):
        if step % EVERY == 0:
            with torch.no_grad():
                scores.append(net(GRID)[:, 0].numpy())
                tests.append(float(held_out(net)) if held_out else -step)
        if step < steps:
            losses.append(descend(optimiser, loss(net)))
    return Trained(losses, np.stack(scores), int(np.argmin(tests)))


def by_sum(score: np.ndarray) -> np.ndarray:
    """Return the density of a score on the grid as the tutorial does: exp of its sum, shifted by half a cell."""
    return line.summed(score, GRID[:, 0].numpy())


def by_simpson(score: np.ndarray) -> np.ndarray:
    """Return the density of a score on the grid: exp of its integral by Simpson's rule."""
    return line.integrated(score, GRID[:, 0].numpy())


def fisher(score: np.ndarray) -> float:
    """Return the Fisher divergence E (score - truth)^2 / 2 of a score on the grid, in nats."""
    return float((PDF.numpy() * (score - SCORE[:, 0].numpy()) ** 2).sum() / 2 * DX)


def total_variation(density: np.ndarray) -> float:
    """Return the total variation between a density on the grid and the target, from 0 to 1."""
    return float(np.abs(density - PDF.numpy()).sum() / 2 * DX)


def left_mass(density: np.ndarray) -> float:
    """Return the mass of a density on the grid left of the valley between the modes, at -0.4123; the true one: 0.1."""
    return float(density[GRID[:, 0].numpy() < -0.4123078].sum() * DX)


@dataclass(frozen=True)
class Study:
    """The two samples of a seed and its trainings by name."""

    sample: Tensor
    few: Tensor
    trained: dict[str, Trained]

    def floor(self, letter: str) -> float:
        """Return the loss of the true score: 0 of a and b; of d, e and f it depends on the sample."""
        losses = {"c": fdsm, "d": empirical(self.sample), "e": empirical(self.sample), "f": empirical(self.few)}
        return float(losses[letter](TARGET.score)) if letter in losses else 0.0
