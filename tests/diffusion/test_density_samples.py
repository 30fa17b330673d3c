"""Mixtures of Gaussians: point masses, samples, blocks and what is refused."""

import numpy as np
import pytest
import torch
from cases import F64, FALSE_ALARM, each_density, f64, points, z_limit
from exact_densities import expanded, row_error
from scipy import stats
from scipy.special import logsumexp
from torch import Generator
from torch.testing import assert_close

from scorefield.diffusion import densities as module
from scorefield.diffusion.densities import DiagonalGaussian, GaussianMixture
from scorefield.numerics.tensors import normal

MASSES = GaussianMixture(f64(0.6, 0.3, 0.1), f64([-1.0, 0.5], [1.5, 1.0], [0.3, -2.0]), torch.zeros(1, 2, 2, dtype=F64))


DIRECTION = f64(1.0, 2.0, 3.0)


PLANK = GaussianMixture.gaussian(f64(0.5, 0.0, -1.0), DIRECTION[:, None] * DIRECTION)
"""A Gaussian on a line in three dimensions; in floating point its zero eigenvalues are about +-1e-15."""


def random_singular(seed: int) -> GaussianMixture:
    """Two components whose covariances have rank d - 1, of no special form."""
    generator = Generator().manual_seed(seed)
    d = 2 + seed % 5
    root = torch.randn(2, d, d - 1, dtype=F64, generator=generator)
    return GaussianMixture(f64(0.7, 0.3), torch.randn(2, d, dtype=F64, generator=generator), root @ root.mT)


def test_a_singular_covariance_has_no_density():
    for density in [MASSES, PLANK, *map(random_singular, range(50))]:
        x = points(density, 2)
        with pytest.raises(ValueError, match="singular covariance has no density; add noise first"):
            density.log_prob(x)
        with pytest.raises(ValueError, match="singular covariance has no density; add noise first"):
            density.score(x)
        assert bool(density.noised(0.9, 0.1).log_prob(x).isfinite().all())


@pytest.mark.parametrize("s", [1e-10, 1e-6, 1e-3, 1.0, 1e3])
def test_singular_covariances_have_exact_posteriors(s):
    """a clean + s noise = x however little the noise, and the clean part lies where the data can be."""
    z = torch.randn(20, 3, dtype=F64, generator=Generator().manual_seed(1))
    one, level = torch.tensor(1.0, dtype=F64), torch.tensor(s, dtype=F64)
    x = PLANK.mean + torch.linspace(-2, 2, 20, dtype=F64)[:, None] * DIRECTION + s * z
    clean, noise = PLANK.posterior(x, one, level)
    assert row_error(clean + s * noise, x) <= 1e-14
    across = torch.linalg.cross(clean - PLANK.mean, DIRECTION.expand(20, 3))
    assert row_error(x + across, x) <= 1e-13

    labels = torch.arange(20) % 3
    x = MASSES.means[labels] + s * z[:, :2]
    clean, noise = MASSES.posterior(x, one, level)
    assert_close(clean + s * noise, x, rtol=1e-13, atol=1e-13)
    if s <= 1e-3:
        assert_close(clean, MASSES.means[labels], rtol=1e-13, atol=1e-13)
        assert_close(noise, z[:, :2], rtol=1e-5, atol=1e-5)


def test_noised_point_masses_are_a_kernel_density_estimate():
    x = points(MASSES, 20)
    kde = GaussianMixture.isotropic(MASSES.weights, 0.7 * MASSES.means, 0.2)
    assert_close(MASSES.noised(0.7, 0.2).log_prob(x), kde.log_prob(x), rtol=1e-13, atol=1e-13)


def test_kde_is_the_average_of_kernels():
    data, x = points(MASSES, 40, seed=1), points(MASSES, 30, seed=2)
    kernels = stats.norm.logpdf((x[:, None] - data).numpy(), scale=0.35).sum(-1)
    truth = logsumexp(kernels, axis=1) - np.log(len(data))
    np.testing.assert_allclose(GaussianMixture.kde(data, 0.35).log_prob(x).numpy(), truth, rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------------------------------------------- samples

N = 40_000


@each_density
def test_samples_have_the_moments(density, generator):
    """Every mean and covariance by a z-test, false alarm 1e-6; 40,000 samples see 4 % of a deviation."""
    x = density.sample(N, generator)
    assert x.shape == (N, density.dim)
    centred = x - density.mean
    products = centred[:, :, None] * centred[:, None] - density.covariance
    limit = z_limit(density.dim + density.dim * (density.dim + 1) // 2)
    assert float((N**0.5 * centred.mean(0) / density.covariance.diagonal().sqrt()).abs().max()) < limit
    assert float((N**0.5 * products.mean(0) / products.std(0)).abs().max()) < limit


@each_density
def test_samples_have_the_law(density, generator):
    """Kolmogorov-Smirnov against the exact one-dimensional law along 6 directions, false alarm 1e-6."""
    x = density.sample(N, generator).numpy()
    directions = torch.randn(6, density.dim, dtype=F64, generator=generator)
    weights, means, covariances = expanded(density)
    for u in torch.nn.functional.normalize(directions, dim=1).numpy():
        std = np.sqrt(np.einsum("i,kij,j->k", u, covariances, u))
        cdf = lambda y, u=u, std=std: stats.norm.cdf((y[:, None] - means @ u) / std) @ weights
        assert stats.kstest(x @ u, cdf).pvalue > FALSE_ALARM / 6


def test_components_are_drawn_with_their_weights(generator):
    """Point masses show their component: chi^2 on the counts, false alarm 1e-6."""
    x = MASSES.sample(N, generator)
    picked = torch.cdist(x, MASSES.means).argmin(1)
    assert_close(x, MASSES.means[picked], rtol=0, atol=0)
    counts = torch.bincount(picked, minlength=3).numpy()
    assert stats.chisquare(counts, N * MASSES.weights.numpy()).pvalue > FALSE_ALARM
    assert abs(np.corrcoef(picked[:-1], picked[1:])[0, 1]) * N**0.5 < z_limit()


def test_samples_are_a_function_of_the_generator():
    density = MASSES.noised(1.0, 0.5)
    draw = lambda seed, n=100: density.sample(n, Generator().manual_seed(seed))
    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert density.sample(0, Generator().manual_seed(0)).shape == (0, 2)
    with pytest.raises(ValueError, match="must not be negative; got -3"):
        density.sample(-3, Generator().manual_seed(0))


# ----------------------------------------------------------------------------------------------------- blocks


@each_density
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_blocks_do_not_show(density, rows, monkeypatch):
    """The same answers in blocks of three rows, of one, and where not even one fits, off the boundary."""
    x = points(density, 10)
    a, s = torch.linspace(1, 0.2, 10, dtype=F64), torch.linspace(0.1, 1, 10, dtype=F64)
    whole = [density.log_prob(x), density.score(x), *density.posterior(x, a, s)]
    monkeypatch.setattr(module, "BLOCK", rows * density.means.numel())
    for answer, truth in zip([density.log_prob(x), density.score(x), *density.posterior(x, a, s)], whole, strict=True):
        assert_close(answer, truth, rtol=1e-13, atol=1e-13)


@each_density
def test_no_rows_give_no_answers(density):
    x, t = torch.empty(0, density.dim, dtype=F64), torch.tensor(0.5, dtype=F64)
    assert density.log_prob(x).shape == (0,)
    assert density.score(x).shape == (0, density.dim)
    assert [part.shape for part in density.posterior(x, t, t)] == [(0, density.dim)] * 2


# ----------------------------------------------------------------------------------------------------- errors

EYE = torch.eye(2, dtype=F64)[None]


@pytest.mark.parametrize(
    ("weights", "means", "covariances", "message"),
    [
        (f64(1.0, 2.0), f64([0.0, 0.0]), EYE, r"got \(2,\), \(1, 2\) and \(1, 2, 2\)"),
        (f64(1.0), f64(0.0, 1.0), EYE, r"got \(1,\), \(2,\) and \(1, 2, 2\)"),
        (f64(1.0), f64([0.0, 1.0]), EYE[0], r"got \(1,\), \(1, 2\) and \(2, 2\)"),
        (f64(1.0), f64([0.0, 1.0, 2.0]), EYE, r"got \(1,\), \(1, 3\) and \(1, 2, 2\)"),
        (torch.ones(0), torch.ones(0, 2), EYE, r"got \(0,\), \(0, 2\) and \(1, 2, 2\)"),
        (
            f64(1.0, -2.0),
            f64([0.0, 0.0], [1.0, 1.0]),
            EYE,
            r"weights must be positive and finite; got \[1.0, -2.0\]",
        ),
        (
            f64(1.0, 0.0),
            f64([0.0, 0.0], [1.0, 1.0]),
            EYE,
            r"weights must be positive and finite; got \[1.0, 0.0\]",
        ),
        (
            f64(1.0, np.inf),
            f64([0.0, 0.0], [1.0, 1.0]),
            EYE,
            r"weights must be positive and finite; got \[1.0, inf\]",
        ),
        (
            f64(1.0, np.nan),
            f64([0.0, 0.0], [1.0, 1.0]),
            EYE,
            r"weights must be positive and finite; got \[1.0, nan\]",
        ),
        (f64(1.0, 1.0), f64([0.0, 0.0], [1.0, np.nan]), EYE, r"means must be finite; row 1 is \[1.0, nan\]"),
        (f64(1.0), f64([0.0, 0.0]), f64([[1.0, 0.5], [0.4, 1.0]]), "covariances must be symmetric"),
        (f64(1.0), f64([0.0, 0.0]), f64([[1.0, 2.0], [2.0, 1.0]]), "eigenvalues that are not negative"),
        (f64(1.0), f64([0.0, 0.0]), f64([[1.0, np.nan], [np.nan, 1.0]]), "covariances must be symmetric"),
        (f64(1.0), f64([0.0, 0.0]), f64([[np.inf, 0.0], [0.0, 1.0]]), "covariances must be symmetric"),
    ],
)
def test_a_bad_mixture_is_refused_with_what_came(weights, means, covariances, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(weights, means, covariances)


@pytest.mark.parametrize("shape", [(5, 3), (5, 1), (5,), (5, 2, 2)])
def test_points_of_another_dimension_are_refused(shape):
    density = MASSES.noised(1.0, 1.0)
    for method in (density.log_prob, density.score):
        with pytest.raises(ValueError, match=r"expected points of shape \(n, 2\); got \(" + ", ".join(map(str, shape))):
            method(torch.ones(shape, dtype=F64))


def test_a_diagonal_gaussian_is_the_gaussian_with_that_covariance():
    """Density, noised density, covariance; its samples are scaled normals."""
    mean, variance = torch.tensor([1.0, -2.0, 0.5], dtype=F64), torch.tensor([0.3, 1.0, 2.5], dtype=F64)
    diagonal, full = DiagonalGaussian(mean, variance), GaussianMixture.gaussian(mean, variance.diag())
    x = torch.randn(50, 3, generator=Generator().manual_seed(0), dtype=F64)
    torch.testing.assert_close(diagonal.log_prob(x), full.log_prob(x))
    torch.testing.assert_close(diagonal.noised(0.4, 0.7).log_prob(x), full.noised(0.4, 0.7).log_prob(x))
    torch.testing.assert_close(diagonal.covariance, full.covariance)
    z = normal((20, 3), mean, Generator().manual_seed(1))
    torch.testing.assert_close(diagonal.sample(20, Generator().manual_seed(1)), mean + z * variance.sqrt())


def test_draws_follow_a_small_change_of_the_covariance():
    """Near c I, where rounding decides the eigenvectors: a change of 1e-6 moves a draw by at most 1e-6 of its size."""
    change = torch.randn(2, 5, 5, dtype=F64, generator=Generator().manual_seed(0))
    change = (change + change.mT) / 2
    change = 1e-6 * change / torch.linalg.matrix_norm(change, 2)[:, None, None]
    eye, zero = torch.eye(5, dtype=F64), torch.zeros(5, dtype=F64)
    draw = lambda c: GaussianMixture.gaussian(zero, eye + c).sample(1_000, Generator().manual_seed(1))
    moved = (draw(change[0]) - draw(change[1])).norm(dim=1) / draw(0 * eye).norm(dim=1)
    assert 1e-8 < float(moved.max()) <= 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
@pytest.mark.parametrize("k", [2, 21, 1_000])
def test_a_mixture_made_again_from_its_weights_has_the_same(k, dtype):
    """As a saved one is: normalising twice changes no bit, and weights that are not normalised are."""
    for seed in range(20):
        weights = torch.rand(k, dtype=F64, generator=Generator().manual_seed(seed)).to(dtype) + 0.01
        first = GaussianMixture.isotropic(weights, torch.zeros(k, 1, dtype=dtype), 1.0)
        again = GaussianMixture(first.weights, first.means, first.covariances)
        assert torch.equal(again.weights, first.weights)
        assert float((first.weights / weights * weights.sum() - 1).abs().max()) < 8 * torch.finfo(dtype).eps
