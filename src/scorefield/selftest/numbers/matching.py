"""R07: every objective against the closed form of its mean, its gradient and its minimiser."""

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from unittest.mock import patch

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from scorefield.diffusion.denoisers import Denoiser, ScoreModel
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.prediction import PREDICTIONS, noise_gain
from scorefield.diffusion.process import Process
from scorefield.numerics.shapes import PerSample, Samples
from scorefield.numerics.tensors import dot, spawn
from scorefield.selftest.cases import DENSITIES, F64, Wavy, f64, lattice, learned, middle_time, z_limit
from scorefield.selftest.numbers.affine import USUAL
from scorefield.selftest.report import Check, Entry, Failures, Plan, Worst
from scorefield.training.objectives import losses, table
from scorefield.training.objectives.losses import WEIGHTS, denoising, explicit, implicit, sliced
from scorefield.training.objectives.table import OBJECTIVES, Task

# --------------------------------------------------------------------------------------------- quadrature


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


# ------------------------------------------------------------------------------------- Gaussians, closed forms


class Quadratic(nn.Module):
    """The gradient M z + b of z' M z / 2 + b' z, M symmetric: all that Gaussian data need at one time."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        rows, columns = torch.tril_indices(dim, dim)
        self.places = [rows, columns]
        self.entries = nn.Parameter(torch.linspace(-0.3, 0.5, len(rows), dtype=F64))
        self.shift = nn.Parameter(torch.linspace(0.2, -0.4, dim, dtype=F64))

    @property
    def matrix(self) -> Tensor:
        """M."""
        dim = len(self.shift)
        lower = torch.zeros(dim, dim, dtype=F64).index_put(tuple(self.places), self.entries)
        return (lower + lower.mT) / 2

    def potential(self, z: Samples, log_ratio: Tensor) -> PerSample:
        """Return the number of which this is the gradient."""
        return dot(z, z @ self.matrix) / 2 + z @ self.shift

    def forward(self, z: Samples, log_ratio: Tensor) -> Samples:
        """Return M z + b."""
        return z @ self.matrix + self.shift


class WavyEnergy(nn.Module):
    """The gradient of a smooth random number, as `networks.Energy` makes it."""

    def __init__(self, dim: int, seed: int) -> None:
        super().__init__()
        self.net = Wavy(dim, seed)

    def potential(self, z: Samples, log_ratio: Tensor) -> PerSample:
        """Return the number."""
        return self.net(z, log_ratio)[:, 0]

    def forward(self, z: Samples, log_ratio: Tensor) -> Samples:
        """Return its gradient."""
        return torch.func.grad(lambda z: self.potential(z, log_ratio).sum())(z)


class Moments:
    """Means of a model's noise N x + c on noised Gaussian data x ~ N(mu, S), where e = z - N x - c is normal too."""

    def __init__(self, model: Denoiser, density: GaussianMixture, t: Tensor) -> None:
        a, self.s = model.process.mean_coef(t), model.process.std(t)
        self.mu, self.sigma = a * density.mean, density.noised(a, self.s).covariance
        self.shift = model.decompose(torch.zeros(1, 2, dtype=F64), t)[1][0]
        self.matrix = (model.decompose(torch.eye(2, dtype=F64), t)[1] - self.shift).mT
        self.weight = noise_weight(model, t, None)
        self.e_mean = -self.matrix @ self.mu - self.shift
        mixed = self.s * (self.matrix + self.matrix.mT)
        self.e_covariance = torch.eye(2, dtype=F64) - mixed + self.matrix @ self.sigma @ self.matrix.mT

    def denoising(self) -> Tensor:
        """Return 1/2 E|e|^2."""
        return (self.e_mean.square().sum() + self.e_covariance.trace()) / 2

    def explicit(self) -> Tensor:
        """Return 1/2 E|noise - true noise|^2, the true one s S^-1 (x - mu)."""
        other = self.matrix - self.s * self.sigma.inverse()
        mean = self.matrix @ self.mu + self.shift
        return (mean.square().sum() + (other @ self.sigma @ other.mT).trace()) / 2

    def implicit(self) -> Tensor:
        """Return 1/2 E|noise|^2 - s tr N."""
        mean = self.matrix @ self.mu + self.shift
        square = mean.square().sum() + (self.matrix @ self.sigma @ self.matrix.mT).trace()
        return square / 2 - self.s * self.matrix.trace()

    def curvature(self) -> Tensor:
        """Return what the curvature regulariser adds, sum_i (s N_ii)^2."""
        return table.CURVATURE * (self.s * self.matrix.diagonal()).square().sum()

    def second_order(self) -> Tensor:
        """Return E (s v' N v - 2 + (v . e)^2)^2 / 4 over normal e, which is not differentiated, and signs v."""
        total = torch.zeros((), dtype=F64)
        for v in (f64(1.0, 1.0), f64(1.0, -1.0)):
            m, k = (v @ self.e_mean).detach(), (v @ self.e_covariance @ v).detach()
            c = self.s * (v @ self.matrix @ v) - 2
            total = total + c**2 + 2 * c * (m**2 + k) + m**4 + 6 * m**2 * k + 3 * k**2
        return total / 8


CLOSED: dict[str, Callable[[Moments], Tensor]] = {
    "denoising": lambda m: m.weight * m.denoising(),
    "likelihood": lambda m: m.denoising(),
    "second-order": lambda m: m.weight * m.denoising() + m.second_order(),
    "explicit": lambda m: m.weight * m.explicit(),
    "parzen": lambda m: m.weight * m.explicit(),
    "implicit": lambda m: m.weight * m.implicit(),
    "hutchinson": lambda m: m.weight * m.implicit(),
    "finite-difference": lambda m: m.weight * m.implicit(),
    "curvature": lambda m: m.weight * (m.implicit() + m.curvature()),
    "sliced": lambda m: m.weight * m.implicit(),
    "fd-sliced": lambda m: m.weight * m.implicit(),
    "energy-sliced": lambda m: m.weight * m.implicit(),
    "energy-denoising": lambda m: m.weight * m.denoising(),
}
"""The mean of each objective over noised Gaussian data, for a score that is linear."""


def quadratic_model(process: Process, predicts: str = "v") -> ScoreModel:
    """Return a model with a linear score in two dimensions."""
    return learned(process, predicts, 2, data_std=0.8, net=Quadratic(2))


def mean_loss(name: str, model: Denoiser, density: GaussianMixture, t: Tensor) -> Tensor:
    """Return the mean of an objective over data, noise and signs, by exact quadrature."""
    clean, noise, share = grid_of_normals(density, 3 if name != "second-order" else 5)
    with given_noise(noise):
        return over_signs(2, lambda: share @ OBJECTIVES[name].loss(model, clean, t, Task(None, density), None))


def from_closed_form(name: str, process: Process, ratio: float) -> float:
    """Return how far mean and gradient of an objective are from the closed form."""
    density, model, t = DENSITIES["gauss-2d"], quadratic_model(process), middle_time(process, ratio)
    loss, truth = mean_loss(name, model, density, t), CLOSED[name](Moments(model, density, t))
    return max(distance(loss, truth), distance(gradient_of(loss, model), gradient_of(truth, model)))


def from_true_score(name: str, process: Process) -> float:
    """Return how far the minimiser of an objective, one Newton step of quadratic losses, is from the true score.

    Second order's is not quadratic, and 'curvature' has another minimiser: from the minimiser of denoising the step
    must be zero, without the regulariser.
    """
    density, model, t = DENSITIES["gauss-2d"], quadratic_model(process), middle_time(process, 0.7)
    parameters = list(model.parameters())

    def step(loss: Tensor) -> None:
        first = torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters, create_graph=True)])
        rows = [torch.autograd.grad(part, parameters, retain_graph=True) for part in first]
        hessian = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
        if not float(torch.linalg.eigvalsh((hessian + hessian.mT) / 2).min()) > 0:
            raise RuntimeError(f"{name} has no minimum here")
        vector_to_parameters(
            parameters_to_vector(parameters).detach() - torch.linalg.solve(hessian, first.detach()), parameters
        )

    if name == "second-order":
        step(mean_loss("denoising", model, density, t))
    with patch.object(table, "implicit", lambda *args, curvature=0.0, **kw: implicit(*args, **kw)):
        step(mean_loss(name, model, density, t))
    x = density.sample(30, Generator().manual_seed(0)) * 2
    a, s = process.mean_coef(t), process.std(t)
    return distance(model.score(x, t), density.noised(a, s).score(x))


def deviate(name: str, process: Process, count: int, seed: int) -> float:
    """Return the normal deviate of the mean of an objective over so many draws from its closed form."""
    density, model, t = DENSITIES["gauss-2d"], quadratic_model(process).requires_grad_(False), middle_time(process, 0.7)
    draw, total, square = spawn(seed, "draws", name), 0.0, 0.0
    truth, block = float(CLOSED[name](Moments(model, density, t))), 100_000
    for _ in range(count // block):
        loss = OBJECTIVES[name].loss(model, density.sample(block, draw), t, Task(None, density), draw) - truth
        total, square = total + float(loss.sum()), square + float(loss.square().sum())
    mean = total / count
    return mean / math.sqrt((square / count - mean**2) / count)


def gradients(name: str, process: Process) -> str | None:
    """Return what `gradcheck` finds wrong with an objective at atol 1e-6, in data and parameters, float64."""
    model = learned(process, "v", 2, net=WavyEnergy(2, 1))
    x = torch.randn(3, 2, dtype=F64, generator=Generator().manual_seed(0)).requires_grad_()
    t = torch.stack([middle_time(process, ratio) for ratio in (0.1, 1.0, 4.0)])
    task = Task(None, DENSITIES["mixture-2d"])
    loss = lambda x, *parameters: OBJECTIVES[name].loss(model, x, t, task, Generator().manual_seed(1))
    try:
        torch.autograd.gradcheck(loss, (x, *model.parameters()), atol=1e-6)
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return None


def matching(plan: Plan) -> Iterator[Check]:
    """Compare every objective with closed forms, by quadrature and by draws, and its gradient with differences."""
    usual = {"vp": USUAL["vp"], "ve": USUAL["ve"]} if plan.size == "smoke" else USUAL
    known = Failures("objectives without a closed form")
    for name in OBJECTIVES:
        known.add(name, None if name in CLOSED else "has none")
    yield known.check()
    closed = Worst("mean and gradient of objectives against closed forms", 1e-8)
    minimal = Worst("minimiser of objectives against the true score", 1e-8)
    for (label, process), name in itertools.product(usual.items(), CLOSED):
        for ratio in (0.05, 0.7, 3.0):
            closed.add(f"{name}, {label}, s/a={ratio}", from_closed_form(name, process, ratio), 2)
        minimal.add(f"{name}, {label}", from_true_score(name, process))
    yield closed.check()
    yield minimal.check()
    identity = Worst("denoising less explicit less its constant, and their gradients", 1e-8)
    for (label, process), predicts in itertools.product(usual.items(), PREDICTIONS):
        identity.add(f"{label}, {predicts}", vincent(process, predicts), 2 * (1 + len(WEIGHTS)))
    yield identity.check()
    forms = Worst("implicit forms less explicit less their constant, and their gradients", 1e-8)
    for kind, form in itertools.product(("mixture-1d", "mixture-2d"), EXACT):
        forms.add(f"{form}, {kind}", hyvarinen(DENSITIES[kind], form), 2)
    yield forms.check()
    checked = Failures("objectives whose gradient is not that of differences")
    for name in OBJECTIVES:
        if name != "second-order":  # its residual is not differentiated, see its closed form
            checked.add(name, gradients(name, usual["vp"]))
    yield checked.check()
    if plan.size == "smoke":
        return
    count = plan.of(smoke=0, quick=1_000_000, full=10_000_000)
    drawn = Worst("deviates of means over draws, false alarm 1e-6", z_limit(len(CLOSED)))
    for name in CLOSED:
        drawn.add(name, abs(deviate(name, usual["vp"], count, plan.seed)), count)
    yield drawn.check()


def no_half() -> AbstractContextManager:
    """Plant sliced score matching without its factor 1/2."""
    return patch.object(losses, "_slice", lambda value, derivative, v: dot(v, value).square() + derivative)


TESTS = {"R07": Entry("objectives", matching, no_half, smoke=True)}
