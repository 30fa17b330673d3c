"""Samples that the tests of metrics share."""

import torch
from cases import F64, f64
from torch import Generator, Tensor

from scorefield.diffusion.densities import GaussianMixture


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def gaussian(n: int, d: int, generator: Generator, shift: float = 0.0, std: float = 1.0) -> Tensor:
    """n rows of N((shift, 0, ..., 0), std^2 I)."""
    x = std * torch.randn(n, d, generator=generator, dtype=F64)
    x[:, 0] += shift
    return x


def modes(d: int, weights: tuple[float, ...] = (0.5, 0.3, 0.2)) -> GaussianMixture:
    """Three modes of unequal weights and widths on the first axis, of variance about one."""
    means = torch.zeros(3, d, dtype=F64)
    means[:, 0] = f64(-0.9, 1.0, 2.0)
    eye = torch.eye(d, dtype=F64)
    return GaussianMixture(f64(*weights), means, torch.stack([0.3**2 * eye, 0.4**2 * eye, 0.2**2 * eye]))
