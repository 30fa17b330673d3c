"""Skew and heavy tails of one column: the sinh-arcsinh transform that makes it most like one Gaussian."""

import math

import numpy as np

from scorefield.training import em

SUSPECT = 0.05
"""A transform of skew and tails is considered where it gains this many nats a row over one Gaussian,"""

CLEAR = 0.02
"""and taken where mixtures fit the transformed column better than the column itself by this many nats a row."""

BEND_ROWS, BEND_STEPS = 10_000, 50
"""Skew and tails are fitted to at most so many rows in so many steps,"""

SHAPE_ROWS, SHAPE_STEPS = 2_000, 100
"""after several starts on so many; mixtures are fitted to as many, in so many steps of EM."""


def bent(u: np.ndarray) -> tuple[float, float, float, float] | None:
    """Return (skew, tail, centre, spread) where skew or heavy tails are better transformed, else None.

    skew and tail make the column most like one Gaussian. Two clusters of unequal size are also skewed: so mixtures of
    up to four Gaussians must fit the result better than the column, by the criterion of (Schwarz, 1978).
    Long because the loss and its gradient stand beside what they serve.
    """
    from scipy.optimize import OptimizeResult, minimize

    quarters = np.quantile(u, [0.25, 0.5, 0.75])
    centre, spread = float(quarters[1]), float(quarters[2] - quarters[0]) / 1.349
    if not spread > 0:
        return None
    w = (u[:: math.ceil(len(u) / BEND_ROWS)] - centre) / spread
    angle, flat = np.arcsinh(w), np.log(np.hypot(1, w)).mean()

    def loss(parameters: np.ndarray, angle: np.ndarray) -> tuple[float, np.ndarray]:
        """Minus the mean log-likelihood of one Gaussian after the transform, up to `flat`, and its gradient."""
        skew, log_tail = parameters
        slopes = np.stack([np.full_like(angle, -1.0), math.exp(log_tail) * angle])  # of b in sinh(b)
        bent = slopes[1] - skew
        with np.errstate(over="ignore", invalid="ignore"):
            sine, cosine = np.sinh(bent), np.cosh(bent)
            centred = sine - sine.mean()
            variance = (centred**2).mean()
            gradient = slopes @ (centred * cosine / variance - sine / cosine) / len(bent) - [0.0, 1.0]
            return float(np.log(variance) / 2 - log_tail - np.log(cosine).mean()), gradient

    def descend(start: np.ndarray, every: int) -> OptimizeResult:
        limits, options = [(-2.0, 2.0), (-2.5, 0.0)], {"maxiter": BEND_STEPS}
        return minimize(loss, start, angle[::every], jac=True, method="L-BFGS-B", bounds=limits, options=options)

    starts = [np.array([skew, log_tail]) for skew in (-0.5, 0.0, 0.5) for log_tail in (-0.7, -0.05)]
    every = math.ceil(len(w) / SHAPE_ROWS)
    best = descend(min((descend(start, every) for start in starts), key=lambda r: r.fun).x, 1)
    gain = math.log(w.std()) - best.fun - flat
    if not gain > SUSPECT:
        return None
    skew, tail = float(best.x[0]), math.exp(best.x[1])
    bent = tail * angle - skew
    slope = math.log(tail) + np.log(np.cosh(bent)).mean() - flat
    better = _mixture_fit(np.sinh(bent)) + slope - _mixture_fit(w)
    return (skew, tail, centre, spread) if better > CLEAR else None


def _mixture_fit(x: np.ndarray) -> float:
    """Return the best mean log-likelihood of one to four Gaussians, less Schwarz's penalty, in nats a row."""
    part = x[:: math.ceil(len(x) / SHAPE_ROWS), None]
    std = float(part.std())
    rows = em.Prepared((part - part.mean()) / std)
    fits = [em.fit(rows, "full", k, 1e-4, SHAPE_STEPS) for k in range(1, 5)]
    penalty = math.log(len(part)) / (2 * len(part))
    return max(em.log_density(rows, m).mean() - (3 * len(m.weights) - 1) * penalty for m in fits) - math.log(std)
