"""The RUN folder: config.toml, checkpoints, metrics; made by `fit`, continued after a kill, read by everything else."""

import hashlib
import json
import os
import shutil
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
import tomli_w
import torch
from torch import Tensor

from scorefield.data import atomic
from scorefield.data.messages import show
from scorefield.diffusion.denoisers import ScoreModel
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.sde import LinearSDE
from scorefield.kinds.images.units import PixelTransform
from scorefield.kinds.tables.columns import Column
from scorefield.kinds.tables.units import TableTransform
from scorefield.runs import checkpoint, signals
from scorefield.runs.checkpoint import CheckpointError
from scorefield.training.config import Config
from scorefield.training.learner import PATIENCE, Learner, Report

TYPES = frozenset(
    text
    for code in "?" + np.typecodes["AllInteger"] + np.typecodes["Float"]
    for kind in [np.dtype(code)]
    for text in (kind.name, kind.newbyteorder("<").str, kind.newbyteorder(">").str)
)
"""The types of numbers that a config.toml may name; NumPy itself reads more into a text, and parses it as Python."""

FORMAT = 6
"""The version of config.toml; a reader refuses another."""

BASE = ("weights", "means", "covariances")
"""The parts of a model's base in its checkpoint."""

UNFINISHED_RATIO = 0.05
"""The noise ratio at which the score of a model is read that has not been trained to the end."""

CHECKPOINTS = 20
"""Checkpoints in one run, but at least one in every 1,000 steps."""


@dataclass(frozen=True)
class Run:
    """A run folder's config.toml: the request as typed, the data, the settings, the columns."""

    folder: Path
    digest: str
    request: dict[str, object]
    data: dict[str, object]
    config: Config
    units: TableTransform | PixelTransform
    classes: tuple[str, ...] = ()

    @property
    def transform(self) -> TableTransform:
        """The transform of a table. Raises ValueError where the run learned images."""
        if isinstance(self.units, TableTransform):
            return self.units
        raise ValueError(f"{self.folder} learned images, for which there are sample, logprob, evaluate and plot")

    @property
    def pixels(self) -> PixelTransform:
        """The transform of images. Raises ValueError where the run learned a table."""
        if isinstance(self.units, PixelTransform):
            return self.units
        raise ValueError(f"{self.folder} learned a table, and this is for images; fit images first")


@dataclass(frozen=True)
class Fitted:
    """A trained model, the table it belongs to, and the noise ratio at which its score is read."""

    run: Run
    model: ScoreModel
    score_ratio: float
    notes: list[str]
    reports: list[Report]


TEST, METRICS = "test.parquet", "metrics.jsonl"
"""The rows that a run keeps for a test, and its reports, a line each."""


def create(
    folder: Path,
    request: dict[str, object],
    data: dict[str, object],
    config: Config,
    transform: TableTransform | PixelTransform,
    test: pd.DataFrame | None = None,
    classes: Sequence[str] = (),
) -> Run:
    """Make a run folder: test.parquet where there are test rows, then config.toml, each written whole.

    classes: the names of the classes of images.

    The folder is a run once it has a config.toml. Raises ValueError where the folder exists and is not empty.
    """
    prepare_folder(folder)
    if test is not None:
        write_frame(folder / TEST, test)
        data = data | {"test_digest": checkpoint.sha256(checkpoint.content_of(folder / TEST))}
    content = {
        "format": FORMAT,
        "threads": torch.get_num_threads(),
        "request": request,
        "data": data,
        "settings": asdict(config),
    }
    if isinstance(transform, PixelTransform):
        content |= {"pixels": asdict(transform), "classes": list(classes)}
    else:
        content["whitening"] = [list(row) for row in transform.whitening]
        content["columns"] = [asdict(column) for column in transform.columns]
    atomic.write(folder / "config.toml", tomli_w.dumps(content).encode())
    return read(folder)


def is_run(folder: Path) -> bool:
    """Return whether a folder has a config.toml. Raises ValueError for a name that no folder can have."""
    with _usable(folder):
        return (folder / "config.toml").is_file()


@contextmanager
def _usable(folder: Path) -> Iterator[None]:
    """Make a ValueError that names a folder of what the system says against it."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{show(folder)} cannot be used as a run folder: {reason}; name another --out") from error


def read(folder: Path) -> Run:
    """Return what a run folder's config.toml says. Raises ValueError where there is none or it is damaged."""
    path = folder / "config.toml"
    if not is_run(folder):
        raise ValueError(
            f"{folder} is not a run: it has no config.toml; make one with: scorefield fit DATA --out {folder}"
        )
    text = checkpoint.content_of(path)
    try:
        content = tomllib.loads(text.decode())
        if content["format"] != FORMAT:
            older = isinstance(content["format"], int) and content["format"] < FORMAT
            remedy = "fit it again with --force" if older else "update scorefield"
            raise CheckpointError(
                f"{path} has format {content['format']}; this program reads format {FORMAT}: {remedy}"
            )
        settings = Config.from_dict(content["settings"])
        return Run(
            folder,
            checkpoint.sha256(text),
            dict(content["request"]),
            dict(content["data"]),
            settings,
            _pixels(content["pixels"]) if settings.shape else _columns(content["columns"], content["whitening"]),
            tuple(content.get("classes", ())),
        )
    except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is damaged: {error}; fit it again with --force") from error


def _columns(columns: list, whitening: list) -> TableTransform:
    found = TableTransform(tuple(Column(**column) for column in columns), tuple(map(tuple, whitening)))
    for column in found.columns:
        _check(column)
    if found.white.shape != (found.dim, found.dim):
        raise ValueError(f"expected a whitening of {found.dim} columns; got the shape {tuple(found.white.shape)}")
    return found


def _pixels(found: dict) -> PixelTransform:
    pixels = PixelTransform(**{**found, "shape": tuple(found["shape"])})
    _check(pixels)
    return pixels


def _check(units: Column | PixelTransform) -> None:
    """Raise ValueError for what config.toml says of a column or of pixels and is no number or no type."""
    if not isinstance(units.dtype, str) or units.dtype not in TYPES:
        raise ValueError(f"expected the type of a number; got {units.dtype!r}")
    for field in fields(units):
        value = getattr(units, field.name)
        if field.type is float and (isinstance(value, bool) or not isinstance(value, int | float) or value != value):
            raise ValueError(f"{field.name} must be a number; got {value!r}")


def held_out_file(run: Run) -> Path | None:
    """Return the file of the rows kept for a test, None where there are none. CheckpointError for other bytes."""
    digest, path = run.data.get("test_digest"), run.folder / TEST
    if digest is None:
        return None
    if checkpoint.sha256(checkpoint.content_of(path)) != digest:
        raise CheckpointError(f"{path} is damaged: its SHA-256 is not the one in config.toml; give rows with --against")
    return path


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
        kept = _kept_metrics(run.folder, found.state)
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
                _append(run.folder / "timing.jsonl", clock)
                _append(metrics, reports)
                _save(run, learner)
            yield report
            if asked:
                left = f"step {step:,} of {run.config.steps:,} is kept, and the same fit command goes on from there"
                raise signals.Stopped(asked[0], left)


def load(folder: str | Path) -> Fitted:
    """Return the newest valid model of a run folder. Raises ValueError where there is none or all are damaged."""
    run = read(Path(folder))
    found = checkpoint.latest(run.folder, run.digest)
    if found is None:
        raise ValueError(f"{folder} has no checkpoint yet; run the same fit command again to train it")
    notes = list(found.notes)
    reports = _reports(run.folder, found.state)
    try:
        if found.step < run.config.steps and int(found.state["worse"]) != PATIENCE:
            notes.append(f"{folder} stopped at step {found.step} of {run.config.steps}; fit again to finish it")
        model, ratio = _model(run, dict(found.model))
    except (RuntimeError, KeyError, ValueError, TypeError, IndexError, ArithmeticError) as error:
        raise CheckpointError(f"the weights in {folder} are not those of its config.toml: {error}") from error
    return Fitted(run, model, ratio, notes, reports)


def _model(run: Run, weights: dict[str, Tensor]) -> tuple[ScoreModel, float]:
    """Return the model that the weights of a checkpoint make, and the noise ratio at which its score is read."""
    ratio = float(weights.pop("score_ratio"))
    parts = [weights.pop(f"base.{name}") for name in BASE if f"base.{name}" in weights]
    table = weights.pop("process.table", None)
    process = None if table is None else LinearSDE.from_table(table)
    moments = weights["mean"], weights["covariance"]
    dim = run.units.dim
    if moments[0].shape != (dim,):
        raise ValueError(f"expected a mean of shape ({dim},); got {tuple(moments[0].shape)}")
    model = run.config.model(*moments, GaussianMixture(*parts) if parts else None, process)
    model.load_state_dict(weights)
    return model.eval(), ratio


def save_final(run: Run, model: ScoreModel, ratio: float) -> None:
    """Write a finished model, trained elsewhere, as the last checkpoint of a run."""
    checkpoint.save(run.folder, run.config.steps, _weights(model, ratio), {}, run.digest)


def read_metrics(run: Run) -> list[Report]:
    """Return the reports of a run up to its newest valid checkpoint, in order. CheckpointError for other bytes."""
    found = checkpoint.latest(run.folder, run.digest)
    return [] if found is None else _reports(run.folder, found.state)


def _reports(folder: Path, state: dict[str, Tensor]) -> list[Report]:
    try:
        return [Report(**json.loads(line)) for line in _kept_metrics(folder, state).splitlines()]
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{folder / METRICS} is damaged: {error}; fit again with --force") from error


def _kept_metrics(folder: Path, state: dict[str, Tensor]) -> bytes:
    """Return what metrics.jsonl held when a state was saved. Raises CheckpointError where it holds something else."""
    if "metrics" not in state:  # trained elsewhere
        return b""
    path = folder / METRICS
    digest, size = bytes(state["metrics"][:32].tolist()), int.from_bytes(bytes(state["metrics"][32:].tolist()))
    content = checkpoint.content_of(path)[:size]
    if hashlib.sha256(content).digest() != digest:
        raise CheckpointError(f"{path} is shorter than its checkpoint says, or damaged; fit again with --force")
    return content


def prepare_folder(folder: Path) -> None:
    """Make an empty folder for a run. Raises ValueError where it cannot be made or holds something else."""
    with _usable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        atomic.remove_left(folder)
        strangers = sorted(p.name for p in folder.iterdir() if p.name != TEST)
    if strangers:
        raise ValueError(
            f"{folder} exists and is not a run (it holds {strangers[0]}); name a new or an empty folder as --out"
        )
    if not os.access(folder, os.W_OK):
        raise ValueError(f"{folder} cannot be written to; name another --out")


def remove(folder: Path) -> None:
    """Delete a run folder, its config.toml first, so that a half-deleted folder is no run."""
    (folder / "config.toml").unlink()
    shutil.rmtree(folder)


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as a parquet file, whole or not at all."""
    atomic.write(path, frame.to_parquet(index=False))


def _save(run: Run, learner: Learner) -> None:
    ratio = learner.reading_ratio if learner.done else run.config.level or UNFINISHED_RATIO
    metrics = checkpoint.content_of(run.folder / METRICS)
    seal = hashlib.sha256(metrics).digest() + len(metrics).to_bytes(8)
    state = learner.state() | {"metrics": torch.tensor(list(seal), dtype=torch.uint8)}
    checkpoint.save(run.folder, learner.trainer.step, _weights(learner.result, ratio), state, run.digest)


def _weights(model: ScoreModel, ratio: float) -> dict[str, Tensor]:
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    base = {} if model.base is None else {f"base.{name}": getattr(model.base, name) for name in BASE}
    process = {"process.table": model.process.table} if isinstance(model.process, LinearSDE) else {}
    return weights | base | process | {"score_ratio": torch.tensor(ratio, dtype=torch.float64)}


def _append(path: Path, lines: list[dict]) -> None:
    """Move objects to the end of a file, a line each, and wait until they are on the disk."""
    with atomic.naming(path), path.open("ab") as file:
        file.writelines((json.dumps(line) + "\n").encode() for line in lines)
        file.flush()
        os.fsync(file.fileno())
    lines.clear()
