"""R15: a fit that was killed ends with the same bytes as one that was not."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from torch import Tensor

from scorefield.runs import folder as runs
from scorefield.runs import resuming
from scorefield.runs.metrics_log import METRICS
from scorefield.selftest.faults.forked import (
    Child,
    Ended,
    at,
    bytes_below,
    die,
    differs,
    run,
    scorefield,
    warm,
    within,
)
from scorefield.selftest.report import Check, Entry, Failures, Plan
from scorefield.training import budget, learner
from scorefield.training.optimizers import Adam

STEPS, LEVEL = 60, 48
"""Steps of a fit that is killed, and those before the learning rate falls; it has checkpoints at 20, 40 and 60."""

BUDGET = "--budget", f"{STEPS}s"
"""What leads to so many steps on a clock that is `steady`."""

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}

CLOCK = ("timing.jsonl",)
"""The files that hold the time of day, which no two runs share."""

ASKED = "config.toml", "manifest.json", "steps.json"
"""The files that tell a budget from a number of steps: the request, and the sums that tie others to it."""


def fit(out: Path, *options: object) -> list[object]:
    """Return the arguments of a small fit."""
    asked = options or ("--steps", STEPS)
    return ["fit", "mixture-1d", "--rows", 8, "--out", out, "--quiet", *asked]


def content(out: Path) -> dict[str, bytes]:
    """Return the bytes of a run: weights, average, moments, generators, settings, log; not the clock."""
    return bytes_below(out, CLOCK)


@contextmanager
def steady() -> Iterator[None]:
    """Let each step take a second on the clock of the budget, and nothing else any."""
    clock, step = [0.0], Adam.step

    def take(self: Adam) -> None:
        clock[0] += 1
        step(self)

    now = lambda: clock[0]
    kept = patch.object(resuming, "perf_counter", now)
    spent = patch.object(resuming, "Budget", lambda seconds: budget.Budget(seconds, clock=now))
    with patch.object(Adam, "step", take), kept, spent:
        yield


def tensors(out: Path) -> dict[str, bytes]:
    """Return what a run ends with, whether a budget led to its number of steps or not: last tensors, reports."""
    left = bytes_below(out, (*CLOCK, *ASKED))
    return {name: value for name, value in left.items() if name.startswith((f"checkpoints/{STEPS}/", METRICS))}


def resume(plan: Plan) -> Iterator[Check]:
    """Kill fits at random moments, go on by the same command, and compare every byte with one that was not killed."""
    warm()
    draw = random.Random(plan.seed)
    with TemporaryDirectory() as folder:
        place = Path(folder)
        began = time.monotonic()
        whole = run(scorefield(*fit(place / "whole")))
        seconds, expected = whole.clock - began, content(place / "whole")
        yield _at_steps(place, expected, draw, plan.of(2, 5, 25))
        once, twice = plan.of(2, 25, 100), plan.of(0, 5, 25)
        for what, count, kills in (("kills at random moments", once, 1), ("runs killed twice", twice, 2)):
            failures = Failures(f"{what}, each byte after the end compared")
            for k in range(count):
                out = place / f"{kills}-{k}"
                moment = (k + draw.random()) / count
                while not all(_killed(out, moment * seconds) for _ in range(kills)):
                    runs.remove(out)  # it was at its end already: once more, from the beginning
                    seconds *= 0.9
                ended = run(scorefield(*fit(out)))
                failures.add(f"run {k}", wrong(ended, 0) or differs(content(out), expected))
            if count:
                yield failures.check()
        yield _samples(place, out)
        yield _budget(place)
        if plan.size != "smoke":
            yield _subprocess(place, expected, draw, plan.of(0, 1, 5))


def _at_steps(place: Path, expected: dict[str, bytes], draw: random.Random, count: int) -> Check:
    """Kill fits inside a step between two checkpoints, which moments on the clock may all miss."""
    failures = Failures("kills at random steps, each byte after the end compared")
    for k in range(count):
        out, step = place / f"step-{k}", draw.randrange(STEPS // 3, STEPS)
        ended = run(within(at(Adam, "step", die, step), scorefield(*fit(out))))
        failures.add(f"kill at step {step}", wrong(ended, 128 + signal.SIGKILL))
        failures.add(f"run {k}", wrong(run(scorefield(*fit(out))), 0) or differs(content(out), expected))
    return failures.check()


def _killed(out: Path, seconds: float) -> bool:
    """Return whether a fit could be killed after so many seconds, or had ended."""
    child = Child(scorefield(*fit(out)))
    child.process.join(seconds)
    child.process.kill()
    return child.end().code == 128 + signal.SIGKILL


def wrong(ended: Ended, code: int) -> str | None:
    """Return why a child did not end as it should."""
    return None if ended.code == code else f"exit code {ended.code}, expected {code}: {ended.told[-300:].strip()}"


def _samples(place: Path, killed: Path) -> Check:
    """Return whether 64 samples of a killed run are those of the whole one."""
    failures = Failures("samples of a killed run, each byte compared")
    for name, out in (("whole", place / "whole"), ("killed", killed)):
        ended = run(scorefield("sample", out, "-n", 64, "--out", place / f"{name}.csv", "--quiet"))
        failures.add(name, wrong(ended, 0))
    same = (place / "whole.csv").read_bytes() == (place / "killed.csv").read_bytes()
    failures.add("both", None if same else "they differ")
    return failures.check()


def _budget(place: Path) -> Check:
    """Kill fits with a budget before its clock has said how many steps there are, just after, and in the fall.

    Each goes on by the same command, and is compared with --steps of that number.
    """
    failures = Failures("a budget killed before and after its number of steps was written")
    for step in (LEVEL - 15, LEVEL + 1, LEVEL + 8):
        out = place / f"budget-{step}"
        work = within(steady(), scorefield(*fit(out, *BUDGET)))
        killed = run(within(at(Adam, "step", die, step), work))
        failures.add(f"kill at step {step}", wrong(killed, 128 + signal.SIGKILL))
        failures.add(f"run {step}", wrong(run(work), 0) or differs(tensors(out), tensors(place / "whole")))
    return failures.check()


def _subprocess(place: Path, expected: dict[str, bytes], draw: random.Random, count: int) -> Check:
    """Do the same with processes that begin with nothing, as a shell starts them."""
    failures = Failures("commands of a shell, killed")
    for k in range(count):
        out = place / f"shell-{k}"
        command = [sys.executable, "-m", "scorefield", *map(str, fit(out))]
        process = subprocess.Popen(command)
        while not (out / "checkpoints").is_dir() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(draw.random() / 10)
        process.kill()
        failures.add(f"kill {k}", None if process.wait() == -signal.SIGKILL else "it ended before")
        subprocess.run(command, check=True)
        failures.add(f"run {k}", differs(content(out), expected))
    return failures.check()


@contextmanager
def forgetful() -> Iterator[None]:
    """Let a run that goes on begin the noise of its training anew, a common mistake."""
    original = learner.Learner.load_state

    def load_state(self: learner.Learner, state: dict[str, Tensor]) -> None:
        original(self, state | {"noise": self.noise.get_state()})

    with patch.object(learner.Learner, "load_state", load_state):
        yield


TESTS = {"R15": Entry("exact resume", resume, forgetful, smoke=True)}
