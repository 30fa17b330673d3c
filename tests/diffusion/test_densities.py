"""The laws of Gaussian mixtures: log-density, score, noising, posterior, samples, each by another way."""

import numpy as np
import pytest
import torch
from cases import F64, FALSE_ALARM, densities, each_density, f64, lattice, points, z_limit
from mpmath import mp, mpf
from scipy import stats
from scipy.special import logsumexp
from torch import Generator
from torch.testing import assert_close

from scorefield.diffusion import densities as module
from scorefield.diffusion.densities import DiagonalGaussian, GaussianMixture
from scorefield.numerics.tensors import normal

LEVELS = [(1.0, 0.5), (0.7, 0.05), (0.02, 1.0), (1.0, 30.0)]
"""Pairs (a, s) of a noising kernel."""

each_level = pytest.mark.parametrize(("a", "s"), LEVELS)


def expanded(density: GaussianMixture) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, means and one covariance for each component, as NumPy arrays."""
    k, d = density.means.shape
    return density.weights.numpy(), density.means.numpy(), density.covariances.expand(k, d, d).numpy()


def exact(density: GaussianMixture, x) -> tuple[mpf, np.ndarray]:
    """log p and grad log p at one point, in 50 digits, by solving with each covariance (no eigenvectors)."""
    x = mp.matrix(x.tolist())
    joints, pulls = [], []
    for weight, mean, covariance in zip(*(part.tolist() for part in expanded(density)), strict=True):
        covariance, centred = mp.matrix(covariance), x - mp.matrix(mean)
        pull = mp.lu_solve(covariance, centred)
        quadratic = (centred.T * pull)[0]
        joints.append(mp.log(weight) - (quadratic + mp.log(mp.det(2 * mp.pi * covariance))) / 2)
        pulls.append(pull)
    top = max(joints)
    parts = [mp.exp(joint - top) for joint in joints]
    score = sum(
        (pull * (-part / mp.fsum(parts)) for part, pull in zip(parts, pulls, strict=True)),
        mp.zeros(len(x), 1),
    )
    return top + mp.log(mp.fsum(parts)), score


def row_error(answer: torch.Tensor, truth: torch.Tensor) -> float:
    """The largest error as a part of the largest entry of its row (of 1 at least): what rotations leave."""
    return float(((answer - truth).abs().amax(1) / truth.abs().amax(1).clamp(min=1)).max())


# -------------------------------------------------------------------------------------- log-density and score


@each_density
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1e6, 1e150])
def test_log_prob_and_score_are_exact_far_into_the_tails(density, scale):
    direction = torch.linspace(1.0, -0.4, density.dim, dtype=F64)
    x = (density.mean + scale * direction)[None]
    log_prob, score = float(density.log_prob(x)), density.score(x)[0].tolist()
    with mp.workdps(50):
        true_log_prob, true_score = exact(density, x[0])
        assert abs(log_prob - true_log_prob) <= 1e-13 * (1 + abs(true_log_prob))
        error = mp.norm(mp.matrix(score) - true_score)
        assert error <= 1e-13 * (1 + mp.norm(true_score))


@each_density
def test_log_prob_is_that_of_scipy(density):
    x = points(density, 200)
    parts = [
        np.log(weight) + stats.multivariate_normal(mean, covariance).logpdf(x.numpy())
        for weight, mean, covariance in zip(*expanded(density), strict=True)
    ]
    np.testing.assert_allclose(density.log_prob(x).numpy(), logsumexp(parts, axis=0), rtol=1e-12, atol=1e-12)


@each_density
def test_score_is_the_gradient_of_log_prob(density):
    x = points(density, 100).requires_grad_()
    (gradient,) = torch.autograd.grad(density.log_prob(x).sum(), x)
    assert_close(density.score(x).detach(), gradient, rtol=1e-11, atol=1e-11)


@densities(1, 2)
def test_integrals(density):
    """1 = int p, 0 = E score, -I = E score x' (Stein), and the moments that the density says it has."""
    x, cell = lattice(density)
    p, score = density.log_prob(x).exp() * cell, density.score(x)
    eye = torch.eye(density.dim, dtype=F64)
    assert_close(p.sum(), torch.tensor(1.0, dtype=F64), rtol=0, atol=1e-12)
    assert_close(p @ score, torch.zeros(density.dim, dtype=F64), rtol=0, atol=1e-11)
    assert_close(score.mT @ (p[:, None] * x), -eye, rtol=0, atol=1e-11)
    assert_close(p @ x, density.mean, rtol=0, atol=1e-12)
    centred = x - density.mean
    assert_close(centred.mT @ (p[:, None] * centred), density.covariance, rtol=0, atol=1e-11)


@each_density
def test_a_shared_covariance_is_one_for_every_component(density):
    k, d = density.means.shape
    spelled = GaussianMixture(density.weights, density.means, density.covariances.expand(k, d, d).clone())
    x, a, s = points(density, 50), f64(0.6), f64(0.3)
    assert_close(spelled.log_prob(x), density.log_prob(x), rtol=1e-13, atol=1e-13)
    assert_close(spelled.score(x), density.score(x), rtol=1e-12, atol=1e-12)
    assert_close(spelled.covariance, density.covariance, rtol=1e-13, atol=1e-13)
    assert_close(spelled.posterior(x, a[0], s[0]), density.posterior(x, a[0], s[0]), rtol=1e-12, atol=1e-12)


@each_density
def test_weights_are_relative(density):
    scaled = GaussianMixture(17.0 * density.weights, density.means, density.covariances)
    assert_close(scaled.weights.sum(), torch.tensor(1.0, dtype=F64))
    x = points(density, 20)
    assert_close(scaled.log_prob(x), density.log_prob(x), rtol=1e-14, atol=1e-14)


@each_density
def test_float32_answers_in_float32(density):
    single = GaussianMixture(density.weights.float(), density.means.float(), density.covariances.float())
    x = points(density, 50).float()
    a, s = torch.tensor(0.6, dtype=F64), torch.tensor(0.3, dtype=F64)
    answers = [single.log_prob(x)[:, None], single.score(x), *single.posterior(x, a, s)]
    x = x.double()
    truths = [density.log_prob(x)[:, None], density.score(x), *density.posterior(x, a, s)]
    values = torch.linalg.eigvalsh(density.covariances)
    # Rounding a covariance costs its condition number, rounding log-densities of components their size.
    amplification = float((values[:, -1] / values[:, 0]).max() + truths[0].abs().max())
    for answer, truth in zip(answers, truths, strict=True):
        assert answer.dtype == torch.float32
        assert row_error(answer.double(), truth) <= torch.finfo(torch.float32).eps * amplification
    assert single.sample(3, Generator().manual_seed(0)).dtype == torch.float32


# ------------------------------------------------------------------------------------------------------ noise


@each_density
@each_level
def test_noising_composes(density, a, s):
    """a, s and then b, r is a b, sqrt(b^2 s^2 + r^2): the semigroup law."""
    b, r = 0.8, 0.4
    twice, once = density.noised(a, s).noised(b, r), density.noised(a * b, (b**2 * s**2 + r**2) ** 0.5)
    x = points(once, 50)
    assert_close(twice.log_prob(x), once.log_prob(x), rtol=1e-11, atol=1e-11)
    assert_close(twice.score(x), once.score(x), rtol=1e-11, atol=1e-11)


@each_density
@each_level
def test_noised_moments(density, a, s):
    noised = density.noised(a, s)
    eye = torch.eye(density.dim, dtype=F64)
    assert_close(noised.mean, a * density.mean, rtol=1e-13, atol=1e-13)
    assert_close(noised.covariance, a**2 * density.covariance + s**2 * eye, rtol=1e-12, atol=1e-12)


@densities(1, 2)
@each_level
def test_noised_density_and_posterior_are_bayes_rule(density, a, s):
    """p(x) = int p(x0) N(x; a x0, s^2) dx0, clean = E[x0 | x], noise = (x - a clean)/s, by quadrature."""
    fine = GaussianMixture(density.weights, density.means, density.covariances.clone())
    step_limit = min(1.0, s / a / float(torch.linalg.eigvalsh(density.covariances).min().sqrt()))
    x0, cell = lattice(fine)
    if step_limit < 1:  # the kernel is narrower than the density: refine by the same rule
        refine = int(np.ceil(1 / step_limit))
        offsets = (torch.arange(refine, dtype=F64) + 0.5) / refine - 0.5
        shifts = torch.cartesian_prod(*[cell ** (1 / density.dim) * offsets] * density.dim).reshape(-1, density.dim)
        x0, cell = (x0[:, None] + shifts).flatten(0, 1), cell / len(shifts)
    x = points(density.noised(a, s), 5, spread=1.0)
    joint = density.log_prob(x0) + torch.distributions.Normal(a * x0, s).log_prob(x[:, None]).sum(-1)
    evidence = joint.exp().sum(1) * cell
    clean = torch.einsum("ni,id->nd", joint.softmax(1), x0)
    assert_close(density.noised(a, s).log_prob(x).exp(), evidence, rtol=1e-9, atol=0)
    parts = density.posterior(x, torch.tensor(a, dtype=F64), torch.tensor(s, dtype=F64))
    assert_close(parts[0], clean, rtol=1e-9, atol=1e-9)
    assert_close(parts[1], (x - a * clean) / s, rtol=1e-9, atol=1e-9 / s)


@each_density
@pytest.mark.parametrize(("a", "s"), [*LEVELS, (1.0, 1e-8), (1.0, 1e-4), (1e-4, 1.0), (1e-8, 1.0), (1.0, 1e4)])
def test_posterior_adds_up_and_obeys_tweedie(density, a, s):
    """a clean + s noise = x, and noise = -s grad log p of the noised density, at any level."""
    x = points(density.noised(a, s), 50)
    clean, noise = density.posterior(x, torch.tensor(a, dtype=F64), torch.tensor(s, dtype=F64))
    assert row_error(a * clean + s * noise, x) <= 1e-14
    assert row_error(noise, -s * density.noised(a, s).score(x)) <= 1e-12


@each_density
def test_posterior_at_the_data_is_the_data(density):
    x = points(density, 20)
    clean, noise = density.posterior(x, torch.tensor(1.0, dtype=F64), torch.tensor(0.0, dtype=F64))
    assert_close(clean, x, rtol=1e-13, atol=1e-13)
    assert_close(noise, torch.zeros_like(x), rtol=0, atol=0)


@each_density
def test_times_may_differ_from_row_to_row(density):
    a, s = f64(1.0, 0.9, 0.3, 0.01), f64(0.001, 0.4, 0.9, 1.0)
    x = points(density, 4)
    together = density.posterior(x, a, s)
    alone = [density.posterior(x[i : i + 1], a[i], s[i]) for i in range(4)]
    for k in (0, 1):
        assert_close(together[k], torch.cat([parts[k] for parts in alone]), rtol=1e-13, atol=1e-13)


# ----------------------------------------------------------------------------------------------- point masses

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
