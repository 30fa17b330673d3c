"""How far samples are from real rows, with standard errors, and beside it how far real rows are from real."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from scorefield.numerics.shapes import PerSample
from scorefield.numerics.tensors import normal

Rows = Float[Tensor, "_ d"]
"""A sample (n, d) in units that make its columns comparable; the work is done in float64 on the CPU."""

MIN_ROWS = 10
"""Fewer rows than this leave no standard error worth the name."""

ROWS = 5_000
"""`compare` takes no more rows than this where the cost is rows x rows: 75 million distances, about 1 s."""

NEAR = 0.01
"""The share of training rows that are closest to one another, by which near duplicates are told."""


@dataclass(frozen=True)
class Estimate:
    """A number and its standard error."""

    value: float
    stderr: float

    def __str__(self) -> str:
        digits = max(0, 1 - math.floor(math.log10(self.stderr))) if self.stderr > 0 else 4
        return f"{self.value:.{digits}f} +- {self.stderr:.{digits}f}"


@dataclass(frozen=True)
class Comparison:
    """One metric of a model's samples and of real rows, with the same numbers of rows in both."""

    model: Estimate
    real: Estimate

    @property
    def excess(self) -> float:
        """How far the model lies above real rows, in standard errors of that difference for equal laws."""
        error = math.sqrt(2) * self.real.stderr or self.model.stderr  # real rows' 1/2 in copying is exact
        return (self.model.value - self.real.value) / max(error, 1e-300)  # point masses have no error


def mean_log_likelihood(log_prob: PerSample) -> Estimate:
    """Return the mean of log p, in nats per row. Raises ValueError for fewer than 10 or non-finite values."""
    (log_prob,) = checked(log_prob=log_prob[:, None])
    return Estimate(log_prob.mean().item(), math.sqrt(_variance_of_mean(log_prob[:, 0])))


def sliced_wasserstein(x: Rows, y: Rows, *, slices: int = 64, generator: Generator) -> Estimate:
    """Return the sliced 2-Wasserstein distance of two samples, in units of the data.

    SW^2 = mean over directions v of the integral over 0 < u < 1 of (F_v^-1(u) - G_v^-1(u))^2, F_v and G_v the
    empirical distributions of v . x and v . y (Bonneel et al., 2015). Equal laws are not at 0 but at about
    1/sqrt(n): compare with real rows, as `compare` does. The error covers rows (del Barrio and Loubes, 2019;
    see `_variance`) and directions, of which one dimension needs one; heavy tails can make it a third too small.

    Args:
        x: One sample (n, d).
        y: The other (m, d).
        slices: Directions.
        generator: What they are drawn from.

    Raises:
        ValueError: fewer than 10 rows or 2 slices.

    Examples:
        >>> import torch
        >>> x = torch.linspace(-1, 1, 101).double()[:, None]
        >>> print(f"{sliced_wasserstein(x, x + 3, generator=torch.Generator().manual_seed(0)).value:.3f}")
        3.000
    """
    x, y = checked(x=x, y=y)
    if slices < 2:
        raise ValueError(f"sliced_wasserstein needs at least 2 slices for its error; got {slices}")
    v = torch.nn.functional.normalize(normal((slices, x.shape[1]), x, generator), dim=1)
    v = v[:1] if x.shape[1] == 1 else v
    squares, jackknife = _transport(x, y, v)
    (floor_x, noise_x), (floor_y, noise_y) = (_split(rows, v, generator) for rows in (x, y))
    variance = _variance(jackknife.item(), noise_x + noise_y) + (_variance_of_mean(squares) if len(v) > 1 else 0.0)
    square = squares.mean().item()
    slope = 2 * math.sqrt(max(square, floor_x + floor_y))  # of the square; the floor is what equal laws have
    return Estimate(math.sqrt(square), math.sqrt(variance) / slope if slope > 0 else 0.0)


def energy_distance(x: Rows, y: Rows) -> Estimate:
    """Return the unbiased estimate of 2 E|X - Y| - E|X - X'| - E|Y - Y'|, in units of the data.

    It is 0 for equal laws only (Szekely and Rizzo, 2013); estimates can be negative: (mean u + mean w) / 2,
    u_i = 2 (mean_j |x_i - y_j| - mean_j |x_i - x_j|) over pairs of different rows, w_j the same with x and y
    exchanged. Takes n^2 + nm + m^2 distances.

    Raises:
        ValueError: fewer than 10 rows.

    Examples:
        >>> import torch
        >>> x = torch.linspace(-1, 1, 101).double()[:, None]
        >>> print(f"{energy_distance(x, x + 10).value:.1f}")  # 2 * 10 less the distances inside of both
        18.6
    """
    x, y = checked(x=x, y=y)
    n, m, x, y = len(x), len(y), x - y.mean(0), y - y.mean(0)
    (xy, yx), (xx, _), (yy, _) = _distance_sums(x, y), _distance_sums(x, x), _distance_sums(y, y)
    u, w = 2 * (xy / m - xx / (n - 1)), 2 * (yx / n - yy / (m - 1))
    noise = math.sqrt(_distance_variance(x, xx)) / n + math.sqrt(_distance_variance(y, yy)) / m
    variance = _variance(_variance_of_mean(u) + _variance_of_mean(w), noise)
    return Estimate((u.mean() + w.mean()).item() / 2, math.sqrt(variance))


def energy_change(x: Rows, x0: Rows, y: Rows) -> Estimate:
    """Return the energy distance of x to y less that of x0 to y, where row i of x belongs to row i of x0.

    Its error, from the influence of each pair and of each row of y, is far smaller than those of the two distances
    where the rows of a pair are close. Takes 2 nm + 2 n^2 distances.

    Raises:
        ValueError: fewer than 10 rows, or x and x0 of different lengths.
    """
    x, x0, y = checked(x=x, x0=x0, y=y)
    if len(x) != len(x0):
        raise ValueError(f"expected rows in pairs; got {len(x)} and {len(x0)}: give as many of both")
    n, m = len(x), len(y)
    (xy, yx), (xx, _) = _distance_sums(x, y), _distance_sums(x, x)
    (xy0, yx0), (xx0, _) = _distance_sums(x0, y), _distance_sums(x0, x0)
    across, within, back = 2 * (xy - xy0) / m, (xx - xx0) / (n - 1), 2 * (yx - yx0) / n
    variance = _variance_of_mean(across - 2 * within) + _variance_of_mean(back)
    return Estimate((across - within).mean().item(), math.sqrt(variance))


def copying(samples: Rows, train: Rows, held_out: Rows, *, generator: Generator) -> dict[str, Comparison]:
    """Return, in two numbers, whether samples lie closer to the training rows than held-out rows do.

    copying          the probability that a sample is closer to its nearest training row than a held-out row
                     to its own: 1/2 for a perfect model, 1 for copies (Meehan et al., 2020), error by DeLong
                     et al., 1988; below 1/2 where samples stray from the data, which can hide copies
    near_duplicates  the share of rows no further from a training row than the closest 1 % of the training
                     rows (at most 5,000 are asked) are from one another

    Even at 0 or 1 errors are at least those of one row.

    Raises:
        ValueError: fewer than 10 rows.
    """
    from sklearn.neighbors import NearestNeighbors

    samples, train, held_out = checked(samples=samples, train=train, held_out=held_out)
    search = NearestNeighbors().fit(train.numpy())

    def nearest(rows: Tensor, skip: int = 0) -> Tensor:
        index = search.kneighbors(rows.numpy(), skip + 1, return_distance=False)[:, skip]
        return (rows - train[torch.as_tensor(index)]).norm(dim=1)  # theirs can be rounded

    near, far = nearest(samples), nearest(held_out)
    limit = nearest(draw(train, ROWS, generator), skip=1).quantile(NEAR)
    closer = share_above(near, far)
    error = math.sqrt(_variance_of_mean(closer) + _variance_of_mean(share_above(far, near)))
    model = Estimate(closer.mean().item(), max(error, 1 / min(len(near), len(far))))
    return {
        "copying": Comparison(model, real=Estimate(0.5, 0.0)),
        "near_duplicates": Comparison(share(near <= limit), share(far <= limit)),
    }


def compare(samples: Rows, held_out: Rows, train: Rows, *, generator: Generator) -> dict[str, Comparison]:
    """Return each metric of samples against held-out rows, beside that of training against held-out rows.

    Both take as many rows as the smallest of the three has, drawn at random; all but sliced_wasserstein at
    most 5,000.

    Raises:
        ValueError: fewer than 10 rows.
    """
    samples, held_out, train = checked(samples=samples, held_out=held_out, train=train)
    n = min(len(samples), len(held_out), len(train))
    x, y, real = (draw(rows, n, generator) for rows in (samples, held_out, train))
    return {
        "sliced_wasserstein": Comparison(*(sliced_wasserstein(z, y, generator=generator) for z in (x, real))),
        "energy_distance": Comparison(*(energy_distance(z[:ROWS], y[:ROWS]) for z in (x, real))),
        **copying(x[:ROWS], train, y[:ROWS], generator=generator),
    }


def _variance(jackknife: float, noise: float) -> float:
    """Return the variance of an estimated squared distance |D|^2 of two laws, be they equal or not.

    D_hat, a difference of means over rows, has mean D and covariance C = S_x / n + S_y / m, so the variance
    is 4 D'C D + 2 tr C^2. The jackknife, that of the mean influence of a row, is 4 D_hat'C D_hat: on average
    4 D'C D + 4 tr C^2, twice too large for equal laws. Returned is the larger of the two parts, noise^2 for
    tr C^2, noise = sqrt(tr S_x^2) / n + sqrt(tr S_y^2) / m, the same for equal laws and never less. Errors
    can be 30 % too large for equal laws and 15 % too small for close ones.
    """
    return max(jackknife - 4 * noise**2, 2 * noise**2)


def _transport(x: Tensor, y: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return squared 2-Wasserstein distances along the directions v and the jackknife variance of their mean.

    x (..., n, d), y (..., m, d), v (k, d) give (..., k) and (...). The influence of a row on one direction is its
    Kantorovich potential phi, phi'(x) = 2 (x - G^-1(F(x))). The part of it that no two directions share is left
    out: it shows in the variance between directions.
    """
    n, m, k = x.shape[-2], y.shape[-2], len(v)
    (p, order_p), (q, order_q) = (v @ x.mT).sort(), (v @ y.mT).sort()
    cuts = torch.cat([torch.arange(n) * m, torch.arange(m) * n]).unique()
    i, j = cuts // m, cuts // n  # from a cut to the next the quantile functions are constant: p[i] and q[j]
    gap = p[..., i] - q[..., j]
    squares = gap.square() @ cuts.diff(append=cuts.new_tensor([n * m])).to(x) / (n * m)
    variance = torch.zeros(x.shape[:-2], dtype=x.dtype)
    for rows, order, index, slope in ((p, order_p, i, gap), (q, order_q, j, -gap)):
        steps = (slope[..., 1:] + slope[..., :-1]) * rows[..., index].diff()
        potential = torch.nn.functional.pad(steps.cumsum(-1), (1, 0))
        potential = potential[..., torch.searchsorted(index, torch.arange(rows.shape[-1]))]
        influence = torch.zeros_like(potential).scatter(-1, order, potential)
        whole, own = influence.mean(-2).var(-1), influence.var(-1).mean(-1)
        variance += ((whole - own / k) / (1 - 1 / k) if k > 1 else whole) / rows.shape[-1]
    return squares, variance


def _split(x: Tensor, v: Tensor, generator: Generator) -> tuple[float, float]:
    """Return tr S / n and sqrt(tr S^2) / n, S the covariance of one of the n rows x (see `_variance`).

    Learnt from 16 pairs of random halves of h rows, of one law, hence C = 2 S / h: on average their squared
    distance is tr C = 2 tr S / h and their jackknife 4 tr C^2 = 16 tr S^2 / h^2.
    """
    n, h = len(x), min(len(x) // 2, 500)  # more rows would cost time and add little
    pairs = torch.stack([draw(x, 2 * h, generator) for _ in range(16)])
    squares, jackknife = _transport(pairs[:, :h], pairs[:, h:], v)
    return squares.mean().item() * h / (2 * n), math.sqrt(max(jackknife.mean().item(), 0.0)) * h / (4 * n)


def _distance_sums(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums of |x_i - y_j| over j and over i."""
    mode = "use_mm_for_euclid_dist" if x.shape[1] >= 32 else "donot_use_mm_for_euclid_dist"  # the faster one
    rows, columns, size = [], torch.zeros_like(y[:, 0]), max(1, 2**22 // len(y))  # blocks of 32 MB
    for start in range(0, len(x), size):
        block = torch.cdist(x[start : start + size], y, compute_mode=mode)
        if x is y:
            block[:, start:].fill_diagonal_(0.0)  # a matrix product leaves rounding here
        rows.append(block.sum(1))
        columns += block.sum(0)
    return torch.cat(rows), columns


def _distance_variance(x: Tensor, sums: Tensor) -> float:
    """Return tr S^2, the squared distance variance of rows x, from the sums a_i. of their distances a_ij.

    (sum a_ij^2 - 2 sum a_i.^2 / (n - 2) + a..^2 / ((n - 1) (n - 2))) / (n (n - 3)) (Szekely and Rizzo, 2014)
    """
    n = len(x)
    squares = 2 * n * (x - x.mean(0)).square().sum()
    total = squares - 2 * sums.square().sum() / (n - 2) + sums.sum() ** 2 / ((n - 1) * (n - 2))
    return max(total.item(), 0.0) / (n * (n - 3))


def share_above(values: Tensor, others: Tensor) -> Tensor:
    """Return for each value the share of the others that are larger, ties counting half."""
    others = others.sort().values
    below = torch.searchsorted(others, values) + torch.searchsorted(others, values, right=True)
    return 1 - below.double() / (2 * len(others))


def share(hits: Tensor) -> Estimate:
    """Return the share of hits and its error, which is never less than that of one hit in a hundred or in all."""
    value, least = hits.double().mean().item(), max(NEAR, 1 / len(hits))
    likely = min(max(value, least), 1 - least)
    return Estimate(value, math.sqrt(likely * (1 - likely) / len(hits)))


def _variance_of_mean(values: Tensor) -> float:
    return values.var().item() / len(values)


def draw(x: Tensor, n: int, generator: Generator) -> Tensor:
    """Return n random rows of x without replacement, or all of them in random order."""
    return x[torch.randperm(len(x), generator=generator, device=generator.device)[:n].to(x.device)]


def checked(**samples: Tensor) -> list[Tensor]:
    """Return samples in float64 on the CPU. Raises ValueError for what no metric can use."""
    for name, x in samples.items():
        if x.ndim != 2 or len(x) < MIN_ROWS or x.shape[1] == 0:
            raise ValueError(f"{name} must be at least {MIN_ROWS} rows, shape (n, d); got {tuple(x.shape)}")
        if len(bad := (~x.isfinite()).any(1).nonzero()):
            raise ValueError(f"{name} must be finite; got {len(bad)} rows that are not, first {int(bad[0])}")
    columns = {name: x.shape[1] for name, x in samples.items()}
    if len(set(columns.values())) > 1:
        raise ValueError(f"the samples must have the same number of columns; got {columns}")
    return [x.detach().to("cpu", torch.float64) for x in samples.values()]
