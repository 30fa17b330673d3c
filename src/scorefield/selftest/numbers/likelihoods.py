"""R05, R06: likelihoods of exact models against closed forms, and the traces and probes that they are made of."""

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from unittest.mock import patch

import torch
from scipy import stats
from torch import Generator, Tensor

from scorefield.diffusion.denoisers import Denoiser, ExactDenoiser
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.process import Process
from scorefield.diffusion.published import EDM, VE, VP
from scorefield.inference import likelihood
from scorefield.inference.likelihood import log_prob
from scorefield.inference.probability_flow import at, decode, encode
from scorefield.numerics import ode
from scorefield.numerics.divergence import value_and_divergence
from scorefield.numerics.shapes import Field, Samples
from scorefield.numerics.tensors import normal, signs_like, spawn
from scorefield.selftest.cases import DENSITIES, F64, Wavy, f64, gaussian, learned, middle_time, z_limit
from scorefield.selftest.numbers.affine import USUAL
from scorefield.selftest.report import Check, Entry, Plan, Worst

# -------------------------------------------------------------------------------------------- exact likelihoods


def some(plan: Plan) -> dict[str, Process]:
    """Return the processes of a size: two whose ends differ, or all."""
    return {name: USUAL[name] for name in ("vp", "ve")} if plan.size == "smoke" else USUAL


def error_with_known_end(density: GaussianMixture, process: Process, x: Samples, tol: float) -> float:
    """Return the error of log p where the law at t_max is the noised mixture itself, not a Gaussian of its moments."""
    end = torch.tensor(process.t_max, dtype=F64)
    model = ExactDenoiser(density.like(x), process)
    a, s = process.mean_coef(end).to(x), process.std(end).to(x)
    with patch.object(model, "prior", lambda: density.like(x).noised(a, s)):
        found = log_prob(model, x, tol=tol, errors=False).value
    return float((found.double() - density.log_prob(x.double())).abs().max())


def integral(process: Process) -> float:
    """Return the sum of the density of a mixture in two dimensions over a grid, times the area of a cell."""
    axis = torch.linspace(-7, 7, 57, dtype=F64)
    found = log_prob(ExactDenoiser(DENSITIES["mixture-2d"], process), torch.cartesian_prod(axis, axis), errors=False)
    return float(found.value.exp().sum() * 0.25**2)


def there_and_back(model: Denoiser, x: Samples) -> tuple[float, float]:
    """Return how far points, and how far their log-determinants, are from themselves after the way out and back."""
    back = decode(model, encode(model, x, tol=1e-8), tol=1e-8)
    low, high = math.log(1e-3), math.log(float(model.process.ratio(f64(model.process.t_max))))

    def field(log_ratio: Tensor, state: Tensor, rows: Tensor) -> Tensor:
        velocity, trace = likelihood.flow(model, state[:, :-1], log_ratio)
        return torch.cat([velocity, trace[:, None]], 1)

    a, s, _ = at(model, low, x)
    start = torch.cat([a * x / torch.hypot(a, s), x.new_zeros(len(x), 1)], 1)
    with torch.no_grad():
        end = ode.dormand_prince(field, start, low, high, rtol=1e-8, atol=1e-8).y
        again = ode.dormand_prince(field, end, high, low, rtol=1e-8, atol=1e-8).y
    return float((back - x).abs().max()), float((again - start).abs().max())


def scaled(make: Callable[[float], Process], scale: float) -> float:
    """Return how far log p of data and noise in another unit is from log p - d log scale, at the same relative tol."""
    small = DENSITIES["mixture-2d"]
    large = GaussianMixture(small.weights, scale * small.means, scale**2 * small.covariances)
    x = small.sample(10, Generator().manual_seed(0))
    value = lambda density, unit: (
        log_prob(
            ExactDenoiser(density, make(unit)), unit * x, tol=1e-9 * min(1.0, unit), ratio_min=1e-3 * unit, errors=False
        ).value
    )
    return float((value(large, scale) - value(small, 1.0) + 2 * math.log(scale)).abs().max())


def exact_likelihoods(plan: Plan) -> Iterator[Check]:
    """Compare log p of exact models with closed forms, with its integral, its way back and its scaling."""
    usual, rows = some(plan), plan.of(smoke=3, quick=20, full=200)
    draw = lambda density, *path: density.sample(rows, spawn(plan.seed, *path))
    normals = Worst("nats from log p of a Gaussian with a full covariance", 1e-5)
    for d in (1, 4, 16) if plan.size == "smoke" else range(1, 17):
        density = gaussian(d)
        x = draw(density, "gaussian", d)
        for name, process in usual.items():
            found = log_prob(ExactDenoiser(density, process), x, tol=1e-7, errors=False).value
            normals.add(f"d={d}, {name}", float((found - density.log_prob(x)).abs().max()), rows)
    yield normals.check()
    mixtures = Worst("nats from log p of a mixture, its end known", 1e-5)
    single = Worst("nats from log p of a mixture in float32, its end known", 2e-3)
    thin = Worst("nats per dimension from log p of components of std 0.01", 1e-2)
    out = Worst("way of points to their latents and back", 1e-5)
    both = Worst("way of points and their log-determinants, forward and backward", 1e-5)
    narrow = GaussianMixture.isotropic(f64(1.0, 2.0), f64([0.0, 0.3, -1.0], [0.4, 1.0, 0.5]), 0.01)
    for name, process in usual.items():
        for kind in ("mixture-1d", "mixture-2d"):
            x = draw(DENSITIES[kind], kind)
            mixtures.add(f"{kind}, {name}", error_with_known_end(DENSITIES[kind], process, x, 1e-8), rows)
            single.add(f"{kind}, {name}", error_with_known_end(DENSITIES[kind], process, x.float(), 1e-5), rows)
        x = draw(narrow, "narrow")
        found = log_prob(ExactDenoiser(narrow, process), x, tol=1e-7, errors=False).value
        thin.add(name, float((found - narrow.log_prob(x)).abs().max()) / 3, rows)
        ways = there_and_back(ExactDenoiser(DENSITIES["mixture-2d"], process), draw(DENSITIES["mixture-2d"], "ways"))
        for worst, error in zip((out, both), ways, strict=True):
            worst.add(name, error, rows)
    yield from (worst.check() for worst in (mixtures, single, thin, out, both))
    whole = Worst("integral over two dimensions, less 1", 1e-4)
    for name in ("ve",) if plan.size == "smoke" else usual:
        whole.add(name, abs(integral(usual[name]) - 1), 57**2)
    yield whole.check()
    scaling = Worst("log p(c x) less log p(x) - d log c for data and noise in other units", 1e-6)
    makers = {"ve": lambda c: VE(0.01 * c, 50.0 * c), "edm": lambda c: EDM(80.0 * c)}
    for name, power in itertools.product(makers, (-4, 4) if plan.size == "smoke" else (-4, -3, -2, -1, 1, 2, 3, 4)):
        scaling.add(f"{name}, c=1e{power}", scaled(makers[name], 10.0**power), 10)
    yield scaling.check()


def no_jacobian() -> AbstractContextManager:
    """Plant a likelihood without the Jacobian of the scale at the end: right for VP, whose scale is 1 there."""
    whole = likelihood._Flow.log_prob

    def without(self: likelihood._Flow, state: Tensor, log_ratio: float) -> Tensor:
        a, s, _ = at(self.model, log_ratio, self.x)
        return whole(self, state, log_ratio) - self.d * torch.hypot(a, s).log()

    return patch.object(likelihood._Flow, "log_prob", without)


# --------------------------------------------------------------------------------------------------- traces


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
    if plan.size == "smoke":
        return
    count = plan.of(smoke=0, quick=100_000, full=1_000_000)
    drawn = {kind: probe_statistics(kind, count, spawn(plan.seed, kind)) for kind in ("signs", "normals")}
    deviates = Worst(
        "deviates of drawn probes and of likelihoods, false alarm 1e-6", z_limit(59)
    )  # 16 of probes, 1, 2 x 21
    for kind, found in drawn.items():
        deviates.add(f"mean or variance of {kind}", float(found.abs().max()), 4 * count)
    deviates.add("squares of normals, chi^2", length_statistic(count, spawn(plan.seed, "lengths")), count)
    for sketch in (0, 4):
        means, law = likelihood_errors(plan.seed, sketch)
        deviates.add(f"mean of log p, {sketch} sketched", means, 800)
        deviates.add(f"error of log p over its standard error, {sketch} sketched", law, 200)
    yield deviates.check()


def probes_drawn_anew() -> AbstractContextManager:
    """Plant a flow that draws its signs anew at every question: each step then follows another trace."""
    flow, draw = likelihood.flow, Generator().manual_seed(0)

    def forgetful(
        model: Denoiser, z: Samples, log_ratio: Tensor, probes: Tensor | None = None, sketch: int = 0
    ) -> tuple[Samples, Tensor]:
        return flow(model, z, log_ratio, None if probes is None else signs_like(probes, draw), sketch)

    return patch.object(likelihood, "flow", forgetful)


TESTS = {
    "R05": Entry("exact likelihood", exact_likelihoods, no_jacobian, smoke=True),
    "R06": Entry("trace estimators", trace_estimators, probes_drawn_anew, smoke=True),
}
