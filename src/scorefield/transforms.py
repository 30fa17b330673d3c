"""Between the user's table and the model's units: an invertible map that knows its log-Jacobian."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Generator, Tensor

from scorefield.tensors import uniform
from scorefield.types import Samples


@dataclass(frozen=True)
class TableTransform:
    """Columns of a table against white coordinates z = W (x - shift) / scale of those that vary.

    names and dtypes of all columns, as NumPy writes them; shift and scale of all columns, in the user's units. A scale
    of 0 marks a constant column: it has no coordinate, and comes back as its one value. Integer and boolean columns
    are spread uniformly over the cell of width 1 around each value (dequantised) before a model learns them, and
    come back rounded. W = C^(-1/2) (d, d), C the covariance of the standardised columns with Ledoit and Wolf's (2004)
    shrinkage, which makes it positive for any number of rows: N(0, I) in z is one Gaussian fitted to the table.
    """

    names: tuple[str, ...]
    dtypes: tuple[str, ...]
    shift: tuple[float, ...]
    scale: tuple[float, ...]
    whitening: tuple[tuple[float, ...], ...]

    @classmethod
    def fit(cls, frame: pd.DataFrame) -> "TableTransform":
        """Return the transform that whitens a table.

        Raises ValueError where no column varies and where columns are duplicates or exactly collinear, since no
        density exists then; at most as many rows as twice the columns cannot show that.
        """
        values = frame.to_numpy(np.float64)
        deviation = values - values[0]  # centred and scaled before squaring: exact for any offset and any unit
        width = np.abs(deviation).max(0)
        constant = width == 0
        unit = deviation / np.where(constant, 1, width)
        shift, scale = values[0] + width * unit.mean(0), width * unit.std(0)
        del values, unit  # of a large table few copies fit into memory
        if constant.all():
            raise ValueError(
                f"expected at least one column that varies; got {len(frame)} equal rows in all of "
                f"{list(frame.columns)}; there is nothing to learn"
            )
        integral = np.array([np.dtype(dtype).kind in "bui" for dtype in frame.dtypes])
        scale = np.where(integral, np.sqrt(scale**2 + 1 / 12), scale)  # the uniform cell adds its variance
        varying, names = ~constant, tuple(map(str, frame.columns))
        standard = (deviation / np.where(constant, 1, scale))[:, varying]
        cells = (np.where(integral, 12**-0.5, 0)[varying] / scale[varying]) ** 2
        _refuse_collinear(standard, cells, [name for name, varies in zip(names, varying, strict=True) if varies])
        return cls(
            names,
            tuple(np.dtype(dtype).str for dtype in frame.dtypes),
            tuple(shift.tolist()),
            tuple(np.where(constant, 0.0, scale).tolist()),
            tuple(map(tuple, _whitening(standard, cells).tolist())),
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
        """The scale of each column that varies, float64."""
        return torch.tensor([self.scale[i] for i in self.varying], dtype=torch.float64)

    @property
    def _white(self) -> Tensor:
        return torch.tensor(self.whitening, dtype=torch.float64)

    @property
    def log_jacobian(self) -> float:
        """Log |dz/dx| = log det W - sum log scale, in nats: log p(x) = log p(z) + log_jacobian."""
        return float(torch.linalg.slogdet(self._white).logabsdet - self.scales.log().sum())

    def pull_back(self, gradient: Tensor) -> Tensor:
        """Return the gradient per unit of each column from the gradient g in z, (n, d): W' g / scale."""
        return (gradient.double() @ self._white) / self.scales

    def forward(self, frame: pd.DataFrame, generator: Generator | None = None) -> Samples:
        """Return the coordinates z (n, d) of a table, float64; with a generator, integers are dequantised first."""
        x = torch.from_numpy(frame.iloc[:, self.varying].to_numpy(np.float64, copy=True))
        if generator is not None:
            cell = torch.tensor(self.integral, dtype=torch.float64)
            x = x + cell * (uniform(x.numel(), generator).reshape(x.shape) - 0.5)
        return ((x - self._shifts) / self.scales) @ self._white

    def inverse(self, z: Samples) -> pd.DataFrame:
        """Return the table of coordinates z (n, d): columns, names and types as they came."""
        x = (torch.linalg.solve(self._white, z.double(), left=False) * self.scales + self._shifts).numpy()
        columns: dict[str, np.ndarray] = {}
        coordinate = iter(x.T)
        for name, dtype, shift, scale in zip(self.names, self.dtypes, self.shift, self.scale, strict=True):
            values = next(coordinate) if scale > 0 else np.full(len(x), shift)
            columns[name] = _typed(values, np.dtype(dtype))
        return pd.DataFrame(columns, columns=list(self.names))

    @property
    def _shifts(self) -> Tensor:
        return torch.tensor([self.shift[i] for i in self.varying], dtype=torch.float64)


def _refuse_collinear(standard: np.ndarray, cells: np.ndarray, names: list[str]) -> None:
    """Raise ValueError where a combination of standardised columns is constant up to rounding, and name them."""
    n, d = standard.shape
    if n <= 2 * d:
        return
    values, vectors = np.linalg.eigh(np.cov(standard.T, bias=True).reshape(d, d) + np.diag(cells))
    if values[0] > 1e-12:
        return
    share = np.abs(vectors[:, 0])
    together = [name for name, part in zip(names, share, strict=True) if part > 1e-3 * share.max()]
    raise ValueError(
        f"expected columns of which none follows exactly from the others; {', '.join(together)} are collinear or "
        f"duplicates, so there is no density: leave one out, for example with --drop {together[-1]}"
    )


def _whitening(standard: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Return C^(-1/2), symmetric: C is the covariance of standardised columns and their cells, shrunk towards I."""
    from sklearn.covariance import ledoit_wolf_shrinkage

    share = ledoit_wolf_shrinkage(standard)
    covariance = standard.T @ standard / len(standard) - np.outer(standard.mean(0), standard.mean(0)) + np.diag(cells)
    values, vectors = np.linalg.eigh((1 - share) * covariance + share * np.eye(len(cells)))
    return (vectors * values**-0.5) @ vectors.T


def _typed(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return values in a column's own type: rounded and kept in its range where it holds integers or booleans."""
    if dtype.kind == "b":
        return values >= 0.5
    if dtype.kind in "ui":
        limits = np.iinfo(dtype)
        top = min(float(limits.max), np.nextafter(float(limits.max) + 1, 0))  # the largest float64 that fits
        return np.clip(np.rint(values), limits.min, top).astype(dtype)
    return values.astype(dtype)
