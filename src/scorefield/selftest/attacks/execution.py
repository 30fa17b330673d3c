"""R28: code that comes with data or models is not run, whichever of sixteen ways it takes."""

import pkgutil
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, chdir
from pathlib import Path
from typing import Any
from unittest.mock import patch

from scorefield.kinds.loading import load
from scorefield.selftest.attacks.fuzz import table_run
from scorefield.selftest.attacks.payloads import CANARY, in_files, on_runs
from scorefield.selftest.command_line import typed, wrong_with_refusal
from scorefield.selftest.report import Check, Entry, Failures, Plan
from scorefield.training.config import Config

FORBIDDEN = {
    "exec",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "pickle.find_class",
    "subprocess.Popen",
}
"""What Python's audit hook must not see while data and models are read (all modules are loaded before)."""

ANNOTATIONS = {"typing", "beartype", "jaxtyping"}
"""Modules that evaluate or check annotations, the last two in tests only."""

seen: list[str] = []
"""Forbidden events since the hook began to watch."""

watching: list[bool] = []
"""Holds something while the hook watches; a hook cannot be taken away."""


def met(root: Path) -> Iterator[tuple[str, str]]:
    """Yield each attack and what is wrong with how it is met; a run that is attacked is loaded and sampled from."""
    for name, attack in (on_runs(root) | in_files(root)).items():
        folder, commands = root / "attack", attack.commands
        shutil.copytree(root / "run", folder / "run")
        with chdir(folder):
            for file, content in attack.files.items():
                Path(file).write_bytes(content)
            if attack.change is not None:
                attack.change(folder / "run")
                commands += ("sample run -n 2 --steps 2 --out out.csv", "score run a.csv --out out.csv")
            answers = [wrong_with_refusal(typed(command), []) for command in commands]
            if attack.change is not None:
                answers.append(loaded(folder / "run"))
        shutil.rmtree(folder)
        yield name, next(filter(None, answers), "")


def loaded(run: Path) -> str:
    """Return what is wrong with how a run that is attacked is loaded from Python."""
    try:
        load(run)
    except ValueError:
        return ""
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "the run was loaded"


def watch(event: str, arguments: tuple[object, ...]) -> None:
    """Note what must not happen, but for annotations of our own that are evaluated where types are looked at."""
    if watching and event in FORBIDDEN:
        caller = str(sys._getframe(1).f_globals.get("__name__")).split(".")[0]
        if event != "exec" or caller not in ANNOTATIONS:
            seen.append(f"{event} by {caller}: {str(arguments[:2])[:200]}")


IMPORTS = """
import importlib, pkgutil, sys
seen = []
kinds = {"pickle.find_class", "os.system", "subprocess.Popen", "socket.connect", "socket.getaddrinfo", "urllib.Request"}
def watch(event, arguments):
    if event in kinds:
        seen.append(event)
sys.addaudithook(watch)
import scorefield
for module in pkgutil.walk_packages(scorefield.__path__, "scorefield."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(*seen, sep="\\n")
"""


def seen_at_import() -> list[str]:
    """Return what reads pickles, starts programs or reaches for a network while all modules are imported."""
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True)
    return done.stdout.split()


def run(plan: Plan) -> Iterator[Check]:
    """Count attacks that are not refused, files that code has made, and events that give code away."""
    refused, events = Failures("attacks"), Failures("forbidden events")
    sys.addaudithook(watch)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name).resolve()
        table_run(root / "run")
        for attack, problem in met(root):  # loads what is loaded when it is first used
            made = (root / CANARY).exists()
            (root / CANARY).unlink(missing_ok=True)
            refused.add(attack, "its code was run" if made else problem)
        watching.append(True)
        try:
            for attack, _ in met(root):
                events.add(attack, "; ".join(seen))
                seen.clear()
        finally:
            watching.clear()
    yield refused.check()
    yield events.check()
    if plan.size != "smoke":
        at_import = seen_at_import()
        yield Check(
            f"events while all modules are imported {' '.join(at_import[:1])}".rstrip(), float(len(at_import)), 0.0
        )


def instantiating(values: dict[str, Any]) -> Config:
    """Make the settings, or whatever they name: the mistake that was CVE-2026-58659."""
    if "_target_" in values:
        return pkgutil.resolve_name(str(values["_target_"]))(*values["_args_"])
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return Config(**values)


def fault() -> AbstractContextManager:
    """Plant: settings may name a function to call."""
    return patch.object(Config, "from_dict", instantiating)


TESTS = {"R28": Entry("code that comes with data or models", run, fault, smoke=True)}
