"""R11: the laws of Langevin chains, of the corrector and of Metropolis' rule, as tests of draws from them."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from unittest.mock import patch

import numpy as np
import torch
from torch import Generator, Tensor

from scorefield.diffusion.by_name import PROCESSES
from scorefield.diffusion.denoisers import ExactDenoiser
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.process import Process
from scorefield.inference import langevin
from scorefield.inference.samplers import langevin_corrector
from scorefield.numerics.tensors import normal_like, spawn
from scorefield.selftest.cases import DENSITIES, F64, f64
from scorefield.selftest.nulls import Deviates, sees
from scorefield.selftest.report import Check, Entry, Plan

CENTRE, VARIANCE = 1.5, 0.4
"""The Gaussian of the chains, N(1.5, 0.4)."""

BLOCK = 20_000
"""Chains that walk together."""

SKEWED = DENSITIES["mixture-1d"]


def last(path: Iterator[Tensor]) -> Tensor:
    """Return the last state of a path."""
    *_, state = path
    return state


def in_blocks(end: Callable[[int, Generator], Tensor], n: int, generator: Generator) -> Tensor:
    """Return the ends of n chains, walked a block at a time."""
    return torch.cat([end(min(BLOCK, n - k), generator) for k in range(0, n, BLOCK)])


def add_normal(deviates: Deviates, name: str, x: Tensor, mean: float, variance: float) -> None:
    """Add the tests of mean and variance of draws of a Gaussian; where it has no variance, of a point."""
    if variance == 0:
        deviates.tail(f"end of {name}", 1.0 if float((x - mean).abs().max()) < 1e-12 else 0.0)
        return
    z = (x - mean) / math.sqrt(variance)
    deviates.normal(f"mean of {name}", float(z.sum()) / math.sqrt(z.numel()))
    deviates.chi_squared(f"variance of {name}", float(z.square().sum()), z.numel())


def add_laws(deviates: Deviates, n: int, seed: int) -> None:
    """Add the tests of every kind of chain."""
    for law in (unadjusted, annealed, underdamped, forgetting, corrector, metropolis, acceptance):
        law(deviates, n, spawn(seed, "chains", law.__name__))


def unadjusted(deviates: Deviates, n: int, generator: Generator) -> None:
    """Test mean and variance after some steps x <- (1 - h / c^2) (x - m) + m + sqrt(2 h T) z.

    After many steps the variance is T c^2 / (1 - h / 2c^2): that is the bias of the method, not an error.
    """
    score = lambda x: -(x - CENTRE) / VARIANCE
    start = lambda rows: torch.full((rows, 1), CENTRE + 1, dtype=F64)
    for size, temperature, steps in ((0.3, 1.0, 1), (0.3, 1.0, 4), (0.3, 0.5, 40), (0.1, 0.0, 7)):
        walk = lambda rows, g, size=size, steps=steps, t=temperature: last(
            langevin.unadjusted(score, start(rows), size, steps, g, t)
        )
        factor = 1 - size / VARIANCE
        variance = 2 * size * temperature * sum(factor ** (2 * k) for k in range(steps))
        name = f"{steps} steps of {size} at temperature {temperature}"
        add_normal(deviates, name, in_blocks(walk, n, generator), CENTRE + factor**steps, variance)


def annealed(deviates: Deviates, n: int, generator: Generator) -> None:
    """Test five steps at each of three levels, from N(4, 1), by the recursion: they do not reach the last level."""
    variances = [VARIANCE + level**2 for level in (2.0, 0.8, 0.3)]
    sizes = [0.2 * level**2 for level in (2.0, 0.8, 0.3)]
    scores = [lambda x, v=v: -(x - CENTRE) / v for v in variances]
    start = lambda rows, g: 4.0 + torch.randn(rows, 1, dtype=F64, generator=g)
    walk = lambda rows, g: last(langevin.annealed(scores, start(rows, g), sizes, 5, g))
    mean, variance = 4.0 - CENTRE, 1.0
    for v, size in zip(variances, sizes, strict=True):
        for _ in range(5):
            mean, variance = (1 - size / v) * mean, (1 - size / v) ** 2 * variance + 2 * size
    add_normal(deviates, "annealed chains", in_blocks(walk, n, generator), CENTRE + mean, variance)


def underdamped(deviates: Deviates, n: int, generator: Generator) -> None:
    """Test BAOAB from T c^2, the law it keeps, at any stable step: no bias, unlike the overdamped step."""
    score = lambda x: -(x - CENTRE) / VARIANCE
    for temperature in (1.0, 0.3):
        for size in (0.05, 0.6, 1.1):
            std = math.sqrt(temperature * VARIANCE)
            walk = lambda rows, g, size=size, t=temperature, std=std: last(
                langevin.underdamped(
                    score, CENTRE + std * torch.randn(rows, 1, dtype=F64, generator=g), size, 12, g, t, friction=2.0
                )
            )
            x = in_blocks(walk, n // 4, generator)
            add_normal(deviates, f"momentum, step {size}, temperature {temperature}", x, CENTRE, std**2)


def forgetting(deviates: Deviates, n: int, generator: Generator) -> None:
    """Test that the exact law is reached from far away, so the momentum is driven: e^-45 of the start is left."""
    start = lambda rows: torch.full((rows, 1), 5.0, dtype=F64)
    walk = lambda rows, g: last(langevin.underdamped(lambda x: -x / VARIANCE, start(rows), 0.3, 200, g, friction=1.5))
    add_normal(deviates, "momentum from far away", in_blocks(walk, n // 20, generator), 0.0, VARIANCE)


def corrector(deviates: Deviates, n: int, generator: Generator) -> None:
    """Test the corrector on N(0, c^2) noised to variance v: slope 1 - e/v on the start, and noise 2e.

    The published rule divides the mean norms of noise and score, which are equal up to a factor sqrt(v): its size is
    2 (a snr)^2 v up to a part of 2 / sqrt(rows).
    """
    c2, rows = 0.49, max(4_000, n // 10)
    density = GaussianMixture.gaussian(f64(0.0), f64([c2]))
    for kind in PROCESSES.values():
        process = kind()
        model = ExactDenoiser(density, process)
        for snr in (None, 0.16):
            for ratio, before in (1.0, 1.3), (0.05, 0.06):
                t, u = process.time(f64(before, ratio))
                v, size = corrected(process, u, c2, 1 - ratio / before, snr)
                x = math.sqrt(v) * torch.randn(rows, 1, dtype=F64, generator=generator)
                end = langevin_corrector(snr, generator)(model, x, t, u)
                name = f"corrector, {kind.__name__}, snr {snr}, at {ratio}"
                doubt = 0.0 if snr is None else 12 / math.sqrt(rows)  # relative, of the size
                residual = (end - (1 - size / v) * x) / math.sqrt(2 * size)
                slope = float((residual * x).sum()) / math.sqrt(v * rows)
                known = doubt * math.sqrt(size / v / 2 * rows)
                deviates.normal(f"slope of {name}", max(0.0, abs(slope) - known))
                total = float(residual.square().sum())
                nearest = min(max(float(rows), total * (1 - doubt)), total * (1 + doubt))
                deviates.chi_squared(f"noise of {name}", nearest, rows)


def corrected(process: Process, u: Tensor, c2: float, share: float, snr: float | None) -> tuple[float, float]:
    """Return the variance of the noised Gaussian at u, and the size of the corrector's step."""
    a, s = float(process.mean_coef(u)), float(process.std(u))
    v = a**2 * c2 + s**2
    return v, s**2 * share / 2 if snr is None else 2 * (a * snr) ** 2 * v


def corrector_order() -> Check:
    """Return how far the corrector leaves the variance of p_t, over what its order allows, share^2 / 4."""
    c2, worst, cases = 0.49, 0.0, 0
    for kind in PROCESSES.values():
        process = kind()
        model = ExactDenoiser(GaussianMixture.gaussian(f64(0.0), f64([c2])), process)
        for ratio, before in (1.0, 1.3), (1.0, 1.02), (0.05, 0.06):
            t, u = process.time(f64(before, ratio))
            share, cases = 1 - ratio / before, cases + 1
            v, _ = corrected(process, u, c2, share, None)
            with_noise = langevin_corrector(None, Generator().manual_seed(0))(model, torch.zeros(1, 1, dtype=F64), t, u)
            z = torch.randn(1, 1, dtype=F64, generator=Generator().manual_seed(0))
            slope = langevin_corrector(None, Generator().manual_seed(0))(model, f64([1.0]), t, u) - with_noise
            after = float(slope) ** 2 * v + float(with_noise / z) ** 2
            worst = max(worst, abs(after / v - 1) / (share**2 / 4))
    return Check("change of p_t's variance by the corrector over (h / 2)^2", worst, 1.0 + 1e-9, cases)


def probability(x: Tensor) -> np.ndarray:
    """Return the distribution function of the skewed mixture on a line: uniform for draws from it."""
    z = (x - SKEWED.means[:, 0]) / SKEWED.covariances[:, 0, 0].sqrt()
    return (torch.special.ndtr(z) * SKEWED.weights).sum(1).numpy()


def metropolis(deviates: Deviates, n: int, generator: Generator) -> None:
    """Test that draws of a skewed mixture are still that after steps of any size, be it a function or an object."""
    for size in (0.003, 0.05, 1.0):
        for kind, target in (("function", SKEWED.log_prob), ("object", SKEWED)):
            walk = lambda rows, g, size=size, target=target: last(
                langevin.mala(target, SKEWED.sample(rows, g), size, 10, g)
            )
            deviates.uniform(f"Metropolis, {kind}, step {size}", probability(in_blocks(walk, n // 20, generator)))


def acceptance(deviates: Deviates, n: int, generator: Generator) -> None:
    """Test N(0, 1) with h = 0.5 from x = 1: the share accepted is the integral of min(1, ratio), by quadrature."""
    h, rows = 0.5, n // 4
    x = torch.ones(rows, 1, dtype=F64)
    (end,) = langevin.mala(lambda x: -x.square().sum(1) / 2, x, h, 1, generator)
    z = torch.linspace(-9, 9, 20_001, dtype=F64)
    y = 1 - h + math.sqrt(2 * h) * z
    log_ratio = (1 - y**2) / 2 + z**2 / 2 - (1 - y + h * y) ** 2 / (4 * h)
    share = float(torch.trapezoid(log_ratio.clamp(max=0).exp() * (-(z**2) / 2).exp(), z)) / math.sqrt(2 * math.pi)
    found = float((end != 1).double().mean())
    deviates.normal("share accepted", (found - share) / math.sqrt(share * (1 - share) / rows))


def langevin_laws(plan: Plan) -> Iterator[Check]:
    """Compare chains with their exact discrete laws, and Metropolis' with the density it must keep."""
    n, deviates = plan.of(600_000, 1_000_000, 4_000_000), Deviates()
    add_laws(deviates, n, plan.seed)
    yield deviates.check(f"discrete laws, {sees(n, len(deviates.found))}", n)
    yield corrector_order()


def half_noise() -> AbstractContextManager:
    """Plant noise and step that do not match, sqrt(h) z in place of sqrt(2h) z."""
    return patch.object(langevin, "normal_like", lambda x, generator=None: 0.5**0.5 * normal_like(x, generator))


TESTS = {"R11": Entry("Langevin dynamics", langevin_laws, half_noise, smoke=False)}
