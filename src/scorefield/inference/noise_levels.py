"""Levels of noise for annealed Langevin dynamics, and the step sizes at each (Song and Ermon, 2020)."""

import math

import numpy as np
import torch
from scipy import optimize, stats
from torch import Tensor


def noise_levels(largest: float, smallest: float, dim: int) -> Tensor:
    """Return levels s_1 > ... > s_L in a geometric series in which neighbours overlap (Song and Ermon, 2020).

    The radius of N(0, s_i^2 I) lies within three of its standard deviations for half of N(0, s_i+1^2 I): their
    technique 2, Phi(sqrt(2d) (c - 1) + 3c) - Phi(sqrt(2d) (c - 1) - 3c) = 0.5 for the ratio c of neighbours, which is
    at most 2: up to four dimensions any ratio would do.

    Args:
        largest: s_1, in units of the data.
        smallest: s_L.
        dim: d.

    Raises:
        ValueError: not 0 < smallest < largest, or dim < 1.

    Examples:
        >>> noise_levels(8.0, 1.0, dim=2).round(decimals=3)
        tensor([8., 4., 2., 1.], dtype=torch.float64)
    """
    if not 0 < smallest < largest < math.inf or dim < 1:
        raise ValueError(f"expected 0 < smallest < largest and dim >= 1; got {smallest}, {largest} and {dim}")
    distance = lambda c: (2 * dim) ** 0.5 * (c - 1)
    overlap = lambda c: stats.norm.cdf(distance(c) + 3 * c) - stats.norm.cdf(distance(c) - 3 * c) - 0.5
    ratio = optimize.brentq(overlap, 1.0, 2.0) if overlap(2.0) < 0 else 2.0
    count = math.ceil(math.log(largest / smallest) / math.log(ratio) - 1e-9) + 1
    return torch.from_numpy(np.geomspace(largest, smallest, count))


def step_sizes(levels: Tensor, steps: int) -> list[float]:
    """Return the size e (s_i / s_L)^2 of Langevin steps at each level (Song and Ermon, 2020, technique 4).

    e = q s_L^2 brings the variance of a Gaussian from that of one level closest to that of the next, c = s_i / s_i+1:
    (1 - q)^2T (c^2 - v) + v is smallest, v = 2 / (2 - q) the variance at which the chain rests.

    Args:
        levels: s_1 > ... > s_L.
        steps: T, those at each level.

    Raises:
        ValueError: not two levels that decrease and are positive, or no step.
    """
    if len(levels) < 2 or not bool((levels.diff() < 0).all()) or not float(levels[-1]) > 0 or steps < 1:
        raise ValueError(f"expected at least two decreasing positive levels and a step; got {levels.tolist()}, {steps}")
    squared = float((levels[:-1] / levels[1:]).max()) ** 2
    rest = lambda q: 2 / (2 - q)
    variance = lambda q: (1 - q) ** (2 * steps) * (squared - rest(q)) + rest(q)
    best = optimize.minimize_scalar(variance, bounds=(1e-8, 1.0), method="bounded", options={"xatol": 1e-10}).x
    return [float(best) * float(level) ** 2 for level in levels]
