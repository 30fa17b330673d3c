"""Where the score of the data is read: the noise ratio at which a learned score is closest to it."""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from scorefield.diffusion.denoisers import Denoiser
from scorefield.diffusion.process import RATIO_MIN
from scorefield.inference.likelihood import EXACT_UP_TO, PROBES
from scorefield.numerics.divergence import value_and_divergence
from scorefield.numerics.shapes import Samples
from scorefield.numerics.tensors import dot, signs_like, spawn


@torch.no_grad()
def score_ratio(views: Sequence[Denoiser], parts: Sequence[Tensor], seed: int) -> float:
    """Return the noise ratio r at which the score is closest to that of the clean data.

    Reading the score at a small r divides the error of the predicted noise by r; a large r smooths the density. The
    held-out implicit loss 1/2 |S_r|^2 + div S_r, which is the squared distance to the true score up to a constant
    (Hyvarinen, 2005), is smallest at the best of 16 ratios between RATIO_MIN and 1. parts: for each view of the model
    rows in model units that it has not seen, not even in its base.
    """
    ratios = torch.logspace(math.log10(RATIO_MIN), 0, 16, dtype=torch.float64)
    generator = spawn(seed, "score ratio")
    probes: list[Tensor | None] = [None] * len(parts)
    if parts[0].shape[1] > EXACT_UP_TO:
        probes = [torch.stack([signs_like(x, generator) for _ in range(PROBES)]) for x in parts]

    def implicit(r: float) -> float:
        total = 0.0
        for view, x, v in zip(views, parts, probes, strict=True):
            value, divergence = value_and_divergence(partial(data_score, view, ratio=r), x, v)
            total += float((dot(value, value) / 2 + divergence.reshape(-1, len(x)).mean(0)).sum())
        return total

    losses = [implicit(float(r)) for r in ratios]
    return float(ratios[losses.index(min(losses))])


def data_score(model: Denoiser, x: Samples, ratio: float) -> Samples:
    """Return the score of the data smoothed by noise of std r = ratio, -E[noise | x] / r, per unit of x."""
    t = model.process.time(torch.tensor(ratio, dtype=torch.float64))
    a, _ = model.process.kernel(t, x)
    return a * model.score(a * x, t)
