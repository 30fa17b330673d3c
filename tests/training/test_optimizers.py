"""Adam: its steps, against PyTorch; Muon: its iterations and steps, against recursions written out here."""

import math

import pytest
import torch
from cases import learned
from torch import nn

from scorefield.diffusion.denoisers import ScoreModel
from scorefield.diffusion.networks import UNet
from scorefield.diffusion.published import VP
from scorefield.numerics.tensors import normal, spawn
from scorefield.training.optimizers import MOMENTUM, Adam, Muon, orthogonal, suits
from scorefield.training.trainer import MUON_RATE, Trainer

F64 = torch.float64


def drawn(rows: int, columns: int, seed: int) -> torch.Tensor:
    return normal((rows, columns), torch.zeros(1, dtype=F64), spawn(seed))


@pytest.mark.parametrize(("rows", "columns"), [(20, 20), (16, 144), (144, 16)])
def test_directions_stay_and_sizes_become_about_one(rows, columns):
    """U' X V is diagonal for the singular vectors U, V of the matrix, whose values span a factor of 100."""
    k = min(rows, columns)
    u, _, vt = torch.linalg.svd(drawn(rows, columns, 1), full_matrices=False)
    x = orthogonal(u @ torch.diag(torch.logspace(0, -2, k, dtype=F64)) @ vt)
    turned = u.mT @ x @ vt.mT
    sizes = turned.diagonal()
    assert float(sizes.min()) > 0.65
    assert float(sizes.max()) < 1.25
    assert float((turned - torch.diag(sizes)).abs().max()) < 1e-12
    assert float((u @ turned @ vt - x).abs().max()) < 1e-12  # nothing outside of these directions


def test_neither_size_nor_side_matters_and_zero_stays():
    matrix = drawn(20, 50, 2)
    torch.testing.assert_close(orthogonal(1e4 * matrix), orthogonal(matrix), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(orthogonal(matrix.mT), orthogonal(matrix).mT, rtol=1e-12, atol=1e-12)
    assert torch.equal(orthogonal(torch.zeros(3, 4)), torch.zeros(3, 4))


def test_steps_are_those_of_the_recursion():
    """M <- m M + (1 - m) G, W <- W - lr sqrt(max(1, rows / columns)) orthogonal(m M + (1 - m) G), for a convolution."""
    weight = nn.Parameter(drawn(40, 18, 3).reshape(40, 2, 3, 3))
    optimizer = Muon([weight], 0.1)
    expected, momentum = weight.detach().clone().reshape(40, 18), torch.zeros(40, 18, dtype=F64)
    for k in range(4):
        gradient = drawn(40, 18, 10 + k)
        weight.grad = gradient.reshape(40, 2, 3, 3)
        optimizer.step()
        momentum = MOMENTUM * momentum + (1 - MOMENTUM) * gradient
        ahead = MOMENTUM * momentum + (1 - MOMENTUM) * gradient
        expected = expected - 0.1 * math.sqrt(40 / 18) * orthogonal(ahead)
        torch.testing.assert_close(weight.detach().reshape(40, 18), expected, rtol=1e-12, atol=1e-12)
    assert float(expected.norm()) > 0


def test_a_weight_without_a_gradient_stays():
    weight = nn.Parameter(torch.ones(16, 16))
    Muon([weight], 1.0).step()
    assert torch.equal(weight.detach(), torch.ones(16, 16))


def test_in_a_network_of_convolutions_the_large_matrices_are_its_own_and_all_others_adams():
    net = UNet((1, 8, 8), width=16, depth=1, classes=20, generator=spawn(0))
    trainer = Trainer(ScoreModel(net, VP(), torch.zeros(64), torch.ones(64), "v"), 400, 0.002)
    mine, others = ({id(p) for p in trainer.optimizers[kind].weights} for kind in ("muon", "optimizer"))
    assert mine == {id(p) for p in net.parameters() if suits(p) and p is not net.label.weight}
    assert mine | others == {id(p) for p in net.parameters()}
    assert not mine & others
    for _ in zip(range(3), trainer.run(lambda: sum(p.square().sum() for p in net.parameters())), strict=False):
        rates = {kind: optimizer.lr for kind, optimizer in trainer.optimizers.items()}
        assert rates["muon"] == pytest.approx(MUON_RATE * rates["optimizer"])


def test_moments_of_other_shapes_are_refused():
    """A fused step writes where its weights are, whatever the shape of the moments."""
    model = ScoreModel(UNet((1, 8, 8), 16, 1, generator=spawn(0)), VP(), torch.zeros(64), torch.ones(64), "v")
    trainer = Trainer(model, 10)
    loss = lambda: sum(p.square().sum() for p in model.parameters())
    for _ in zip(range(2), trainer.run(loss), strict=False):
        pass
    good = trainer.state()
    names = [next(name for name in good if name.startswith(kind) and good[name].ndim) for kind in ("optimizer", "muon")]
    for name in names:
        for value in (good[name][:1], good[name].double(), torch.tensor(1.0)):
            with pytest.raises(ValueError, match="are not of the shape of its weight"):
                trainer.load_state(good | {name: value})
    with pytest.raises(ValueError, match="number 999, are not of the shape"):
        trainer.load_state(good | {"muon.999.momentum": torch.zeros(1)})
    for kind in ("optimizer", "muon"):
        with pytest.raises(ValueError, match=f"expected the moments of {kind} after 2 steps"):
            trainer.load_state({name: value for name, value in good.items() if not name.startswith(kind)})
    trainer.load_state(good)
    assert all(torch.equal(value, good[name]) for name, value in trainer.state().items())


def test_a_dense_network_is_left_to_adam():
    assert list(Trainer(learned(VP(), "v", 2), 10).optimizers) == ["optimizer"]


def test_adams_steps_are_those_of_pytorchs_class_to_the_bit_and_go_on_from_its_moments():
    mine, theirs = ([nn.Parameter(drawn(4, 3, 5).float()), nn.Parameter(torch.ones(7))] for _ in range(2))
    optimizer, reference = Adam(mine, 0.1), torch.optim.Adam(theirs, lr=0.1, fused=True)
    for k in range(30):
        for weight, other in zip(mine, theirs, strict=True):
            has_one = weight.ndim == 2 or k % 3 > 0  # the second has none at times, the first step included
            gradient = drawn(weight.numel(), 1, 20 + k).float().reshape(weight.shape)
            weight.grad = other.grad = gradient if has_one else None
        optimizer.lr = reference.param_groups[0]["lr"] = 0.1 / (k + 1)
        if k == 20:
            moments, optimizer = optimizer.moments, Adam(mine, 0.1)
            optimizer.lr = 0.1 / (k + 1)
            optimizer.load(dict(enumerate(moments)))
        optimizer.step()
        reference.step()
        assert all(torch.equal(weight, other) for weight, other in zip(mine, theirs, strict=True))
