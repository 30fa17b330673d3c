"""Mixtures of Gaussians by expectation and maximisation: many candidates on the same rows, at a price known before."""

import math
import warnings
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

KINDS = ("full", "tied", "diag")
"""A covariance for each component, one for all, a diagonal one for each."""

TOLERANCE = 1e-3
"""EM has converged where a step adds less than this to the mean log-likelihood, in nats."""

CLUSTER_STEPS = 100
"""Most steps of k-means, which finds where EM starts."""

KEPT, BLOCK = 2**24, 2**19
"""Up to KEPT numbers the features of rows are kept between steps; they are made in blocks of about BLOCK."""


class Mixture(NamedTuple):
    """Weights (k,), means (k, d) and covariances: 'full' (k, d, d), 'tied' (1, d, d) or 'diag' (k, d)."""

    kind: str
    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray


class Prepared:
    """Rows (n, d) with what the fits of all candidates share: products of columns, and clusters where EM starts."""

    def __init__(self, rows: np.ndarray, state: int = 0) -> None:
        self.rows, self.state = rows, state
        self._clusters: dict[int, np.ndarray] = {}
        self._blocks: dict[str, list[np.ndarray]] = {}

    def clusters(self, k: int) -> np.ndarray:
        """Return the cluster of each row, (n,), by k-means."""
        if k not in self._clusters:
            from sklearn.cluster import KMeans

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # fewer different rows than clusters
                found = KMeans(k, n_init=1, max_iter=CLUSTER_STEPS, random_state=self.state).fit(self.rows)
            self._clusters[k] = found.labels_
        return self._clusters[k]

    def blocks(self, kind: str) -> Iterable[np.ndarray]:
        """Return the features of the rows, (f, n) in blocks: 1, x and, if they are linear in them, products of x.

        log w_k N(x; m_k, C_k) is linear in 1, x and x x' ('full'), or in 1, x and x^2 ('diag'); where covariances are
        tied in 1 and x, up to a term that all k share.
        """
        if kind not in self._blocks:
            n, d = self.rows.shape
            parts = np.array_split(self.rows.T, math.ceil(n * features(kind, d) / BLOCK), axis=1)
            made = (_features(kind, part) for part in parts)
            if n * features(kind, d) > KEPT:
                return made
            self._blocks[kind] = list(made)
        return self._blocks[kind]


def features(kind: str, d: int) -> int:
    """Return the number of features of a row of d columns."""
    return 1 + d + {"full": d * (d + 1) // 2, "tied": 0, "diag": d}[kind]


def cluster_work(k: int, n: int, d: int) -> int:
    """Return the multiplications of all steps of k-means; a comparison of two distances counts as 8."""
    return CLUSTER_STEPS * n * k * (d + 8)


def step_work(kind: str, k: int, n: int, d: int) -> int:
    """Return the multiplications of one step of EM: features, exponentials, inverses, and a constant for the calls.

    Each exponential counts as 64, the inverse and the determinant of a covariance as 8 d^3, a feature that is made anew
    as 16: measured, in products of matrices. The constant is a tenth of a millisecond.
    """
    numbers = n * features(kind, d)
    made = 16 * numbers if numbers > KEPT else 0
    inverses = {"full": k, "tied": 1, "diag": 0}[kind] * 8 * d**3
    shared = 2 * n * d**2 if kind == "tied" else 0
    return k * (2 * numbers + 64 * n) + made + inverses + shared + 1_000_000


def fit(rows: Prepared, kind: str, k: int, added: float, steps: int, start: Mixture | None = None) -> Mixture:
    """Return k Gaussians fitted to rows in at most so many steps of EM, from k-means or from a mixture.

    kind: 'full', 'tied' or 'diag' covariances, to which added I is added.
    """
    n, d = rows.rows.shape
    square = rows.rows.T @ rows.rows / n if kind == "tied" else None
    if start is None:
        labels, end, totals = rows.clusters(k), 0, np.zeros((k, features(kind, d)))
        for block in rows.blocks(kind):
            part = labels[end : end + block.shape[1]]
            end += len(part)
            totals += (part == np.arange(k)[:, None]).astype(float) @ block.T
        start = _maximised(kind, totals, added, square)
    found, before = start, -math.inf
    for _ in range(steps):
        likelihood, totals = _expected(rows, found)
        if abs(likelihood - before) < TOLERANCE:
            break
        found, before = _maximised(kind, totals, added, square), likelihood
    return found


def log_density(rows: Prepared, mixture: Mixture) -> np.ndarray:
    """Return log p(x) of each row, (n,), in nats."""
    theta = _natural(mixture)
    return np.concatenate([_shares(_log_joint(mixture, theta, block))[1] for block in rows.blocks(mixture.kind)])


def _features(kind: str, x: np.ndarray) -> np.ndarray:
    d, x = len(x), np.ascontiguousarray(x)
    found = np.empty((features(kind, d), x.shape[1]))
    found[0], found[1 : d + 1], end = 1, x, d + 1
    if kind == "diag":
        np.square(x, out=found[end:])
    for i in range(d if kind == "full" else 0):
        np.multiply(x[i], x[i:], out=found[end : end + d - i])
        end += d - i
    return found


def _natural(mixture: Mixture) -> np.ndarray:
    """Return theta (k, f) with theta_k . features(x) = log w_k N(x; m_k, C_k), where tied + x' C^-1 x / 2."""
    kind, weights, means, covariances = mixture
    d = means.shape[1]
    if kind == "diag":
        precision = 1 / covariances
        located, log_det, rest = precision * means, np.log(covariances).sum(1), [-precision / 2]
    else:
        precision = np.linalg.inv(covariances)
        located, log_det = (precision @ means[:, :, None])[..., 0], np.linalg.slogdet(covariances)[1]
        i, j = np.triu_indices(d)
        rest = [precision[:, i, j] * np.where(i == j, -0.5, -1.0)] if kind == "full" else []
    constant = np.log(weights) - (log_det + d * math.log(2 * math.pi) + (located * means).sum(1)) / 2
    return np.concatenate([constant[:, None], located, *rest], 1)


def _log_joint(mixture: Mixture, theta: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Return log w_k N(x; m_k, C_k), (k, n)."""
    joint = theta @ block
    if mixture.kind == "tied":
        joint -= (np.linalg.inv(mixture.covariances[0]) @ block[1:] * block[1:]).sum(0) / 2
    return joint


def _shares(joint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the responsibilities (k, n) and log p(x), (n,); joint is overwritten."""
    top = joint.max(0)
    np.exp(np.subtract(joint, top, out=joint), out=joint)
    total = joint.sum(0)
    return np.divide(joint, total, out=joint), top + np.log(total)


def _expected(rows: Prepared, mixture: Mixture) -> tuple[float, np.ndarray]:
    """Return the mean log-likelihood and the sums of features, (k, f), by responsibility."""
    theta, likelihood, totals = _natural(mixture), 0.0, np.zeros(())
    for block in rows.blocks(mixture.kind):
        shares, log_p = _shares(_log_joint(mixture, theta, block))
        likelihood, totals = likelihood + log_p.sum(), totals + shares @ block.T
    return likelihood / len(rows.rows), totals


def _maximised(kind: str, totals: np.ndarray, added: float, square: np.ndarray | None) -> Mixture:
    """Return the mixture of largest expected likelihood; square: E x x', for a tied covariance."""
    counts = totals[:, 0] + 10 * np.finfo(float).eps
    weights, rest = counts / counts.sum(), totals[:, 1:] / counts[:, None]
    if kind == "tied":
        covariance = square - (weights[:, None] * rest).T @ rest + added * np.eye(rest.shape[1])
        return Mixture(kind, weights, rest, covariance[None])
    d = rest.shape[1] // 2 if kind == "diag" else math.isqrt(9 + 8 * rest.shape[1]) // 2 - 1
    means, seconds = rest[:, :d], rest[:, d:]
    if kind == "diag":
        return Mixture(kind, weights, means, np.maximum(seconds - means**2, 0) + added)
    i, j = np.triu_indices(d)
    covariances = np.empty((len(means), d, d))
    covariances[:, i, j] = covariances[:, j, i] = seconds
    return Mixture(kind, weights, means, covariances - means[:, :, None] * means[:, None] + added * np.eye(d))
