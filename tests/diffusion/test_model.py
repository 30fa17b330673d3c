"""The laws of a model: its two parts, score, velocity, what its network sees, changes of process."""

import pytest
import torch
from cases import (
    F64,
    each_prediction,
    each_process,
    f64,
    learned,
)
from noisy_points import noisy, times_of
from torch import Generator, nn
from torch.testing import assert_close

from scorefield.diffusion.published import VE, VP, Straight


@pytest.mark.slow
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
