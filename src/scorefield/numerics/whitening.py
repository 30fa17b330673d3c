"""Moments of rows, and the linear map that makes them uncorrelated and of unit variance."""

import numpy as np
from torch import Tensor

from scorefield.numerics.shapes import Samples


def moments(x: Samples) -> tuple[Tensor, Tensor]:
    """Return the mean (d,) and the covariance (d, d) of rows; one row has no covariance and gets zero."""
    centred = x.double() - x.double().mean(0)
    return x.double().mean(0).to(x), (centred.mT @ centred / max(1, len(x) - 1)).to(x)


def whitening(standard: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Return C^(-1/2), symmetric: C is the covariance of standardised columns and their cells, shrunk towards I."""
    from sklearn.covariance import ledoit_wolf_shrinkage

    share = ledoit_wolf_shrinkage(standard)
    covariance = standard.T @ standard / len(standard) - np.outer(standard.mean(0), standard.mean(0)) + np.diag(cells)
    values, vectors = np.linalg.eigh((1 - share) * covariance + share * np.eye(len(cells)))
    return (vectors * values**-0.5) @ vectors.T
