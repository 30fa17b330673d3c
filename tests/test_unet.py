"""The U-Net: exact before it has learned, the same for every row, any size, and told classes by its guidance."""

import math

import pytest
import torch
from torch import Generator

from scorefield.model import ScoreModel
from scorefield.nets import Labelled, UNet
from scorefield.nets import unet as module
from scorefield.process import EDM, VP

SIZES = [(1, 7, 5), (3, 9, 16), (1, 28, 28), (2, 33, 17), (1, 1, 3), (1, 40, 64)]


def made(shape: tuple[int, int, int], classes: int = 0, seed: int = 0, taught: bool = False) -> UNet:
    """A small network on four levels; taught: its zeros are filled, so that all parts take part."""
    generator = Generator().manual_seed(seed)
    net = UNet(shape, width=16, depth=1, classes=classes, generator=generator)
    levels = torch.linspace(-1, 2, 4)
    net.pixels.learn(levels, torch.tensor([[5, 1, 2, 4]]).repeat(shape[0], 1))
    if taught:
        for parameter in net.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    return net.eval()


@pytest.mark.parametrize("process", [VP(), EDM()], ids=lambda p: type(p).__name__)
def test_an_untrained_network_is_the_model_of_independent_pixels(process, generator):
    net = made((1, 5, 4))
    net.double()
    model = ScoreModel(net, process, torch.zeros(20).double(), torch.ones(20).double())
    weights = torch.tensor([6, 2, 3, 5], dtype=torch.float64)
    levels = torch.linspace(-1, 2, 4, dtype=torch.float64)
    x = levels[torch.multinomial(weights, 500 * 20, replacement=True, generator=generator)].reshape(500, 20)
    t = process.time(torch.logspace(-2, 1, 500, dtype=torch.float64)).clamp(max=process.t_max)
    a, s = process.mean_coef(t)[:, None], process.std(t)[:, None]
    noisy = a * x + s * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    clean, noise = model.decompose(noisy, t)
    exact = (weights.log() - ((noisy / a)[..., None] - levels) ** 2 / (2 * ((s / a) ** 2)[..., None])).softmax(
        -1
    ) @ levels
    assert float(((clean.detach() - exact) * a / s).square().mean().sqrt()) < 0.02  # the table's, in units of the noise
    torch.testing.assert_close(a * clean + s * noise, noisy)


@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_every_size_and_every_row_by_itself(shape, generator):
    """A row's answer depends on no other row, nor on how many are answered at once."""
    net = made(shape, taught=True)
    d = math.prod(shape)
    z, level = torch.randn(5, d, generator=generator), torch.linspace(-5, 3, 5)
    together = net(z, level)
    assert together.shape == (5, d)
    assert bool(together.isfinite().all())
    for k in range(5):
        torch.testing.assert_close(net(z[k : k + 1], level[k : k + 1])[0], together[k], atol=2e-4, rtol=2e-4)


def test_large_batches_are_answered_in_parts(monkeypatch, generator):
    net = made((1, 8, 8), classes=3, taught=True)
    z, level = torch.randn(10, 64, generator=generator), torch.linspace(-3, 2, 10)
    label = torch.arange(10) % 4
    whole = net(z, level, label)
    monkeypatch.setattr(module, "PLACES", 3 * 64)
    calls = []
    network = net._network
    monkeypatch.setattr(net, "_network", lambda image, told: calls.append(len(image)) or network(image, told))
    with torch.no_grad():
        torch.testing.assert_close(net(z, level, label), whole, atol=1e-4, rtol=1e-4)
    assert calls == [3, 3, 3, 1]


def test_a_far_pixel_is_seen(generator):
    """The corners of a 28 x 28 image speak to each other, through the coarse level."""
    net = made((1, 28, 28), taught=True)
    z = torch.randn(1, 784, generator=generator).requires_grad_()
    net(z, torch.zeros(1))[0, 0].backward()
    assert float(z.grad[0, 13 * 28 + 13].abs()) > 0


def test_networks_come_from_their_generator():
    """Made twice they are equal, of another seed they are not; the global state stays (conftest watches)."""
    first, again, other = made((1, 8, 8)), made((1, 8, 8)), made((1, 8, 8), seed=1)
    pairs = list(zip(first.parameters(), again.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(first.enter.weight, other.enter.weight)
    assert all(bool(p.isfinite().all()) for p in first.parameters())


def test_guidance_leads_from_no_class_through_the_class_and_beyond(generator):
    net = made((1, 8, 8), classes=3, taught=True)
    z, level = torch.randn(6, 64, generator=generator), torch.linspace(-3, 2, 6)
    free, told = net(z, level), net(z, level, torch.full((6,), 2))
    assert torch.equal(free, net(z, level, torch.full((6,), 3)))
    assert not torch.allclose(free, told)
    one = torch.tensor(2)
    assert torch.equal(Labelled(net, one)(z, level), told)
    torch.testing.assert_close(Labelled(net, one, 0.0)(z, level), free)
    torch.testing.assert_close(Labelled(net, one, 2.5)(z, level), free + 2.5 * (told - free))
    mixed = torch.tensor([0, 1, 2, 0, 1, 2])
    each = torch.cat([Labelled(net, label)(z[k : k + 1], level[k : k + 1]) for k, label in enumerate(mixed)])
    torch.testing.assert_close(Labelled(net, mixed)(z, level), each, atol=1e-4, rtol=1e-4)


def test_a_model_given_a_class_is_the_network_given_it(generator):
    net = made((1, 8, 8), classes=2, taught=True)
    model = ScoreModel(net, VP(), torch.zeros(64), torch.ones(64))
    x, t = torch.randn(3, 64, generator=generator), torch.tensor([0.1, 0.4, 0.8], dtype=torch.float64)
    label = torch.tensor([1, 0, 1])
    given = ScoreModel(Labelled(net, label), VP(), torch.zeros(64), torch.ones(64))
    assert torch.equal(model.given(label).score(x, t), given.score(x, t))
    assert not torch.allclose(model.score(x, t), given.score(x, t))


def test_the_network_sees_the_noisy_image_and_what_each_pixel_says(monkeypatch, generator):
    """Both of unit variance at every noise, beside each other."""
    net = made((2, 8, 8), taught=True)
    z, level = torch.randn(4, 128, generator=generator), torch.linspace(-3, 2, 4)
    seen = []
    network = net._network
    monkeypatch.setattr(net, "_network", lambda image, told: seen.append(image) or network(image, told))
    net(z, level)
    noisy, clean = seen[0].split(2, 1)
    torch.testing.assert_close(noisy.flatten(1), z)
    scale = (1 + (2 * level).exp()).sqrt()[:, None]
    torch.testing.assert_close(clean, net.pixels((z * scale).reshape(4, 2, 8, 8), level))
