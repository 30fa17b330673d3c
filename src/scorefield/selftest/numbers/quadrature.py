"""Means of objectives by quadrature: Vincent's and Hyvarinen's identities for any model."""

import itertools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from scorefield.diffusion.denoisers import Denoiser
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.prediction import noise_gain
from scorefield.diffusion.process import Process
from scorefield.numerics.shapes import PerSample, Samples
from scorefield.selftest.cases import DENSITIES, Wavy, f64, lattice, learned, middle_time
from scorefield.training.objectives import losses
from scorefield.training.objectives.losses import WEIGHTS, denoising, explicit, implicit, sliced

# ----------------------------------------------------------------------------------- nodes, weights and gradients


def hermite(n: int) -> tuple[Tensor, Tensor]:
    """Return Gauss-Hermite nodes and weights: exact normal means of polynomials up to degree 2 n - 1."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n)
    return torch.from_numpy(nodes), torch.from_numpy(weights / math.sqrt(2 * math.pi))


def grid_of_pairs(density: GaussianMixture, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return clean samples of a mixture in one dimension, noises and weights: quadrature for smooth models."""
    nodes, weights = hermite(n)
    stds = density.covariances.expand(len(density.means), 1, 1)[:, 0].sqrt()
    clean = (density.means + stds * nodes).reshape(-1, 1)
    share = (density.weights[:, None] * weights).reshape(-1)
    rows, columns = torch.cartesian_prod(torch.arange(len(clean)), torch.arange(n)).unbind(1)
    return clean[rows], nodes[columns, None], share[rows] * weights[columns]


def grid_of_normals(density: GaussianMixture, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return clean samples of a Gaussian in two dimensions, noises and weights."""
    nodes, weights = hermite(n)
    pairs = torch.cartesian_prod(*[nodes] * 4)
    share = torch.cartesian_prod(*[weights] * 4).prod(1)
    return density.mean + pairs[:, :2] @ torch.linalg.cholesky(density.covariance).mT, pairs[:, 2:], share


def given_noise(noise: Tensor) -> AbstractContextManager:
    """Let the objectives draw this noise."""
    return patch.object(losses, "normal_like", lambda x, generator=None: noise)


def over_signs(dim: int, loss: Callable[[], Tensor]) -> Tensor:
    """Return the mean of loss() over all vectors of signs, each of which is given to every row."""
    values = []
    for signs in itertools.product((-1.0, 1.0), repeat=dim):
        v = f64(*signs)
        with patch.object(losses, "signs_like", lambda x, generator=None, v=v: v.to(x).expand(x.shape)):
            values.append(loss())
    return torch.stack(values).mean(0)


def gradient_of(loss: Tensor, module: nn.Module) -> Tensor:
    """Return the gradient in all parameters that matter, as one vector."""
    found = torch.autograd.grad(loss, list(module.parameters()), allow_unused=True, retain_graph=True)
    return torch.cat([g.flatten() for g in found if g is not None])


def distance(found: Tensor, truth: Tensor) -> float:
    """Return the largest error, absolute below 1 and relative above."""
    return float(((found - truth).abs() / truth.abs().clamp(min=1)).max().detach())


# ----------------------------------------------------------------------------------- Vincent's and Hyvarinen's


def noise_weight(model: Denoiser, t: Tensor, weight: str | None) -> Tensor:
    """Return the weight on the squared error of the noise, again; None: what the prediction itself implies."""
    process = model.process
    a, s = process.mean_coef(t), process.std(t)
    if weight is None:
        return noise_gain(a, s, *model.coefficients(t)) ** -2
    return {
        "noise": torch.ones_like(t),
        "score": 1 / s**2,
        "clean": s**2 / a**2,
        "likelihood": process.diffusion(t) ** 2 / s**2,
        "min-snr": torch.minimum(torch.ones_like(t), 5 * s**2 / a**2),
        "edm": (a**2 + s**2) / a**2,
    }[weight]


def half_distance(model: Denoiser, density: GaussianMixture, x: Samples, t: Tensor) -> PerSample:
    """Return 1/2 |noise of the model - true noise|^2 at each x, the true one from the noised density's score."""
    a, s = model.process.mean_coef(t), model.process.std(t)
    true = -s * density.noised(a, s).score(x)
    return (model.decompose(x, t)[1] - true).square().sum(1) / 2


def constant(density: GaussianMixture, process: Process, t: Tensor, fineness: float) -> Tensor:
    """Return 1/2 E|z - E[z | x]|^2 = (d - E|true noise|^2) / 2: what no model can reduce."""
    a, s = process.mean_coef(t), process.std(t)
    x, cell = lattice(density.noised(a, s), fineness)
    noised = density.noised(a, s)
    return (density.dim - (noised.log_prob(x).exp() * (s * noised.score(x)).square().sum(1)).sum() * cell) / 2


def vincent(process: Process, predicts: str) -> float:
    """Return how far denoising is from the distance to the true score and its constant, and their gradients.

    For any model and every weight: both sides by quadrature (Vincent, 2011). The constant is known.
    """
    density, t = DENSITIES["mixture-1d"], middle_time(process, 0.4)
    clean, noise, share = grid_of_pairs(density, 48)
    noised = density.noised(process.mean_coef(t), process.std(t))
    x, cell = lattice(noised, fineness=12.0)
    model = learned(process, predicts, 1, data_std=1.7)
    explicit_loss = (noised.log_prob(x).exp() * cell) @ half_distance(model, density, x, t)
    rest, gradient, errors = constant(density, process, t, fineness=12.0), gradient_of(explicit_loss, model), []
    with given_noise(noise):
        for weight in (None, *WEIGHTS):
            loss = share @ denoising(model, clean, t, weight=weight) / noise_weight(model, t, weight)
            errors += [distance(loss, explicit_loss + rest), distance(gradient_of(loss, model), gradient)]
    return max(errors)


EXACT: dict[str, Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]] = {
    "implicit": lambda field, x: implicit(field, x),
    "hutchinson": lambda field, x: implicit(field, x, probes=1),
    "sliced": lambda field, x: sliced(field, x),
}
"""The forms whose mean over the random signs is exact."""


def field_of(dim: int, seed: int = 0) -> Wavy:
    """Return a smooth random field, in any dimension; it ignores the noise level."""
    net = Wavy(dim, seed)
    net.level.data.zero_()
    net.outer.data.mul_(2.0)
    return net


def as_field(net: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return the network as a function of x alone."""
    return lambda x: net(x, torch.zeros(len(x), dtype=x.dtype))


def hyvarinen(density: GaussianMixture, form: str) -> float:
    """Return how far a form without the true score is from `explicit` less E|true score|^2 / 2, gradients too."""
    x, cell = lattice(density, fineness=4.0 if density.dim == 1 else 2.0)
    share = density.log_prob(x).exp() * cell
    inside = share > 1e-14 * share.max()
    x, share = x[inside], share[inside]
    net = field_of(density.dim)
    field = as_field(net)
    truth = share @ (explicit(field, x, density.score) - density.score(x).square().sum(1) / 2)
    loss = over_signs(density.dim, lambda: share @ EXACT[form](field, x))
    return max(distance(loss, truth), distance(gradient_of(loss, net), gradient_of(truth, net)))
