"""Tests of whether samples and held-out rows have one law: each p-value is that of a known null law, ties or not.

Samples and held-out rows are exchangeable if the samples are fresh draws of the population, whatever else is chosen
by training rows, which are independent of both. All tests below use nothing more: ranks have the law of a random
permutation (ties are broken at random), counts the hypergeometric one.
"""

import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Generator, Tensor

from scorefield.evaluation.metrics import Rows, draw
from scorefield.numerics.shapes import PerSample
from scorefield.numerics.tensors import integer

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture as Mixture

EXACT = 1_000
"""Kolmogorov-Smirnov p-values are exact up to this many rows, asymptotic above."""

MODE_ROWS = 2_000
"""Modes are looked for in at most this many rows: 0.2 s for 2 columns."""

MODES = 8
"""The largest number of Gaussians that modes are made of."""

DIP = 0.1
"""Between modes the density falls below this part of the lower peak: more would break moons and rolls into pieces."""

WITNESS_ROWS = 2_000
"""How many rows of either kind the witness is made of."""


def ranks(x: PerSample, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Return the ranks of x and of y, 1 to n + m, in both together; those of equal values in random order."""
    both = torch.cat([x, y])
    shuffled = torch.randperm(len(both), generator=generator)
    order = shuffled[both[shuffled].argsort(stable=True)]
    found = torch.empty(len(both), dtype=torch.float64)
    found[order] = torch.arange(1, len(both) + 1, dtype=torch.float64)
    return found[: len(x)], found[len(x) :]


def column_tests(x: PerSample, y: Tensor, generator: Generator) -> dict[str, float]:
    """Return the p-values of three two-sided tests of one column, on ranks.

    shift   the probability of x < y is 1/2 (Mann and Whitney, 1947)
    spread  the ranks of x are as far from the middle as those of y (Ansari and Bradley, 1960)
    shape   the distribution functions are equal (Kolmogorov and Smirnov; Hodges, 1958)
    """
    from scipy import stats

    p, q = (part.numpy() for part in ranks(x, y, generator))
    method = "exact" if max(len(p), len(q)) <= EXACT else "asymp"
    return {
        "shift": float(stats.mannwhitneyu(p, q).pvalue),
        "spread": float(stats.ansari(p, q).pvalue),
        "shape": float(stats.ks_2samp(p, q, method=method).pvalue),
    }


def copying_test(samples: Rows, held_out: Rows, train: Rows, generator: Generator) -> tuple[float, float]:
    """Return the p-value of copied training rows, one-sided, and the share of the samples that are copies.

    A row's distance to the nearest of the different training rows over that to the second nearest is 0 for a copy,
    and where the density is smooth its law does not depend on the density: r^d on [0, 1] in d dimensions, so wrong
    modes or spreads are not taken for copies. The p-value is that of Mann and Whitney, 1947; a share f of copies
    makes the probability that a sample has the smaller ratio (1 + f) / 2. Training rows that are all equal have no
    second nearest, and nothing is found.
    """
    from sklearn.neighbors import NearestNeighbors

    different = torch.unique(train, dim=0)
    if len(different) < 2:
        return 1.0, 0.0
    search = NearestNeighbors(n_neighbors=2).fit(different.numpy())

    def ratio(rows: Tensor) -> Tensor:
        near, second = torch.from_numpy(search.kneighbors(rows.numpy())[0]).T
        return near / second

    p_value, smaller = _above(ratio(held_out), ratio(samples), generator)
    return p_value, max(0.0, 2 * smaller - 1)


def find_modes(rows: Rows, generator: Generator) -> tuple[Callable[[Tensor], Tensor], int]:
    """Return a function that tells the mode of each row, 0 to k - 1, and how many modes there are.

    Up to 8 Gaussians, as many as the Bayesian information criterion wants, are fitted to the rows (Schwarz, 1978). Two
    are in one mode if the density on the way between their means stays above a tenth of the lower one's peak, and so
    are those that others link, the highest ways first (Chazal et al., 2013).
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture as Mixture

    x, seed = draw(rows, MODE_ROWS, generator).numpy(), integer(generator) % 2**31
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fits: list[Mixture] = []
        for k in range(1, min(MODES, len(x) // (5 * x.shape[1])) + 1) or [1]:
            fits.append(Mixture(k, random_state=seed).fit(x))
            if k > 2 and fits[-1].bic(x) > fits[-2].bic(x) > fits[-3].bic(x):
                break
    mixture = min(fits, key=lambda fit: fit.bic(x))
    mode = _separate_modes(mixture)
    kept = np.unique(mode)
    parts = (mode[:, None] == kept).astype(float)
    return lambda z: torch.from_numpy((mixture.predict_proba(z.numpy()) @ parts).argmax(1)), len(kept)


def _separate_modes(mixture: "Mixture") -> np.ndarray:
    """Return for each Gaussian of a mixture the one that stands for its mode."""
    means, k = mixture.means_, len(mixture.means_)
    peak = mixture.score_samples(means)
    between = np.linspace(0, 1, 13)[:, None]
    pairs = [(i, j) for i in range(k) for j in range(i)]
    saddle = {(i, j): mixture.score_samples(between * means[i] + (1 - between) * means[j]).min() for i, j in pairs}
    mode = np.arange(k)
    for i, j in sorted(pairs, key=lambda pair: -saddle[pair]):
        low, high = sorted((mode[i], mode[j]), key=lambda m: peak[m])
        if saddle[i, j] >= peak[low] + math.log(DIP):
            mode[mode == low] = high
    return mode


def mode_tests(samples: Tensor, held_out: Tensor, count: int) -> list[float]:
    """Return the p-value of each mode's share, two-sided, from the modes of samples and of held-out rows.

    Given how many of all rows are in a mode, how many of them are samples is hypergeometric (Fisher, 1935).
    """
    from scipy import stats

    inside = [[int((labels == k).sum()) for labels in (samples, held_out)] for k in range(count)]
    return [float(stats.fisher_exact([[a, len(samples) - a], [b, len(held_out) - b]]).pvalue) for a, b in inside]


def joint_test(samples: Rows, held_out: Rows, reference: Rows, generator: Generator) -> tuple[float, float]:
    """Return the p-value of one law of all columns together, one-sided, and how far samples and rows are apart, 0 to 1.

    The witness is w(x) = r(x) / s(x), the distances of x to the tenth nearest of 2,000 reference rows and of a fifth of
    the samples, at most 2,000: large where there are too many samples (Wang et al., 2009). The p-value is that of
    Mann and Whitney, 1947, for w of the other samples and of held-out rows: a test on rows that the witness has not
    seen is exact (Kubler et al., 2022). The second number is 2 P - 1, P the probability that a sample's w is larger.
    """
    from sklearn.neighbors import NearestNeighbors

    samples = draw(samples, len(samples), generator)
    size = min(len(samples) // 5, WITNESS_ROWS)
    learnt, asked = samples[:size], samples[size:]
    real = draw(reference, WITNESS_ROWS, generator)
    near_real, near_learnt = (
        NearestNeighbors(n_neighbors=min(10, len(part) // 2)).fit(part) for part in (real, learnt)
    )
    distance = lambda search, rows: torch.from_numpy(search.kneighbors(rows)[0][:, -1]).clamp(min=1e-300)
    witness = lambda rows: distance(near_real, rows) / distance(near_learnt, rows)
    p_value, larger = _above(witness(asked), witness(held_out), generator)
    return p_value, max(0.0, 2 * larger - 1)


def _above(x: Tensor, y: Tensor, generator: Generator) -> tuple[float, float]:
    """Return the one-sided p-value of x larger than y, and the probability of it."""
    from scipy import stats

    p, q = ranks(x, y, generator)
    found = stats.mannwhitneyu(p.numpy(), q.numpy(), alternative="greater")
    return float(found.pvalue), float(found.statistic) / (len(p) * len(q))
