"""The laws of objectives beside R07: weights in terms of the score, references, gradients, the table, energies."""

import copy
import itertools
import math

import pytest
import torch
from cases import (
    DENSITIES,
    F64,
    densities,
    each_prediction,
    each_process,
    f64,
    learned,
    middle_time,
    z_limit,
)
from scipy import integrate
from torch import Generator, nn
from torch.testing import assert_close

from scorefield.diffusion import times
from scorefield.diffusion.denoisers import ExactDenoiser, ScoreModel
from scorefield.diffusion.densities import GaussianMixture, posterior_of_rows
from scorefield.diffusion.networks import Energy, Ensemble
from scorefield.diffusion.prediction import PREDICTIONS
from scorefield.diffusion.published import VP
from scorefield.numerics.tensors import match, normal_like
from scorefield.selftest.numbers.matching import WavyEnergy
from scorefield.selftest.numbers.quadrature import constant, grid_of_pairs, half_distance, hermite, noise_weight
from scorefield.training.objectives import losses, table
from scorefield.training.objectives.losses import WEIGHTS, denoising, second_order
from scorefield.training.objectives.table import OBJECTIVES

each_weight = pytest.mark.parametrize("weight", [None, *WEIGHTS])


def equal_steps() -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes and weights of a standard normal at equal steps: where a posterior mean has poles, Gauss is slow."""
    nodes = torch.linspace(-9, 9, 361, dtype=F64)
    return nodes, torch.distributions.Normal(0, 1).log_prob(nodes).exp() * 0.05


def given_noise(monkeypatch, noise: torch.Tensor) -> None:
    """Let the objectives draw this noise."""
    monkeypatch.setattr(losses, "normal_like", lambda x, generator=None: noise)


# ----------------------------------------------------------------------------------------- Vincent's identity


@densities(1)
@each_process
@each_weight
def test_no_model_beats_the_oracle(density, process, weight, monkeypatch):
    """The loss of the exact model is the constant alone."""
    t = middle_time(process, 0.5)
    clean, noise, share = grid_of_pairs(density, 160)
    given_noise(monkeypatch, noise)
    model = ExactDenoiser(density, process)
    w, rest = noise_weight(model, t, weight), constant(density, process, t, fineness=12.0)
    assert_close(share @ denoising(model, clean, t, weight=weight), w * rest, rtol=1e-8, atol=0)


@each_prediction
def test_the_identity_holds_by_monte_carlo_in_two_dimensions(predicts):
    """Paired differences of both sides on the same 1e5 points: a z-test, false alarm 1e-6."""
    density, process, n = DENSITIES["mixture-2d"], VP(), 100_000
    t = middle_time(process, 0.6)
    a, s = process.mean_coef(t), process.std(t)
    clean = density.sample(n, Generator().manual_seed(1))
    noise = normal_like(clean, Generator().manual_seed(2))
    rest = constant(density, process, t, fineness=6.0)
    model = learned(process, predicts, 2, seed=3)
    with torch.no_grad():
        distance = half_distance(model, density, a * clean + s * noise, t)
        for weight in (None, *WEIGHTS):
            loss = denoising(model, clean, t, weight=weight, generator=Generator().manual_seed(2))
            difference = loss / noise_weight(model, t, weight) - distance - rest
            assert abs(float(difference.mean() / difference.std())) * n**0.5 < z_limit(5 * len(WEIGHTS) + 5)


# ------------------------------------------------------------------------------------------------- references

ROWS = f64([-1.2], [-0.3], [0.1], [1.9], [2.0])


@pytest.mark.parametrize("ratio", [1e-2, 0.3, 2.0, 100.0])
@pytest.mark.parametrize("event", [(1,), (3,), (2, 3, 2)], ids=str)
def test_the_posterior_of_rows_is_that_of_point_masses(ratio, event):
    """posterior_of_rows is GaussianMixture.posterior without covariances, at one time and at one a row."""
    d, generator = math.prod(event), Generator().manual_seed(0)
    rows = torch.randn(6, *event, dtype=F64, generator=generator)
    masses = GaussianMixture.kde(rows.flatten(1), 0.0)
    a = torch.linspace(1.0, 0.2, 9, dtype=F64)
    s = a * ratio * torch.linspace(0.7, 1.1, 9, dtype=F64)
    noise = torch.randn(9, d, dtype=F64, generator=generator)
    x = a[:, None] * masses.sample(9, generator) + s[:, None] * noise
    shaped = x.reshape(-1, *event)
    for b, r in [(a, s), (a[3], s[3])]:
        parts = posterior_of_rows(shaped, rows, match(b, shaped), match(r, shaped))
        for part, truth in zip(parts, masses.posterior(x, b, r), strict=True):
            assert part.shape == (9, *event)
            assert_close(part.flatten(1), truth, rtol=1e-9, atol=1e-12 / ratio)


@each_process
@each_weight
def test_with_all_data_as_references_their_oracle_has_no_loss(process, weight):
    """The target is then exactly what the empirical density predicts, so nothing of the noise is left."""
    model = ExactDenoiser(GaussianMixture.kde(ROWS, 0.0), process)
    times = torch.stack([middle_time(process, ratio) for ratio in (0.05, 0.3, 1.0, 3.0, 50.0)])
    for t in (times, times[1]):
        draw = Generator().manual_seed(1)
        loss = denoising(model, ROWS, t, weight=weight, references=ROWS, generator=draw)
        assert float((loss / noise_weight(model, t, weight)).abs().max()) <= 1e-20


@each_process
@each_prediction
def test_references_change_the_loss_by_a_constant(process, predicts, monkeypatch):
    """Averaged over all rows and noise, by quadrature: the same gradient for any model, a smaller loss."""
    t = middle_time(process, 0.5)
    nodes, weights = equal_steps()
    clean, noise = ROWS.repeat_interleave(len(nodes), 0), nodes.repeat(len(ROWS))[:, None]
    share = weights.repeat(len(ROWS)) / len(ROWS)
    given_noise(monkeypatch, noise)
    model = learned(process, predicts, 1)
    plain = share @ denoising(model, clean, t)
    informed = share @ denoising(model, clean, t, references=ROWS)
    assert float(informed.detach()) < float(plain.detach())
    gradients = [torch.autograd.grad(loss, list(model.parameters())) for loss in (plain, informed)]
    scale = max(float(gradient.abs().max()) for gradient in gradients[0])
    for one, other in zip(*gradients, strict=True):
        assert_close(one, other, rtol=0, atol=1e-8 * scale)


# ---------------------------------------------------------------------------------------------------- weights


@each_process
@each_prediction
def test_weights_are_those_of_the_score(process, predicts):
    """1/2 lambda |score of the model - grad log kernel|^2 with lambda = s^2, 1, s^4/a^2, g^2, ..."""
    times = torch.stack([middle_time(process, ratio) for ratio in (0.02, 0.2, 1.0, 5.0)])
    clean = torch.randn(4, 3, dtype=F64, generator=Generator().manual_seed(1)) + 0.5
    noise = normal_like(clean, Generator().manual_seed(2))
    model = learned(process, predicts, 3)
    a, s, g = process.mean_coef(times), process.std(times), process.diffusion(times)
    x = (a[:, None] * clean + s[:, None] * noise).requires_grad_()
    log_kernel = torch.distributions.Normal(a[:, None] * clean, s[:, None]).log_prob(x).sum()
    (target,) = torch.autograd.grad(log_kernel, x)
    error = (model.score(x, times) - target).square().sum(1) / 2
    scales = {"noise": s**2, "score": torch.ones(4, dtype=F64), "clean": s**4 / a**2, "likelihood": g**2}
    snr = a**2 / s**2
    scales |= {"min-snr": s**4 / a**2 * snr.clamp(max=5), "edm": s**4 / a**2 * (1 + snr)}
    assert set(scales) == set(WEIGHTS)
    for weight, scale in scales.items():
        loss = denoising(model, clean, times, weight=weight, generator=Generator().manual_seed(2))
        assert_close(loss, scale * error, rtol=1e-9, atol=0)


@each_process
@each_prediction
def test_without_a_weight_it_is_the_error_of_the_prediction(process, predicts):
    times = torch.stack([middle_time(process, ratio) for ratio in (0.002, 0.2, 1.0, 5.0)])
    clean = torch.randn(4, 3, dtype=F64, generator=Generator().manual_seed(1)) + 0.5
    noise = normal_like(clean, Generator().manual_seed(2))
    model = learned(process, predicts, 3)
    a, s = process.kernel(times, clean)
    p, q = model.coefficients(times)
    error = model.predict(a * clean + s * noise, times) - (p[:, None] * clean + q[:, None] * noise)
    loss = denoising(model, clean, times, generator=Generator().manual_seed(2))
    assert_close(loss, error.square().sum(1) / 2, rtol=1e-13, atol=0)


def test_an_unknown_weight_is_named():
    model = learned(VP(), "v", 2)
    with pytest.raises(ValueError, match=r"weight must be one of \['noise', 'score', .*\]; got 'flat'"):
        denoising(model, torch.ones(3, 2, dtype=F64), f64(0.5)[0], weight="flat", generator=Generator())


# --------------------------------------------------------------------------------------- shapes and gradients


@pytest.mark.parametrize(
    ("predicts", "weight"), list(zip(PREDICTIONS, itertools.cycle([None, *WEIGHTS]), strict=False))
)
def test_gradients_are_right(predicts, weight):
    """gradcheck in float64 with respect to data and parameters, the noise held fixed."""
    model = learned(VP(), predicts, 2)
    x = torch.randn(3, 2, dtype=F64, generator=Generator().manual_seed(0)).requires_grad_()
    t = torch.stack([middle_time(VP(), ratio) for ratio in (0.1, 1.0, 4.0)])
    draw = lambda x, *parameters: denoising(model, x, t, weight=weight, generator=Generator().manual_seed(1))
    assert torch.autograd.gradcheck(draw, (x, *model.parameters()), atol=1e-6)


@pytest.mark.parametrize("event", [(1,), (3,), (2, 3, 2)], ids=str)
@each_weight
def test_each_sample_has_its_own_number(event, weight):
    """Row i depends on its data, time and noise alone; one time for all is that time for each."""
    model = learned(VP(), "v", math.prod(event))
    x = torch.randn(4, *event, dtype=F64, generator=Generator().manual_seed(0))
    t = f64(0.1, 0.3, 0.5, 0.9)
    loss = lambda x, t: denoising(model, x, t, weight=weight, generator=Generator().manual_seed(1)).detach()
    together = loss(x, t)
    assert together.shape == (4,)
    assert together.dtype == F64
    other = x.clone()
    other[2] += 1.0
    changed = loss(other, t) != together
    assert changed.tolist() == [False, False, True, False]
    assert_close(loss(x, t[1]), loss(x, t[1].expand(4)), rtol=1e-14, atol=0)
    assert_close(loss(x, t[1])[1], together[1], rtol=1e-14, atol=0)


def test_the_noise_belongs_to_the_generator_and_to_each_number():
    """Standard normal, one draw for each number of the batch, the same for the same generator."""
    model = learned(VP(), "noise", 1, net=ZeroNet())
    x, t = torch.zeros(50_000, 1, dtype=F64), f64(0.5)[0]
    draw = lambda seed: denoising(model, x, t, generator=Generator().manual_seed(seed))
    loss = draw(0)  # half a squared standard normal: mean 1/2, variance 1/2
    assert torch.equal(loss, draw(0))
    assert not torch.equal(loss, draw(1))
    assert abs(float(loss.mean() - 0.5)) * (2 * len(loss)) ** 0.5 < z_limit()
    assert len(loss.unique()) == len(loss)


class ZeroNet(nn.Module):
    def forward(self, z, log_ratio):
        return torch.zeros_like(z)


@each_process
@each_prediction
def test_float32_loses_nothing(process, predicts):
    """A prediction is compared with its own target, so nothing cancels, even at the smallest noise."""
    times = torch.stack([middle_time(process, ratio) for ratio in (1e-3, 0.05, 1.0, 20.0)])
    x = torch.randn(4, 3, generator=Generator().manual_seed(1))
    double = learned(process, predicts, 3)
    single = copy.deepcopy(double).float()
    for weight in (None, *WEIGHTS):
        draw = lambda model, x, weight=weight: denoising(
            model, x, times, weight=weight, generator=Generator().manual_seed(2)
        )
        loss = draw(single, x)
        assert loss.dtype == torch.float32
        assert_close(loss.double(), draw(double, x.double()), rtol=1e-4, atol=0)


def test_targets_averaged_over_the_batch_have_the_same_mean_gradient():
    """Exact: data uniform on three values, all ordered batches of two, quadrature over the noise of one.

    The mean loss differs by a constant (the variance that is gone), so its gradient must not differ at all.
    """
    process, values = VP(), f64(-1.0, 0.2, 1.5)
    nodes, weights = equal_steps()
    model, t = learned(process, "v", 1, seed=2), middle_time(process, 0.7)
    a, s = process.mean_coef(t), process.std(t)
    plain, averaged = 0.0, 0.0
    for batch in itertools.product(values, repeat=2):
        rows = torch.stack(batch)[:, None]
        x, noise = rows[0].expand(len(nodes), 1), nodes[:, None]
        noisy = a * x + s * noise
        p, q = model.coefficients(t)
        prediction = model.predict(noisy, t)
        clean, mean_noise = posterior_of_rows(noisy, rows, a, s)
        plain = plain + (weights @ (prediction - p * x - q * noise).square())[0] / 18
        averaged = averaged + (weights @ (prediction - p * clean - q * mean_noise).square())[0] / 18
    assert float(averaged.detach()) < float(plain.detach()) - 0.01
    for g, h in zip(
        torch.autograd.grad(plain, list(model.parameters()), retain_graph=True),
        torch.autograd.grad(averaged, list(model.parameters())),
        strict=True,
    ):
        assert (g - h).abs().max() < 1e-9


def test_denoising_with_references_is_the_loss_against_the_mean_over_the_rows(monkeypatch):
    """The noise drawn is the same; the target is E[Z | noisy, rows], that of point masses at the rows."""
    process = VP()
    model, t = learned(process, "v", 2, seed=2), middle_time(process, 0.4)
    x = torch.randn(5, 2, dtype=F64, generator=Generator().manual_seed(0))
    z = torch.randn(5, 2, dtype=F64, generator=Generator().manual_seed(1))
    monkeypatch.setattr(losses, "normal_like", lambda x, generator: z)
    found = losses.denoising(model, x, t, references=x)
    a, s = process.mean_coef(t), process.std(t)
    masses = GaussianMixture(torch.ones(5, dtype=F64), x, torch.zeros(1, 2, 2, dtype=F64))
    clean, noise = masses.posterior(a * x + s * z, a, s)
    p, q = model.coefficients(t)
    expected = (model.predict(a * x + s * z, t) - (p * clean + q * noise)).square().sum(1) / 2
    assert (found - expected).abs().max() < 1e-10


# ------------------------------------------------------------------------------------- any objective at any level

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


@each_process
@pytest.mark.parametrize("predicts", ["v", "noise"])
@pytest.mark.parametrize("objective", UNBIASED[1:])
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
