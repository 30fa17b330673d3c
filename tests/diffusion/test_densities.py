"""Mixtures of Gaussians: log-density, score, noise and posterior against mpmath, scipy and quadrature."""

import numpy as np
import pytest
import torch
from cases import F64, densities, each_density, f64, lattice, points
from exact_densities import expanded, row_error
from mpmath import mp, mpf
from scipy import stats
from scipy.special import logsumexp
from torch import Generator
from torch.testing import assert_close

from scorefield.diffusion.densities import GaussianMixture

LEVELS = [(1.0, 0.5), (0.7, 0.05), (0.02, 1.0), (1.0, 30.0)]
"""Pairs (a, s) of a noising kernel."""


each_level = pytest.mark.parametrize(("a", "s"), LEVELS)


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
