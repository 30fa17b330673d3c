"""The probability flow as a map: data to latents of the prior and back, and ways between points through them."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from scorefield.diffusion import times
from scorefield.diffusion.denoisers import Denoiser
from scorefield.diffusion.process import RATIO_MIN
from scorefield.numerics import ode
from scorefield.numerics.shapes import Samples

TOL = 1e-7
"""The solver's error a step in `encode` and `decode`, in units of sqrt(a^2 + s^2)."""

ITERATIONS = 5
"""Iterations that undo the first step of `encode`: each gains a factor 2 + 2 (std / ratio_min)^2, std the smallest."""


def transport(model: Denoiser, x: Samples, start: float, stop: float, tol: float) -> Samples:
    """Carry x along the flow from one value of l = log(s/a) to another, each row with steps of its own.

    In z = x / sqrt(a^2 + s^2) the flow is dz/dl = sin (noise - sin z), sin = s / sqrt(a^2 + s^2), smooth for every
    process. tol is the solver's error a step in z. Raises RuntimeError where a row cannot be integrated.
    """

    def field(log_ratio: Tensor, z: Tensor, rows: Tensor) -> Tensor:
        a, s, t = coefficients(model, log_ratio, z)
        scale = (a**2 + s**2).sqrt()  # hypot's last bits depend on the number of rows
        _, noise = model.decompose((scale * z).reshape(-1, *x.shape[1:]), t)
        return s / scale * (noise.flatten(1) - s / scale * z)

    scale, scale_u = (torch.hypot(*at(model, log_ratio, x)[:2]) for log_ratio in (start, stop))
    solution = ode.dormand_prince(field, (x / scale).flatten(1), start, stop, rtol=0.0, atol=tol)
    return scale_u * solution.y.reshape(x.shape)


@torch.no_grad()
def encode(model: Denoiser, x: Samples, *, tol: float = TOL, ratio_min: float = RATIO_MIN) -> Samples:
    """Return the latents of points: where the flow takes x, noise 0, by t_max; they are distributed as the prior.

    The way from ratio 0 to ratio_min is one step, as in `likelihood.log_prob`. float64 is needed for small errors.

    Args:
        model: Whose flow it is.
        x: Points (n, *event).
        tol: The solver's error a step, in units of sqrt(a^2 + s^2).
        ratio_min: The smallest noise ratio that the model is asked at.

    Returns:
        Latents in the shape of x.

    Raises:
        RuntimeError: a row cannot be integrated.

    Examples:
        >>> import torch
        >>> from scorefield import VP, ExactDenoiser, GaussianMixture
        >>> x = torch.tensor([[0.5]], dtype=torch.float64)
        >>> model = ExactDenoiser(GaussianMixture.gaussian(0 * x[0], x / x), VP())  # N(0, 1)
        >>> print(f"{encode(model, x).item():.6f}, and back {decode(model, encode(model, x)).item():.6f}")
        0.500000, and back 0.500000
    """
    low, high = map(math.log, times.bounds(model.process, ratio_min))
    a, _, t = at(model, low, x)
    noise = model.decompose(a * x, t)[1]
    return transport(model, a * (x + ratio_min / 2 * noise), low, high, tol)


@torch.no_grad()
def decode(model: Denoiser, latents: Samples, *, tol: float = TOL, ratio_min: float = RATIO_MIN) -> Samples:
    """Return the points of latents, the inverse of `encode`.

    Args:
        model: Whose flow it is.
        latents: Rows (n, *event) of the prior.
        tol: The solver's error a step, in units of sqrt(a^2 + s^2).
        ratio_min: The smallest noise ratio that the model is asked at.

    Raises:
        RuntimeError: a row cannot be integrated.
    """
    low, high = map(math.log, times.bounds(model.process, ratio_min))
    a, _, t = at(model, low, latents)
    y = transport(model, latents, high, low, tol) / a
    x = y
    for _ in range(ITERATIONS):
        x = y - ratio_min / 2 * model.decompose(a * x, t)[1]
    return x


@torch.no_grad()
def interpolate(model: Denoiser, x: Samples, y: Samples, shares: Sequence[float]) -> Tensor:
    """Return points on the way from each x to each y, (shares, n, d): along great circles between their latents.

    A latent is whitened by the prior, w = L^-1 (latent - mean). With the angle c between two w the way has at share k
    the direction [sin((1 - k) c) w_x/|w_x| + sin(k c) w_y/|w_y|] / sin(c) and a length that goes evenly from one to the
    other: every point of it is a plausible draw, which the middle of a straight line in many dimensions is not. Between
    opposite w, as on a line, it leads through the prior's mean: the direction is cos(k pi) w_x/|w_x|.

    Args:
        model: Whose flow it is.
        x: Starts (n, d).
        y: Ends (n, d).
        shares: Of the way, from 0, which is x, to 1, which is y.

    Raises:
        RuntimeError: a row cannot be integrated.
    """
    prior = model.prior()
    mean, root = prior.mean.to(x), torch.linalg.cholesky(prior.covariance).to(x)
    ends = [torch.linalg.solve_triangular(root, (encode(model, z) - mean).T, upper=False).T for z in (x, y)]
    lengths = [w.norm(dim=1, keepdim=True).clamp(min=1e-12) for w in ends]
    first, last = (w / length for w, length in zip(ends, lengths, strict=True))
    angle = (first * last).sum(1, keepdim=True).clamp(-1, 1).acos().clamp(1e-6, math.pi - 1e-6)
    ways = []
    for k in shares:
        direction = (((1 - k) * angle).sin() * first + (k * angle).sin() * last) / angle.sin()
        ways.append(direction * ((1 - k) * lengths[0] + k * lengths[1]) @ root.T + mean)
    return torch.stack([decode(model, latents) for latents in ways])


def coefficients(model: Denoiser, log_ratio: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (a, s), shaped to multiply x, and t at log(s/a)."""
    t = model.process.time(log_ratio.exp()).clamp(max=model.process.t_max)
    a, s = model.process.kernel(t, x)
    return a, s, t


def at(model: Denoiser, log_ratio: float, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (a, s) for x, and t, at one value of log(s/a)."""
    return coefficients(model, torch.tensor(log_ratio, dtype=torch.float64), x)
