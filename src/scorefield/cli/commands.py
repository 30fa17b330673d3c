"""What each command does: options in, files and lines out. Mistakes are ValueErrors; `cli` makes them one line."""

import dataclasses
import inspect
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.progress import track
from threadpoolctl import threadpool_limits

from scorefield import data, gallery, selftest
from scorefield.cli import console, image_commands, requests
from scorefield.cli import entry as cli
from scorefield.data import atomic, toys
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.process import span_for
from scorefield.gallery.report import write_results
from scorefield.inference import frontier
from scorefield.inference.samplers import SAMPLERS, STEPS
from scorefield.kinds.tables import density_grid, evaluation
from scorefield.kinds.tables.columns import suggestions
from scorefield.kinds.tables.estimator import ScoreDensity, load_table
from scorefield.kinds.tables.problem import choose_transform, largest_distance
from scorefield.kinds.tables.units import TableTransform
from scorefield.reports import tables as plots
from scorefield.runs import folder as runs
from scorefield.runs.checkpoint import unseal
from scorefield.training import comparison
from scorefield.training.config import Config
from scorefield.training.objectives import OBJECTIVES
from scorefield.training.problem import Part, members_for

BLOCK = 1_024
"""Points are scored and written in blocks of this size."""

FRONTIER = "frontier.json"
"""What `frontier` leaves in a RUN."""


def _start(options: cli.Common, threads: int) -> None:
    """Use so many threads, and check the device. Raises ValueError for one that does not exist."""
    if threads < 1:
        raise ValueError(f"--threads must be at least 1; got {threads}")
    torch.set_num_threads(threads)
    threadpool_limits(limits=threads)  # those of NumPy, SciPy and scikit-learn, which took three times as long with two
    try:
        torch.zeros(1, device=options.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device {options.device!r} cannot be used here: {reason}; try --device cpu") from error


def fit(options: cli.Fit) -> None:
    """Learn the score of a data set and keep it in a RUN folder."""
    if options.skip_bad or any((options.labels, options.layout, options.resize, options.crop)):
        raise ValueError(f"--labels, --layout, --resize, --crop, --skip-bad are for images; {options.data} is a table")
    say = console.speaker(options)
    request = requests.request_of(options)
    parts, digest, notes = requests.parts_of(request)
    for note in notes:
        say(f"note      {note}")
    run = console.existing(options, request, digest) or _new_run(options, request, digest, parts, say)
    problem = requests.problem_of(run.config, run.transform, request, parts, options.device)
    console.train(options, run, problem)


def sample(options: cli.Sample) -> None:
    """Draw new rows from a RUN, block by block, so that memory does not grow with their number."""
    if options.label is not None or options.guidance != 1:
        raise ValueError(f"--class and --guidance are for images with labels; {options.run} learned a table")
    data.check_output(options.out, options.force)
    if options.n < 1 or options.seed < 0:
        raise ValueError(f"-n must be at least 1 and --seed at least 0; got -n {options.n} --seed {options.seed}")
    estimator = _open(options.run, options)
    sampler, steps, note = _sampler_for(options, estimator)
    blocks = estimator.sample_blocks(options.n, sampler, steps, options.seed)
    data.write_blocks(options.out, blocks, options.force)
    say = console.speaker(options)
    say(*([f"note: {note}"] if note else []))
    say(f"wrote {options.n:,} rows to {options.out}")


def _sampler_for(options: cli.Sample, estimator: ScoreDensity) -> tuple[str, int, str]:
    """Return the sampler to draw by, its steps, and what there is to say of the choice."""
    chosen = options.sampler is not None or options.steps is not None
    if estimator.config_.level:
        if chosen or options.tol is not None:
            return "adams", STEPS, "one noise level has no --sampler: Langevin steps from the base of the run"
        return "adams", STEPS, ""
    if options.tol is not None and chosen:
        raise ValueError("--tol chooses the sampler and its steps; leave out --sampler and --steps, or --tol")
    model, path = estimator.model_, options.run / FRONTIER
    kept = frontier.read(path, model)
    if options.tol is not None:
        point = frontier.choose(model, options.tol, points=kept[2] if kept else ())
        return point.sampler, point.steps, frontier.describe(point)
    if kept and not chosen:
        return kept[1].sampler, kept[1].steps, f"as {path} recommends: {frontier.describe(kept[1])}"
    sampler = options.sampler or "adams"
    if sampler in SAMPLERS and SAMPLERS[sampler].adapts and options.steps is not None:
        return sampler, options.steps, f"{sampler} chooses its own steps; --steps has no part in it"
    stale = path.is_file() and not kept
    note = f"{path} is of another model and was not used; make it again with scorefield frontier" if stale else ""
    return sampler, STEPS if options.steps is None else options.steps, note


def measure(options: cli.Frontier) -> None:
    """Measure every sampler on a RUN, print the table, write it into the RUN, and draw it."""
    estimator = _open(options.run, options)
    if estimator.config_.level:
        raise ValueError(f"{options.run} learned one noise level; samplers need all: fit without --level")
    if options.seed < 0 or not options.tol > 0:
        raise ValueError(f"--tol must be positive and --seed at least 0; got {options.tol:g} and {options.seed}")
    model, path = estimator.model_, options.run / FRONTIER
    hidden, found = options.quiet or not sys.stderr.isatty(), frontier.frontier(model, options.seed)
    total = len(frontier.plan())
    points = list(track(found, "samplers", total, console=Console(stderr=True), transient=True, disable=hidden))
    recommended = frontier.choose(model, options.tol, options.seed, points)
    frontier.write(path, model, options.tol, points, recommended)
    folder = options.run / "figures"
    folder.mkdir(exist_ok=True)
    plots.save(frontier.draw(points, options.tol, recommended), folder / "frontier.png")
    if options.json:
        print(json.dumps({"run": str(options.run), **unseal(path)}))
    else:
        print(*frontier.lines(points, options.tol, recommended), sep="\n")
    console.speaker(options)(f"wrote {path} and drew {folder / 'frontier.png'}")


def score(options: cli.Score) -> None:
    """Write the score at points."""

    def gradient(estimator: ScoreDensity, points: pd.DataFrame) -> pd.DataFrame:
        found = pd.DataFrame(estimator.score_function(points))
        varying = [found.columns[i] for i in estimator.transform_.varying]
        return found[varying].add_prefix("score_")

    _at_points(options, gradient)


def logprob(options: cli.Logprob) -> None:
    """Write the log-density at points."""

    def log_density(estimator: ScoreDensity, points: pd.DataFrame) -> pd.DataFrame:
        found = estimator.log_prob(points)
        names = {"value": "logprob"} | {name: name for name in ("stderr", "solver_error", "start_error", "evaluations")}
        columns = {name: getattr(found, field) for field, name in names.items()}
        if options.bound:
            bound = estimator.lower_bound(points)
            columns |= {"bound": bound.value, "bound_stderr": bound.stderr}
        return pd.DataFrame({name: values.numpy() for name, values in columns.items()})

    _at_points(options, log_density)


def evaluate(options: cli.Evaluate) -> None:
    """Compare a RUN with held-out rows: print each number with its error, beside real rows, and the verdict."""
    estimator, run = _open(options.run, options), runs.read(options.run)
    notes: list[str] = []
    held_out, train = _held_out(run, options.against, notes), _training_rows(run, notes)
    found = evaluation.evaluate(estimator, held_out, train, options.seed)
    if options.json:
        print(json.dumps({"run": str(options.run), **found.as_json(), "notes": notes}))
    else:
        print(*(f"note: {note}" for note in notes), *found.lines(), sep="\n")


def plot(options: cli.Plot) -> None:
    """Draw a RUN into RUN/figures: overview.png and loss.png."""
    estimator, run = _open(options.run, options), runs.read(options.run)
    folder = options.run / "figures"
    folder.mkdir(exist_ok=True)
    notes: list[str] = []
    shown = _known_rows(estimator, run, notes)
    drawn = estimator.sample(min(len(shown), 5_000), random_state=0)
    names = list(estimator.transform_.names)
    samples = pd.DataFrame(drawn, columns=names)
    log_density = lambda points: estimator.score_samples(pd.DataFrame(points, columns=names))
    gradient = lambda points: np.asarray(estimator.score_function(pd.DataFrame(points, columns=names)))
    plots.save(plots.overview(shown, samples, log_density, gradient), folder / "overview.png")
    console.draw_losses(run, folder)
    console.speaker(options)(*(f"note: {note}" for note in notes), f"drew {folder}")


def compare_objectives(options: cli.CompareObjectives) -> None:
    """Train one network by each objective for the same time, and compare their errors at every noise level."""
    say, budget = console.speaker(options), requests.seconds(options.budget)
    outputs = [options.out / f"comparison{extension}" for extension in (".csv", ".png")]
    if options.out.exists() and not options.out.is_dir():
        raise ValueError(f"expected a folder as --out; {options.out} is a file; name another")
    if options.device != "cpu":
        raise ValueError(f"compare-objectives measures on the CPU; got --device {options.device}; leave it out")
    if not options.force and any(path.exists() for path in outputs):
        raise ValueError(f"{options.out} holds a comparison already; name another --out, or replace it with --force")
    request = {"data": options.data, "seed": options.seed} | ({} if options.rows is None else {"rows": options.rows})
    toy = toys.TOYS.get(options.data)
    known = isinstance(getattr(toy, "density", None), GaussianMixture)
    names = [name for name in OBJECTIVES if known or name != "explicit"]
    if options.objectives is not None:
        asked = re.split(r"\s*,\s*", options.objectives)
        if unknown := [name for name in asked if name not in names]:
            raise ValueError(f"--objectives must be among {', '.join(names)} for these data; got {unknown[0]!r}")
        names = asked
    parts, _, notes = requests.parts_of(request)
    transform = TableTransform.fit(parts[0], None, bend=False)
    truth = "explicit" if known else "denoising"
    problem = requests.problem_of(Config(steps=1, seed=options.seed, objective=truth), transform, request, parts, "cpu")
    if len(problem.validation) < 10:
        raise ValueError(f"expected at least 100 rows, of which a tenth judges; got {sum(map(len, parts))}")
    say(*(f"note      {note}" for note in notes), f"judged    by {'the true score' if known else 'held-out rows'}")
    options.out.mkdir(parents=True, exist_ok=True)
    results = []
    part = Part(problem.train, problem.validation, truth=problem.truth)
    for result in comparison.compare(part, names, budget, options.seed):
        results.append(result)
        atomic.write(outputs[0], comparison.table(results).to_csv(index=False).encode())
        numbers = f"{result.steps:7,} steps {result.seconds:6.1f} s {result.megabytes:6.0f} MB  mean error"
        say(f"{result.objective:18} {numbers} {result.mean_error:.4f} {result.failure}")
    figure = plots.Figure(figsize=(9, 5), layout="constrained")
    label = "Fisher divergence, relative" if known else "implicit loss less one Gaussian's"
    plots.errors_by_level(figure.subplots(), comparison.RATIOS, {r.objective: r.errors for r in results}, label)
    plots.save(figure, outputs[1])
    say(f"wrote     {outputs[0]} and {outputs[1]}")


def density(options: cli.Density) -> None:
    """Write the density of a RUN on a grid, draw it into RUN/figures and print how far it can be trusted."""
    data.check_output(options.out, options.force)
    estimator, run = _open(options.run, options), runs.read(options.run)
    notes: list[str] = []
    rows = _known_rows(estimator, run, notes)
    found = density_grid.recover(estimator, rows, options.method, options.points)
    data.write_blocks(options.out, [found.frame], options.force)
    folder = options.run / "figures"
    folder.mkdir(exist_ok=True)
    plots.save(found.figure(rows), folder / "density.png")
    print(*found.lines(), sep="\n")
    told = f"wrote {len(found.frame):,} rows to {options.out} and drew {folder / 'density.png'}"
    console.speaker(options)(*(f"note: {note}" for note in notes), told)


def builtin(options: cli.Data) -> None:
    """Write a built-in data set to a file, or list them."""
    if options.name is None:
        for name, toy in toys.TOYS.items():
            print(f"{name:18}{len(toy.columns)} columns")
        return
    if options.out is None:
        raise ValueError(f"expected a file to write; got none; for example: --out {options.name}.csv")
    data.check_output(options.out, options.force)
    frame = toys.load(options.name, options.n, options.seed)
    data.write_blocks(options.out, [frame], options.force)
    console.speaker(options)(f"wrote {len(frame):,} rows to {options.out}")


def show(options: cli.Gallery) -> None:
    """Run an entry of the gallery into a folder, or list the entries."""
    if options.action == "list":
        print(*(f"{name:24}{entry.title}" for name, entry in gallery.ENTRIES.items()), sep="\n")
        return
    if options.name not in gallery.ENTRIES:
        raise ValueError(f"expected an entry of the gallery, one of {list(gallery.ENTRIES)}; got {options.name!r}")
    if options.full and "full" not in inspect.signature(gallery.ENTRIES[options.name].run).parameters:
        raise ValueError(f"expected an entry with a long form for --full; got {options.name!r}; leave --full out")
    if options.seeds < 1:
        raise ValueError(f"--seeds must be at least 1; got {options.seeds}")
    out = options.out
    if out is None:
        raise ValueError(f"expected a folder to write; got none; for example: --out {options.name}")
    if out.exists() and not out.is_dir():
        raise ValueError(f"expected a folder to write; {out} is a file; name another --out")
    if not options.force and out.is_dir() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty; name another --out, or write into it with --force")
    longer = {"full": True} if options.full else {}
    write_results(gallery.ENTRIES[options.name].run(out, seeds=options.seeds, **longer), out / "results.json")
    console.speaker(options)(f"wrote figures, animations and results.json to {out}")


def check_installation(options: cli.Selftest) -> None:
    """Run the scorecard and print a line a test. Raises RuntimeError if one failed."""
    if options.smoke + options.full + options.prove > 1:
        raise ValueError("--smoke, --full and --prove exclude each other; leave one in")
    if options.seed < 0:
        raise ValueError(f"--seed must be at least 0; got {options.seed}")
    size = "smoke" if options.smoke or options.prove else "full" if options.full else "quick"
    names = selftest.chosen(options.names, certain=options.smoke)
    tests = selftest.prove if options.prove else selftest.run
    found = []
    for outcome in tests(names, selftest.Plan(size, options.seed)):
        found.append(outcome)
        if not options.json:
            print(outcome.line(), flush=True)
    if options.json:
        print(json.dumps({"size": size, "seed": options.seed, "tests": [outcome.as_json() for outcome in found]}))
    if failed := [outcome.name for outcome in found if not outcome.passed]:
        raise RuntimeError(f"{len(failed)} of {len(found)} tests failed: {', '.join(failed)}")
    console.speaker(options)(f"passed: {len(found)} of {len(found)}")


def run(options: cli.Common) -> None:
    """Do what a command's options ask for."""
    commands: dict[type, Callable] = {
        cli.Fit: fit,
        cli.Sample: sample,
        cli.Frontier: measure,
        cli.Score: score,
        cli.Logprob: logprob,
        cli.Evaluate: evaluate,
        cli.Plot: plot,
        cli.CompareObjectives: compare_objectives,
        cli.Density: density,
        cli.Data: builtin,
        cli.Gallery: show,
        cli.Selftest: check_installation,
    }
    images = image_commands.concerns(options)
    usual = (os.cpu_count() or 1) if images else 1
    _start(options, usual if options.threads is None else options.threads)
    (image_commands.COMMANDS if images else commands)[type(options)](options)


def _new_run(
    options: cli.Fit, request: dict, digest: str, parts: list[pd.DataFrame], say: Callable[..., None]
) -> runs.Run:
    """Choose the settings of a new run, say what they are and why, and write its folder."""
    rows = dict(zip(("train", "validation", "test"), map(len, parts), strict=True))
    frame = pd.concat(parts[:2], ignore_index=True)
    bounds = requests.bounds_of(options)
    with data.about(request["data"]):
        if options.objective == "explicit":
            transform = TableTransform.fit(frame, bounds, bend=False)
        else:
            transform = choose_transform(frame, bounds, options.seed)
    choices = Config(steps=1, seed=options.seed, objective=options.objective, network=options.network)
    problem = requests.problem_of(choices, transform, request, parts, options.device)
    span, range_reason = span_for(options.process, largest_distance(problem.train))
    config = Config(
        steps=1 if options.steps is None else options.steps,
        seed=options.seed,
        process=options.process,
        span=span,
        predicts=options.predicts,
        objective=options.objective,
        network=options.network,
        level=options.level,
        members=members_for(rows["train"] + rows["validation"]),
    )
    runs.prepare_folder(options.out)
    say(f"data      {request['data']}: {sum(rows.values()):,} rows of {len(transform.names)} columns")
    say(f"rows      {rows['train']:,} to train, {rows['validation']:,} to validate, {rows['test']:,} to test")
    if not rows["test"]:
        say("note      fewer than 1,000 rows: none are kept for a test; give evaluate others with --against")
    for name in transform.constant:
        say(f"note      {name} is constant: it is reproduced in samples and left out of the log-density")
    steps, reason = console.steps_for(options, request, config, problem)
    config = dataclasses.replace(config, steps=steps)
    for column in transform.columns:
        if text := column.describe():
            say(f"column    {column.name}: {text}")
    if hints := suggestions(transform.columns, frame):
        say(f"hint      {hints} would keep samples where the values of these columns are")
    say(f"model     {config.process} process, the network predicts {config.predicts!r}, learned by {config.objective}")
    if config.network == "energy" and OBJECTIVES[config.objective].derivative:
        say("note      third derivatives of the energy are taken: steps cost 2 to 4 times those of denoising")
    say(f"range     {range_reason}")
    if config.members > 1:
        say(f"ensemble  the mean of {config.members} networks, each of which learns without its own part of the rows")
    say(f"training  {config.steps:,} steps of {config.batch_size} rows: {reason}; repeat it exactly with --steps")
    test = parts[2] if rows["test"] else None
    return runs.create(options.out, request, {"digest": digest, **rows}, config, transform, test)


def _open(folder: Path, options: cli.Common) -> ScoreDensity:
    """Return the estimator of a RUN on the device asked for, and print its notes."""
    estimator = load_table(folder)
    estimator.model_.to(options.device)
    console.speaker(options)(*(f"note: {note}" for note in estimator.notes_))
    return estimator


def _at_points(options: cli.AtPoints, answer: Callable[[ScoreDensity, pd.DataFrame], pd.DataFrame]) -> None:
    """Write the answer at each point of a table, block by block."""
    data.check_output(options.out, options.force)
    estimator = _open(options.run, options)
    points = data.point_blocks(options.points, estimator.transform_.names, BLOCK)
    rows = data.write_blocks(options.out, (answer(estimator, block) for block in points), options.force)
    console.speaker(options)(f"wrote {rows:,} rows to {options.out}")


def _held_out(run: runs.Run, against: Path | None, notes: list[str]) -> pd.DataFrame:
    """Return the real rows to compare with. Raises ValueError where there are none."""
    path = against or runs.held_out_file(run)
    if path is None:
        raise ValueError(f"{run.folder} has no test rows; give a table of real rows with --against FILE")
    table = data.read_points(path, run.transform.names, run.config.seed)
    notes += table.notes
    return table.frame


def _training_rows(run: runs.Run, notes: list[str]) -> pd.DataFrame | None:
    """Return the rows a run was trained on, read again from their source; None, and a note, where they have changed."""
    try:
        parts, digest, _ = requests.parts_of(run.request)
        if digest == run.data["digest"]:
            return parts[0]
        reason = "has changed"
    except (ValueError, KeyError):
        reason = "cannot be read"
    notes.append(f"the data that the run was made from {reason}: no check for copied training rows")
    return None


def _known_rows(estimator: ScoreDensity, run: runs.Run, notes: list[str]) -> pd.DataFrame:
    """Return real rows to show: those a run was trained on, else its test rows, else its samples."""
    train = _training_rows(run, notes)
    if train is None and runs.held_out_file(run) is None:
        notes.append("no real rows are at hand: samples of the run stand for them")
        return pd.DataFrame(estimator.sample(2_000, random_state=0), columns=list(run.transform.names))
    return _held_out(run, None, notes) if train is None else train
