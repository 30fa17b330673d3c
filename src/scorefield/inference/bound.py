"""A lower bound of the log-likelihood: that of the reverse SDE, beside the flow's value."""

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from scorefield.diffusion import times
from scorefield.diffusion.denoisers import Denoiser
from scorefield.diffusion.densities import DiagonalGaussian
from scorefield.diffusion.process import RATIO_MIN
from scorefield.inference.probability_flow import at, coefficients
from scorefield.numerics.shapes import PerSample, Samples
from scorefield.numerics.tensors import dot, match, normal_like, uniform

REPEATS = 8
"""Independent repetitions, from which the standard error comes."""


LAST = 1 / 8
"""The smallest noise of the bound for levels, in their distance."""


class Bound(NamedTuple):
    """A lower bound of the log-density of each row in nats, and its standard error."""

    value: PerSample
    stderr: PerSample


@torch.no_grad()
def lower_bound(
    model: Denoiser, x: Samples, *, draws: int = 64, ratio_min: float = RATIO_MIN, generator: Generator | None = None
) -> Bound:
    """Return a lower bound of log p(x) in nats, p the law of what the reverse SDE of the model generates.

    With y = x + r e at the noise ratio r = s/a, from r_1 = ratio_min to R at t_max (Kingma et al., 2021, eqs. 11, 13;
    Song et al., 2021b, theorem 3):
    log p(x) >= - KL(q(y_R | x) || prior) - E |e - noise|^2 over log r from log r_1 to log R
                - (d/2) log 2 pi r_1^2 - E |e - noise|^2 / 2 at r_1, the last step being drawn with std r_1.
    For an exact model it is log p(x) itself up to terms of the order of r_1^2; a learned model's gap to the flow's
    value is what its score lacks of being the score of what it generates. The r are stratified in log r; the integral
    of the Gaussian with the data's mean and mean variance is taken out.

    Args:
        model: Whose law it is.
        x: Points (n, *event).
        draws: Pairs (r, e) a row.
        ratio_min: r_1.
        generator: What they are drawn from.

    Raises:
        ValueError: fewer draws than 2 for each of REPEATS repetitions.
    """
    _require_draws(draws)
    low, high = (math.log(r) for r in times.bounds(model.process, ratio_min))
    if not len(x):
        return Bound(x.new_zeros(0), x.new_zeros(0))
    d = len(model.mean)
    each, last = _noise_errors(model, x, low, high, draws, generator)
    value = -_prior_divergence(model, x, high) - d / 2 * math.log(2 * math.pi) - d * low
    return Bound(value - (each + last / 2).mean(0), (each + last / 2).std(0) / math.sqrt(REPEATS))


@torch.no_grad()
def lower_bound_of_levels(
    model: Denoiser, x: Samples, step: float, *, draws: int = 64, generator: Generator | None = None
) -> Bound:
    """Return a lower bound of log P(x) in nats for x whose numbers lie on levels apart by a step, such as pixels.

    As `lower_bound`, but what the last noisy sample y = x + r e says of x is a choice among levels
    (Kingma et al., 2021, eq. 8), taken with r = step / 8, where hardly any choice is open: with e standard normal
    E log P(x | y) >= - d E log sum_j exp(-j (j - 2 e r / step) (step / r)^2 / 2), the sum over all whole j.
    No uniform noise is added to x, and no offset is typed in.

    Args:
        model: Whose law it is.
        x: Points (n, *event) on levels.
        step: The distance of two levels, in model units.
        draws: Pairs (r, e) a row.
        generator: What they are drawn from.

    Raises:
        ValueError: as `lower_bound`.
    """
    _require_draws(draws)
    low, high = (math.log(r) for r in times.bounds(model.process, step * LAST))
    if not len(x):
        return Bound(x.new_zeros(0), x.new_zeros(0))
    each, _ = _noise_errors(model, x, low, high, draws, generator, share=0.0)
    value = -_prior_divergence(model, x, high) - len(model.mean) * choice_entropy(LAST)
    return Bound(value - each.mean(0), each.std(0) / math.sqrt(REPEATS))


def choice_entropy(ratio: float) -> float:
    """Return -E log P(j = 0 | j + ratio e) in nats, e standard normal and all whole j equally likely."""
    e = torch.linspace(-10, 10, 4001, dtype=torch.float64)
    j = torch.arange(-math.ceil(12 * ratio) - 1, math.ceil(12 * ratio) + 2, dtype=torch.float64)
    found = (-j * (j - 2 * e[:, None] * ratio) / (2 * ratio**2)).logsumexp(1)
    return float((found * (-e.square() / 2).exp()).sum() * (e[1] - e[0]) / math.sqrt(2 * math.pi))


def _noise_errors(
    model: Denoiser, x: Samples, low: float, high: float, draws: int, generator: Generator | None, share: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return E |e - noise|^2 integrated over log r, and at its start, each (REPEATS, n).

    Only what it differs by from `share` times that of the Gaussian of the data's mean and mean variance is drawn. For
    numbers on levels the share is 0: between them little noise is left to a model, and that of the Gaussian is all.
    """
    d = len(model.mean)
    centre, variance = model.mean.to(x).reshape(x.shape[1:]), model.spread**2
    strata = draws // REPEATS

    def excess(log_ratio: Tensor) -> Tensor:
        """Return |e - noise|^2 of the model less that of the Gaussian, for one draw of e a row."""
        a, _, t = coefficients(model, log_ratio, x)
        r, e = match(log_ratio.exp(), x), normal_like(x, generator)
        y = x + r * e
        plain = e - r / (variance + r**2) * (y - centre)
        found = e - model.decompose(a * y, t)[1]
        return dot(found, found) - share * dot(plain, plain)

    integrals, starts = [], []
    for _ in range(REPEATS):
        total = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        for k in range(strata):
            log_ratio = low + (high - low) * (k + uniform(len(x), generator)) / strata
            total += (high - low) / strata * excess(log_ratio.to(x.device))
        integrals.append(total)
        starts.append(excess(torch.full((len(x),), low, dtype=torch.float64, device=x.device)))
    square = dot(x - centre, x - centre)
    known, start = _gaussian_part(d, square, variance, math.exp(low), math.exp(high))
    return torch.stack(integrals) + share * known, torch.stack(starts) + share * start


def _require_draws(draws: int) -> None:
    if draws < 2 * REPEATS:
        raise ValueError(f"a bound needs at least {2 * REPEATS} draws a row for its error; got {draws}")


def _gaussian_part(d: int, square: Tensor, variance: float, r: float, end: float) -> tuple[Tensor, Tensor]:
    """Return E |e - noise|^2 of N(m, v I), integrated over log r and at its start, at x with |x - m|^2 = square.

    noise = r (y - m) / (v + r^2) gives (d v^2 + r^2 |x - m|^2) / (v + r^2)^2, with the integral over log r of
    d/2 [log(r^2 / (v + r^2)) + v / (v + r^2)] - |x - m|^2 / (2 (v + r^2)).
    """
    integral = lambda r: (
        d / 2 * (math.log(r**2 / (variance + r**2)) + variance / (variance + r**2)) - square / (2 * (variance + r**2))
    )
    return integral(end) - integral(r), (d * variance**2 + r**2 * square) / (variance + r**2) ** 2


def _prior_divergence(model: Denoiser, x: Samples, log_ratio: float) -> PerSample:
    """Return KL(N(a x, s^2 I) || prior) at the end of the process, in nats."""
    a, s, _ = at(model, log_ratio, x)
    prior = model.prior()
    variances = prior.variance if isinstance(prior, DiagonalGaussian) else torch.linalg.eigvalsh(prior.covariance)
    entropy = len(variances) / 2 * (1 + (2 * math.pi * s**2).log())
    return s**2 * variances.to(x).reciprocal().sum() / 2 - prior.log_prob((a * x).flatten(1)) - entropy
