"""Children of this process that are killed or run into faults: forked, so that they begin with its modules loaded.

A fault that is planted here is planted there too. Needs a system with fork, such as Linux and macOS.
"""

import contextlib
import importlib
import multiprocessing
import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import torch

from scorefield.selftest.cases import table_learner
from scorefield.selftest.command_line import call
from scorefield.training.config import Config

LONGEST = 300
"""Seconds after which a child that does not end is killed."""


def warm() -> None:
    """Load the commands, and what PyTorch loads in its first step, which takes seconds, so that no child must."""
    for command in ("fit", "sample", "score", "logprob", "evaluate", "plot"):
        importlib.import_module(f"scorefield.cli.{command}")
    rows = torch.randn(8, 1, generator=torch.Generator().manual_seed(0))
    for _ in table_learner(Config(steps=2, width=8, features=4), rows, rows[:0]).run():
        pass


class Ended(NamedTuple):
    """How a child ended: its exit code as a shell tells it, what it wrote, and the clock at its end."""

    code: int
    told: str
    clock: float


class Child:
    """Work in a process of its own, whose standard output and error are kept."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._reader, writer = os.pipe()
        self.process: BaseProcess = multiprocessing.get_context("fork").Process(target=_begin, args=(work, writer))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads that only wait do not survive, nor matter
            self.process.start()
        os.close(writer)

    def end(self, longest: float = LONGEST) -> Ended:
        """Wait for the end, or so many seconds, and for no more output than a pipe holds."""
        self.process.join(longest)
        clock = time.monotonic()
        self.process.kill()
        self.process.join()
        with os.fdopen(self._reader, "rb") as reader:
            told = reader.read().decode(errors="replace")
        return Ended(as_shell(self.process.exitcode), told, clock)


def _begin(work: Callable[[], object], writer: int) -> None:
    for stream in (1, 2):
        os.dup2(writer, stream)
    sys.stdout, sys.stderr = (open(stream, "w", buffering=1, closefd=False) for stream in (1, 2))  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    work()


def as_shell(code: int | None) -> int:
    """Return an exit code as a shell tells it: 128 and the number of a signal."""
    return 128 - code if code is not None and code < 0 else code or 0


def run(work: Callable[[], object], longest: float = LONGEST) -> Ended:
    """Do work in a child to its end, or for so many seconds."""
    return Child(work).end(longest)


def scorefield(*arguments: object) -> Callable[[], None]:
    """Return the work of a command line."""
    return lambda: call(*arguments)


@contextlib.contextmanager
def at(
    place: object,
    name: str,
    act: Callable[..., object],
    number: int = 1,
    where: Callable[..., bool] = lambda *_, **__: True,
) -> Iterator[None]:
    """Replace a function of the package: at its call of this number, of those where is true, act comes first.

    act gets the arguments. What it returns, if it returns anything, is the answer in place of the function's.
    """
    original, calls = getattr(place, name), 0

    def replaced(*arguments: object, **options: object) -> object:
        nonlocal calls
        counts = where(*arguments, **options)
        calls += counts
        answer = act(*arguments, **options) if counts and calls == number else None
        return original(*arguments, **options) if answer is None else answer

    with patch.object(place, name, replaced):
        yield


def within(context: contextlib.AbstractContextManager, work: Callable[[], object]) -> Callable[[], None]:
    """Return work done inside a context."""

    def inside() -> None:
        with context:
            work()

    return inside


def die(*_: object, **__: object) -> None:
    """Kill this process, as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


def bytes_below(folder: Path, leave: tuple[str, ...] = ()) -> dict[str, bytes]:
    """Return what is in each file below a folder but those of a name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in leave)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def differs(found: dict[str, bytes], expected: dict[str, bytes]) -> str | None:
    """Return which file is not as it should be, None if all are."""
    wrong = [name for name in sorted(found.keys() | expected.keys()) if found.get(name) != expected.get(name)]
    return f"{wrong[0]} differs" if wrong else None


def copy(source: Path, target: Path) -> Path:
    """Copy a folder in place of another."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target
