"""The RUN folder: config.toml and the rows kept for a test; made by `fit`, read by everything else."""

import os
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import tomli_w
import torch

from scorefield.data import atomic
from scorefield.data.messages import show
from scorefield.runs import checkpoint
from scorefield.runs.checkpoint import CheckpointError
from scorefield.training.budget import FALL, total
from scorefield.training.config import Config

FORMAT, COSINE = 7, 6
"""The version of config.toml, and the one whose runs learn by the schedule `Cosine`; a reader refuses others."""

STEPS = "steps.json"
"""How many steps the clock has allowed, before the learning rate falls and in all."""

OWN = ("format", "threads", "request", "data", "settings")
"""What every config.toml holds; the rest are the units of a kind of data."""

TEST = "test.parquet"
"""The rows that a run keeps for a test."""


@dataclass(frozen=True)
class Run:
    """A run folder's config.toml: the request as typed, the data, the settings, and the units as plain values.

    units is what a kind of data wrote there (`kinds.kind.Kind.content`) and reads again; digest is the SHA-256 sum of
    config.toml, which ties checkpoints to it. config.steps is 0 where the clock has not said yet how many there are.
    """

    folder: Path
    digest: str
    format: int
    threads: int
    request: dict[str, Any]
    data: dict[str, Any]
    config: Config
    units: dict[str, Any]


def create(
    folder: Path,
    request: dict[str, object],
    data: dict[str, object],
    config: Config,
    units: dict[str, object],
    test: pd.DataFrame | None = None,
) -> Run:
    """Make a run folder: test.parquet where there are test rows, then config.toml, each written whole.

    The folder is a run once it has a config.toml. Raises ValueError where the folder exists and is not empty.
    """
    prepare_folder(folder)
    if test is not None:
        write_frame(folder / TEST, test)
        data = data | {"test_digest": checkpoint.sha256(checkpoint.content_of(folder / TEST))}
    settings = asdict(config)
    values = {"format": FORMAT, "threads": torch.get_num_threads(), "request": request, "data": data}
    content = values | {"settings": settings} | units
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
        version, threads = content["format"], content["threads"]
        if version not in (FORMAT, COSINE):
            older = isinstance(version, int) and version < COSINE
            remedy = "fit it again with --force" if older else "update scorefield"
            raise CheckpointError(f"{path} has format {version}; this program reads {COSINE} and {FORMAT}: {remedy}")
        if not isinstance(threads, int) or threads < 1:
            raise ValueError(f"expected a number of threads; got {threads!r}")
        digest, settings = checkpoint.sha256(text), Config.from_dict(content["settings"])
        if not settings.steps and (version == COSINE or "budget" not in content["request"]):
            raise ValueError("expected a number of steps or a budget; got none")
        if not settings.steps and (folder / STEPS).exists():
            settings = replace(settings, steps=_settled(folder / STEPS, digest))
        request, data = dict(content["request"]), dict(content["data"])
        units = {name: value for name, value in content.items() if name not in OWN}
        return Run(folder, digest, version, threads, request, data, settings, units)
    except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is damaged: {error}; fit it again with --force") from error


def settle(run: Run, steps: int) -> None:
    """Keep how many steps the clock has allowed a run, on the disk when this returns."""
    counts = {"config": run.digest, "level": steps - steps // FALL, "steps": steps}
    atomic.write(run.folder / STEPS, checkpoint.seal(counts))


def _settled(path: Path, digest: str) -> int:
    """Return how many steps the clock has allowed. Raises CheckpointError where the file is damaged."""
    counts = checkpoint.unseal(path)
    level, steps = counts.get("level"), counts.get("steps")
    if not isinstance(level, int) or level < 1 or steps != total(level):
        raise CheckpointError(f"{path} is damaged: {level} steps before the fall are not part of {steps}")
    if counts.get("config") != digest:
        raise CheckpointError(f"{path} belongs to another config.toml than the one beside it: restore that file")
    return total(level)


def held_out_file(run: Run) -> Path | None:
    """Return the file of the rows kept for a test, None where there are none. CheckpointError for other bytes."""
    digest, path = run.data.get("test_digest"), run.folder / TEST
    if digest is None:
        return None
    if checkpoint.sha256(checkpoint.content_of(path)) != digest:
        raise CheckpointError(f"{path} is damaged: its SHA-256 is not the one in config.toml; give rows with --against")
    return path


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
