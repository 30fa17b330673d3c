"""The exact model of a mixture in two dimensions, fast enough for millions of samples."""

import torch
from torch import Tensor

from scorefield.diffusion.denoisers import ExactDenoiser
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.process import Process
from scorefield.numerics.shapes import Samples
from scorefield.selftest.cases import F64

BLOCK = 10_000
"""Rows that walk together: they stay in the processor's cache."""


class Oracle(ExactDenoiser):
    """The exact model of a mixture in two dimensions at one time, written a second time and fast.

    The log-density of a component is a quadratic in x, so all of them are one product of 6 features and a matrix.
    """

    def __init__(self, density: GaussianMixture, process: Process) -> None:
        super().__init__(density, process)
        self.known: dict[float, tuple[Tensor, ...]] = {}

    def decompose(self, x: Samples, t: Tensor) -> tuple[Samples, Samples]:
        a, s, quadratic, linear = self.numbers(t)
        first, second = x.unbind(1)
        ones = torch.ones_like(first)
        features = torch.stack([ones, first, second, first * first, first * second, second * second], 1)
        weights = (features @ quadratic).softmax(1)
        residuals = (features[:, :3] @ linear).reshape(len(x), -1, 2)
        noise = s * (weights[..., None] * residuals).sum(1)
        return (x - s * noise) / a, noise

    def numbers(self, t: Tensor) -> tuple[Tensor, ...]:
        """Return a, s, the coefficients of the log-densities (6, k) and those of S^-1 (x - a m), (3, 2k)."""
        if float(t) not in self.known:
            a, s = self.process.mean_coef(t), self.process.std(t)
            spread = a**2 * self.density.covariances + s**2 * torch.eye(2, dtype=F64)
            inverse, centre = torch.linalg.inv(spread), a * self.density.means
            pull = (inverse @ centre[..., None])[..., 0]
            height = self.density.weights.log() - (spread.logdet() + (centre * pull).sum(1)) / 2
            square = torch.stack([-inverse[:, 0, 0] / 2, -inverse[:, 0, 1], -inverse[:, 1, 1] / 2])
            linear = torch.cat([-pull.reshape(1, -1), inverse.permute(2, 0, 1).reshape(2, -1)])
            self.known[float(t)] = a, s, torch.cat([height[None], pull.T, square]), linear
        return self.known[float(t)]
