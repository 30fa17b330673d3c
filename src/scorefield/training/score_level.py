"""Where the score of the data is read: the noise ratio at which a learned score is closest to it."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from scorefield.diffusion.denoisers import Denoiser, ScoreModel
from scorefield.diffusion.process import RATIO_MIN
from scorefield.inference.likelihood import EXACT_UP_TO, PROBES
from scorefield.numerics.shapes import Samples
from scorefield.numerics.tensors import dot, signs_like, spawn

RATIOS, RATIO_WORK = 16, 2e10
"""Noise ratios at which the score may be read, and the multiplications that choosing one may take."""


@torch.no_grad()
def score_ratio(views: Sequence[Denoiser], parts: Sequence[Tensor], seed: int) -> float:
    """Return the noise ratio r at which the score is closest to that of the clean data.

    Reading the score at a small r divides the error of the predicted noise by r; a large r smooths the density. The
    held-out implicit loss 1/2 |S_r|^2 + div S_r, which is the squared distance to the true score up to a constant
    (Hyvarinen, 2005), is smallest at the best of 16 ratios between RATIO_MIN and 1. parts: for each view of the model
    rows in model units that it has not seen, not even in its base, of which RATIO_WORK allows so many.
    """
    ratios = torch.logspace(math.log10(RATIO_MIN), 0, RATIOS, dtype=torch.float64)
    generator, d = spawn(seed, "score ratio"), parts[0].shape[1]
    most = RATIO_WORK / RATIOS / len(parts) / ratio_row_work(views[0], d)
    parts = [x[: max(1, int(most))] for x in parts]
    probes: list[Tensor | None] = [None] * len(parts)
    if d > EXACT_UP_TO:
        probes = [torch.stack([signs_like(x, generator) for _ in range(PROBES)]) for x in parts]

    def implicit(r: Tensor) -> float:
        total = 0.0
        for view, x, v in zip(views, parts, probes, strict=True):
            t = view.process.time(r)
            a, _ = view.process.kernel(t, x)
            noise, divergence = view.noise_and_divergence(a * x, t, v)  # S_r(x) = -noise(a x) / r
            loss = dot(noise, noise) / (2 * r**2) - a * divergence.reshape(-1, len(x)).mean(0) / r
            total += float(loss.sum())
        return total

    losses = [implicit(r) for r in ratios]
    return float(ratios[losses.index(min(losses))])


def ratio_row_work(view: Denoiser, d: int) -> int:
    """Return the multiplications that the implicit loss of one row of d columns takes at one ratio.

    Each derivative of a network takes about one for each of its numbers, and each number of a base's means 500.
    """
    base_numbers = view.base.means.numel() if isinstance(view, ScoreModel) and view.base is not None else 0
    directions = d if d <= EXACT_UP_TO else PROBES
    return directions * sum(weight.numel() for weight in view.parameters()) + 500 * base_numbers + 1


def data_score(model: Denoiser, x: Samples, ratio: float) -> Samples:
    """Return the score of the data smoothed by noise of std r = ratio, -E[noise | x] / r, per unit of x."""
    t = model.process.time(torch.tensor(ratio, dtype=torch.float64))
    a, _ = model.process.kernel(t, x)
    return a * model.score(a * x, t)
