"""R06: the traces and probes that likelihoods are made of, against Jacobians and theory."""

import itertools
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from unittest.mock import patch

import torch
from scipy import stats
from torch import Generator, Tensor

from scorefield.diffusion.denoisers import Denoiser, ExactDenoiser
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.process import Process
from scorefield.diffusion.published import VP
from scorefield.inference import likelihood
from scorefield.inference.likelihood import log_prob
from scorefield.numerics.divergence import value_and_divergence
from scorefield.numerics.shapes import Field, Samples
from scorefield.numerics.tensors import normal, signs_like, spawn
from scorefield.selftest.cases import DENSITIES, F64, Wavy, f64, learned, middle_time, z_limit
from scorefield.selftest.numbers.affine import USUAL
from scorefield.selftest.report import Check, Entry, Plan, Worst


def field_of(event: tuple[int, ...], seed: int = 5) -> Field:
    """Return a random smooth network as a field on events of this shape."""
    net = Wavy(math.prod(event), seed).requires_grad_(False)
    return lambda x: net(x, 0 * x.flatten(1)[:, 0])


def jacobians(field: Field, x: Samples) -> Tensor:
    """Return the Jacobian of each row by reverse-mode differentiation, (n, d, d)."""
    d = x[0].numel()
    return torch.stack([torch.autograd.functional.jacobian(field, row[None]).reshape(d, d) for row in x])


def traces(field: Field, x: Samples) -> Tensor:
    """Return the trace of each row's Jacobian."""
    return jacobians(field, x).diagonal(dim1=1, dim2=2).sum(1)


def all_signs(event: tuple[int, ...], n: int) -> Tensor:
    """Return all 2^d vectors of signs as probes (2^d, n, *event): averages over them are exact expectations."""
    d = math.prod(event)
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=d)), dtype=F64).reshape(-1, 1, *event)
    return signs.expand(-1, n, *event)


def probe_statistics(kind: str, count: int, generator: Generator) -> Tensor:
    """Return z of the mean and of the variance of v . D v over drawn probes v, for four rows in six dimensions.

    The variance is 2 |S|^2 for normals, S the symmetric part of D, and that over all sign vectors for signs. The
    standard error of the sample variance follows from the fourth cumulant, 48 tr S^4 for normals.
    """
    field, x = field_of((6,)), normal((4, 6), torch.empty(0, dtype=F64), Generator().manual_seed(1))
    probes = normal((count, *x.shape), x, generator)
    if kind == "signs":
        probes = signs_like(probes, generator)
    estimates = value_and_divergence(field, x, probes)[1]
    if kind == "signs":
        every = value_and_divergence(field, x, all_signs((6,), 4))[1]
        variance = every.var(0, correction=0)
        fourth = ((every - every.mean(0)) ** 4).mean(0) - 3 * variance**2
    else:
        jacobian = jacobians(field, x)
        symmetric = (jacobian + jacobian.mT) / 2
        variance = 2 * symmetric.square().sum((1, 2))
        fourth = 48 * torch.linalg.matrix_power(symmetric, 4).diagonal(dim1=1, dim2=2).sum(1)
    mean = (estimates.mean(0) - traces(field, x)) / (variance / count).sqrt()
    spread = (estimates.var(0) - variance) / ((fourth + 2 * variance**2) / count).sqrt()
    return torch.cat([mean, spread])


def length_statistic(count: int, generator: Generator) -> float:
    """Return the normal deviate of the sum of squares of normal probes, whose law is chi^2, exactly."""
    x = torch.zeros(1, 6, dtype=F64)
    _, squares = value_and_divergence(lambda x: x, x, normal((count, 1, 6), x, generator))
    law = stats.chi2(6 * count)
    return float(stats.norm.isf(2 * min(law.cdf(float(squares.sum())), law.sf(float(squares.sum()))) / 2))


class Watched(ExactDenoiser):
    """An exact model that keeps the probes that it is asked with, by the row's latest place in the batch."""

    def __init__(self, density: GaussianMixture, process: Process) -> None:
        super().__init__(density, process)
        self.asked: list[Tensor] = []

    def noise_and_divergence(
        self, x: Samples, t: Tensor, probes: Tensor | None = None, sketch: int = 0
    ) -> tuple[Samples, Tensor]:
        """Return the noise and its divergence, as the parent does."""
        if probes is not None:
            self.asked.append(probes)
        return super().noise_and_divergence(x, t, probes, sketch)


def other_probes() -> float:
    """Return how many questions of one trajectory came with other probes than the first."""
    model = Watched(DENSITIES["gauss-3d"], VP())
    log_prob(model, f64([0.3, -0.2, 1.0]), probes=4, tol=1e-3, errors=False, generator=Generator().manual_seed(0))
    if len(model.asked) < 10:
        raise RuntimeError(f"the model was asked {len(model.asked)} times with probes")
    return float(sum(not torch.equal(probes, model.asked[0]) for probes in model.asked))


def likelihood_errors(seed: int, sketch: int) -> tuple[float, float]:
    """Return z of the mean error of log p from 8 probes, and the normal deviate of the law of error over stderr.

    The law is Student's of 7 degrees of freedom, by Kolmogorov's test over 5 rows and 40 seeds; the means are over
    the seeds, for each of 20 rows.
    """
    density = DENSITIES["gauss-16d"]
    model, x = ExactDenoiser(density, VP()), density.sample(20, Generator().manual_seed(0))
    exact = log_prob(model, x, tol=1e-6, errors=False).value
    errors, ratios = [], []
    for k in range(40):
        draw = spawn(seed, "likelihood", sketch, k)
        found = log_prob(model, x, probes=8, sketch=sketch, tol=1e-3, errors=False, generator=draw)
        errors.append(found.value - exact)
        ratios.append(errors[-1] / found.stderr)
    error = torch.stack(errors)
    means = (error.mean(0) / (error.std(0) / math.sqrt(40))).abs().max()
    deviate = stats.norm.isf(stats.t(39).sf(float(means)))  # of Student's law of 39 degrees of freedom
    pvalue = stats.kstest(torch.stack(ratios)[:, ::4].flatten().numpy(), stats.t(7).cdf).pvalue
    return float(deviate), float(stats.norm.isf(pvalue / 2))


def drawn_deviates(plan: Plan) -> Check:
    """Compare drawn probes, and the likelihoods made of them, with their theory."""
    count = plan.of(smoke=0, quick=100_000, full=1_000_000)
    drawn = {kind: probe_statistics(kind, count, spawn(plan.seed, kind)) for kind in ("signs", "normals")}
    limit = z_limit(59)  # 16 of probes, 1, 2 x 21
    deviates = Worst("deviates of drawn probes and of likelihoods, false alarm 1e-6", limit)
    for kind, found in drawn.items():
        deviates.add(f"mean or variance of {kind}", float(found.abs().max()), 4 * count)
    deviates.add("squares of normals, chi^2", length_statistic(count, spawn(plan.seed, "lengths")), count)
    for sketch in (0, 4):
        means, law = likelihood_errors(plan.seed, sketch)
        deviates.add(f"mean of log p, {sketch} sketched", means, 800)
        deviates.add(f"error of log p over its standard error, {sketch} sketched", law, 200)
    return deviates.check()


def trace_estimators(plan: Plan) -> Iterator[Check]:
    """Compare traces with Jacobians and probes with their theory; the smoke form draws nothing."""
    exact = Worst("exact trace against that of the Jacobian, relative", 1e-10)
    unbiased = Worst("mean and variance over all vectors of signs against theory, relative", 1e-10)
    for event in ((1,), (6,), (2, 2, 2)):
        field, x = field_of(event), torch.randn(4, *event, dtype=F64, generator=Generator().manual_seed(1))
        truth = traces(field, x)
        exact.add(f"event {event}", float((value_and_divergence(field, x)[1] - truth).abs().max()), 4)
        jacobian = jacobians(field, x)
        symmetric = (jacobian + jacobian.mT) / 2
        off = 2 * (symmetric.square().sum((1, 2)) - symmetric.diagonal(dim1=1, dim2=2).square().sum(1))
        _, estimates = value_and_divergence(field, x, all_signs(event, 4))
        for found, expected in ((estimates.mean(0), truth), (estimates.var(0, correction=0), off)):
            unbiased.add(f"event {event}", float(((found - expected) / (1 + expected.abs())).abs().max()), 4)
    for name, process in USUAL.items():
        t, base = middle_time(process, 0.3), DENSITIES["mixture-3d"]
        based = learned(process, "v", 3).requires_grad_(False)
        based.base = base
        x = base.noised(*(float(c) for c in process.kernel(t, base.means[:1]))).sample(4, Generator().manual_seed(2))
        for kind, model in (("mixture", ExactDenoiser(base, process)), ("network on a base", based)):
            truth = traces(lambda x: model.decompose(x, t)[1], x)  # noqa: B023
            found = model.noise_and_divergence(x, t)[1].detach()
            exact.add(f"{kind}, {name}", float(((found - truth) / (1 + truth.abs())).abs().max()), 4)
    yield exact.check()
    yield unbiased.check()
    yield Check("questions of a trajectory with other probes than its first", other_probes(), 0.0)
    if plan.size != "smoke":
        yield drawn_deviates(plan)


def probes_drawn_anew() -> AbstractContextManager:
    """Plant a flow that draws its signs anew at every question: each step then follows another trace."""
    flow, draw = likelihood.flow, Generator().manual_seed(0)

    def forgetful(
        model: Denoiser, z: Samples, log_ratio: Tensor, probes: Tensor | None = None, sketch: int = 0
    ) -> tuple[Samples, Tensor]:
        return flow(model, z, log_ratio, None if probes is None else signs_like(probes, draw), sketch)

    return patch.object(likelihood, "flow", forgetful)


TESTS = {"R06": Entry("trace estimators", trace_estimators, probes_drawn_anew, smoke=True)}
