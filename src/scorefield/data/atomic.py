"""Files and folders that appear whole or not at all."""

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from scorefield.data.messages import mistake, show


def check_place(path: Path, force: bool, folder: bool = False) -> None:
    """Raise ValueError if no file can be written to path, or if one is there and force is not set.

    A folder must be new or empty, whatever force is: what is in one is not removed.
    """
    where = show(path)
    if "\0" in str(path):
        raise mistake(where, "the name of a file", "one with a NUL byte", "choose another name")
    try:
        if not path.parent.is_dir():
            raise mistake(where, "a folder to write in", f"{show(path.parent)}, which is none", "make it first")
        if folder:
            _check_folder(path, where)
        elif path.exists() and not path.is_file():
            raise mistake(where, "a file to write", "a folder or a device", "choose another name")
        elif path.exists() and not force:
            remedy = "choose another name, or replace it with --force"
            raise mistake(where, "a new file", "one that exists", remedy)
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise mistake(where, "a folder that may be written in", f"{show(path.parent)}, which may not")
    except OSError as error:
        reason = f"an error: {error.strerror}"
        raise mistake(where, "a place to write", reason, "choose another name") from error


def _check_folder(path: Path, where: str) -> None:
    remedy = "choose another name, or one ending in .png, .npy or .npz for a file"
    if path.exists() and not path.is_dir():
        raise mistake(where, "a new or an empty folder", "a file", remedy)
    if path.is_dir() and next(path.iterdir(), None) is not None:
        raise mistake(where, "a new or an empty folder", "one that holds something", remedy)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a temporary file beside path, which takes its place at a good end and is removed at any other.

    The file is locked while it is written: one of the same path that is not was left by a process that was killed.
    """
    temporary = _temporary(path)
    try:
        _remove_left(path)
        with temporary.open("xb") as file:
            with suppress(OSError):  # some network folders have no locks
                fcntl.flock(file, fcntl.LOCK_EX)
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OSError(f"{show(path)}: could not be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside path, which takes the place of none or an empty one at a good end, as a file."""
    temporary = _temporary(path)
    try:
        _remove_left(path)
        temporary.mkdir()
        lock = os.open(temporary, os.O_RDONLY)
        try:
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield temporary
            for entry in temporary.iterdir():
                with entry.open("rb") as file:
                    os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            os.close(lock)
    except OSError as error:
        raise OSError(f"{show(path)}: could not be written: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _stem(path: Path) -> str:
    return f".scorefield-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}"


def _temporary(path: Path) -> Path:
    return path.parent / f"{_stem(path)}-{secrets.token_hex(8)}.tmp"


def _remove_left(path: Path) -> None:
    """Remove what processes that were killed have left of the same path: what no process has locked."""
    for left in path.parent.glob(f"{_stem(path)}-*.tmp"):
        with suppress(OSError):
            handle = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            finally:
                os.close(handle)
