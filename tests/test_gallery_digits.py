"""Gallery 003, figures 1 and 2: the law of Langevin chains at a temperature, and moons from noise."""

import math

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from scorefield.gallery import ENTRIES, digits
from scorefield.metrics import energy_distance
from scorefield.tensors import spawn


@pytest.fixture(scope="module")
def reduced(tmp_path_factory) -> tuple:
    """The entry at reduced size: its folder and its results."""
    out = tmp_path_factory.mktemp("gallery")
    return out, ENTRIES["003-digits"].run(out, quick=True)


def test_the_title_says_that_only_two_figures_are_there():
    assert "only figures 1 and 2" in ENTRIES["003-digits"].title


def test_the_published_noise_is_an_eighth_of_what_belongs_to_the_step():
    """eta^2 / (2 alpha sigma) = 0.0025 / 0.02: the chain samples p^8."""
    assert pytest.approx(1 / 8) == digits.TEMPERATURE


@pytest.mark.parametrize("temperature", [digits.TEMPERATURE, 0.01])
def test_chains_rest_at_their_temperature(temperature):
    """T c^2 / (1 - h / 2c^2) around each mode, which cold chains do not leave: 4,000 columns, 5 standard errors, so a
    false-alarm rate of 6e-7; 0.05 % of the way from 0 is left after 400 steps."""
    end = digits.settle(temperature, seed=0)
    expected = temperature * digits.STD**2 / (1 - digits.SIZE / (2 * digits.STD**2))
    assert digits.spread_of(end) == pytest.approx(expected, rel=5 * math.sqrt(2 / 4_000) + 5e-4)
    assert (digits.nearer(end) == digits.nearer(digits.chains_start())).all()


def test_the_spread_of_the_density_is_an_integral_on_a_line():
    """Across the line of the modes the variance is c^2; along it E (u - nearer)^2 = E (|u| - d)^2, by quad."""
    c, d = digits.STD, float(digits.PLACES[1].norm())
    density = lambda u: (norm.pdf(u, d, c) + norm.pdf(u, -d, c)) / 2
    along = 2 * quad(lambda u: (u - d) ** 2 * density(u), 0, 12, points=[d])[0]
    assert digits.true_spread() == pytest.approx((c**2 + along) / 2, abs=1e-6)


def test_noise_becomes_moons():
    """Energy distance within 5 of its standard errors of that of equal laws; noise itself is 50 away."""
    path, real = digits.denoise(0), digits.MOONS.sample(4_000, spawn(1, "real"))
    start, end = (energy_distance(x, real) for x in (path[0], path[-1]))
    assert abs(end.value) < 5 * end.stderr
    assert start.value > 50 * end.stderr


def test_a_reduced_run_writes_both_figures_and_finds_what_it_should(reduced):
    out, found = reduced
    assert {p.name for p in (out / "as-published").iterdir()} == {"figure-1.png", "figure-2.png"}
    assert {p.name for p in (out / "corrected").iterdir()} == {"figure-1-learned.png", "figure-2.png"}
    for which in "exact scores", "ScoreDensity":
        assert abs(found[f"figure 1, {which}: energy distance"]["median"]) < 0.02
    cold, right = (
        found[f"figure 2, noise of the step times {t}: variance around the nearer mode (Gaussian: 0.25)"]
        for t in ("0.125", "1")
    )
    assert cold["median"] == pytest.approx(0.0319, abs=0.004)
    assert right["median"] == pytest.approx(right["floor"], rel=0.02 + 5 * math.sqrt(2 / 4_000))
    assert found["figure 2, noise of the step times 1: share of chains in the other mode after 400 steps"]["low"] > 0.01


def test_a_seed_gives_the_same_chains_again():
    torch.testing.assert_close(digits.settle(1.0, 0), digits.settle(1.0, 0), atol=0, rtol=0)
