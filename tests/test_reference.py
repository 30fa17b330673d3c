"""A second implementation of the numerics, NumPy alone in float64, given the same noise: they agree to 1e-10.

It is written from the papers as plainly as possible and shares nothing with the package: loops, explicit
inverses, no logarithms, where the package is careful and fast. It covers all that is registered, so a new row
fails until it is here.
"""

import math

import numpy as np
import pytest
import torch
from cases import DENSITIES, F64, PROCESS_CASES, densities, each_prediction, middle_time
from torch import Generator, nn

from scorefield.densities import GaussianMixture
from scorefield.model import ScoreModel
from scorefield.objectives import WEIGHTS, denoising
from scorefield.prediction import PREDICTIONS, coefficients, solve
from scorefield.process import PROCESSES, VP
from scorefield.sde import LinearSDE
from scorefield.tensors import normal_like

TOLERANCE = 1e-10

FORMULAS = [case.process for case in PROCESS_CASES if not isinstance(case.process, LinearSDE)]
"""A LinearSDE is a table, good to about 1e-8 in f; test_process.py compares it with 50 digits."""

each_process = pytest.mark.parametrize("process", FORMULAS, ids=str)

# ------------------------------------------------------------------------------------------- the NumPy side


def kernel(process, t: float) -> tuple[float, float, float, float]:
    """(f, g, a, s) at t."""
    name, p = type(process).__name__, vars(process)
    if name == "VP":
        beta = p["beta_min"] + t * (p["beta_max"] - p["beta_min"])
        log_a = -0.25 * t**2 * (p["beta_max"] - p["beta_min"]) - 0.5 * t * p["beta_min"]
        return -0.5 * beta, math.sqrt(beta), math.exp(log_a), math.sqrt(1 - math.exp(2 * log_a))
    if name == "SubVP":
        f, g, a, _ = kernel(VP(**p), t)
        return f, g * math.sqrt(1 - a**4), a, 1 - a**2
    if name == "Cosine":
        angle = lambda t: (t + p["offset"]) / (1 + p["offset"]) * math.pi / 2
        a, f = math.cos(angle(t)) / math.cos(angle(0)), -math.tan(angle(t)) * math.pi / 2 / (1 + p["offset"])
        return f, math.sqrt(-2 * f), a, math.sqrt(1 - a**2)
    if name == "EDM":
        return 0.0, p["sigma_max"] * math.sqrt(2 * t), 1.0, p["sigma_max"] * t
    if name == "VE":
        low, high = p["sigma_min"], p["sigma_max"]
        sigma = low * (high / low) ** t
        return 0.0, sigma * math.sqrt(2 * (math.log(high) - math.log(low))), 1.0, math.sqrt(sigma**2 - low**2)
    if name == "Straight":
        return -1 / (1 - t), math.sqrt(2 * t / (1 - t)), 1 - t, t
    raise NotImplementedError(name)


def rates(process, t: float) -> tuple[float, float]:
    """(a', s') from the two equations that define a process."""
    f, g, a, s = kernel(process, t)
    return f * a, (2 * f * s**2 + g**2) / (2 * s)


def row(predicts: str, process, t: float, d: float) -> tuple[float, float]:
    """(p, q) of a prediction."""
    _, _, a, s = kernel(process, t)
    return {
        "noise": (0.0, 1.0),
        "clean": (1.0, 0.0),
        "score": (0.0, -1 / s),
        "v": (-s / d / math.sqrt(a**2 * d**2 + s**2), a * d / math.sqrt(a**2 * d**2 + s**2)),
        "velocity": rates(process, t),
    }[predicts]


def noise_weight(weight: str, process, t: float) -> float:
    _, g, a, s = kernel(process, t)
    snr = a**2 / s**2
    weights = {"noise": 1.0, "score": 1 / s**2, "clean": 1 / snr, "likelihood": g**2 / s**2}
    return (weights | {"min-snr": min(snr, 5.0) / snr, "edm": 1 + 1 / snr})[weight]


def network(matrix: np.ndarray, z: np.ndarray, log_ratio: float) -> np.ndarray:
    return np.tanh(matrix @ z + log_ratio)


def denoising_loss(matrix, predicts, process, d, x, t, noise, weight) -> float:
    """One sample's loss, from the network's answer turned into noise by inverting the two equations."""
    _, _, a, s = kernel(process, t)
    p, q = row(predicts, process, t, d)
    noisy = a * x + s * noise
    y = network(matrix, noisy / math.sqrt(a**2 * d**2 + s**2), math.log(s / a))
    if weight is None:
        return 0.5 * float(np.sum((y - p * x - q * noise) ** 2))
    _, predicted = np.linalg.solve(np.array([[a, s], [p, q]]), np.stack([noisy, y]))
    return 0.5 * noise_weight(weight, process, t) * float(np.sum((predicted - noise) ** 2))


def mixture_posterior(density: GaussianMixture, x: np.ndarray, a: float, s: float):
    """(clean, noise, log p(x), score) of one noisy point, by the formulas of conditional normals."""
    k, d = density.means.shape
    covariances = density.covariances.expand(k, d, d).numpy()
    likelihoods, cleans, scores = [], [], []
    for weight, mean, covariance in zip(density.weights.numpy(), density.means.numpy(), covariances, strict=True):
        noisy = a**2 * covariance + s**2 * np.eye(d)
        inverse = np.linalg.inv(noisy)
        centred = x - a * mean
        height = math.exp(-0.5 * centred @ inverse @ centred) / math.sqrt(np.linalg.det(2 * math.pi * noisy))
        likelihoods.append(weight * height)
        cleans.append(mean + a * covariance @ inverse @ centred)
        scores.append(-inverse @ centred)
    total = sum(likelihoods)
    clean = sum(part * value for part, value in zip(likelihoods, cleans, strict=True)) / total
    score = sum(part * value for part, value in zip(likelihoods, scores, strict=True)) / total
    return clean, (x - a * clean) / s, math.log(total), score


# --------------------------------------------------------------------------------------------- the comparison

RATIOS = (0.01, 0.1, 0.7, 3.0, 60.0)


def times_of(process) -> torch.Tensor:
    return torch.stack([middle_time(process, ratio) for ratio in RATIOS])


class Tanh(nn.Module):
    """The network of the NumPy side."""

    def __init__(self, matrix: torch.Tensor) -> None:
        super().__init__()
        self.matrix = matrix

    def forward(self, z, log_ratio):
        return (z @ self.matrix.mT + log_ratio[:, None]).tanh()


def difference(answer: torch.Tensor, truth) -> float:
    """The largest difference, absolute below 1 and relative above."""
    truth = np.asarray(truth)
    return float(np.max(np.abs(answer.detach().numpy() - truth) / np.maximum(1, np.abs(truth))))


def test_all_that_is_registered_is_here():
    assert {type(process) for process in FORMULAS} == set(PROCESSES.values())
    t = 0.5
    for process in PROCESSES.values():
        assert all(len(row(name, process(), t, 1.0)) == 2 for name in PREDICTIONS)
        assert all(noise_weight(name, process(), t) > 0 for name in WEIGHTS)


@each_process
def test_coefficients(process):
    t = times_of(process)
    mine = (process.drift(t), process.diffusion(t), process.mean_coef(t), process.std(t))
    assert difference(torch.stack(mine, 1), [kernel(process, u) for u in t.tolist()]) <= TOLERANCE
    mine = (process.mean_rate(t), process.std_rate(t))
    assert difference(torch.stack(mine, 1), [rates(process, u) for u in t.tolist()]) <= TOLERANCE


@each_process
@each_prediction
@pytest.mark.parametrize("data_std", [1.0, 0.6])
def test_predictions(process, predicts, data_std):
    t = times_of(process)
    p, q = coefficients(predicts, process, t, data_std)
    rows = [row(predicts, process, u, data_std) for u in t.tolist()]
    assert difference(torch.stack([p, q], 1), rows) <= TOLERANCE
    x, y = torch.tensor(0.8, dtype=F64), torch.tensor(-0.3, dtype=F64)
    parts = torch.stack(solve(x, y, process.mean_coef(t), process.std(t), p, q), 1)
    systems = [np.array([kernel(process, u)[2:], pair]) for u, pair in zip(t.tolist(), rows, strict=True)]
    assert difference(parts, [np.linalg.solve(system, [0.8, -0.3]) for system in systems]) <= TOLERANCE


@each_process
@each_prediction
@pytest.mark.parametrize("weight", [None, *WEIGHTS])
def test_denoising(process, predicts, weight):
    data_std, t = 1.4, times_of(process)
    matrix = torch.randn(3, 3, dtype=F64, generator=Generator().manual_seed(0))
    model = ScoreModel(Tanh(matrix), process, torch.zeros(3), torch.eye(3), predicts=predicts, data_std=data_std)
    x = 1 + torch.randn(len(t), 3, dtype=F64, generator=Generator().manual_seed(1))
    loss = denoising(model, x, t, weight=weight, generator=Generator().manual_seed(2))
    noise = normal_like(x, Generator().manual_seed(2)).numpy()
    truth = [
        denoising_loss(matrix.numpy(), predicts, process, data_std, x[i].numpy(), float(t[i]), noise[i], weight)
        for i in range(len(t))
    ]
    assert difference(loss, truth) <= TOLERANCE


@densities()
@each_process
def test_posteriors(density, process):
    """Noised with the same noise; the levels at which the NumPy side, which cancels, can still be trusted."""
    t = times_of(process)[1:4]
    a, s = process.mean_coef(t), process.std(t)
    x = a[:, None] * density.sample(3, Generator().manual_seed(1))
    x = x + s[:, None] * normal_like(x, Generator().manual_seed(2))
    truth = [mixture_posterior(density, x[i].numpy(), float(a[i]), float(s[i])) for i in range(3)]
    clean, noise = density.posterior(x, a, s)
    assert difference(clean, [parts[0] for parts in truth]) <= TOLERANCE
    assert difference(noise, [parts[1] for parts in truth]) <= TOLERANCE
    for i in range(3):
        noised = density.noised(a[i], s[i])
        assert difference(noised.log_prob(x[i : i + 1]), [truth[i][2]]) <= TOLERANCE
        assert difference(noised.score(x[i : i + 1])[0], truth[i][3]) <= TOLERANCE


def test_moments():
    for density in DENSITIES.values():
        k, d = density.means.shape
        covariances = density.covariances.expand(k, d, d).numpy()
        weights, means = density.weights.numpy(), density.means.numpy()
        mean = sum(weights[i] * means[i] for i in range(k))
        second = sum(weights[i] * (covariances[i] + np.outer(means[i], means[i])) for i in range(k))
        assert difference(density.mean, mean) <= TOLERANCE
        assert difference(density.covariance, second - np.outer(mean, mean)) <= TOLERANCE
