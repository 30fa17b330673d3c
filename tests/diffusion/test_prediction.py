"""The laws of the prediction table: the 2x2 solve inverts each row, and each row means what its name says."""

import re

import numpy as np
import pytest
import torch
from cases import F64, each_prediction, each_process, each_process_case, f64
from torch.testing import assert_close

from scorefield.diffusion.prediction import PREDICTIONS, coefficients, noise_gain, solve
from scorefield.diffusion.published import VE, VP, Straight

EPS = torch.finfo(F64).eps


def times_of(process, n: int = 60) -> torch.Tensor:
    """Times whose ratios run from 1e-6 to the largest, t_max itself last."""
    largest = float(process.ratio(f64(process.t_max)))
    times = process.time(torch.logspace(-6, np.log10(largest), n, dtype=F64))
    times[-1] = process.t_max
    return times


def parts(n: int, generator) -> tuple[torch.Tensor, torch.Tensor]:
    """A clean and a noise part for each of n times, 5 rows each, of unequal size."""
    clean = 1.5 + 0.7 * torch.randn(n, 5, dtype=F64, generator=generator)
    return clean, torch.randn(n, 5, dtype=F64, generator=generator)


def shaped(*columns: torch.Tensor) -> list[torch.Tensor]:
    return [column[:, None] for column in columns]


@pytest.mark.slow
@each_process
@each_prediction
@pytest.mark.parametrize("data_std", [1.0, 0.4, 3.0])
def test_solve_inverts_the_prediction(process, predicts, data_std, generator):
    """(clean, noise) -> (x, y) -> (clean, noise), to the rounding that their condition allows."""
    t = times_of(process)
    a, s, p, q = shaped(process.mean_coef(t), process.std(t), *coefficients(predicts, process, t, data_std))
    clean, noise = parts(len(t), generator)
    solved = solve(a * clean + s * noise, p * clean + q * noise, a, s, p, q)
    rows = torch.nn.functional.normalize(torch.stack([torch.cat([a, s], 1), torch.cat([p, q], 1)], 1), dim=-1)
    condition = torch.linalg.cond(rows)[:, None]
    size = clean.abs() + noise.abs()
    for answer, truth in zip(solved, (clean, noise), strict=True):
        assert float(((answer - truth).abs() / (size * condition)).max()) <= 4 * EPS


@each_process
@pytest.mark.parametrize("predicts", ["noise", "v", "velocity"])
def test_conversions_round_trip_to_1e_12(process, predicts, generator):
    """R02: at every ratio from 1e-6 to 100, where none of these three rows is ill-conditioned."""
    t = times_of(process)
    t = t[process.ratio(t) <= 100]
    a, s, p, q = shaped(process.mean_coef(t), process.std(t), *coefficients(predicts, process, t))
    clean, noise = parts(len(t), generator)
    solved = solve(a * clean + s * noise, p * clean + q * noise, a, s, p, q)
    assert_close(solved, (clean, noise), rtol=1e-12, atol=1e-12)


@each_process
@each_prediction
def test_the_solved_parts_make_up_x(process, predicts, generator):
    """a clean + s noise = x and p clean + q noise = y for any y at all, not only for a possible one."""
    t = times_of(process)
    t = t[process.ratio(t) >= 1e-3]
    a, s, p, q = shaped(process.mean_coef(t), process.std(t), *coefficients(predicts, process, t))
    x, y = parts(len(t), generator)
    clean, noise = solve(x, y, a, s, p, q)
    for left, (one, two), right in [("x", (a * clean, s * noise), x), ("y", (p * clean, q * noise), y)]:
        size = one.abs() + two.abs() + right.abs()
        assert float(((one + two - right).abs() / size).max()) <= 1e-12, left


# ----------------------------------------------------------------------------------------- what the rows mean


@each_process
def test_score_is_the_gradient_of_the_log_kernel(process, generator):
    """q noise = grad_x log N(x; a clean, s^2) at x = a clean + s noise."""
    t = times_of(process, 20)
    a, s, p, q = shaped(process.mean_coef(t), process.std(t), *coefficients("score", process, t))
    clean, noise = parts(len(t), generator)
    x = (a * clean + s * noise).requires_grad_()
    log_kernel = -((x - a * clean) ** 2) / (2 * s**2)
    (gradient,) = torch.autograd.grad(log_kernel.sum(), x)
    cancelled = EPS * (a * clean).abs() / s**2  # of x - a clean
    assert bool(((p * clean + q * noise - gradient).abs() <= 2 * cancelled + 1e-13 * gradient.abs()).all())


@each_process
def test_noise_and_clean_are_the_parts(process):
    t = times_of(process, 20)
    assert [row.unique().tolist() for row in coefficients("noise", process, t)] == [[0.0], [1.0]]
    assert [row.unique().tolist() for row in coefficients("clean", process, t)] == [[1.0], [0.0]]


@each_process
@pytest.mark.parametrize("data_std", [1.0, 0.4, 3.0])
def test_v_has_unit_variance_and_no_correlation_with_x(process, data_std):
    """For data of std d: Var y = p^2 d^2 + q^2 = 1, Cov(x, y) = a p d^2 + s q = 0, signed like the noise."""
    t = torch.cat([f64(0.0), times_of(process)])
    a, s, (p, q) = process.mean_coef(t), process.std(t), coefficients("v", process, t, data_std)
    assert_close(p**2 * data_std**2 + q**2, torch.ones_like(t), rtol=1e-14, atol=0)
    assert_close(a * p * data_std**2 + s * q, torch.zeros_like(t), rtol=0, atol=1e-14 * data_std)
    assert bool((q > 0).all())
    assert bool((p <= 0).all())


@pytest.mark.parametrize("process", [VP(), VP(5.0, 5.0)], ids=str)
def test_v_of_a_variance_preserving_process_is_that_of_salimans_and_ho(process):
    t = torch.cat([f64(0.0), times_of(process)])
    p, q = coefficients("v", process, t)
    assert_close(p, -process.std(t), rtol=1e-13, atol=0)
    assert_close(q, process.mean_coef(t), rtol=1e-13, atol=0)


@pytest.mark.parametrize("data_std", [0.5, 1.0])
def test_v_is_the_preconditioning_of_karras(data_std):
    """Karras et al., 2022, table 1, up to the sign of F: clean = c_skip x + c_out F, x = clean + s noise."""
    process = VE()
    t = times_of(process)
    sigma = process.std(t)
    p, q = coefficients("v", process, t, data_std)
    c_skip = data_std**2 / (sigma**2 + data_std**2)
    c_out = -sigma * data_std / (sigma**2 + data_std**2).sqrt()
    for x, y in [(1.3, 0.0), (0.0, 1.0), (0.8, -2.0)]:
        clean, _ = solve(x * torch.ones_like(t), y * torch.ones_like(t), torch.ones_like(t), sigma, p, q)
        assert_close(clean, c_skip * x + c_out * y, rtol=1e-12, atol=1e-14)


@each_process
def test_velocity_is_the_derivative_of_the_path(process, generator):
    """p clean + q noise = d/dt (a clean + s noise), by automatic differentiation."""
    t = times_of(process, 20)
    clean, noise = parts(len(t), generator)
    path = lambda t: process.mean_coef(t)[:, None] * clean + process.std(t)[:, None] * noise
    _, rate = torch.func.jvp(path, (t,), (torch.ones_like(t),))
    p, q = shaped(*coefficients("velocity", process, t))
    terms = shaped((process.drift(t) * process.std(t)).abs() + process.diffusion(t) ** 2 / (2 * process.std(t)))[0]
    size = (p * clean).abs() + (terms * noise).abs()  # f s and g^2 / 2s cancel in s' near t_max
    assert float(((p * clean + q * noise - rate).abs() / size).max()) <= 1e-13


@pytest.mark.slow
@each_process
@each_prediction
def test_noise_gain_is_the_derivative_of_the_noise(process, predicts, generator):
    t = times_of(process)
    a, s, p, q = shaped(process.mean_coef(t), process.std(t), *coefficients(predicts, process, t))
    x, y = parts(len(t), generator)
    _, (_, slope) = torch.func.jvp(lambda y: solve(x, y, a, s, p, q), (y,), (torch.ones_like(y),))
    assert_close(noise_gain(a, s, p, q).expand_as(slope), slope, rtol=1e-14, atol=0)


# --------------------------------------------------------------------------------------------- where rows end


def refusal(predicts: str, t: str, process) -> str:
    return re.escape(f"the prediction '{predicts}' cannot be turned into clean and noise at t={t} of {process}")


@each_process_case
def test_rows_that_vanish_at_the_data_say_so(case):
    process, zero = case.process, torch.tensor(0.0, dtype=F64)
    refused = {"clean", "score"} if case.std_rate_at_zero_is_finite else {"clean", "score", "velocity"}
    for predicts in PREDICTIONS:
        if predicts in refused:
            with pytest.raises(ValueError, match=refusal(predicts, "0", process)):
                coefficients(predicts, process, zero)
        else:
            a, s = process.mean_coef(zero), process.std(zero)
            p, q = coefficients(predicts, process, zero)
            clean, noise = solve(a * 0.7 - s * 1.2, p * 0.7 - q * 1.2, a, s, p, q)
            assert_close((float(clean), float(noise)), (0.7, -1.2), rtol=1e-14, atol=0)


@pytest.mark.parametrize("predicts", ["noise", "score", "velocity"])
def test_rows_that_vanish_without_data_say_so(predicts):
    """At t = 1 the straight process has a = 0 and infinite rates: x is noise and tells nothing of data."""
    with pytest.raises(ValueError, match=refusal(predicts, "1", Straight())):
        coefficients(predicts, Straight(), torch.tensor(1.0, dtype=F64))


@pytest.mark.parametrize("predicts", ["clean", "v"])
def test_rows_that_need_no_data_work_without(predicts):
    one = torch.tensor(1.0, dtype=F64)
    p, q = coefficients(predicts, Straight(), one)
    clean, noise = solve(one * -1.2, p * 0.7 - q * 1.2, 0 * one, one, p, q)
    assert_close((float(clean), float(noise)), (0.7, -1.2), rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("process", "predicts", "ratio"),
    [
        (VP(), "clean", 1e-8),
        (VE(), "clean", 1e-8),
        (Straight(), "clean", 1e-8),
        (VP(0.1, 100.0), "noise", 1e9),
    ],
    ids=str,
)
def test_rows_are_refused_before_they_lose_all_digits(process, predicts, ratio):
    """Beyond a condition of 1e7 a float32 answer would be noise, so there it is an error; v goes on."""
    t = process.time(torch.tensor(ratio, dtype=F64))
    with pytest.raises(ValueError, match=f"the prediction '{predicts}' cannot"):
        coefficients(predicts, process, t)
    coefficients("v", process, t)


def test_the_time_that_is_named_is_the_bad_one():
    with pytest.raises(ValueError, match="at t=0 of"):
        coefficients("clean", VP(), f64(0.5, 0.0, 0.1))


@each_process
@each_prediction
def test_every_row_can_be_solved_from_t_min_to_t_max(process, predicts):
    p, q = coefficients(predicts, process, times_of(process).float())
    assert p.dtype == q.dtype == F64
    assert bool((p.isfinite() & q.isfinite()).all())
