"""R25: memory does not grow with the number of steps or rows."""

import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from scorefield.diffusion import times
from scorefield.diffusion.by_name import PROCESSES, make
from scorefield.diffusion.denoisers import ExactDenoiser
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.process import Process
from scorefield.diffusion.published import VP
from scorefield.inference import walking
from scorefield.inference.samplers import SAMPLERS
from scorefield.kinds.tables.units import TableTransform
from scorefield.numerics.shapes import Samples
from scorefield.runs import folder as runs
from scorefield.runs import resuming
from scorefield.selftest.cases import table_learner
from scorefield.selftest.faults.forked import run, scorefield, warm
from scorefield.selftest.report import Check, Entry, Failures, Plan
from scorefield.training.config import Config
from scorefield.training.learner import Learner

LONGER = 100
"""How many times as long the long form of each task is."""

MEGABYTES = 20.0
"""By how much long walks and trainings may need more memory than short ones."""

STREAMED = 200.0
"""By how much files of many rows may: text is written in groups of rows, which the short form does not fill."""

PATIENCE = 3600.0
"""Seconds that a walk or a training may take."""

BLOCK = 1024
"""Rows that are answered at once: the short form has as many."""

ROWS, COLUMNS = 256, 8
"""Rows of a walk, of which 10,000 states would take 41 MB; columns of a table, of which a million rows take 64 MB."""

SCHEDULE = 1_000_000
"""Times in the longest schedule."""


class Standard(ExactDenoiser):
    """What a perfect model of N(0, I) in two columns answers, at the price of a few operations."""

    def __init__(self, process: Process) -> None:
        mean = torch.zeros(2, dtype=torch.float64)
        super().__init__(GaussianMixture.gaussian(mean, torch.eye(2, dtype=torch.float64)), process)

    def decompose(self, x: Samples, t: Tensor) -> tuple[Samples, Samples]:
        a, s = self.process.kernel(t, x)
        y = x / (a**2 + s**2)
        return a * y, s * y


def flat(plan: Plan) -> Iterator[Check]:
    """Walk, train, draw and judge for a hundred times as long, each in a process of its own, and compare the peaks."""
    warm()
    with TemporaryDirectory() as folder:
        made = _run(Path(folder) / "run")
        rows = np.random.Generator(np.random.PCG64(plan.seed)).normal(size=(LONGER * BLOCK, COLUMNS))
        for name in SAMPLERS if plan.size != "smoke" else ["euler"]:
            yield _compared(f"{name}, steps", plan.of(10_000, 10_000, 100_000), partial(_walk, name))
        if plan.size != "smoke":
            yield _compared("adams, steps", 100_000, partial(_walk, "adams"))
            yield _compared("training, steps", plan.of(1000, 10_000, 100_000), _train)
            yield _compared("samples to a file, rows", 1_000_000, partial(_sample, made), STREAMED)
            yield _compared("log-probabilities, rows", len(rows), lambda n: _logprob(made, rows[:n]), STREAMED)
    yield _schedules()


def _compared(what: str, count: int, work: Callable[[int], None], most: float = MEGABYTES) -> Check:
    """Return by how many megabytes the peak of some work grows as it gets LONGER times as long."""
    short, long = (_peak(partial(work, n)) for n in (count // LONGER, count))
    return Check(f"growth in megabytes, {what} {count // LONGER:,} to {count:,}", long - short, most)


def _peak(work: Callable[[], None]) -> float:
    """Return the largest resident memory of a child that does some work, in megabytes. Raises RuntimeError if not."""
    unit = 1 if sys.platform == "darwin" else 1024

    def measured() -> None:
        try:
            work()
        except SystemExit as stop:  # a command ends by it
            if stop.code:
                raise
        print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)

    ended = run(measured, PATIENCE)
    if ended.code:
        raise RuntimeError(ended.told[-1000:] or f"the process ended with code {ended.code} and said nothing")
    return float(ended.told.rpartition("peak")[2])


def _walk(name: str, steps: int) -> None:
    """Walk from the prior along so many steps, a fifth of them where each is at least one that the sampler chooses."""
    model, draw = Standard(VP()), torch.Generator().manual_seed(0)
    if SAMPLERS[name].adapts:
        steps //= 5
    for _ in SAMPLERS[name].make(draw)(model, model.prior().sample(ROWS, draw), times.grid(model.process, steps)):
        pass


def _learner(steps: int) -> tuple[pd.DataFrame, TableTransform, Learner]:
    table = torch.randn(30, COLUMNS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    frame = pd.DataFrame(table.numpy())
    transform = TableTransform.fit(frame)
    z = transform.forward(frame)
    return frame, transform, table_learner(Config(steps=steps, width=8, depth=1, features=4), z[5:], z[:5])


def _train(steps: int) -> None:
    for _ in _learner(steps)[2].run():
        pass


def _run(folder: Path) -> Path:
    """Make a run of a table, with a small network that has learned nothing."""
    frame, transform, learner = _learner(1)
    made = runs.create(folder, {"data": "x"}, {"digest": "d"}, learner.config, transform.content(), frame.iloc[:5])
    resuming.save_final(made, learner.result, 0.05)
    return folder


def _sample(made: Path, n: int) -> None:
    out = made.parent / f"{n}.npy"
    scorefield("sample", made, "-n", n, "--out", out, "--sampler", "ddim", "--steps", 1, "--quiet")()


def _logprob(made: Path, rows: np.ndarray) -> None:
    points = made.parent / f"points-{len(rows)}.npy"
    np.save(points, rows)
    scorefield("logprob", made, points, "--out", points.with_suffix(".csv"), "--quiet")()


def _schedules() -> Check:
    """Return which processes have no schedule of a million steps."""
    failures = Failures(f"schedules of {SCHEDULE:,} steps")
    for name in PROCESSES:
        process = make(name)
        grid = times.grid(process, SCHEDULE)
        falls = len(grid) == SCHEDULE + 1 and bool((grid.diff() < 0).all()) and float(grid[0]) == process.t_max
        failures.add(name, None if falls else "it does not fall from the largest time to the smallest")
    return failures.check()


@contextmanager
def hoarding() -> Iterator[None]:
    """Keep every state of a walk."""
    kept: list[Tensor] = []
    with patch.object(walking, "require_finite", lambda x, k, u: kept.append(x)):
        yield


TESTS = {"R25": Entry("memory", flat, hoarding, smoke=True)}
