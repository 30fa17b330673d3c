"""The bound is log p itself for an exact model, and a bound of what a wrong one generates."""

import math

import numpy as np
import pytest
import torch
from cases import DENSITIES, F64, Wavy, f64, learned, z_limit
from scipy import stats
from scipy.integrate import quad
from torch import Generator

from scorefield.diffusion.denoisers import Denoiser, ExactDenoiser
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.published import EDM, VE, VP, Cosine, Straight, SubVP
from scorefield.inference.bound import LAST, REPEATS, choice_entropy, lower_bound, lower_bound_of_levels
from scorefield.inference.likelihood import log_prob

PROCESSES = pytest.mark.parametrize(
    "process", [VP(), SubVP(), VE(), EDM(), Cosine(), Straight()], ids=lambda p: type(p).__name__
)


@pytest.mark.slow
@PROCESSES
@pytest.mark.parametrize("name", ["mixture-1d", "mixture-2d", "gauss-16d"])
def test_an_exact_model_reaches_its_log_density(process, name):
    """The mean of bound - log p over 2,000 rows is 0 within its own standard error, at a false-alarm rate of 1e-6."""
    density = DENSITIES[name]
    x = density.sample(2_000, Generator().manual_seed(0))
    found = lower_bound(ExactDenoiser(density, process), x, generator=Generator().manual_seed(1))
    gap = found.value - density.log_prob(x)
    error = float(gap.std()) / math.sqrt(len(x))
    assert abs(float(gap.mean())) < z_limit(1) * error
    assert error < 0.02 * x.shape[1]
    # the stated errors are those: 8 repetitions, so their squares have relative spread of about 1 / 2
    assert float(found.stderr.square().mean().sqrt()) == pytest.approx(float(gap.std()), rel=0.15)


@PROCESSES
def test_a_round_gaussian_is_reached_without_error(process):
    """It is what is taken out in closed form, in every row: within 1e-9 nats, with draws or without luck."""
    density = GaussianMixture.isotropic(f64(1.0), f64([0.5, -1.0]), 0.8)
    x = density.sample(50, Generator().manual_seed(0))
    found = lower_bound(ExactDenoiser(density, process), x, draws=16, generator=Generator().manual_seed(1))
    assert float((found.value - density.log_prob(x)).abs().max()) < 1e-9
    assert float(found.stderr.max()) < 1e-9


def test_a_coarse_last_step_is_bounded_as_it_should_be():
    """From ratio 0.3 an exact model's bound is E log N(x; clean, r^2) + log p_r(y) - log N(y; x, r^2), y = x + r e.

    NumPy's Gauss-Hermite rule gives that a second time; the mean over 8,000 rows agrees within its standard error, at
    a false-alarm rate of 1e-6.
    """
    density, r = DENSITIES["mixture-1d"], 0.3
    x = density.sample(8_000, Generator().manual_seed(0))
    found = lower_bound(ExactDenoiser(density, VP()), x, ratio_min=r, generator=Generator().manual_seed(1))
    nodes, shares = np.polynomial.hermite_e.hermegauss(40)
    weights = (density.weights / density.weights.sum()).numpy()
    means, variances = density.means[:, 0].numpy(), density.covariances[:, 0, 0].numpy()
    y = x.numpy() + r * nodes  # (n, nodes)
    parts = weights * stats.norm(means, np.sqrt(variances + r**2)).pdf(y[..., None])
    clean = (parts * (means + variances / (variances + r**2) * (y[..., None] - means))).sum(-1) / parts.sum(-1)
    logs = stats.norm(clean, r).logpdf(x.numpy()) + np.log(parts.sum(-1)) - stats.norm(x.numpy(), r).logpdf(y)
    gap = found.value.numpy() - (logs * shares).sum(1) / shares.sum()
    error = gap.std() / math.sqrt(len(x))
    assert error < 0.02
    assert abs(gap.mean()) < z_limit(1) * error


class Tilted(Denoiser):
    """The exact model of N(0, 1) with its noise made larger by a share: log p of what it generates is known."""

    def __init__(self, share: float) -> None:
        super().__init__(VE(0.01, 50.0), f64(0.0)[0], torch.eye(1, dtype=F64))
        self.mean, self.share = torch.zeros(1, dtype=F64), share

    coefficients = predict = None

    def decompose(self, x: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a, s = self.process.kernel(t, x)
        noise = (1 + self.share) * s * x / (a**2 + s**2)
        return (x - s * noise) / a, noise


@pytest.mark.parametrize("share", [-0.2, 0.3])
def test_a_wrong_model_is_bounded_by_what_it_generates(share):
    """Its reverse SDE is linear: dx = -g^2 score, so the law of its samples is a Gaussian of known variance.

    With c = 1 + share its variance v solves dv/d(r^2) = 2 c v / (1 + r^2) - 1 from the prior's 1 + R^2 down to r_1, so
    v = w / (2 c - 1) + k w^(2 c) with w = 1 + r^2; the last step shrinks it and adds noise of std r_1. The mean bound
    over rows of N(0, 1) must be below the mean log-density of that, and where theory puts it: lower than the entropy
    says by share^2 times the integral of E noise^2 over log r.
    """
    model = Tilted(share)
    x = torch.randn(4_000, 1, dtype=F64, generator=Generator().manual_seed(0))
    found = lower_bound(model, x, generator=Generator().manual_seed(1))
    error = float(found.value.std()) / math.sqrt(len(x))
    low, high = 1e-3, float(model.process.ratio(f64(model.process.t_max)[0]))
    # E |e - (1 + share) noise|^2 = E |e - noise|^2 + share^2 E |noise|^2, where noise is exact: E |noise|^2 = r^2 / (1 + r^2)
    gap = share**2 * (math.log1p(high**2) - math.log1p(low**2)) / 2 + share**2 * low**2 / 2
    entropy = 0.5 * math.log(2 * math.pi * math.e)
    assert float(found.value.mean()) == pytest.approx(-entropy - gap, abs=z_limit(1) * error)
    w, end, c = 1 + low**2, 1 + high**2, 1 + share
    v = w / (2 * c - 1) + (end - end / (2 * c - 1)) * (w / end) ** (2 * c)
    kept = 1 - low * (1 + share) * low / (1 + low**2)
    variance = kept**2 * v + low**2
    exact = -0.5 * math.log(2 * math.pi * variance) - 0.5 / variance
    assert float(found.value.mean()) < exact + z_limit(1) * error


def test_the_bound_lies_below_for_a_learned_model_and_draws_shrink_its_error():
    model = learned(VP(), "v", 2, net=Wavy(2, seed=4))
    x = torch.randn(500, 2, dtype=F64, generator=Generator().manual_seed(0))
    found = lower_bound(model, x, draws=128, generator=Generator().manual_seed(1))
    few = lower_bound(model, x, draws=32, generator=Generator().manual_seed(2))
    assert float(found.value.mean()) < float(log_prob(model, x, errors=False).value.mean())
    assert float((few.stderr.square().mean() / found.stderr.square().mean()).sqrt()) > 1.7
    again = lower_bound(model, x, draws=32, generator=Generator().manual_seed(2))
    assert again.value.equal(few.value)


def test_a_scale_of_the_data_only_shifts_it():
    """Data and noise 100 times larger: the same draws give log p - d log 100, to rounding."""
    small = DENSITIES["mixture-2d"]
    large = GaussianMixture(small.weights, 100 * small.means, 1e4 * small.covariances)
    x = small.sample(50, Generator().manual_seed(0))
    draw = lambda density, process, x, r: (
        lower_bound(ExactDenoiser(density, process), x, ratio_min=r, generator=Generator().manual_seed(1)).value
    )
    found = draw(large, VE(1.0, 5000.0), 100 * x, 0.1)
    assert torch.allclose(found, draw(small, VE(0.01, 50.0), x, 1e-3) - 2 * math.log(100), atol=1e-8)


def test_too_few_draws_are_refused_and_no_rows_are_fine():
    model = learned(VP(), "v", 2)
    with pytest.raises(ValueError, match=f"at least {2 * REPEATS} draws a row for its error; got 15"):
        lower_bound(model, torch.zeros(3, 2, dtype=F64), draws=15)
    assert lower_bound(model, torch.zeros(0, 2, dtype=F64)).value.shape == (0,)


LATTICE = torch.tensor([[i, j] for i in range(4) for j in range(3)], dtype=F64) / 2


@PROCESSES
def test_an_exact_model_of_levels_reaches_their_log_probability(process):
    """Twelve points half a unit apart: the bound is log P itself, within its error (1e-6) and the choice left open."""
    weights = torch.arange(1, 13, dtype=F64)
    density = GaussianMixture(weights, LATTICE, torch.zeros(1, 2, 2, dtype=F64))
    pick = torch.multinomial(weights, 2_000, replacement=True, generator=Generator().manual_seed(0))
    model = ExactDenoiser(density, process)
    found = lower_bound_of_levels(model, LATTICE[pick], 0.5, draws=64, generator=Generator().manual_seed(1))
    gap = found.value - (weights / weights.sum()).log()[pick]
    error = float(gap.std()) / math.sqrt(len(gap))
    assert abs(float(gap.mean())) < z_limit(1) * error + 2 * choice_entropy(LAST)
    assert error < 0.03


@pytest.mark.parametrize("ratio", [0.1, 0.125, 0.3, 1.0])
def test_the_open_choice_is_that_of_a_noisy_level(ratio):
    """Against SciPy's quadrature of log P(0 | y) by theta-like sums, and the entropy of the noise where it is large."""
    j = np.arange(-40, 41)
    missed = lambda e: np.logaddexp.reduce(-((ratio * e - j) ** 2) / (2 * ratio**2)) + e**2 / 2
    value = quad(lambda e: missed(e) * stats.norm.pdf(e), -9, 9, limit=500, epsabs=1e-12)[0]
    assert choice_entropy(ratio) == pytest.approx(value, rel=1e-5, abs=1e-10)
    if ratio == 1.0:
        assert choice_entropy(ratio) == pytest.approx(0.5 * math.log(2 * math.pi * math.e), abs=1e-3)


def test_a_bound_of_levels_asks_for_draws_and_takes_no_rows():
    model = ExactDenoiser(GaussianMixture(torch.ones(12, dtype=F64), LATTICE, torch.zeros(1, 2, 2, dtype=F64)), VP())
    with pytest.raises(ValueError, match="at least 16 draws"):
        lower_bound_of_levels(model, LATTICE, 0.5, draws=8)
    assert lower_bound_of_levels(model, LATTICE[:0], 0.5).value.shape == (0,)
