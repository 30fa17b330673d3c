"""R21: bad and unusual input, typed and from Python, and all of it again under `python -O`, where asserts are gone."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import pandas as pd

from scorefield.data.tables import text
from scorefield.kinds.tables.estimator import ScoreDensity
from scorefield.selftest.command_line import typed, wrong_with_refusal
from scorefield.selftest.inputs.cases import Case
from scorefield.selftest.inputs.listed import LISTED
from scorefield.selftest.inputs.others import others
from scorefield.selftest.report import Check, Entry, Failures, Plan

LONGEST = 10.0
"""Seconds of processor time after which a case counts as hanging."""


class Found(NamedTuple):
    """What became of a case by one way: what was said, what is wrong with it, and processor seconds."""

    name: str
    said: str
    problem: str
    seconds: float


def listing(root: Path) -> dict[str, tuple[int, int]]:
    """Return what lies below a folder: names with sizes and times."""
    found = {path: path.lstat() for path in root.rglob("*")}
    return {str(path): (stat.st_size, 0 if path.is_dir() else stat.st_mtime_ns) for path, stat in found.items()}


def by_command(case: Case, root: Path) -> Iterator[tuple[str, str]]:
    """Yield what a case's commands say and what is wrong with it, in its folder."""
    for command in case.commands:
        before = listing(root)
        answer = typed(command)
        if case.works:
            yield answer.err, f"exit code {answer.code}: {answer.err.strip()}" if answer.code else ""
            continue
        changed = sorted(set(before.items()) ^ set(listing(root).items()))
        left = f"left {Path(changed[0][0]).name}" if changed else ""
        yield answer.err, wrong_with_refusal(answer, case.says) or left
    if case.works:
        made = [path for path in (Path("out.csv"), Path("out.npy")) if path.is_file()]
        finite = [np.isfinite(numbers(path)).all() and numbers(path).size > 0 for path in made]
        yield "", "" if finite == [True] else "no finite output"


def numbers(path: Path) -> np.ndarray:
    """Return the numbers of a file that a command wrote."""
    return (np.load(path) if path.suffix == ".npy" else pd.read_csv(path).to_numpy()).astype(float)


def by_python(case: Case, folder: Path) -> tuple[str, str]:
    """Return what Python says to a case, and what is wrong with it."""
    if case.api is None:
        return "", ""
    try:
        result = case.api(folder)
    except (ValueError, TypeError) as error:
        return str(error), f"refused: {error}" if case.api_works else ""
    except Exception as error:
        return "", f"{type(error).__name__}: {error}"
    if not case.api_works:
        return "", "silently accepted"
    return "", "" if np.isfinite(np.asarray(result)).all() else "not finite"


def outcomes(cases: Iterable[Case]) -> Iterator[Found]:
    """Yield what becomes of cases, by the command line and from Python."""
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        root = Path(name).resolve()
        make_runs(root)
        for number, case in enumerate(cases):
            folder = root / str(number)
            folder.mkdir()
            os.chdir(folder)
            case.write(folder)
            began = time.process_time()
            for said, problem in by_command(case, root):
                yield Found(f"{case.name}, typed", told(said, root), problem, time.process_time() - began)
                began = time.process_time()
            said, problem = by_python(case, folder)
            yield Found(f"{case.name}, from Python", told(said, root), problem, time.process_time() - began)
            os.chdir(root)
            shutil.rmtree(folder)


def told(said: str, root: Path) -> str:
    """Return what was said without the name of the temporary folder."""
    return said.replace(str(root), "")


def make_runs(root: Path) -> None:
    """Make the runs that cases name."""
    draw = np.random.default_rng(0)
    height, age = draw.normal(170, 9, 40), draw.integers(18, 80, 40)
    frame = pd.DataFrame({"height": height, "age": age, "smoker": draw.random(40) < 0.3})
    ScoreDensity(max_iter=2, random_state=0).fit(frame).save(root / "PEOPLE")
    ScoreDensity(max_iter=2, random_state=0).fit(frame[["height"]]).save(root / "ONE")


def without_asserts(size: str) -> list[Found]:
    """Return the outcomes of the whole corpus in a child process under `python -O`."""
    command = [sys.executable, "-O", "-m", "scorefield.selftest.inputs.corpus", size]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [Found(**one) for one in json.loads(done.stdout)]


def chosen(size: str) -> list[Case]:
    """Return the cases of a size: of the smoke form those that are refused while they are read."""
    listed = list(LISTED.values())
    return [case for case in listed if not case.works] if size == "smoke" else listed + others()


def run(plan: Plan) -> Iterator[Check]:
    """Count inputs that do not become what they should."""
    listed, more, slowest = Failures("the 74 listed inputs"), Failures("other bad input"), Found("", "", "", 0.0)
    before = list(outcomes(chosen(plan.size)))
    for found in before:
        (listed if found.name.rpartition(", ")[0] in LISTED else more).add(found.name, found.problem)
        slowest = max(slowest, found, key=lambda one: one.seconds)
    yield listed.check()
    yield Check(f"processor seconds of the slowest case, {slowest.name}", slowest.seconds, LONGEST, len(before))
    if plan.size == "smoke":
        return
    yield more.check()
    same = Failures("said otherwise under python -O")
    for plain, optimised in zip(before, without_asserts(plan.size), strict=True):
        same.add(plain.name, "" if plain[:3] == optimised[:3] else f"{plain.said!r} became {optimised.said!r}")
    yield same.check()


def fault() -> AbstractContextManager:
    """Plant: numbers of text files are no longer checked."""
    return patch.object(text, "check_values", lambda *_: None)


TESTS = {"R21": Entry("bad and unusual input", run, fault, smoke=True)}

if __name__ == "__main__":
    print(json.dumps([one._asdict() for one in outcomes(chosen(sys.argv[1]))]))
