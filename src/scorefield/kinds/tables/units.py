"""Between the user's table and the model's units: an invertible map that knows its log-Jacobian."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Generator, Tensor

from scorefield.kinds.tables.columns import Bounds, Column, fit_column, rounded_at
from scorefield.numerics.shapes import PerSample, Samples
from scorefield.numerics.tensors import uniform
from scorefield.numerics.whitening import whitening

BLOCK = 2**16
"""Rows are mapped in blocks of this size, which bounds memory."""

COARSE = 0.25
"""Cells wider than this share of the column's standard deviation are coarse."""

FIT_ROWS = 100_000
"""The map is learned from at most this many rows, evenly spaced in the table; constant columns and bounds from all."""


@dataclass(frozen=True)
class TableTransform:
    """Columns of a table against white coordinates z = W y of those that vary, y the standardised columns.

    Each column has a map of its own (see `Column`): bounds, lattice, tails, scale. W = C^(-1/2) (d, d), C the
    covariance of y with Ledoit and Wolf's (2004) shrinkage, which makes it positive for any number of rows: N(0, I)
    in z is one Gaussian fitted to the table.
    """

    columns: tuple[Column, ...]
    whitening: tuple[tuple[float, ...], ...]

    @classmethod
    def fit(cls, frame: pd.DataFrame, bounds: Bounds | None = None, bend: bool = True) -> "TableTransform":
        """Return the transform that whitens a table; bounds: (lower, upper) of columns by name.

        bend: whether to transform skew and heavy tails where single columns ask for it.

        Raises ValueError where no column varies, where values are outside of their bounds, and where columns are
        duplicates or exactly collinear, since no density exists then; at most as many rows as twice the columns cannot
        show that.
        """
        names = tuple(map(str, frame.columns))
        bounds = bounds or {}
        if unknown := [name for name in bounds if name not in names]:
            raise ValueError(f"bounds were given for {unknown[0]}; expected some of the columns {', '.join(names)}")
        every = math.ceil(len(frame) / FIT_ROWS)
        values = [frame.iloc[:, i].to_numpy() for i in range(len(names))]
        for name, column in zip(names, values, strict=True):
            if name in bounds and every > 1:
                fit_column(name, column, bounds[name])  # for its error
        some = [column[::every] if (column[::every] != column[0]).any() else column for column in values]
        columns = tuple(fit_column(n, c, bounds.get(n), bend) for n, c in zip(names, some, strict=True))
        if all(column.is_constant for column in columns):
            raise ValueError(
                f"expected at least one column that varies; got {len(frame)} equal rows in all of "
                f"{list(frame.columns)}; there is nothing to learn"
            )
        transform = cls(columns, ())
        part = frame.iloc[::every]
        _refuse_collinear(part.iloc[:, transform.varying], [columns[i].name for i in transform.varying])
        standard, cells = transform._standardised(part)[0].numpy(), np.array(transform._cells())
        return cls(columns, tuple(map(tuple, whitening(standard, cells).tolist())))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all columns."""
        return tuple(column.name for column in self.columns)

    @property
    def varying(self) -> list[int]:
        """The positions of the columns that vary, one for each coordinate."""
        return [i for i, column in enumerate(self.columns) if not column.is_constant]

    @property
    def dim(self) -> int:
        """The number of coordinates, d."""
        return len(self.varying)

    @property
    def constant(self) -> list[str]:
        """The names of the constant columns."""
        return [column.name for column in self.columns if column.is_constant]

    @property
    def white(self) -> Tensor:
        """W, (d, d), float64."""
        return torch.tensor(self.whitening, dtype=torch.float64)

    def log_jacobian(self, frame: pd.DataFrame) -> PerSample:
        """Return log |dz/dx| of each row, in nats: log p(x) = log p(z) + log |dz/dx|.

        Integer columns count with the width of their cell, which turns the density into a probability.
        """
        return self._standardised(frame)[1].sum(1) + self._log_volume

    def pull_back(self, frame: pd.DataFrame, gradient: Tensor) -> Tensor:
        """Return grad_x log p(x), (n, d), of each row from its gradient g = grad_z log p(z), (n, d).

        It is the gradient of g . z(x) + log |dz/dx|, g held fixed.
        """
        x = self._values(frame).requires_grad_()
        with torch.enable_grad():
            standard, slopes = self._map(x)
            total = ((standard @ self.white) * gradient.double()).sum() + slopes.sum()
        return torch.autograd.grad(total, x)[0]

    def forward(self, frame: pd.DataFrame, generator: Generator | None = None) -> Samples:
        """Return the coordinates z (n, d) of a table, float64; with a generator, lattices are dequantised first.

        Raises ValueError where a value is outside the bounds of its column.
        """
        z = torch.empty(len(frame), len(self.varying), dtype=torch.float64)
        for start in range(0, len(frame), BLOCK):
            block = frame.iloc[start : start + BLOCK]
            z[start : start + BLOCK] = self._standardised(block, generator)[0] @ self.white
        return z

    @property
    def is_coarse(self) -> bool:
        """Whether a column has cells so wide that the density at their centre is not that of the cell."""
        columns = [column for column in self.columns if column.step and not column.is_constant]
        return any(c.is_bounded or c.is_bent or c.step > COARSE * c.spread for c in columns)

    def in_cells(self, frame: pd.DataFrame, count: int, generator: Generator) -> Iterator[tuple[Samples, PerSample]]:
        """Yield count times the coordinates z (n, d) of points in the cells of a table, and log |dz/dx| there.

        Each column of each row visits the middle of every count-th part of its cell once, in an order of its own: a
        centred Latin hypercube, exact to second order in the width of the parts where columns do not interact.
        """
        x, steps = self._values(frame), self._steps
        parts = uniform(count * x.numel(), generator).reshape(count, *x.shape).argsort(0)
        for part in parts:
            offset = (part + 0.5) / count - 0.5
            standard, slopes = self._map(x + steps * offset)
            yield standard @ self.white, slopes.sum(1) + self._log_volume

    def inverse(self, z: Samples) -> pd.DataFrame:
        """Return the table of coordinates z (n, d): columns, names and types as they came."""
        standard = torch.linalg.solve(self.white, z.double(), left=False)
        found: dict[str, np.ndarray] = {}
        coordinate = iter(standard.T)
        for column in self.columns:
            constant = column.is_constant
            found[column.name] = (
                column.typed(np.full(len(z), column.origin)) if constant else column.inverse(next(coordinate))
            )
        return pd.DataFrame(found, columns=list(self.names))

    @property
    def _steps(self) -> Tensor:
        return torch.tensor([self.columns[i].step for i in self.varying], dtype=torch.float64)

    @property
    def _log_volume(self) -> Tensor:
        """The part of log |dz/dx| that all rows share."""
        return torch.linalg.slogdet(self.white).logabsdet + sum(self.columns[i].log_cell for i in self.varying)

    def _values(self, frame: pd.DataFrame) -> Tensor:
        x = torch.from_numpy(frame.iloc[:, self.varying].to_numpy(np.float64, copy=True))
        for values, i in zip(x.T, self.varying, strict=True):
            column = self.columns[i]
            inside = (column.lower < values) & (values < column.upper)
            if not bool(inside.all()):
                raise ValueError(
                    f"column {column.name}: expected values inside the bounds of the run, "
                    f"{column.lower + column.step / 2:g} to {column.upper - column.step / 2:g}; got "
                    f"{float(values[~inside][0]):g}, where the density is 0; leave such rows out"
                )
        return x

    def _standardised(self, frame: pd.DataFrame, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return the standardised columns (n, d) of a table, dequantised with a generator, and their log-slopes."""
        x = self._values(frame)
        if generator is not None:
            x = x + self._steps * (uniform(x.numel(), generator).reshape(x.shape) - 0.5)
        return self._map(x)

    def _map(self, x: Tensor) -> tuple[Tensor, Tensor]:
        parts = [self.columns[i].forward(values) for values, i in zip(x.T, self.varying, strict=True)]
        standard, slopes = zip(*parts, strict=True)
        return torch.stack(standard, 1), torch.stack(slopes, 1)

    def _cells(self) -> list[float]:
        """Return the variance of the cells in each standardised column, 0 where a curved map absorbs them."""
        columns = [self.columns[i] for i in self.varying]
        return [0.0 if c.is_bounded or c.is_bent else (c.step / c.spread) ** 2 / 12 for c in columns]


def _refuse_collinear(frame: pd.DataFrame, names: list[str]) -> None:
    """Raise ValueError where a combination of columns is constant up to their rounding, and name them."""
    n, d = frame.shape
    if n <= 2 * d or d == 1:
        return
    standard, rounding = np.empty((n, d)), np.zeros(d)
    for i in range(d):
        column = frame.iloc[:, i].to_numpy()
        x = column.astype(np.float64)
        width = np.abs(x - x[0]).max()
        if width == 0:  # constant in the rows looked at, not in all
            return
        unit = (x - x[0]) / width
        standard[:, i] = (unit - unit.mean()) / unit.std()
        decimals = rounded_at(column) if column.dtype.kind == "f" else None
        if decimals is not None:
            rounding[i] = 10.0**-decimals / (width * unit.std()) / math.sqrt(12)
    values, vectors = np.linalg.eigh(standard.T @ standard / n)
    weights = vectors[:, 0]
    if values[0] > max(1e-12, 4 * float((weights * rounding) @ (weights * rounding))):
        return
    share = np.abs(weights)
    together = [name for name, part in zip(names, share, strict=True) if part > 1e-3 * share.max()]
    raise ValueError(
        f"expected columns of which none follows exactly from the others; {', '.join(together)} are collinear or "
        f"duplicates, so there is no density: leave one out, for example with --drop {together[-1]}"
    )
