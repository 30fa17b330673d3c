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


def write(path: Path, content: bytes) -> None:
    """Write or replace a file so that a reader sees the old content or the new, never a part."""
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a temporary file beside path, which takes its place at a good end and is removed at any other.

    The file is locked while it is written: one of the same path that is not was left by a process that was killed.
    """
    temporary = _temporary(path)
    with naming(path):
        try:
            remove_left(path.parent, _stem(path))
            with temporary.open("xb") as file:
                with suppress(OSError):  # some network folders have no locks
                    fcntl.flock(file, fcntl.LOCK_EX)
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside path, which takes the place of none or an empty one at a good end, as a file."""
    temporary = _temporary(path)
    with naming(path):
        try:
            remove_left(path.parent, _stem(path))
            temporary.mkdir()
            lock = os.open(temporary, os.O_RDONLY)
            try:
                with suppress(OSError):
                    fcntl.flock(lock, fcntl.LOCK_EX)
                yield temporary
                for entry in [*temporary.iterdir(), temporary]:
                    _sync(entry)
                temporary.replace(path)
            finally:
                os.close(lock)
            _sync(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the path in what the system says against writing there."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{show(path)}: could not be written: {error}") from error


def _sync(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


PREFIX = ".scorefield"
"""How the names of temporary files and folders begin."""


def _stem(path: Path) -> str:
    return f"{PREFIX}-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}"


def _temporary(path: Path) -> Path:
    return path.parent / f"{_stem(path)}-{secrets.token_hex(8)}.tmp"


def remove_left(folder: Path, stem: str = PREFIX) -> None:
    """Remove what processes that were killed have left in a folder, of one path or of all: what none has locked."""
    for left in folder.glob(f"{stem}-*.tmp"):
        with suppress(OSError):
            handle = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            finally:
                os.close(handle)
