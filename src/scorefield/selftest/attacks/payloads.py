"""Sixteen ways to make a program run code that comes with its data or its models."""

import io
import json
import shlex
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from scorefield.runs import checkpoint
from scorefield.selftest.inputs.makers import npy, reseal, zipped

CANARY = "canary"
"""The file that code would make."""


def shell(root: Path) -> str:
    """Return the command that would make the canary."""
    return f"touch {root / CANARY}"


def expression(root: Path) -> str:
    """Return the Python that would make the canary."""
    return f"__import__('os').system('{shell(root)}')"


def substitution(root: Path) -> str:
    """Return a name for which a shell would put the command's output."""
    return f"$({shell(root)})".replace("/", "_")


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


@dataclass(frozen=True)
class Attack:
    """An attack: files to write, what to do to a run, and commands that meet them."""

    files: dict[str, bytes] = field(default_factory=dict)
    change: Callable[[Path], None] | None = None
    commands: tuple[str, ...] = ()


def on_runs(root: Path) -> dict[str, Attack]:
    """Return the attacks by what stands in a run."""
    call, fit, quoted = calling(root), "fit moons --out out", shlex.quote(expression(root))
    options = [f"{fit} --steps 1 --{option} {quoted}" for option in ("process", "predicts", "objective")]
    return {
        "__reduce__ to os.system": Attack(change=weights(call)),
        "builtins.eval": Attack(change=weights(evaluating(root))),
        "nested in the state of an optimizer": Attack(change=weights(torch_zip(nested(root)), checkpoint.STATE)),
        "tar archive of pickles": Attack(change=weights(legacy_tar(call))),
        "zip archive with a second pickle": Attack(change=weights(torch_zip(b"N.", call))),
        "YAML with a Python tag": Attack(
            change=config(lambda _: f'!!python/object/apply:os.system ["{shell(root)}"]\n')
        ),
        "class to instantiate": Attack(change=config(targets(root))),
        "expression for a schedule": Attack(
            change=config(replaced_process(expression(root))),
            commands=(
                *options,
                f"{fit} --budget {quoted}",
                f"{fit} --bounds x1={shlex.quote(substitution(root))}:",
            ),
        ),
        "pointer and link to a checkpoint": Attack(change=pointed(call)),
        "link in place of weights": Attack(change=linked),
    }


def in_files(root: Path) -> dict[str, Attack]:
    """Return the attacks by data and their names; some of the same bytes stand in a run too."""
    call, name, quoted = calling(root), shlex.quote(substitution(root)), shlex.quote(expression(root))
    objects = npy(np.array([[1]], object))
    start = objects[: objects.index(b"\x80")]  # a header that declares objects
    fit = tuple(f"fit {file} --out out --steps 1" for file in ("a.npy", "a.npz", "a.csv", "a.parquet"))
    two_kinds = {"a.npy": npy(np.eye(2)) + torch_zip(call), "a.npz": npy(np.eye(2)) + zipped({"X.npy": start + call})}
    types = {"a.npy": ("[('a', 'O')]", call), "b.npy": (repr(expression(root)), b""), "c.npy": (expression(root), b"")}
    return {
        "array of objects": Attack({"a.npy": start + call, "a.npz": zipped({"X.npy": start + call})}, None, fit[:2]),
        "pickle under another name": Attack({f"a.{end}": call for end in ("npy", "npz", "csv", "parquet")}, None, fit),
        "type of an array": Attack(
            {file: npy_of(*given) for file, given in types.items()},
            None,
            tuple(f"fit {file} --out out --steps 1" for file in types),
        ),
        "file of two kinds": Attack(two_kinds, with_appended(root), fit[:2]),
        "huge memo": Attack({"a.npy": start + memo(root)}, weights(memo(root)), fit[:1]),
        "command in a name": Attack(
            {"a.csv": f"{substitution(root)},b\n1,2\n2,1\n".encode()},
            None,
            (
                f"fit {name} --out out",
                f"fit a.csv --columns {quoted} --out out",
                f"sample {name} --out {name}.csv",
                f"data moons --out {name}",
            ),
        ),
    }
