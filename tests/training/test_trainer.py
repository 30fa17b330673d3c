"""The training loop: its steps, its average, its rate, and what it does where a loss is not finite."""

import math

import pytest
import torch
from cases import learned
from torch import Generator

from scorefield.diffusion.published import VP
from scorefield.training.budget import Falling
from scorefield.training.trainer import COUNTS, SKIPS, Trainer, batches


def quadratic(trainer: Trainer):
    """A loss that is the squared distance of all weights from 1."""
    return lambda: sum((p - 1).square().sum() for p in trainer.model.parameters())


def test_the_generator_reports_each_step_once_and_resumes_where_it_stopped():
    trainer = Trainer(learned(VP(), "v", 2), steps=7)
    seen = []
    for progress in trainer.run(quadratic(trainer)):
        seen.append(progress.step)
        if progress.step == 3:
            break
    seen += [progress.step for progress in trainer.run(quadratic(trainer))]
    assert seen == [1, 2, 3, 4, 5, 6, 7]


def test_the_loss_falls_and_the_report_is_the_loss_before_the_step():
    trainer = Trainer(learned(VP(), "v", 2), steps=300, learning_rate=0.05)
    first = float(quadratic(trainer)().detach())
    losses = [progress.loss for progress in trainer.run(quadratic(trainer))]
    assert losses[0] == first
    assert losses[-1] < 1e-3 * first


def test_the_average_is_the_recursion_that_it_states():
    """avg_k = d avg_k-1 + (1 - d) w_k with the decay d of its schedule, from the first weights after a step."""
    trainer = Trainer(learned(VP(), "v", 1), steps=30, learning_rate=0.05)
    expected = None
    for progress in trainer.run(quadratic(trainer)):
        weights = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
        decay = trainer.schedule.decay(progress.step - 1)
        expected = weights if expected is None else decay * expected + (1 - decay) * weights
        found = torch.cat([p.flatten() for p in trainer.average.parameters()])
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def test_the_average_has_no_graph():
    """One of all steps so far would take 5 kB a step and never end."""
    trainer = Trainer(learned(VP(), "v", 1), steps=3, learning_rate=0.05)
    for _ in trainer.run(quadratic(trainer)):
        assert all(p.grad_fn is None and not p.requires_grad for p in trainer.average.parameters())


def test_each_step_takes_the_rate_of_its_schedule():
    schedule = Falling(20)
    trainer = Trainer(learned(VP(), "v", 1), schedule, learning_rate=2.0)
    rates = [trainer.optimizers["optimizer"].lr for _ in trainer.run(quadratic(trainer))]
    assert rates == [2.0 * schedule.rate(k) for k in range(20)]


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e200])
def test_a_step_that_is_not_finite_is_skipped_and_counted(bad):
    """The loss, or with a factor of 1e200 only the square of the gradient; weights, average and moments stay."""
    trainer = Trainer(learned(VP(), "v", 1), steps=40)
    good = quadratic(trainer)
    calls = iter(range(100))
    loss = lambda: good() * (bad if next(calls) in (4, *range(7, 6 + SKIPS)) else 1.0)
    found = []
    for progress in trainer.run(loss):
        found.append(progress.loss)
        if progress.step == 4:
            before = trainer.state()
        if progress.step == 5:
            after = trainer.state()
    assert (len(found), trainer.skipped, trainer.in_a_row) == (40, SKIPS, 0)
    assert [math.isfinite(value) for value in found[:8]] == [True] * 4 + [False] + [True] * 2 + [False]
    assert all(torch.equal(after[name], before[name]) for name in before if name not in COUNTS)


def test_training_ends_after_so_many_skipped_steps_in_a_row_also_when_it_was_continued():
    trainer = Trainer(learned(VP(), "v", 1), steps=100)
    loss = lambda: quadratic(trainer)() * math.nan
    steps = trainer.run(loss)
    for _ in range(SKIPS - 1):
        next(steps)
    again = Trainer(learned(VP(), "v", 1), steps=100)
    again.load_state(trainer.state())
    message = r"steps 1 to 10 were skipped.* loss, nan .*parameter net\.\S+; lower the learning rate \(0\.004\)"
    for unfinished in (trainer, again):
        with pytest.raises(RuntimeError, match=message):
            next(unfinished.run(lambda t=unfinished: quadratic(t)() * math.nan))
    assert all(p.isfinite().all() for p in trainer.average.parameters())


def test_a_state_of_another_network_is_refused():
    class Other(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.extra = torch.nn.Parameter(torch.zeros(1))

    state = Trainer(learned(VP(), "v", 1, net=Other()), steps=3).state()
    with pytest.raises(ValueError, match="another network"):
        Trainer(learned(VP(), "v", 1), steps=3).load_state(state)


def test_batches_draw_rows_evenly():
    """Each of 10 rows in a tenth of 20,000 draws: chi-square below its 1e-6 quantile for 9 degrees of freedom, 45."""
    data = torch.arange(10.0)[:, None]
    stream = batches(data, 1000, Generator().manual_seed(0))
    counts = torch.cat([next(stream) for _ in range(20)]).long().flatten().bincount(minlength=10)
    assert float(((counts - 2000.0) ** 2 / 2000).sum()) < 45
