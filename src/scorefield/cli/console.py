"""What the commands say while they work: lines, progress, notes on a run."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from scorefield.cli import entry as cli
from scorefield.cli import requests
from scorefield.reports import tables as plots
from scorefield.runs import folder as runs
from scorefield.runs.checkpoint import CheckpointError
from scorefield.training.budget import steps_within
from scorefield.training.config import Config
from scorefield.training.learner import Learner, Report
from scorefield.training.problem import Problem


def speaker(options: cli.Common) -> Callable[..., None]:
    """Return the function that prints lines of information, or that prints nothing when --quiet is set."""

    def say(*lines: str) -> None:
        if lines and not options.quiet:
            print(*lines, sep="\n", file=sys.stderr, flush=True)

    return say


def existing(options: cli.Fit, request: dict, digest: str) -> runs.Run | None:
    """Return the run to go on with, None where a new one is to be made (removing another one with --force)."""
    if not runs.is_run(options.out):
        return None
    try:
        run = runs.read(options.out)
        changed = [key for key in request.keys() | run.request.keys() if request.get(key) != run.request.get(key)]
        if not changed and run.data["digest"] == digest:
            return run
        what = f"with other options ({', '.join(sorted(changed))})" if changed else "from other data"
        error = ValueError(f"{options.out} holds a run made {what}; name another --out, or replace it with --force")
    except CheckpointError as damaged:
        error = damaged
    if not options.force:
        raise error
    runs.remove(options.out)
    return None


def train(options: cli.Fit, run: runs.Run, problem: Problem) -> None:
    """Train a run to its end from wherever it stands, and say what became of it."""
    say = speaker(options)
    resumed = lambda step, notes: say(f"resume    from step {step:,} of {run.config.steps:,}", *notes)
    learner = Learner(run.config, problem.prepare(run.config))
    say(f"base      {learner.prepared.base_name}: {learner.prepared.base_reason}")
    _follow(runs.train(run, learner, resumed), run.config.steps, options.quiet)
    kept = [report for report in runs.read_metrics(run) if report.kept]
    outcome = (
        f"the weights of step {kept[-1].step:,} are kept, validation loss {kept[-1].validation:.4f} of one Gaussian's"
        if kept
        else f"no step was better than the base, so the model is the base: {learner.prepared.base_name}"
    )
    if learner.trainer.skipped:
        say(f"note      {learner.trainer.skipped:,} steps were skipped: their loss or its gradient was not finite")
    if learner.trainer.step < run.config.steps:
        step = learner.trainer.step
        say(f"stopped   at step {step:,}: held-out rows had got worse for long, more steps would memorise")
    say(f"done      {outcome}; the run is in {run.folder}")


def steps_for(options: cli.Fit, request: dict, config: Config, problem: Problem) -> tuple[int, str]:
    """Return how many steps to train, asked for or what fits into the budget, and why, in words."""
    if options.steps is not None:
        return options.steps, "as asked"
    budget = str(request["budget"])
    return steps_within(config, problem, requests.seconds(budget)), f"what fits into {budget} here"


def _follow(reports: Iterator[Report | None], steps: int, quiet: bool) -> None:
    """Run the training to its end with a progress bar, or with plain lines where standard error is no terminal."""
    text = lambda report: f"loss {report.train:.4f}  validation {report.validation:.4f}  (trivial model 1)"
    if quiet or not sys.stderr.isatty():
        due = 0
        for report in reports:
            if report is not None and not quiet and report.step >= due:
                print(f"step      {report.step:,} of {steps:,}  {text(report)}", file=sys.stderr, flush=True)
                due = report.step + steps // 10
        return
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,}/{task.total:,}")
    with Progress(*columns, TimeRemainingColumn(), transient=True) as progress:
        task = progress.add_task("training", total=steps)
        for report in reports:
            progress.advance(task)
            if report is not None:
                progress.update(task, completed=report.step, description=text(report))


def draw_losses(run: runs.Run, folder: Path) -> None:
    """Draw the losses of a run into loss.png of a folder, if there are any."""
    if reports := runs.read_metrics(run):
        figure = plots.Figure(figsize=(7, 4), layout="constrained")
        curves = [np.array([getattr(report, name) for report in reports]) for name in ("step", "train", "validation")]
        plots.loss_curves(figure.subplots(), *curves)
        plots.save(figure, folder / "loss.png")
