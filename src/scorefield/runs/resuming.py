"""Training a run from wherever it stands to its end, leaving checkpoints."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from time import perf_counter

from scorefield.data import atomic
from scorefield.diffusion.denoisers import ScoreModel
from scorefield.runs import checkpoint, signals
from scorefield.runs.checkpoint import CheckpointError
from scorefield.runs.folder import Run
from scorefield.runs.metrics_log import METRICS, TIMING, append, kept_metrics, seal_of
from scorefield.runs.weights import tensors_of
from scorefield.training.learner import Learner, Report

UNFINISHED_RATIO = 0.05
"""The noise ratio at which the score of a model is read that has not been trained to the end."""

CHECKPOINTS = 20
"""Checkpoints in one run, but at least one in every 1,000 steps."""


def train(
    run: Run,
    learner: Learner,
    on_resume: Callable[[int, list[str]], None],
) -> Iterator[Report | None]:
    """Train a run to its last step from wherever it stands, yielding as `Learner.run`, and leave its checkpoints.

    A run that was killed goes on from its newest valid checkpoint and ends with the same bytes as one that was not;
    on_resume(step, notes) is told. metrics.jsonl has a line a report and no clock; timing.jsonl has the clock.
    A signal to stop waits for the step in progress, which becomes a checkpoint. Raises Stopped then.
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
    checkpoint.tidy(run.folder)
    atomic.remove_left(run.folder)
    with atomic.naming(metrics), metrics.open("ab") as file:
        file.truncate(len(kept))
    every = max(1, min(run.config.steps // CHECKPOINTS, 1000))
    began, first = perf_counter(), learner.trainer.step
    reports, clock = [], []
    with signals.held() as asked:
        for report in learner.run():
            step = learner.trainer.step
            if report is not None:
                reports.append(asdict(report))
                clock.append({"from": first, "step": step, "seconds": round(perf_counter() - began, 3)})
            if step % every == 0 or learner.done or asked:
                append(run.folder / TIMING, clock)
                append(metrics, reports)
                _save(run, learner)
            yield report
            if asked:
                left = f"step {step:,} of {run.config.steps:,} is kept, and the same fit command goes on from there"
                raise signals.Stopped(asked[0], left)


def save_final(run: Run, model: ScoreModel, ratio: float) -> None:
    """Write a finished model, trained elsewhere, as the last checkpoint of a run."""
    checkpoint.save(run.folder, run.config.steps, tensors_of(model, ratio), {}, run.digest)


def _save(run: Run, learner: Learner) -> None:
    ratio = learner.reading_ratio if learner.done else run.config.level or UNFINISHED_RATIO
    state = learner.state() | {"metrics": seal_of(run.folder)}
    checkpoint.save(run.folder, learner.trainer.step, tensors_of(learner.result, ratio), state, run.digest)
