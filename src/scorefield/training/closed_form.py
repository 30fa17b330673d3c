"""The closed-form density that a network corrects, chosen by cross-validated likelihood."""

import functools
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from scorefield.diffusion.densities import GaussianMixture
from scorefield.numerics.shapes import Rows
from scorefield.numerics.tensors import spawn
from scorefield.numerics.whitening import whitening

FOLDS = 5
"""Parts of the cross-validation."""

CHOICE_ROWS = 5_000
"""A base is chosen on at most this many rows, and fitted to at most ten times as many."""

MANY_NUMBERS = 20_000
"""Above this many numbers, rows times columns, one part for validation has to do, for the time it takes."""

STACK_ROWS = 2_000
"""Up to this many rows candidates are stacked and kernel densities are tried; above, the best one is taken."""

SCREENED, SCREEN_ROWS = 12, 500
"""Above SCREEN_ROWS rows only the SCREENED candidates that are best on the first part are tried on the others."""

SHARE = 0.02
"""Candidates of a smaller weight than this are left out of a stack."""

KERNEL_SHARE = 0.1
"""Kernels, of which a stack has one a row, are left out of it below this weight,"""

KERNEL_NUMBERS = 200_000
"""and where rows times columns squared, their covariances, are more than this."""

COMPONENTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Numbers of components of the mixtures that are tried, until two in a row are worse than the best."""

REGULARISATION = (1e-4, 1e-2, 1e-1)
"""Variances added to the covariances of a mixture; the unit is that of white data."""

GAUSSIAN = "one Gaussian"

Fit = Callable[[np.ndarray], GaussianMixture]


@dataclass(frozen=True)
class Base:
    """A way to fit a closed-form density to white rows, how well it did on held-out rows, and how well others did.

    parts: weights and fits of the densities that are mixed; none for N(0, I), which the transform has fitted already.
    score and scores: the mean log-likelihood of held-out rows, in nats, of this base and of each candidate by name.
    """

    name: str
    parts: tuple[tuple[float, Fit], ...]
    score: float
    scores: dict[str, float]

    @threadpool_limits.wrap(limits=1)
    def fit(self, rows: Rows) -> GaussianMixture | None:
        """Return this density fitted to white rows (n, d), in float64 on the CPU; None for N(0, I)."""
        if not self.parts:
            return None
        x = rows[: 10 * CHOICE_ROWS].double().cpu().numpy()
        again = functools.partial(_fitted, content=x.tobytes(), shape=x.shape)
        found = [(weight, again(fit) if len(x) <= STACK_ROWS else fit(x)) for weight, fit in self.parts]
        if len(found) == 1:
            return found[0][1]
        return GaussianMixture(
            torch.cat([weight * part.weights for weight, part in found]),
            torch.cat([part.means for _, part in found]),
            torch.cat([part.covariances.expand(len(part.weights), -1, -1) for _, part in found]),
        )


@functools.lru_cache(maxsize=2 * SCREENED * (FOLDS + 1))  # the timing of a budget and the training fit the same
def _fitted(fit: Fit, content: bytes, shape: tuple[int, int]) -> GaussianMixture:
    return fit(np.frombuffer(content).reshape(shape).copy())


@threadpool_limits.wrap(limits=1)  # of BLAS and OpenMP: two take three to ten times as long on such matrices
def choose(rows: Rows, seed: int, white: Tensor | None = None) -> Base:
    """Return the base for white rows (n, d) in random order: what predicts held-out rows best.

    Candidates: one Gaussian N(0, I), mixtures with full, diagonal and one shared covariance, and kernel densities.
    Up to STACK_ROWS rows they are stacked: mixed with the weights that make held-out rows most likely
    (Smyth and Wolpert, 1999), which are rarely worse than the best of them and often better than any. Above, the best
    one is taken; but if that is the largest mixture, then mixtures have the wrong shape, and a network learns more
    from the Gaussian (rings after 30 s: 0.022 nats from the truth, on 32 components 0.041).
    Where rows are many enough to judge by a part, most candidates are dropped after the first (the same base on four
    sets of 800 and 900 rows, in 0.4 times the time; on 142 rows it costs 0.4 nats of cross-validated likelihood).
    white: W, which made the rows out of standardised ones. Each training part is whitened anew by its own, so that no
    candidate has seen the rows that judge it, not even through their covariance.
    """
    x = rows[:CHOICE_ROWS].double().cpu().numpy()
    matrix = np.eye(x.shape[1]) if white is None else white.double().cpu().numpy()
    return _choose(x.tobytes(), x.shape, matrix.tobytes(), seed)


@threadpool_limits.wrap(limits=1)
def held_out_score(rows: Rows, seed: int, white: Tensor) -> float:
    """Return the mean log-likelihood of held-out white rows, in nats, of the best mixture with full covariances."""
    x, scores = rows[:CHOICE_ROWS].double().cpu().numpy(), []
    folds = _folds(x, white.double().cpu().numpy(), many=len(x) > STACK_ROWS or x.size > MANY_NUMBERS)
    for k in (1, 2, 4, 8):
        if k == 1 or k * (x.shape[1] + 3) <= len(x):  # a component has d (d + 3) / 2 numbers: at most half the data's
            fit = _mixture(k, "full", REGULARISATION[0], seed)
            scores.append(np.concatenate([fold(fit) for fold in folds]).mean())
    return float(max(scores))


@functools.lru_cache(maxsize=1)  # the timing of a budget and the training that follows need the same answer
def _choose(content: bytes, shape: tuple[int, int], matrix: bytes, seed: int) -> Base:
    x, white = np.frombuffer(content).reshape(shape), np.frombuffer(matrix).reshape(shape[1], shape[1])
    few = len(x) <= STACK_ROWS
    folds = _folds(x, white, many=not few or x.size > MANY_NUMBERS)
    gaussian = GaussianMixture.gaussian(torch.zeros(shape[1]).double(), torch.eye(shape[1]).double())
    fits: dict[str, Fit] = {GAUSSIAN: lambda rows: gaussian}
    screening = folds[:1] if len(x) > SCREEN_ROWS else folds
    found = {GAUSSIAN: np.concatenate([fold(fits[GAUSSIAN]) for fold in screening])}
    for family in _families(shape[1], len(x) - math.ceil(len(x) / FOLDS), seed):
        worse, top = 0, -math.inf
        for name, fit in family:
            fits[name], found[name] = fit, np.concatenate([fold(fit) for fold in screening])
            score = found[name].mean()
            worse, top = (0, score) if score > top else (worse + 1, top)
            if worse == 2:
                break
    if rest := folds[len(screening) :]:
        likely = {GAUSSIAN, *sorted(found, key=lambda name: found[name].mean())[-SCREENED:]}
        kept = {name: values for name, values in found.items() if name in likely}
        found = {name: np.concatenate([values, *(fold(fits[name]) for fold in rest)]) for name, values in kept.items()}
    scores = {name: float(values.mean()) for name, values in found.items()}
    best = max(scores, key=lambda name: scores[name])
    if few:
        return _stack(fits, found, scores, len(x) * shape[1] ** 2)
    if best == GAUSSIAN or best.startswith(f"{COMPONENTS[-1]} "):
        return Base(GAUSSIAN, (), scores[GAUSSIAN], scores)
    return Base(best, ((1.0, fits[best]),), scores[best], scores)


def _folds(x: np.ndarray, white: np.ndarray, many: bool) -> list[Callable[[Fit], np.ndarray]]:
    """Return for each part a function: a fit to the log-densities of the part under what it makes of the others."""
    standard = np.linalg.solve(white.T, x.T).T

    def held_out(part: np.ndarray) -> Callable[[Fit], np.ndarray]:
        others = np.delete(standard, part, axis=0)
        own = whitening(others - others.mean(0), np.zeros(x.shape[1])) if len(others) > 2 else white
        train, test = ((rows - others.mean(0)) @ own for rows in (others, standard[part]))
        change = np.linalg.slogdet(own)[1] - np.linalg.slogdet(white)[1]
        return lambda fit: fit(train).log_prob(torch.from_numpy(test)).numpy() + change

    parts = np.array_split(np.arange(len(x)), min(FOLDS, len(x)))
    return [held_out(part) for part in (parts[:1] if many else parts)]


def _stack(fits: dict[str, Fit], found: dict[str, np.ndarray], scores: dict[str, float], size: int) -> Base:
    names = [name for name in found if not (name.startswith("kernels") and size > KERNEL_NUMBERS)]
    while True:
        log_densities = np.stack([found[name] for name in names])
        weights = stacking_weights(log_densities)
        least = np.array([KERNEL_SHARE if name.startswith("kernels") else SHARE for name in names])
        if (weights >= least).all() or len(names) == 1:
            break
        kept = (weights >= least) | (weights == weights.max())
        names = [name for name, keep in zip(names, kept, strict=True) if keep]
    score = float(np.logaddexp.reduce(np.log(weights)[:, None] + log_densities).mean())
    if names == [GAUSSIAN]:
        return Base(GAUSSIAN, (), score, scores)
    name = names[0] if len(names) == 1 else f"a mixture of {len(names)} densities, most of it {names[weights.argmax()]}"
    return Base(name, tuple((float(w), fits[n]) for w, n in zip(weights, names, strict=True)), score, scores)


def stacking_weights(log_densities: np.ndarray) -> np.ndarray:
    """Return the weights w (k,), of sum 1, that maximise mean_i log sum_j w_j p_j(x_i), from log p_j(x_i) (k, n).

    The EM algorithm, w_j <- mean_i w_j p_j(x_i) / sum_k w_k p_k(x_i); the problem is concave.
    """
    densities = np.exp(log_densities - log_densities.max(0))
    weights = np.full(len(densities), 1 / len(densities))
    for _ in range(1_000):
        weights = (weights[:, None] * densities / (weights @ densities)).mean(1)
    return weights / weights.sum()


def _families(d: int, n: int, seed: int) -> Iterator[Iterator[tuple[str, Fit]]]:
    """Yield families of candidates for n rows of d columns, each from the simplest on."""
    numbers = [k for k in COMPONENTS if k * 5 <= n]
    size = {"full": d * (d + 1) / 2 + d, "tied": d, "diag": 2 * d}
    for kind, parameters in size.items():
        for added in REGULARISATION:
            yield (
                (f"{k} Gaussians, {kind} covariance + {added:g}", _mixture(k, kind, added, seed))
                for k in numbers
                if k * parameters <= n * d / 2 and not (k == 1 and kind == "diag")
            )
    if n <= STACK_ROWS:
        widths = np.geomspace(1.2, 0.03, 16)
        yield ((f"kernels of width {width:.2g}", _kernels(float(width))) for width in widths)


def _mixture(k: int, kind: str, added: float, seed: int) -> Fit:
    def fit(x: np.ndarray) -> GaussianMixture:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture as Mixture

        state = int(torch.randint(2**31, (), generator=spawn(seed, "base")))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = Mixture(k, covariance_type=kind, reg_covar=added, random_state=state).fit(x)
        covariances = found.covariances_
        if kind == "diag":
            covariances = covariances[:, :, None] * np.eye(x.shape[1])
        covariances = covariances[None] if kind == "tied" else covariances
        covariances = (covariances + covariances.swapaxes(1, 2)) / 2
        positive = found.weights_ > 0
        covariances = covariances[positive] if len(covariances) == k and k > 1 else covariances
        return GaussianMixture(*map(torch.from_numpy, (found.weights_[positive], found.means_[positive], covariances)))

    return fit


def _kernels(width: float) -> Fit:
    return lambda x: GaussianMixture.kde(torch.from_numpy(x), width)
