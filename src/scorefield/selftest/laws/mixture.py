"""R10: what comes out of samplers on a skewed mixture of three has its law."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from unittest.mock import patch

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from scorefield.diffusion.denoisers import Denoiser, ExactDenoiser
from scorefield.diffusion.published import VP
from scorefield.diffusion.times import grid
from scorefield.inference import exponential, samplers
from scorefield.inference.samplers import SAMPLERS
from scorefield.inference.step_grid import optimised
from scorefield.numerics.tensors import spawn
from scorefield.selftest.cases import DENSITIES
from scorefield.selftest.laws.oracle import BLOCK, Oracle
from scorefield.selftest.nulls import Deviates
from scorefield.selftest.report import Check, Entry, Plan

SKEWED = DENSITIES["mixture-2d"]

ENOUGH = {1: 250, 2: 60, 3: 40}
"""Steps by weak order at 20,000 samples: with a quarter of them distances are at most 0.016, 0.052 and 0.013."""

BIAS = 0.2
"""The part of what Kolmogorov's distance can see that the bias of these steps may be; by their orders it is less."""


def uniforms(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return F(x_1), F(x_2 | x_1) and the posterior weights of the modes, in NumPy (Rosenblatt, 1952)."""
    weights, means, covariances = SKEWED.weights.numpy(), SKEWED.means.numpy(), SKEWED.covariances.numpy()
    first = stats.norm(means[:, 0], np.sqrt(covariances[:, 0, 0]))
    slope = covariances[:, 0, 1] / covariances[:, 0, 0]
    rest = np.sqrt(covariances[:, 1, 1] - slope * covariances[:, 0, 1])
    shares = weights * first.pdf(points[:, :1])
    shares /= shares.sum(1, keepdims=True)
    second = stats.norm(means[:, 1] + slope * (points[:, :1] - means[:, 0]), rest)
    posterior = shares * second.pdf(points[:, 1:])
    return (
        (weights * first.cdf(points[:, :1])).sum(1),
        (shares * second.cdf(points[:, 1:])).sum(1),
        posterior / posterior.sum(1, keepdims=True),
    )


def add_mixture(deviates: Deviates, name: str, x: Tensor, bias: float = 0.0) -> None:
    """Add the tests of samples: two distances, two energies, one of both columns together, two weights of modes.

    On a line the energy distance is twice that of Cramer and von Mises (Szekely and Rizzo, 2013), whose law is known.
    """
    *marginals, posterior = uniforms(x.numpy())
    for column, u in enumerate(marginals, 1):
        deviates.uniform(f"column {column} of {name}", u, bias)
        deviates.tail(f"energy {column} of {name}", float(stats.cramervonmises(u, "uniform").pvalue))
    counts = np.histogram2d(marginals[0], marginals[1], bins=8, range=[[0.0, 1.0], [0.0, 1.0]])[0].ravel()
    expected = len(x) / len(counts)
    total = float(((counts - expected) ** 2 / expected).sum())
    deviates.tail(f"columns together of {name}", float(stats.chi2(len(counts) - 1).sf(total)))
    for k in range(2):
        error = posterior[:, k].std() / math.sqrt(len(x))
        deviates.normal(f"weight {k + 1} of {name}", (posterior[:, k].mean() - float(SKEWED.weights[k])) / error)


def draw_mixture(name: str, n: int, seed: int) -> Tensor:
    """Return n samples of a sampler by the exact model of the mixture, in enough steps for so many."""
    row, generator = SAMPLERS[name], spawn(seed, "mixture", name)
    model: Denoiser = Oracle(SKEWED, VP())
    if row.weak_order is None:
        model, path = ExactDenoiser(SKEWED, VP()), grid(VP(), 1)
    else:
        steps = math.ceil(ENOUGH[row.weak_order] * (n / 20_000) ** (0.5 / row.weak_order))
        path = optimised(model, steps)
    parts = [min(BLOCK, n - k) for k in range(0, n, BLOCK)]
    draw = lambda rows: samplers.draw_block(model, model.prior().sample(rows, generator), row.make(generator), path)
    return torch.cat([draw(rows) for rows in parts])


def mixture_laws(plan: Plan) -> Iterator[Check]:
    """Compare every sampler's law on the mixture with the truth, by what makes it uniform."""
    n, deviates = plan.of(4_000, 40_000, 100_000), Deviates()
    distance = math.sqrt(math.log(2 / (1e-6 / 7 / len(SAMPLERS))) / 2 / n)
    for name in SAMPLERS:
        add_mixture(deviates, name, draw_mixture(name, n, plan.seed), BIAS * distance)
    yield deviates.check(f"law of the mixture, a distance of {distance:.4f} is seen", n * len(SAMPLERS))
    exact = Deviates()
    add_mixture(exact, "exact draws", SKEWED.sample(n, spawn(plan.seed, "exact draws")))
    yield exact.check("exact draws", n)


def narrow_noise() -> AbstractContextManager:
    """Plant noise that is a tenth too small in the samplers."""
    return patch.object(samplers, "normal_like", lambda x, generator=None: 0.9 * exponential.normal_like(x, generator))


TESTS = {"R10": Entry("samplers on a skewed mixture", mixture_laws, narrow_noise, smoke=False)}
