"""The laws of models: two parts that make up x, scores, velocities that carry the density, the oracle."""

import pytest
import torch
from cases import (
    DENSITIES,
    F64,
    Zero,
    each_density,
    each_prediction,
    each_process,
    f64,
    learned,
    middle_time,
    points,
)
from torch import Generator, nn
from torch.testing import assert_close

from scorefield.diffusion.denoisers import Denoiser, ExactDenoiser, ScoreModel
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.networks import MLP
from scorefield.diffusion.prediction import PREDICTIONS
from scorefield.diffusion.published import VE, VP, Straight
from scorefield.numerics.tensors import signs_like


def times_of(process) -> torch.Tensor:
    """Seven times with ratios from 1e-3 to the largest, t_max last."""
    times = torch.stack([middle_time(process, ratio) for ratio in (1e-3, 0.01, 0.1, 0.5, 2.0, 100.0, 1e9)])
    times[-1] = process.t_max
    return times


def noisy(process, times, dim: int, dtype=F64) -> torch.Tensor:
    """A row of noised data for each time, from data of mean 1/2."""
    draw = lambda: torch.randn(len(times), dim, dtype=F64, generator=generator)
    generator = Generator().manual_seed(4)
    a, s = process.mean_coef(times), process.std(times)
    return (a[:, None] * (0.5 + draw()) + s[:, None] * draw()).to(dtype)


# -------------------------------------------------------------------------------------------------- decompose


@each_process
@each_prediction
@pytest.mark.parametrize("dtype", [F64, torch.float32], ids=["f64", "f32"])
def test_the_two_parts_make_up_x_and_the_prediction(process, predicts, dtype):
    """a clean + s noise = x and p clean + q noise = y, to the rounding of Cramer's rule, for any network."""
    model = learned(process, predicts, 3, data_std=1.3).to(dtype)
    times = times_of(process)
    x = noisy(process, times, 3, dtype)
    with torch.no_grad():
        y, (clean, noise) = model.predict(x, times), model.decompose(x, times)
    assert y.dtype == clean.dtype == noise.dtype == dtype
    assert bool((clean.isfinite() & noise.isfinite()).all())
    a, s, p, q = (c[:, None] for c in (process.mean_coef(times), process.std(times), *model.coefficients(times)))
    x, y, clean, noise = (part.double() for part in (x, y, clean, noise))
    det = (a * q - s * p).abs()
    of_x = ((a * q).abs() + (s * p).abs()) * x.abs() + 2 * (a * s * y).abs()
    of_y = ((a * q).abs() + (s * p).abs()) * y.abs() + 2 * (p * q * x).abs()
    limit = 4 * torch.finfo(dtype).eps
    assert float(((a * clean + s * noise - x).abs() * det / of_x).max()) <= limit
    assert float(((p * clean + q * noise - y).abs() * det / of_y).max()) <= limit


@each_process
@each_prediction
def test_score_is_the_noise_over_its_std(process, predicts):
    model, times = learned(process, predicts, 3), times_of(process)
    x = noisy(process, times, 3)
    with torch.no_grad():
        score, (_, noise) = model.score(x, times), model.decompose(x, times)
        assert_close(score, -noise / process.std(times)[:, None], rtol=1e-14, atol=0)
        assert_close(model.at(times[3])(x), model.score(x, times[3]), rtol=0, atol=0)


@each_process
@each_prediction
def test_velocity_is_the_probability_flow(process, predicts):
    """a' clean + s' noise = f x - g^2/2 score (Song et al., 2021, eq. 13), for any model."""
    model, times = learned(process, predicts, 3), times_of(process)
    x = noisy(process, times, 3)
    with torch.no_grad():
        velocity, score, (clean, noise) = (
            model.velocity(x, times),
            model.score(x, times),
            model.decompose(x, times),
        )
    f, g = process.drift(times)[:, None], process.diffusion(times)[:, None]
    a, s = process.mean_coef(times)[:, None], process.std(times)[:, None]
    size = (f * a * clean).abs() + (f * s * noise).abs() + (g**2 * score).abs()
    assert float(((velocity - (f * x - g**2 / 2 * score)).abs() / size).max()) <= 1e-13


@each_process
@each_prediction
def test_times_for_rows_are_times(process, predicts):
    """A batch at its own times is each row at its own time, and one time for all is that time for each."""
    model, times = learned(process, predicts, 3), times_of(process)
    x = noisy(process, times, 3)
    with torch.no_grad():
        together = model.decompose(x, times)
        for i in range(len(x)):
            alone = model.decompose(x[i : i + 1], times[i])
            for part, row in zip(together, alone, strict=True):
                assert_close(part[i : i + 1], row, rtol=1e-11, atol=1e-11)


class Recorder(nn.Module):
    """Answers zero and remembers what it was asked."""

    def forward(self, z, log_ratio):
        self.z, self.log_ratio = z, log_ratio
        return torch.zeros_like(z)


@each_process
@pytest.mark.parametrize("dtype", [F64, torch.float32], ids=["f64", "f32"])
def test_the_network_sees_unit_variance_and_the_log_ratio(process, dtype):
    """z = x / sqrt(a^2 d^2 + s^2), of unit variance for data of std d; log(s/a), exact in float32 too."""
    model = learned(process, "v", 3, data_std=0.7, net=Recorder())
    times = times_of(process)
    for t in (times, times[2], times.float()):  # a time in float32 counts as the number that it is
        x = torch.ones(7, 3, dtype=dtype)
        model.predict(x, t)
        a, s = process.mean_coef(t.double()), process.std(t.double())
        assert model.net.z.dtype == model.net.log_ratio.dtype == dtype
        assert model.net.log_ratio.shape == (7,)
        scale = (a**2 * 0.49 + s**2).sqrt().reshape(-1, 1).expand(7, 3)
        rounding = 4 * torch.finfo(dtype).eps
        assert_close(model.net.z.double() * scale, torch.ones(7, 3, dtype=F64), rtol=rounding, atol=0)
        log_ratio = (s / a).log().expand(7)
        assert_close(model.net.log_ratio.double(), log_ratio, rtol=rounding, atol=rounding)


@each_prediction
@pytest.mark.parametrize("event", [(1,), (3, 4, 5)], ids=str)
def test_events_of_any_shape(predicts, event):
    process = VP()
    x = torch.randn(6, *event, dtype=F64, generator=Generator().manual_seed(0))
    model = learned(process, predicts, x[0].numel())
    with torch.no_grad():
        for t in (f64(0.3)[0], f64(0.1, 0.2, 0.3, 0.5, 0.9, 1.0)):
            clean, noise = model.decompose(x, t)
            a, s = process.kernel(t, x)
            assert_close(a * clean + s * noise, x, rtol=1e-9, atol=1e-9)
            assert model.score(x, t).shape == model.velocity(x, t).shape == x.shape


# -------------------------------------------------------------------------------------------------- processes


@pytest.mark.parametrize("predicts", ["v", "clean", "noise"])
@pytest.mark.parametrize("target", [VP(1.0, 5.0), VE(), Straight()], ids=str)
def test_a_model_survives_a_change_of_process(predicts, target):
    """The same network under another process, at the same ratio and the rescaled x, gives the same parts."""
    source = VP()
    ratios = f64(0.002, 0.05, 0.4, 1.0, 3.0)
    t, u = source.time(ratios), target.time(ratios)
    x = noisy(source, t, 3)
    model = learned(source, predicts, 3, data_std=1.3)
    moved = learned(target, predicts, 3, data_std=1.3, net=model.net)
    y = x * (target.mean_coef(u) / source.mean_coef(t))[:, None]
    with torch.no_grad():
        for part, same in zip(model.decompose(x, t), moved.decompose(y, u), strict=True):
            assert_close(part, same, rtol=1e-9, atol=1e-9)


# ----------------------------------------------------------------------------------------------------- oracle


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
