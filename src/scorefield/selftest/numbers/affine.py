"""Samplers on a Gaussian as exact numbers: its score is linear, so a walk is affine in the state and in the noise."""

from unittest.mock import patch

import torch
from torch import Generator, Tensor

from scorefield.diffusion.by_name import PROCESSES
from scorefield.diffusion.denoisers import Denoiser, ExactDenoiser
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.process import Process
from scorefield.inference import exponential, samplers
from scorefield.inference.walking import Sampler
from scorefield.numerics.shapes import Grid
from scorefield.selftest.cases import F64, f64

MEAN, STD = 0.7, 0.6
"""The Gaussian: not symmetric, so that a wrong sign shows."""

USUAL = {name: kind() for name, kind in PROCESSES.items()}
"""Every registered process with its published range."""


def gaussian_model(process: Process) -> ExactDenoiser:
    """Return the exact model of the Gaussian."""
    return ExactDenoiser(GaussianMixture.gaussian(f64(MEAN), f64([STD**2])), process)


def marginal(process: Process, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the noised Gaussian at t."""
    a, s = process.mean_coef(t), process.std(t)
    return a * MEAN, torch.hypot(a * STD, s)


def exact_flow(process: Process, x: Tensor, grid: Grid) -> Tensor:
    """Return where the probability flow of the Gaussian takes x from the first time of a grid to its last."""
    (mean, std), (mean_u, std_u) = marginal(process, grid[0]), marginal(process, grid[-1])
    return mean_u + std_u * (x - mean) / std


def smooth_grid(process: Process, steps: int, start: float = 3.0, stop: float = 0.3) -> Grid:
    """Return times with equal steps in the ratio: a smooth family of grids on which orders show early."""
    return process.time(torch.linspace(start, stop, steps + 1, dtype=F64))


class Affine:
    """A walk's end as slope x + gains . z + shift, z the normals that it draws.

    Read off rows that start at 0, at 1, and at 0 with a unit in place of one draw, whatever the sampler remembers.
    """

    def __init__(self, sampler: Sampler, model: Denoiser) -> None:
        self.sampler, self.model, self.drawn = sampler, model, 0

    def draw(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """Return zeros but for a one in the row of this draw."""
        z = torch.zeros_like(x)
        if self.drawn < len(x) - 2:
            z[2 + self.drawn] = 1
        self.drawn += 1
        return z

    def __call__(self, grid: Grid) -> tuple[float, Tensor, float]:
        """Return slope, gains (draws,) and shift of the walk along a grid."""
        with patch.object(samplers, "normal_like", self.draw), patch.object(exponential, "normal_like", self.draw):
            self.drawn = 0
            list(self.sampler(self.model, torch.zeros(1, 1, dtype=F64), grid[:2]))  # each step draws as often
            draws, self.drawn = self.drawn * (len(grid) - 1), 0
            x = torch.zeros(2 + draws, 1, dtype=F64)
            x[1] = 1
            *_, state = self.sampler(self.model, x, grid)
        if self.drawn > draws:
            raise RuntimeError(f"the sampler drew {self.drawn} times, {draws} were expected")
        shift = state[0, 0]
        return float(state[1, 0] - shift), state[2:, 0] - shift, float(shift)

    def moments(self, grid: Grid) -> tuple[float, float]:
        """Return mean and variance after walking a grid from the exact law at its start."""
        mean, std = map(float, marginal(self.model.process, grid[0]))
        slope, gains, shift = self(grid)
        return slope * mean + shift, slope**2 * std**2 + float(gains.square().sum())
