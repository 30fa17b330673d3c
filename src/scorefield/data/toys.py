"""Built-in data sets, most of them with a density that is known exactly."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from torch import Generator, Tensor

from scorefield.diffusion.densities import BLOCK, GaussianMixture
from scorefield.numerics.shapes import PerSample, Samples
from scorefield.numerics.tensors import normal_like, spawn, uniform

CENTRES = 512
"""How many Gaussians stand for a circle under noise."""


@runtime_checkable
class Density(Protocol):
    """Anything that knows its log-density."""

    def log_prob(self, x: Samples) -> PerSample:
        """Return log p(x) in nats, for x (n, d)."""
        ...


@dataclass(frozen=True)
class Toy:
    """A built-in data set: the names of its columns, how n rows are drawn, its density where that is known.

    rows is how many are drawn where nobody says.
    """

    columns: tuple[str, ...]
    sample: Callable[[int, Generator], Tensor]
    density: Density | None
    rows: int = 50_000


@dataclass(frozen=True, eq=False)
class UniformSquares:
    """The uniform density on squares that do not overlap: lower corners (k, 2) and a side."""

    corners: Tensor
    side: float

    def log_prob(self, x: Samples) -> PerSample:
        """Return log p(x) in nats: -log(k side^2) on a square and minus infinity elsewhere."""
        offset = x[:, None] - self.corners.to(x)
        inside = ((offset >= 0) & (offset < self.side)).all(-1).any(-1)
        log_area = math.log(len(self.corners) * self.side**2)
        return x.new_full((len(x),), -log_area).masked_fill(~inside, -math.inf)


@dataclass(frozen=True, eq=False)
class BlurredSquares:
    """The density of a uniform point of a random one of many squares, plus Gaussian noise.

    p(x) = sum_k w_k prod_j [F((x_j - l_kj) / noise) - F((x_j - l_kj - side) / noise)] / side, with F the
    normal distribution function, weights w (k,) that sum to 1 and lower corners l (k, 2).
    """

    weights: Tensor
    corners: Tensor
    side: float
    noise: float

    def log_prob(self, x: Samples) -> PerSample:
        """Return log p(x) in nats, exact far out as well."""
        parts = x.split(max(1, BLOCK // self.corners.numel()))
        return torch.cat([(self.weights.to(x).log() + self._log_kernel(part)).logsumexp(1) for part in parts])

    def _log_kernel(self, x: Tensor) -> Tensor:
        width = self.side / self.noise
        z = (x[:, None] - self.corners.to(x)) / self.noise
        left = torch.minimum(z, width - z)  # the square's mirror image, in the tail where log F is exact
        high, low = torch.special.log_ndtr(left), torch.special.log_ndtr(left - width)
        return (high + torch.log1p(-(low - high).exp()) - math.log(self.side)).sum(-1)


def load(name: str, n: int | None = None, seed: int = 0) -> pd.DataFrame:
    """Return rows of a built-in data set, the same ones for the same seed.

    Args:
        name: One of TOYS.
        n: How many rows; None is 50,000, or all of digits-table.
        seed: Of the draw.

    Raises:
        ValueError: the name is unknown, n is below 1, or there are fewer digits than that.

    Examples:
        >>> load("moons", 3).round(2)
             x1    x2
        0 -1.88  0.65
        1  2.53 -1.11
        2  0.18  0.40
    """
    if name not in TOYS:
        raise ValueError(f"the built-in data sets are {', '.join(TOYS)}; got {name!r}")
    toy = TOYS[name]
    rows = toy.rows if n is None else n
    if rows < 1:
        raise ValueError(f"{name}: expected at least one row to draw; got {rows}")
    return pd.DataFrame(toy.sample(rows, spawn(seed, "data", name)).numpy(), columns=list(toy.columns))


def _circle(radius: float | Tensor, angle: Tensor) -> Tensor:
    """Return the points (n, 2) at the given angles of a circle around the origin."""
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)


def _choice(k: int, n: int, generator: Generator | None) -> Tensor:
    """Return n integers below k, all equally likely."""
    return torch.randint(k, (n,), generator=generator)


def _nodes(panels: int) -> tuple[Tensor, Tensor]:
    """Return nodes and weights of an integral over [0, 1]: Gauss-Legendre, 16 nodes in each panel.

    A Gaussian of standard deviation a quarter of a panel or more is integrated to the rounding of float64. So
    the densities below are exact to 1e-12 within five standard deviations of the noise around their curves,
    and to 1e-3 nats where log p is -500.
    """
    x, w = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(16))
    start = torch.arange(panels, dtype=torch.float64)[:, None]
    return ((start + (1 + x) / 2) / panels).flatten(), (w / 2 / panels).repeat(panels)


def _gaussians_8() -> GaussianMixture:
    """Return 8 Gaussians of std 0.5 at equal angles on a circle of radius 4, everything divided by 1.414."""
    angle = torch.arange(8, dtype=torch.float64) * math.pi / 4
    return GaussianMixture.isotropic(torch.ones_like(angle), _circle(4 / 1.414, angle), 0.5 / 1.414)


def _mixture_1d(weights: list[float], means: list[float], std: float) -> GaussianMixture:
    points = torch.tensor(means, dtype=torch.float64)[:, None]
    return GaussianMixture.isotropic(torch.tensor(weights, dtype=torch.float64), points, std)


def _mixture_2d() -> GaussianMixture:
    """Return the equal mixture of N((0, 0), I) and N((3, 2), 0.5^2 I)."""
    eye = torch.eye(2, dtype=torch.float64)
    means = torch.tensor([[0.0, 0.0], [3.0, 2.0]], dtype=torch.float64)
    return GaussianMixture(torch.ones_like(means[0]), means, torch.stack([eye, eye / 4]))


def _circles(radii: tuple[float, ...], noise: float) -> Toy:
    """Return circles around the origin, all equally likely, a uniform angle, and isotropic noise.

    The density has 512 Gaussians at equal steps on each circle of radius R. That is exact: at distance r from
    the origin the error of log p is about 2 exp(-512^2 / 2k), k = r R / noise^2, which for the sets below is
    less than the rounding of float64 wherever their density exceeds 1e-300.
    """

    def sample(n: int, generator: Generator) -> Tensor:
        radius = torch.tensor(radii, dtype=torch.float64)[_choice(len(radii), n, generator)]
        points = _circle(radius, 2 * math.pi * uniform(n, generator))
        return points + noise * normal_like(points, generator)

    angle = 2 * math.pi * torch.arange(CENTRES, dtype=torch.float64) / CENTRES
    centres = torch.cat([_circle(radius, angle) for radius in radii])
    density = GaussianMixture.isotropic(torch.ones_like(centres[:, 0]), centres, noise)
    return Toy(("x1", "x2"), sample, density)


def _moons() -> Toy:
    """Return two half circles of radius 2 under noise 0.2: scikit-learn's make_moons, noise 0.1, times 2.

    The upper one is around (0, 0); the lower one is turned upside down, around (2, 1). Angles are uniform.
    """

    def curve(angle: Tensor, lower: Tensor) -> Tensor:
        turned = torch.tensor([2.0, 1.0], dtype=torch.float64) - _circle(2.0, angle)
        return torch.where(lower[:, None], turned, _circle(2.0, angle))

    def sample(n: int, generator: Generator) -> Tensor:
        lower = _choice(2, n, generator) == 1
        points = curve(math.pi * uniform(n, generator), lower)
        return points + 0.2 * normal_like(points, generator)

    u, w = _nodes(8)
    centres = curve(math.pi * u.repeat(2), torch.arange(2).repeat_interleave(len(u)) == 1)
    return Toy(("x1", "x2"), sample, GaussianMixture.isotropic(w.repeat(2), centres, 0.2))


def _swissroll() -> Toy:
    """Return a spiral under noise 0.1: columns 0 and 2 of scikit-learn's make_swiss_roll, noise 1, over 10.

    t (cos t, sin t) / 10 + 0.1 z with t = 3 pi (1 + 2u) / 2, u uniform, z normal.
    """

    def curve(u: Tensor) -> Tensor:
        t = 1.5 * math.pi * (1 + 2 * u)
        return _circle(t / 10, t)

    def sample(n: int, generator: Generator) -> Tensor:
        points = curve(uniform(n, generator))
        return points + 0.1 * normal_like(points, generator)

    u, w = _nodes(32)
    return Toy(("x1", "x2"), sample, GaussianMixture.isotropic(w, curve(u), 0.1))


def _spirals_2() -> Toy:
    """Return two spirals, each the other turned by half a turn (the set of Grathwohl et al., 2019).

    +-[t (-cos t, sin t) + (v1, v2) / 2] / 3 + 0.1 z with t = 3 pi sqrt(u), u, v1 and v2 uniform, z normal.
    """

    def curve(root: Tensor) -> Tensor:
        t = 3 * math.pi * root
        return _circle(t / 3, math.pi - t)

    def sample(n: int, generator: Generator) -> Tensor:
        sign = 2 * _choice(2, n, generator)[:, None] - 1
        offset = uniform(2 * n, generator).reshape(n, 2) / 6
        points = sign * (curve(uniform(n, generator).sqrt()) + offset)
        return points + 0.1 * normal_like(points, generator)

    root, w = _nodes(48)  # in sqrt(u), whose density is 2 sqrt(u), the curve is smooth
    corners = torch.cat([curve(root), -curve(root) - 1 / 6])
    return Toy(("x1", "x2"), sample, BlurredSquares((root * w).repeat(2), corners, 1 / 6, 0.1))


def _checkerboard() -> Toy:
    """Return a uniform point on the 8 squares of one colour of a 4 x 4 board with squares of side 2."""

    def sample(n: int, generator: Generator) -> Tensor:
        x1 = 4 * uniform(n, generator) - 2
        x2 = uniform(n, generator) - 2 * _choice(2, n, generator) + x1.floor() % 2
        return 2 * torch.stack([x1, x2], dim=1)

    squares = [(2.0 * i, 2.0 * j) for i in range(-2, 2) for j in range(-2, 2) if (i + j) % 2 == 0]
    return Toy(("x1", "x2"), sample, UniformSquares(torch.tensor(squares, dtype=torch.float64), 2.0))


def _pinwheel() -> Toy:
    """Return five bent arms (the set of Johnson et al., 2016), times 2.

    2 R (r, h) with r ~ N(1, 0.3^2), h ~ N(0, 0.1^2) and R the rotation by 2 pi k / 5 + exp(r) / 4, k in 0..4.
    Rotating by an angle that depends on r is not one to one, so its density has no closed form.
    """

    def sample(n: int, generator: Generator) -> Tensor:
        arm = 2 * math.pi * _choice(5, n, generator) / 5
        r = 1 + 0.3 * normal_like(arm.double(), generator)
        h = 0.1 * normal_like(r, generator)
        angle = arm.double() + r.exp() / 4
        return 2 * (_circle(r, angle) + _circle(h, angle + math.pi / 2))

    return Toy(("x1", "x2"), sample, None)


def _digits(n: int, generator: Generator) -> Tensor:
    """Return n different rows of scikit-learn's digits in random order: 64 integers from 0 to 16."""
    from sklearn.datasets import load_digits  # takes a second, which only this set should cost

    pixels = torch.from_numpy(load_digits().data).long()
    if n > len(pixels):
        raise ValueError(f"digits-table: expected at most {len(pixels):,} rows, all there are; got {n:,}")
    return pixels[torch.randperm(len(pixels), generator=generator)[:n]]


def _mixture(columns: tuple[str, ...], density: GaussianMixture) -> Toy:
    return Toy(columns, density.sample, density)


TOYS: dict[str, Toy] = {
    "swissroll": _swissroll(),
    "moons": _moons(),
    "circles": _circles((3.0, 1.5), 0.24),
    "checkerboard": _checkerboard(),
    "8gaussians": _mixture(("x1", "x2"), _gaussians_8()),
    "rings": _circles((3.0, 2.25, 1.5, 0.75), 0.08),
    "pinwheel": _pinwheel(),
    "2spirals": _spirals_2(),
    "digits-table": Toy(tuple(f"pixel_{i}_{j}" for i in range(8) for j in range(8)), _digits, None, 1797),
    "mixture-1d": _mixture(("x",), _mixture_1d([0.5, 0.5], [-1.0, 1.0], 0.2)),
    "mixture-1d-wide": _mixture(("x",), _mixture_1d([0.1, 0.9], [-3.0, 3.0], 1.0)),
    "mixture-2d": _mixture(("x1", "x2"), _mixture_2d()),
}
"""The built-in data sets by their name on the command line.

circles is scikit-learn's make_circles, factor 0.5 and noise 0.08, times 3, with uniform angles. mixture-1d
is the equal mixture of N(-1, 0.2^2) and N(1, 0.2^2), mixture-1d-wide is 0.1 N(-3, 1) + 0.9 N(3, 1), and
mixture-2d is the equal mixture of N((0, 0), I) and N((3, 2), 0.5^2 I): the targets of the tutorials on the
score-based SDE, on finite-difference score matching and on score fields.
"""


def density_of(name: str) -> object:
    """Return the density of a built-in data set, None where there is none of that name or it is not known."""
    return getattr(TOYS.get(name), "density", None)
