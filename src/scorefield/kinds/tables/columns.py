"""One column of a table: its support, its lattice and its tails, as an invertible map that knows its slope."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from scorefield.kinds.tables.bending import bent

REPEATED = 0.5
"""A column of rounded floats is a lattice where its different values are at most this share of its rows."""

FEW = 20
"""Below this many rows nothing is read from the shape of a column."""

DECIMALS = 12
"""The most decimal places at which a column of floats may be rounded."""

Bounds = dict[str, tuple[int | float, int | float]]


@dataclass(frozen=True)
class Column:
    """A map z = (T((u - centre) / spread) - shift) / scale of one column, u = u(x) free of its bounds.

    u = x without bounds, log(x - lower) or -log(upper - x) with one, log((x - lower) / (upper - x)) with both;
    T(w) = sinh(tail asinh(w) - skew) (Jones and Pewsey, 2009), the identity for tail 1 and skew 0.
    step: the spacing of the values where they lie on a lattice that contains `origin` (integers, booleans, two values,
    rounded numbers that repeat), 0 where they are continuous. Values on a lattice are spread over the cells of width
    `step` around them before a model learns them (dequantised), and come back on the lattice.
    A spread of 0 marks a constant column, whose one value is `origin`.
    """

    name: str
    dtype: str
    origin: float = 0.0
    step: float = 0.0
    lower: float = -math.inf
    upper: float = math.inf
    centre: float = 0.0
    spread: float = 0.0
    skew: float = 0.0
    tail: float = 1.0
    shift: float = 0.0
    scale: float = 1.0

    @property
    def is_constant(self) -> bool:
        """Whether the column has one value only."""
        return self.spread == 0

    @property
    def is_bounded(self) -> bool:
        """Whether the column has a bound."""
        return self.lower > -math.inf or self.upper < math.inf

    @property
    def is_bent(self) -> bool:
        """Whether skew or tails are transformed."""
        return self.skew != 0 or self.tail != 1

    @property
    def is_integral(self) -> bool:
        """Whether the column holds integers or booleans."""
        return np.dtype(self.dtype).kind in "bui"

    @property
    def log_cell(self) -> float:
        """The logarithm of what turns a density into the probability of a value: the step of an integer column."""
        return math.log(self.step) if self.is_integral and self.step > 0 else 0.0

    def describe(self) -> str:
        """Return in words what is done to the column beside scaling it; nothing for a plain one."""
        parts = []
        if self.step and not self.is_integral:
            parts.append(f"values {self.step:g} apart, spread over their cells and rounded back")
        if self.is_bounded:
            low, high = self.lower + self.step / 2, self.upper - self.step / 2
            parts.append(f"kept between {low:g} and {high:g}")
        if self.is_bent:
            parts.append(f"skewed or heavy-tailed: learned after sinh({self.tail:.2g} asinh(x) - {self.skew:.2g})")
        return "; ".join(parts)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and log |dz/dx| of values (n,) inside the bounds, float64."""
        u, log_slope = self._unbounded(x)
        w = (u - self.centre) / self.spread
        log_slope = log_slope - math.log(self.spread) - math.log(self.scale)
        if self.is_bent:
            angle = self.tail * w.asinh() - self.skew
            bending = angle.cosh().log() - torch.hypot(w, torch.ones_like(w)).log()
            w, log_slope = angle.sinh(), log_slope + math.log(self.tail) + bending
        return (w - self.shift) / self.scale, log_slope

    def inverse(self, z: Tensor) -> np.ndarray:
        """Return the values of z (n,), in the column's own type, on its lattice and inside its bounds."""
        w = z * self.scale + self.shift
        if self.is_bent:
            w = ((w.asinh() + self.skew) / self.tail).sinh()
        return self.typed(self._bounded(w * self.spread + self.centre).numpy())

    def typed(self, x: np.ndarray) -> np.ndarray:
        """Return numbers as values of the column: on its lattice, inside its bounds, in the range of its type."""
        dtype = np.dtype(self.dtype)
        if self.step > 0:
            cells = np.rint((x - self.origin) / self.step)
            inside = [(bound - self.origin) / self.step for bound in (self.lower, self.upper)]
            x = np.clip(cells, np.ceil(inside[0]), np.floor(inside[1])) * self.step + self.origin
            decimals = rounded_at(np.array([self.origin, self.step]))
            x = x if decimals is None else np.round(x, decimals)
        if dtype.kind == "b":
            return x >= 0.5
        if dtype.kind in "ui":
            limits = np.iinfo(dtype)
            top = min(float(limits.max), np.nextafter(float(limits.max) + 1, 0))  # the largest float64 that fits
            return np.clip(np.rint(x), limits.min, top).astype(dtype)
        values = x.astype(dtype)
        low, high = (np.asarray(bound).astype(dtype) for bound in (self.lower, self.upper))
        return np.clip(values, np.nextafter(low, high), np.nextafter(high, low)) if self.is_bounded else values

    def _unbounded(self, x: Tensor) -> tuple[Tensor, Tensor]:
        below, above = x - self.lower, self.upper - x
        if self.upper == math.inf:
            return (below.log(), -below.log()) if self.lower > -math.inf else (x, torch.zeros_like(x))
        if self.lower == -math.inf:
            return -above.log(), -above.log()
        return below.log() - above.log(), math.log(self.upper - self.lower) - below.log() - above.log()

    def _bounded(self, u: Tensor) -> Tensor:
        if self.upper == math.inf:
            return self.lower + u.exp() if self.lower > -math.inf else u
        if self.lower == -math.inf:
            return self.upper - (-u).exp()
        return self.lower + (self.upper - self.lower) * u.sigmoid()


def fit_column(
    name: str, values: np.ndarray, bounds: tuple[int | float, int | float] | None = None, bend: bool = True
) -> Column:
    """Return the map of a column, of mean 0 and variance 1 with its cells, learned from its values (n,).

    bounds: an open interval for a continuous column; for one on a lattice the smallest and the largest value it can
    take, whose cells are inside. Raises ValueError where a value is outside.
    """
    dtype = values.dtype
    x = values.astype(np.float64)
    if (x == x[0]).all():
        return Column(name, dtype.str, origin=float(x[0]))
    step = lattice_step(values)
    lower, upper = map(float, bounds or (-math.inf, math.inf))
    origin = float(x.min()) if step else 0.0
    if step:
        lower, upper = lower - step / 2, upper + step / 2
    _check_bounds(name, x, lower, upper, step)
    open_column = Column(name, dtype.str, origin, step, lower, upper, spread=1.0)
    u = open_column._unbounded(torch.from_numpy(x))[0].numpy()
    skew, tail, centre, spread = 0.0, 1.0, *_location(u, step if not open_column.is_bounded else 0.0)
    if bend and len(np.unique(u)) >= FEW:
        skew, tail, centre, spread = bent(u) or (skew, tail, centre, spread)
    w = np.sinh(tail * np.arcsinh((u - centre) / spread) - skew) if (skew, tail) != (0.0, 1.0) else None
    shift, scale = (0.0, 1.0) if w is None else (float(w.mean()), float(w.std()))
    return Column(name, dtype.str, origin, step, lower, upper, centre, spread, skew, tail, shift, scale)


def lattice_step(values: np.ndarray) -> float:
    """Return the spacing of the lattice of values (n,): integers, booleans, repeated rounded floats; else 0."""
    if values.dtype.kind == "b":
        return 1.0
    if values.dtype.kind in "ui":
        whole = values.astype(np.int64)
        return float(
            np.gcd.reduce((whole - whole.min()).astype(np.uint64))
        )  # a difference wraps round to the right one
    different = np.unique(values)
    if len(values) < FEW or len(different) > REPEATED * len(values):
        return 0.0
    if len(different) == 2:
        return float(different[1] - different[0])
    decimals = rounded_at(different)
    if decimals is None:
        return 0.0
    whole = np.rint((different.astype(np.float64) - float(different[0])) * 10.0**decimals)
    return float(np.gcd.reduce(whole.astype(np.int64))) / 10.0**decimals if whole.max() < 2**53 else 0.0


def rounded_at(values: np.ndarray) -> int | None:
    """Return at how many decimal places all floats (n,) are rounded; None where at none up to DECIMALS."""
    for decimals in range(DECIMALS + 1):
        if (np.round(values, decimals) == values).all():
            return decimals
    return None


def suggestions(columns: Iterable[Column], frame: pd.DataFrame) -> str:
    """Return the options that would keep samples where the values of columns seem to live; nothing where none do.

    One is made for a column whose values touch or crowd towards a natural bound (0; 0 and 1; 0 and 100): a Gaussian of
    their mean and variance has more than a thousandth of its mass beyond it.
    """
    positive, bounds = [], []
    for column in columns:
        x = frame[column.name].to_numpy(np.float64)
        mean, std, low, high = x.mean(), x.std(), x.min(), x.max()
        two_valued = np.dtype(column.dtype).kind == "b" or len(np.unique(x[:100])) <= 2
        if two_valued or column.is_constant or column.is_bounded or len(x) < FEW or low < 0 or mean > 3.1 * std:
            continue
        top = next((top for top in (1.0, 100.0) if 0.8 * top < high <= top), None)
        inside = bool(column.step) or low > 0
        if inside and top and (column.step or high < top):
            bounds.append(f"{column.name}=0:{top:g}")
        elif inside:
            positive.append(column.name)
    parts = [("--positive ", positive), ("--bounds ", bounds)]
    return " ".join(option + ",".join(names) for option, names in parts if names)


def _check_bounds(name: str, x: np.ndarray, lower: float, upper: float, step: float) -> None:
    if not lower < upper:
        raise ValueError(f"the bounds of {name} must be a lower and a larger upper one; got {lower:g} and {upper:g}")
    outside = ~((lower < x) & (x < upper))
    if outside.any():
        value, count = x[int(outside.argmax())], int(outside.sum())
        where = f"from {lower + step / 2:g} to {upper - step / 2:g}" if step else f"above {lower:g} and below {upper:g}"
        raise ValueError(
            f"column {name}: expected values {where}; got {value:g}, one of {count:,} outside; change its bounds, "
            "leave the rows out, or leave the column free"
        )


def _location(u: np.ndarray, step: float) -> tuple[float, float]:
    """Return the mean and the standard deviation with the uniform cells, exact for any offset and any unit."""
    deviation = u - u[0]  # centred and scaled before squaring
    width = np.abs(deviation).max()
    unit = deviation / width
    return float(u[0] + width * unit.mean()), float(np.hypot(width * unit.std(), step / math.sqrt(12)))
