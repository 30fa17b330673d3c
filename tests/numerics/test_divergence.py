"""The laws of divergences: exact traces, unbiased probes of known variance, differences, gradients."""

import itertools
import math

import pytest
import torch
from cases import F64, Wavy, z_limit
from torch.testing import assert_close

from scorefield.numerics.divergence import along, value_and_divergence
from scorefield.numerics.tensors import normal, signs_like, spawn
from scorefield.selftest.numbers.traces import probe_statistics

EVENTS = [(1,), (6,), (2, 3, 2)]
each_event = pytest.mark.parametrize("event", EVENTS, ids=str)


def field_of(event, seed: int = 5):
    """A random smooth network as a field on events of this shape."""
    net = Wavy(math.prod(event), seed)
    return net, lambda x: net(x, 0 * x.flatten(1)[:, 0])


def batch(event, n: int = 4, seed: int = 1) -> torch.Tensor:
    return torch.randn(n, *event, dtype=F64, generator=torch.Generator().manual_seed(seed))


def jacobians(field, x: torch.Tensor, create_graph: bool = False) -> torch.Tensor:
    """The Jacobian of each row by reverse-mode differentiation, (n, d, d)."""
    rows = [torch.autograd.functional.jacobian(field, row[None], create_graph=create_graph) for row in x]
    d = x[0].numel()
    return torch.stack([row.reshape(d, d) for row in rows])


def traces(field, x, create_graph: bool = False) -> torch.Tensor:
    return jacobians(field, x, create_graph).diagonal(dim1=1, dim2=2).sum(1)


@each_event
def test_a_derivative_along_a_direction_is_a_quadratic_form(event):
    _, field = field_of(event)
    x, v = batch(event), batch(event, seed=2)
    value, derivative = along(field, x, v)
    flat = v.flatten(1)
    truth = torch.einsum("ni,nij,nj->n", flat, jacobians(field, x), flat)
    assert_close(value.detach(), field(x).detach(), rtol=1e-13, atol=1e-13)
    assert_close(derivative.detach(), truth.detach(), rtol=0, atol=1e-11)


def test_a_linear_field_has_its_trace_for_every_probe_of_signs_without_correlation():
    """v . D v = tr D exactly for signs v where D is diagonal: the estimate has no variance at all."""
    d = torch.tensor([1.0, -2.0, 0.5], dtype=F64)
    probes = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=3)), dtype=F64)[:, None].expand(8, 4, 3)
    _, estimates = value_and_divergence(lambda x: d * x, batch((3,)), probes)
    assert_close(estimates, torch.full((8, 4), -0.5, dtype=F64), rtol=1e-14, atol=0)


# ----------------------------------------------------------------------------------------------------- probes


@pytest.mark.parametrize("kind", ["signs", "normals"])
def test_drawn_probes_are_unbiased_with_the_variance_of_theory(kind, generator):
    """25,000 drawn probes: z-tests of mean and variance, false alarm 1e-6. R06 draws more."""
    assert float(probe_statistics(kind, 25_000, generator).abs().max()) < z_limit(8)


def test_signs_are_signs(generator):
    """Half of each, independent from place to place, in the type asked for; false alarm 1e-6."""
    v = signs_like(torch.zeros(1000, 100), generator)
    assert v.dtype == torch.float32
    assert v.unique().tolist() == [-1.0, 1.0]
    z = torch.stack([v.mean(), (v[:, 1:] * v[:, :-1]).mean(), (v[1:] * v[:-1]).mean()]) * 1e5**0.5
    assert float(z.abs().max()) < z_limit(3)


@each_event
@pytest.mark.parametrize("step", [None, 0.01])
def test_each_probe_has_its_own_answer(event, step):
    _, field = field_of(event)
    x, probes = batch(event), batch((4, *event), 3)
    _, together = value_and_divergence(field, x, probes, step)
    assert together.shape == (3, 4)
    for k in range(3):
        assert_close(together[k].detach(), along(field, x, probes[k], step)[1].detach(), rtol=1e-12, atol=1e-12)


# ----------------------------------------------------------------------------------------- finite differences


@each_event
@pytest.mark.parametrize("probes", [False, True], ids=["axes", "probes"])
def test_the_error_of_differences_falls_by_four_when_the_step_halves(event, probes):
    _, field = field_of(event)
    x = batch(event, 20)
    directions = batch((20, *event), 3) if probes else None
    value, exact = value_and_divergence(field, x, directions)
    errors = []
    for step in (0.02, 0.01):
        mean, estimate = value_and_divergence(field, x, directions, step)
        errors.append([float((a - b).detach().norm()) for a, b in [(mean, value), (estimate, exact)]])
    for coarse, fine in zip(*errors, strict=True):
        assert abs(coarse / fine - 4) <= 0.1


def test_differences_of_a_quadratic_field_are_exact():
    """A central difference sees no even derivative; its mean exceeds the field by half the second one."""
    x, v = batch((3,)), batch((3,), seed=2)
    value, derivative = along(lambda x: x**2, x, v, 0.5)
    assert_close(derivative, (2 * x * v * v).sum(1), rtol=1e-13, atol=1e-13)
    assert_close(value, x**2 + 0.25 * v**2, rtol=1e-13, atol=1e-13)
    value, divergence = value_and_divergence(lambda x: x**2, x, None, 0.5)  # the mean over three axes
    assert_close(divergence, (2 * x).sum(1), rtol=1e-13, atol=1e-13)
    assert_close(value, x**2 + 0.25 / 3, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("step", [0.0, -0.1, float("nan")])
def test_a_bad_step_is_named(step):
    x = batch((3,))
    for call in (
        lambda: along(torch.sin, x, x, step),
        lambda: value_and_divergence(torch.sin, x, None, step),
    ):
        with pytest.raises(ValueError, match=f"step must be positive; got {step}"):
            call()


# --------------------------------------------------------------------------------------------------- training


@each_event
@pytest.mark.parametrize("probes", [False, True], ids=["axes", "probes"])
def test_gradients_for_training_are_those_of_double_backward(event, probes):
    """d/d(parameters) of value and divergence against differentiating the Jacobian by backward twice."""
    net, field = field_of(event)
    x = batch(event)
    directions = batch((4, *event), 2) if probes else None
    value, divergence = value_and_divergence(field, x, directions)
    jacobian = jacobians(field, x, create_graph=True)
    if probes:
        flat = directions.flatten(2)
        truth = torch.einsum("mni,nij,mnj->mn", flat, jacobian, flat)
    else:
        truth = jacobian.diagonal(dim1=1, dim2=2).sum(1)
    loss = divergence.sum() + value.square().sum() / 2
    true_loss = truth.sum() + field(x).square().sum() / 2
    gradients, truths = (
        torch.autograd.grad(part, list(net.parameters()), allow_unused=True) for part in (loss, true_loss)
    )
    used = [i for i, gradient in enumerate(truths) if gradient is not None]
    assert len(used) >= 3
    for i in used:
        assert_close(gradients[i], truths[i], rtol=1e-10, atol=1e-10)


def test_gradients_through_differences_approach_the_exact_ones():
    net, field = field_of((6,))
    x = batch((6,))
    gradients = [
        torch.autograd.grad(value_and_divergence(field, x, None, step)[1].sum(), [net.inner, net.outer, net.shift])
        for step in (None, 1e-4)
    ]
    for exact, approximate in zip(*gradients, strict=True):
        assert_close(approximate, exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("step", [None, 1e-4])
def test_divergences_compose_with_function_transforms(step):
    """grad of the divergence in x, vmap over parameters: what likelihoods and sliced losses need."""
    _, field = field_of((3,))
    x = batch((3,))
    gradient = torch.func.grad(lambda x: value_and_divergence(field, x, None, step)[1].sum())(x)
    inside = x.clone().requires_grad_()
    (truth,) = torch.autograd.grad(traces(field, inside, create_graph=True).sum(), inside)
    assert_close(gradient, truth, rtol=1e-6, atol=1e-6)
    scales = torch.tensor([0.5, 2.0], dtype=F64)
    scaled = torch.func.vmap(lambda c: value_and_divergence(lambda x: c * field(x), x, None, step)[1])(scales)
    assert_close(scaled.detach(), scales[:, None] * traces(field, x).detach(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("step", [None, 0.1])
def test_no_rows_have_no_divergence(step):
    x = batch((3,), 0)
    assert [part.shape for part in value_and_divergence(torch.sin, x, None, step)] == [(0, 3), (0,)]
    assert value_and_divergence(torch.sin, x, torch.ones(2, 0, 3, dtype=F64), step)[1].shape == (2, 0)


def test_float32_stays_float32():
    x = batch((3,)).float()
    value, divergence = value_and_divergence(torch.sin, x)
    assert value.dtype == divergence.dtype == torch.float32
    assert_close(divergence, x.cos().sum(1))


@pytest.mark.parametrize(("count", "sketch", "step"), [(None, 2, None), (3, 3, None), (3, -1, None), (3, 1, 1e-3)])
def test_a_sketch_without_probes_or_with_a_step_is_named(count, sketch, step):
    x = torch.zeros(2, 4, dtype=F64)
    probes = None if count is None else torch.ones(count, 2, 4, dtype=F64)
    with pytest.raises(ValueError, match=f"a sketch of {sketch} needs more probes than that, and no step; got"):
        value_and_divergence(torch.sin, x, probes, step, sketch)


@pytest.mark.parametrize("sketch", [0, 2])
def test_without_gradients_the_numbers_are_the_same(sketch):
    """And have no graph; a field that does not depend on x has no divergence."""
    x, probes = (normal(shape, torch.zeros(1), spawn(7)) for shape in ((5, 3), (6, 5, 3)))
    field = lambda x: torch.sin(x @ matrix) + x.prod(1, keepdim=True)
    matrix = normal((3, 3), x, spawn(8)).requires_grad_()
    value, divergence = value_and_divergence(field, x, probes, sketch=sketch)
    assert value.requires_grad
    with torch.no_grad():
        found = value_and_divergence(field, x, probes, sketch=sketch)
        still = value_and_divergence(lambda x: torch.ones(5, 3), x, probes, sketch=0)
    assert not any(each.requires_grad for each in found)
    assert torch.equal(found[0], value.detach())
    assert_close(found[1], divergence.detach(), rtol=1e-5, atol=1e-5)
    assert torch.equal(still[1], torch.zeros(6, 5))
