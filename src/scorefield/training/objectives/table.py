"""The objectives by name: each trains a model at any noise level, so that their choice changes nothing else."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from scorefield.diffusion import prediction, times
from scorefield.diffusion.denoisers import Denoiser, ExactDenoiser, ScoreModel
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.process import Process
from scorefield.numerics.shapes import Field, PerSample, Rows, Samples, Times
from scorefield.numerics.tensors import match
from scorefield.training.objectives.losses import (
    denoising,
    denoising_energy,
    explicit,
    implicit,
    noised,
    second_order,
    sliced,
    sliced_energy,
)

STEP = 0.05
"""The finite-difference step of the objectives of a model, in standard deviations of the noise."""

CURVATURE = 0.1
"""The weight of the curvature regulariser, in units of the noise: it shrinks the score of pure noise by 1 / 1.2."""


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
        at = _standardised(model, x, t, generator)
        return at.weight * objective(at.score, at.y, generator)

    return loss


@dataclass(frozen=True)
class _Standardised:
    """Noisy rows y = x_t / u in a unit u >= s, and what a loss of the score in y needs.

    score: that of the model in y; weight: of its squared error; target: -z u / s, what denoising makes of the noise.
    """

    y: Samples
    unit: Tensor
    score: Field
    weight: PerSample
    target: Samples


def _standardised(model: Denoiser, x: Samples, t: Times, generator: Generator | None) -> _Standardised:
    noisy, z, a, s = noised(model.process, x, t, generator)
    far = 200 * torch.finfo(x.dtype).eps / STEP * noisy.detach().flatten(1).abs().amax(1)
    u = torch.maximum(s.expand(len(x), *[1] * (x.ndim - 1)), match(far, x))
    gain = prediction.noise_gain(a, s, *(match(c, x) for c in model.coefficients(t.double())))
    weight = (s / (u * gain)).square().flatten()
    return _Standardised(noisy / u, u, lambda y: u * model.score(u * y, t), weight, -u / s * z)


def _explicit(model: Denoiser, x: Samples, t: Times, task: Task, generator: Generator | None) -> PerSample:
    if task.truth is None:
        raise ValueError(
            "the objective 'explicit' needs data whose score is known: a built-in Gaussian mixture; "
            "for other data there is 'parzen', the score of a kernel density estimate"
        )
    truth = ExactDenoiser(task.truth.like(x), model.process)
    at = _standardised(model, x, t, generator)
    return at.weight * explicit(at.score, at.y, lambda y: at.unit * truth.score(at.unit * y, t))


def _energy(model: Denoiser, t: Tensor, u: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the unnormalised log-density of a model at t as a function of y = x / u. ValueError where it has none."""
    if not isinstance(model, ScoreModel) or not model.has_potential:
        raise ValueError("this objective differentiates an energy by differences: it needs --network energy")
    return lambda y: model.log_potential(u * y, t)


def _sliced_energy(model: Denoiser, x: Samples, t: Times, task: Task, generator: Generator | None) -> PerSample:
    at = _standardised(model, x, t, generator)
    return at.weight * sliced_energy(_energy(model, t, at.unit), at.y, step=STEP, generator=generator)


def _denoising_energy(model: Denoiser, x: Samples, t: Times, task: Task, generator: Generator | None) -> PerSample:
    at = _standardised(model, x, t, generator)
    return at.weight * denoising_energy(_energy(model, t, at.unit), at.y, at.target, step=STEP, generator=generator)


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
