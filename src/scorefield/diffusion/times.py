"""Where in time to train and where to step: laws of t for training, grids of t for sampling."""

import itertools
import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from scorefield.diffusion.process import RATIO_MIN, Process
from scorefield.numerics.shapes import Grid
from scorefield.numerics.tensors import uniform as draw_uniform


@runtime_checkable
class Law(Protocol):
    """A law of training times."""

    def __call__(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draw n times, float64."""
        ...


def bounds(process: Process, ratio_min: float = RATIO_MIN) -> tuple[float, float]:
    """Return the smallest and the largest ratio s/a that a process is used at: ratio_min and the ratio at t_max.

    Args:
        process: How noise is added.
        ratio_min: The smallest, in units of the data.

    Raises:
        ValueError: not 0 < ratio_min < the ratio at t_max.
    """
    ratio_max = float(process.ratio(torch.tensor(process.t_max, dtype=torch.float64)))
    if not 0 < ratio_min < ratio_max:
        raise ValueError(
            f"the smallest noise ratio must lie between 0 and {ratio_max:g}, the largest of {process}; "
            f"got {ratio_min:g}"
        )
    return ratio_min, ratio_max


def level(t: float) -> Law:
    """All samples at one time."""
    return lambda n, generator=None: torch.full((n,), t, dtype=torch.float64)


def ladder(ts: Sequence[float]) -> Law:
    """Each sample at one of a list of times, all equally likely.

    Args:
        ts: Decreasing times.

    Raises:
        ValueError: the list is empty, or its times do not decrease.
    """
    if not len(ts):
        raise ValueError("a ladder needs at least one time; got an empty list")
    if not all(t > u for t, u in itertools.pairwise(ts)) or not all(map(math.isfinite, ts)):
        raise ValueError(f"the times of a ladder must decrease, from much noise to little; got {list(ts)}")
    rungs = torch.tensor(ts, dtype=torch.float64)
    return lambda n, generator=None: rungs[(draw_uniform(n, generator) * len(rungs)).long()]


def uniform(process: Process, ratio_min: float = RATIO_MIN) -> Law:
    """Times uniform between t_min and t_max, one in each of n equal strata (low variance, same law)."""
    t_min, t_max = _t_min(process, ratio_min), process.t_max
    return lambda n, generator=None: t_min + (t_max - t_min) * stratified(n, generator)


def log_uniform(process: Process, ratio_min: float = RATIO_MIN) -> Law:
    """Ratios s/a uniform in their logarithm, one in each of n strata: the density of t is proportional to (g/s)^2.

    For d log (s/a)^2 / dt = (g/s)^2. Times drawn so, with the weight 1 on the noise, give the likelihood weighting of
    uniform times by importance, without its variance (Song et al., 2021b, section 5.1).
    """
    low, high = map(math.log, bounds(process, ratio_min))
    return lambda n, generator=None: process.time((low + (high - low) * stratified(n, generator)).exp()).clamp(
        max=process.t_max
    )


def lognormal(process: Process, median: float = 0.2, spread: float = 1.6, ratio_min: float = RATIO_MIN) -> Law:
    """Ratios s/a log-normal (Karras et al., 2022), cut to the range of the process, one in each of n strata.

    Args:
        process: How noise is added.
        median: Of the ratios.
        spread: The standard deviation of their logarithms.
        ratio_min: The smallest ratio.

    Raises:
        ValueError: median or spread is not positive, or less than 1e-6 of the law lies in that range.
    """
    if not (0 < median < math.inf and 0 < spread < math.inf):
        raise ValueError(f"a log-normal law needs median > 0 and spread > 0; got median={median}, spread={spread}")
    limits = bounds(process, ratio_min)
    low, high = (_normal(math.log(r / median) / spread) for r in limits)
    if not high - low > 1e-6:
        raise ValueError(
            f"a log-normal law with median={median}, spread={spread} has almost no ratio between "
            f"{limits[0]:g} and {limits[1]:g}, the range of {process}"
        )

    def law(n: int, generator: Generator | None = None) -> Tensor:
        z = torch.special.ndtri(low + (high - low) * stratified(n, generator))
        ratios = median * (spread * z).exp()
        return process.time(ratios.clamp(*limits)).clamp(max=process.t_max)  # rounding must not leave the range

    return law


def stratified(n: int, generator: Generator | None = None) -> Tensor:
    """Return n uniform numbers, one in each of n equal strata of [0, 1), in order."""
    u = draw_uniform(n, generator)
    return (torch.arange(n, dtype=u.dtype, device=u.device) + u) / n


def grid(process: Process, steps: int, power: float = 7.0, ratio_min: float = RATIO_MIN) -> Grid:
    """Return steps + 1 decreasing times from t_max to t_min, whose ratios s/a have equal steps in ratio^(1/power).

    Args:
        process: How noise is added.
        steps: One less than there are times.
        power: 7 is the grid of Karras et al., 2022, eq. 5; larger ones approach equal steps in log s/a, which math.inf
            is.
        ratio_min: The ratio at t_min.

    Raises:
        ValueError: fewer than one step, or a power that is not positive.

    Examples:
        >>> from scorefield import EDM
        >>> ratios = EDM().ratio(grid(EDM(), 4, power=math.inf, ratio_min=0.008))
        >>> [f"{ratio:.3g}" for ratio in ratios.tolist()]
        ['80', '8', '0.8', '0.08', '0.008']
    """
    if steps < 1:
        raise ValueError(f"a grid needs at least one step; got {steps}")
    if not power > 0:
        raise ValueError(f"a grid needs a positive power; got {power}")
    low, high = bounds(process, ratio_min)
    even = lambda first, last: torch.linspace(first, last, steps + 1, dtype=torch.float64)
    if power == math.inf:
        return _between(process, even(math.log(high), math.log(low)).exp(), ratio_min)
    return _between(process, even(high ** (1 / power), low ** (1 / power)) ** power, ratio_min)


def uniform_grid(process: Process, steps: int, ratio_min: float = RATIO_MIN) -> Grid:
    """Return steps + 1 decreasing times at equal distances from t_max to t_min. ValueError for fewer than one step."""
    if steps < 1:
        raise ValueError(f"a grid needs at least one step; got {steps}")
    return torch.linspace(process.t_max, _t_min(process, ratio_min), steps + 1, dtype=torch.float64)


def _normal(z: float) -> float:
    """The distribution function of the standard normal."""
    return math.erfc(-z / math.sqrt(2)) / 2


def _between(process: Process, ratios: Tensor, ratio_min: float) -> Tensor:
    """Return the times of decreasing ratios, with exact end points."""
    times = process.time(ratios)
    times[0] = process.t_max
    times[-1] = _t_min(process, ratio_min)
    return times


def _t_min(process: Process, ratio_min: float) -> float:
    """Return the smallest time, where s/a = ratio_min. Raises ValueError for a ratio outside of the process."""
    return float(process.time(torch.tensor(bounds(process, ratio_min)[0], dtype=torch.float64)))
