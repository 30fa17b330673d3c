"""Checkpoints that survive a kill and notice every changed bit: a folder with a manifest of SHA-256, renamed whole."""

import hashlib
import json
import shutil
import stat
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from scorefield.data.atomic import remove_left, replacing_folder

FORMAT = 2
"""The version of the folder's layout; a reader refuses another one."""

MODEL, STATE = "model.safetensors", "state.safetensors"
"""The files of a checkpoint beside its manifest."""

KEEP = 2
"""How many checkpoints are kept."""


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or not of this program; the message says which and what to do."""


class Checkpoint(NamedTuple):
    """A verified checkpoint: the step, the model to use, the training state, and what else was noted."""

    step: int
    model: dict[str, Tensor]
    state: dict[str, Tensor]
    notes: list[str]


def save(run: Path, step: int, model: dict[str, Tensor], state: dict[str, Tensor], config_digest: str) -> None:
    """Write checkpoints/<step>/ below a run folder, so that a reader sees all of it or nothing.

    The files are written to a temporary folder, read back, checked and synced to disk; then the folder is renamed
    and all but the last two are removed. config_digest ties it to its config.toml. Raises OSError where the disk
    refuses, and CheckpointError for numbers that are not finite.
    """
    parent = run / "checkpoints"
    parent.mkdir(exist_ok=True)
    files = {MODEL: safetensors.save(model), STATE: safetensors.save(state)}
    manifest = {
        "format": FORMAT,
        "step": step,
        "config": config_digest,
        "files": {name: sha256(content) for name, content in files.items()},
    }
    files["manifest.json"] = seal(manifest)
    final = parent / str(step)
    with replacing_folder(final) as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        read(folder, config_digest)
        if final.exists():  # only a damaged one is ever written again
            shutil.rmtree(final)
    tidy(run)


def tidy(run: Path) -> None:
    """Remove all but the last checkpoints of a run, and what a save that was killed has left."""
    remove_left(run / "checkpoints")
    for old in _steps(run)[KEEP:]:
        shutil.rmtree(old)


def latest(run: Path, config_digest: str) -> Checkpoint | None:
    """Return the newest valid checkpoint of a run folder, None where none was ever written.

    A damaged one is passed over for the one before it, which a note says. Raises CheckpointError where all are damaged.
    """
    notes: list[str] = []
    folders = _steps(run)
    for folder in folders:
        try:
            found = read(folder, config_digest)
            if found.step != int(folder.name):
                raise CheckpointError(f"{folder} is damaged: it holds step {found.step}; give it its name back")
        except CheckpointError as error:
            notes.append(str(error))
            continue
        return found._replace(notes=[f"{note}; the one before it is used" for note in notes])
    if folders:
        raise CheckpointError(f"no checkpoint of {run} can be used: {'; '.join(notes)}; fit it again with --force")
    return None


def read(folder: Path, config_digest: str) -> Checkpoint:
    """Return the checkpoint of a folder, verified bit by bit. Raises CheckpointError for anything unexpected."""
    if folder.is_symlink():
        raise CheckpointError(f"{folder} is a link: put the folder itself there")
    manifest = _manifest(folder)
    if manifest["config"] != config_digest:
        raise CheckpointError(f"{folder} belongs to another config.toml than the one beside it: restore that file")
    tensors = {}
    for name in (MODEL, STATE):
        path = folder / name
        content = content_of(path)
        if sha256(content) != manifest["files"][name]:
            raise CheckpointError(f"{path} is damaged: its SHA-256 is not the one in manifest.json")
        try:
            tensors[name] = safetensors.load(content)
        except (SafetensorError, KeyError, ValueError, TypeError, OverflowError) as error:
            raise CheckpointError(f"{path} is not a safetensors file: {error}") from error
        for tensor, value in tensors[name].items():
            if not bool(value.isfinite().all()):
                raise CheckpointError(f"{path} holds numbers that are not finite, in {tensor}")
    return Checkpoint(manifest["step"], tensors[MODEL], tensors[STATE], [])


def seal(content: dict) -> bytes:
    """Return plain values as JSON that holds the SHA-256 sum of itself; see `unseal`."""
    digest = sha256(json.dumps(content, sort_keys=True).encode())
    return (json.dumps(content | {"digest": digest}, indent=1) + "\n").encode()


def unseal(path: Path) -> dict:
    """Return what `seal` wrote into a file. Raises CheckpointError if a single byte of it was changed."""
    written = content_of(path)
    try:
        content = json.loads(written)
        del content["digest"]
        sound = seal(content) == written
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if not sound:
        raise CheckpointError(f"{path} is damaged: its own SHA-256 does not match")
    return content


def content_of(path: Path) -> bytes:
    """Return the bytes of a file of a run. Raises CheckpointError for none, and for a link, a pipe or a device."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise CheckpointError(
                f"{path} is no regular file but a link, a pipe or a device: put the file itself there"
            )
        return path.read_bytes()
    except (OSError, MemoryError) as error:
        raise CheckpointError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def sha256(content: bytes) -> str:
    """Return the SHA-256 sum of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _manifest(folder: Path) -> dict:
    path = folder / "manifest.json"
    manifest = unseal(path)
    found = manifest.get("format")
    if found != FORMAT:
        raise CheckpointError(f"{folder} has format {found}; this program reads format {FORMAT}: update scorefield")
    files, step = manifest.get("files"), manifest.get("step")
    whole = isinstance(step, int) and step >= 0 and isinstance(files, dict) and set(files) == {MODEL, STATE}
    if not whole or "config" not in manifest:
        raise CheckpointError(f"{path} is damaged: it is no manifest of a checkpoint")
    return manifest


def _steps(run: Path) -> list[Path]:
    """Return the checkpoint folders of a run, the newest first."""
    folders = [p for p in (run / "checkpoints").glob("*") if p.name.isdecimal()]
    return sorted(folders, key=lambda p: int(p.name), reverse=True)
