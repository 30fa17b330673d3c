"""What the commands say while they work: lines, and the progress of a training."""

import sys
from collections.abc import Callable, Iterator
from time import perf_counter

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from scorefield.cli.options import Common
from scorefield.training.budget import Schedule
from scorefield.training.learner import Report


def speaker(options: Common) -> Callable[..., None]:
    """Return the function that prints lines of information, or that prints nothing when --quiet is set."""

    def say(*lines: str) -> None:
        if lines and not options.quiet:
            print(*lines, sep="\n", file=sys.stderr, flush=True)

    return say


def stopwatch() -> Callable[[str], dict[str, float]]:
    """Return a function that files the seconds since its last call under a name, and returns all that it has filed."""
    filed, last = dict[str, float](), perf_counter()

    def lap(name: str) -> dict[str, float]:
        nonlocal last
        filed[name], last = perf_counter() - last, perf_counter()
        return filed

    return lap


def follow(reports: Iterator[Report | None], schedule: Schedule, quiet: bool) -> None:
    """Run the training to its end with a progress bar, or with plain lines where standard error is no terminal."""
    text = lambda report: f"loss {report.train:.4f}  validation {report.validation:.4f}  (trivial model 1)"
    if quiet or not sys.stderr.isatty():
        due = 0
        for report in reports:
            if report is not None and not quiet and (report.step >= due or schedule.ends(report.step)):
                of_all = f" of {schedule.steps:,}" if schedule.steps else ""
                print(f"step      {report.step:,}{of_all}  {text(report)}", file=sys.stderr, flush=True)
                due = report.step + report.step // 2
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("training", total=None)
        for report in reports:
            progress.update(task, advance=1, total=schedule.steps)
            if report is not None:
                progress.update(task, completed=report.step, description=text(report))
