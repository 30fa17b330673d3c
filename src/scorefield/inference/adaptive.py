"""Samplers that choose their steps row by row, so that the error of each is as asked."""

import math

import torch
from torch import Generator, Tensor

from scorefield.diffusion.denoisers import Denoiser
from scorefield.inference import probability_flow
from scorefield.inference.exponential import sde_weight
from scorefield.inference.walking import Sampler, checked, pairs
from scorefield.numerics.brownian import LAST, BrownianPath
from scorefield.numerics.shapes import Grid, Path, Samples
from scorefield.numerics.tensors import integer, power

LONGEST = 1.0
"""The longest step of `adaptive_sde` in log s/a: beyond, a state can arrive where nothing is left to disagree about."""


def adaptive_flow(tol: float = 1e-3) -> Sampler:
    """Make a sampler that integrates the flow between its times row by row, by `probability_flow.transport`.

    Args:
        tol: The largest error of a step, in standard deviations of the data where there is little noise, of the noised
            data where there is much.

    Raises:
        ValueError: tol is not positive.
        RuntimeError: when it walks, where a row cannot be integrated.
    """
    _require_positive(tol)

    def path(model: Denoiser, x: Samples, times: Grid) -> Path:
        for t, u in pairs(times):
            start, stop = (float(model.process.ratio(w).log()) for w in (t, u))
            yield (x := probability_flow.transport(model, x, start, stop, tol * min(1.0, model.spread)))

    return checked(path)


def adaptive_sde(tol: float = 1e-2, generator: Generator | None = None) -> Sampler:
    """Make a sampler of the reverse SDE that adapts its steps row by row (Jolicoeur-Martineau et al., 2021).

    The step is `exponential.heun_sde`; where it differs by more than tol from the step of first order inside it, it is
    refused and a shorter one tried, on the same Brownian path: with k = (a/s)^2 and y = x/a the reverse SDE is
    d(k y) = clean dk + dB_k, B a Brownian motion. Steps change by 0.9 (tol / error)^(2/3), from 0.2 to 2, and are at
    most LONGEST.

    Args:
        tol: In standard deviations of the data, relative to those of the noised data.
        generator: What seeds the Brownian paths.

    Raises:
        ValueError: tol is not positive.
        RuntimeError: when it walks, where a row cannot go on.
    """
    _require_positive(tol)

    def path(model: Denoiser, x: Samples, times: Grid) -> Path:
        for t, u in pairs(times):
            a, b = model.process.mean_coef(t).to(x), model.process.mean_coef(u).to(x)
            start, stop = (float(model.process.ratio(w).log()) for w in (t, u))
            yield (x := b * _integrate(model, x / a, start, stop, tol, integer(generator)))

    return checked(path)


def _integrate(model: Denoiser, y: Samples, start: float, stop: float, tol: float, seed: int) -> Samples:
    """Return y = x/a at log s/a = stop, from y at start."""
    n, d, event = len(y), model.spread, [1] * (y.ndim - 1)
    log_ratio = lambda place: start + (stop - start) * (place.double() / LAST)
    columns = math.prod(y.shape[1:])
    brownian = BrownianPath(seed, columns, lambda place: (-2 * log_ratio(place)).exp())
    longest = max(1, min(LAST, int(LAST * LONGEST / (start - stop))))
    y, place, width = y.clone(), torch.zeros(n, dtype=torch.long), torch.full((n,), longest)
    value = torch.zeros(n, columns, dtype=torch.float64)  # of the path at place
    rows = torch.arange(n)

    def clean(y: Samples, place: Tensor) -> Samples:
        a, _, t = probability_flow.coefficients(model, log_ratio(place), y)
        return model.decompose(a * y, t)[0]

    first = clean(y, place).clone()  # written into below; the model's own answer may be anybody's
    while len(rows):
        before, after = place[rows], (place[rows] + width[rows]).clamp(max=LAST)
        later = log_ratio(after)
        h = (log_ratio(before) - later).reshape(-1, *event)
        share, weight = -torch.expm1(-2 * h).to(y), sde_weight(h).to(y)
        path = brownian(rows, after)
        noise = ((2 * later).exp()[:, None] * (path - value[rows])).to(y).reshape(y[rows].shape)
        known = (1 - share) * y[rows] + noise
        second = clean(known + share * first[rows], after)
        new = known + (share - weight) * first[rows] + weight * second
        size = (later.exp() ** 2 + d**2).sqrt()  # of y / a standard deviation of the data
        difference = (weight * (second - first[rows])).flatten(1).double()
        error = difference.square().mean(1).sqrt() / size / tol
        error = torch.where(new.flatten(1).isfinite().all(1), error, torch.inf)
        good = error <= 1
        _require_progress(~good & (width[rows] <= 1), rows, later)
        kept = rows[good]
        y[kept], place[kept], value[kept] = new[good], after[good], path[good]
        factor = (0.9 * power(error.clamp(min=1e-6), -2 / 3)).clamp(0.2, 2.0)
        width[rows] = (width[rows] * factor).long().clamp(1, longest)
        if len(kept):
            first[kept] = clean(y[kept], place[kept])
        rows = rows[place[rows] < LAST]
    return y


def _require_progress(refused: Tensor, rows: Tensor, log_ratio: Tensor) -> None:
    """Raise RuntimeError where the shortest step was refused."""
    if bool(refused.any()):
        row, ratio = int(rows[refused][0]), float(log_ratio[refused][0].exp())
        raise RuntimeError(
            f"sample {row} needs steps below {1 / LAST:.1g} of the way at s/a={ratio:g}: "
            "the model's answer is not finite or jumps there"
        )


def _require_positive(tol: float) -> None:
    if not 0 < tol < math.inf:
        raise ValueError(f"expected a positive tolerance; got {tol}")
