"""Processes and densities as the second implementation takes them, and how far two answers are apart."""

import numpy as np
import torch
from torch import Generator, Tensor

from scorefield.diffusion.by_name import PROCESSES
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.process import Process
from scorefield.selftest.cases import F64, middle_time
from scorefield.selftest.numbers import second


def named(process: Process) -> tuple[str, second.Settings]:
    """Return a process as its name and its numbers."""
    return next(name for name, kind in PROCESSES.items() if type(process) is kind), vars(process)


def mixture(density: GaussianMixture) -> second.Mixture:
    """Return a density as arrays."""
    k, d = density.means.shape
    return second.Mixture(
        density.weights.numpy(), density.means.numpy(), density.covariances.expand(k, d, d).numpy().copy()
    )


def difference(found: Tensor, truth: object) -> float:
    """Return the largest difference, absolute below 1 and relative above."""
    expected = np.asarray(truth, dtype=float)
    return float(np.max(np.abs(found.detach().numpy() - expected) / np.maximum(1, np.abs(expected))))


def levels(process: Process) -> Tensor:
    """Return times of noise ratios from 0.01 to 60, or half the largest."""
    return torch.stack([middle_time(process, ratio) for ratio in (0.01, 0.1, 0.7, 3.0, 60.0)])


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Return standard normals."""
    return torch.randn(*shape, dtype=F64, generator=Generator().manual_seed(seed))
