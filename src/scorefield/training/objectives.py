"""Score-matching objectives: one number per sample, half a squared error each, in nats where a score is meant.

`explicit`, `implicit` and `sliced` act on a plain vector field x -> score; `denoising` on a model at times t. Each of
OBJECTIVES trains a model at any noise level, so that the choice of the objective changes nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from scorefield.diffusion import prediction, times
from scorefield.diffusion.denoisers import Denoiser, ExactDenoiser, ScoreModel
from scorefield.diffusion.densities import GaussianMixture, posterior_of_rows
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

STEP = 0.05
"""The finite-difference step of the objectives of a model, in standard deviations of the noise."""

CURVATURE = 0.1
"""The weight of the curvature regulariser, in units of the noise: it shrinks the score of pure noise by 1 / 1.2."""


def explicit(score: Field, x: Samples, true_score: Field) -> PerSample:
    """Return half the squared distance to a known score, 1/2 |score(x) - true_score(x)|^2 (Hyvarinen, 2005, eq. 2).

    Its mean over the density of true_score is the Fisher divergence; over a grid, tutorial 001's unweighted form. With
    the score of a kernel density estimate it is score matching by Parzen windows (Vincent, 2011).
    Raises ValueError where the two have different shapes.
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

    Its mean over the data is that of `explicit` less E |true score|^2 / 2.
    probes None: exact divergence; otherwise from so many random directions v, v . D score v (Hutchinson, 1989), which
    is sliced score matching with reduced variance (Song et al., 2019).
    step: finite differences of this size in place of automatic differentiation, as in `divergence.along`; along all
    axes, or along the random directions (Pang et al., 2020). The error is of order step^2 for smooth fields.
    curvature: adds this times sum_i (d score_i / d x_i)^2 (Kingma and LeCun, 2010), which biases the score of
    Gaussian data N(m, c^2) to -(x - m) / (c^2 + 2 curvature) but bounds the loss below where samples are few.
    Raises ValueError for curvature with probes, which cannot tell it, and as `divergence.along`.
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
    step: finite differences, as in `implicit` (Pang et al., 2020).
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

    1/2 ((f(x + h v) - f(x - h v)) / 2h)^2 + (f(x + h v) + f(x - h v) - 2 f(x)) / h^2 for f: samples -> numbers (n,),
    which need not be normalised. No derivative in x is taken; the error is of order h^2.
    Raises ValueError for a step that is not positive or that rounding swallows.
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
    order h^2; target is the score of the noise, (a X_0 - x) / s^2. Raises ValueError as `sliced_energy`.
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
    weight it differs by a constant from the same half squared distance to the true score of the noised data.
    weight None: the squared error of what the model predicts, without a weight. One level, a ladder or the whole
    process is only the law of t (see `times`).
    references: rows of the data that include x, such as the batch itself. The target is then the mean of z given the
    noisy sample and these rows, which has much less variance than the one draw and the same mean (Xu et al., 2023,
    eq. 6; proof in docs/theory.md). Raises ValueError for an unknown weight.
    """
    a, s = model.process.kernel(t, x)
    noise = normal_like(x, generator)
    noisy, clean = a * x + s * noise, x
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
    the exact divergence. probes: so many random signs v in place of it, and for each 1/2 (s v . D noise_hat v - d +
    (v . (z - noise_hat))^2)^2 / d, whose minimiser is the exact v . D noise v.
    """
    a, s = model.process.kernel(t, x)
    z, d = normal_like(x, generator), x[0].numel()
    directions = axes(x) if probes is None else _signs(x, probes, generator)
    noise, terms = derivatives(lambda y: model.decompose(s * y, t)[1], (a * x + s * z) / s, directions)
    residual = z - noise.detach()
    if probes is None:
        return (terms.sum(0) - d + dot(residual, residual)).square() / (2 * d)
    slopes = torch.stack([dot(residual, v).square() for v in directions])
    return (terms - d + slopes).square().mean(0) / (2 * d)


@dataclass(frozen=True)
class Task:
    """What an objective may use beside the batch: the rows themselves and, for 'explicit', what is to be learned."""

    references: Rows | None = None
    truth: GaussianMixture | None = None


Objective = Callable[[Denoiser, Tensor, Tensor, Task, Generator | None], Tensor]


def at_noise(objective: Callable[[Field, Tensor, Generator | None], Tensor]) -> Objective:
    """Make an objective of a vector field one of a model: the same, of its score at x_t = a x + s z.

    It is taken in y = x_t / s, in which the score is -noise and of order one at every level, and weighted like
    `denoising` without a weight, by the squared error of the prediction for one of the noise. Rows so far out that a
    step of STEP would be lost in their rounding are taken in a larger unit; the curvature term alone depends on it.
    """

    def loss(model: Denoiser, x: Samples, t: Times, task: Task, generator: Generator | None) -> PerSample:
        y, field, weight, _, _ = _standardised(model, x, t, generator)
        return weight * objective(field, y, generator)

    return loss


def _standardised(
    model: Denoiser, x: Samples, t: Times, generator: Generator | None
) -> tuple[Samples, Field, Tensor, Tensor, Tensor]:
    """Return y = x_t / u for a unit u >= s; the score in y; the weight of its squared error; u; that of the noise.

    The last is z's part of the score, -z u / s, which denoising has for a target.
    """
    a, s = model.process.kernel(t, x)
    z = normal_like(x, generator)
    noisy = a * x + s * z
    far = 200 * torch.finfo(x.dtype).eps / STEP * noisy.detach().flatten(1).abs().amax(1)
    u = torch.maximum(s.expand(len(x), *[1] * (x.ndim - 1)), match(far, x))
    gain = prediction.noise_gain(a, s, *(match(c, x) for c in model.coefficients(t.double())))
    field = lambda y: u * model.score(u * y, t)
    return noisy / u, field, (s / (u * gain)).square().flatten(), u, -u / s * z


def _explicit(model: Denoiser, x: Samples, t: Times, task: Task, generator: Generator | None) -> PerSample:
    if task.truth is None:
        raise ValueError(
            "the objective 'explicit' needs data whose score is known: a built-in Gaussian mixture; "
            "for other data there is 'parzen', the score of a kernel density estimate"
        )
    truth = ExactDenoiser(task.truth.like(x), model.process)
    y, field, weight, u, _ = _standardised(model, x, t, generator)
    return weight * explicit(field, y, lambda y: u * truth.score(u * y, t))


def _energy(model: Denoiser, t: Tensor, u: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the unnormalised log-density of a model at t as a function of y = x / u. ValueError where it has none."""
    if not isinstance(model, ScoreModel) or not model.has_potential:
        raise ValueError("this objective differentiates an energy by differences: it needs --network energy")
    return lambda y: model.log_potential(u * y, t)


def _sliced_energy(model: Denoiser, x: Samples, t: Times, task: Task, generator: Generator | None) -> PerSample:
    y, _, weight, u, _ = _standardised(model, x, t, generator)
    return weight * sliced_energy(_energy(model, t, u), y, step=STEP, generator=generator)


def _denoising_energy(model: Denoiser, x: Samples, t: Times, task: Task, generator: Generator | None) -> PerSample:
    y, _, weight, u, target = _standardised(model, x, t, generator)
    return weight * denoising_energy(_energy(model, t, u), y, target, step=STEP, generator=generator)


def _denoising(model: Denoiser, x: Samples, t: Times, task: Task, generator: Generator | None) -> PerSample:
    return denoising(model, x, t, references=task.references, generator=generator)


def _likelihood(model: Denoiser, x: Samples, t: Times, task: Task, generator: Generator | None) -> PerSample:
    return denoising(model, x, t, weight="noise", references=task.references, generator=generator)


def _second_order(model: Denoiser, x: Samples, t: Times, task: Task, generator: Generator | None) -> PerSample:
    first = denoising(model, x, t, references=task.references, generator=generator)
    return first + second_order(model, x, t, probes=1, generator=generator)


@dataclass(frozen=True)
class ObjectiveRow:
    """One row of OBJECTIVES: the loss, the law of t where it is part of it, and what it asks of the network.

    derivative: it differentiates the score, of an energy then the gradient; energy: it takes differences of an energy.
    """

    loss: Objective
    law: Callable[[Process], times.Law] | None = None
    derivative: bool = False
    energy: bool = False


OBJECTIVES: dict[str, ObjectiveRow] = {
    "denoising": ObjectiveRow(_denoising),
    "likelihood": ObjectiveRow(_likelihood, law=times.log_uniform),
    "second-order": ObjectiveRow(_second_order, derivative=True),
    "explicit": ObjectiveRow(_explicit),
    "parzen": ObjectiveRow(_explicit),
    "implicit": ObjectiveRow(at_noise(lambda field, y, g: implicit(field, y)), derivative=True),
    "hutchinson": ObjectiveRow(
        at_noise(lambda field, y, g: implicit(field, y, probes=1, generator=g)), derivative=True
    ),
    "finite-difference": ObjectiveRow(at_noise(lambda field, y, g: implicit(field, y, step=STEP))),
    "curvature": ObjectiveRow(at_noise(lambda field, y, g: implicit(field, y, curvature=CURVATURE)), derivative=True),
    "sliced": ObjectiveRow(at_noise(lambda field, y, g: sliced(field, y, generator=g)), derivative=True),
    "fd-sliced": ObjectiveRow(at_noise(lambda field, y, g: sliced(field, y, step=STEP, generator=g))),
    "energy-sliced": ObjectiveRow(_sliced_energy, energy=True),
    "energy-denoising": ObjectiveRow(_denoising_energy, energy=True),
}
"""The objectives by their name on the command line.

likelihood        the weight (g/s)^2 over uniform t, drawn by importance: log s/a is then uniform
second-order      denoising, plus the divergence
parzen            explicit, the truth being a kernel density estimate of the training rows
hutchinson        implicit with one random direction; finite-difference: along all axes; curvature: regularised
energy-...        differences of the energy itself
"""


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
