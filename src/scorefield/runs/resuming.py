"""Training a run from wherever it stands to its end, leaving checkpoints."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from time import perf_counter

from scorefield.data import atomic
from scorefield.diffusion.denoisers import ScoreModel
from scorefield.runs import checkpoint, signals
from scorefield.runs.checkpoint import CheckpointError
from scorefield.runs.folder import COSINE, Run, settle
from scorefield.runs.metrics_log import METRICS, TIMING, append, cut, kept_metrics, seal_of, seconds_until
from scorefield.runs.weights import tensors_of
from scorefield.training.budget import Budget, Cosine, Falling, Schedule, grain
from scorefield.training.learner import Learner, Report

UNFINISHED_RATIO = 0.05
"""The noise ratio at which the score of a model is read that has not been trained to the end."""

OFTEN = 1_000
"""A checkpoint follows every second report and each multiple of so many steps."""


def schedule_of(run: Run, seconds: float) -> Schedule:
    """Return the schedule of a run; seconds: its budget, where the number of its steps is not known yet."""
    if run.format == COSINE:
        return Cosine(run.config.steps)
    return Falling(run.config.steps or Budget(seconds))


def train(
    run: Run,
    learner: Learner,
    on_resume: Callable[[int, list[str]], None],
) -> Iterator[Report | None]:
    """Train a run to its last step from wherever it stands, yielding as `Learner.run`, and leave its checkpoints.

    A run that was killed goes on from its newest valid checkpoint and ends with the same bytes as one that was not;
    on_resume(step, notes) is told. metrics.jsonl has a line a report and no clock; timing.jsonl has the clock.
    Where the clock says how many steps there are, they are on the disk before another is taken. A signal to stop waits
    for the step in progress, which becomes a checkpoint. Raises Stopped then, and TooShort as `Learner.run`.
    Long because the order of what is written is what a kill relies on.
    """
    metrics = run.folder / METRICS
    found, kept = checkpoint.latest(run.folder, run.digest), b""
    if found is not None:
        kept = kept_metrics(run.folder, found.state)
        try:
            learner.load_state({name: value for name, value in found.state.items() if name != "metrics"})
        except (RuntimeError, KeyError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"the training state in {run.folder} is not that of its config.toml: {error}"
            ) from error
        on_resume(found.step, found.notes)
        if learner.schedule.budget is not None:
            learner.schedule.budget.spent = seconds_until(run.folder, found.step)
    checkpoint.tidy(run.folder)
    atomic.remove_left(run.folder)
    cut(run.folder, kept)
    began, first = perf_counter(), learner.trainer.step
    reports, clock, settled = [], [], run.config.steps
    with signals.held() as asked:
        for report in learner.run():
            step = learner.trainer.step
            if not settled and learner.schedule.steps is not None:
                settled = learner.schedule.steps
                settle(run, settled)
            often = step % (2 * grain(step)) == 0 or step % OFTEN == 0
            if report is not None:
                reports.append(asdict(report))
            if report is not None or asked:
                clock.append({"from": first, "step": step, "seconds": round(perf_counter() - began, 3)})
            if often or learner.done or asked:
                append(run.folder / TIMING, clock)
                append(metrics, reports)
                _save(run, learner)
            yield report
            if asked:
                of_all = f" of {settled:,}" if settled else ""
                left = f"step {step:,}{of_all} is kept, and the same fit command goes on from there"
                raise signals.Stopped(asked[0], left)


def save_final(run: Run, model: ScoreModel, ratio: float) -> None:
    """Write a finished model, trained elsewhere, as the last checkpoint of a run."""
    checkpoint.save(run.folder, run.config.steps, tensors_of(model, ratio), {}, run.digest)


def _save(run: Run, learner: Learner) -> None:
    ratio = learner.reading_ratio if learner.done else run.config.level or UNFINISHED_RATIO
    state = learner.state() | {"metrics": seal_of(run.folder)}
    checkpoint.save(run.folder, learner.trainer.step, tensors_of(learner.result, ratio), state, run.digest)
