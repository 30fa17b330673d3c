"""R18: disks that are full, broken or may not be written to."""

import errno
import os
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from scorefield.data import atomic
from scorefield.runs import checkpoint, resuming
from scorefield.runs import folder as runs
from scorefield.selftest.faults.forked import Ended, at, copy, differs, run, scorefield, warm, within
from scorefield.selftest.faults.resuming import content, fit
from scorefield.selftest.faults.saves import LOG, WEIGHTS, is_log, is_temporary
from scorefield.selftest.report import Check, Entry, Failures, Plan
from scorefield.training.optimizers import Adam

HALF = 30
"""The step at which the run stood whose disk fails."""

REASONS = "File too large|No space left|Input/output error|quota exceeded|Permission denied|Not a directory|Invalid arg"
"""What the system says."""


def fail(plan: Plan) -> Iterator[Check]:
    """Let the disk refuse, at all places, what a command writes; see what is left and said, and that it goes on."""
    warm()
    failures = Failures("faults of a disk, in checkpoints, logs and samples")
    with TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o755)
        run(scorefield(*fit(place / "whole")))
        signalled = at(Adam, "step", lambda *_: os.kill(os.getpid(), 15), HALF)
        run(within(signalled, scorefield(*fit(place / "half"))))
        copies = {"fit": place / "half", "expected": place / "whole"}
        few = plan.size == "smoke"
        for what, fault, place_named in _faults_of_runs(place, plan):
            failures.add(what, _fit_fails(copies, place / "run", fault, place_named))
            if few and failures.n > 3:
                break
        for what, fault, place_named in _faults_of_samples(place, plan):
            failures.add(what, _sample_fails(copies["expected"], place / "samples.csv", fault, place_named))
            if few and failures.n > 6:
                break
        if not few:
            for what, command, reason in _places(place):
                ended = run(within(_as_nobody(place), command))
                failures.add(what, _refused(ended, reason) or (None if ended.code == 2 else f"exit code {ended.code}"))
    yield failures.check()


Fault = Callable[[], AbstractContextManager]


def _faults_of_runs(place: Path, plan: Plan) -> Iterator[tuple[str, Fault, str]]:
    """Yield what happens to a run that goes on, how, and the name that must be told."""
    weights = (place / "half" / "checkpoints" / str(HALF) / "state.safetensors").stat().st_size
    log = (place / "half" / LOG).stat().st_size
    for k in range(plan.of(1, 10, 20)):
        size = 5000 + (weights - 5000) * k // plan.of(1, 10, 20)
        yield f"a disk with room for {size} bytes of a checkpoint", partial(_limited, size), "checkpoints/"
    for k in range(plan.of(1, 4, 20)):
        size = log + 1 + 100 * k // plan.of(1, 4, 20)
        limit = partial(_limit, size)
        yield f"a disk with room for {size} bytes of a log", partial(at, resuming, "append", limit, 1, is_log), LOG
    yield "a full device, checkpoint", lambda: at(Path, "open", _full, 1, _weights_written), "checkpoints/"
    yield "a full device, log", lambda: at(Path, "open", _full, 5, is_log), LOG
    yield "a failing sync of a checkpoint", lambda: at(atomic, "_sync", _raise(errno.EIO)), "checkpoints/"
    yield "a failing sync of a log", lambda: at(os, "fsync", _raise(errno.EIO), 2), LOG
    yield "a quota, checkpoint", lambda: at(Path, "write_bytes", _raise(errno.EDQUOT)), "checkpoints/"
    yield "a quota, log", lambda: at(os, "fsync", _raise(errno.EDQUOT), 2), LOG
    yield "a folder made read-only", lambda: _as_nobody(place, place / "run" / "checkpoints"), "checkpoints/"


def _faults_of_samples(place: Path, plan: Plan) -> Iterator[tuple[str, Fault, str]]:
    """Yield what happens to a file of samples that replaces another, how, and the name that must be told."""
    name = "samples.csv"
    for k in range(plan.of(1, 6, 20)):
        size = 1200 * k // plan.of(1, 6, 20)
        yield f"a disk with room for {size} bytes of samples", partial(_limited, size), name
    yield "a full device, samples", lambda: at(Path, "open", _full, 1, is_temporary), name
    yield "a failing sync of samples", lambda: at(os, "fsync", _raise(errno.EIO)), name
    yield "a quota, samples", lambda: at(os, "fsync", _raise(errno.EDQUOT)), name


def _places(place: Path) -> Iterator[tuple[str, Callable[[], None], str]]:
    """Yield places that cannot be written to, the command that is given them, and the name that must be told."""
    (place / "file").write_text("a file")
    locked = place / "locked"
    locked.mkdir(mode=0o555)
    sample = lambda out: scorefield("sample", place / "whole", "-n", 5, "--out", out, "--quiet")
    yield "a run in a read-only folder", scorefield(*fit(locked / "run")), "locked"
    yield "a run that is a file", scorefield(*fit(place / "file")), "file"
    yield "samples in a read-only folder", sample(locked / "a.csv"), "locked"
    yield "samples in no folder", sample(place / "none" / "a.csv"), "none"
    yield "samples below a file", sample(place / "file" / "a.csv"), "file"
    yield "samples on a device", sample(Path("/dev/full")), "/dev/full"


def _fit_fails(copies: dict[str, Path], out: Path, fault: Fault, named: str) -> str | None:
    """Return what is wrong with a run that a fault met as it went on."""
    copy(copies["fit"], out)
    wrong = _refused(run(within(_entered(fault), scorefield(*fit(out)))), named)
    for folder in (out, out / "checkpoints"):
        folder.chmod(0o755)
    if wrong:
        return wrong
    found = checkpoint.latest(out, runs.read(out).digest)
    if found is None or found.notes or found.step < HALF:
        return "the last checkpoint from before the fault was lost"
    if left := [path.name for path in out.rglob(f"{atomic.PREFIX}*")]:
        return f"{left[0]} was left"
    ended = run(scorefield(*fit(out)))
    return f"it did not go on: {ended.told}" if ended.code else differs(content(out), content(copies["expected"]))


def _sample_fails(model: Path, out: Path, fault: Fault, named: str) -> str | None:
    """Return what is wrong with samples that a fault met."""
    out.write_text("precious")
    ended = run(within(_entered(fault), scorefield("sample", model, "-n", 64, "--out", out, "--force", "--quiet")))
    if wrong := _refused(ended, named):
        return wrong
    left = [path.name for path in out.parent.glob(f"{atomic.PREFIX}*")]
    return None if out.read_text() == "precious" and not left else f"the file has changed, or was left: {left}"


def _refused(ended: Ended, named: str) -> str | None:
    """Return what is wrong with how a command ended that could not write."""
    if ended.code not in (1, 2) or ended.told.count("\n") != 1 or named not in ended.told:
        return f"expected exit code 1 or 2 and a line with {named}; got {ended.code} and {ended.told[-400:]!r}"
    if ended.code == 1 and not re.search(REASONS, ended.told):
        return f"expected the reason of the system; got {ended.told!r}"
    return None


@contextmanager
def _entered(fault: Fault) -> Iterator[None]:
    """Enter a context that is made in the child."""
    with fault():
        yield


def _limit(size: int, *_: object) -> None:
    """Let no file of this process become larger."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@contextmanager
def _limited(size: int) -> Iterator[None]:
    _limit(size)
    yield


@contextmanager
def _as_nobody(place: Path, locked: Path | None = None) -> Iterator[None]:
    """Lock a folder, and give up being root, who may write everywhere."""
    if locked is not None:
        locked.chmod(0o555)
    if os.getuid() == 0:
        for path in [] if locked is None else [locked.parent, *locked.parent.rglob("*")]:
            os.chown(path, 65534, 65534)
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    yield


def _weights_written(path: Path, mode: str = "r", *_: object, **__: object) -> bool:
    return path.name == WEIGHTS and "w" in mode


def _full(path: Path, *_: object, **__: object) -> object:
    return os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb")


def _raise(number: int) -> Callable[..., None]:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


def swallowing() -> AbstractContextManager:
    """Keep what the system says against writing to oneself."""
    return patch.object(atomic, "naming", lambda path: suppress(OSError))


TESTS = {"R18": Entry("disks that fail", fail, swallowing, smoke=True)}
