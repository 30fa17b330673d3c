"""From the score on a grid back to a density: path integrals, a Poisson solve, and what they cannot know."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import fft
from scipy.integrate import cumulative_simpson, simpson
from scipy.special import expit, logit

Axis = Float[np.ndarray, "_"]
Values = Float[np.ndarray, "..."]

TRUSTED = 0.1
"""A density is called normalised where at most this much of its mass can be on the wrong side of a valley."""

LEAST_SHARE, LEAST_POINTS = 0.01, 5
"""A side with a smaller share of the points, or with fewer, is no mode: wiggles far out are not valleys."""

WINDOW = 2.0
"""One slope describes log p where it changes by less than this, in nats: chosen by experiment, see docs/theory.md."""


@dataclass(frozen=True)
class Valley:
    """The deepest valley of a log-density on a line, and how well points support a crossing of it.

    drop: from the lower of the two modes to the bottom, nats, 0 where there is one mode only; at: the place of the
    bottom (of the mode); points: how many are near the bottom, where log p is within WINDOW of it; stderr: the standard
    error, nats, of the log of the ratio of the masses of both sides; share: the mass on the left; counted: the share of
    the points there.
    """

    drop: float
    at: float
    points: int
    stderr: float
    share: float
    counted: float

    @property
    def mass_range(self) -> tuple[float, float]:
        """The mass on the left, one standard error down and up from the share of the points."""
        odds = float(logit(self.counted))
        return float(expit(odds - self.stderr)), float(expit(odds + self.stderr))

    @property
    def is_trustworthy(self) -> bool:
        """Whether the mass of both sides is known: no more than TRUSTED of it can be on the wrong one, or is."""
        off = max(abs(mass - self.counted) for mass in (*self.mass_range, self.share))
        return self.drop == 0 or off <= TRUSTED

    def describe(self, name: str = "x") -> str:
        """Return the valley in one line."""
        if self.drop == 0:
            return f"none: one mode, at {name} = {self.at:.4g}"
        low, high = self.mass_range
        return (
            f"{self.drop:.3g} nats deep at {name} = {self.at:.4g}, {self.points:,} points there: a path knows the mass "
            f"on the left to be between {low:.2g} and {high:.2g}; it says {self.share:.2g}, of the points "
            f"{self.counted:.2g} are there: {'trusted' if self.is_trustworthy else 'NOT normalised'}"
        )


def integrate_score(grid: Axis, score: Axis) -> Axis:
    """Return the log-density, its maximum 0, of a score on a line.

    log p(x) = log p(x_0) + integral of the score from x_0 to x, by cumulative Simpson: error h^4 in the step h of the
    grid.

    Args:
        grid: Increasing points, (k,).
        score: There, (k,), nats per unit.

    Raises:
        ValueError: the grid does not increase, has fewer than 3 points, or a score is not finite.

    Examples:
        >>> x = np.linspace(-2, 2, 5)
        >>> integrate_score(x, -x).round(3)
        array([-2. , -0.5,  0. , -0.5, -2. ])
    """
    _check(score, grid)
    found = cumulative_simpson(score, x=grid, initial=0.0)
    return found - found.max()


def integrate_score_2d(xs: Axis, ys: Axis, score: Values) -> tuple[Values, float]:
    """Return the log-density of a score on a grid of two axes, and how far the score is from a gradient.

    Along each edge of the grid its integral c, in nats, is found by Simpson's rule with an error of order h^4; log p is
    the u that minimises the sum over edges of (u_end - u_start - c)^2. The normal equations are Poisson's on the grid
    with Neumann's boundary, which a cosine transform solves exactly.

    Args:
        xs: Increasing points, (k,).
        ys: Increasing points, (l,).
        score: (k, l, 2); score[i, j] is that at (xs[i], ys[j]).

    Returns:
        log p (k, l), its maximum 0, and the RMS of u_end - u_start - c over that of c: 0 for a gradient, 1 for a field
        of closed loops.

    Raises:
        ValueError: as `integrate_score`.
    """
    if score.ndim != 3 or score.shape[2] != 2:
        raise ValueError(f"expected a score of shape ({len(xs)}, {len(ys)}, 2); got {score.shape}")
    _check(score[..., 0], xs, ys)
    _check(score[..., 1], xs, ys)
    across = np.diff(cumulative_simpson(score[..., 0], x=xs, axis=0, initial=0.0), axis=0)
    along = np.diff(cumulative_simpson(score[..., 1], x=ys, axis=1, initial=0.0), axis=1)
    source = np.diff(np.pad(across, ((1, 1), (0, 0))), axis=0) + np.diff(np.pad(along, ((0, 0), (1, 1))), axis=1)
    curvatures = [2 * np.cos(np.pi * np.arange(n) / n) - 2 for n in source.shape]
    eigenvalues = np.add.outer(*curvatures)
    eigenvalues[0, 0] = -1.0  # the constant, which no score knows
    found = fft.idctn(fft.dctn(source, norm="ortho") / eigenvalues, norm="ortho")
    edges = np.concatenate([across.ravel(), along.ravel()])
    left = edges - np.concatenate([np.diff(found, axis=0).ravel(), np.diff(found, axis=1).ravel()])
    size = float(np.linalg.norm(edges))
    return found - found.max(), float(np.linalg.norm(left)) / size if size else 0.0


def mass(density: Values, *grids: Axis) -> float:
    """Return the integral of a density over its grids, one for each of its axes, by Simpson's rule."""
    for grid in reversed(grids):
        density = simpson(density, x=grid)
    return float(density)


def normalise(log_density: Values, *grids: Axis) -> Values:
    """Return a log-density on grids, one for each of its axes, shifted so that its mass there is 1."""
    _check(log_density, *grids)
    top = float(log_density.max())
    return log_density - top - math.log(mass(np.exp(log_density - top), *grids))


def total_variation(first: Values, second: Values, *grids: Axis) -> float:
    """Return half the integral of the distance of two densities on grids: the mass in which they differ."""
    return mass(np.abs(first - second), *grids) / 2


def valley(grid: Axis, log_density: Axis, points: Axis) -> Valley:
    """Return the deepest valley of a log-density on a line, judged by points that a score was learned from.

    A score in a window is a slope of log p, and k points that are spread evenly over a window of width w tell a slope
    to sqrt(12 / k) / w: the rise over the window to sqrt(12 / k) nats. Windows are as long as log p changes by less
    than WINDOW, outward from the bottom to behind the highest mode on each side; their errors are independent, so

        stderr^2 = sum over windows of 12 / k,

    infinite where one is empty. See docs/theory.md.

    Args:
        grid: Increasing places, (k,).
        log_density: There, (k,), nats.
        points: What the score was learned from, (n,).

    Raises:
        ValueError: as `integrate_score`, or there are no points.
    """
    _check(log_density, grid)
    if not len(points):
        raise ValueError("expected points that the score was learned from; got none")
    below, least = np.searchsorted(np.sort(points), grid), max(LEAST_SHARE * len(points), LEAST_POINTS)
    peaks = np.minimum(np.maximum.accumulate(log_density), np.maximum.accumulate(log_density[::-1])[::-1])
    drop = np.where((below >= least) & (below <= len(points) - least), peaks - log_density, 0.0)
    lowest = int(drop.argmax()) if drop.any() else int(log_density.argmax())
    left = _edges(grid[lowest::-1], log_density[lowest::-1])
    right = _edges(grid[lowest:], log_density[lowest:])
    counts = np.histogram(points, [*left[::-1], *right])[0]
    errors = 12 / counts if counts.all() else np.array([math.inf])
    density = np.exp(normalise(log_density, grid))
    return Valley(
        drop=float(drop[lowest]),
        at=float(grid[lowest]),
        points=int(counts[len(left) - 1]),
        stderr=math.sqrt(errors.sum()),
        share=float(mass(np.where(grid <= grid[lowest], density, 0.0), grid)),
        counted=float(below[lowest] / len(points)),
    )


def _edges(grid: np.ndarray, log_density: np.ndarray) -> list[float]:
    """Return where windows end on the way from the bottom, the first point, to behind the highest one."""
    ends, start = [], log_density[0]
    for i in range(1, len(grid)):
        if abs(log_density[i] - start) >= WINDOW:
            ends.append(float(grid[i]))
            start = log_density[i]
            if i > log_density.argmax():
                return ends
    return [*ends[:-1], float(grid[-1])]


def _check(values: np.ndarray, *grids: np.ndarray) -> None:
    """Raise ValueError where values are not finite or do not belong to increasing grids of at least 3 points."""
    for grid in grids:
        if grid.ndim != 1 or len(grid) < 3 or not (np.diff(grid) > 0).all():
            raise ValueError(f"expected a grid of at least 3 increasing points; got shape {grid.shape}: {grid[:3]} ...")
    shape = tuple(map(len, grids))
    if values.shape != shape:
        raise ValueError(f"expected values of shape {shape}, one for each point of the grid; got {values.shape}")
    if not np.isfinite(values).all():
        where = np.argwhere(~np.isfinite(values))[0].tolist()
        raise ValueError(f"expected finite values; got {values[tuple(where)]} at position {where}; shrink the grid")
