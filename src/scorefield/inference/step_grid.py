"""A grid of times for the model at hand."""

import math

import numpy as np
import torch
from torch import Tensor

from scorefield.diffusion import times
from scorefield.diffusion.denoisers import Denoiser
from scorefield.diffusion.process import RATIO_MIN
from scorefield.inference.exponential import adams
from scorefield.numerics.shapes import Grid
from scorefield.numerics.tensors import spawn

PILOTS, PILOT_STEPS = 64, 64
"""Paths that are walked to see where a model asks for short steps, and their steps."""

LIFT = 0.3
"""What is added to the density of steps, a share of its mean: no step is longer than about 4 average ones."""

FLOOR = 1e-8
"""Third differences of z, of unit variance, far below this ask for no steps: on a straight path they are rounding,
whose cube root is not small. So the pilots walk in float64, even where a network answers in float32."""


@torch.no_grad()
def optimised(model: Denoiser, steps: int, ratio_min: float = RATIO_MIN, wanted: Tensor | None = None) -> Grid:
    """Return steps + 1 decreasing times from t_max to t_min that share the error of a walk evenly among its steps.

    In z = x / sqrt(a^2 v + s^2), v the mean variance of the data, a Gaussian stands still, and a step of order 2 over h
    of l = log s/a errs by about h^3 |z'''(l)|. So steps are dealt in l with the density |z'''|^(1/3) (de Boor, 1973),
    its root mean square over PILOTS paths of `adams`, smoothed over 5 neighbours of PILOT_STEPS, and LIFT of its mean.
    It is a function of the model alone: the paths start from the prior with a seed of their own.
    Data without any variance get equal steps in l.

    Args:
        model: Whose walks they are for.
        steps: One less than there are times.
        ratio_min: The ratio s/a at t_min.
        wanted: `density` of the model down to ratio_min, where several grids are made of one.

    Raises:
        ValueError: fewer than one step.
        RuntimeError: the model is not finite.
    """
    if steps < 1 or not model.spread > 0:
        return times.grid(model.process, steps, math.inf, ratio_min)
    even = times.grid(model.process, PILOT_STEPS, math.inf, ratio_min)
    log_ratio, wanted = model.process.ratio(even).log(), density(model, ratio_min) if wanted is None else wanted
    share = torch.cat([wanted.new_zeros(1), wanted.cumsum(0) / wanted.sum()])
    inner = torch.linspace(0, 1, steps + 1, dtype=torch.float64)[1:-1]
    inside = torch.from_numpy(np.interp(inner, share, log_ratio)).exp_()
    return torch.cat([even[:1], model.process.time(inside), even[-1:]])


@torch.no_grad()
def density(model: Denoiser, ratio_min: float = RATIO_MIN) -> Tensor:
    """Return how many steps each of PILOT_STEPS parts of an even grid asks for, in no unit; see `optimised`."""
    even = times.grid(model.process, PILOT_STEPS, math.inf, ratio_min)
    x = model.prior().sample(PILOTS, spawn(0, "pilots")).double()
    states = torch.stack([x, *adams()(model, x, even)]).cpu()
    a, s = model.process.mean_coef(even), model.process.std(even)
    z = states / torch.hypot(a * model.spread, s).reshape(-1, *[1] * x.ndim)
    third = (z.diff(n=3, dim=0).flatten(1).square().mean(1) + FLOOR**2) ** (1 / 6)  # root mean square to the 1/3
    third = torch.cat([third[:1], third, third[-1:]])  # of 4 neighbours each, so the ends are copied
    smooth = torch.nn.functional.avg_pool1d(third[None], 5, 1, 2, count_include_pad=False)[0]
    return smooth + LIFT * smooth.mean() + torch.finfo(torch.float64).tiny
