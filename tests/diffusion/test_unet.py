"""The U-Net: exact before it has learned, the same for every row, any size, and told classes by its guidance."""

import math

import pytest
import torch
from torch import Generator

from scorefield.diffusion.denoisers import ScoreModel
from scorefield.diffusion.networks import Labelled, UNet
from scorefield.diffusion.networks import unet as module
from scorefield.diffusion.published import EDM, VP

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
    """Beside each other: the image, the mean of each pixel, and the gate; all of unit variance or below at any noise."""
    net = made((2, 8, 8), taught=True)
    z, level = torch.randn(4, 128, generator=generator), torch.linspace(-3, 2, 4)
    seen = []
    network = net._network
    monkeypatch.setattr(net, "_network", lambda image, told: seen.append(image) or network(image, told))
    whole = net(z, level)
    noisy, clean, gate = seen[0].split(2, 1)
    torch.testing.assert_close(noisy.flatten(1), z)
    scale = (1 + (2 * level).exp()).sqrt()[:, None]
    torch.testing.assert_close(clean, net.pixels((z * scale).reshape(4, 2, 8, 8), level)[0])
    correction = network(seen[0], net._told(level, torch.zeros(4, dtype=torch.long))).flatten(1)
    untaught = made((2, 8, 8))(z, level)
    torch.testing.assert_close(whole - untaught, gate.flatten(1) * correction, atol=1e-4, rtol=1e-4)


def test_a_correction_is_held_to_what_the_pixel_leaves_open(monkeypatch, generator):
    """A network that says 1 moves v by g, g^2 = (Var[v | pixel] + w) / (1 + w), w = (r / SURE)^2.

    The variance of v = (y - (1 + r^2) x) / (r sqrt(1 + r^2)) is summed over the levels x. So g is 1 where the noise is
    large, and where it is far below the distance of two levels it is r / SURE: the correction goes to 0 with the noise.
    """
    net = made((1, 8, 8)).double()
    ratio = torch.logspace(-3, 2, 400, dtype=torch.float64)
    levels, counts = torch.linspace(-1, 2, 4, dtype=torch.float64), torch.tensor([6.0, 2, 3, 5], dtype=torch.float64)
    x = levels[torch.multinomial(counts, 400 * 64, replacement=True, generator=generator)].reshape(400, 64)
    y = x + ratio[:, None] * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    total = (1 + ratio**2).sqrt()[:, None]
    alone = net(y / total, ratio.log())
    monkeypatch.setattr(net, "_network", lambda image, told: torch.ones_like(image[:, :1]))
    gate = (net(y / total, ratio.log()) - alone).detach()
    r = ratio[:, None, None]
    weights = (counts.log() - (y[..., None] - levels) ** 2 / (2 * r**2)).softmax(-1)
    v = (y[..., None] - (1 + r**2) * levels) / (r * total[..., None])
    variance = (weights * v**2).sum(-1) - (weights * v).sum(-1) ** 2
    weight = (ratio[:, None] / module.SURE) ** 2
    difference = gate**2 - (variance + weight) / (1 + weight)
    assert float(difference.abs().mean(1).max()) < 0.02
    small, large = ratio < 0.1, ratio > 30
    expected = (weight / (1 + weight)).sqrt()[small].expand(-1, 64)
    torch.testing.assert_close(gate[small], expected, rtol=1e-3, atol=0)
    torch.testing.assert_close(gate[large], torch.ones_like(gate[large]), atol=0, rtol=1e-3)


def test_what_a_block_is_told_scales_its_second_norm_alone():
    """So the norm has no numbers of its own, which would be learned twice and change what a RUN holds."""
    norms = {
        name.rsplit(".", 1)[0] for name in made((1, 8, 8)).state_dict() if ".before." in name or ".between." in name
    }
    assert norms
    assert not any(name.endswith("between") for name in norms)
