"""R27: a run of which anything was changed is refused, by one kind of error, quickly and in little memory."""

import dataclasses
import hashlib
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch

import scorefield
from scorefield.data import as_images
from scorefield.diffusion.sde import LinearSDE
from scorefield.inference import frontier
from scorefield.kinds.images.problem import ImageProblem
from scorefield.kinds.images.settings import choose_settings
from scorefield.kinds.images.source import frequencies
from scorefield.kinds.images.units import PixelTransform
from scorefield.kinds.loading import load
from scorefield.kinds.tables.problem import TableProblem
from scorefield.kinds.tables.units import TableTransform
from scorefield.runs import checkpoint, metrics_log, recommendation, resuming
from scorefield.runs import folder as runs
from scorefield.runs.checkpoint import CheckpointError
from scorefield.selftest.attacks.changes import CHANGES, LIES, Draw, deep, flipped, huge, lie, repeated, spliced
from scorefield.selftest.inputs.makers import levels, reseal
from scorefield.selftest.report import Check, Entry, Failures, Plan
from scorefield.training.config import LINEAR, Config
from scorefield.training.learner import Learner
from scorefield.training.problem import Problem

SLOWEST, MEMORY = 1.0, 64.0
"""Processor seconds that a damaged run may take to be refused, and megabytes beside twice its size."""

FRONTIER = "frontier.json"


def table_run(folder: Path, linear: bool = False) -> None:
    """Make a run of a table, with test rows and a frontier, or of a linear SDE, so small that changes hit all parts."""
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"height": draw.normal(170, 9, 60), "age": draw.integers(18, 80, 60), "constant": 2})
    transform = TableTransform.fit(frame)
    z = transform.forward(frame)
    process = LinearSDE(lambda t: -torch.ones_like(t), lambda t: 2 + t) if linear else None
    config = Config(steps=2, process=LINEAR if linear else "vp", width=4, depth=1, features=2)
    request, rows = {"data": "people.csv", "seed": 0}, {"digest": "0" * 64, "train": 50}
    run = runs.create(folder, request, rows, config, transform.content(), test=frame[50:])
    trained(run, TableProblem(z[:40], z[40:50], transform.white, process))
    model = load(folder).model_
    if not linear:
        point = frontier.Point("adams", 8, 9.0, 0.01, 0.001)
        recommendation.write(folder / FRONTIER, model, 0.02, [point], point)


def image_run(folder: Path) -> None:
    """Make a small run of images with classes."""
    given = as_images(levels((30, 6, 5)) % 4, [str(i % 3) for i in range(30)])
    transform = PixelTransform.fit(given.pixels, given.layout)
    problem = ImageProblem.of(given, transform, 0)
    config = choose_settings(problem, "vp", "denoising", 0).config
    config = dataclasses.replace(config, steps=2, width=8, depth=1, batch_size=8)
    shares = list(frequencies(given))
    known: dict[str, object] = {"digest": given.digest, "frequencies": shares}
    content = transform.content(given.classes)
    trained(runs.create(folder, {"data": "bars", "seed": 0}, known, config, content), problem)


def trained(run: runs.Run, problem: Problem) -> None:
    """Train a run to its end and keep the last checkpoint only, so that none stands in for it."""
    for _ in resuming.train(run, Learner(run.config, problem.prepare(run.config)), lambda step, notes: None):
        pass
    for old in sorted((run.folder / "checkpoints").iterdir(), key=lambda path: int(path.name))[:-1]:
        for path in old.iterdir():
            path.unlink()
        old.rmdir()


def read_all(folder: Path) -> str:
    """Read everything that programs read of a run, and return its SHA-256."""
    run = runs.read(folder)
    held_out = runs.held_out_file(run)
    estimator = scorefield.load(folder)
    model = estimator.model_
    content = hashlib.sha256(repr((run.request, run.data, run.config, run.units)).encode())
    for name, value in model.state_dict().items():
        content.update(name.encode() + value.numpy().tobytes())
    content.update(repr((estimator.losses_, estimator.score_ratio_, metrics_log.read_metrics(run))).encode())
    content.update(b"" if held_out is None else held_out.read_bytes())
    content.update(repr(recommendation.read(folder / FRONTIER, model)).encode())
    return content.hexdigest()


def forge(folder: Path, draw: Draw) -> bool:
    """Change a run as an attacker who can compute sums; return whether what it then says is impossible.

    Other numbers of the right form cannot be told from true ones.
    """
    place, config = next((folder / "checkpoints").iterdir()), folder / "config.toml"
    path, kind = place / [checkpoint.MODEL, checkpoint.STATE][draw.integers(2)], int(draw.integers(LIES))
    content, written = path.read_bytes(), config.read_bytes()
    what = draw.integers(8)
    if what == 0:
        values = [-1, "x", None, [], {}, 1e300, {"../../config.toml": "0"}]
        reseal(place, **{["step", "files", "config", "format"][draw.integers(4)]: values[draw.integers(len(values))]})
        return True
    if what < 3:
        config.write_bytes([huge, repeated, deep, spliced][draw.integers(4)](written, written, draw))
        reseal(place, config=checkpoint.sha256(config.read_bytes()))
        return False
    if what == 3:
        start = 8 + int.from_bytes(content[:8], "little")
        path.write_bytes(content[:start] + flipped(content[start:], b"", draw))
    else:
        path.write_bytes(lie(content, kind, draw))
    reseal(place)
    renamed = kind == 10 and path.name == checkpoint.STATE  # a missing part of the state shows when training goes on
    return bool(what > 3 and kind < LIES - 1 and not renamed)


SHARES = {
    "config.toml": 0.2,
    "manifest.json": 0.2,
    checkpoint.MODEL: 0.25,
    checkpoint.STATE: 0.15,
    metrics_log.METRICS: 0.1,
    runs.TEST: 0.05,
    FRONTIER: 0.05,
}
"""How often each file of a run is changed; timing.jsonl says only how long a run may still train."""


def harmless(path: Path, before: bytes, after: bytes) -> bool:
    """Return whether a change is of no part that is read: reports behind the checkpoint are written again."""
    return before == after or (path.name == metrics_log.METRICS and after.startswith(before))


def verdict(folder: Path, must_fail: bool) -> str:
    """Return what is wrong with how a changed run is read; nothing where it is refused as promised."""
    try:
        read_all(folder)
    except CheckpointError as error:
        return "" if str(error) else "no reason is given"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "it was read without a word" if must_fail else ""


def changed_file(folder: Path, other: Path, draw: Draw) -> tuple[str, bool]:
    """Change one file of a run; return what was done, and whether it must be noticed."""
    files = {path.name: path for path in folder.rglob("*") if path.name in SHARES}
    shares = np.array([SHARES[name] for name in files])
    path = files[str(draw.choice(list(files), p=shares / shares.sum()))]
    before, change = path.read_bytes(), CHANGES[draw.integers(len(CHANGES))]
    twin = other / path.relative_to(folder)
    after = change(before, twin.read_bytes() if twin.is_file() else before, draw)
    path.write_bytes(after)
    return f"{change.__name__} {path.name}", not harmless(path, before, after)


def runs_in(root: Path) -> list[Path]:
    """Make the runs that are changed."""
    made = [root / name for name in ("table", "linear", "images")]
    table_run(made[0])
    table_run(made[1], linear=True)
    image_run(made[2])
    return made


def run(plan: Plan) -> Iterator[Check]:
    """Count changed runs that are read, or that raise anything but CheckpointError; time and memory of the worst."""
    draw, n = np.random.default_rng(plan.seed), plan.of(smoke=400, quick=20_000, full=1_000_000)
    changed, forged, slowest = Failures("changed runs"), Failures("forged runs, whose sums fit"), 0.0
    with tempfile.TemporaryDirectory() as name:
        made = runs_in(Path(name))
        intact = {folder: {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} for folder in made}
        first = {folder: read_all(folder) for folder in made}
        largest = max(sum(map(len, files.values())) for files in intact.values()) / 2**20
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        for i in range(n):
            folder, other = made[i % 3], made[(i + 1) % 3]
            if i % 4:
                what, must_fail = changed_file(folder, other, draw)
            else:
                what, must_fail = "forged", forge(folder, draw)
            began = time.process_time()
            (changed if i % 4 else forged).add(f"{what} of {folder.name}, number {i}", verdict(folder, must_fail))
            slowest = max(slowest, time.process_time() - began)
            for path, content in intact[folder].items():
                if path.read_bytes() != content:
                    path.write_bytes(content)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
        same = [read_all(folder) == content for folder, content in first.items()]
    yield changed.check()
    yield forged.check()
    yield Check("intact runs that are no longer read as before", float(same.count(False)), 0.0, len(same))
    yield Check("processor seconds of the slowest", slowest, SLOWEST)
    yield Check("growth of memory, MB", grown, 2 * largest + MEMORY)


def fault() -> AbstractContextManager:
    """Plant: sums are taken of the first 64 bytes only."""
    return patch.object(checkpoint, "sha256", lambda content: hashlib.sha256(content[:64]).hexdigest())


TESTS = {"R27": Entry("changed and forged checkpoints", run, fault, smoke=True)}
