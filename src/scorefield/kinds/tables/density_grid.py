"""What `scorefield density` finds: the density of a RUN on a grid, by flow and by path, as a table and a picture."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy.integrate import simpson

from scorefield.inference import path_integral
from scorefield.inference.path_integral import Valley
from scorefield.kinds.tables.columns import Column
from scorefield.kinds.tables.estimator import ScoreDensity
from scorefield.reports import density_grid as drawn

MARGIN = 0.1
"""The grid goes beyond the data by this share of their range on either side."""

POINTS = {1: 401, 2: 61}
"""Points of the grid along each column, for one column and for two."""

MOST_POINTS = {1: 1_000_000, 2: 1_000}
"""At most so many."""

METHODS = ("flow", "path")


@dataclass(frozen=True)
class Axis:
    """The grid of one column: x (k,) in its units, z (k,) standardised, slope = dx/dz.

    Values on a lattice stay on it. Where the map to z is curved, at bounds and in heavy tails, the grid is even in z.
    """

    column: Column
    x: np.ndarray
    z: np.ndarray
    slope: np.ndarray

    def integrate(self, density: np.ndarray) -> np.ndarray:
        """Return the integral over the last axis: a sum on a lattice, else Simpson's rule in z."""
        if self.column.step:
            return np.asarray(density.sum(-1) * (self.x[1] - self.x[0]))
        return np.asarray(simpson(density * self.slope, x=self.z))


@dataclass(frozen=True)
class DensityTable:
    """The log-density on a grid by each method that a RUN has, nats per units of the columns.

    noise: what smooths the path, in standard deviations of the columns: its score is read there. valley: of the path,
    None for two columns; residual: how far the score is from a gradient, None for one column.
    """

    axes: list[Axis]
    constants: dict[str, float]
    logs: dict[str, np.ndarray]
    method: str
    noise: float
    valley: Valley | None
    residual: float | None

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The table: the columns of the data, the density and its logarithm by the chosen method."""
        table = points_of(self.axes, self.constants)
        found = self.logs[self.method].ravel()
        for name, values in (("density", np.exp(found)), ("log_density", found)):
            while name in table:
                name += "_"
            table[name] = values
        return table

    def lines(self) -> list[str]:
        """Return the lines that are printed."""
        found = []
        if "flow" in self.logs:
            flow, path = (np.exp(self.logs[name]) for name in METHODS)
            found.append(f"mass      {mass(flow, self.axes):.6f} inside the grid by the flow; the path's is set to 1")
            apart = mass(np.abs(flow - path), self.axes) / 2
            found.append(
                f"methods   total variation {apart:.2g} between flow and path, which noise {self.noise:.2g} smooths"
            )
        else:
            found.append(
                f"method    path, smoothed by the one noise level {self.noise:g}: no flow; its mass is set to 1"
            )
        if self.valley is not None:
            found.append(f"valley    {self.valley.describe(self.axes[0].column.name)}")
        if self.residual is not None:
            found.append(
                f"gradient  the score is one but for {self.residual:.2g} of it, RMS over the edges of the grid"
            )
        return found

    def figure(self, rows: pd.DataFrame) -> Figure:
        """Return the picture: one column as curves over a histogram of rows, two as maps."""
        names, grids = [axis.column.name for axis in self.axes], [axis.x for axis in self.axes]
        if len(self.axes) == 2:
            return drawn.maps(names, grids, self.logs)
        values = rows[names[0]].to_numpy(np.float64)
        return drawn.curves(names[0], grids[0], self.logs, values, bool(self.axes[0].column.step), self.valley)


def recover(estimator: ScoreDensity, rows: pd.DataFrame, method: str | None, points: int | None) -> DensityTable:
    """Return the density of an estimator on a grid over the range of rows and a margin, never outside the bounds.

    method: 'flow', 'path', or None for the flow where there is one. The path is integrated in standardised coordinates,
    where the score of bounded columns stays finite. Raises ValueError for another method, the flow of a single noise
    level, fewer than 3 points, and more than two columns that vary.
    """
    transform, level = estimator.transform_, estimator.config_.level
    columns = [transform.columns[i] for i in transform.varying]
    names, count = [column.name for column in columns], _checked(columns, level, method, points)
    axes = [axis_for(column, rows[column.name].to_numpy(np.float64), count) for column in columns]
    constants = {column.name: column.origin for column in transform.columns if column.is_constant}
    table = points_of(axes, constants)[list(transform.names)]
    shape = tuple(len(axis.x) for axis in axes)
    logs = {}
    if not level:
        cells = sum(column.log_cell for column in columns)
        logs["flow"] = estimator.log_prob(table, errors=False).value.numpy().reshape(shape) - cells
    score = np.asarray(estimator.score_function(table))[:, transform.varying].reshape(*shape, len(columns))
    slopes = np.stack(np.meshgrid(*(axis.slope for axis in axes), indexing="ij"), -1)
    residual = None
    if len(axes) == 1:
        path = path_integral.integrate_score(axes[0].z, (score * slopes)[:, 0])
    else:
        path, residual = path_integral.integrate_score_2d(axes[0].z, axes[1].z, score * slopes)
    logs["path"] = path - np.log(mass(np.exp(path), axes))
    valley = None
    if len(axes) == 1:
        valley = path_integral.valley(axes[0].x, logs["path"], rows[names[0]].to_numpy(np.float64))
    method = method or ("path" if level else "flow")
    return DensityTable(axes, constants, logs, method, estimator.score_ratio_, valley, residual)


def _checked(columns: list[Column], level: float, method: str | None, points: int | None) -> int:
    """Return the points of the grid along each column. Raises ValueError as `recover`."""
    names = [column.name for column in columns]
    if len(columns) > 2:
        raise ValueError(
            f"expected a RUN of one or two columns; got {len(names)}, from {names[0]} to {names[-1]}; fit two of them, "
            f"for example with --columns {','.join(names[:2])}, or use logprob at points"
        )
    if method not in (None, *METHODS):
        raise ValueError(f"--method must be flow or path; got {method!r}")
    if level and method == "flow":
        raise ValueError(f"a RUN of one noise level ({level:g}) has no flow; expected --method path; got flow")
    count, most = POINTS[len(columns)] if points is None else points, MOST_POINTS[len(columns)]
    if not 3 <= count <= most:
        raise ValueError(f"--points must be from 3 to {most:,} along each of {len(columns)} columns; got {points:,}")
    return count


def axis_for(column: Column, values: np.ndarray, count: int) -> Axis:
    """Return a grid over the range of values (n,) and MARGIN of it, inside the bounds.

    It has count points; on a lattice all values or every second, third, ... one, fewer than twice as many.
    """
    ends = np.array([values.min(), values.max()])
    low, high = ends + np.array([-1, 1]) * max(MARGIN * float(np.ptp(ends)), column.step)
    if column.step:
        inside = np.clip([low, high], column.lower + column.step / 2, column.upper - column.step / 2)
        low, high = np.rint((inside - column.origin) / column.step)
        x = column.origin + column.step * np.arange(low, high + 1, max(1, (high - low) // (count - 1)))
    elif column.is_bounded or column.is_bent:
        z = column.forward(torch.from_numpy(ends))[0]
        wide = column.inverse(z + MARGIN * (z[1] - z[0]) * torch.tensor([-1.0, 1.0])).astype(np.float64)
        inside = np.array([max(low, wide[0]), min(high, wide[1])])
        first, last = column.forward(torch.from_numpy(inside))[0].tolist()
        even = torch.linspace(first, last, count, dtype=torch.float64)
        x = np.unique(column.inverse(even).astype(np.float64))
    else:
        x = np.linspace(low, high, count)
    if len(x) < 3:
        raise ValueError(f"expected a column with room for 3 points; got {len(x)} in {column.name}; use logprob there")
    z, log_slope = column.forward(torch.from_numpy(x))
    return Axis(column, x, z.numpy(), np.exp(-log_slope.numpy()))


def points_of(axes: list[Axis], constants: dict[str, float]) -> pd.DataFrame:
    """Return the points of a grid as a table, the last axis fastest, with the constant columns."""
    mesh = np.meshgrid(*(axis.x for axis in axes), indexing="ij")
    whole = lambda axis, x: x.astype(np.int64) if axis.column.is_integral else x
    return pd.DataFrame(
        {axis.column.name: whole(axis, x.ravel()) for axis, x in zip(axes, mesh, strict=True)} | constants
    )


def mass(density: np.ndarray, axes: list[Axis]) -> float:
    """Return the integral of a density over its axes."""
    for axis in reversed(axes):
        density = axis.integrate(density)
    return float(density)
