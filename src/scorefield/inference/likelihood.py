"""Log-likelihoods through the probability flow, with their error."""

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from scorefield.diffusion import times
from scorefield.diffusion.denoisers import Denoiser
from scorefield.diffusion.process import RATIO_MIN
from scorefield.inference.probability_flow import at, coefficients
from scorefield.numerics import ode
from scorefield.numerics.shapes import PerSample, Samples
from scorefield.numerics.tensors import dot, normal_like, signs_like

EXACT_UP_TO = 32
"""The exact divergence is used up to this many dimensions; above, PROBES random probes."""

PROBES = 16
"""Hutchinson probes a row above EXACT_UP_TO dimensions."""

BLOCK, DERIVATIVES = 2048, 16_384
"""Rows are integrated in blocks of at most this size and this many derivatives a call, which stay in the cache."""

SINGLE_FROM = 1e-3
"""From this tolerance on the network is asked in float32, at half the price: that moves log p by about 1e-6 nats."""


class LogProb(NamedTuple):
    """Log-density of each row in nats, and what is known of its error, in nats too.

    stderr: the standard error from the random probes, 0 if the divergence is exact. evaluations: network calls a row.
    solver_error: how far the value is from that of ten times the tolerance, which bounds its own error from above.
    start_error: how much the value changes where the flow starts at twice the smallest ratio; at the ratio itself the
    error is about a sixteenth of it. Both are None where they were not asked for.
    """

    value: PerSample
    stderr: PerSample
    evaluations: Tensor
    solver_error: PerSample | None = None
    start_error: PerSample | None = None


def log_prob(
    model: Denoiser,
    x: Samples,
    *,
    probes: int | None = None,
    sketch: int = 0,
    tol: float = 1e-5,
    ratio_min: float = RATIO_MIN,
    errors: bool = True,
    generator: Generator | None = None,
) -> LogProb:
    """Return log p_0(x) in nats by the instantaneous change of variables (Chen et al., 2018).

    In z = x / sqrt(a^2 + s^2) and l = log(s/a) the probability flow is dz/dl = sin (noise - z sin) with
    sin = s / sqrt(a^2 + s^2), smooth at both ends for every process; log p falls by its divergence.
    At t_max the density is the model's prior. The flow starts at the ratio r = ratio_min; the short way from 0 is one
    step of y = x/a, u = r^2/2: y = x - u S(x), log p_0(x) = log p_r(y) - u div S(x), S the score at r, with an error
    of order r^4. Leaving it out would cost up to a nat per dimension for data of std r. Rows do not influence each
    other.

    Long because each argument is explained.

    Args:
        model: Whose density it is.
        x: Points (n, *event) in model units.
        probes: Random signs of the divergence, the same for a row along its whole way; None: exact up to EXACT_UP_TO
            dimensions, PROBES above.
        sketch: That many more span a subspace whose part of the divergence is exact (Hutch++, see
            `divergence.value_and_divergence`), each at the price of two probes.
        tol: The solver's error a step; from SINGLE_FROM on the network computes in float32, whose rounding may depend
            on the batch.
        ratio_min: r.
        errors: Also solve at ten times the tolerance, at about 0.7 times the price, for the errors of solver and start.
        generator: What probes are drawn from.

    Raises:
        ValueError: fewer than 2 probes; a sketch without probes or as large as the dimension.
        RuntimeError: the flow cannot be integrated.

    Examples:
        >>> import torch
        >>> from scorefield import VP, ExactDenoiser, GaussianMixture
        >>> density = GaussianMixture.gaussian(torch.zeros(2).double(), torch.eye(2).double())
        >>> x = torch.tensor([[0.0, 0.0], [3.0, 0.0]], dtype=torch.float64)
        >>> [f"{value:.3f}" for value in log_prob(ExactDenoiser(density, VP()), x).value]
        ['-1.838', '-6.338']
    """
    if probes is not None and probes < 2:
        raise ValueError(f"a standard error needs at least 2 probes; got {probes}")
    d = x[0].numel() if len(x) else 1
    count = probes if probes is not None else (None if d <= EXACT_UP_TO else PROBES)
    if sketch and (count is None or not 0 < sketch < d):
        raise ValueError(f"a sketch needs probes, and fewer directions than the {d} dimensions; got {sketch}")
    if not len(x):
        none = x.new_zeros(0)
        return LogProb(none, none, torch.zeros(0, dtype=torch.long), *((none, none) if errors else ()))
    if tol >= SINGLE_FROM:
        model = model.with_single_network()
    size = max(1, min(BLOCK, DERIVATIVES // (d if count is None else count + sketch)))
    parts = [_block(model, part, count, sketch, tol, ratio_min, errors, generator) for part in x.split(size)]
    return LogProb(
        torch.cat([part.value for part in parts]),
        torch.cat([part.stderr for part in parts]),
        torch.cat([part.evaluations for part in parts]),
        _joined([part.solver_error for part in parts]),
        _joined([part.start_error for part in parts]),
    )


def _joined(parts: list[PerSample | None]) -> PerSample | None:
    """Return the parts of a column as one, None where it was not asked for."""
    known = [part for part in parts if part is not None]
    return torch.cat(known) if known else None


@torch.no_grad()
def _block(
    model: Denoiser,
    x: Tensor,
    count: int | None,
    sketch: int,
    tol: float,
    ratio_min: float,
    errors: bool,
    generator: Generator | None,
) -> LogProb:
    kind = normal_like if sketch else signs_like
    signs = None if count is None else torch.stack([kind(x, generator) for _ in range(sketch + count)])
    low, high = (math.log(r) for r in times.bounds(model.process, ratio_min))
    field = _Flow(model, x, signs, sketch)
    start = field.start(low)
    state, evaluations = ode.dormand_prince(field, start, low, high, rtol=tol, atol=tol)
    each = field.log_prob(state, high)
    value = each.mean(1)
    stderr = each.std(1) / math.sqrt(each.shape[1]) if count is not None else torch.zeros_like(value)
    if not errors:
        return LogProb(value, stderr, evaluations + 1)
    later = math.log(times.bounds(model.process, 2 * ratio_min)[0])
    middle, before = ode.dormand_prince(field, start, low, later, rtol=10 * tol, atol=10 * tol)
    coarse, after = ode.dormand_prince(field, middle, later, high, rtol=10 * tol, atol=10 * tol)
    solver_error = (field.log_prob(coarse, high).mean(1) - value).abs()
    start_error = field.difference(middle, field.start(later), later).abs()
    return LogProb(value, stderr, evaluations + before + after + 3, solver_error, start_error)


class _Flow:
    """The flow of a block of rows and its divergence: states (n, d + m) of z and m estimates of the log-determinant."""

    def __init__(self, model: Denoiser, x: Tensor, signs: Tensor | None, sketch: int) -> None:
        self.model, self.x, self.signs, self.sketch = model, x, signs, sketch
        self.d = x[0].numel()

    def start(self, log_ratio: float) -> Tensor:
        """Return the state at a small log(s/a), by one step from the data at ratio 0."""
        a, s, t = at(self.model, log_ratio, self.x)
        noise, trace = self.model.noise_and_divergence(a * self.x, t, self.signs, self.sketch)
        half, cos = math.exp(log_ratio) / 2, a / torch.hypot(a, s)  # u S = -(r^2/2) noise / r
        z = cos * (self.x + half * noise)
        log_det = (half * a * trace + self.d * cos.log()).reshape(-1, len(self.x)).T
        return torch.cat([z.flatten(1), log_det], 1)

    def __call__(self, log_ratio: Tensor, state: Tensor, rows: Tensor) -> Tensor:
        signs = None if self.signs is None else self.signs[:, rows]
        velocity, trace = flow(self.model, self.position(state), log_ratio, signs, self.sketch)
        return torch.cat([velocity.flatten(1), trace.reshape(-1, len(state)).T], 1)

    def position(self, state: Tensor) -> Tensor:
        """Return z of a state."""
        return state[:, : self.d].reshape(-1, *self.x.shape[1:])

    def log_prob(self, state: Tensor, log_ratio: float) -> Tensor:
        """Return log p of the data, (n, m), where the state at the end of the process is known."""
        a, s, _ = at(self.model, log_ratio, self.x)
        scale = torch.hypot(a, s)
        end = (scale * self.position(state)).flatten(1)
        prior = self.model.prior().log_prob(end.to(self.model.mean)).to(self.x)
        return prior[:, None] + self.d * scale.log() + state[:, self.d :]

    def difference(self, one: Tensor, other: Tensor, log_ratio: float) -> Tensor:
        """Return by how much log p of the data differs by two states near each other, (n,)."""
        a, s, t = at(self.model, log_ratio, self.x)
        scale = torch.hypot(a, s)
        score = -scale / s * self.model.decompose(scale * self.position(one), t)[1]  # of z
        return dot(score, self.position(one) - self.position(other)) + (one - other)[:, self.d :].mean(1)


def flow(
    model: Denoiser, z: Samples, log_ratio: PerSample, probes: Tensor | None = None, sketch: int = 0
) -> tuple[Samples, Tensor]:
    """Return dz/dl of the probability flow in z = x / sqrt(a^2 + s^2) and l = log(s/a), row by row, and its divergence.

    The flow is sin cos (cos noise - sin clean) and z = cos clean + sin noise, so it is sin (noise - sin z).
    probes and sketch as in `divergence.value_and_divergence`.
    """
    a, s, t = coefficients(model, log_ratio, z)
    scale = (a**2 + s**2).sqrt()  # hypot's last bits depend on the number of rows
    sin = s / scale
    noise, divergence = model.noise_and_divergence(scale * z, t, probes, sketch)
    trace = sin.flatten() * (scale.flatten() * divergence - sin.flatten() * z[0].numel())
    return sin * (noise - sin * z), trace
