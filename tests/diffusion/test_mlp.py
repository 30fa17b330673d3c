"""The laws of the multilayer perceptron: made from its generator alone, zero at first, right gradients."""

import pytest
import torch
from torch import Generator, nn
from torch.testing import assert_close

from scorefield.diffusion.networks import MLP, NETS
from scorefield.numerics.tensors import spawn


def make(dim: int, seed: int = 0) -> nn.Module:
    return MLP(dim, generator=Generator().manual_seed(seed))


def awake(dim: int, seed: int = 0) -> nn.Module:
    """A network in float64 whose zero parameters are random too, so that its answer is not zero."""
    net, generator = make(dim, seed).double(), Generator().manual_seed(seed + 1)
    for parameter in net.parameters():
        if not bool(parameter.any()):
            nn.init.normal_(parameter, std=0.2, generator=generator)
    return net


def inputs(n: int, dim: int, dtype=torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = Generator().manual_seed(5)
    z = torch.randn(n, dim, dtype=torch.float64, generator=generator).to(dtype)
    return z, torch.linspace(-7, 9, n, dtype=dtype)


def test_it_is_registered():
    assert NETS["mlp"] is MLP


def test_it_is_a_function_of_its_generator():
    """Same seed, same bytes; another seed, other weights. conftest checks the global generator."""
    one, same, other = make(3), make(3), make(3, seed=1)
    assert one.state_dict().keys() == same.state_dict().keys()
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, same.state_dict()[name]), name
    assert any(not torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())


def test_all_that_it_needs_is_in_its_state():
    net, copy = awake(3), awake(3, seed=9)
    copy.load_state_dict(net.state_dict())
    assert torch.equal(copy(*inputs(7, 3)), net(*inputs(7, 3)))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
def test_it_starts_at_zero_in_every_dimension(dtype):
    """1 to 64: the model starts as the Gaussian fit. Zero exactly, in the shape and type of z."""
    for dim in range(1, 65):
        z, log_ratio = inputs(3, dim, dtype)
        y = make(dim).to(dtype)(z, log_ratio)
        assert y.shape == z.shape
        assert y.dtype == dtype
        assert not bool(y.any()), dim


@pytest.mark.parametrize("dim", [1, 2, 7, 64])
def test_hidden_weights_are_orthogonal_with_gain_1_4(dim):
    """W W' = 1.4^2 I, or W' W where there are more rows than columns; biases are zero."""
    *hidden, last = make(dim).layers
    for layer in hidden:
        weight = layer.weight.detach().double()
        product = weight.mT @ weight if weight.shape[0] > weight.shape[1] else weight @ weight.mT
        assert_close(product, 1.96 * torch.eye(len(product), dtype=torch.float64), rtol=0, atol=1e-5)
    assert len(hidden) >= 1
    assert not bool(last.weight.any())
    assert not any(bool(layer.bias.any()) for layer in (*hidden, last))


@pytest.mark.parametrize("dim", [1, 3])
def test_gradients_in_its_inputs_are_right(dim):
    """gradcheck and second derivatives in float64: divergences and scores are made of them."""
    net = awake(dim)
    z, log_ratio = (part.requires_grad_() for part in inputs(3, dim))
    assert torch.autograd.gradcheck(net, (z, log_ratio))
    assert torch.autograd.gradgradcheck(net, (z, log_ratio), (torch.ones(3, dim, dtype=torch.float64),))


def test_gradients_in_its_weights_are_right():
    """Along a random direction in all weights at once, against central differences."""
    net, (z, log_ratio) = awake(3), inputs(5, 3)
    parameters, generator = list(net.parameters()), Generator().manual_seed(3)
    loss = lambda: net(z, log_ratio).square().sum()
    gradients = torch.autograd.grad(loss(), parameters)
    directions = [torch.randn(p.shape, dtype=p.dtype, generator=generator) for p in parameters]
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
    values = []
    with torch.no_grad():
        for step in (1e-5, -2e-5, 1e-5):
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter += step * direction
            values.append(float(loss()))
    assert slope == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-6)


def test_rows_do_not_mix():
    net, (z, log_ratio) = awake(3), inputs(6, 3)
    together = net(z, log_ratio)
    for i in range(6):
        assert_close(net(z[i : i + 1], log_ratio[i : i + 1]), together[i : i + 1], rtol=1e-12, atol=1e-12)


def test_it_works_inside_function_transforms():
    """jvp under vmap, as the divergence asks, gives the Jacobian."""
    net, (z, log_ratio) = awake(2), inputs(1, 2)
    field = lambda x: net(x, log_ratio)
    columns = torch.func.vmap(lambda v: torch.func.jvp(field, (z,), (v[None],))[1][0])(torch.eye(2, dtype=z.dtype))
    jacobian = torch.autograd.functional.jacobian(field, z)[0, :, 0]
    assert_close(columns.mT.detach(), jacobian, rtol=1e-10, atol=1e-10)


def test_a_network_that_has_learned_nothing_says_so_at_once_and_can_still_learn(monkeypatch):
    """In eval mode no layer is asked; one number that is not zero, in the weight or in the bias, and all are."""
    asked = []
    forward = torch.nn.Linear.forward
    monkeypatch.setattr(torch.nn.Linear, "forward", lambda *arguments: asked.append(1) or forward(*arguments))
    net, z, level = MLP(2, outputs=3, generator=spawn(0)), torch.ones(5, 2), torch.zeros(5)
    learning = net(z, level)
    assert asked
    assert learning.requires_grad
    assert not learning.any()
    asked.clear()
    assert torch.equal(net.eval()(z, level), learning)
    assert not asked
    for number in net.layers[-1].parameters():
        with torch.no_grad():
            number.view(-1)[-1] = 1e-30
            assert net(z, level).shape == (5, 3)
            assert asked
            number.zero_()
        asked.clear()
