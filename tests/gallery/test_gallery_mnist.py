"""Gallery 002, MNIST: the published U-Net, its loop and its sampler on made-up images."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from scorefield import data
from scorefield.gallery.mnist import tutorial as entry
from scorefield.gallery.mnist import unet as mnist
from scorefield.gallery.swiss_roll.training import PROCESS
from scorefield.numerics.tensors import spawn, uniform


def pictures(n: int) -> torch.Tensor:
    return uniform(n * mnist.PIXELS, spawn(0, "pictures")).reshape(n, mnist.PIXELS).float()


def test_the_network_has_the_published_number_of_weights_and_sides():
    net, sides = mnist.UNet(spawn(0, "init")), []
    for layer in [*net.down, *net.up]:
        layer.register_forward_hook(lambda layer, args, y: sides.append(y.shape[1:]))
    assert net(torch.zeros(3, mnist.PIXELS + 1)).shape == (3, mnist.PIXELS)
    assert sum(p.numel() for p in net.parameters()) == 2_361_409
    assert sides == [(o, side, side) for _, o, side in (*mnist.DOWN, *mnist.UP)]


def test_weights_start_within_the_bounds_of_pytorch():
    """A maximum of 18,432 uniform numbers lies within 1 % of its bound but for e^-184."""
    for kind in nn.Conv2d, nn.ConvTranspose2d:
        with torch.random.fork_rng():
            theirs = kind(32, 64, 3)
        ours = mnist._started(kind, 32, 64, spawn(0, "x"))
        torch.testing.assert_close(ours.weight.abs().max(), theirs.weight.abs().max(), rtol=0.01, atol=0)


@pytest.mark.slow
def test_training_lowers_the_published_loss_and_a_seed_gives_it_again():
    """A network near 0 has a loss near 1, the mean of z^2; the images are one picture, whose score is simple."""
    images = pictures(1).repeat(128, 1)
    runs = [[*itertools.islice(mnist.train(mnist.UNet(spawn(0, "init")), images, 0), 12)] for _ in range(2)]
    assert runs[0] == runs[1]
    assert sum(runs[0][-3:]) < sum(runs[0][:3])


def test_other_images_are_refused():
    with pytest.raises(ValueError, match="divide bytes by 255"):
        mnist.train(mnist.UNet(spawn(0, "init")), 255 * pictures(2), 0)
    with pytest.raises(ValueError, match=r"rows of 784 numbers from 0 to 1; got \(2, 5\)"):
        mnist.train(mnist.UNet(spawn(0, "init")), torch.zeros(2, 5), 0)


def test_the_sampler_ends_in_the_grain_of_its_last_step_around_a_known_image():
    """With the score of one image m, (a m - x) / s^2, the last state is m plus noise of std sqrt(beta_0 / steps).

    784 n numbers of variance 0.1001 / 999 up to O(h): 5 standard errors and 1 %, a false-alarm rate of 6e-7.
    """
    image = pictures(1)

    class Known(nn.Module):
        def forward(self, xt):
            a, s = PROCESS.kernel(xt[:, -1], xt[:, :-1])
            return (a * image - xt[:, :-1]) / s**2

    off = (mnist.sample(Known(), 8, 0) - image).double()
    expected = float(PROCESS.diffusion(mnist.TIMES[-2])) ** 2 / 999
    assert float(off.square().mean()) == pytest.approx(expected, rel=0.01 + 5 * (2 / off.numel()) ** 0.5)


def test_the_diagram_is_written(tmp_path):
    mnist.draw_diagram(tmp_path / "unet.png")
    assert (tmp_path / "unet.png").stat().st_size > 10_000


@pytest.fixture
def made_up(monkeypatch):
    """MNIST is not at hand in a test: bright squares on black, in its place."""
    pixels = np.zeros((300, 1, 28, 28), np.uint8)
    for k, place in enumerate(np.random.default_rng(0).integers(2, 18, size=(300, 2))):
        pixels[k, 0, place[0] : place[0] + 8, place[1] : place[1] + 8] = 255
    images = data.as_images(pixels[:, 0], np.arange(300) % 10)
    monkeypatch.setattr(data, "read_mnist", lambda part: images)
    return images


@pytest.mark.slow
def test_the_entry_leaves_its_figures_and_the_published_numbers(made_up, tmp_path):
    results = entry.run(tmp_path, seeds=1, quick=True)
    assert results["weights of the network"]["median"] == 2_361_409
    assert results["loss of epoch 0"]["published"] == 0.22342
    assert 0.3 < results["loss of epoch 0"]["median"] < 1.1  # four steps from a network near 0, whose loss is 1
    assert results["distance to the nearest training image, real test images"]["median"] == 0
    assert results["pixels between 0.1 and 0.9, real test images"]["median"] == 0
    made = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png")}
    assert made == {
        "as-published/network.png",
        "as-published/samples.png",
        "as-published/loss.png",
        "corrected/samples.png",
        "corrected/side-by-side.png",
    }


def test_the_nearest_training_image_is_the_one_it_is():
    rows = torch.randint(0, 256, (50, 784), generator=spawn(0, "rows"), dtype=torch.uint8)
    x = rows[:5].float() / 255
    assert entry.nearest(x, rows) < 1e-2
    far = x.clone()
    far[:, 0] = 1 - (x[:, 0] > 0.5).float()
    expected = (far[:, 0] - x[:, 0]).abs().mean()
    assert entry.nearest(far, rows) == pytest.approx(float(expected), abs=1e-2)
