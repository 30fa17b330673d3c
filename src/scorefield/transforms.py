"""Between the user's table and the model's units: an invertible map that knows its log-Jacobian."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Generator, Tensor

from scorefield.tensors import uniform
from scorefield.types import Samples


@dataclass(frozen=True)
class TableTransform:
    """Columns of a table against standardised coordinates z = (x - shift) / scale of those that vary.

    names and dtypes of all columns, as NumPy writes them; shift and scale of all columns, in the user's units. A scale
    of 0 marks a constant column: it has no coordinate, and comes back as its one value. Integer and boolean columns
    are spread uniformly over the cell of width 1 around each value (dequantised) before a model learns them, and
    come back rounded.
    """

    names: tuple[str, ...]
    dtypes: tuple[str, ...]
    shift: tuple[float, ...]
    scale: tuple[float, ...]

    @classmethod
    def fit(cls, frame: pd.DataFrame) -> "TableTransform":
        """Return the transform that standardises a table: its means and standard deviations, column by column.

        Raises ValueError where no column varies.
        """
        values = frame.to_numpy(np.float64)
        deviation = values - values[0]  # centred and scaled before squaring: exact for any offset and any unit
        width = np.abs(deviation).max(0)
        constant = width == 0
        unit = deviation / np.where(constant, 1, width)
        shift, scale = values[0] + width * unit.mean(0), width * unit.std(0)
        if constant.all():
            raise ValueError(
                f"expected at least one column that varies; got {len(values)} equal rows in all of "
                f"{list(frame.columns)}; there is nothing to learn"
            )
        integral = np.array([np.dtype(dtype).kind in "bui" for dtype in frame.dtypes])
        scale = np.where(integral, np.sqrt(scale**2 + 1 / 12), scale)  # the uniform cell adds its variance
        return cls(
            tuple(map(str, frame.columns)),
            tuple(np.dtype(dtype).str for dtype in frame.dtypes),
            tuple(shift.tolist()),
            tuple(np.where(constant, 0.0, scale).tolist()),
        )

    @property
    def varying(self) -> list[int]:
        """The positions of the columns that vary, one for each coordinate."""
        return [i for i, scale in enumerate(self.scale) if scale > 0]

    @property
    def constant(self) -> list[str]:
        """The names of the constant columns."""
        return [name for name, scale in zip(self.names, self.scale, strict=True) if scale == 0]

    @property
    def integral(self) -> list[bool]:
        """For each coordinate, whether its column holds integers or booleans."""
        return [np.dtype(self.dtypes[i]).kind in "bui" for i in self.varying]

    @property
    def scales(self) -> Tensor:
        """The scale of each coordinate, float64: a score per unit of the column is the model's score over it."""
        return torch.tensor([self.scale[i] for i in self.varying], dtype=torch.float64)

    @property
    def log_jacobian(self) -> float:
        """Log |dz/dx| = -sum log scale, in nats: log p(x) = log p(z) + log_jacobian."""
        return -math.fsum(math.log(self.scale[i]) for i in self.varying)

    def forward(self, frame: pd.DataFrame, generator: Generator | None = None) -> Samples:
        """Return the coordinates z (n, d) of a table, float64; with a generator, integers are dequantised first."""
        x = torch.from_numpy(frame.iloc[:, self.varying].to_numpy(np.float64, copy=True))
        if generator is not None:
            cell = torch.tensor(self.integral, dtype=torch.float64)
            x = x + cell * (uniform(x.numel(), generator).reshape(x.shape) - 0.5)
        return (x - self._shifts) / self.scales

    def inverse(self, z: Samples) -> pd.DataFrame:
        """Return the table of coordinates z (n, d): columns, names and types as they came."""
        x = (z.double() * self.scales + self._shifts).numpy()
        columns: dict[str, np.ndarray] = {}
        coordinate = iter(x.T)
        for name, dtype, shift, scale in zip(self.names, self.dtypes, self.shift, self.scale, strict=True):
            values = next(coordinate) if scale > 0 else np.full(len(x), shift)
            columns[name] = _typed(values, np.dtype(dtype))
        return pd.DataFrame(columns, columns=list(self.names))

    @property
    def _shifts(self) -> Tensor:
        return torch.tensor([self.shift[i] for i in self.varying], dtype=torch.float64)


def _typed(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return values in a column's own type: rounded and kept in its range where it holds integers or booleans."""
    if dtype.kind == "b":
        return values >= 0.5
    if dtype.kind in "ui":
        limits = np.iinfo(dtype)
        top = min(float(limits.max), np.nextafter(float(limits.max) + 1, 0))  # the largest float64 that fits
        return np.clip(np.rint(values), limits.min, top).astype(dtype)
    return values.astype(dtype)
