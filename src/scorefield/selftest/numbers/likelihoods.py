"""R05: likelihoods of exact models against closed forms."""

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from unittest.mock import patch

import torch
from torch import Generator, Tensor

from scorefield.diffusion.denoisers import Denoiser, ExactDenoiser
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.process import Process
from scorefield.diffusion.published import EDM, VE
from scorefield.inference import likelihood
from scorefield.inference.likelihood import log_prob
from scorefield.inference.probability_flow import at, decode, encode
from scorefield.numerics import ode
from scorefield.numerics.shapes import Samples
from scorefield.numerics.tensors import spawn
from scorefield.selftest.cases import DENSITIES, F64, f64, gaussian
from scorefield.selftest.numbers.affine import USUAL
from scorefield.selftest.report import Check, Entry, Plan, Worst


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


TESTS = {"R05": Entry("exact likelihood", exact_likelihoods, no_jacobian, smoke=True)}
