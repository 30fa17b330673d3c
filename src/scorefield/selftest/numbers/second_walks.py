"""Samplers a second time, as in `second`: functions of one path."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy import integrate

from scorefield.selftest.numbers.second import Mixture, Model, Row, Settings, kernel, level
from scorefield.selftest.numbers.second_solver import brownian, dormand_prince


class Walk:
    """What a sampler of one row is told: the model, its spread, the process, the times, the normals, a seed."""

    def __init__(self, model: Mixture, name: str, settings: Settings, times: Sequence[float], t_max: float) -> None:
        self.model, self.name, self.settings, self.times = model, name, settings, times
        self.levels = [kernel(name, settings, t) for t in times]
        self.ratios = [s / a for _, _, a, s in self.levels]
        _, _, a, s = kernel(name, settings, t_max)
        self.highest = s / a
        self.normals: Iterator[Row] = iter(())  # standard, as they are asked for
        self.row = 0
        self.seeds: Iterator[int] = iter(())

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Return the places of neighbouring times."""
        return itertools.pairwise(range(len(self.times)))


def euler(walk: Walk, x: Row, eta: float) -> Row:
    """Walk by Euler's method on f x - (1 + eta^2)/2 g^2 score (Song et al., 2021)."""
    for i, j in walk.pairs():
        h, (f, g, a, s) = walk.times[i] - walk.times[j], walk.levels[i]
        score = -walk.model(x, a, s)[1] / s
        x = x - h * (f * x - (1 + eta**2) / 2 * g**2 * score)
        if eta:
            x = x + eta * g * math.sqrt(h) * next(walk.normals)
    return x


def ddim(walk: Walk, x: Row) -> Row:
    """Walk by DDIM (Song et al., 2021a)."""
    for i, j in walk.pairs():
        clean, noise = walk.model(x, *walk.levels[i][2:])
        x = walk.levels[j][2] * clean + walk.levels[j][3] * noise
    return x


def ancestral(walk: Walk, x: Row, corrected: bool = False) -> Row:
    """Walk by the posterior of x_u given x_t and the clean part (Ho et al., 2020), and a Langevin step at u."""
    for i, j in walk.pairs():
        (_, _, a, s), (_, _, b, r) = walk.levels[i], walk.levels[j]
        clean, _ = walk.model(x, a, s)
        share = a * r**2 / (b * s**2)
        variance = r**2 * (1 - share * a / b)
        x = b * clean + share * (x - a * clean) + math.sqrt(variance) * next(walk.normals)
        if corrected:
            size = r**2 * (1 - walk.ratios[j] / walk.ratios[i]) / 2
            x = x - size * walk.model(x, b, r)[1] / r + math.sqrt(2 * size) * next(walk.normals)
    return x


def heun_step(model: Model, y: Row, ratio: float, ratio_u: float, name: str) -> Row:
    """Return y = x/a after Heun's step in s/a (Karras et al., 2022)."""
    (a, s), (b, r) = level(name, ratio), level(name, ratio_u)
    first = model(a * y, a, s)[1]
    second = model(b * (y + (ratio_u - ratio) * first), b, r)[1]
    return y + (ratio_u - ratio) * (first + second) / 2


def heun(walk: Walk, x: Row, churn: float = 0.0) -> Row:
    """Walk by algorithm 2 of Karras et al., 2022, on y = x/a, without S_noise, S_min and S_max."""
    y, gamma = x / walk.levels[0][2], min(churn / (len(walk.times) - 1), math.sqrt(2) - 1)
    for i, j in walk.pairs():
        ratio = walk.ratios[i]
        raised = min(ratio * (1 + gamma), walk.highest)
        if churn and raised > ratio:
            y, ratio = y + math.sqrt(raised**2 - ratio**2) * next(walk.normals), raised
        y = heun_step(walk.model, y, ratio, walk.ratios[j], walk.name)
    return walk.levels[-1][2] * y


def dpmpp_2m(walk: Walk, x: Row, noisy: bool) -> Row:
    """Walk by DPM-Solver++(2M), plain or as an SDE (Lu et al., 2022b), in lambda = log a/s."""
    lam, cleans = [-math.log(ratio) for ratio in walk.ratios], []
    for i, j in walk.pairs():
        (_, _, a, s), (_, _, b, r) = walk.levels[i], walk.levels[j]
        cleans.append(walk.model(x, a, s)[0])
        h = lam[j] - lam[i]
        slow = cleans[-1]
        if i:
            k = (lam[i] - lam[i - 1]) / h
            slow = (1 + 1 / (2 * k)) * cleans[-1] - 1 / (2 * k) * cleans[-2]
        if noisy:
            share = 1 - math.exp(-2 * h)
            x = r / s * math.exp(-h) * x + b * share * slow + r * math.sqrt(share) * next(walk.normals)
        else:
            x = r / s * x + b * (1 - math.exp(-h)) * slow
    return x


def adams(walk: Walk, x: Row, rotated: bool) -> Row:
    """Walk by the Adams-Bashforth method of order 3 with polynomials in log s/a, the first step the trapezoid's.

    In y = x/a against s/a (Zhang and Chen, 2023), or in z = x / sqrt(a^2 d^2 + s^2) against atan(s / (a d)).
    """
    d = walk.model.spread
    points: list[float] = []
    values: list[Row] = []
    speed = (lambda ratio: d * ratio / (ratio**2 + d**2)) if rotated else (lambda ratio: ratio)
    size = (lambda ratio: math.hypot(ratio, d)) if rotated else (lambda ratio: 1.0)

    def velocity(x: Row, a: float, s: float) -> Row:
        clean, noise = walk.model(x, a, s)
        return (a * d * noise - s / d * clean) / math.hypot(a * d, s) if rotated else noise

    def moved(points: list[float], values: list[Row], start: float, stop: float) -> Row:
        total = np.zeros_like(values[0])
        for j, value in enumerate(values):
            others = [point for k, point in enumerate(points) if k != j]
            basis = lambda at: math.prod((at - o) / (points[j] - o) for o in others) * speed(math.exp(at))  # noqa: B023
            area = integrate.quad(basis, math.log(start), math.log(stop), epsabs=1e-13, epsrel=1e-13)[0]
            total = total + area * value
        return total

    for i, j in walk.pairs():
        (_, _, a, s), (_, _, b, r), start, stop = walk.levels[i], walk.levels[j], walk.ratios[i], walk.ratios[j]
        points, values = [*points, math.log(start)][-3:], [*values, velocity(x, a, s)][-3:]
        z = x / (a * size(start))
        z_u = z + moved(points, values, start, stop)
        if len(points) == 1:
            late = velocity(b * size(stop) * z_u, b, r)
            z_u = z + moved([*points, math.log(stop)], [*values, late], start, stop)
        x = b * size(stop) * z_u
    return x


def sde_heun(
    y: Row, model: Model, first: Row, h: float, end: tuple[float, float], noise: Row
) -> tuple[Row, Row, float]:
    """Return y = x/a after a step h of log s/a of the reverse SDE, the later clean part and its share."""
    b, r = end
    share, later = 1 - math.exp(-2 * h), 1 - (1 - math.exp(-2 * h)) / (2 * h)
    known = math.exp(-2 * h) * y + noise
    second = model(b * (known + share * first), b, r)[0]
    return known + (share - later) * first + later * second, second, later


def exponential_heun(walk: Walk, x: Row) -> Row:
    """Walk by the exponential Heun step of dy = 2 (clean - y) |dl| + sqrt(2) (s/a) dW."""
    for i, j in walk.pairs():
        (_, _, a, s), end = walk.levels[i], walk.levels[j][2:]
        h = math.log(walk.ratios[i] / walk.ratios[j])
        noise = walk.ratios[j] * math.sqrt(1 - math.exp(-2 * h)) * next(walk.normals)
        x = end[0] * sde_heun(x / a, walk.model, walk.model(x, a, s)[0], h, end, noise)[0]
    return x


def adaptive_flow(walk: Walk, x: Row) -> Row:
    """Walk along the flow dz/dl = sin (noise - sin z), l = log s/a, z = x / sqrt(a^2 + s^2), to a tolerance of 1e-3."""

    def field(log_ratio: float, z: Row) -> Row:
        a, s = level(walk.name, math.exp(log_ratio))
        n = math.hypot(a, s)
        return s / n * (walk.model(n * z, a, s)[1] - s / n * z)

    tol = 1e-3 * min(1.0, walk.model.spread)
    for i, j in walk.pairs():
        n, n_u = (math.hypot(*walk.levels[k][2:]) for k in (i, j))
        z, _ = dormand_prince(field, x / n, math.log(walk.ratios[i]), math.log(walk.ratios[j]), 0.0, tol)
        x = n_u * z
    return x


def clean_at(walk: Walk, y: Row, ratio: float) -> Row:
    """Return the clean part of y = x/a at a ratio s/a."""
    a, s = level(walk.name, ratio)
    return walk.model(a * y, a, s)[0]


def adaptive_sde(walk: Walk, x: Row) -> Row:
    """Walk by exponential Heun steps that keep their distance to order 1 below 1e-2, on one Brownian path."""
    for i, j in walk.pairs():
        seed, start, stop, last = next(walk.seeds), math.log(walk.ratios[i]), math.log(walk.ratios[j]), 2**20
        at = lambda place: start + (stop - start) * (place / last)  # noqa: B023
        clock = lambda place: math.exp(-2 * at(place))  # noqa: B023
        longest = max(1, min(last, int(last / (start - stop))))
        y, place, width, w = x / walk.levels[i][2], 0, longest, np.zeros(len(x))
        clean = lambda y, place: clean_at(walk, y, math.exp(at(place)))  # noqa: B023
        first = clean(y, place)
        while place < last:
            after = min(place + width, last)
            h, ratio = at(place) - at(after), math.exp(at(after))
            path = brownian(seed, walk.row, after, len(x), clock)
            new, second, share = sde_heun(y, walk.model, first, h, level(walk.name, ratio), ratio**2 * (path - w))
            error = math.sqrt(np.mean((share * (second - first)) ** 2)) / math.hypot(ratio, walk.model.spread) / 1e-2
            if error <= 1:
                y, place, w = new, after, path
                first = clean(y, place)
            width = min(max(int(width * min(max(0.9 * max(error, 1e-6) ** (-2 / 3), 0.2), 2.0)), 1), longest)
        x = walk.levels[j][2] * y
    return x


SAMPLERS: dict[str, Callable[[Walk, Row], Row]] = {
    "adams": lambda walk, x: adams(walk, x, rotated=True),
    "heun": heun,
    "ddim": ddim,
    "euler": lambda walk, x: euler(walk, x, 0.0),
    "dpmpp_2m": lambda walk, x: dpmpp_2m(walk, x, noisy=False),
    "deis": lambda walk, x: adams(walk, x, rotated=False),
    "adaptive_flow": adaptive_flow,
    "ancestral": ancestral,
    "euler_maruyama": lambda walk, x: euler(walk, x, 1.0),
    "churned_heun": lambda walk, x: heun(walk, x, 10.0),
    "dpmpp_2m_sde": lambda walk, x: dpmpp_2m(walk, x, noisy=True),
    "exponential_heun": exponential_heun,
    "adaptive_sde": adaptive_sde,
    "predictor_corrector": lambda walk, x: ancestral(walk, x, corrected=True),
}
