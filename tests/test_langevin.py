"""The laws of Langevin dynamics: the exact law of every step for Gaussian data, order of levels, blocks, bad input."""

import pytest
import torch
from cases import DENSITIES, F64, f64, z_limit
from torch import Generator

from scorefield import langevin
from scorefield.config import Config
from scorefield.densities import GaussianMixture

N = 200_000


def last(path):
    """The last state of a path."""
    return list(path)[-1]


@pytest.mark.parametrize(
    ("size", "temperature", "steps"), [(0.3, 1.0, 1), (0.3, 1.0, 4), (0.3, 0.5, 40), (0.1, 0.0, 7)]
)
def test_for_gaussian_data_every_step_has_its_exact_law(size, temperature, steps, generator):
    """x <- (1 - h / c^2) (x - m) + m + sqrt(2 h T) z: mean and variance of 200,000 chains, false alarm 1e-6.

    After many steps the variance is T c^2 / (1 - h / 2c^2).
    """
    centre, c2 = 1.5, 0.4
    start = f64([2.5]).expand(N, 1)
    x = last(langevin.unadjusted(lambda x: -(x - centre) / c2, start, size, steps, generator, temperature))
    factor = 1 - size / c2
    mean = centre + factor**steps
    variance = 2 * size * temperature * sum(factor ** (2 * k) for k in range(steps))
    if steps == 40:
        assert variance == pytest.approx(temperature * c2 / (1 - size / (2 * c2)), rel=1e-6)
    assert abs(float(x.mean()) - mean) <= z_limit(8) * (variance / N) ** 0.5 + 1e-12
    assert abs(float(x.var()) - variance) <= z_limit(8) * variance * (2 / N) ** 0.5 + 1e-12


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


def test_bad_steps_are_named():
    x, score = torch.ones(2, 1), lambda x: -x
    for size, temperature in [(0.0, 1.0), (-1.0, 1.0), (0.1, -0.5)]:
        with pytest.raises(ValueError, match="positive step size and a temperature from 0"):
            list(langevin.unadjusted(score, x, size, 3, Generator(), temperature))
    with pytest.raises(RuntimeError, match=r"Langevin step \d+ of size 10 left the finite numbers; use a smaller size"):
        list(langevin.unadjusted(lambda x: -(x**3), 1e9 * x, 10.0, 50, Generator().manual_seed(0)))
    with pytest.raises(ValueError, match="one step size for each score; got 2 for 1"):
        list(langevin.annealed([score], x, [0.1, 0.2], 3, Generator()))
