"""metrics.jsonl and timing.jsonl: a line a report, appended and on the disk before the checkpoint that seals it."""

import hashlib
import json
import math
import os
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from scorefield.data import atomic
from scorefield.runs import checkpoint
from scorefield.runs.checkpoint import CheckpointError
from scorefield.runs.folder import Run
from scorefield.training.learner import Report

METRICS, TIMING = "metrics.jsonl", "timing.jsonl"
"""The reports of a run, a line each, without a clock; and the clock."""


def read_metrics(run: Run) -> list[Report]:
    """Return the reports of a run up to its newest valid checkpoint, in order. CheckpointError for other bytes."""
    found = checkpoint.latest(run.folder, run.digest)
    return [] if found is None else reports_of(run.folder, found.state)


def reports_of(folder: Path, state: dict[str, Tensor]) -> list[Report]:
    """Return the reports that metrics.jsonl held when a state was saved. CheckpointError where it holds other bytes."""
    try:
        return [Report(**json.loads(line)) for line in kept_metrics(folder, state).splitlines()]
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{folder / METRICS} is damaged: {error}; fit again with --force") from error


def kept_metrics(folder: Path, state: dict[str, Tensor]) -> bytes:
    """Return what metrics.jsonl held when a state was saved. Raises CheckpointError where it holds something else."""
    if "metrics" not in state:  # trained elsewhere
        return b""
    path = folder / METRICS
    digest, size = bytes(state["metrics"][:32].tolist()), int.from_bytes(bytes(state["metrics"][32:].tolist()))
    content = checkpoint.content_of(path)[:size]
    if hashlib.sha256(content).digest() != digest:
        raise CheckpointError(f"{path} is shorter than its checkpoint says, or damaged; fit again with --force")
    return content


def seal_of(folder: Path) -> Tensor:
    """Return the SHA-256 sum and the length of metrics.jsonl, which a checkpoint keeps; see `kept_metrics`."""
    metrics = checkpoint.content_of(folder / METRICS)
    seal = hashlib.sha256(metrics).digest() + len(metrics).to_bytes(8)
    return torch.tensor(list(seal), dtype=torch.uint8)


def seconds_until(folder: Path, step: int) -> float:
    """Return how many seconds the steps of a run up to a checkpoint took, of all commands that took part in it."""
    seconds = 0.0
    for line in reversed(_timing(folder).splitlines()):
        with suppress(ValueError, KeyError, TypeError, ArithmeticError, RecursionError):  # then it tells no time
            found = json.loads(line)
            first, last, took = int(found["from"]), int(found["step"]), float(found["seconds"])
            if first < last <= step and 0 <= took < math.inf:
                seconds, step = seconds + took, first
    return seconds


def cut(folder: Path, metrics: bytes) -> None:
    """Let metrics.jsonl hold so much only, and timing.jsonl no part of a line, which is what a kill may leave."""
    for name, kept in ((METRICS, metrics), (TIMING, _timing(folder))):
        with atomic.naming(folder / name), (folder / name).open("ab") as file:
            file.truncate(kept.rfind(b"\n") + 1)


def _timing(folder: Path) -> bytes:
    return checkpoint.content_of(folder / TIMING) if (folder / TIMING).exists() else b""


def append(path: Path, lines: list[dict]) -> None:
    """Move objects to the end of a file, a line each, and wait until they are on the disk."""
    with atomic.naming(path), path.open("ab") as file:
        file.writelines((json.dumps(line) + "\n").encode() for line in lines)
        file.flush()
        os.fsync(file.fileno())
    lines.clear()
