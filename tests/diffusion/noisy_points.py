"""Times and noisy points that the tests of models share."""

import torch
from cases import F64, middle_time
from torch import Generator


def times_of(process) -> torch.Tensor:
    """Seven times with ratios from 1e-3 to the largest, t_max last."""
    times = torch.stack([middle_time(process, ratio) for ratio in (1e-3, 0.01, 0.1, 0.5, 2.0, 100.0, 1e9)])
    times[-1] = process.t_max
    return times


def noisy(process, times, dim: int, dtype=F64) -> torch.Tensor:
    """A row of noised data for each time, from data of mean 1/2."""
    draw = lambda: torch.randn(len(times), dim, dtype=F64, generator=generator)
    generator = Generator().manual_seed(4)
    a, s = process.mean_coef(times), process.std(times)
    return (a[:, None] * (0.5 + draw()) + s[:, None] * draw()).to(dtype)
