"""Checkpoints that survive a kill and notice every changed bit: a folder with a manifest of SHA-256, renamed whole."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from scorefield.data.atomic import remove_left, replacing_folder

FORMAT = 1
"""The version of the folder's layout; a reader refuses a newer one."""

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
    files = {"model.safetensors": safetensors.save(model), "state.safetensors": safetensors.save(state)}
    manifest = {
        "format": FORMAT,
        "step": step,
        "config": config_digest,
        "files": {name: sha256(content) for name, content in files.items()},
    }
    manifest["digest"] = _manifest_digest(manifest)
    files["manifest.json"] = json.dumps(manifest, indent=1).encode()
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
        except CheckpointError as error:
            notes.append(str(error))
            continue
        return found._replace(notes=[f"{note}; the one before it is used" for note in notes])
    if folders:
        raise CheckpointError(f"no checkpoint of {run} can be used: {'; '.join(notes)}; fit it again with --force")
    return None


def read(folder: Path, config_digest: str) -> Checkpoint:
    """Return the checkpoint of a folder, verified bit by bit. Raises CheckpointError for anything unexpected."""
    manifest = _manifest(folder)
    if manifest["config"] != config_digest:
        raise CheckpointError(f"{folder} belongs to another config.toml than the one beside it: restore that file")
    tensors = {}
    for name, expected in manifest["files"].items():
        content = _content(folder / name)
        if sha256(content) != expected:
            raise CheckpointError(f"{folder / name} is damaged: its SHA-256 is not the one in manifest.json")
        try:
            tensors[name] = safetensors.load(content)
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise CheckpointError(f"{folder / name} is not a safetensors file: {error}") from error
        for tensor, value in tensors[name].items():
            if not bool(value.isfinite().all()):
                raise CheckpointError(f"{folder / name} holds numbers that are not finite, in {tensor}")
    return Checkpoint(manifest["step"], tensors["model.safetensors"], tensors["state.safetensors"], [])


def sha256(content: bytes) -> str:
    """Return the SHA-256 sum of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _manifest(folder: Path) -> dict:
    try:
        manifest = json.loads(_content(folder / "manifest.json"))
        digest = manifest.pop("digest")
        sound = digest == _manifest_digest(manifest)
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{folder / 'manifest.json'} is damaged: {error}") from error
    if not sound:
        raise CheckpointError(f"{folder / 'manifest.json'} is damaged: its own SHA-256 does not match")
    if manifest["format"] != FORMAT:
        raise CheckpointError(
            f"{folder} has format {manifest['format']}; this program reads format {FORMAT}: update scorefield"
        )
    return manifest


def _manifest_digest(manifest: dict) -> str:
    return sha256(json.dumps(manifest, sort_keys=True).encode())


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error


def _steps(run: Path) -> list[Path]:
    """Return the checkpoint folders of a run, the newest first."""
    folders = [p for p in (run / "checkpoints").glob("*") if p.name.isdecimal()]
    return sorted(folders, key=lambda p: int(p.name), reverse=True)
