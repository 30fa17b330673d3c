"""The one table of cases: processes, densities, networks. Every law of the scorecard and of the tests is asked of it.

A new process is tested by adding a row here, with its formulas written a second time for mpmath.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from mpmath import mp, mpf
from scipy import stats
from torch import Generator, Tensor, nn

from scorefield.diffusion.denoisers import ScoreModel
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.process import Process
from scorefield.diffusion.published import EDM, VE, VP, Cosine, Straight, SubVP
from scorefield.diffusion.sde import LinearSDE
from scorefield.kinds.tables.problem import TableProblem
from scorefield.training.config import Config
from scorefield.training.learner import Learner

F64 = torch.float64

FALSE_ALARM = 1e-6
"""The probability that a statistical test fails although the code is right. Seeds are fixed besides."""


def z_limit(tests: int = 1) -> float:
    """The two-sided limit of a standard normal statistic, shared between a number of tests (Bonferroni)."""
    return float(stats.norm.isf(FALSE_ALARM / tests / 2))


def f64(*values: float | int | list) -> Tensor:
    """A float64 tensor of the values."""
    return torch.tensor(values, dtype=F64)


# ------------------------------------------------------------------------------------------------ processes


@dataclass(frozen=True)
class ProcessCase:
    """A process and its formulas for mpmath: drift f, g2 = g^2, mean coefficient a, variance var = s^2."""

    name: str
    process: Process
    f: Callable[[mpf], mpf]
    g2: Callable[[mpf], mpf]
    a: Callable[[mpf], mpf]
    var: Callable[[mpf], mpf]
    accuracy: float = 1e-13
    """The relative error allowed to a, s and what follows from them, in float64."""

    @property
    def std_rate_at_zero_is_finite(self) -> bool:
        """Whether s'(0) exists: it does only where g(0) = 0."""
        return self.g2(mpf(0)) == 0

    def times(self, n: int, start: float = 1e-7) -> Tensor:
        """Return n log-spaced times from start to t_max, both ends exact."""
        times = torch.logspace(math.log10(start), math.log10(self.process.t_max), n, dtype=F64)
        times[0], times[-1] = start, self.process.t_max
        return times


def _vp(name: str, beta_min: float, beta_max: float) -> ProcessCase:
    low, high = mpf(beta_min), mpf(beta_max)
    beta = lambda t: low * (1 - t) + high * t
    a = lambda t: mp.exp(-t * (low + beta(t)) / 4)  # beta is linear: its mean height is (low + beta) / 2
    return ProcessCase(name, VP(beta_min, beta_max), lambda t: -beta(t) / 2, beta, a, lambda t: 1 - a(t) ** 2)


def _subvp(name: str, beta_min: float, beta_max: float) -> ProcessCase:
    vp = _vp(name, beta_min, beta_max)
    g2 = lambda t: vp.g2(t) * (1 - vp.a(t) ** 4)
    return ProcessCase(name, SubVP(beta_min, beta_max), vp.f, g2, vp.a, lambda t: vp.var(t) ** 2)


def _cosine(name: str, offset: float) -> ProcessCase:
    shift = mpf(offset)
    phi = lambda t: (t + shift) / (1 + shift) * mp.pi / 2
    a = lambda t: mp.cos(phi(t)) / mp.cos(phi(mpf(0)))
    f = lambda t: -mp.pi / 2 / (1 + shift) * mp.tan(phi(t))
    return ProcessCase(name, Cosine(offset), f, lambda t: -2 * f(t), a, lambda t: 1 - a(t) ** 2)


def _ve(name: str, sigma_min: float, sigma_max: float) -> ProcessCase:
    low, high = mpf(sigma_min), mpf(sigma_max)
    ladder = lambda t: low ** (2 - 2 * t) * high ** (2 * t)  # the squared geometric ladder of noise levels
    g2 = lambda t: 2 * mp.log(high / low) * ladder(t)
    return ProcessCase(
        name, VE(sigma_min, sigma_max), lambda t: mpf(0), g2, lambda t: mpf(1), lambda t: ladder(t) - low**2
    )


def _linear_vp() -> ProcessCase:
    vp = _vp("linear-vp", 0.1, 20.0)
    process = LinearSDE(vp.process.drift, vp.process.diffusion)
    return ProcessCase("linear-vp", process, vp.f, vp.g2, vp.a, vp.var, accuracy=1e-8)


def _linear_wave() -> ProcessCase:
    """A process whose f changes its sign: f = -sin 6t, g = a sqrt(3) (1 + t), s/a the root of (1 + t)^3 - 1."""
    shrink = lambda t: (((6 * t).cos() - 1) / 6).exp()
    process = LinearSDE(lambda t: -(6 * t).sin(), lambda t: 3**0.5 * (1 + t) * shrink(t))
    a = lambda t: mp.exp((mp.cos(6 * t) - 1) / 6)
    g2 = lambda t: 3 * (a(t) * (1 + t)) ** 2
    noise = lambda t: a(t) ** 2 * t * (3 + 3 * t + t**2)
    return ProcessCase("linear-wave", process, lambda t: -mp.sin(6 * t), g2, a, noise, 1e-8)


PROCESS_CASES = [
    _vp("vp", 0.1, 20.0),
    _vp("vp-constant", 5.0, 5.0),
    _vp("vp-steep", 0.001, 60.0),
    _ve("ve", 0.01, 50.0),
    _ve("ve-wide", 0.0005, 348.0),
    _ve("ve-narrow", 0.3, 0.9),
    _linear_vp(),
    _linear_wave(),
    _subvp("subvp", 0.1, 20.0),
    _cosine("cosine", 0.008),
    ProcessCase(
        "edm",
        EDM(80.0),
        lambda t: mpf(0),
        lambda t: 2 * mpf(80) ** 2 * t,
        lambda t: mpf(1),
        lambda t: mpf(80) ** 2 * t**2,
    ),
    ProcessCase(
        "straight",
        Straight(),
        lambda t: -1 / (1 - t),
        lambda t: 2 * t / (1 - t),
        lambda t: 1 - t,
        lambda t: t**2,
    ),
]


# ------------------------------------------------------------------------------------------------ densities


def _random_covariances(k: int, d: int, seed: int, floor: float = 0.1) -> Tensor:
    root = torch.randn(k, d, d, dtype=F64, generator=Generator().manual_seed(seed)) * (
        0.3 + 0.4 * torch.rand(k, 1, 1, dtype=F64, generator=Generator().manual_seed(seed + 1))
    )
    return root @ root.mT + floor * torch.eye(d, dtype=F64)


def gaussian(d: int) -> GaussianMixture:
    """Return a Gaussian in d dimensions with a full covariance."""
    mean = torch.linspace(-1.5, 2.0, d, dtype=F64)
    return GaussianMixture.gaussian(mean, _random_covariances(1, d, seed=10 + d)[0])


def _kde(n: int, d: int) -> GaussianMixture:
    data = torch.randn(n, d, dtype=F64, generator=Generator().manual_seed(7)) ** 3 / 3 + 0.5
    return GaussianMixture.kde(data, 0.35)


DENSITIES: dict[str, GaussianMixture] = {
    "gauss-1d": GaussianMixture.gaussian(f64(1.3), f64([0.16])),
    "gauss-2d": GaussianMixture.gaussian(f64(0.7, -1.2), f64([1.5, 0.6], [0.6, 0.4])),
    "gauss-3d": gaussian(3),
    "gauss-16d": gaussian(16),
    "mixture-1d": GaussianMixture(f64(0.5, 0.35, 0.15), f64([-1.0], [0.8], [2.5]), f64([[0.09]], [[0.5]], [[0.02]])),
    "mixture-2d": GaussianMixture(
        f64(3.0, 1.0, 0.5),
        f64([-1.0, 0.5], [1.5, 1.0], [0.3, -2.0]),
        f64([[0.5, 0.3], [0.3, 0.3]], [[0.2, -0.1], [-0.1, 0.6]], [[0.05, 0.0], [0.0, 1.0]]),
    ),
    "mixture-3d": GaussianMixture(
        f64(0.6, 0.4), f64([1.0, 0.0, -0.5], [-0.5, 1.5, 0.5]), _random_covariances(2, 3, seed=20)
    ),
    "shared-2d": GaussianMixture(
        f64(0.2, 0.7, 0.1), f64([-1.0, 0.0], [1.0, 0.6], [0.0, 2.0]), f64([[0.3, 0.2], [0.2, 0.4]])
    ),
    "kde-2d": _kde(30, 2),
    "kde-5d": _kde(20, 5),
}
"""Skewed on purpose: a symmetric target cannot see a wrong sign, equal weights a wrong weight.

And a mixture in three dimensions: in two, the matrix of eigenvectors is often symmetric, which hides its
transpose.
"""


def points(density: GaussianMixture, n: int, spread: float = 2.0, seed: int = 3) -> Tensor:
    """Return n points around a density, `spread` times wider than it, in no particular order."""
    z = torch.randn(n, density.dim, dtype=F64, generator=Generator().manual_seed(seed))
    return density.mean + spread * z * density.covariance.diagonal().sqrt()


def lattice(density: GaussianMixture, fineness: float = 2.0) -> tuple[Tensor, float]:
    """Points (n, d) of a regular lattice over a density of one or two dimensions, and the volume of a cell.

    The smallest standard deviation over `fineness` is a step, out to ten of the largest: the sum times the
    volume is the integral of a smooth function against the density to about 1e-15 at fineness 2, because the
    trapezoidal rule converges exponentially; a function with poles off the real axis, like a squared score,
    needs more.
    """
    values = torch.linalg.eigvalsh(density.covariances)
    step, margin = float(values.min().sqrt()) / fineness, 10 * float(values.max().sqrt())
    axes = [
        torch.arange(float(m.min()) - margin, float(m.max()) + margin, step, dtype=F64) for m in density.means.unbind(1)
    ]
    return torch.cartesian_prod(*axes).reshape(-1, density.dim), step**density.dim


# ------------------------------------------------------------------------------------------------- networks


class Wavy(nn.Module):
    """A smooth network with random weights for any event: a sum of sines, entire, so easy to integrate."""

    def __init__(self, dim: int, seed: int, width: int = 12) -> None:
        super().__init__()
        generator = Generator().manual_seed(seed)
        draw = lambda *shape: nn.Parameter(torch.randn(*shape, dtype=F64, generator=generator))
        self.inner, self.level, self.shift, self.outer = (
            draw(width, dim),
            draw(width),
            draw(width),
            draw(dim, width),
        )

    def forward(self, z: Tensor, log_ratio: Tensor) -> Tensor:
        """Return a vector field on events of any shape."""
        flat = z.flatten(1)
        phase = flat @ self.inner.mT + 0.3 * log_ratio[:, None] * self.level + self.shift
        return (0.4 * phase.sin() @ self.outer.mT).reshape(z.shape)


class Zero(nn.Module):
    """The network that always answers zero."""

    def forward(self, z: Tensor, log_ratio: Tensor) -> Tensor:
        return torch.zeros_like(z)


def learned(
    process: Process, predicts: str, dim: int, *, data_std: float = 1.0, seed: int = 0, net: nn.Module | None = None
) -> ScoreModel:
    """A ScoreModel with random weights, float64."""
    net = Wavy(dim, seed) if net is None else net
    mean, covariance = torch.zeros(dim, dtype=F64), data_std**2 * torch.eye(dim, dtype=F64)
    return ScoreModel(net, process, mean, covariance, predicts=predicts, data_std=data_std)


def table_learner(config: Config, train: Tensor, validation: Tensor) -> Learner:
    """A learner of rows in model units, (n, d), which chose a base for them."""
    return Learner(config, TableProblem(train, validation).prepare(config))


def middle_time(process: Process, ratio: float) -> Tensor:
    """The time at which s/a is `ratio`, or half the largest where a process does not go that far."""
    largest = float(process.ratio(torch.tensor(process.t_max, dtype=F64)))
    return process.time(torch.tensor(min(ratio, largest / 2), dtype=F64))
