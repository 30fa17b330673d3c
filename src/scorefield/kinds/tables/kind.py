"""Tables of numbers as a kind of data."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from scorefield import data
from scorefield.data import toys
from scorefield.inference import frontier
from scorefield.inference.samplers import SAMPLERS, STEPS
from scorefield.kinds.kind import Drawing, Kind, Opened, Request, Settings
from scorefield.kinds.tables import source
from scorefield.kinds.tables.columns import suggestions
from scorefield.kinds.tables.estimator import ScoreDensity
from scorefield.kinds.tables.evaluation import Evaluation, evaluate
from scorefield.kinds.tables.problem import TableProblem, choose_transform, in_model_units
from scorefield.kinds.tables.settings import choose_settings
from scorefield.kinds.tables.source import TableSource, bounds_of
from scorefield.kinds.tables.units import TableTransform
from scorefield.runs import folder as runs
from scorefield.runs import loading, recommendation
from scorefield.runs.folder import Run
from scorefield.training.config import Config
from scorefield.training.objectives.table import OBJECTIVES

BLOCK = 1_024
"""Points are scored and written in blocks of this size."""

FRONTIER = "frontier.json"
"""What `frontier` leaves in a RUN."""

SHOWN = 5_000
"""Samples in a picture, at most."""

NO_TEST = "fewer than 1,000 rows: none are kept for a test; give evaluate others with --against"
THIRD = "third derivatives of the energy are taken: steps cost 2 to 4 times those of denoising"
"""What `fit` says of small tables and of slow objectives."""


class TableKind(Kind):
    """Numbers in rows and columns: .csv .tsv .parquet .npy .npz, and the built-in sets of points."""

    name, noun, drawn, key = "tables", "a table", "rows", "columns"
    options = frozenset({"columns", "drop", "positive", "bounds", "rows"})

    def owns(self, data: str) -> bool:
        return True

    def built_in(self, data: str) -> bool:
        return data in toys.TOYS

    def check(self, request: Request) -> None:
        bounds_of(request)

    def read(self, request: Request) -> TableSource:
        return source.read(request)

    def learn_units(self, source: TableSource, request: Request) -> TableTransform:
        bounds = bounds_of(request)
        with data.about(source.name):
            if request["objective"] == "explicit":
                return TableTransform.fit(source.known, bounds, bend=False)
            return choose_transform(source.known, bounds, request["seed"])

    def problem(self, source: TableSource, units: TableTransform, request: Request, device: str) -> TableProblem:
        names = ("seed", "objective", "network")
        choices = Config(steps=1, **{name: request[name] for name in names})
        generator = choices.generator("dequantise")
        train, validation = (units.forward(part, generator) for part in source.parts[:2])
        truth = None
        if choices.objective == "explicit":
            truth = in_model_units(toys.density_of(source.name), units, source.parts[0])
        return TableProblem(train, validation, units.white, truth=truth, device=device)

    def settings(self, problem: TableProblem, request: Request) -> Settings:
        names = ("seed", "process", "predicts", "objective", "network", "level")
        return choose_settings(problem, **{name: request[name] for name in names})

    def words(self, source: TableSource, units: TableTransform, settings: Settings, request: Request) -> list[str]:
        config, rows = settings.config, source.counts
        said = [
            f"data      {request['data']}: {sum(rows.values()):,} rows of {len(units.names)} columns",
            f"rows      {rows['train']:,} to train, {rows['validation']:,} to validate, {rows['test']:,} to test",
        ]
        if not rows["test"]:
            said.append(f"note      {NO_TEST}")
        for name in units.constant:
            said.append(f"note      {name} is constant: it is reproduced in samples and left out of the log-density")
        for column in units.columns:
            if text := column.describe():
                said.append(f"column    {column.name}: {text}")
        if hints := suggestions(units.columns, source.known):
            said.append(f"hint      {hints} would keep samples where the values of these columns are")
        learned = f"the network predicts {config.predicts!r}, learned by {config.objective}"
        said.append(f"model     {config.process} process, {learned}")
        if config.network == "energy" and OBJECTIVES[config.objective].derivative:
            said.append(f"note      {THIRD}")
        said.append(f"range     {settings.range_reason}")
        if config.members > 1:
            each = "each of which learns without its own part of the rows"
            said.append(f"ensemble  the mean of {config.members} networks, {each}")
        return said

    def facts(self, source: TableSource) -> dict[str, object]:
        return {"digest": source.digest, **source.counts}

    def content(self, source: TableSource, units: TableTransform) -> dict[str, object]:
        return units.content()

    def test_rows(self, source: TableSource) -> pd.DataFrame | None:
        return source.parts[2] if len(source.parts[2]) else None

    def units_of(self, run: Run) -> TableTransform:
        return TableTransform.saved(run.units)

    def estimator(self, run: Run, units: TableTransform) -> ScoreDensity:
        return ScoreDensity.of_run(run, units, loading.load(run, units.dim))

    def check_drawing(self, run: Run, asked: Drawing, out: Path, n: int, force: bool) -> None:
        if asked.label is not None or asked.guidance != 1:
            raise ValueError(f"--class and --guidance are for images with labels; {run.folder} learned a table")
        data.check_output(out, force)

    def draw(self, opened: Opened, asked: Drawing, out: Path, n: int, seed: int, force: bool) -> str:
        sampler, steps, note = _sampler_for(opened, asked)
        data.write_blocks(out, opened.estimator.sample_blocks(n, sampler, steps, seed), force)
        return note

    def log_probs(self, opened: Opened, points: Path, bound: bool) -> Iterator[pd.DataFrame]:
        estimator: ScoreDensity = opened.estimator
        blocks = data.point_blocks(points, estimator.transform_.names, BLOCK)
        return (_log_prob(estimator, block, bound) for block in blocks)

    def evaluate(self, opened: Opened, against: Path | None, seed: int) -> tuple[Evaluation, list[str]]:
        notes: list[str] = []
        held_out, train = _held_out(opened, against, notes), _training_rows(opened.run, notes)
        return evaluate(opened.estimator, held_out, train, seed, notes), []

    def plot(self, opened: Opened, folder: Path) -> list[str]:
        from scorefield import reports  # matplotlib, for which other commands need not wait

        estimator, notes = opened.estimator, list[str]()
        shown = known_rows(opened, notes)
        drawn = estimator.sample(min(len(shown), SHOWN), random_state=0)
        names = list(estimator.transform_.names)
        samples = pd.DataFrame(drawn, columns=names)
        log_density = lambda points: estimator.score_samples(pd.DataFrame(points, columns=names))
        gradient = lambda points: np.asarray(estimator.score_function(pd.DataFrame(points, columns=names)))
        reports.save(reports.overview(shown, samples, log_density, gradient), folder / "overview.png")
        return notes


def _log_prob(estimator: ScoreDensity, points: pd.DataFrame, bound: bool) -> pd.DataFrame:
    """Return the log-density at points, what is known of its error, and where asked for a lower bound."""
    found = estimator.log_prob(points)
    names = {"value": "logprob"} | {name: name for name in ("stderr", "solver_error", "start_error", "evaluations")}
    columns = {name: getattr(found, field) for field, name in names.items()}
    if bound:
        below = estimator.lower_bound(points)
        columns |= {"bound": below.value, "bound_stderr": below.stderr}
    return pd.DataFrame({name: values.numpy() for name, values in columns.items()})


def _sampler_for(opened: Opened, asked: Drawing) -> tuple[str, int, str]:
    """Return the sampler to draw by, its steps, and what there is to say of the choice."""
    chosen = asked.sampler is not None or asked.steps is not None
    if opened.run.config.level:
        if chosen or asked.tol is not None:
            return "adams", STEPS, "one noise level has no --sampler: Langevin steps from the base of the run"
        return "adams", STEPS, ""
    if asked.tol is not None and chosen:
        raise ValueError("--tol chooses the sampler and its steps; leave out --sampler and --steps, or --tol")
    model, path = opened.estimator.model_, opened.run.folder / FRONTIER
    kept = recommendation.read(path, model)
    if asked.tol is not None:
        point = frontier.choose(model, asked.tol, points=kept[2] if kept else ())
        return point.sampler, point.steps, point.describe()
    if kept and not chosen:
        return kept[1].sampler, kept[1].steps, f"as {path} recommends: {kept[1].describe()}"
    sampler = asked.sampler or "adams"
    if sampler in SAMPLERS and SAMPLERS[sampler].adapts and asked.steps is not None:
        return sampler, asked.steps, f"{sampler} chooses its own steps; --steps has no part in it"
    stale = path.is_file() and not kept
    note = f"{path} is of another model and was not used; make it again with scorefield frontier" if stale else ""
    return sampler, STEPS if asked.steps is None else asked.steps, note


def _held_out(opened: Opened, against: Path | None, notes: list[str]) -> pd.DataFrame:
    """Return the real rows to compare with. Raises ValueError where there are none."""
    run = opened.run
    path = against or runs.held_out_file(run)
    if path is None:
        raise ValueError(f"{run.folder} has no test rows; give a table of real rows with --against FILE")
    table = data.read_points(path, opened.estimator.transform_.names, run.config.seed)
    notes += table.notes
    return table.frame


def _training_rows(run: Run, notes: list[str]) -> pd.DataFrame | None:
    """Return the rows a run was trained on, read again from their source; None, and a note, where they have changed."""
    try:
        found = source.read(run.request)
        if found.digest == run.data["digest"]:
            return found.parts[0]
        reason = "has changed"
    except (ValueError, KeyError):
        reason = "cannot be read"
    notes.append(f"the data that the run was made from {reason}: no check for copied training rows")
    return None


def known_rows(opened: Opened, notes: list[str]) -> pd.DataFrame:
    """Return real rows to show: those a run was trained on, else its test rows, else its samples."""
    train = _training_rows(opened.run, notes)
    if train is None and runs.held_out_file(opened.run) is None:
        notes.append("no real rows are at hand: samples of the run stand for them")
        names = list(opened.estimator.transform_.names)
        return pd.DataFrame(opened.estimator.sample(2_000, random_state=0), columns=names)
    return _held_out(opened, None, notes) if train is None else train
