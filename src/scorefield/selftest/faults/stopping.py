"""R16: a fit that is asked to stop does so at once, in every phase, and ends with the same bytes when it goes on."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from scorefield.data import atomic
from scorefield.inference import samplers
from scorefield.kinds.tables import kind as tables
from scorefield.kinds.tables import source
from scorefield.runs import checkpoint, resuming, signals
from scorefield.runs import folder as runs
from scorefield.selftest.faults.forked import (
    Ended,
    as_shell,
    at,
    differs,
    run,
    scorefield,
    warm,
    within,
)
from scorefield.selftest.faults.resuming import BUDGET, CODES, LEVEL, STEPS, content, fit, steady, tensors, wrong
from scorefield.selftest.report import Check, Entry, Failures, Plan
from scorefield.training import closed_form, learner
from scorefield.training.optimizers import Adam

SLOWEST = 5.0
"""Seconds in which a command must stop."""


PHASES: dict[str, tuple[object, str, int, int | None]] = {
    "reading the data": (source, "read", 1, None),
    "choosing the units": (tables, "choose_transform", 1, None),
    "writing config.toml": (atomic, "replacing", 1, None),
    "choosing the base": (closed_form, "choose", 1, 0),
    "the first step": (Adam, "step", 1, 1),
    "a step": (Adam, "step", 13, 13),
    "a validation": (learner.Learner, "_report", 2, 20),
    "writing the log": (resuming, "append", 4, 40),
    "writing a checkpoint": (Path, "write_bytes", 2, 20),
    "reading it back": (checkpoint, "read", 2, 40),
    "writing the counts": (resuming, "settle", 1, LEVEL),
    "the last step": (Adam, "step", STEPS, STEPS),
    "the score-ratio search": (learner, "score_ratio", 1, STEPS),
}
"""The phases of a fit: the function whose call of a number marks it, and the step whose checkpoint is kept then: 0
where the run has been made but has no step, None before. The counts are written where there is a budget."""


def stop(plan: Plan) -> Iterator[Check]:
    """Ask commands to stop in every phase, by both signals; see how fast they do, what is left, and that it goes on."""
    warm()
    failures, slowest = Failures("signals in a phase, what they left and how it went on"), 0.0
    with TemporaryDirectory() as folder:
        place = Path(folder)
        run(scorefield(*fit(place / "whole")))
        for number, code in CODES.items():
            for phase, (owner, name, call, kept) in PHASES.items():
                out = place / f"{phase} {number}"
                counted = phase == "writing the counts"
                work = within(steady(), scorefield(*fit(out, *(BUDGET if counted else ()))))
                signalled = at(owner, name, lambda *_, out=out, n=number, **__: _signal(out, n), call)
                ended = run(within(signalled, work))
                slowest = max(slowest, ended.clock - _clock(out))
                found = wrong(ended, code) or _left(out, ended.told, kept)
                if not found and kept is not None:
                    same = tensors if counted else content
                    found = wrong(run(work), 0) or differs(same(out), same(place / "whole"))
                failures.add(f"{phase}, {signal.Signals(number).name}", found)
            for phase, started in (("sampling", _sampling), ("importing", _importing)):
                out = place / f"{phase} {number}"
                ended = started(place, out, number)
                slowest = max(slowest, ended.clock - _clock(out))
                found = wrong(ended, code) or (f"{out.name} was written" if out.exists() else None)
                failures.add(f"{phase}, {signal.Signals(number).name}", found)
            if plan.size == "smoke":
                break
    yield failures.check()
    yield Check("the slowest stop, seconds", slowest, SLOWEST, failures.n)


def _signal(out: Path, number: int) -> None:
    """Note the time and send this process a signal."""
    out.with_suffix(".clock").write_text(repr(time.monotonic()))
    os.kill(os.getpid(), number)


def _clock(out: Path) -> float:
    """Return when the signal was sent; long ago if it was not."""
    noted = out.with_suffix(".clock")
    return float(noted.read_text()) if noted.exists() else 0.0


def _left(out: Path, told: str, kept: int | None) -> str | None:
    """Return what is wrong with what a stopped fit left and said."""
    if told.count("\n") != 1:
        return f"expected one line; got {told!r}"
    if kept is None:
        return f"{next(out.iterdir()).name} was written" if out.exists() and any(out.iterdir()) else None
    found = checkpoint.latest(out, runs.read(out).digest)
    step = 0 if found is None else found.step
    said = re.search(r"step (\d+) of", told)
    if step != kept or (kept and (said is None or int(said[1]) != kept)):
        return f"expected a checkpoint of step {kept}; got one of step {step} and the words {told.strip()!r}"
    return None


def _sampling(place: Path, out: Path, number: int) -> Ended:
    at_work = at(samplers, "draw_block", lambda *_, **__: _signal(out, number))
    return run(within(at_work, scorefield("sample", place / "whole", "-n", 64, "--out", out.with_suffix(".csv"))))


IMPORTING = """
import os, sys, time
from pathlib import Path
from scorefield.cli import entry as cli

clock, number = Path(sys.argv.pop()), int(sys.argv.pop())

class Finder:
    def find_spec(self, name, path, target=None):
        if name == "torch.nn":
            clock.write_text(repr(time.monotonic()))
            os.kill(os.getpid(), number)

sys.meta_path.insert(0, Finder())
cli.main()
"""
"""A command that gets a signal while PyTorch is loaded."""


def _importing(place: Path, out: Path, number: int) -> Ended:
    command = [sys.executable, "-c", IMPORTING, *map(str, fit(out)), str(int(number)), str(out.with_suffix(".clock"))]
    done = subprocess.run(command, capture_output=True, text=True)
    return Ended(as_shell(done.returncode), done.stderr, time.monotonic())


def hasty() -> AbstractContextManager:
    """Let a signal break into a step, and what has been learned since the last checkpoint be lost."""
    return patch.object(signals, "held", lambda: nullcontext([]))


TESTS = {"R16": Entry("signals in every phase", stop, hasty, smoke=True)}
