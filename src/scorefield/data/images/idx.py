"""IDX files, the format of MNIST: two zeros, a type, the number of directions, the sizes, the numbers."""

import gzip
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from scorefield.data.messages import listed, mistake, show
from scorefield.data.stored import MAX_RATIO, Bytes, Stored

TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
"""The types of numbers by the third byte of a file."""

SMALL = 2**24
"""Bytes that a compressed file may declare however small it is: labels in order are compressed a thousandfold."""

IMAGES = re.compile(r"(.*[-._])?images[-.]idx\d[-.]ubyte(\.gz)?", re.IGNORECASE)


def idx(path: Path) -> Stored:
    """Return the array of an IDX file, plain or compressed by gzip.

    Raises ValueError for another kind of file, and for a header that declares more or less than there is; what a
    compressed file holds shows only as it is read, so it may declare at most MAX_RATIO times its size.
    """
    where, size = show(path), path.stat().st_size
    with _opened(path) as file:
        magic = file.read(4)
        if not is_magic(magic):
            remedy = "an IDX file begins with two bytes of zero, a type and a number of directions"
            raise mistake(where, "an IDX file", f"the first bytes {magic.hex(' ') or 'none'}", remedy)
        sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise mistake(where, f"{magic[3]} sizes of 4 bytes", f"{len(sizes)} bytes", "the file is cut short")
    shape, dtype = tuple(np.frombuffer(sizes, ">u4").tolist()), np.dtype(TYPES[magic[2]])
    offset = 4 + len(sizes)
    declared = offset + math.prod(shape) * dtype.itemsize
    if min(shape) < 1:
        raise mistake(where, "at least one number in every direction", f"the sizes {shape}")
    if _is_compressed(path):
        most = max(SMALL, MAX_RATIO * size)
        if declared > most:
            expected = f"at most {most:,} bytes in a compressed file of {size:,}"
            raise mistake(where, expected, f"{declared:,}", "unpack it if it is not damaged")
    elif declared != size:
        expected = f"{declared:,} bytes for the sizes {shape}"
        raise mistake(where, expected, f"{size:,}", "the file is cut short or damaged; fetch it again")
    return Stored(where, shape, dtype, False, offset, partial(_opened, path))


def is_magic(start: bytes) -> bool:
    """Return whether a file that starts so is an IDX file."""
    return len(start) == 4 and start[:2] == b"\0\0" and start[2] in TYPES and 1 <= start[3] <= 4


def is_idx(path: Path) -> bool:
    """Return whether a file is an IDX file, by its first four bytes."""
    with _opened(path) as file:
        return is_magic(file.read(4))


def images_in(folder: Path) -> Path | None:
    """Return the IDX file of images in a folder, that for training if there are several; None if there is none.

    Raises ValueError if it is not clear which.
    """
    names = sorted(entry.name for entry in folder.iterdir() if IMAGES.fullmatch(entry.name) and entry.is_file())
    plain = {re.sub(r"\.gz$", "", name): name for name in reversed(names)}  # of a file and its copy by gzip, the file
    chosen = list(plain.values())
    if len(chosen) > 1:
        chosen = [name for name in chosen if "train" in name.lower()] or chosen
    if len(chosen) > 1:
        raise mistake(show(folder), "one IDX file of images", listed(sorted(chosen)), "name the file")
    return folder / chosen[0] if chosen else None


def labels_beside(images: Path) -> Path | None:
    """Return the IDX file of labels that belongs to one of images by its name, or None."""
    if not IMAGES.fullmatch(images.name):
        return None
    start = images.name[: images.name.lower().rindex("images")]
    return spelled(images.parent, f"{start}labels-idx1-ubyte")


def spelled(folder: Path, name: str) -> Path | None:
    """Return the file of a folder that has a name like train-images-idx3-ubyte, in one of its spellings, or None."""
    dotted = re.sub(r"-(idx\d)-ubyte$", r".\1-ubyte", name)
    spellings = [name + end for name in (name, dotted) for end in ("", ".gz")]
    return next((folder / spelling for spelling in spellings if (folder / spelling).is_file()), None)


def _is_compressed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


@contextmanager
def _opened(path: Path) -> Iterator[Bytes]:
    if _is_compressed(path):
        with gzip.open(path, "rb") as unpacked:
            yield unpacked
    else:
        with path.open("rb") as file:
            yield file
