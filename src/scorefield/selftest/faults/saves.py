"""R17: a save that is killed anywhere."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pandas as pd
import torch

from scorefield.data import atomic
from scorefield.kinds.tables.units import TableTransform
from scorefield.runs import checkpoint, resuming
from scorefield.runs import folder as runs
from scorefield.selftest.cases import table_learner
from scorefield.selftest.faults.forked import at, copy, die, differs, run, warm, within
from scorefield.selftest.faults.resuming import content
from scorefield.selftest.report import Check, Entry, Failures, Plan
from scorefield.training.config import Config

EVERY, SAVES = 20, 6
"""Steps from one checkpoint of the small run to the next, see `budget.grain`, and how many it has."""

WEIGHTS = "model.safetensors"
LOG = "metrics.jsonl"


def is_weights(path: Path, *_: object, **__: object) -> bool:
    """Whether a call is about the weights of a checkpoint."""
    return path.name == WEIGHTS


def is_log(path: Path, *_: object, **__: object) -> bool:
    """Whether a call is about the log of a run."""
    return path.name == LOG


def is_temporary(path: Path, *_: object, **__: object) -> bool:
    """Whether a call is about what will be put in place of something."""
    return path.name.endswith(".tmp")


def is_checkpoint(path: Path, *_: object, **__: object) -> bool:
    """Whether a call is about the folder of a checkpoint."""
    return path.name.isdecimal()


def _share(share: float) -> Callable[..., None]:
    """Return what writes a share of a file and dies."""

    def write(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[: int(share * len(content))])
        die()

    return write


def _half_a_line(path: Path, lines: list[dict]) -> None:
    with path.open("ab") as file:
        file.write(b'{"step": 1')
    die()


def _renamed(source: Path, target: Path) -> None:
    source.rename(target)
    die()


def _half_removed(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    die()


POINTS: dict[str, tuple[object, str, Callable[..., object], Callable[..., bool]]] = {
    "half a line of the log": (resuming, "append", _half_a_line, is_log),
    "the log not on the disk": (os, "fsync", die, lambda *_, **__: True),
    "the temporary folder": (Path, "mkdir", die, is_temporary),
    "0 % of the weights": (Path, "write_bytes", _share(0.0), is_weights),
    "25 %": (Path, "write_bytes", _share(0.25), is_weights),
    "50 %": (Path, "write_bytes", _share(0.5), is_weights),
    "75 %": (Path, "write_bytes", _share(0.75), is_weights),
    "99 %": (Path, "write_bytes", _share(0.99), is_weights),
    "all read back": (checkpoint, "read", die, is_temporary),
    "a file on the disk": (atomic, "_sync", die, is_weights),
    "the rename": (Path, "replace", die, is_temporary),
    "after the rename": (Path, "replace", _renamed, is_temporary),
    "removing the oldest": (shutil, "rmtree", die, is_checkpoint),
    "half of the oldest removed": (shutil, "rmtree", _half_removed, is_checkpoint),
}
"""Where a save is killed: the function at whose call, what happens in its place, and which of its calls count."""


def kill(plan: Plan) -> Iterator[Check]:
    """Kill saves at every point; see that a whole checkpoint is left, and that the run goes on and cleans up."""
    warm()
    frame = pd.DataFrame({"x": torch.randn(20, generator=torch.Generator().manual_seed(plan.seed)).tolist()})
    transform = TableTransform.fit(frame)
    config = Config(steps=EVERY * SAVES, seed=plan.seed, width=16, features=8, batch_size=16)
    z = transform.forward(frame)
    learner = table_learner(config, z[5:], z[:5])  # each child has a copy of its own
    failures = Failures("points of a save at which it is killed")
    with TemporaryDirectory() as folder:
        place = Path(folder)
        made = runs.create(place / "made", {"data": "x"}, {"digest": "d"}, config, transform.content(), frame.iloc[:5])
        train = lambda out: lambda: list(resuming.train(runs.read(out), learner, lambda step, notes: None))
        copy(made.folder, place / "whole")
        run(train(place / "whole"))
        expected = content(place / "whole")
        for point, (owner, name, act, where) in POINTS.items():
            last = SAVES - checkpoint.KEEP if where is is_checkpoint else SAVES
            for number in (1, 3, last)[: plan.of(1, 3, 3)]:
                out = copy(made.folder, place / "killed")
                child = run(within(at(owner, name, act, number, where), train(out)))
                wrong = None if child.code == 137 else f"it was not killed: {child.code} {child.told[-300:]}"
                failures.add(f"{point}, save {number}", wrong or _recovers(out, train, expected))
    yield failures.check()


def _recovers(out: Path, train: Callable[[Path], Callable], expected: dict[str, bytes]) -> str | None:
    """Return what is wrong with what a killed save left, or with what became of it."""
    written = [int(path.name) for path in (out / "checkpoints").glob("[0-9]*")]
    try:
        found = checkpoint.latest(out, runs.read(out).digest)
    except checkpoint.CheckpointError as error:
        return str(error)
    if max(written, default=0) - (found.step if found else 0) > EVERY:
        return f"of the checkpoints {written} only that of step {found.step if found else 0} can be read"
    ended = run(train(out))
    if ended.code:
        return f"it did not go on: {ended.told[-300:]}"
    return differs(content(out), expected)


@contextmanager
def _early(path: Path) -> Iterator[Path]:
    temporary = path.with_name(f"{atomic.PREFIX}-{path.name}.tmp")
    temporary.mkdir()
    temporary.replace(path)
    yield path


def direct() -> AbstractContextManager:
    """Rename the folder of a checkpoint before its files are written, so that a reader can see a part."""
    return patch.object(checkpoint, "replacing_folder", _early)


TESTS = {"R17": Entry("kills inside a save", kill, direct, smoke=True)}
