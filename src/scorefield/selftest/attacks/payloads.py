"""R28: sixteen ways to make a program run code that comes with its data or its models; none may work."""

import io
import json
import pkgutil
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, chdir
from pathlib import Path
from unittest.mock import patch

import numpy as np

from scorefield.runs import checkpoint
from scorefield.runs import folder as runs
from scorefield.selftest.attacks.fuzz import table_run
from scorefield.selftest.inputs import corpus
from scorefield.selftest.inputs.hostile import npy, reseal, zipped
from scorefield.selftest.report import Check, Entry, Failures, Plan
from scorefield.training.config import Config

CANARY = "canary"
"""The file that code would make."""

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


def shell(root: Path) -> str:
    """Return the command that would make the canary."""
    return f"touch {root / CANARY}"


def calling(root: Path) -> bytes:
    """Return a pickle, written by hand, that calls os.system when it is read."""
    return b"cposix\nsystem\n(S'" + shell(root).encode() + b"'\ntR."


def evaluating(root: Path) -> bytes:
    """Return a pickle that calls builtins.eval."""
    return b"cbuiltins\neval\n(S\"__import__('os').system('" + shell(root).encode() + b"')\"\ntR."


def nested(root: Path) -> bytes:
    """Return the pickle of a state whose optimizer's state is a call."""
    return b"(S'optimizer'\n(S'state'\n" + calling(root)[:-1] + b"dd."


def memo(root: Path) -> bytes:
    """Return a pickle that puts a value at place 2^31 of its memo before the call."""
    return b"N" + b"r\xff\xff\xff\x7f" + b"0" + calling(root)


def torch_zip(pickle: bytes, more: bytes = b"N.") -> bytes:
    """Return what torch.save would write, with a second pickle beside the first."""
    return zipped({"archive/data.pkl": pickle, "archive/version": b"3\n", "archive/constants.pkl": more})


def legacy_tar(pickle: bytes) -> bytes:
    """Return what torch.save wrote before 2019: a tar archive of pickles."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            member = tarfile.TarInfo(name)
            member.size = len(pickle)
            archive.addfile(member, io.BytesIO(pickle))
    return file.getvalue()


def npy_of(descr: str, content: bytes) -> bytes:
    """Return a .npy file with any text as its type."""
    header = ("{'descr': " + descr + ", 'fortran_order': False, 'shape': (2, 1), }").ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + content


def weights(content: bytes, name: str = checkpoint.MODEL) -> Callable[[Path], None]:
    """Return what puts bytes in place of a file of a run's checkpoint, with sums that fit."""

    def put(run: Path) -> None:
        place = checkpoint_of(run)
        (place / name).write_bytes(content)
        reseal(place)

    return put


def config(change: Callable[[str], str]) -> Callable[[Path], None]:
    """Return what changes the config.toml of a run, with sums that fit."""

    def put(run: Path) -> None:
        path = run / "config.toml"
        path.write_text(change(path.read_text()))
        reseal(checkpoint_of(run), config=checkpoint.sha256(path.read_bytes()))

    return put


def checkpoint_of(run: Path) -> Path:
    """Return the folder of the one checkpoint of a run."""
    return next((run / "checkpoints").iterdir())


def pointed(content: bytes) -> Callable[[Path], None]:
    """Return what leads a run to a checkpoint elsewhere, by a pointer and by a link."""

    def put(run: Path) -> None:
        place, elsewhere = checkpoint_of(run), run.parent / "elsewhere"
        place.rename(elsewhere)
        (elsewhere / checkpoint.MODEL).write_bytes(content)
        reseal(elsewhere, step=int(place.name))
        (run / "checkpoints" / "latest").write_text(str(elsewhere))
        place.symlink_to(elsewhere)

    return put


def linked(run: Path) -> None:
    """Put a link to the very same bytes in place of the weights."""
    path = checkpoint_of(run) / checkpoint.MODEL
    path.rename(run.parent / "weights")
    path.symlink_to(run.parent / "weights")


def with_appended(root: Path) -> Callable[[Path], None]:
    """Return what makes the weights a file that is of two kinds, tensors and an archive."""
    return lambda run: weights((checkpoint_of(run) / checkpoint.MODEL).read_bytes() + torch_zip(calling(root)))(run)


def targets(root: Path) -> Callable[[str], str]:
    """Return what names a function to call among the settings, as configuration libraries do."""
    lines = [f'{name} = "os.system"' for name in ("_target_", "_instantiator", "class_path")]
    lines.append(f"_args_ = {json.dumps([shell(root)])}")
    return lambda text: text.replace("[settings]\n", "[settings]\n" + "\n".join(lines) + "\n")


def replaced_process(name: str) -> Callable[[str], str]:
    """Return what writes an expression in place of the process."""
    return lambda text: text.replace('process = "vp"', f"process = {json.dumps(name)}")


def attacks(root: Path) -> dict[str, tuple[dict[str, bytes], Callable[[Path], None] | None, list[str]]]:
    """Return the attacks by name: files to write, what to do to a run, and commands that meet them."""
    call, expression = calling(root), f"__import__('os').system('{shell(root)}')"
    quoted, name = shlex.quote(expression), f"$({shell(root)})".replace("/", "_")
    objects = npy(np.array([[1]], object))
    with_call = objects[: objects.index(b"\x80")] + call
    fit = [f"fit {file} --out out --steps 1" for file in ("a.npy", "a.npz", "a.csv", "a.parquet")]
    return {
        "__reduce__ to os.system": ({}, weights(call), []),
        "builtins.eval": ({}, weights(evaluating(root)), []),
        "nested in the state of an optimizer": ({}, weights(torch_zip(nested(root)), checkpoint.STATE), []),
        "tar archive of pickles": ({}, weights(legacy_tar(call)), []),
        "zip archive with a second pickle": ({}, weights(torch_zip(b"N.", call)), []),
        "array of objects": ({"a.npy": with_call, "a.npz": zipped({"X.npy": with_call})}, None, fit[:2]),
        "pickle under another name": ({f"a.{end}": call for end in ("npy", "npz", "csv", "parquet")}, None, fit),
        "YAML with a Python tag": ({}, config(lambda _: f'!!python/object/apply:os.system ["{shell(root)}"]\n'), []),
        "class to instantiate": ({}, config(targets(root)), []),
        "expression for a schedule": (
            {},
            config(replaced_process(expression)),
            [f"fit moons --out out --steps 1 --{option} {quoted}" for option in ("process", "predicts", "objective")]
            + [f"fit moons --out out --budget {quoted}", f"fit moons --out out --bounds x1={shlex.quote(name)}:"],
        ),
        "pointer and link to a checkpoint": ({}, pointed(call), []),
        "type of an array": (
            {
                "a.npy": npy_of("[('a', 'O')]", call),
                "b.npy": npy_of(repr(expression), b""),
                "c.npy": npy_of(expression, b""),
            },
            None,
            [f"fit {file}.npy --out out --steps 1" for file in "abc"],
        ),
        "file of two kinds": (
            {"a.npy": npy(np.eye(2)) + torch_zip(call), "a.npz": npy(np.eye(2)) + zipped({"X.npy": with_call})},
            with_appended(root),
            fit[:2],
        ),
        "huge memo": ({"a.npy": objects[: objects.index(b"\x80")] + memo(root)}, weights(memo(root)), fit[:1]),
        "link in place of weights": ({}, linked, []),
        "command in a name": (
            {"a.csv": f"{name},b\n1,2\n2,1\n".encode()},
            None,
            [
                f"fit {shlex.quote(name)} --out out",
                f"fit a.csv --columns {quoted} --out out",
                f"sample {shlex.quote(name)} --out {shlex.quote(name)}.csv",
                f"data moons --out {shlex.quote(name)}",
            ],
        ),
    }


def met(root: Path) -> Iterator[tuple[str, str]]:
    """Yield each attack and what is wrong with how it is met; a run that is attacked is loaded and sampled from."""
    for name, (files, change, commands) in attacks(root).items():
        folder = root / "attack"
        shutil.copytree(root / "run", folder / "run")
        with chdir(folder):
            for file, content in files.items():
                Path(file).write_bytes(content)
            if change is not None:
                change(folder / "run")
                commands = [*commands, "sample run -n 2 --steps 2 --out out.csv", "score run a.csv --out out.csv"]
            answers = [corpus.wrong_with_refusal(*corpus.typed(command), []) for command in commands]
            if change is not None:
                answers.append(loaded(folder / "run"))
        shutil.rmtree(folder)
        yield name, next(filter(None, answers), "")


def loaded(run: Path) -> str:
    """Return what is wrong with how a run that is attacked is loaded from Python."""
    try:
        runs.load(run)
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


def instantiating(values: dict[str, object]) -> Config:
    """Make the settings, or whatever they name: the mistake that was CVE-2026-58659."""
    if "_target_" in values:
        return pkgutil.resolve_name(str(values["_target_"]))(*values["_args_"])  # type: ignore[misc]
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return Config(**values)  # type: ignore[arg-type]


def fault() -> AbstractContextManager:
    """Plant: settings may name a function to call."""
    return patch.object(Config, "from_dict", instantiating)


TESTS = {"R28": Entry("code that comes with data or models", run, fault, smoke=True)}
