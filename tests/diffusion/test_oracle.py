"""The laws of the exact model, of the prior, and of the divergence in closed form."""

import pytest
import torch
from cases import (
    DENSITIES,
    F64,
    Zero,
    each_density,
    each_process,
    f64,
    learned,
    middle_time,
    points,
)
from noisy_points import noisy, times_of
from torch import Generator
from torch.testing import assert_close

from scorefield.diffusion.denoisers import Denoiser, ExactDenoiser, ScoreModel
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.networks import MLP
from scorefield.diffusion.prediction import PREDICTIONS
from scorefield.diffusion.published import VP
from scorefield.numerics.tensors import signs_like


@each_process
@pytest.mark.parametrize("data_std", [0.4, 1.0, 3.0])
def test_a_zero_network_is_the_model_of_gaussian_data(process, data_std):
    """With the prediction 'v' and data std d, answering zero is exact for N(0, d^2 I)."""
    model = learned(process, "v", 3, data_std=data_std, net=Zero())
    oracle = ExactDenoiser(GaussianMixture.gaussian(model.mean, model.covariance), process)
    times = times_of(process)
    x = 3 * noisy(process, times, 3)
    for t in (times, times[3]):
        assert_close(model.decompose(x, t), oracle.decompose(x, t), rtol=1e-13, atol=0)
        assert_close(model.score(x, t), oracle.score(x, t), rtol=1e-13, atol=0)
        a_rate, s_rate = process.mean_rate(t).reshape(-1, 1), process.std_rate(t).reshape(-1, 1)
        clean, noise = oracle.decompose(x, t)
        size = (a_rate * clean).abs() + (s_rate * noise).abs()  # they cancel exactly where the law stands still
        assert_close(model.velocity(x, t) / size, oracle.velocity(x, t) / size, rtol=0, atol=1e-13)
    assert_close(model.prior().covariance, oracle.prior().covariance, rtol=1e-14, atol=0)


@pytest.mark.slow
@each_density
@each_process
def test_the_oracle_is_the_noised_density(density, process):
    oracle = ExactDenoiser(density, process)
    for ratio in (0.01, 0.5, 50.0):
        t = middle_time(process, ratio)
        a, s = process.mean_coef(t), process.std(t)
        noised = density.noised(a, s)
        x = points(noised, 20)
        clean, noise = oracle.decompose(x, t)
        size = 1 + float(x.abs().max())
        assert_close(a * clean + s * noise, x, rtol=0, atol=1e-14 * size)
        assert_close(noise, -s * noised.score(x), rtol=1e-9, atol=1e-11)
        assert_close(oracle.score(x, t), noised.score(x), rtol=1e-9, atol=1e-11 / float(s))
        assert_close(oracle.predict(x, t), noise, rtol=0, atol=0)
        assert [float(c) for c in oracle.coefficients(t)] == [0.0, 1.0]


@each_process
@pytest.mark.parametrize("name", ["mixture-1d", "mixture-2d"])
def test_the_velocity_carries_the_density(name, process):
    """The continuity equation d/dt p + div (p velocity) = 0 at fixed x, with d/dt by central differences.

    In logarithms: d/dt log p = -div velocity - velocity . score. This ties the process, the noised density
    and the oracle together; half a score or a wrong rate cannot pass.
    """
    density = DENSITIES[name]
    oracle = ExactDenoiser(density, process)
    log_prob = lambda t, x: density.noised(process.mean_coef(t), process.std(t)).log_prob(x)
    for ratio in (0.05, 0.5, 5.0):
        t = middle_time(process, ratio)
        x = points(density.noised(process.mean_coef(t), process.std(t)), 10, spread=1.0).requires_grad_()
        h = 1e-3 * min(float(t), process.t_max - float(t))
        moves = [(log_prob(t + k * h, x) - log_prob(t - k * h, x)) / (2 * k * h) for k in (1, 2, 3)]
        rate = (15 * moves[0] - 6 * moves[1] + moves[2]) / 10  # an error of order h^6
        velocity, score = oracle.velocity(x, t), oracle.score(x, t)
        columns = [torch.autograd.grad(velocity[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(x.shape[1])]
        transport = -sum(columns) - (velocity * score).sum(1)
        size = sum(column.abs() for column in columns) + (velocity * score).abs().sum(1)
        assert float(((rate - transport).abs() / size).max().detach()) <= 1e-8


@each_process
def test_the_velocity_is_that_of_the_exact_flow(process):
    """Gaussian data flow along a m + C_t^(1/2) w, C_t = a^2 C + s^2 I, w fixed: d/dt is the velocity."""
    mean, values = f64(0.7, -1.2), f64(1.5, 0.3)
    oracle = ExactDenoiser(GaussianMixture.gaussian(mean, values.diag()), process)
    w = f64(0.8, -1.1)

    def path(t):
        a, s = process.mean_coef(t)[:, None], process.std(t)[:, None]
        return a * mean + (a**2 * values + s**2).sqrt() * w

    times = times_of(process)
    x, rate = torch.func.jvp(path, (times,), (torch.ones_like(times),))
    size = rate.abs() + (process.drift(times)[:, None] * x).abs()
    assert float(((oracle.velocity(x, times) - rate).abs() / size).max()) <= 1e-12


@each_density
def test_the_oracle_answers_in_float32(density):
    oracle = ExactDenoiser(
        GaussianMixture(density.weights.float(), density.means.float(), density.covariances.float()), VP()
    )
    x = points(density, 5).float()
    t = f64(0.001, 0.1, 0.3, 0.5, 1.0)
    for part in (*oracle.decompose(x, t), oracle.score(x, t), oracle.velocity(x, t), oracle.predict(x, t)):
        assert part.dtype == torch.float32
        assert bool(part.isfinite().all())


# ------------------------------------------------------------------------------------------------------ prior


@each_process
@pytest.mark.parametrize("name", ["gauss-3d", "mixture-2d", "kde-2d"])
def test_the_prior_is_where_the_noised_data_are(name, process):
    """N(a m, a^2 C + s^2 I) at t_max: the moments of the noised data, their law where they are normal."""
    density = DENSITIES[name]
    prior = ExactDenoiser(density, process).prior()
    t = torch.tensor(process.t_max, dtype=F64)
    noised = density.noised(process.mean_coef(t), process.std(t))
    assert len(prior.weights) == 1
    assert_close(prior.mean, noised.mean, rtol=1e-13, atol=1e-13)
    assert_close(prior.covariance, noised.covariance, rtol=1e-12, atol=1e-12)
    if len(density.weights) == 1:
        x = points(noised, 10)
        assert_close(prior.log_prob(x), noised.log_prob(x), rtol=1e-12, atol=1e-12)


def test_the_moments_travel_with_the_model():
    """They are buffers: saved, loaded and converted with the weights, and no gradient reaches them."""
    mean, covariance = f64(0.5, -1.0), f64([1.0, 0.2], [0.2, 0.5])
    model = ScoreModel(Zero(), VP(), mean, covariance)
    assert {"mean", "covariance"} <= set(model.state_dict())
    assert not {"mean", "covariance"} & {name for name, _ in model.named_parameters()}
    assert model.float().prior().mean.dtype == torch.float32


# ----------------------------------------------------------------------------------------------------- errors


def test_an_unknown_prediction_is_named():
    with pytest.raises(ValueError, match=r"predicts must be one of \['noise', .*\]; got 'epsilon'"):
        learned(VP(), "epsilon", 2)


@each_process
@pytest.mark.parametrize("predicts", [name for name in PREDICTIONS if name in {"clean", "score"}])
def test_a_prediction_that_says_nothing_at_the_data_is_refused_there(process, predicts):
    model = learned(process, predicts, 2, net=Zero())
    with pytest.raises(ValueError, match=f"'{predicts}' cannot be turned into clean and noise at t=0 of"):
        model.decompose(torch.ones(3, 2, dtype=F64), torch.tensor(0.0, dtype=F64))


def test_a_denoiser_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Denoiser(VP(), torch.zeros(1), torch.eye(1))


@pytest.mark.parametrize("t", [0.003, 0.2, 0.95])
@pytest.mark.parametrize("kind", ["isotropic", "full", "shared"])
def test_the_divergence_in_closed_form_is_that_of_automatic_differentiation(kind, t):
    """Exact model and a network on a base, for one time and a time a row: to 1e-9 of the largest term; probes add up."""
    draw = Generator().manual_seed(0)
    means = torch.randn(4, 3, dtype=F64, generator=draw)
    roots = torch.randn(1 if kind == "shared" else 4, 3, 3, dtype=F64, generator=draw) / 3
    covariances = 0.04 * torch.eye(3, dtype=F64)[None] if kind == "isotropic" else roots @ roots.mT
    density = GaussianMixture(f64(0.4, 0.3, 0.2, 0.1), means, covariances)
    x = torch.randn(7, 3, dtype=F64, generator=draw)
    net = MLP(3, 16, 2, 8, generator=draw).double()
    torch.nn.init.normal_(net.layers[-1].weight, generator=draw)
    models = [
        ExactDenoiser(density, VP()),
        ScoreModel(net, VP(), density.mean, density.covariance, base=density),
        ScoreModel(net, VP(), density.mean, density.covariance, "noise", base=density),
    ]
    for model in models:
        for time in (f64(t)[0], torch.linspace(t, t + 0.05, 7, dtype=F64)):
            noise, divergence = model.noise_and_divergence(x, time)
            expected, exact = Denoiser.noise_and_divergence(model, x, time)
            scale = 1 / float(VP().std(f64(t)[0]))
            assert (noise - expected).abs().max() < 1e-9 * scale
            assert (divergence - exact).abs().max() < 1e-9 * scale**2
            signs = torch.stack([signs_like(x, draw) for _ in range(3)])
            probed = model.noise_and_divergence(x, time, 3**0.5 * torch.eye(3, dtype=F64)[:, None].expand(3, 7, 3))[1]
            assert (probed.mean(0) - exact).abs().max() < 1e-9 * scale**2
            assert model.noise_and_divergence(x, time, signs)[1].shape == (3, 7)
