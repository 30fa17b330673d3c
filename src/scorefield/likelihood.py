"""Log-likelihoods through the probability flow, with their error."""

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from scorefield import ode, times
from scorefield.flow import coefficients
from scorefield.model import Denoiser
from scorefield.process import RATIO_MIN
from scorefield.tensors import signs_like
from scorefield.types import PerSample, Samples

EXACT_UP_TO = 32
"""The exact divergence is used up to this many dimensions; above, PROBES random probes."""

PROBES = 16
"""Hutchinson probes a row above EXACT_UP_TO dimensions."""

BLOCK = 2048
"""Rows are integrated in blocks of this size, which bounds memory."""


class LogProb(NamedTuple):
    """Log-density of each row in nats, its standard error from the probes (0 if exact), network calls a row."""

    value: PerSample
    stderr: PerSample
    evaluations: Tensor


def log_prob(
    model: Denoiser,
    x: Samples,
    *,
    probes: int | None = None,
    tol: float = 1e-5,
    ratio_min: float = RATIO_MIN,
    generator: Generator | None = None,
) -> LogProb:
    """Return log p_0(x) in nats by the instantaneous change of variables (Chen et al., 2018).

    In z = x / sqrt(a^2 + s^2) and l = log(s/a) the probability flow is dz/dl = sin (noise - z sin) with
    sin = s / sqrt(a^2 + s^2), smooth at both ends for every process; log p falls by its divergence.
    At t_max the density is the model's prior. The flow starts at the ratio r = ratio_min; the short way from 0 is one
    step of y = x/a, u = r^2/2: y = x - u S(x), log p_0(x) = log p_r(y) - u div S(x), S the score at r, with an error
    of order r^4. Leaving it out would cost up to a nat per dimension for data of std r.
    probes None: exact divergence up to EXACT_UP_TO dimensions, PROBES random signs above; the same probes serve one
    row along its whole way. Rows do not influence each other; tol is the solver's error a step.
    Raises RuntimeError where the flow cannot be integrated, ValueError for fewer than 2 probes.
    """
    if probes is not None and probes < 2:
        raise ValueError(f"a standard error needs at least 2 probes; got {probes}")
    d = x[0].numel() if len(x) else 1
    count = probes if probes is not None else (None if d <= EXACT_UP_TO else PROBES)
    parts = [_block(model, part, count, tol, ratio_min, generator) for part in x.split(BLOCK)] if len(x) else []
    empty = x.new_zeros(0)
    if not parts:
        return LogProb(empty, empty, torch.zeros(0, dtype=torch.long))
    return LogProb(*(torch.cat(column) for column in zip(*parts, strict=True)))


@torch.no_grad()
def _block(
    model: Denoiser, x: Tensor, count: int | None, tol: float, ratio_min: float, generator: Generator | None
) -> LogProb:
    d = x[0].numel()
    low, high = (math.log(r) for r in times.bounds(model.process, ratio_min))
    signs = None if count is None else torch.stack([signs_like(x, generator) for _ in range(count)])
    first = torch.full((len(x),), low, dtype=torch.float64, device=x.device)

    a, s, t = coefficients(model, first, x)
    noise, trace = model.noise_and_divergence(a * x, t, signs)
    half, cos = math.exp(low) / 2, a / torch.hypot(a, s)  # u S = -(r^2/2) noise / r
    z = cos * (x + half * noise)
    log_det = (half * a.flatten() * trace + d * cos.flatten().log()).reshape(-1, len(x)).T

    def field(log_ratio: Tensor, state: Tensor, rows: Tensor) -> Tensor:
        z = state[:, :d].reshape(-1, *x.shape[1:])
        probe = None if signs is None else signs[:, rows]
        velocity, trace = flow(model, z, log_ratio, probe)
        return torch.cat([velocity.flatten(1), trace.reshape(-1, len(z)).T], 1)

    state, evaluations = ode.dormand_prince(field, torch.cat([z.flatten(1), log_det], 1), low, high, rtol=tol, atol=tol)
    a, s, _ = coefficients(model, torch.full_like(first, high), x)
    scale = torch.hypot(a, s)
    end = scale * state[:, :d].reshape(x.shape)
    log_prior = model.prior().log_prob(end.flatten(1).to(model.mean)).to(x)
    each = log_prior[:, None] + d * math.log(float(scale.flatten()[0])) + state[:, d:]
    stderr = each.std(1) / math.sqrt(each.shape[1]) if count is not None else torch.zeros_like(log_prior)
    return LogProb(each.mean(1), stderr, evaluations + 1)


def flow(model: Denoiser, z: Samples, log_ratio: PerSample, probes: Tensor | None = None) -> tuple[Samples, Tensor]:
    """Return dz/dl of the probability flow in z = x / sqrt(a^2 + s^2) and l = log(s/a), row by row, and its divergence.

    The flow is sin cos (cos noise - sin clean) and z = cos clean + sin noise, so it is sin (noise - sin z).
    probes as in `divergence.value_and_divergence`.
    """
    a, s, t = coefficients(model, log_ratio, z)
    scale = torch.hypot(a, s)
    sin = s / scale
    noise, divergence = model.noise_and_divergence(scale * z, t, probes)
    trace = sin.flatten() * (scale.flatten() * divergence - sin.flatten() * z[0].numel())
    return sin * (noise - sin * z), trace
