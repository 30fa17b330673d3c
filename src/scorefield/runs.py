"""The RUN folder: config.toml, checkpoints, metrics; made by `fit`, continued after a kill, read by everything else."""

import json
import os
import shutil
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import pandas as pd
import tomli_w
import torch
from torch import Tensor

from scorefield import checkpoint
from scorefield.checkpoint import CheckpointError
from scorefield.columns import Column
from scorefield.config import Config
from scorefield.densities import GaussianMixture
from scorefield.fitting import PATIENCE, Learner, Report
from scorefield.model import ScoreModel
from scorefield.pixels import PixelTransform
from scorefield.sde import LinearSDE
from scorefield.transforms import TableTransform

FORMAT = 4
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
        write_frame(folder / "test.parquet", test)
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
    checkpoint.write_atomic(folder / "config.toml", tomli_w.dumps(content).encode())
    return read(folder)


def read(folder: Path) -> Run:
    """Return what a run folder's config.toml says. Raises ValueError where there is none or it is damaged."""
    path = folder / "config.toml"
    if not path.is_file():
        raise ValueError(
            f"{folder} is not a run: it has no config.toml; make one with: scorefield fit DATA --out {folder}"
        )
    text = path.read_bytes()
    try:
        content = tomllib.loads(text.decode())
        if content["format"] != FORMAT:
            raise CheckpointError(
                f"{path} has format {content['format']}; this program reads format {FORMAT}: update scorefield"
            )
        settings = Config.from_dict(content["settings"])
        return Run(
            folder,
            checkpoint.sha256(text),
            content["request"],
            content["data"],
            settings,
            _pixels(content["pixels"]) if settings.shape else _columns(content["columns"], content["whitening"]),
            tuple(content.get("classes", ())),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is damaged: {error}; fit it again with --force") from error


def _columns(columns: list, whitening: list) -> TableTransform:
    return TableTransform(tuple(Column(**column) for column in columns), tuple(map(tuple, whitening)))


def _pixels(found: dict) -> PixelTransform:
    return PixelTransform(**{**found, "shape": tuple(found["shape"])})


def train(
    run: Run,
    learner: Learner,
    on_resume: Callable[[int, list[str]], None],
) -> Iterator[Report | None]:
    """Train a run to its last step from wherever it stands, yielding as `Learner.run`, and leave its checkpoints.

    A run that was killed goes on from its newest valid checkpoint and ends with the same bytes as one that was not;
    on_resume(step, notes) is told. metrics.jsonl has a line a report and no clock; timing.jsonl has the clock.
    """
    metrics = run.folder / "metrics.jsonl"
    found, offset = checkpoint.latest(run.folder, run.digest), 0
    if found is not None:
        learner.load_state({name: value for name, value in found.state.items() if name != "metrics"})
        offset = int(found.state["metrics"])
        on_resume(found.step, found.notes)
    _cut(metrics, offset)
    every = max(1, min(run.config.steps // CHECKPOINTS, 1000))
    began, first = perf_counter(), learner.trainer.step
    with metrics.open("ab") as log, (run.folder / "timing.jsonl").open("a") as timing:
        for report in learner.run():
            step = learner.trainer.step
            if report is not None:
                log.write((json.dumps(asdict(report)) + "\n").encode())
                seconds = round(perf_counter() - began, 3)
                timing.write(json.dumps({"from": first, "step": step, "seconds": seconds}) + "\n")
            if step % every == 0 or learner.done:
                log.flush()
                os.fsync(log.fileno())
                _save(run, learner, log.tell())
            yield report


def load(folder: str | Path) -> Fitted:
    """Return the newest valid model of a run folder. Raises ValueError where there is none or all are damaged."""
    run = read(Path(folder))
    found = checkpoint.latest(run.folder, run.digest)
    if found is None:
        raise ValueError(f"{folder} has no checkpoint yet; run the same fit command again to train it")
    notes = list(found.notes)
    try:
        if found.step < run.config.steps and int(found.state["worse"]) != PATIENCE:
            notes.append(f"{folder} stopped at step {found.step} of {run.config.steps}; fit again to finish it")
        return Fitted(run, *_model(run, dict(found.model)), notes)
    except (RuntimeError, KeyError, ValueError) as error:
        raise CheckpointError(f"the weights in {folder} are not those of its config.toml: {error}") from error


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


def read_metrics(folder: Path) -> list[Report]:
    """Return the reports of a run, in order."""
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return [Report(**json.loads(line)) for line in lines]


def prepare_folder(folder: Path) -> None:
    """Make an empty folder for a run. Raises ValueError where it cannot be made or holds something else."""
    leftover = {"test.parquet", ".new-test.parquet", ".new-config.toml"}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        strangers = sorted(p.name for p in folder.iterdir() if p.name not in leftover)
    except OSError as error:
        raise ValueError(f"{folder} cannot be used as a run folder: {error.strerror}; name another --out") from error
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
    checkpoint.write_atomic(path, frame.to_parquet(index=False))


def _save(run: Run, learner: Learner, offset: int) -> None:
    ratio = learner.reading_ratio if learner.done else run.config.level or UNFINISHED_RATIO
    state = learner.state() | {"metrics": torch.tensor(offset)}
    checkpoint.save(run.folder, learner.trainer.step, _weights(learner.result, ratio), state, run.digest)


def _weights(model: ScoreModel, ratio: float) -> dict[str, Tensor]:
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    base = {} if model.base is None else {f"base.{name}": getattr(model.base, name) for name in BASE}
    process = {"process.table": model.process.table} if isinstance(model.process, LinearSDE) else {}
    return weights | base | process | {"score_ratio": torch.tensor(ratio, dtype=torch.float64)}


def _cut(path: Path, size: int) -> None:
    """Cut a file to a size, making it where there is none. Raises CheckpointError where it is shorter."""
    with path.open("ab") as file:
        if file.tell() < size:
            raise CheckpointError(f"{path} is shorter than its checkpoint says; fit again with --force")
        file.truncate(size)
