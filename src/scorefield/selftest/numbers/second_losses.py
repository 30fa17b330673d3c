"""Objectives, likelihoods and Langevin dynamics a second time, as in `second`."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from scorefield.selftest.numbers.second import Mixture, Row, Settings, kernel, level, loss_weight, prediction
from scorefield.selftest.numbers.second_solver import dormand_prince

# ----------------------------------------------------------------------------------------------- objectives

STEP, CURVATURE = 0.05, 0.1
"""The settings of the registered objectives."""


@dataclass
class Learned:
    """A model with the potential P(z) = sum_i w_i log cosh(M z + l)_i, l = log s/a, as its network, at one time."""

    matrix: Row
    weights: Row
    predicts: str
    data_std: float
    process: str
    settings: Settings
    t: float

    def __post_init__(self) -> None:
        _, _, self.a, self.s = kernel(self.process, self.settings, self.t)
        self.p, self.q = prediction(self.predicts, self.process, self.settings, self.t, self.data_std)
        self.n, self.det = math.hypot(self.a * self.data_std, self.s), self.a * self.q - self.s * self.p
        self.gain = self.a / self.det

    def inside(self, x: Row) -> Row:
        """Return M z + l."""
        return self.matrix @ (x / self.n) + math.log(self.s / self.a)

    def predict(self, x: Row) -> Row:
        """Return the network's answer, the gradient of P."""
        return self.matrix.T @ (self.weights * np.tanh(self.inside(x)))

    def noise(self, x: Row) -> Row:
        """Return the noise, of the two equations x = a clean + s noise and y = p clean + q noise."""
        system = np.array([[self.a, self.s], [self.p, self.q]])
        return np.linalg.solve(system, np.stack([x, self.predict(x)]))[1]

    def jacobian(self, x: Row) -> Row:
        """Return the Jacobian of the noise."""
        curved = self.weights * (1 - np.tanh(self.inside(x)) ** 2)
        network = self.matrix.T @ (curved[:, None] * self.matrix) / self.n
        return (self.a * network - self.p * np.eye(len(x))) / self.det

    def potential(self, x: Row) -> float:
        """Return the number whose gradient is the score -noise / s."""
        number = self.weights @ np.log(np.cosh(self.inside(x)))
        return self.p * (x @ x) / (2 * self.s * self.det) - self.a * self.n * number / (self.s * self.det)


def average_of_rows(x: Row, rows: Row, a: float, s: float) -> tuple[Row, Row]:
    """Return E[X | x] and E[Z | x] where x = a X + s Z and X is one of the rows."""
    heights = np.array([-np.sum((x - a * row) ** 2) / (2 * s**2) for row in rows])
    shares = np.exp(heights - heights.max())
    clean = (shares / shares.sum()) @ rows
    return clean, (x - a * clean) / s


def denoising(model: Learned, x: Row, z: Row, weight: str | None = None, rows: Row | None = None) -> float:
    """Return 1/2 w |noise of the model - z|^2, or without a weight the error of its prediction."""
    noisy, clean = model.a * x + model.s * z, x
    if rows is not None:
        clean, z = average_of_rows(noisy, rows, model.a, model.s)
    if weight is None:
        return 0.5 * float(np.sum((model.predict(noisy) - model.p * clean - model.q * z) ** 2))
    scale = loss_weight(weight, model.process, model.settings, model.t)
    return 0.5 * scale * float(np.sum((model.noise(noisy) - z) ** 2))


def objective(name: str, model: Learned, x: Row, z: Row, v: Row, truth: Mixture) -> float:
    """Return a registered objective of one row: z its noise, v its random signs, truth the density for 'explicit'."""
    a, s, d = model.a, model.s, len(x)
    noisy, w = a * x + s * z, model.gain**-2
    if name in ("denoising", "likelihood"):
        return denoising(model, x, z, None if name == "denoising" else "noise")
    field = lambda y: -model.noise(s * y)
    slopes = -s * model.jacobian(noisy)
    y, value = noisy / s, -model.noise(noisy)
    number = lambda y: model.potential(s * y)
    differences = lambda v: (field(y + STEP * v) - field(y - STEP * v)) @ v / (2 * STEP)
    middle = lambda v: (field(y + STEP * v) + field(y - STEP * v)) / 2
    slope = (number(y + STEP * v) - number(y - STEP * v)) / (2 * STEP)
    second = (number(y + STEP * v) + number(y - STEP * v) - 2 * number(y)) / STEP**2
    axes = np.eye(d)
    if name in ("explicit", "parzen"):
        return w * 0.5 * float(np.sum((value - s * truth.noised(noisy, a, s)[1]) ** 2))
    if name == "second-order":
        residual = z + value
        return denoising(model, x, z) + float((-v @ slopes @ v - d + (v @ residual) ** 2) ** 2) / (2 * d)
    if name == "finite-difference":
        mean = sum(middle(axis) for axis in axes) / d
        return w * (0.5 * float(mean @ mean) + sum(differences(axis) for axis in axes))
    return {
        "implicit": lambda: w * (0.5 * value @ value + np.trace(slopes)),
        "hutchinson": lambda: w * (0.5 * value @ value + v @ slopes @ v),
        "curvature": lambda: w * (0.5 * value @ value + np.trace(slopes) + CURVATURE * np.sum(np.diag(slopes) ** 2)),
        "sliced": lambda: w * (0.5 * (v @ value) ** 2 + v @ slopes @ v),
        "fd-sliced": lambda: w * (0.5 * (v @ middle(v)) ** 2 + differences(v)),
        "energy-sliced": lambda: w * (0.5 * slope**2 + second),
        "energy-denoising": lambda: w * 0.5 * (slope + v @ z) ** 2,
    }[name]()


# ---------------------------------------------------------------------------------------------- likelihoods


def prior(density: Mixture, a: float, s: float) -> Mixture:
    """Return the Gaussian with the moments of the noised data."""
    covariance = a**2 * density.covariance + s**2 * np.eye(len(density.mean))
    return Mixture(np.ones(1), (a * density.mean)[None], covariance[None])


def traces(jacobian: Row, probes: Row | None, sketch: int = 0) -> Row:
    """Return the trace, or v . D v for each of the probes (m, d) after a sketch whose subspace is exact."""
    if probes is None:
        return np.array([np.trace(jacobian)])
    if not sketch:
        return np.array([v @ jacobian @ v for v in probes])
    image = probes[:sketch] @ jacobian
    typical = np.sum(probes[:sketch] * image) / np.sum(probes[:sketch] ** 2)
    basis, _ = np.linalg.qr((image - typical * probes[:sketch]).T)
    rest = probes[sketch:] - probes[sketch:] @ basis @ basis.T
    outside = np.array([(v @ jacobian @ v) / (v @ v) for v in rest])
    return np.trace(basis.T @ jacobian @ basis) + (len(jacobian) - sketch) * outside


def log_prob(
    density: Mixture, process: str, x: Row, end: float, tol: float, probes: Row | None = None, sketch: int = 0
) -> tuple[float, float, int, float, float]:
    """Return log p by the flow from s/a = 1e-3 to `end`, its standard error, calls, solver's and start's error.

    probes and sketch as in `traces`.
    """
    d, trace = len(x), lambda jacobian: traces(jacobian, probes, sketch)

    def field(log_ratio: float, state: Row) -> Row:
        a, s = level(process, math.exp(log_ratio))
        n = math.hypot(a, s)
        z, sin = state[:d], s / n
        noise, divergence = density(n * z, a, s)[1], trace(density.jacobian(n * z, a, s))
        return np.concatenate([sin * (noise - sin * z), sin * (n * divergence - sin * d)])

    def start(ratio: float) -> Row:
        a, s = level(process, ratio)
        cos, noise = a / math.hypot(a, s), density(a * x, a, s)[1]
        divergence = trace(density.jacobian(a * x, a, s))
        return np.concatenate([cos * (x + ratio / 2 * noise), ratio / 2 * a * divergence + d * math.log(cos)])

    def value(state: Row) -> Row:
        a, s = level(process, end)
        n = math.hypot(a, s)
        return prior(density, a, s).noised(n * state[:d], 1.0, 0.0)[0] + d * math.log(n) + state[d:]

    low, later, high = math.log(1e-3), math.log(2e-3), math.log(end)
    state, calls = dormand_prince(field, start(1e-3), low, high, tol, tol)
    each = value(state)
    middle, before = dormand_prince(field, start(1e-3), low, later, 10 * tol, 10 * tol)
    coarse, after = dormand_prince(field, middle, later, high, 10 * tol, 10 * tol)
    a, s = level(process, 2e-3)
    n, other = math.hypot(a, s), start(2e-3)
    score = -n / s * density(n * middle[:d], a, s)[1]
    moved = score @ (middle[:d] - other[:d]) + np.mean(middle[d:] - other[d:])
    spread = np.std(each, ddof=1) / math.sqrt(len(each)) if probes is not None else 0.0
    solver = abs(np.mean(value(coarse)) - np.mean(each))
    return float(np.mean(each)), float(spread), calls + before + after + 3, float(solver), float(abs(moved))


def noise_errors(
    density: Mixture, process: str, x: Row, low: float, high: float, draws: Sequence[tuple[Row, Row, Row]], share: float
) -> tuple[Row, Row]:
    """Return E |e - noise|^2 integrated over log s/a and at its start, in repetitions.

    draws: of each repetition the uniform numbers, the normals, and those at the start. What is drawn is the excess over
    `share` of that of the Gaussian with the data's mean and mean variance, whose part is known.
    """
    d, mean, variance = len(x), density.mean, density.spread**2

    def excess(log_ratio: float, e: Row) -> float:
        ratio = math.exp(log_ratio)
        a, s = level(process, ratio)
        y = x + ratio * e
        found, plain = e - density(a * y, a, s)[1], e - ratio / (variance + ratio**2) * (y - mean)
        return float(found @ found - share * plain @ plain)

    def known(ratio: float) -> float:
        total, square = variance + ratio**2, (x - mean) @ (x - mean)
        return d / 2 * (math.log(ratio**2 / total) + variance / total) - square / (2 * total)

    integrals, starts, first = [], [], math.exp(low)
    for uniforms, normals, start in draws:
        width = (high - low) / len(uniforms)
        places = [low + width * (k + u) for k, u in enumerate(uniforms)]
        integrals.append(sum(width * excess(place, e) for place, e in zip(places, normals, strict=True)))
        starts.append(excess(low, start))
    at_start = (d * variance**2 + first**2 * ((x - mean) @ (x - mean))) / (variance + first**2) ** 2
    whole = known(math.exp(high)) - known(first)
    return np.array(integrals) + share * whole, np.array(starts) + share * at_start


def prior_divergence(density: Mixture, process: str, x: Row, end: float) -> float:
    """Return KL(N(a x, s^2 I) || prior) at the end of a process."""
    a, s = level(process, end)
    last, d = prior(density, a, s), len(x)
    inverse, (_, log_det) = np.linalg.inv(last.covariance), np.linalg.slogdet(last.covariance)
    centred = a * x - last.mean
    return float(s**2 * np.trace(inverse) + centred @ inverse @ centred - d + log_det - 2 * d * math.log(s)) / 2


def lower_bound(
    density: Mixture, process: str, x: Row, end: float, draws: Sequence[tuple[Row, Row, Row]], step: float = 0.0
) -> tuple[float, float]:
    """Return the lower bound of log p and its standard error; of log P where x lies on levels, `step` apart."""
    d, first = len(x), step / 8 if step else 1e-3
    low, high = math.log(first), math.log(end)
    whole, start = noise_errors(density, process, x, low, high, draws, 0.0 if step else 1.0)
    if step:
        nodes = np.linspace(-10, 10, 4001)
        heights = [np.exp(-j * (j - 2 * nodes / 8) * 32) for j in range(-4, 5)]
        mean = np.sum(np.log(sum(heights)) * np.exp(-(nodes**2) / 2)) * 0.005 / math.sqrt(2 * math.pi)
        each, known = whole, d * mean
    else:
        each, known = whole + start / 2, d / 2 * math.log(2 * math.pi * first**2)
    value = -prior_divergence(density, process, x, end) - known - np.mean(each)
    return float(value), float(np.std(each, ddof=1) / math.sqrt(len(each)))


# ------------------------------------------------------------------------------------------------- Langevin


def unadjusted(score: Callable[[Row], Row], x: Row, size: float, normals: Row, temperature: float = 1.0) -> Row:
    """Return the state after a step for each normal."""
    for z in normals:
        x = x + size * score(x) + math.sqrt(2 * size * temperature) * z
    return x


def mala(
    log_p: Callable[[Row], float],
    score: Callable[[Row], Row],
    x: Row,
    size: float,
    normals: Row,
    uniforms: Sequence[float],
) -> Row:
    """Return the state after steps that are accepted by the ratio of Metropolis and Hastings."""
    proposal = lambda y, x: -np.sum((y - x - size * score(x)) ** 2) / (4 * size)
    for z, u in zip(normals, uniforms, strict=True):
        y = x + size * score(x) + math.sqrt(2 * size) * z
        if math.log(u) < log_p(y) + proposal(x, y) - log_p(x) - proposal(y, x):
            x = y
    return x


def underdamped(
    score: Callable[[Row], Row], x: Row, size: float, normals: Row, temperature: float, friction: float
) -> Row:
    """Return the position after BAOAB steps; the first normal makes the momentum."""
    v = math.sqrt(temperature) * normals[0]
    for z in normals[1:]:
        v = v + size / 2 * score(x)
        x = x + size / 2 * v
        v = math.exp(-friction * size) * v + math.sqrt(temperature * (1 - math.exp(-2 * friction * size))) * z
        x = x + size / 2 * v
        v = v + size / 2 * score(x)
    return x


def simulated(
    f: Callable[[Row, float], Row], g: Callable[[float], float], x: Row, times: Sequence[float], normals: Row
) -> Row:
    """Return the end of dX = f(X, t) dt + g(t) dW by Euler and Maruyama's method."""
    for (t, u), z in zip(itertools.pairwise(times), normals, strict=True):
        x = x + (u - t) * f(x, t) + math.sqrt(u - t) * g(t) * z
    return x
