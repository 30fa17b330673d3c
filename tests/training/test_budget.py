"""Budgets and schedules: the clock decides when the rate begins to fall, and the number of steps alone all the rest."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from cases import learned
from torch import Generator

from scorefield.diffusion.published import VP
from scorefield.training.budget import LEAST, Budget, Cosine, Falling, TooShort, total
from scorefield.training.config import Config
from scorefield.training.learner import PATIENCE, Learner
from scorefield.training.problem import Part, Prepared
from scorefield.training.trainer import Trainer

CONFIG = Config(steps=0, width=8, features=4, batch_size=16)
ROWS = torch.randn(100, 2, generator=Generator().manual_seed(0))


def ticking(cost=1.0):
    """A clock on which each step takes `cost`, or cost(k) the k-th: a budget reads it once before and once a step."""
    costs = map(cost, itertools.count(1)) if callable(cost) else itertools.repeat(cost)
    return itertools.accumulate(costs, initial=100.0).__next__


def steps_by(seconds, cost, step=0, spent=0.0):
    """How many steps a budget leads to, of which `step` have been taken."""
    schedule = Falling(Budget(seconds, spent, ticking(cost)))
    schedule.begin(step)
    while schedule.steps is None:
        step += 1
        schedule.observe(step)
    return step, schedule.steps


def learner(steps):
    """A small learner by a number of steps or by a budget."""
    config = replace(CONFIG, steps=steps) if isinstance(steps, int) else CONFIG
    model = config.model(torch.zeros(2), torch.eye(2))
    return Learner(config, Prepared(model, (Part(ROWS, ROWS[:50]),), "none", "none"), Falling(steps))


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_steps_before_the_fall_and_all_steps_determine_each_other():
    """L -> N -> L; and what the clock led to has the rates and reports of N, of which the level ones don't know N."""
    for level in range(1, 5000):
        steps = total(level)
        assert (steps - steps // 5, steps // 5) == (level, level // 4)
    by_clock, open_still = Falling(Budget(1.0)), Falling(Budget(1.0))
    by_clock.settle(403)
    by_number = Falling(503)
    assert by_clock.steps == 503
    for k in range(503):
        assert by_clock.rate(k) == by_number.rate(k)
        assert by_clock.due(k) == by_number.due(k) == open_still.due(k)
        assert (open_still.rate(k) == by_number.rate(k)) == (k < 403)


def test_the_average_is_a_fifth_of_all_steps_old():
    """Decays k / (k + 4) leave the weights of step j a share in proportion to j^3 or so: their mean is at 4 N / 5."""
    shares = torch.zeros(1000, dtype=torch.float64)
    for k in range(1000):
        shares *= Falling(1000).decay(k)
        shares[k] += 1 - Falling(1000).decay(k)
    assert float(shares @ torch.arange(1, 1001).double()) == pytest.approx(1000 * 4 / 5, abs=1)
    assert Falling(Budget(1.0)).decay(77) == Falling(1000).decay(77)


def test_the_first_step_after_a_kill_says_nothing_of_reports():
    """A step takes a second, but the first of a process fifty: step 161 follows a report that another process wrote."""
    slow_start = iter([50.0]).__next__
    cost = lambda k: slow_start() if k == 1 else 1.0
    schedule = Falling(Budget(1_000.0, 160.0, ticking(cost)))
    schedule.begin(160)
    schedule.observe(161)
    schedule.observe(162)
    assert sum(schedule.budget._reports) == 0


@pytest.mark.parametrize("seconds", [150, 200, 400, 1_000, 3_000])
def test_reports_that_take_long_are_counted(seconds):
    """A step takes a second, a report twelve: the end, its report included, is off by less than a report."""
    takes = lambda k: 1.0 + 12.0 * Falling(10**6).due(k - 1)
    _, steps = steps_by(seconds, takes)
    end = sum(map(takes, range(1, steps + 1))) + 12.0
    assert abs(end - seconds) < 12


def test_the_rate_rises_is_level_and_falls_in_equal_steps_to_zero():
    rates = [Falling(1000).rate(k) for k in range(1001)]
    assert rates[:100] == [(k + 1) / 100 for k in range(100)]
    assert rates[100:800] == [1.0] * 700
    assert rates[800:] == [(200 - k) / 201 for k in range(201)]
    assert [Falling(4).rate(k) for k in range(4)] == [0.01, 0.02, 0.03, 0.04]


def test_reports_are_eight_in_each_doubling_and_one_at_the_end():
    found = [k for k in range(1, 1001) if Falling(1000).due(k)]
    parts = range(10, 160, 10), range(160, 320, 20), range(320, 640, 40), range(640, 1000, 80), [1000]
    assert found == [k for part in parts for k in part]
    assert [k for k in range(80 * 2**9, 80 * 2**10) if Falling(10**9).due(k)] == [8192 * 5 + 5120 * k for k in range(8)]


def test_the_old_schedule_is_the_cosine():
    """To finish runs of format 6: these very floats, and reports every N // 50 steps but not below 10."""
    for steps in (7, 499, 3000):
        old = Cosine(steps)
        for k in range(steps):
            assert old.decay(k) == min(0.999, k / (k + 10))
            assert old.rate(k) == min(1.0, (k + 1) / 100) * (1 + math.cos(math.pi * k / steps)) / 2
        every = max(10, steps // 50)
        assert [k for k in range(1, steps + 1) if old.due(k)] == [*range(every, steps, every), steps]


@pytest.mark.parametrize("seconds", [60.0, 1234.5, 30_000.0])
def test_equal_steps_keep_a_budget_to_a_step(seconds):
    """N c >= T, and not by more than the steps that one more before the fall brings, two at most."""
    _, steps = steps_by(seconds, 0.7)
    assert 0 <= steps * 0.7 - seconds < 2 * 0.7


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_budget_is_kept_when_the_load_changes_midway(share, factor):
    """All steps cost twice or half as much after a share of the time: training ends within 5 %."""
    cost = lambda k: 1.0 if k <= 1000 * share else factor
    _, steps = steps_by(1000.0, cost)
    assert math.fsum(cost(k) for k in range(1, steps + 1)) == pytest.approx(1000, rel=0.05)


def test_the_fall_is_expected_to_take_as_long_as_its_steps_took_last():
    """The first L with e(L) + e(L) - e(L - L // 4) >= T, of ragged costs, in words of sums."""
    cost = lambda k: 1.0 + k % 7 + (50.0 if k % 40 == 0 else 0.0)
    elapsed = [0.0, *itertools.accumulate(cost(k) for k in range(1, 1000))]
    level, steps = steps_by(2000.0, cost)
    fits = [2 * elapsed[k] - elapsed[k - k // 4] < 2000 for k in range(1, 1000)]
    assert (level, steps) == (fits.index(False) + 1, total(fits.index(False) + 1))


def test_a_resumed_budget_counts_what_was_spent_before():
    assert steps_by(1000.0, 1.0, step=300, spent=300.0) == steps_by(1000.0, 1.0)
    level, steps = steps_by(1000.0, 1.0, step=300, spent=900.0)  # 3 s a step before: the last quarter cost 3 s each
    assert (level, steps) == (301, 376)


def test_a_budget_too_short_for_a_model_is_refused_early_with_the_seconds_it_needs():
    """Of steps of 10 s a budget of 60 s has no 50: known after three steps; one of 500 s has them."""
    schedule = Falling(Budget(60.0, clock=ticking(10.0)))
    schedule.begin(0)
    schedule.observe(1)
    schedule.observe(2)
    message = "a budget of 60 s is too short: 50 steps take about 500 s here; give at least 750 s"
    with pytest.raises(TooShort, match=message):
        schedule.observe(3)
    assert steps_by(500.0, 10.0)[1] == LEAST
    with pytest.raises(TooShort, match="of 480 s is too short"):  # 48 steps
        steps_by(480.0, 10.0)


def test_a_slow_first_step_or_one_hiccup_is_no_short_budget():
    assert steps_by(100.0, lambda k: 40.0 if k == 1 else 0.1)[1] > 500
    assert steps_by(100.0, lambda k: 20.0 if k == 3 else 0.1)[1] > 500


def test_less_than_one_step_is_refused():
    with pytest.raises(ValueError, match="at least one step; got 0"):
        Falling(0)


def test_a_trainer_ends_where_the_clock_says_and_its_weights_are_those_of_so_many_steps():
    found = []
    for steps in (Falling(Budget(60.0, clock=ticking())), 60):
        trainer = Trainer(learned(VP(), "v", 1), steps, learning_rate=0.05)
        for _ in trainer.run(lambda t=trainer: sum((p - 1).square().sum() for p in t.model.parameters())):
            pass
        found.append(trainer.state())
    assert int(found[0]["step"]) == 60
    assert equal(*found)


def test_a_training_ended_by_the_clock_is_that_of_so_many_steps():
    """The state, to the bit, and each report; also where it goes on from a state in the level part or in the fall."""
    by_clock = learner(Budget(100.0, clock=ticking()))
    states, reports = [], []
    for report in by_clock.run():
        states.append(by_clock.state())
        reports += [report] if report else []
    steps = by_clock.schedule.steps
    assert steps == len(states) == 100
    by_number = learner(steps)
    assert [report for report in by_number.run() if report] == reports
    assert equal(by_number.state(), states[-1])
    resumed = learner(Budget(100.0, 50.0, ticking()))
    resumed.load_state(states[49])
    assert [report for report in resumed.run() if report] == reports[5:]
    assert equal(resumed.state(), states[-1])
    falling = learner(steps)
    falling.load_state(states[89])
    assert [report for report in falling.run() if report] == reports[9:]
    assert equal(falling.state(), states[-1])


def test_the_end_by_patience_settles_how_many_steps_repeat_it():
    """Stopped after 100 steps with no word from the clock: N is such that 100 steps come before the fall."""
    x = torch.linspace(1, 2, 50, dtype=torch.float64)
    stopped = learner(Budget(1e9, clock=ticking()))
    stopped.lowest, stopped._validate = x, lambda _: x + 1 + x / 100
    assert len(list(stopped.run())) == 10 * PATIENCE
    assert stopped.done
    assert stopped.schedule.steps == total(10 * PATIENCE)
