"""The laws of every objective beside R07: at any level, likelihood, second order, energies, units, refusals."""

import itertools
import math

import pytest
import torch
from cases import (
    DENSITIES,
    F64,
    PROCESSES,
    covering,
    each_prediction,
    each_process,
    f64,
    learned,
    middle_time,
)
from given_noise import given_noise
from scipy import integrate
from torch import Generator, nn
from torch.testing import assert_close

from scorefield.diffusion import times
from scorefield.diffusion.denoisers import ExactDenoiser, ScoreModel
from scorefield.diffusion.networks import Energy, Ensemble
from scorefield.diffusion.published import VP
from scorefield.numerics.tensors import normal_like
from scorefield.selftest.numbers.matching import WavyEnergy
from scorefield.selftest.numbers.quadrature import grid_of_pairs, hermite, noise_weight
from scorefield.training.objectives import losses, table
from scorefield.training.objectives.losses import denoising, second_order
from scorefield.training.objectives.table import OBJECTIVES

UNBIASED = ("denoising", "explicit", "implicit", "hutchinson", "sliced", "energy-denoising", "energy-sliced")
"""The objectives whose means differ by a constant; in one dimension the random sign plays no part."""


def test_the_table_is_complete():
    assert set(UNBIASED) < set(OBJECTIVES)
    assert set(OBJECTIVES) - set(UNBIASED) == {
        "likelihood",
        "second-order",
        "parzen",
        "finite-difference",
        "curvature",
        "fd-sliced",
    }


@pytest.mark.slow
@covering(
    3,
    process=PROCESSES,
    predicts=["v", "noise"],
    objective=UNBIASED[1:],
)
def test_every_objective_at_any_level_is_denoising_up_to_a_constant(process, predicts, objective, monkeypatch):
    """Between two models the mean losses differ by the same amount; exact quadrature, 1e-8, differences 1e-3."""
    density = DENSITIES["mixture-1d"]
    t = middle_time(process, 0.4)
    clean, noise, share = grid_of_pairs(density, 64)
    given_noise(monkeypatch, noise)
    monkeypatch.setattr(table, "STEP", 0.01)
    task = table.Task(None, density)

    def change(name: str) -> torch.Tensor:
        models = [learned(process, predicts, 1, data_std=1.7, net=WavyEnergy(1, seed)) for seed in (0, 1)]
        draw = lambda: Generator().manual_seed(0)
        values = [share @ OBJECTIVES[name].loss(model, clean, t, task, draw()) for model in models]
        return (values[1] - values[0]).detach()

    tolerance = 1e-3 if objective.startswith("energy") else 1e-8
    assert_close(change(objective), change("denoising"), rtol=tolerance, atol=tolerance / 10)


@each_process
def test_finite_differences_at_a_level_are_close_to_automatic_ones(process):
    model = learned(process, "v", 2)
    x = torch.randn(50, 2, dtype=F64, generator=Generator().manual_seed(0))
    t = torch.stack([middle_time(process, ratio) for ratio in (0.05, 0.3, 1.0, 3.0, 10.0)]).repeat(10)
    for difference, automatic in [("finite-difference", "implicit"), ("fd-sliced", "sliced")]:
        values = [
            OBJECTIVES[name].loss(model, x, t, table.Task(), Generator().manual_seed(0)).detach()
            for name in (difference, automatic)
        ]
        assert_close(*values, rtol=2e-2, atol=2e-2)
        assert not torch.equal(*values)


def test_curvature_at_a_level_adds_its_part():
    model, t = learned(VP(), "v", 2), f64(0.3)[0]
    x = torch.randn(9, 2, dtype=F64, generator=Generator().manual_seed(0))
    plain, bent = (
        OBJECTIVES[name].loss(model, x, t, table.Task(), Generator().manual_seed(1)).detach()
        for name in ("implicit", "curvature")
    )
    a, s = VP().kernel(t, x)
    y = (a * x + s * normal_like(x, Generator().manual_seed(1))) / s
    jacobian = torch.func.vmap(torch.func.jacrev(lambda y: model.decompose(s * y[None], t)[1][0]))(y).detach()
    squares = jacobian.diagonal(dim1=1, dim2=2).square().sum(1)
    assert_close(bent - plain, noise_weight(model, t, None) * table.CURVATURE * squares, rtol=1e-9, atol=0)


@each_process
def test_the_likelihood_law_is_uniform_times_weighted_by_importance(process):
    """E over uniform t of (g/s)^2 h = 2 log(r_max / r_min) / (t_max - t_min) E over log-uniform ratios of h."""
    low, high = (float(r) for r in times.bounds(process, 0.01))
    draw = times.log_uniform(process, 0.01)(100_000, Generator().manual_seed(0))
    t_min, t_max = float(process.time(f64(low)[0])), float(process.time(f64(high)[0]))
    h = lambda t: process.ratio(t) / (1 + process.ratio(t) ** 2)
    weighted = lambda t: float(((process.diffusion(f64(t)) / process.std(f64(t))) ** 2 * h(f64(t)))[0])
    breaks = process.time(torch.logspace(math.log10(low), math.log10(high), 9, dtype=F64)).tolist()
    pairs = itertools.pairwise([t_min, *breaks[1:-1], t_max])
    integral = sum(integrate.quad(weighted, u, t, epsrel=1e-9)[0] for u, t in pairs)
    assert_close(2 * math.log(high / low) * float(h(draw).mean()), integral, rtol=1e-4, atol=0)


def test_the_likelihood_objective_is_the_weighted_loss():
    x, t = torch.randn(6, 2, dtype=F64, generator=Generator().manual_seed(0)), f64(0.4)[0]
    model = learned(VP(), "v", 2)
    row = OBJECTIVES["likelihood"]
    loss = row.loss(model, x, t, table.Task(), Generator().manual_seed(2))
    assert_close(loss, denoising(model, x, t, weight="noise", generator=Generator().manual_seed(2)), rtol=0, atol=0)
    assert row.law is times.log_uniform


def test_second_order_adds_the_loss_of_the_divergence():
    """In one dimension one sign is exact; where the noise is the oracle's, both parts are least at the oracle."""
    model, t = learned(VP(), "v", 1), f64(0.4)[0]
    x = torch.randn(6, 1, dtype=F64, generator=Generator().manual_seed(0))
    generator = Generator().manual_seed(2)
    loss = OBJECTIVES["second-order"].loss(model, x, t, table.Task(), generator)
    again = Generator().manual_seed(2)
    first = denoising(model, x, t, generator=again)
    assert_close(loss, first + second_order(model, x, t, generator=again), rtol=1e-12, atol=0)


def test_second_order_with_random_signs_is_smallest_at_the_truth_in_two_dimensions(monkeypatch):
    """Correlated Gaussian data, all signs: with the exact noise, the slope of the loss in any entry of its matrix is 0."""
    density, process, t = DENSITIES["gauss-2d"], VP(), middle_time(VP(), 1.0)
    nodes, weights = hermite(5)
    pairs = torch.tensor(list(itertools.product(nodes.tolist(), repeat=4)), dtype=F64)
    share = torch.tensor([math.prod(row) for row in itertools.product(weights.tolist(), repeat=4)], dtype=F64)
    clean = density.mean + pairs[:, :2] @ torch.linalg.cholesky(density.covariance).mT
    given_noise(monkeypatch, pairs[:, 2:])
    model = ExactDenoiser(density, process)
    change = torch.zeros(2, 2, dtype=F64, requires_grad=True)
    exact = losses.derivatives

    def bent(field, y, directions, step=None):
        value, terms = exact(field, y, directions, step)
        return value, terms + ((directions @ change) * directions).sum(-1)

    monkeypatch.setattr(losses, "derivatives", bent)
    values = []
    for signs in itertools.product((-1.0, 1.0), repeat=2):
        v = f64(*signs)
        monkeypatch.setattr(losses, "signs_like", lambda x, g=None, v=v: v.expand(x.shape))
        values.append(share @ second_order(model, clean, t, probes=1))
    (slope,) = torch.autograd.grad(torch.stack(values).mean(), change)
    assert float(slope.abs().max()) < 1e-10


@pytest.mark.parametrize("objective", ["explicit", "implicit", "hutchinson", "sliced"])
def test_the_unit_in_which_a_row_is_taken_does_not_matter(objective, monkeypatch):
    """Half of |x_t|, far above s, in place of s: the same loss of each row, for a step that asks for it."""
    density = DENSITIES["mixture-2d"]
    model, x = learned(VP(), "v", 2), density.sample(20, Generator().manual_seed(0))
    t = middle_time(VP(), 0.05)
    task = table.Task(truth=density)
    values = []
    for step in (0.05, 400 * torch.finfo(F64).eps):
        monkeypatch.setattr(table, "STEP", step)
        values.append(OBJECTIVES[objective].loss(model, x, t, task, Generator().manual_seed(0)).detach())
    assert_close(values[0], values[1], rtol=1e-9, atol=1e-9)


def test_an_extreme_row_does_not_stop_finite_differences():
    """A row at 1e5 standard deviations, in float32, has a finite loss and leaves that of another row as it is."""
    model = learned(VP(), "v", 2).float()
    x, t = torch.tensor([[1e5, -3.0], [0.3, 0.5]]), middle_time(VP(), 1e-3)
    for difference, automatic in [("finite-difference", "implicit"), ("fd-sliced", "sliced")]:
        values = [
            OBJECTIVES[name].loss(model, x, t, table.Task(), Generator().manual_seed(0)).detach()
            for name in (difference, automatic)
        ]
        assert bool(values[0].isfinite().all())
        assert_close(values[0][1], values[1][1], rtol=2e-2, atol=2e-2)


def test_what_an_objective_cannot_do_is_said():
    x, t, model = torch.ones(2, 1, dtype=F64), f64(0.5)[0], learned(VP(), "v", 1)
    with pytest.raises(ValueError, match="needs data whose score is known: a built-in Gaussian mixture"):
        OBJECTIVES["explicit"].loss(model, x, t, table.Task(), Generator())
    for name in ("energy-sliced", "energy-denoising"):
        with pytest.raises(ValueError, match="it needs --network energy"):
            OBJECTIVES[name].loss(model, x, t, table.Task(), Generator())
        assert OBJECTIVES[name].energy


# -------------------------------------------------------------------------------------------------------- energies


@pytest.mark.slow
@each_process
@each_prediction
def test_the_gradient_of_the_potential_is_the_score(process, predicts):
    """For every prediction, with a base and without, at one time a row; the true base gives its own log-density."""
    generator = Generator().manual_seed(4)
    t = torch.stack([middle_time(process, ratio) for ratio in (0.03, 0.4, 1.5)])
    x = torch.randn(3, 2, dtype=F64, generator=generator)
    for base in (None, DENSITIES["mixture-2d"], DENSITIES["kde-2d"]):
        net = Energy(2, width=16, features=4, generator=Generator().manual_seed(1)).double()
        nn.init.normal_(net.net.layers[-1].weight, generator=generator)
        moments = torch.zeros(2, dtype=F64), torch.eye(2, dtype=F64)
        model = ScoreModel(Ensemble([net, net]), process, *moments, predicts=predicts, data_std=0.8, base=base)
        gradient = torch.func.grad(lambda x: model.log_potential(x, t).sum())(x)  # noqa: B023
        assert_close(gradient, model.score(x, t), rtol=1e-9, atol=1e-9)
        nn.init.zeros_(net.net.layers[-1].weight)
        if base is not None:
            noised = [
                base.noised(process.mean_coef(u), process.std(u)).log_prob(y[None]) for y, u in zip(x, t, strict=True)
            ]
            assert_close(model.log_potential(x, t), torch.cat(noised), rtol=1e-9, atol=1e-9)


def test_a_network_without_a_potential_says_so():
    with pytest.raises(ValueError, match="train one with --network energy"):
        learned(VP(), "v", 1).log_potential(torch.ones(2, 1, dtype=F64), f64(0.5)[0])


def test_by_default_energies_are_sliced_once():
    """Same generator, same numbers as one direction asked for, and other numbers than two."""
    x = torch.randn(4, 3, dtype=F64, generator=Generator().manual_seed(0))

    def sliced(**options: int) -> torch.Tensor:
        quartic = lambda x: -(x**4).sum(-1)
        return losses.sliced_energy(quartic, x, step=1e-2, generator=Generator().manual_seed(1), **options)

    assert torch.equal(sliced(), sliced(slices=1))
    assert not torch.allclose(sliced(), sliced(slices=2))


@pytest.mark.parametrize(("size", "suggested"), [(1.0, "0.02"), (1e4, "1")])
def test_a_second_difference_that_rounding_swallows_names_one_that_it_does_not(size, suggested):
    """The fourth root of the rounding error, and a thousand of it where numbers are large."""
    x = torch.full((2, 1), size)
    with pytest.raises(ValueError, match=f"; use about {suggested}, or float64"):
        losses.sliced_energy(lambda x: -x.square().sum(-1), x, step=1e-6)
    losses.sliced_energy(lambda x: -x.square().sum(-1), x, step=1.01 * float(suggested), generator=Generator())
