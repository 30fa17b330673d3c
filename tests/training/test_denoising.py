"""The laws of denoising score matching: its identity, references, weights, one number a sample, gradients."""

import copy
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
    z_limit,
)
from given_noise import given_noise
from torch import Generator, nn
from torch.testing import assert_close

from scorefield.diffusion.denoisers import ExactDenoiser
from scorefield.diffusion.densities import GaussianMixture, posterior_of_rows
from scorefield.diffusion.prediction import PREDICTIONS
from scorefield.diffusion.published import VP
from scorefield.numerics.tensors import match, normal_like
from scorefield.selftest.numbers.quadrature import constant, grid_of_pairs, half_distance, noise_weight
from scorefield.training.objectives import losses
from scorefield.training.objectives.losses import WEIGHTS, denoising

each_weight = pytest.mark.parametrize("weight", [None, *WEIGHTS])


def equal_steps() -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes and weights of a standard normal at equal steps: where a posterior mean has poles, Gauss is slow."""
    nodes = torch.linspace(-9, 9, 361, dtype=F64)
    return nodes, torch.distributions.Normal(0, 1).log_prob(nodes).exp() * 0.05


# ----------------------------------------------------------------------------------------- Vincent's identity


@pytest.mark.slow
@covering(3, process=PROCESSES, density={n: p for n, p in DENSITIES.items() if p.dim == 1}, weight=[None, *WEIGHTS])
def test_no_model_beats_the_oracle(density, process, weight, monkeypatch):
    """The loss of the exact model is the constant alone."""
    t = middle_time(process, 0.5)
    clean, noise, share = grid_of_pairs(density, 160)
    given_noise(monkeypatch, noise)
    model = ExactDenoiser(density, process)
    w, rest = noise_weight(model, t, weight), constant(density, process, t, fineness=12.0)
    assert_close(share @ denoising(model, clean, t, weight=weight), w * rest, rtol=1e-8, atol=0)


@pytest.mark.slow
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


@covering(3, process=PROCESSES, weight=[None, *WEIGHTS])
def test_with_all_data_as_references_their_oracle_has_no_loss(process, weight):
    """The target is then exactly what the empirical density predicts, so nothing of the noise is left."""
    model = ExactDenoiser(GaussianMixture.kde(ROWS, 0.0), process)
    times = torch.stack([middle_time(process, ratio) for ratio in (0.05, 0.3, 1.0, 3.0, 50.0)])
    for t in (times, times[1]):
        draw = Generator().manual_seed(1)
        loss = denoising(model, ROWS, t, weight=weight, references=ROWS, generator=draw)
        assert float((loss / noise_weight(model, t, weight)).abs().max()) <= 1e-20


@covering(2, process=PROCESSES, predicts=list(PREDICTIONS))
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
