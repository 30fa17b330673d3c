"""The laws of training times and of grids: where they lie, how they are spread, their exact ends."""

import math

import numpy as np
import pytest
import torch
from cases import F64, FALSE_ALARM, each_process
from mpmath import mp, mpf
from scipy import stats
from torch import Generator
from torch.testing import assert_close

from scorefield.diffusion import times
from scorefield.diffusion.process import RATIO_MIN
from scorefield.diffusion.published import VE, VP, Straight

N = 20_000


def t_of(process, ratio: float) -> float:
    return float(process.time(torch.tensor(ratio, dtype=F64)))


def largest(process) -> float:
    return float(process.ratio(torch.tensor(process.t_max, dtype=F64)))


# -------------------------------------------------------------------------------------------------- laws of t


def test_a_level_is_one_time():
    t = times.level(0.3)(5, None)
    assert t.tolist() == [0.3] * 5
    assert t.dtype == F64


def test_a_ladder_draws_each_rung_alike(generator):
    """chi^2 on the counts of 4 rungs and of pairs of neighbouring draws, false alarm 1e-6."""
    rungs = [0.9, 0.4, 0.1, 0.05]
    t = times.ladder(rungs)(N, generator)
    assert t.dtype == F64
    picked = (t[:, None] == torch.tensor(rungs, dtype=F64)).double().argmax(1)
    assert_close(t, torch.tensor(rungs, dtype=F64)[picked], rtol=0, atol=0)
    assert stats.chisquare(torch.bincount(picked, minlength=4).numpy()).pvalue > FALSE_ALARM / 2
    pairs = torch.bincount(4 * picked[::2] + picked[1::2], minlength=16).numpy()
    assert stats.chisquare(pairs).pvalue > FALSE_ALARM / 2


def uniform_law(process):
    low, high = t_of(process, RATIO_MIN), process.t_max
    return times.uniform(process), lambda t: (t - low) / (high - low)


def lognormal_law(process, **options):
    median, spread = options.get("median", 0.2), options.get("spread", 1.6)
    cdf = lambda ratio: stats.norm.cdf(np.log(ratio / median) / spread)
    low, high = cdf(RATIO_MIN), cdf(largest(process))
    law = times.lognormal(process, **options)
    return law, lambda t: torch.from_numpy((cdf(process.ratio(t).numpy()) - low) / (high - low))


LAWS = {
    "uniform": uniform_law,
    "lognormal": lognormal_law,
    "lognormal-wide": lambda process: lognormal_law(process, median=3.0, spread=4.0),
    "lognormal-cut": lambda process: lognormal_law(process, median=largest(process), spread=0.3),
}
each_law = pytest.mark.parametrize("name", list(LAWS))


@each_process
@each_law
def test_a_law_has_one_time_in_each_stratum(process, name, generator):
    """The exact truncated distribution function puts the i-th of n times into [i/n, (i+1)/n)."""
    law, cdf = LAWS[name](process)
    for n in (1, 2, 7, 1000):
        t = law(n, generator)
        assert t.dtype == F64
        place = n * cdf(t) - torch.arange(n, dtype=F64)
        assert float(place.min()) >= -1e-9
        assert float(place.max()) <= 1 + 1e-9


@each_process
@each_law
def test_within_its_stratum_a_time_is_uniform(process, name, generator):
    """Kolmogorov-Smirnov in every stratum at once, and no correlation between them; false alarm 1e-6."""
    law, cdf = LAWS[name](process)
    place = (N * cdf(law(N, generator)) - torch.arange(N, dtype=F64)).numpy()
    assert stats.kstest(place, stats.uniform.cdf).pvalue > FALSE_ALARM / 2
    assert stats.pearsonr(place[1:], place[:-1]).pvalue > FALSE_ALARM / 2


@each_process
@each_law
def test_single_draws_have_the_whole_law(process, name, generator):
    """Drawn singly there is one stratum, so the plain Kolmogorov-Smirnov test applies; false alarm 1e-6."""
    law, cdf = LAWS[name](process)
    t = torch.cat([law(1, generator) for _ in range(500)])
    assert stats.kstest(cdf(t).numpy(), stats.uniform.cdf).pvalue > FALSE_ALARM


@each_process
@each_law
def test_times_stay_in_range(process, name, generator):
    """Never beyond the ends, not even by rounding: a score does not exist at 0, a process above t_max."""
    law, _ = LAWS[name](process)
    t = torch.cat([law(n, generator) for n in (1, 3, N)])
    assert bool((t.diff()[4:] >= 0).all())
    assert float(t.max()) <= process.t_max
    assert float(t.min()) >= t_of(process, RATIO_MIN) * (1 - 1e-15)


@pytest.mark.parametrize("u", [0.0, 1 - 2**-53])
@each_process
@each_law
def test_the_extreme_draws_stay_in_range(process, name, u, monkeypatch):
    monkeypatch.setattr(times, "draw_uniform", lambda n, generator=None: torch.full((n,), u, dtype=F64))
    law, _ = LAWS[name](process)
    for n in (1, 2, 5):
        t = law(n, None)
        assert float(t.max()) <= process.t_max
        assert float(t.min()) >= t_of(process, RATIO_MIN) * (1 - 1e-15)


def test_rounding_does_not_leave_the_range(monkeypatch):
    """For one pair of betas in six, time(ratio(1)) = 1 + 2e-16; then too, the last time must be t_max."""
    process = VP(0.552, 9.49)
    assert t_of(process, largest(process)) > process.t_max
    monkeypatch.setattr(times, "draw_uniform", lambda n, generator=None: torch.full((n,), 1 - 2**-53, dtype=F64))
    laws = [times.lognormal(process, median=largest(process) * c, spread=0.3) for c in (1.0, 1.1, 1.2, 1.3, 1.4)]
    assert max(float(law(5, None).max()) for law in laws) == process.t_max


@each_law
def test_times_are_a_function_of_the_generator(name):
    law, _ = LAWS[name](VP())
    draw = lambda seed: law(10, Generator().manual_seed(seed))
    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))


def test_strata_cover_the_unit_interval(generator):
    u = times.stratified(N, generator)
    assert torch.equal((u * N).long(), torch.arange(N))
    assert times.stratified(0, generator).shape == (0,)


# ------------------------------------------------------------------------------------------------------ grids

STEPS = [1, 2, 3, 18, 1000, 20_000]


@each_process
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(
    "grid",
    [times.grid, times.uniform_grid, lambda process, steps: times.grid(process, steps, power=100.0)],
    ids=["karras", "uniform", "power-100"],
)
def test_grids_fall_strictly_between_exact_ends(process, steps, grid):
    t = grid(process, steps)
    assert t.shape == (steps + 1,)
    assert t.dtype == F64
    assert float(t[0]) == process.t_max
    assert float(t[-1]) == t_of(process, RATIO_MIN)
    assert bool((t.diff() < 0).all())


@each_process
@pytest.mark.parametrize("power", [1.0, 2.0, 7.0, 50.0])
@pytest.mark.parametrize("ratio_min", [1e-3, 2e-5])
def test_the_grid_is_that_of_karras(process, power, ratio_min):
    """Karras et al., 2022, eq. 5, again: (max^(1/power) + i/n (min^(1/power) - max^(1/power)))^power."""
    n = 18
    with mp.workdps(50):
        high, low = mpf(largest(process)) ** (1 / mpf(power)), mpf(ratio_min) ** (1 / mpf(power))
        truth = [float((high + mpf(i) / n * (low - high)) ** power) for i in range(n + 1)]
    ratios = process.ratio(times.grid(process, n, power=power, ratio_min=ratio_min)).numpy()
    np.testing.assert_allclose(ratios, truth, rtol=1e-11, atol=0)


@each_process
def test_the_power_runs_from_equal_ratios_to_equal_logarithms(process):
    steps = process.ratio(times.grid(process, 20, power=1.0)).diff()
    assert_close(steps, steps.mean().expand_as(steps), rtol=1e-9, atol=0)
    log_range = math.log(RATIO_MIN / largest(process))
    for power in (1e3, 1e4, 1e5):
        logs = process.ratio(times.grid(process, 20, power=power)).log().diff()
        error = float((20 * logs / log_range - 1).abs().max())
        assert error * power == pytest.approx(0.475 * abs(log_range), rel=0.03)  # 19/40 log_range to leading order


@each_process
def test_the_uniform_grid_has_equal_steps(process):
    steps = times.uniform_grid(process, 13).diff()
    assert_close(steps, steps.mean().expand_as(steps), rtol=1e-12, atol=0)


@each_process
def test_bounds_are_the_ratios_at_the_ends(process):
    assert times.bounds(process) == (RATIO_MIN, largest(process))
    assert times.bounds(process, 0.01) == (0.01, largest(process))


# ----------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("grid", [times.grid, times.uniform_grid])
@pytest.mark.parametrize("steps", [0, -3])
def test_a_grid_without_steps_is_refused(grid, steps):
    with pytest.raises(ValueError, match=f"at least one step; got {steps}"):
        grid(VP(), steps)


@each_process
def test_an_infinite_power_is_equal_steps_in_the_logarithm(process):
    """To rounding; the ends are exactly t_max and the time of the smallest ratio."""
    grid = times.grid(process, 20, math.inf, ratio_min=2e-3)
    logs = process.ratio(grid).log()
    assert float((logs.diff() - (logs[-1] - logs[0]) / 20).abs().max()) < 1e-6
    assert float(grid[0]) == process.t_max
    assert float(process.ratio(grid[-1])) == pytest.approx(2e-3, rel=1e-7)


@pytest.mark.parametrize("power", [0.0, -7.0, math.nan])
def test_a_bad_power_is_named(power):
    with pytest.raises(ValueError, match=f"needs a positive power; got {power}"):
        times.grid(VP(), 5, power=power)


@pytest.mark.parametrize("ratio_min", [0.0, -0.5, 1e9, math.inf, math.nan])
@pytest.mark.parametrize("process", [VP(), VE(0.3, 0.9), Straight()], ids=str)
def test_a_bad_smallest_ratio_is_named(process, ratio_min):
    calls = [
        lambda: times.bounds(process, ratio_min),
        lambda: times.uniform(process, ratio_min),
        lambda: times.lognormal(process, ratio_min=ratio_min),
        lambda: times.grid(process, 5, ratio_min=ratio_min),
        lambda: times.uniform_grid(process, 5, ratio_min=ratio_min),
    ]
    for call in calls:
        with pytest.raises(
            ValueError, match=rf"between 0 and {largest(process):g}.*got {ratio_min:g}".replace("+", r"\+")
        ):
            call()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"median": 0.0}, "median=0.0"),
        ({"median": -1.0}, "median=-1.0"),
        ({"median": math.nan}, "median=nan"),
        ({"spread": 0.0}, "spread=0.0"),
        ({"spread": math.inf}, "spread=inf"),
        (
            {"median": 1e9, "spread": 0.5},
            "median=1000000000.0, spread=0.5 has almost no ratio between 0.001 and",
        ),
        ({"median": 1e-7, "spread": 0.5}, "median=1e-07, spread=0.5 has almost no ratio between 0.001 and"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_lognormal_law_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        times.lognormal(VP(), **options)


def test_an_empty_ladder_is_refused():
    with pytest.raises(ValueError, match="at least one time; got an empty list"):
        times.ladder([])
    for rungs in ([0.1, 0.2], [0.3, 0.3], [math.nan, 0.1]):
        with pytest.raises(ValueError, match="must decrease, from much noise to little"):
            times.ladder(rungs)
