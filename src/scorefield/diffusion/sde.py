"""Differential equations of the user's own: LinearSDE from any f and g, and forward simulation of any drift."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from scipy.interpolate import PPoly, make_interp_spline
from torch import Generator, Tensor

from scorefield.diffusion.process import Process
from scorefield.numerics.shapes import Samples
from scorefield.numerics.tensors import match, normal_like

CELLS = 8192
"""Cells of the table of a LinearSDE, equally long in log t."""

EARLIEST = 1e-13
"""The first tabulated time as a share of t_max. Before it f is constant and g a power of t."""

ACCURACY = 1e-9
"""The error of log a and log s/a between the nodes at which a table is refused."""

NODES = 8
"""Gauss-Legendre nodes in half a cell."""


class _Parts(NamedTuple):
    """What the table tells at times t, each of the shape of t: F = log a, s/a, f and (s/a)'."""

    log_mean: Tensor
    ratio: Tensor
    drift: Tensor
    ratio_rate: Tensor


class LinearSDE(Process):
    """dX = f(t) X dt + g(t) dW for functions f and g of time, smooth on [0, t_max].

    a = exp(F), F = integral of f from 0 to t;  s^2 = a^2 V, V = integral of g^2 / a^2 (Sarkka and Solin, 2019,
    eq. 6.7). F and log s/a are tabulated once over log t and interpolated by splines of degree five, and f and g are
    read off their slopes, so the two differential equations of a process hold exactly. `table` is all that it needs:
    LinearSDE.from_table(table) is the same process without the functions.

    Args:
        f: The drift per unit of x, float64 times (n,) -> (n,).
        g: The noise per square root of time, the same; it may vanish at 0 and at single times.
        t_max: The last time.

    Raises:
        ValueError: f or g is not finite, of another shape, or changes too fast; s/a does not grow; t_max <= 0.

    Examples:
        >>> import torch
        >>> sde = LinearSDE(lambda t: -torch.ones_like(t), lambda t: 2**0.5 * torch.ones_like(t))  # Ornstein-Uhlenbeck
        >>> t = torch.tensor(0.5, dtype=torch.float64)
        >>> print(f"{sde.mean_coef(t):.6f}, exp(-t) is {torch.exp(-t):.6f}")
        0.606531, exp(-t) is 0.606531
    """

    table: Tensor

    def __init__(self, f: Callable[[Tensor], Tensor], g: Callable[[Tensor], Tensor], t_max: float = 1.0) -> None:
        if not 0 < t_max < math.inf:
            raise ValueError(f"LinearSDE needs a positive, finite t_max; got {t_max}")
        self._use(_tabulate(f, g, t_max))

    @classmethod
    def from_table(cls, table: Tensor) -> "LinearSDE":
        """Return the process that a table belongs to."""
        process = cls.__new__(cls)
        process._use(table)
        return process

    def _use(self, table: Tensor) -> None:
        self.table = table
        self._breaks, self._coefficients = table[:, 0].contiguous(), table[:-1, 1:].reshape(-1, 6, 2)
        nodes = self._log_time_spline(self._breaks)[0][:, 1]  # log s/a, increasing
        breaks, pieces = _pieces(nodes.numpy(), self._breaks.numpy())
        self._inverse_breaks = torch.from_numpy(breaks)
        self._inverse_coefficients = torch.from_numpy(pieces)[:, :, None]
        first, slope = self._log_time_spline(self._breaks[:1])
        self._power = _nearest_half(float(slope[0, 1]))
        self._first_mean, self._first_ratio = float(first[0, 0]), math.exp(float(first[0, 1]))

    def __repr__(self) -> str:
        return f"LinearSDE(t_max={self.t_max:g})"

    @property
    def t_max(self) -> float:
        return math.exp(float(self._breaks[-1]))

    @property
    def _start(self) -> float:
        return math.exp(float(self._breaks[0]))

    def _log_time_spline(self, log_time: Tensor) -> tuple[Tensor, Tensor]:
        """Return F and log s/a at log t (n,), and their slopes, each (n, 2)."""
        return _spline(self._breaks, self._coefficients, log_time)

    def _parts(self, t: Tensor) -> _Parts:
        """Return what the spline tells at t, and below its first node a line and a power of t."""
        flat = t.reshape(-1)
        late = flat.clamp(self._start, self.t_max)
        (mean, log_ratio), slopes = (part.unbind(1) for part in self._log_time_spline(late.log()))
        ratio, share = log_ratio.exp(), flat / self._start
        early = flat < self._start
        power, first_rate = self._power, self._first_ratio / self._start * self._power
        chosen = lambda before, after: torch.where(early, before, after).reshape(t.shape)
        return _Parts(
            log_mean=chosen(self._first_mean * share, mean),
            ratio=chosen(self._first_ratio * share**power, ratio),
            drift=chosen(self._first_mean / self._start, slopes[0] / late),
            ratio_rate=chosen(first_rate * share ** (power - 1), ratio * slopes[1] / late),
        )

    def drift(self, t: Tensor) -> Tensor:
        return self._parts(t).drift

    def diffusion(self, t: Tensor) -> Tensor:
        at = self._parts(t)
        square = torch.where(t > 0, 2 * at.log_mean.exp() ** 2 * at.ratio * at.ratio_rate, self._diffusion_at_zero**2)
        return square.clamp(min=0).sqrt()

    @property
    def _diffusion_at_zero(self) -> float:
        """g(0): zero unless s/a grows like the root of t."""
        return self._first_ratio / math.sqrt(self._start) if self._power == 0.5 else 0.0

    def mean_coef(self, t: Tensor) -> Tensor:
        return self._parts(t).log_mean.exp()

    def std(self, t: Tensor) -> Tensor:
        at = self._parts(t)
        return at.log_mean.exp() * at.ratio

    def ratio(self, t: Tensor) -> Tensor:
        return self._parts(t).ratio

    def std_rate(self, t: Tensor) -> Tensor:
        at = self._parts(t)
        return at.log_mean.exp() * (at.drift * at.ratio + at.ratio_rate)

    def time(self, ratio: Tensor) -> Tensor:
        flat = ratio.reshape(-1)
        target = flat.clamp(min=self._first_ratio).log()
        guess = _spline(self._inverse_breaks, self._inverse_coefficients, target)[0][:, 0]
        value, slope = (part[:, 1] for part in self._log_time_spline(guess))
        guess = guess + torch.where(slope > 1e-6, (target - value) / slope, 0)  # one step of Newton's method
        early = self._start * (flat / self._first_ratio) ** (1 / self._power)
        return torch.where(flat < self._first_ratio, early, guess.exp().clamp(max=self.t_max)).reshape(ratio.shape)


def simulate(
    f: Callable[[Tensor, Tensor], Tensor],
    g: Callable[[Tensor], Tensor],
    x: Samples,
    times: Tensor,
    generator: Generator | None = None,
) -> Iterator[Samples]:
    """Yield x, and then the states at the later times of dX = f(X, t) dt + g(t) dW, by Euler and Maruyama's method.

    x(t + h) = x + h f(x, t) + sqrt(h) g(t) z: strong order 1, since the noise does not depend on x
    (Kloeden and Platen, 1992, sec. 10.2).

    Args:
        f: The drift, (x, t) -> the shape of x.
        g: The noise per square root of time, t -> () or (n,).
        x: States (n, ...) at the first time.
        times: Increasing, (k,); a trajectory is list(simulate(...)).
        generator: What z is drawn from.

    Raises:
        ValueError: the times do not increase.
        RuntimeError: a state is not finite.

    Examples:
        >>> import torch
        >>> start, times = torch.ones(1, 1, dtype=torch.float64), torch.linspace(0, 1, 101)
        >>> *_, end = simulate(lambda x, t: -x, torch.zeros_like, start, times, torch.Generator())
        >>> print(f"{end.item():.3f}")  # exp(-1) is 0.368
        0.366
    """
    times = times.double()
    if times.ndim != 1 or not len(times) or not bool((times.diff() > 0).all()) or not bool(times.isfinite().all()):
        raise ValueError(f"simulate needs finite, increasing times of shape (k,); got {times.tolist()[:5]}")
    yield x
    for t, h in zip(times[:-1], times.diff(), strict=True):
        x = x + h.to(x) * f(x, t) + match(h.sqrt() * g(t), x) * normal_like(x, generator)
        if not bool(x.isfinite().all()):
            raise RuntimeError(f"the simulated state is not finite after t={float(t):g}; use smaller time steps")
        yield x


def _tabulate(f: Callable[[Tensor], Tensor], g: Callable[[Tensor], Tensor], t_max: float) -> Tensor:
    """Return the table of a LinearSDE, a row a cell: first log t, 6 x 2 coefficients; the last row is the end."""
    nodes = t_max * np.logspace(math.log10(EARLIEST), 0, 2 * CELLS + 1)  # every second one only checks the others
    edges = np.concatenate([[0.0], nodes])
    points, weights = np.polynomial.legendre.leggauss(NODES)
    points, weights = (points + 1) / 2, weights / 2
    inner = _integration_matrix(points)
    widths = np.diff(edges)
    at = edges[:-1, None] + widths[:, None] * points
    drift, diffusion = _values(f, at, "f"), _values(g, at, "g")
    mean_before = np.concatenate([[0.0], np.cumsum(widths * (drift @ weights))])
    mean_within = mean_before[:-1, None] + widths[:, None] * (drift @ inner.T)
    square = np.cumsum(widths * ((diffusion**2 * np.exp(-2 * mean_within)) @ weights))
    with np.errstate(divide="ignore"):
        functions = np.stack([mean_before[1:], np.log(square) / 2], 1)
    if not np.isfinite(functions).all() or not (np.diff(functions[::2, 1]) > 0).all():
        raise ValueError("LinearSDE needs a g that makes s/a grow at all times; got a g that vanishes or is too small")
    columns = [_pieces(np.log(nodes[::2]), values) for values in functions[::2].T]
    breaks, coefficients = columns[0][0], np.stack([pieces for _, pieces in columns], 2)
    between = _spline(*map(torch.from_numpy, (breaks, coefficients, np.log(nodes[1::2]))))[0].numpy()
    error = np.abs(between - functions[1::2]).max()
    if not error <= ACCURACY:
        raise ValueError(
            f"LinearSDE needs f and g that are smooth on (0, {t_max:g}]; the tabulated log a and log s/a are wrong by "
            f"{error:.1g} between nodes: round off the jumps of f and g"
        )
    end = np.zeros((1, 12))
    return torch.from_numpy(np.column_stack([breaks, np.concatenate([coefficients.reshape(-1, 12), end])])).contiguous()


def _pieces(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the breaks (k + 1,) and coefficients (k, 6), highest power first, of the quintic spline through (x, y)."""
    spline = PPoly.from_spline(make_interp_spline(x, y, k=5))
    inside = slice(5, -5)  # the first and the last five pieces of a B-spline are empty
    return spline.x[inside].copy(), spline.c[:, inside].T.copy()


def _integration_matrix(points: np.ndarray) -> np.ndarray:
    """Return W with W @ h(points) the integrals of the interpolant of h from 0 to each of the points in [0, 1]."""
    powers = np.arange(len(points))
    return (points[:, None] ** (powers + 1) / (powers + 1)) @ np.linalg.inv(points[:, None] ** powers)


def _values(function: Callable[[Tensor], Tensor], at: np.ndarray, name: str) -> np.ndarray:
    times = torch.from_numpy(at).reshape(-1)
    values = torch.as_tensor(function(times), dtype=torch.float64)
    if values.shape not in ((), times.shape):
        raise ValueError(
            f"{name} must return one number per time, shape {tuple(times.shape)}; got shape {tuple(values.shape)}"
        )
    if not bool(values.isfinite().all()):
        worst = float(times[~values.expand_as(times).isfinite()][0])
        raise ValueError(f"{name} must be finite on (0, t_max]; it is not at t={worst:g}: choose a smaller t_max")
    return values.expand_as(times).numpy().reshape(at.shape)


def _spline(breaks: Tensor, coefficients: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return piecewise polynomials and slopes at x (n,): breaks (k + 1,), coefficients (k, 6, m), highest first."""
    piece = (torch.searchsorted(breaks, x.detach(), right=True) - 1).clamp(0, len(coefficients) - 1)
    past, rows = (x - breaks[piece])[:, None], coefficients[piece]
    value, slope = rows[:, 0], torch.zeros_like(rows[:, 0])
    for coefficient in rows.unbind(1)[1:]:
        slope = slope * past + value
        value = value * past + coefficient
    return value, slope


def _nearest_half(power: float) -> float:
    """Return a power of t, made exact where it is a multiple of one half up to the error of the table."""
    rounded = round(2 * power) / 2
    return rounded if abs(power - rounded) < 1e-4 else power
