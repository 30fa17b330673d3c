"""The numerics a second time, from the papers: NumPy in float64, one row at a time, as plain as possible, no torch.

Processes are functions of their name and numbers, models functions of one point and (a, s).
"""

import math
from collections.abc import Callable

import numpy as np

Row = np.ndarray

Parts = tuple[Row, Row]
"""The clean part and the noise."""

Model = Callable[[Row, float, float], Parts]
"""(x, a, s) -> the two parts of x."""

Settings = dict[str, float]


# ------------------------------------------------------------------------------------------------ processes


def kernel(name: str, p: Settings, t: float) -> tuple[float, float, float, float]:
    """Return (f, g, a, s) at t."""
    if name in ("vp", "subvp"):
        beta = p["beta_min"] + t * (p["beta_max"] - p["beta_min"])
        log_a = -0.25 * t**2 * (p["beta_max"] - p["beta_min"]) - 0.5 * t * p["beta_min"]
        variance = -math.expm1(2 * log_a)
        if name == "vp":
            return -0.5 * beta, math.sqrt(beta), math.exp(log_a), math.sqrt(variance)
        return -0.5 * beta, math.sqrt(beta * -math.expm1(4 * log_a)), math.exp(log_a), variance
    if name == "cosine":
        rate = math.pi / 2 / (1 + p["offset"])
        start, phase = rate * p["offset"], rate * (t + p["offset"])
        f = -rate * math.tan(phase)
        square = math.sin(phase - start) * math.sin(phase + start) / math.cos(start) ** 2
        return f, math.sqrt(-2 * f), math.cos(phase) / math.cos(start), math.sqrt(square)
    if name == "edm":
        return 0.0, p["sigma_max"] * math.sqrt(2 * t), 1.0, p["sigma_max"] * t
    if name == "ve":
        low, growth = p["sigma_min"], math.log(p["sigma_max"] / p["sigma_min"])
        sigma = low * math.exp(growth * t)
        return 0.0, sigma * math.sqrt(2 * growth), 1.0, low * math.sqrt(math.expm1(2 * growth * t))
    if name == "straight":
        return -1 / (1 - t), math.sqrt(2 * t / (1 - t)), 1 - t, t
    raise NotImplementedError(f"no second implementation of the process {name!r}")


def level(name: str, ratio: float) -> tuple[float, float]:
    """Return (a, s) where s/a is a ratio."""
    a = {
        "vp": 1 / math.hypot(1, ratio),
        "cosine": 1 / math.hypot(1, ratio),
        "subvp": 2 / (ratio + math.hypot(ratio, 2)),
        "ve": 1.0,
        "edm": 1.0,
        "straight": 1 / (1 + ratio),
    }[name]
    return a, a * ratio


def rates(name: str, p: Settings, t: float) -> tuple[float, float]:
    """Return (a', s') from the two equations that define a process."""
    f, g, a, s = kernel(name, p, t)
    return f * a, (2 * f * s**2 + g**2) / (2 * s)


def prediction(predicts: str, name: str, p: Settings, t: float, d: float) -> tuple[float, float]:
    """Return (p, q) of a prediction for data of std d."""
    _, _, a, s = kernel(name, p, t)
    total = math.hypot(a * d, s)
    return {
        "noise": (0.0, 1.0),
        "clean": (1.0, 0.0),
        "score": (0.0, -1 / s),
        "v": (-s / d / total, a * d / total),
        "velocity": rates(name, p, t),
    }[predicts]


def loss_weight(weight: str, name: str, p: Settings, t: float) -> float:
    """Return a weight on the squared error of the noise."""
    _, g, a, s = kernel(name, p, t)
    snr = a**2 / s**2
    weights = {"noise": 1.0, "score": 1 / s**2, "clean": 1 / snr, "likelihood": g**2 / s**2}
    return (weights | {"min-snr": min(snr, 5.0) / snr, "edm": 1 + 1 / snr})[weight]


# ------------------------------------------------------------------------------------------------- mixtures


class Mixture:
    """A Gaussian mixture: weights (k,), means (k, d), covariances (k, d, d)."""

    def __init__(self, weights: Row, means: Row, covariances: Row) -> None:
        self.weights, self.means, self.covariances = weights / weights.sum(), means, covariances
        self.mean = sum(w * m for w, m in zip(self.weights, means, strict=True))
        second = sum(w * (c + np.outer(m, m)) for w, m, c in zip(self.weights, means, covariances, strict=True))
        self.covariance = second - np.outer(self.mean, self.mean)

    @property
    def spread(self) -> float:
        """The root of the mean variance of a column."""
        return math.sqrt(np.trace(self.covariance) / len(self.mean))

    def noised(self, x: Row, a: float, s: float) -> tuple[float, Row, Row, Row]:
        """Return log p, the score, its Jacobian and the clean part at x = a X + s Z, by conditional normals."""
        d, heights, cleans, scores, inverses = len(x), [], [], [], []
        for weight, mean, covariance in zip(self.weights, self.means, self.covariances, strict=True):
            inverse = np.linalg.inv(a**2 * covariance + s**2 * np.eye(d))
            centred = x - a * mean
            _, log_det = np.linalg.slogdet(2 * math.pi * (a**2 * covariance + s**2 * np.eye(d)))
            heights.append(math.log(weight) - 0.5 * centred @ inverse @ centred - 0.5 * log_det)
            cleans.append(mean + a * covariance @ inverse @ centred)
            scores.append(-inverse @ centred)
            inverses.append(inverse)
        top = max(heights)
        shares = [math.exp(height - top) for height in heights]
        total = sum(shares)
        log_p, shares = top + math.log(total), [share / total for share in shares]
        mix = lambda parts: sum(share * part for share, part in zip(shares, parts, strict=True))
        score = mix(scores)
        curved = [np.outer(e, e) - inverse for e, inverse in zip(scores, inverses, strict=True)]
        return log_p, score, mix(curved) - np.outer(score, score), mix(cleans)

    def __call__(self, x: Row, a: float, s: float) -> Parts:
        """Return E[X | x] and E[Z | x]."""
        _, score, _, clean = self.noised(x, a, s)
        return clean, -s * score

    def jacobian(self, x: Row, a: float, s: float) -> Row:
        """Return the Jacobian of E[Z | x]."""
        return -s * self.noised(x, a, s)[2]
