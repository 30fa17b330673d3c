"""Score-matching losses: one number per sample, half a squared error each, in nats where a score is meant.

`explicit`, `implicit` and `sliced` act on a plain vector field x -> score; `denoising` on a model at times t.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from scorefield.diffusion import prediction
from scorefield.diffusion.denoisers import Denoiser
from scorefield.diffusion.densities import posterior_of_rows
from scorefield.diffusion.process import Process
from scorefield.numerics.divergence import along, axes, derivatives
from scorefield.numerics.shapes import Field, PerSample, Rows, Samples, Times
from scorefield.numerics.tensors import dot, match, normal_like, signs_like

Weight = Callable[[Process, Tensor], Tensor]

WEIGHTS: dict[str, Weight] = {
    "noise": lambda process, t: torch.ones_like(t),
    "score": lambda process, t: process.std(t) ** -2,
    "clean": lambda process, t: process.ratio(t) ** 2,
    "likelihood": lambda process, t: (process.diffusion(t) / process.std(t)) ** 2,
    "min-snr": lambda process, t: (5 * process.ratio(t) ** 2).clamp(max=1),
    "edm": lambda process, t: 1 + process.ratio(t) ** 2,
}
"""Weights w(t) on the squared error of the predicted noise.

noise       1                 lambda = s^2: Song and Ermon, 2019; Ho et al., 2020
score       1 / s^2           the plain Fisher divergence (Vincent, 2011)
clean       (s/a)^2           the squared error of the denoised sample
likelihood  (g/s)^2           lambda = g^2, a bound on the log-likelihood (Song et al., 2021b, thm. 1)
min-snr     min(1, 5 (s/a)^2) the squared error of the denoised sample times min(SNR, 5) (Hang et al., 2023)
edm         1 + (s/a)^2       Karras et al., 2022, for data of std 1: what weight None is for the prediction v
"""


class Noised(NamedTuple):
    """Rows with one draw of noise each: x_t = a x + s z, and a and s shaped to multiply it."""

    x: Tensor
    noise: Tensor
    a: Tensor
    s: Tensor


def noised(process: Process, x: Samples, t: Times, generator: Generator | None) -> Noised:
    """Return rows x at times t: a x + s z with standard normal z."""
    a, s = process.kernel(t, x)
    z = normal_like(x, generator)
    return Noised(a * x + s * z, z, a, s)


def explicit(score: Field, x: Samples, true_score: Field) -> PerSample:
    """Return half the squared distance to a known score, 1/2 |score(x) - true_score(x)|^2 (Hyvarinen, 2005, eq. 2).

    Its mean over the density of true_score is the Fisher divergence; over a grid, tutorial 001's unweighted form. With
    the score of a kernel density estimate it is score matching by Parzen windows (Vincent, 2011).

    Args:
        score: What is judged, x -> the shape of x.
        x: Points (n, *event).
        true_score: What it should be.

    Raises:
        ValueError: the two have different shapes.

    Examples:
        >>> import torch
        >>> explicit(lambda x: -x / 2, torch.tensor([[1.0], [2.0]]), lambda x: -x)  # N(0, 2) for N(0, 1)
        tensor([0.1250, 0.5000])
    """
    value, truth = score(x), true_score(x)
    if value.shape != truth.shape:
        raise ValueError(
            f"expected both scores in the shape of the samples, {tuple(x.shape)}; got {tuple(value.shape)} and "
            f"{tuple(truth.shape)}"
        )
    return (value - truth).square().flatten(1).sum(1) / 2


def implicit(
    score: Field,
    x: Samples,
    *,
    probes: int | None = None,
    step: float | None = None,
    curvature: float = 0.0,
    generator: Generator | None = None,
) -> PerSample:
    """Return 1/2 |score|^2 + div score, for which the truth need not be known (Hyvarinen, 2005, theorem 1).

    Its mean over the data is that of `explicit` less E |true score|^2 / 2. The divergence is exact, or from random
    directions v, v . D score v (Hutchinson, 1989), which is sliced score matching with reduced variance (Song et al.,
    2019). The curvature term, times sum_i (d score_i / d x_i)^2 (Kingma and LeCun, 2010), biases the score of Gaussian
    data N(m, c^2) to -(x - m) / (c^2 + 2 curvature) but bounds the loss below where samples are few.

    Args:
        score: x -> the shape of x.
        x: Points (n, *event).
        probes: So many random directions; None for the exact divergence.
        step: Finite differences of this size, with an error of order step^2 for smooth fields, along all axes or along
            the random directions (Pang et al., 2020); None for automatic differentiation.
        curvature: The weight of the curvature term.
        generator: What directions are drawn from.

    Raises:
        ValueError: curvature with probes, which cannot tell it; a step as in `divergence.along`.

    Examples:
        >>> import torch
        >>> implicit(lambda x: -x, torch.tensor([[0.0], [2.0]]))
        tensor([-1.,  1.])
    """
    if curvature and probes is not None:
        raise ValueError("the curvature regulariser needs the derivative along each axis: leave probes out")
    directions = axes(x) if probes is None else _signs(x, probes, generator)
    value, terms = derivatives(score, x, directions, step)
    divergence = terms.sum(0) if probes is None else terms.mean(0)
    loss = dot(value, value) / 2 + divergence
    return loss + curvature * terms.square().sum(0) if curvature else loss


def sliced(
    score: Field, x: Samples, *, slices: int = 1, step: float | None = None, generator: Generator | None = None
) -> PerSample:
    """Return 1/2 (v . score)^2 + v . D score v, the mean over random directions v (Song et al., 2019).

    v are random signs, for which E v v' = I: the same mean as `implicit`, with more variance.

    Args:
        score: x -> the shape of x.
        x: Points (n, *event).
        slices: So many directions.
        step: Finite differences of this size (Pang et al., 2020); None for automatic differentiation.
        generator: What directions are drawn from.
    """
    return torch.stack([_slice(*along(score, x, v, step), v) for v in _signs(x, slices, generator)]).mean(0)


def sliced_energy(
    log_density: Callable[[Tensor], Tensor],
    x: Samples,
    *,
    step: float,
    slices: int = 1,
    generator: Generator | None = None,
) -> PerSample:
    """Return sliced score matching of grad log_density by three values of it a direction (Pang et al., 2020).

    1/2 ((f(x + h v) - f(x - h v)) / 2h)^2 + (f(x + h v) + f(x - h v) - 2 f(x)) / h^2. No derivative in x is taken; the
    error is of order h^2.

    Args:
        log_density: f, samples -> numbers (n,), which need not be normalised.
        x: Points (n, *event).
        step: h.
        slices: So many directions v.
        generator: What directions are drawn from.

    Raises:
        ValueError: the step is not positive, or rounding swallows it.
    """
    _require_second(step, x)
    losses = []
    for v in _signs(x, slices, generator):
        middle, plus, minus = torch.func.vmap(log_density)(torch.stack([x, x + step * v, x - step * v]))
        losses.append(((plus - minus) / (2 * step)).square() / 2 + (plus + minus - 2 * middle) / step**2)
    return torch.stack(losses).mean(0)


def denoising_energy(
    log_density: Callable[[Tensor], Tensor],
    x: Samples,
    target: Samples,
    *,
    step: float,
    slices: int = 1,
    generator: Generator | None = None,
) -> PerSample:
    """Return denoising score matching of grad log_density by two values of it a direction (Pang et al., 2020).

    1/2 ((f(x + h v) - f(x - h v)) / 2h - v . target)^2, whose mean over the signs v is 1/2 |grad f - target|^2 up to
    order h^2.

    Args:
        log_density: f, samples -> numbers (n,), which need not be normalised.
        x: Noisy points (n, *event).
        target: The score of their noise, (a X_0 - x) / s^2.
        step: h.
        slices: So many directions v.
        generator: What directions are drawn from.

    Raises:
        ValueError: the step is not positive, or rounding swallows it.
    """
    _require_second(step, x)
    losses = []
    for v in _signs(x, slices, generator):
        plus, minus = torch.func.vmap(log_density)(torch.stack([x + step * v, x - step * v]))
        slope = (plus - minus) / (2 * step)
        losses.append((slope - dot(v, target)).square() / 2)
    return torch.stack(losses).mean(0)


def denoising(
    model: Denoiser,
    x: Samples,
    t: Times,
    *,
    weight: str | None = None,
    references: Rows | None = None,
    generator: Generator | None = None,
) -> PerSample:
    """Return half the weighted squared error of the denoised samples at times t, one draw of noise each.

    1/2 w(t) |noise_hat(a x + s z, t) - z|^2 with standard normal z (Vincent, 2011; Song et al., 2021, eq. 7). For any
    weight it differs by a constant from the same half squared distance to the true score of the noised data. One level,
    a ladder or the whole process is only the law of t (see `times`).

    Args:
        model: What is judged.
        x: Samples (n, *event) in model units.
        t: Times, (n,) or ().
        weight: One of WEIGHTS; None for the squared error of what the model predicts, without a weight.
        references: Rows of the data that include x, such as the batch itself. The target is then the mean of z given
            the noisy sample and these rows, which has much less variance than the one draw and the same mean (Xu et
            al., 2023, eq. 6; proof in docs/theory.md).
        generator: What the noise is drawn from.

    Raises:
        ValueError: the weight is unknown.
    """
    clean = x
    noisy, noise, a, s = noised(model.process, x, t, generator)
    if references is not None:
        clean, noise = posterior_of_rows(noisy, references, a, s)
    t = t.double()
    p, q = (match(c, x) for c in model.coefficients(t))
    error = model.predict(noisy, t) - (p * clean + q * noise)
    if weight is not None:
        if weight not in WEIGHTS:
            raise ValueError(f"weight must be one of {list(WEIGHTS)}; got {weight!r}")
        error = prediction.noise_gain(a, s, p, q) * match(WEIGHTS[weight](model.process, t).sqrt(), x) * error
    return error.square().flatten(1).sum(1) / 2


def second_order(
    model: Denoiser, x: Samples, t: Times, *, probes: int | None = None, generator: Generator | None = None
) -> PerSample:
    """Return 1/2 (s div noise_hat - d + |z - noise_hat|^2)^2 / d, to teach the divergence (Lu et al., 2022).

    The posterior covariance of the noise is I - s D noise (Meng et al., 2021), so its trace, the mean of
    |z - noise|^2, is d - s div noise. The residual is not differentiated: where the noise is exact, the minimiser is
    the exact divergence. With probes v it is 1/2 (s v . D noise_hat v - d + (v . (z - noise_hat))^2)^2 / d for each,
    whose minimiser is the exact v . D noise v.

    Args:
        model: What is judged.
        x: Samples (n, *event) in model units.
        t: Times, (n,) or ().
        probes: So many random signs; None for the exact divergence.
        generator: What noise and signs are drawn from.
    """
    d = x[0].numel()
    noisy, z, _, s = noised(model.process, x, t, generator)
    directions = axes(x) if probes is None else _signs(x, probes, generator)
    noise, terms = derivatives(lambda y: model.decompose(s * y, t)[1], noisy / s, directions)
    residual = z - noise.detach()
    if probes is None:
        return (terms.sum(0) - d + dot(residual, residual)).square() / (2 * d)
    slopes = torch.stack([dot(residual, v).square() for v in directions])
    return (terms - d + slopes).square().mean(0) / (2 * d)


def _slice(value: Tensor, derivative: Tensor, v: Tensor) -> Tensor:
    return dot(v, value).square() / 2 + derivative


def _signs(x: Tensor, count: int, generator: Generator | None) -> Tensor:
    if count < 1:
        raise ValueError(f"expected at least one random direction; got {count}")
    return torch.stack([signs_like(x, generator) for _ in range(count)])


def _require_second(step: float, x: Tensor) -> None:
    """Raise ValueError where a second difference of this step is lost in rounding."""
    eps, size = torch.finfo(x.dtype).eps, max(1.0, float(x.detach().abs().max()) if x.numel() else 1.0)
    if not step > max(10 * eps**0.5, 100 * eps * size):
        raise ValueError(
            f"a second difference of step {step:g} is lost in the rounding of {str(x.dtype)[6:]} numbers of size "
            f"{size:.3g}; use about {max(eps**0.25, 1000 * eps * size):.1g}, or float64"
        )
