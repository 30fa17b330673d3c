"""Pixels: their levels found, mapped there and back to the bit, and what a noisy one says alone."""

import math

import numpy as np
import pytest
import torch
from torch import Generator

from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.networks.pixel_posterior import POINTS, REACH, PixelPosterior
from scorefield.kinds.images.units import BINS, PixelTransform


def draw(generator: Generator, n: int, channels: int, height: int, width: int) -> np.ndarray:
    return torch.rand(n, channels, height, width, generator=generator, dtype=torch.float64).numpy()


KINDS = {
    "bytes": (lambda u: (255 * u).round().astype(np.uint8), 256, 1.0),
    "17 levels": (lambda u: (16 * u).round(), 17, 1.0),
    "every third": (lambda u: (3 * (10 * u).round() - 5).astype(np.int64), 11, 3.0),
    "bytes over 255": (lambda u: ((255 * u).round() / 255).astype(np.float32), 256, 1 / 255),
    "tenths, which are not exact": (lambda u: (10 * u).round() / 10, 11, 0.1),
    "two": (lambda u: u > 0.7, 2, 1.0),
    "16 bits": (lambda u: (4095 * u).round().astype(np.uint16), 4096, 1.0),
    "continuous": (lambda u: u.astype(np.float64), 0, 0.0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_levels_are_found_and_images_come_back(kind, generator):
    make, count, step = KINDS[kind]
    images = make(draw(generator, 400, 3, 8, 5))
    transform = PixelTransform.fit(images, "CHW")
    assert transform.count == count
    assert transform.step == pytest.approx(step, rel=1e-6)
    z = transform.forward(transform.rows(images))
    assert abs(float(z.mean())) < 1e-5
    assert float(z.std()) == pytest.approx(1, abs=1e-4)
    back = transform.inverse(z)
    assert back.dtype == images.dtype
    if count:
        np.testing.assert_array_equal(back, images)
        near = transform.inverse(z + 0.45 * step / transform.scale)
        np.testing.assert_array_equal(near, images)  # the nearest level, and no further than the last
    else:
        np.testing.assert_allclose(back, images, atol=1e-6)
    histogram = transform.histogram(transform.rows(images))
    assert histogram.sum(1).tolist() == [400 * 40] * 3
    if count:
        expected = [
            np.bincount(np.round((c - images.min()) / step).astype(int), minlength=count)
            for c in images.astype(float).transpose(1, 0, 2, 3).reshape(3, -1)
        ]
        np.testing.assert_array_equal(histogram.numpy(), expected)


@pytest.mark.parametrize("value", [-1, 17, 3.5])
def test_pixels_that_have_no_probability_are_refused(value, generator):
    images = KINDS["17 levels"][0](draw(generator, 50, 1, 4, 4))
    transform = PixelTransform.fit(images)
    images[7, 0, 2, 2] = value
    with pytest.raises(ValueError, match=rf"17 levels from 0 to 16; got {value:g}, which has no probability"):
        transform.rows(images)
    with pytest.raises(ValueError, match="expected images of 1 channels and 4 x 4 pixels"):
        transform.rows(images[:, :, :3])


def test_images_that_are_all_alike_are_refused():
    with pytest.raises(ValueError, match="pixels vary; all are 3"):
        PixelTransform.fit(np.full((5, 1, 4, 4), 3, np.uint8))


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [1e-3, 4e-3, 0.0127, 0.05, 0.3, 1.0, 5.0, 100.0])
@pytest.mark.parametrize("width", [0.0, 0.02])
def test_a_pixel_alone_says_its_posterior_mean(ratio, width, generator):
    """Against the mixture in closed form, with its slope: the table's error is small beside the noise.

    Where a pixel stands between two levels the mean jumps within a small part of the noise, which a table rounds; so
    the mean square of its error is asked for, over draws from the law itself, in units of the noise.
    """
    levels = torch.linspace(-1, 3, 64, dtype=torch.float64)
    counts = torch.randint(1, 1000, (2, 64), generator=generator)
    counts[1, 1:] = 0
    counts[1, 0] = 100_000
    table = PixelPosterior(2).double()
    table.learn(levels, counts, width)
    for channel in range(2):
        law = GaussianMixture.isotropic(counts[channel].double() + 1, levels[:, None], width)
        x = law.sample(4000, generator)
        y = (x + ratio * torch.randn(x.shape, generator=generator, dtype=torch.float64)).requires_grad_()
        image = torch.zeros(4000, 2, 1, 1, dtype=torch.float64)
        image = torch.cat([image[:, :channel], y[:, :, None, None], image[:, channel + 1 :]], 1)
        answer = table(image, torch.full((4000,), math.log(ratio), dtype=torch.float64))
        mean, told = (part[:, channel, 0, 0] for part in answer)
        one, r = torch.ones((), dtype=torch.float64), torch.tensor(ratio, dtype=torch.float64)
        exact = law.posterior(y.detach(), one, r)[0][:, 0]
        assert float((mean.detach() - exact).square().mean().sqrt()) < 0.03 * ratio
        (slope,) = torch.autograd.grad(mean.sum(), y)
        shift = 1e-3 * ratio
        moved = [law.posterior(y.detach() + side * shift, one, r)[0][:, 0] for side in (1, -1)]
        difference = (moved[0] - moved[1]) / (2 * shift)
        assert float((slope[:, 0] - difference).abs().median()) < 0.02
        variance = ratio**2 + width**2
        weights = (law.weights.log() - (y.detach() - levels) ** 2 / (2 * variance)).softmax(1)
        between = weights @ levels**2 - (weights @ levels) ** 2
        exact = between * ratio**2 / variance**2 + width**2 / variance
        assert float((told.detach() - exact).abs().mean()) < 0.03  # between noise ratios 1.34 times apart


@pytest.mark.parametrize("row", range(16, 48, 4))
def test_the_slope_is_exact_at_the_noise_ratios_of_the_table(row, generator):
    """Var[X | y] / r^2, summed over the levels, at points of the table: the rounding of single precision is left."""
    levels = torch.linspace(-1, 3, 64, dtype=torch.float64)
    counts = torch.randint(1, 1000, (1, 64), generator=generator)
    table = PixelPosterior(1)
    table.learn(levels, counts)
    ratio = float(table._ratios()[row])
    y = torch.linspace(-1 - REACH * ratio, 3 + REACH * ratio, POINTS, dtype=torch.float64)
    log_ratio = torch.full((1,), math.log(ratio), dtype=torch.float64)
    _, slope = table(y.reshape(1, 1, 1, -1), log_ratio)
    weights = ((counts + 1.0).log() - (y[:, None] - levels) ** 2 / (2 * ratio**2)).softmax(1)
    deviation = levels - (weights @ levels)[:, None]
    exact = (weights * deviation**2).sum(1) / ratio**2
    torch.testing.assert_close(slope.flatten(), exact, rtol=1e-4, atol=1e-4 * float(exact.max()))


def test_the_continuous_width_is_that_of_a_bin():
    transform = PixelTransform.fit(np.linspace(0, 1, 100_000).reshape(100, 1, 40, 25))
    assert transform.step == 0
    assert len(transform.levels) == BINS
    assert transform.width == pytest.approx(1 / BINS / math.sqrt(12) / transform.scale)
    with pytest.raises(ValueError, match="at least two values"):
        PixelPosterior(1).learn(torch.zeros(1), torch.ones(1, 1))


def test_no_images_are_no_rows(generator):
    pixels = (255 * draw(generator, 9, 1, 3, 4)).astype(np.uint8)
    transform = PixelTransform.fit(pixels)
    assert transform.rows(pixels[:0]).shape == (0, 12)
    assert transform.forward(transform.rows(pixels[:0])).shape == (0, 12)


def test_beyond_the_ends_of_the_table_the_answer_is_that_of_the_end(generator):
    """REACH noises beyond the smallest and the largest level; more noise than levels, so that the ends are not flat."""
    table = PixelPosterior(1).double()
    ratio = float(table._ratios()[36])  # about 2, at which the table needs no other row
    table.learn(torch.linspace(-1, 1, 9, dtype=torch.float64), torch.randint(1, 100, (1, 9), generator=generator))
    for side in (-1, 1):
        end = side * (1 + REACH * ratio)
        y = torch.tensor([end - 1e-3 * side, end, 9 * end], dtype=torch.float64)
        mean, slope = table(y.reshape(3, 1, 1, 1), torch.full((3,), math.log(ratio), dtype=torch.float64))
        assert mean[2] == pytest.approx(float(mean[1]), abs=1e-9)
        assert slope[2] == pytest.approx(float(slope[1]), abs=1e-9)
        assert mean[0] == pytest.approx(float(mean[1]), abs=1e-3)
        assert mean[0] != mean[1]
