"""The laws of Langevin dynamics: the exact law of every step for Gaussian data, order of levels, blocks, bad input."""

import math

import pytest
import torch
from cases import DENSITIES, F64, f64, z_limit
from scipy import stats
from torch import Generator

from scorefield.diffusion.densities import GaussianMixture
from scorefield.inference import langevin
from scorefield.training.config import Config

N = 400_000


def last(path):
    """The last state of a path."""
    return list(path)[-1]


def test_levels_follow_one_another_with_their_own_scores_and_sizes():
    """Without noise to speak of: two steps of size 0.5 towards 1, then two of 0.25 towards -1; states by hand."""
    scores = [lambda x: 1 - x, lambda x: -1 - x]
    tiny = torch.zeros(1, 1, dtype=F64)
    plain = [float(x) for x in langevin.annealed(scores, tiny, [0.5, 0.25], 2, Generator().manual_seed(0))]
    z = [float(torch.randn(1, 1, dtype=F64, generator=g)) for g in [Generator().manual_seed(0)] for _ in range(4)]
    x, expected = 0.0, []
    for target, size, draw in zip((1, 1, -1, -1), (0.5, 0.5, 0.25, 0.25), z, strict=True):
        x = x + size * (target - x) + (2 * size) ** 0.5 * draw
        expected.append(x)
    assert plain == pytest.approx(expected, abs=1e-12)


def model_at(density: GaussianMixture, base: GaussianMixture | None):
    """A model whose network answers zero: that of its base, or of one Gaussian."""
    return Config(steps=1, width=8, features=4).model(density.mean, density.covariance, base).double()


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.5, 1.0, 3.0])
def test_samples_of_one_level_are_the_clean_parts_of_its_density(level):
    """White Gaussian data: the clean part of N(0, 1 + r^2) is x / (1 + r^2), of variance 1 / (1 + r^2); step r^2 / 4.

    The chain's own variance is larger by 1 / (1 - h / 2(a^2 + s^2)), h = s^2 / 4. 4,000 samples, false alarm 1e-6; at level 3 twice the step is 14 per cent more.
    """
    density = GaussianMixture.gaussian(torch.zeros(2, dtype=F64), torch.eye(2, dtype=F64))
    x = torch.cat(list(langevin.sample_blocks(model_at(density, None), level, 4_000, Generator().manual_seed(0))))
    r2 = level**2
    share = 0.25 * r2 / (1 + r2) / 2
    variance = 1 / (1 + r2) / (1 - share)
    assert x.shape == (4_000, 2)
    assert abs(float(x.square().mean()) / variance - 1) < z_limit(6) * (2 / x.numel()) ** 0.5
    assert abs(float(x.mean())) < z_limit(6) * (variance / x.numel()) ** 0.5


@pytest.mark.slow
def test_samples_start_at_the_base_with_its_weights():
    """Modes 40 standard deviations apart exchange nothing, so the base's 0.8 and 0.2 are what comes; false alarm 1e-6."""
    density = GaussianMixture.isotropic(f64(0.8, 0.2), f64([-1.0], [2.0]), 0.05)
    x = torch.cat(list(langevin.sample_blocks(model_at(density, density), 0.05, 1_500, Generator().manual_seed(1))))
    assert abs(float((x < 0).double().mean()) - 0.8) < z_limit() * (0.16 / 1_500) ** 0.5


def test_a_short_sample_is_the_start_of_a_long_one(monkeypatch):
    monkeypatch.setattr(langevin, "STEPS", 5)
    model = model_at(DENSITIES["mixture-2d"], DENSITIES["mixture-2d"])
    draw = lambda n: torch.cat(list(langevin.sample_blocks(model, 0.3, n, Generator().manual_seed(2))))
    assert torch.equal(draw(10), draw(1_030)[:10])
    assert not torch.equal(draw(1_030)[:6], draw(1_030)[1_024:])


SKEWED = DENSITIES["mixture-1d"]


def test_a_score_is_the_gradient_of_a_function_or_of_a_distribution():
    x = torch.randn(7, 2, dtype=F64, generator=Generator().manual_seed(0))
    density = DENSITIES["mixture-2d"]
    assert torch.allclose(langevin.score_of(density)(x), density.score(x), atol=1e-12)
    scale = f64(0.5, 2.0)
    normal = torch.distributions.Independent(torch.distributions.Normal(f64(1.0, -1.0), scale), 1)
    assert torch.allclose(langevin.score_of(normal)(x), -(x - f64(1.0, -1.0)) / scale**2, atol=1e-12)
    assert not x.requires_grad


def test_targets_that_are_no_log_density_are_named():
    """A score where a log-density is needed, a sum over nothing, a start without density."""
    x, density = torch.zeros(3, 2, dtype=F64), DENSITIES["mixture-2d"]
    with pytest.raises(
        ValueError, match=r"shape \(3,\); got \(3, 2\): that looks like a score.*unadjusted, underdamped"
    ):
        list(langevin.mala(density.score, x, 0.1, 2))
    with pytest.raises(ValueError, match=r"shape \(3,\); got \(\): sum it over the columns"):
        list(langevin.mala(lambda x: -x.square().sum(), x, 0.1, 2))
    inside = lambda x: torch.where(x[:, 0] > 0, -x.square().sum(1), -torch.inf)
    with pytest.raises(ValueError, match="starting points of positive density; row 0 has log p = -inf"):
        list(langevin.mala(inside, x, 0.1, 2))
    kept = torch.cat(list(langevin.mala(inside, x + 0.5, 0.3, 50, Generator().manual_seed(0))))
    assert bool((kept[:, 0] > 0).all())


def test_levels_overlap_as_asked_and_end_where_they_should():
    """Half of the smaller level's radii lie within three deviations of the larger's, by the radii's own normal law."""
    for dim in (64, 784):
        levels = langevin.noise_levels(50.0, 0.01, dim)
        assert float(levels[0]) == pytest.approx(50)
        assert float(levels[-1]) == pytest.approx(0.01)
        ratios = levels[:-1] / levels[1:]
        assert float(ratios.max()) == pytest.approx(float(ratios.min()), rel=1e-9)
        ratio = float(ratios[0])
        inside = lambda c, d=dim: (
            stats.norm.cdf((2 * d) ** 0.5 * (c - 1) + 3 * c) - stats.norm.cdf((2 * d) ** 0.5 * (c - 1) - 3 * c)
        )
        assert inside(ratio) >= 0.5 - 1e-9
        wider = (50 / 0.01) ** (1 / (len(levels) - 2))
        assert inside(wider) < 0.5, "one level fewer would do"
    for dim in (1, 2, 4):  # radii overlap at any ratio
        assert len(langevin.noise_levels(8.0, 1.0, dim)) == 4


def test_the_published_ladder_comes_out():
    """Song and Ermon, 2020, for CIFAR-10's 3,072 columns from 50 to 0.01: 232 levels; 5 steps each, e = 6.2e-6."""
    assert len(langevin.noise_levels(50.0, 0.01, 3072)) == pytest.approx(232, rel=0.06)
    levels = torch.logspace(math.log10(50), -2, 232, dtype=F64)
    assert langevin.step_sizes(levels, 5)[-1] == pytest.approx(6.2e-6, rel=0.1)


def test_step_sizes_bring_one_level_closest_to_the_next():
    """The variance after T steps by the chain itself, on a grid of sizes: none ends closer to the level's own."""
    levels = torch.tensor([4.0, 2.0, 1.0], dtype=F64)
    for steps in (3, 20, 150):
        sizes = langevin.step_sizes(levels, steps)
        assert sizes == pytest.approx([16 * sizes[2], 4 * sizes[2], sizes[2]])

        def variance(size: float, steps: int = steps) -> float:
            found = 4.0
            for _ in range(steps):
                found = (1 - size) ** 2 * found + 2 * size
            return found

        best = min(variance(float(q)) for q in torch.linspace(0.001, 0.999, 2_000))
        assert variance(sizes[2]) == pytest.approx(best, rel=1e-5)


def test_the_last_step_of_annealing_is_the_mean_of_the_clean_part():
    density, level = DENSITIES["mixture-2d"], 0.4
    x = torch.randn(9, 2, dtype=F64, generator=Generator().manual_seed(3))
    clean, _ = density.posterior(x, torch.tensor(1.0, dtype=F64), torch.tensor(level, dtype=F64))
    assert torch.allclose(langevin.denoised(density.noised(1.0, level).score, x, level), clean, atol=1e-12)


def test_chains_stop_once_they_have_mixed_and_not_before():
    """Autoregressive chains of known memory: R-hat is large while the starts show; a stuck pair never stops."""
    generator = Generator().manual_seed(0)
    start = torch.linspace(-20, 20, 8, dtype=F64)[:, None]
    path = langevin.unadjusted(lambda x: -x, start, 0.05, 100_000, generator)
    states = list(langevin.until_mixed(path))
    found = langevin.mixing(states[len(states) // 2 :])
    assert 100 < len(states) < 20_000
    assert float(found.rhat.max()) <= 1.01
    assert float(found.ess.min()) >= 400
    far = DENSITIES["gauss-1d"].means.new_tensor([[-30.0], [30.0]])
    valley = lambda x: -(x - x.sign() * 30)
    with pytest.raises(RuntimeError, match=r"not mixed in 400 steps: R-hat \d+\.\d+, expected at most 1\.01"):
        list(langevin.until_mixed(langevin.unadjusted(valley, far, 0.05, 400, generator)))
    with pytest.raises(ValueError, match="at least 2 chains of 4 states; got 1 of 10"):
        langevin.mixing([torch.zeros(1, 2)] * 10)


def test_effective_sample_size_is_that_of_an_autoregression():
    """x <- r x + noise has n (1 - r) / (1 + r) independent draws' worth, to 10 per cent with 64 chains of 2,000."""
    x, states, generator, r = torch.zeros(64, 1, dtype=F64), [], Generator().manual_seed(0), 0.8
    for _ in range(2_200):
        x = r * x + (1 - r**2) ** 0.5 * torch.randn(64, 1, dtype=F64, generator=generator)
        states.append(x)
    found = langevin.mixing(states[200:])
    assert float(found.ess[0]) == pytest.approx(64 * 2_000 * (1 - r) / (1 + r), rel=0.1)
    assert float(found.rhat[0]) == pytest.approx(1, abs=0.01)


def test_bad_steps_are_named():
    x, score = torch.ones(2, 1), lambda x: -x
    for size, temperature in [(0.0, 1.0), (-1.0, 1.0), (0.1, -0.5)]:
        with pytest.raises(ValueError, match="positive step size and a temperature from 0"):
            list(langevin.unadjusted(score, x, size, 3, Generator(), temperature))
    with pytest.raises(
        RuntimeError, match=r"sample \d left the finite numbers at Langevin step \d+ of size 10; use a smaller"
    ):
        list(langevin.unadjusted(lambda x: -(x**3), 1e9 * x, 10.0, 50, Generator().manual_seed(0)))
    with pytest.raises(ValueError, match="one step size for each score; got 2 for 1"):
        list(langevin.annealed([score], x, [0.1, 0.2], 3, Generator()))
    for call in (langevin.unadjusted, langevin.underdamped):
        with pytest.raises(ValueError, match=r"shape of the samples, \(2, 1\); got \(2,\); of a log-density, score_of"):
            list(call(lambda x: -x.square().sum(1), x, 0.1, 2, Generator()))
        with pytest.raises(ValueError, match="expected at least one step; got 0"):
            list(call(score, x, 0.1, 0))
    with pytest.raises(ValueError, match="a positive friction; got 0"):
        list(langevin.underdamped(score, x, 0.1, 3, friction=0.0))
    for levels, steps in ([1.0, 2.0], 3), ([1.0], 3), ([1.0, 0.0], 3), ([2.0, 1.0], 0):
        with pytest.raises(ValueError, match="at least two decreasing positive levels and a step"):
            langevin.step_sizes(torch.tensor(levels, dtype=F64), steps)
    for largest, smallest, dim in (1.0, 2.0, 2), (1.0, 0.0, 2), (2.0, 1.0, 0):
        with pytest.raises(ValueError, match="expected 0 < smallest < largest and dim >= 1"):
            langevin.noise_levels(largest, smallest, dim)
