"""Score-matching objectives: one number per sample, half a squared error each, in nats where a score is meant."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from scorefield import prediction
from scorefield.densities import posterior_of_rows
from scorefield.model import Denoiser
from scorefield.process import Process
from scorefield.tensors import match, normal_like
from scorefield.types import PerSample, Rows, Samples, Times

Weight = Callable[[Process, Tensor], Tensor]

WEIGHTS: dict[str, Weight] = {
    "noise": lambda process, t: torch.ones_like(t),
    "score": lambda process, t: process.std(t) ** -2,
    "clean": lambda process, t: process.ratio(t) ** 2,
    "likelihood": lambda process, t: (process.diffusion(t) / process.std(t)) ** 2,
}
"""Weights w(t) on the squared error of the predicted noise.

noise       1           lambda = s^2: Song and Ermon, 2019; Ho et al., 2020
score       1 / s^2     the plain Fisher divergence (Vincent, 2011)
clean       (s/a)^2     the squared error of the denoised sample
likelihood  (g/s)^2     lambda = g^2, a bound on the log-likelihood (Song et al., 2021b, thm. 1)
"""


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


OBJECTIVES = {"denoising": denoising}
"""The objectives by their name on the command line."""
