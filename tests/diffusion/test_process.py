"""The laws of the noising processes beside R01 and R02: ends, inverses, events, the user's own, simulation."""

import dataclasses

import numpy as np
import pytest
import torch
from cases import F64, PROCESS_CASES, each_process, each_process_case, f64, z_limit
from mpmath import mp, mpf
from torch import Generator
from torch.testing import assert_close

from scorefield.diffusion.by_name import PROCESSES, make, named, span_for
from scorefield.diffusion.process import RATIO_MAX, Process
from scorefield.diffusion.published import EDM, VE, VP, Cosine, SubVP
from scorefield.diffusion.sde import LinearSDE, simulate
from scorefield.numerics.tensors import match
from scorefield.selftest.numbers.coefficients import exact, relative_error


@pytest.fixture(autouse=True)
def fifty_digits():
    with mp.workdps(50):
        yield


@pytest.mark.slow
@each_process_case
def test_the_reference_obeys_the_equations(case):
    """The mpmath formulas against quadrature of f and g^2: nothing below rests on one derivation."""
    t_max = mpf(case.process.t_max)
    for t in [mpf("1e-7"), mpf("0.003"), t_max / 3, t_max]:
        nodes = [t * k / 8 for k in range(9)] if t < 0.9 else [1 - (1 - t) ** (mpf(k) / 16) for k in range(17)]
        assert abs(mp.log(case.a(t)) - mp.quad(case.f, nodes)) < mpf(10) ** -35
        noise = mp.quad(lambda u, t=t: (case.a(t) / case.a(u)) ** 2 * case.g2(u), nodes)
        assert abs(case.var(t) / noise - 1) < mpf(10) ** -30


@pytest.mark.parametrize("case", [c for c in PROCESS_CASES if isinstance(c.process, LinearSDE)], ids=lambda c: c.name)
def test_a_table_is_as_good_as_a_formula(case):
    """a and s of LinearSDE against 50 digits from t = 1e-13 to t_max: 1e-12, where the promise is 1e-8 from 1e-6."""
    times = case.times(100, start=1e-13)
    truth, _ = exact(case, times)
    assert relative_error(case.process.mean_coef(times), truth["mean_coef"]) < 1e-12
    assert relative_error(case.process.std(times), truth["std"]) < 1e-12


@each_process
def test_kernel_multiplies_samples_of_any_event(process):
    t = f64(0.2, 0.5, 0.9)
    for shape in [(3,), (3, 2), (3, 2, 4, 5)]:
        x = torch.ones(shape, dtype=F64)
        a, s = process.kernel(t, x)
        rows = (a * x + s * x).flatten(1) if x.ndim > 1 else (a * x + s * x)[:, None]
        assert_close(rows, (process.mean_coef(t) + process.std(t))[:, None].expand_as(rows))
        a, s = process.kernel(t[1], x)
        assert a.shape == s.shape == ()


def test_a_wrong_number_of_times_is_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"shape \(\) or \(5,\); got \(3,\) for samples of shape \(5, 2\)"):
        match(torch.ones(3), torch.ones(5, 2))
    with pytest.raises(ValueError, match=r"got \(5, 1\) for samples of shape \(5, 2\)"):
        match(torch.ones(5, 1), torch.ones(5, 2))


@each_process_case
def test_time_starts_at_the_data(case):
    zero = f64(0.0)
    assert case.process.mean_coef(zero).tolist() == [1.0]
    assert case.process.std(zero).tolist() == [0.0]
    assert case.process.ratio(zero).tolist() == [0.0]
    assert case.process.time(zero).tolist() == [0.0]
    assert bool(case.process.std_rate(zero).isfinite().all()) == case.std_rate_at_zero_is_finite


@each_process_case
def test_t_max_is_one_unless_no_data_are_left_there(case):
    left = case.a(mpf(1))
    if left > 0:
        assert case.process.t_max == 1.0
    else:
        t = mpf(case.process.t_max)
        assert abs(mp.sqrt(case.var(t)) / case.a(t) / RATIO_MAX - 1) < 1e-11


@each_process
def test_mean_and_variance_obey_their_equations(process):
    """a' = f a and (s^2)' = 2 f s^2 + g^2, by automatic differentiation of the closed forms."""
    t = torch.logspace(-7, 0, 1000, dtype=F64) * process.t_max
    one = torch.ones_like(t)
    f, g = process.drift(t), process.diffusion(t)
    a, a_rate = torch.func.jvp(process.mean_coef, (t,), (one,))
    var, var_rate = torch.func.jvp(lambda t: process.std(t) ** 2, (t,), (one,))
    assert_close(a_rate, f * a, rtol=1e-13, atol=0)
    assert_close(process.mean_rate(t), a_rate, rtol=1e-13, atol=0)
    scale = (2 * f * var).abs() + g**2
    assert float(((var_rate - (2 * f * var + g**2)) / scale).abs().max()) <= 1e-13


@each_process_case
def test_std_rate_is_the_derivative_of_std(case):
    """s' = f s + g^2 / 2s, to 1e-13 of the terms: near t_max they cancel, in autograd's s' as well."""
    process, t = case.process, case.times(1000)
    _, rate = torch.func.jvp(process.std, (t,), (torch.ones_like(t),))
    shrink, grow = process.drift(t) * process.std(t), process.diffusion(t) ** 2 / (2 * process.std(t))
    scale = shrink.abs() + grow
    assert float(((process.std_rate(t) - rate) / scale).abs().max()) <= 1e-13
    assert float(((process.std_rate(t) - (shrink + grow)) / scale).abs().max()) <= 1e-13


@each_process
def test_time_is_the_inverse_of_ratio(process):
    """Both ways round to 1e-12, over ratios from 1e-6 to the largest.

    Near t = 1 of a process that stops at s/a = 1e4, neighbouring floats differ in ratio by more than that:
    there t is exact to rounding and so the ratio is exact to the change that rounding t once makes.
    """
    largest = float(process.ratio(f64(process.t_max)))
    ratios = torch.logspace(-6, np.log10(largest), 2000, dtype=F64).clamp(max=largest)
    times = process.time(ratios)
    assert bool((times.diff() > 0).all())
    assert float(times[0]) > 0
    assert float(times[-1]) <= process.t_max * (1 + 1e-15)
    _, slope = torch.func.jvp(process.ratio, (times,), (torch.ones_like(times),))
    rounding = torch.finfo(F64).eps * times * slope
    assert bool(((process.ratio(times) - ratios).abs() <= 1e-12 * ratios + rounding).all())
    assert_close(process.time(process.ratio(times)), times, rtol=1e-12, atol=0)


@each_process_case
def test_time_is_exact(case):
    """The exact ratio, in 50 digits, at time(ratio) is the ratio up to rounding t a few times."""
    process = case.process
    largest = float(process.ratio(f64(process.t_max)))
    ratios = torch.logspace(-6, np.log10(largest), 100, dtype=F64).clamp(max=largest)
    for ratio, t in zip(ratios.tolist(), process.time(ratios).tolist(), strict=True):
        exact = lambda t: mp.sqrt(case.var(t)) / case.a(t)
        slope = mp.diff(exact, mpf(t), h=mpf(10) ** -20)
        assert abs(mpf(ratio) - exact(mpf(t))) / slope <= max(1e-14, case.accuracy / 10) * t


def test_a_table_makes_the_process_without_its_functions():
    """from_table(table) gives the same bits for every coefficient at 1,000 times, below the table and at 0 too."""
    first = LinearSDE(lambda t: -(6 * t).sin(), lambda t: 1 + t, t_max=0.7)
    second = LinearSDE.from_table(first.table.clone())
    t = torch.cat([f64(0.0, 1e-16), torch.logspace(-13, np.log10(0.7), 1000, dtype=F64)])
    for name in ("drift", "diffusion", "mean_coef", "std", "ratio"):
        assert torch.equal(getattr(first, name)(t), getattr(second, name)(t)), name
    ratios = torch.logspace(-9, -0.5, 100, dtype=F64)
    assert torch.equal(first.time(ratios), second.time(ratios))


@pytest.mark.parametrize("power", [0.25, 0.5, 1.0, 2.0])
def test_g_may_vanish_at_the_start(power):
    """f = 0, g = t^k: s = t^(k + 1/2) / sqrt(2k + 1), to 1e-8 from 1e-6; g(0) = s(0) = 0; s'(0) is 0 or 1/sqrt 2."""
    process = LinearSDE(torch.zeros_like, lambda t: t**power)
    t = torch.logspace(-6, 0, 300, dtype=F64)
    assert_close(process.std(t), t ** (power + 0.5) / (2 * power + 1) ** 0.5, rtol=1e-8, atol=0)
    assert_close(process.diffusion(t), t**power, rtol=1e-8, atol=0)
    assert_close(process.time(process.ratio(t)), t, rtol=1e-10, atol=0)
    zero = f64(0.0)
    assert process.diffusion(zero).tolist() == process.std(zero).tolist() == [0.0]
    if power >= 0.5:
        assert_close(process.std_rate(zero), f64(0.5**0.5 if power == 0.5 else 0.0))


def test_g_at_zero_is_the_limit():
    process = LinearSDE(lambda t: -0.5 * t, lambda t: 0.3 + t)
    assert_close(process.diffusion(f64(0.0, 1e-16, 1e-10)), f64(0.3, 0.3, 0.3 + 1e-10), rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("f", "g", "options", "message"),
    [
        (torch.zeros_like, torch.zeros_like, {}, "makes s/a grow at all times; got a g that vanishes"),
        (torch.zeros_like, lambda t: (t > 0.5).double(), {}, "makes s/a grow at all times"),
        (lambda t: -((t > 0.3).double()), torch.ones_like, {}, "round off the jumps of f and g"),
        (lambda t: -1 / (1 - t), lambda t: 1 / (1 - t) ** 3, {"t_max": 1.0}, "round off|must be finite"),
        (lambda t: torch.full_like(t, float("nan")), torch.ones_like, {}, "f must be finite"),
        (torch.zeros_like, lambda t: t.reshape(1, -1), {}, r"g must return one number per time"),
        (torch.zeros_like, torch.ones_like, {"t_max": 0.0}, "positive, finite t_max; got 0"),
        (torch.zeros_like, torch.ones_like, {"t_max": float("inf")}, "positive, finite t_max; got inf"),
    ],
)
def test_functions_that_make_no_process_are_refused(f, g, options, message):
    with pytest.raises(ValueError, match=message):
        LinearSDE(f, g, **options)


def test_simulated_paths_have_the_moments_of_their_recursion():
    """A forward Euler path of dX = -X dt + (1 + t) dW from 0.5: E and Var follow m(1 - h), v(1 - h)^2 + h(1 + t)^2.

    40,000 paths and 20 ragged steps; z tests of mean and variance at the end, false-alarm rate 1e-6 each.
    """
    times = torch.linspace(0, 1, 21, dtype=F64) ** 1.3
    start = torch.full((40_000, 1), 0.5, dtype=F64)
    *_, end = simulate(lambda x, t: -x, lambda t: 1 + t, start, times, Generator().manual_seed(0))
    mean, variance = 0.5, 0.0
    for t, h in zip(times[:-1].tolist(), times.diff().tolist(), strict=True):
        mean, variance = mean * (1 - h), variance * (1 - h) ** 2 + h * (1 + t) ** 2
    n = len(end)
    assert abs(float(end.mean()) - mean) < z_limit() * (variance / n) ** 0.5
    assert abs(float(end.var()) / variance - 1) < z_limit() * (2 / n) ** 0.5


def test_simulation_without_noise_is_the_euler_method_and_keeps_every_state():
    states = list(simulate(lambda x, t: t * x, torch.zeros_like, f64([1.0], [2.0]), f64(0.0, 0.5, 1.5), Generator()))
    assert [state.flatten().tolist() for state in states] == [[1.0, 2.0], [1.0, 2.0], [1.5, 3.0]]


@pytest.mark.parametrize("times", [[0.0, 0.0], [1.0, 0.5], [0.0, float("nan")], []])
def test_simulation_needs_increasing_times(times):
    with pytest.raises(ValueError, match="simulate needs finite, increasing times"):
        list(simulate(lambda x, t: x, torch.ones_like, f64([1.0]), torch.tensor(times, dtype=F64), Generator()))


def test_a_simulation_that_explodes_says_when():
    with pytest.raises(RuntimeError, match="not finite after t=1; use smaller time steps"):
        list(simulate(lambda x, t: x * 1e300, torch.ones_like, f64([1.0]), f64(0.0, 1.0, 2.0, 3.0), Generator()))


@pytest.mark.parametrize(
    ("make", "value"),
    [
        (lambda: VP(beta_min=-1.0), "beta_min=-1.0"),
        (lambda: VP(beta_min=0.0), "beta_min=0.0"),
        (lambda: VP(beta_min=21.0), "beta_min=21.0"),
        (lambda: VP(beta_max=float("inf")), "beta_max=inf"),
        (lambda: VP(beta_min=float("nan")), "beta_min=nan"),
        (lambda: VP(beta_max=float("nan")), "beta_max=nan"),
        (lambda: SubVP(beta_min=0.0), "beta_min=0.0"),
        (lambda: Cosine(offset=0.0), "offset=0.0"),
        (lambda: Cosine(offset=float("nan")), "offset=nan"),
        (lambda: EDM(sigma_max=0.0), "sigma_max=0.0"),
        (lambda: EDM(sigma_max=float("inf")), "sigma_max=inf"),
        (lambda: VE(sigma_min=0.0), "sigma_min=0.0"),
        (lambda: VE(sigma_min=-0.5), "sigma_min=-0.5"),
        (lambda: VE(sigma_min=60.0), "sigma_min=60.0"),
        (lambda: VE(sigma_min=2.0, sigma_max=2.0), "sigma_max=2.0"),
        (lambda: VE(sigma_max=float("inf")), "sigma_max=inf"),
        (lambda: VE(sigma_max=float("nan")), "sigma_max=nan"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_parameter_is_named(make, value):
    with pytest.raises(ValueError, match=value):
        make()


@pytest.mark.parametrize("name", list(PROCESSES))
@pytest.mark.parametrize("distance", [0.5, 30.0, 1000.0])
def test_the_range_reaches_the_largest_distance_and_comes_back(name, distance):
    """s/a at t_max is at least that distance, exactly it where it was chosen; make(named(process)) is the process."""
    span, reason = span_for(name, distance)
    process = make(name, span)
    end = float(process.ratio(torch.tensor(process.t_max, dtype=torch.float64)))
    assert end >= distance * (1 - 1e-3)
    if name in ("ve", "edm") or (name in ("vp", "subvp") and distance == 1000):
        assert end == pytest.approx(distance, rel=1e-3)
        assert f"{distance:.3g}" in reason
    assert make(*named(process)) == process


def test_a_range_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"range of vp is beta_min, beta_max; got \[1.0\]"):
        make("vp", (1.0,))
    with pytest.raises(ValueError, match=r"process must be one of .*'vp'.*; got 'vq'"):
        make("vq")
    with pytest.raises(ValueError, match="must be an instance of one of"):
        named(object())


@pytest.mark.parametrize("left_out", sorted(Process.__abstractmethods__))
def test_a_process_that_leaves_something_out_cannot_be_made(left_out):
    """Each of its functions is asked for by name."""
    members = {name: lambda self, t: t for name in Process.__abstractmethods__ - {left_out}}
    with pytest.raises(TypeError, match=left_out):
        type("Partial", (Process,), members)()
    assert set(Process.__abstractmethods__) == {"t_max", "drift", "diffusion", "mean_coef", "std", "std_rate", "time"}


@pytest.mark.parametrize("name", list(PROCESSES))
def test_a_process_cannot_be_changed(name):
    """It is a value: equal ones are one key, and a model that holds one holds it for good."""
    process = make(name, span_for(name, 30.0)[0])
    assert len({process, make(*named(process))}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        process.beta_min = 1.0
