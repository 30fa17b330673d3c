"""`scorefield fit`: learn the score of a data set and keep it in a RUN folder."""

import dataclasses
from collections.abc import Callable

from scorefield.cli import console, opening
from scorefield.cli.options import Fit
from scorefield.cli.request import DEFAULT_BUDGET, request_of, seconds
from scorefield.kinds.kind import Kind, Request, Source, Units
from scorefield.kinds.registry import KINDS, kind_of, units_of
from scorefield.runs import folder as runs
from scorefield.runs import metrics_log, resuming
from scorefield.runs.checkpoint import CheckpointError
from scorefield.runs.folder import Run
from scorefield.training.budget import TooShort
from scorefield.training.learner import Learner
from scorefield.training.problem import Problem
from scorefield.training.threads import cores, fastest

Say = Callable[..., None]


def run(options: Fit) -> None:
    """Learn the score of a data set; the same command again goes on, or does nothing where all is done."""
    say, lap, kind = console.speaker(options), console.stopwatch(), kind_of(options.data)
    by_the_clock = options.steps is None and options.threads is None
    opening.start(options, fastest(kind.threads()) if by_the_clock else kind.threads())
    request = request_of(options)
    _check_options(options, request, kind)
    source = kind.read(request)
    lap("reading")
    say(*(f"note      {note}" for note in source.notes))
    found = _existing(options, request, source.digest, kind)
    if found is not None:
        run, units = found
        opening.start(options, min(run.threads, cores()))
        _train(options, run, kind.problem(source, units, request, options.device), say, lap)
        return
    run, problem = _new_run(options, request, kind, source, say)
    try:
        _train(options, run, problem, say, lap)
    except TooShort:
        runs.remove(run.folder)
        raise


def _check_options(options: Fit, request: Request, kind: Kind) -> None:
    """Raise ValueError for options that only another kind of data takes, and for what this kind cannot learn."""
    for other in KINDS.values():
        for name in sorted(other.options & request.keys() - kind.options):
            option = name.replace("_", "-")
            raise ValueError(f"--{option} is for {other.name}, and {options.data} holds {kind.noun}; leave it out")
    kind.check(request)


def _existing(options: Fit, request: Request, digest: str, kind: Kind) -> tuple[Run, Units] | None:
    """Return the run to go on with and its units; None where a new one is to be made, another removed with --force."""
    if not runs.is_run(options.out):
        return None
    try:
        run = runs.read(options.out)
        changed = [key for key in request.keys() | run.request.keys() if request.get(key) != run.request.get(key)]
        if not changed and run.data["digest"] == digest:
            return run, units_of(kind, run)
        what = f"with other options ({', '.join(sorted(changed))})" if changed else "from other data"
        error = ValueError(f"{options.out} holds a run made {what}; name another --out, or replace it with --force")
    except CheckpointError as damaged:
        error = damaged
    if not options.force:
        raise error
    runs.remove(options.out)
    return None


def _new_run(options: Fit, request: Request, kind: Kind, source: Source, say: Say) -> tuple[Run, Problem]:
    """Choose the settings of a new run, say what they are and why, and write its folder."""
    units = kind.learn_units(source, request)
    problem = kind.problem(source, units, request, options.device)
    settings = kind.settings(problem, request)
    runs.prepare_folder(options.out)
    say(*kind.words(source, units, settings, request))
    config = dataclasses.replace(settings.config, steps=options.steps or 0)
    how_long = f"{config.steps:,} steps" if config.steps else f"{request['budget']} by the clock, steps"
    say(f"training  {how_long} of {config.batch_size} {kind.drawn}")
    content = kind.content(source, units)
    return runs.create(options.out, request, kind.facts(source), config, content, kind.test_rows(source)), problem


def _train(options: Fit, run: Run, problem: Problem, say: Say, lap: Callable[[str], dict[str, float]]) -> None:
    """Train a run to its end from wherever it stands, and say what became of it and where the time went."""
    lap("units")
    first = [0]

    def resumed(step: int, notes: list[str]) -> None:
        first.append(step)
        say(f"resume    from step {step:,}", *notes)

    schedule = resuming.schedule_of(run, seconds(run.request.get("budget", DEFAULT_BUDGET)))
    learner = Learner(run.config, problem.prepare(run.config), schedule)
    say(f"base      {learner.prepared.base_name}: {learner.prepared.base_reason}")
    lap("base")
    console.follow(resuming.train(run, learner, resumed), schedule, options.quiet)
    spent = lap("end")
    kept = [report for report in metrics_log.read_metrics(run) if report.kept]
    outcome = (
        f"the weights of step {kept[-1].step:,} are kept, validation loss {kept[-1].validation:.4f} of one Gaussian's"
        if kept
        else f"no step was better than the base, so the model is the base: {learner.prepared.base_name}"
    )
    if learner.trainer.skipped:
        say(f"note      {learner.trainer.skipped:,} steps were skipped: their loss or its gradient was not finite")
    step = learner.trainer.step
    before, trained = (metrics_log.seconds_until(run.folder, k) for k in (first[-1], step))
    spent |= {"training": trained - before, "end": max(0.0, spent["end"] - trained + before)}
    if not schedule.ends(step):
        say(f"stopped   at step {step:,}: held-out rows had got worse for long, more steps would memorise")
    names = ("reading", "units", "base", "training", "end")
    say(f"time      {', '.join(f'{name} {spent[name]:.1f} s' for name in names)}")
    say(f"done      {outcome}; the run is in {run.folder}")
    if not run.config.steps:
        exactly = f"--steps {schedule.steps} --threads {run.threads}"
        say(f"steps     {schedule.steps:,} were the budget's; repeat it exactly with {exactly}")
