"""How far samples are from real rows: numbers with standard errors, and beside each real against real.

Rows are (n, d), in units that make the columns comparable; the work is done in float64 on the CPU.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from scorefield.tensors import normal
from scorefield.types import PerSample

if TYPE_CHECKING:
    from sklearn.neighbors import NearestNeighbors

Rows = Float[Tensor, "_ d"]
"""A sample: any number of rows, as many columns as the other samples have."""

MIN_ROWS = 10
"""Fewer rows than this leave no standard error worth the name."""

ROWS = 5_000
"""`compare` draws at most this many rows where the cost is rows x rows: 75 million distances in 1 to 3 s."""

BLOCK = 2**22
"""Distances are computed in blocks of about this many at most (32 MB)."""

SPLITS, SPLIT_ROWS = 4, 1_000
"""The noise of equal laws is learnt from splits of a sample into halves of at most so many rows."""

NEAR = 0.01
"""A near duplicate is as close to a training row as the closest 1 % of these are to one another."""


@dataclass(frozen=True)
class Estimate:
    """A number and its standard error."""

    value: float
    stderr: float

    def __str__(self) -> str:
        """Return both with the digits that the error leaves, for example 0.0187 +- 0.0016."""
        digits = max(0, 1 - math.floor(math.log10(self.stderr))) if self.stderr > 0 else 4
        return f"{self.value:.{digits}f} +- {self.stderr:.{digits}f}"


@dataclass(frozen=True)
class Comparison:
    """One metric of a model's samples and of real rows, with the same numbers of rows in both."""

    model: Estimate
    real: Estimate

    @property
    def excess(self) -> float:
        """How far the model lies above real rows, in standard errors of a difference of independent numbers.

        The two share their held-out rows, which makes the difference more certain than that, not less.
        """
        error = math.hypot(self.model.stderr, self.real.stderr)
        return (self.model.value - self.real.value) / max(error, 1e-300)  # two point masses have no error


def mean_log_likelihood(log_prob: PerSample) -> Estimate:
    """Return the mean of log p, in nats per row. Raises ValueError for fewer than 10 or non-finite values."""
    (log_prob,) = _checked(log_prob=log_prob[:, None])
    return Estimate(log_prob.mean().item(), math.sqrt(_variance_of_mean(log_prob[:, 0])))


def sliced_wasserstein(x: Rows, y: Rows, *, slices: int = 64, generator: Generator) -> Estimate:
    """Return the sliced 2-Wasserstein distance of two samples, in units of the data.

    SW^2 = the mean over directions v of the integral over 0 < u < 1 of (F_v^-1(u) - G_v^-1(u))^2, F_v and G_v
    the empirical distributions of v . x and v . y (Bonneel et al., 2015). Samples of one law are not at 0 but
    at about 1/sqrt(n): compare with real rows against real rows, as `compare` does. The error covers rows
    (del Barrio and Loubes, 2019; see `_variance`) and directions; one dimension needs only one direction.
    Raises ValueError for fewer than 10 rows or 2 slices.
    """
    x, y = _checked(x=x, y=y)
    if slices < 2:
        raise ValueError(f"sliced_wasserstein needs at least 2 slices for its standard error; got {slices}")
    v = torch.nn.functional.normalize(normal((slices, x.shape[1]), x, generator), dim=1)
    v = v[:1] if x.shape[1] == 1 else v
    squares, jackknife = _transport(x, y, v)
    noise = 2 * (_noise_of_slices(x, v, generator) + _noise_of_slices(y, v, generator)) ** 2
    variance = _variance(jackknife, noise) + (_variance_of_mean(squares) if len(v) > 1 else 0.0)
    distance = math.sqrt(squares.mean().item())
    return Estimate(distance, math.sqrt(variance) / (2 * distance) if distance > 0 else 0.0)


def energy_distance(x: Rows, y: Rows) -> Estimate:
    """Return the unbiased estimate of 2 E|X - Y| - E|X - X'| - E|Y - Y'|, in units of the data.

    It is 0 for equal laws only (Szekely and Rizzo, 2013), so estimates can be negative. From means over pairs
    of different rows, u_i = 2 (mean_j |x_i - y_j| - mean_j |x_i - x_j|), w_j the same with x and y exchanged,
    it is (mean u + mean w) / 2. Costs n^2 + nm + m^2 distances: give it a random part of large data, as
    `compare` does. Raises ValueError for fewer than 10 rows.
    """
    x, y = _checked(x=x, y=y)
    n, m = len(x), len(y)
    x, y = x - y.mean(0), y - y.mean(0)
    (xy, yx), (xx, _), (yy, _) = _distance_sums(x, y), _distance_sums(x, x), _distance_sums(y, y)
    u, w = 2 * (xy / m - xx / (n - 1)), 2 * (yx / n - yy / (m - 1))
    noise = 2 * (_noise_of_distances(x, xx) + _noise_of_distances(y, yy)) ** 2
    variance = _variance(_variance_of_mean(u) + _variance_of_mean(w), noise)
    return Estimate((u.mean() + w.mean()).item() / 2, math.sqrt(variance))


def copying(samples: Rows, train: Rows, held_out: Rows, *, generator: Generator) -> dict[str, Comparison]:
    """Return, in two numbers, whether samples lie closer to the training rows than held-out rows do.

    copying          the probability that a sample is closer to its nearest training row than a held-out row
                     to its own: 1/2 for a perfect model, 1 for copies (Meehan et al., 2020), error by DeLong
                     et al., 1988; below 1/2 where samples stray from the data, which can hide copies
    near_duplicates  the share of rows no further from a training row than the closest 1 % of the training
                     rows (at most 5,000 are asked) are from one another

    No error is set below one row's share, not even at 0 or 1. Raises ValueError for fewer than 10 rows.
    """
    from sklearn.neighbors import NearestNeighbors

    samples, train, held_out = _checked(samples=samples, train=train, held_out=held_out)
    search = NearestNeighbors().fit(train.numpy())
    near, far = _nearest(search, train, samples), _nearest(search, train, held_out)
    limit = _nearest(search, train, _draw(train, ROWS, generator), skip=1).quantile(NEAR)

    closer = _share_above(near, far)
    error = math.sqrt(_variance_of_mean(closer) + _variance_of_mean(_share_above(far, near)))
    model = Estimate(closer.mean().item(), max(error, 1 / min(len(near), len(far))))
    return {
        "copying": Comparison(model, real=Estimate(0.5, 0.0)),
        "near_duplicates": Comparison(_share(near <= limit), _share(far <= limit)),
    }


def compare(samples: Rows, held_out: Rows, train: Rows, *, generator: Generator) -> dict[str, Comparison]:
    """Return each metric of samples against held-out rows, beside that of training rows against held-out rows.

    Both have as many rows as the smallest of the three sets, drawn at random, and at most 5,000 for all
    metrics but sliced_wasserstein. Raises ValueError for fewer than 10 rows.
    """
    samples, held_out, train = _checked(samples=samples, held_out=held_out, train=train)
    n = min(len(samples), len(held_out), len(train))
    x, y, real = (_draw(rows, n, generator) for rows in (samples, held_out, train))
    sliced = partial(sliced_wasserstein, generator=generator)
    few, few_held_out, few_real = x[:ROWS], y[:ROWS], real[:ROWS]
    return {
        "sliced_wasserstein": Comparison(sliced(x, y), sliced(real, y)),
        "energy_distance": Comparison(energy_distance(few, few_held_out), energy_distance(few_real, few_held_out)),
        **copying(few, train, few_held_out, generator=generator),
    }


def _variance(jackknife: float, noise: float) -> float:
    """Return the variance of an estimated squared distance |D|^2 of two laws, be they equal or not.

    D_hat, a difference of means over rows, has mean D and covariance C = S_x / n + S_y / m, so the variance of
    |D_hat|^2 is 4 D'C D + 2 tr C^2. The jackknife, the variance of the mean influence of a row, is 4 D_hat'C
    D_hat, on average 4 D'C D + 4 tr C^2: twice too large for equal laws. Given noise = 2 tr C^2, for which the
    callers put 2 (sqrt(tr S_x^2) / n + sqrt(tr S_y^2) / m)^2, jackknife^2 / (jackknife + 2 noise) is right for
    equal and for distant laws, and never negative.
    """
    return jackknife**2 / (jackknife + 2 * max(noise, 0.0)) if jackknife > 0 else 0.0


def _transport(x: Tensor, y: Tensor, v: Tensor) -> tuple[Tensor, float]:
    """Return squared 2-Wasserstein distances along each direction v and the jackknife variance of their mean.

    The influence of a row on one direction is its Kantorovich potential phi, phi'(x) = 2 (x - G^-1(F(x))).
    The part of it that no two directions share is left out: it shows in the variance between directions.
    """
    n, m, k = len(x), len(y), len(v)
    (p, order_p), (q, order_q) = (v @ x.mT).sort(1), (v @ y.mT).sort(1)
    cuts = torch.cat([torch.arange(n) * m, torch.arange(m) * n]).unique()
    i, j = cuts // m, cuts // n  # from a cut to the next the quantile functions are constant: p[i] and q[j]
    gap = p[:, i] - q[:, j]
    squares = gap.square() @ cuts.diff(append=cuts.new_tensor([n * m])).to(x) / (n * m)

    variance = 0.0
    for rows, order, index, slope in ((p, order_p, i, gap), (q, order_q, j, -gap)):
        steps = (slope[:, 1:] + slope[:, :-1]) * rows[:, index].diff()
        potential = torch.nn.functional.pad(steps.cumsum(1), (1, 0))
        potential = potential[:, torch.searchsorted(index, torch.arange(rows.shape[1]))]
        influence = torch.zeros_like(potential).scatter(1, order, potential)
        whole, own = influence.mean(0).var().item(), influence.var(1).mean().item()
        variance += ((whole - own / k) / (1 - 1 / k) if k > 1 else whole) / rows.shape[1]
    return squares, variance


def _noise_of_slices(x: Tensor, v: Tensor, generator: Generator) -> float:
    """Return sqrt(tr S^2) / n of the n rows x in the space of quantile functions along v (see `_variance`).

    Random halves of h rows are of one law with C = 2 S / h: their jackknife is on average 16 tr S^2 / h^2.
    """
    h = min(len(x) // 2, SPLIT_ROWS)
    halves = [_draw(x, 2 * h, generator).split(h) for _ in range(SPLITS)]
    jackknife = sum(_transport(first, second, v)[1] for first, second in halves) / SPLITS
    return math.sqrt(max(jackknife, 0.0) / 16) * h / len(x)


def _noise_of_distances(x: Tensor, sums: Tensor) -> float:
    """Return sqrt(tr S^2) / n of the n rows x, given the sums a_i. of their distances a_ij (see `_variance`).

    tr S^2, the squared distance variance, has the unbiased estimate (Szekely and Rizzo, 2014)
    (sum a_ij^2 - 2 sum a_i.^2 / (n - 2) + a..^2 / ((n - 1) (n - 2))) / (n (n - 3)).
    """
    n = len(x)
    squares = 2 * n * (x - x.mean(0)).square().sum()
    trace = squares - 2 * sums.square().sum() / (n - 2) + sums.sum() ** 2 / ((n - 1) * (n - 2))
    return math.sqrt(max(trace.item(), 0.0) / (n * (n - 3))) / n


def _distance_sums(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums of |x_i - y_j| over j and over i."""
    mode = "use_mm_for_euclid_dist" if x.shape[1] >= 32 else "donot_use_mm_for_euclid_dist"  # the faster one
    rows, columns, size = [], torch.zeros_like(y[:, 0]), max(1, BLOCK // len(y))
    for start in range(0, len(x), size):
        block = torch.cdist(x[start : start + size], y, compute_mode=mode)
        if x is y:
            block[:, start:].fill_diagonal_(0.0)  # a matrix product leaves rounding here
        rows.append(block.sum(1))
        columns += block.sum(0)
    return torch.cat(rows), columns


def _nearest(search: "NearestNeighbors", train: Tensor, x: Tensor, skip: int = 0) -> Tensor:
    """Return the distance of each row of x to its nearest training row, after the `skip` nearest ones."""
    index = search.kneighbors(x.numpy(), skip + 1, return_distance=False)[:, skip]
    return (x - train[torch.as_tensor(index)]).norm(dim=1)


def _share_above(values: Tensor, others: Tensor) -> Tensor:
    """Return for each value the share of the others that are larger, ties counting half."""
    others = others.sort().values
    below = torch.searchsorted(others, values) + torch.searchsorted(others, values, right=True)
    return 1 - below.double() / (2 * len(others))


def _share(hits: Tensor) -> Estimate:
    share, n = hits.double().mean().item(), len(hits)
    return Estimate(share, max(math.sqrt(share * (1 - share) / n), 1 / n))


def _variance_of_mean(values: Tensor) -> float:
    return values.var().item() / len(values)


def _draw(x: Tensor, n: int, generator: Generator) -> Tensor:
    """Return n random rows of x without replacement, or all of them in random order."""
    return x[torch.randperm(len(x), generator=generator, device=generator.device)[:n].to(x.device)]


def _checked(**samples: Tensor) -> list[Tensor]:
    """Return samples in float64 on the CPU. Raises ValueError for what no metric can use."""
    for name, x in samples.items():
        if x.ndim != 2 or len(x) < MIN_ROWS or x.shape[1] == 0:
            raise ValueError(f"{name} must be at least {MIN_ROWS} rows, shape (n, d); got {tuple(x.shape)}")
        bad = (~x.isfinite()).any(1).nonzero()
        if len(bad):
            raise ValueError(f"{name} must be finite; {len(bad)} of {len(x)} rows are not, first {int(bad[0])}")
    columns = {name: x.shape[1] for name, x in samples.items()}
    if len(set(columns.values())) > 1:
        raise ValueError(f"the samples must have the same number of columns; got {columns}")
    return [x.detach().to("cpu", torch.float64) for x in samples.values()]
