"""Means of objectives in closed form: linear scores on Gaussian data."""

import math
from collections.abc import Callable
from unittest.mock import patch

import torch
from torch import Generator, Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from scorefield.diffusion.denoisers import Denoiser, ScoreModel
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.process import Process
from scorefield.numerics.shapes import PerSample, Samples
from scorefield.numerics.tensors import dot, spawn
from scorefield.selftest.cases import DENSITIES, F64, f64, learned, middle_time
from scorefield.selftest.numbers.quadrature import (
    distance,
    given_noise,
    gradient_of,
    grid_of_normals,
    noise_weight,
    over_signs,
)
from scorefield.training.objectives import table
from scorefield.training.objectives.losses import implicit
from scorefield.training.objectives.table import OBJECTIVES, Task


class Quadratic(nn.Module):
    """The gradient M z + b of z' M z / 2 + b' z, M symmetric: all that Gaussian data need at one time."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        rows, columns = torch.tril_indices(dim, dim)
        self.places = [rows, columns]
        self.entries = nn.Parameter(torch.linspace(-0.3, 0.5, len(rows), dtype=F64))
        self.shift = nn.Parameter(torch.linspace(0.2, -0.4, dim, dtype=F64))

    @property
    def matrix(self) -> Tensor:
        """M."""
        dim = len(self.shift)
        lower = torch.zeros(dim, dim, dtype=F64).index_put(tuple(self.places), self.entries)
        return (lower + lower.mT) / 2

    def potential(self, z: Samples, log_ratio: Tensor) -> PerSample:
        """Return the number of which this is the gradient."""
        return dot(z, z @ self.matrix) / 2 + z @ self.shift

    def forward(self, z: Samples, log_ratio: Tensor) -> Samples:
        """Return M z + b."""
        return z @ self.matrix + self.shift


class Moments:
    """Means of a model's noise N x + c on noised Gaussian data x ~ N(mu, S), where e = z - N x - c is normal too."""

    def __init__(self, model: Denoiser, density: GaussianMixture, t: Tensor) -> None:
        a, self.s = model.process.mean_coef(t), model.process.std(t)
        self.mu, self.sigma = a * density.mean, density.noised(a, self.s).covariance
        self.shift = model.decompose(torch.zeros(1, 2, dtype=F64), t)[1][0]
        self.matrix = (model.decompose(torch.eye(2, dtype=F64), t)[1] - self.shift).mT
        self.weight = noise_weight(model, t, None)
        self.e_mean = -self.matrix @ self.mu - self.shift
        mixed = self.s * (self.matrix + self.matrix.mT)
        self.e_covariance = torch.eye(2, dtype=F64) - mixed + self.matrix @ self.sigma @ self.matrix.mT

    def denoising(self) -> Tensor:
        """Return 1/2 E|e|^2."""
        return (self.e_mean.square().sum() + self.e_covariance.trace()) / 2

    def explicit(self) -> Tensor:
        """Return 1/2 E|noise - true noise|^2, the true one s S^-1 (x - mu)."""
        other = self.matrix - self.s * self.sigma.inverse()
        mean = self.matrix @ self.mu + self.shift
        return (mean.square().sum() + (other @ self.sigma @ other.mT).trace()) / 2

    def implicit(self) -> Tensor:
        """Return 1/2 E|noise|^2 - s tr N."""
        mean = self.matrix @ self.mu + self.shift
        square = mean.square().sum() + (self.matrix @ self.sigma @ self.matrix.mT).trace()
        return square / 2 - self.s * self.matrix.trace()

    def curvature(self) -> Tensor:
        """Return what the curvature regulariser adds, sum_i (s N_ii)^2."""
        return table.CURVATURE * (self.s * self.matrix.diagonal()).square().sum()

    def second_order(self) -> Tensor:
        """Return E (s v' N v - 2 + (v . e)^2)^2 / 4 over normal e, which is not differentiated, and signs v."""
        total = torch.zeros((), dtype=F64)
        for v in (f64(1.0, 1.0), f64(1.0, -1.0)):
            m, k = (v @ self.e_mean).detach(), (v @ self.e_covariance @ v).detach()
            c = self.s * (v @ self.matrix @ v) - 2
            total = total + c**2 + 2 * c * (m**2 + k) + m**4 + 6 * m**2 * k + 3 * k**2
        return total / 8


CLOSED: dict[str, Callable[[Moments], Tensor]] = {
    "denoising": lambda m: m.weight * m.denoising(),
    "likelihood": lambda m: m.denoising(),
    "second-order": lambda m: m.weight * m.denoising() + m.second_order(),
    "explicit": lambda m: m.weight * m.explicit(),
    "parzen": lambda m: m.weight * m.explicit(),
    "implicit": lambda m: m.weight * m.implicit(),
    "hutchinson": lambda m: m.weight * m.implicit(),
    "finite-difference": lambda m: m.weight * m.implicit(),
    "curvature": lambda m: m.weight * (m.implicit() + m.curvature()),
    "sliced": lambda m: m.weight * m.implicit(),
    "fd-sliced": lambda m: m.weight * m.implicit(),
    "energy-sliced": lambda m: m.weight * m.implicit(),
    "energy-denoising": lambda m: m.weight * m.denoising(),
}
"""The mean of each objective over noised Gaussian data, for a score that is linear."""


def quadratic_model(process: Process) -> ScoreModel:
    """Return a model with a linear score in two dimensions."""
    return learned(process, "v", 2, data_std=0.8, net=Quadratic(2))


def mean_loss(name: str, model: Denoiser, density: GaussianMixture, t: Tensor) -> Tensor:
    """Return the mean of an objective over data, noise and signs, by exact quadrature."""
    clean, noise, share = grid_of_normals(density, 3 if name != "second-order" else 5)
    with given_noise(noise):
        return over_signs(2, lambda: share @ OBJECTIVES[name].loss(model, clean, t, Task(None, density), None))


def from_closed_form(name: str, process: Process, ratio: float) -> float:
    """Return how far mean and gradient of an objective are from the closed form."""
    density, model, t = DENSITIES["gauss-2d"], quadratic_model(process), middle_time(process, ratio)
    loss, truth = mean_loss(name, model, density, t), CLOSED[name](Moments(model, density, t))
    return max(distance(loss, truth), distance(gradient_of(loss, model), gradient_of(truth, model)))


def from_true_score(name: str, process: Process) -> float:
    """Return how far the minimiser of an objective, one Newton step of quadratic losses, is from the true score.

    Second order's is not quadratic, and 'curvature' has another minimiser: from the minimiser of denoising the step
    must be zero, without the regulariser.
    """
    density, model, t = DENSITIES["gauss-2d"], quadratic_model(process), middle_time(process, 0.7)
    parameters = list(model.parameters())

    def step(loss: Tensor) -> None:
        first = torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters, create_graph=True)])
        rows = [torch.autograd.grad(part, parameters, retain_graph=True) for part in first]
        hessian = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
        if not float(torch.linalg.eigvalsh((hessian + hessian.mT) / 2).min()) > 0:
            raise RuntimeError(f"{name} has no minimum here")
        vector_to_parameters(
            parameters_to_vector(parameters).detach() - torch.linalg.solve(hessian, first.detach()), parameters
        )

    if name == "second-order":
        step(mean_loss("denoising", model, density, t))
    with patch.object(table, "implicit", lambda *args, curvature=0.0, **kw: implicit(*args, **kw)):
        step(mean_loss(name, model, density, t))
    x = density.sample(30, Generator().manual_seed(0)) * 2
    a, s = process.mean_coef(t), process.std(t)
    return distance(model.score(x, t), density.noised(a, s).score(x))


def deviate(name: str, process: Process, count: int, seed: int) -> float:
    """Return the normal deviate of the mean of an objective over so many draws from its closed form."""
    density, model, t = DENSITIES["gauss-2d"], quadratic_model(process).requires_grad_(False), middle_time(process, 0.7)
    draw, total, square = spawn(seed, "draws", name), 0.0, 0.0
    truth, block = float(CLOSED[name](Moments(model, density, t))), 100_000
    for _ in range(count // block):
        loss = OBJECTIVES[name].loss(model, density.sample(block, draw), t, Task(None, density), draw) - truth
        total, square = total + float(loss.sum()), square + float(loss.square().sum())
    mean = total / count
    return mean / math.sqrt((square / count - mean**2) / count)
