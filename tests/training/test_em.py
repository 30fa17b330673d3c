"""Laws of EM: its steps climb, its densities are those of their mixtures, and few rows or equal ones are no error."""

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture as Reference

from scorefield.training import em
from scorefield.training.candidates import Candidate
from scorefield.training.em import Prepared

COVARIANCES = {"full": lambda c: c, "tied": lambda c: c[0], "diag": lambda c: c}


def rows(n: int, d: int) -> np.ndarray:
    """Two clusters of different shape."""
    draw = np.random.Generator(np.random.PCG64(0))
    x = draw.normal(size=(n, d)) @ draw.normal(size=(d, d)) * 0.5
    x[::2] = draw.normal(size=x[::2].shape) * 0.3 + 1
    return x


@pytest.mark.parametrize("kind", em.KINDS)
@pytest.mark.parametrize("d", [1, 3])
def test_the_log_density_is_that_of_the_mixture(kind, d):
    """Of scikit-learn's from the same numbers, and of the density made of them, to 1e-10, whatever the blocks."""
    x = rows(300, d)
    prepared, mixture = Prepared(x), em.fit(Prepared(x), kind, 3, 1e-3, 5)
    reference = Reference(3, covariance_type=kind)
    reference.weights_, reference.means_ = mixture.weights, mixture.means
    covariances = COVARIANCES[kind](mixture.covariances)
    reference.precisions_cholesky_ = (
        covariances**-0.5 if kind == "diag" else np.linalg.cholesky(np.linalg.inv(covariances))
    )
    found = em.log_density(prepared, mixture)
    assert np.abs(found - reference.score_samples(x)).max() < 1e-10
    density = Candidate(kind, 3, 1e-3).fit(prepared, 5)
    assert np.abs(found - density.log_prob(torch.from_numpy(x)).numpy()).max() < 1e-10


@pytest.mark.parametrize("kind", em.KINDS)
def test_one_step_is_that_of_scikit_learn(kind):
    """The M-step of the same clusters and one E- and M-step: weights, means and covariances to 1e-9."""
    x = rows(400, 3)
    prepared = Prepared(x)
    start = em.fit(prepared, kind, 3, 1e-3, 0)
    ours = em.fit(prepared, kind, 3, 1e-3, 1, start)
    covariances = COVARIANCES[kind](start.covariances)
    precisions = 1 / covariances if kind == "diag" else np.linalg.inv(covariances)
    reference = Reference(
        3, covariance_type=kind, reg_covar=1e-3, max_iter=1, tol=0, weights_init=start.weights, means_init=start.means,
        precisions_init=precisions,
    )  # fmt: skip
    with pytest.warns(match="converge"):
        reference.fit(x)
    assert np.abs(ours.weights - reference.weights_).max() < 1e-9
    assert np.abs(ours.means - reference.means_).max() < 1e-9
    assert np.abs(COVARIANCES[kind](ours.covariances) - reference.covariances_).max() < 1e-9


@pytest.mark.parametrize("kind", em.KINDS)
def test_each_step_makes_the_rows_more_likely(kind):
    """Without an added variance, which the M-step does not know."""
    prepared = Prepared(rows(500, 2))
    likely = [em.log_density(prepared, em.fit(prepared, kind, 4, 0.0, steps)).mean() for steps in range(12)]
    assert (np.diff(likely) > -1e-12).all()
    assert likely[-1] > likely[0] + 1e-3


@pytest.mark.parametrize("kind", em.KINDS)
def test_blocks_change_nothing(kind, monkeypatch):
    """Rows in one block that is kept, and in many that are made anew in each step: the same to 1e-10."""
    x = rows(301, 3)
    whole = em.fit(Prepared(x), kind, 3, 1e-3, 10)
    monkeypatch.setattr(em, "BLOCK", 100)
    monkeypatch.setattr(em, "KEPT", 0)
    parts = em.fit(Prepared(x), kind, 3, 1e-3, 10)
    assert all(np.abs(a - b).max() < 1e-10 for a, b in zip(whole[1:], parts[1:], strict=True))


@pytest.mark.parametrize("kind", em.KINDS)
def test_equal_rows_make_no_error(kind):
    mixture = em.fit(Prepared(np.zeros((7, 2))), kind, 3, 1e-2, 10)
    assert np.isfinite(em.log_density(Prepared(np.ones((1, 2))), mixture)).all()
