"""Density estimators to compare with, each tuned by inner validation: (train, ...) -> log-density of points."""

import math
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
import zuko
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity

Method = Callable[[np.ndarray], np.ndarray]


def splits(n: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return five folds of few rows, one part of a tenth of many: (rows to fit, rows to validate)."""
    order = np.random.Generator(np.random.PCG64(0)).permutation(n)
    parts = np.array_split(order, 5) if n <= 2_000 else [order[: n // 10]]
    return [(np.setdiff1d(order, part), part) for part in parts]


def best(fits: list[Callable[[np.ndarray], Method]], x: np.ndarray) -> Method:
    """Return the fit to all rows that has the largest mean log-density of held-out rows."""
    scores = []
    for fit in fits:
        try:
            scores.append(np.mean([fit(x[rows])(x[part[:1000]]).mean() for rows, part in splits(len(x))]))
        except ValueError:  # more components than rows
            scores.append(-math.inf)
    return fits[int(np.argmax(scores))](x)


def gaussian(x: np.ndarray) -> Method:
    """One Gaussian by maximum likelihood."""
    mean, covariance = torch.from_numpy(x.mean(0)), torch.from_numpy(np.cov(x.T, bias=True).reshape(x.shape[1], -1))
    found = torch.distributions.MultivariateNormal(mean, covariance)
    return lambda points: found.log_prob(torch.from_numpy(points)).numpy()


def kde(x: np.ndarray) -> Method:
    """Kernel density of standardised columns, the bandwidth from a grid of factor 1.25."""

    def fit(bandwidth: float) -> Callable[[np.ndarray], Method]:
        return lambda rows: KernelDensity(bandwidth=bandwidth, rtol=1e-4).fit(rows).score_samples

    return best([fit(h) for h in 0.02 * 1.25 ** np.arange(20)], x)


def gmm(x: np.ndarray) -> Method:
    """Gaussian mixture: components, covariance type and regularisation from a grid."""

    def fit(k: int, kind: str, added: float) -> Callable[[np.ndarray], Method]:
        def fitted(rows: np.ndarray) -> Method:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                mixture = GaussianMixture(k, covariance_type=kind, reg_covar=added, random_state=0)
                return mixture.fit(rows[:20_000]).score_samples

        return fitted

    many = len(x) > 2_000
    numbers = (1, 3, 8, 16, 32) if many else (1, 2, 3, 4, 6, 8, 12, 16)
    kinds = ("full",) if many else ("full", "tied", "diag")
    added = (1e-6, 1e-2) if many else (1e-6, 1e-3, 1e-2, 1e-1)
    return best([fit(k, kind, a) for kind in kinds for a in added for k in numbers], x)


def nsf(x: np.ndarray, seconds: float, seed: int) -> Method:
    """Neural spline flow (Durkan et al., 2019) as zuko builds it, for the same seconds, stopped by validation.

    Adam with cosine decay; a tenth of the rows is held out and the weights of its smallest loss are used.
    """
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(x))
    held_out, rows = (torch.from_numpy(x[part]).float() for part in np.split(order, [max(10, len(x) // 10)]))
    flow = zuko.flows.NSF(x.shape[1], transforms=3, hidden_features=(64, 64))
    optimizer = torch.optim.Adam(flow.parameters(), lr=2e-3)
    lowest, weights, steps = math.inf, flow.state_dict(), 0
    began = time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds:
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 + math.cos(math.pi * elapsed / seconds))
        loss = -flow().log_prob(rows[torch.randint(len(rows), (512,))]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
        if steps % 20 == 0:
            with torch.no_grad():
                found = float(-flow().log_prob(held_out[:2000]).mean())
            if found < lowest:
                lowest, weights = found, {name: value.clone() for name, value in flow.state_dict().items()}
    flow.load_state_dict(weights)
    torch.random.set_rng_state(state)

    @torch.no_grad()
    def log_density(points: np.ndarray) -> np.ndarray:
        return flow().log_prob(torch.from_numpy(points).float()).double().numpy()

    return log_density
