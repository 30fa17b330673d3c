"""Arrays in files, of .npy, .npz or IDX: what they declare is checked before any number is read."""

import io
import math
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np

from scorefield.data.messages import cut, mistake, show
from scorefield.data.sources import UNREADABLE, check_unique

MAX_RATIO = 100
"""How many times its size the arrays of a compressed file may take, so that a small file cannot fill memory."""


Bytes = io.BufferedIOBase
"""A file that is open for reading: as itself, or as what an archive or gzip unpacks."""


@dataclass(frozen=True)
class Stored:
    """An array in a file: where it is, its shape, type and order, at which byte it begins, and how to open the file."""

    where: str
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    offset: int
    opened: Callable[[], AbstractContextManager[Bytes]]


def npy(path: Path, member: zipfile.ZipInfo | None = None, kinds: str = "biuf") -> Stored:
    """Return the array of a .npy file, or of one member of a .npz file.

    Raises ValueError for a type of none of the kinds (numpy's letters) and where the header lies.
    """
    where = show(path)
    shape, fortran, dtype, offset = _header(path, member, where)
    if dtype.kind not in kinds or (dtype.kind in "biuf" and dtype.itemsize > 8):
        parts = {"c": "real and imaginary parts", "V": "fields"}.get(dtype.kind)
        remedy = f"save its {parts} as columns" if parts else "save array.astype(float)"
        expected = "booleans, integers or floats of at most 64 bits"
        raise mistake(where, expected, f"the dtype {cut(str(dtype))}", remedy)
    if min(shape, default=1) < 1:
        raise mistake(where, "at least one row and one column", f"the shape {cut(str(shape))}")
    declared = math.prod(shape) * dtype.itemsize
    there = (path.stat().st_size if member is None else member.file_size) - offset
    if declared != there:
        size = f"{declared:,}" if declared < 2**63 else "over 2^63"  # with too many digits to print
        expected = f"{size} bytes for the shape {cut(str(shape))}"
        raise mistake(where, expected, f"{there:,}; it is cut short or damaged", "save it again")
    return Stored(where, shape, dtype, fortran, offset, partial(_opened, path, member))


def members(path: Path) -> dict[str, zipfile.ZipInfo]:
    """Return the arrays of an .npz file by name. Raises ValueError for an archive that numpy would not write."""
    where, size = show(path), path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        found = archive.infolist()
    declared = sum(member.file_size for member in found)
    if declared > MAX_RATIO * size:
        expected = f"arrays of at most {MAX_RATIO} times the size of the file, {size:,} bytes"
        raise mistake(where, expected, f"{declared:,}", "save it without compression, with numpy.savez")
    plain = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
    if any(member.compress_type not in plain or member.flag_bits & 1 for member in found):
        came = "an encrypted or otherwise compressed one"
        raise mistake(where, "an archive as numpy writes it", came, "save it with numpy.savez")
    keys = [member.filename.removesuffix(".npy") for member in found]
    check_unique(keys, where)
    return dict(zip(keys, found, strict=True))


def numbers(file: Bytes, dtype: np.dtype, count: int) -> np.ndarray:
    """Return the next numbers of a file, in the machine's order of bytes."""
    content = file.read(count * dtype.itemsize)
    if len(content) < count * dtype.itemsize:
        raise EOFError("it ends early")
    return np.frombuffer(content, dtype).astype(dtype.newbyteorder("="), copy=False)


@contextmanager
def _opened(path: Path, member: zipfile.ZipInfo | None) -> Iterator[Bytes]:
    if member is None:
        with path.open("rb") as file:
            yield file
    else:
        with zipfile.ZipFile(path) as archive, archive.open(member) as part:
            yield cast(zipfile.ZipExtFile, part)


def _header(path: Path, member: zipfile.ZipInfo | None, where: str) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Return the shape, order and type that an array declares, and where it begins."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        with _opened(path, member) as file:
            shape, fortran, dtype = readers[np.lib.format.read_magic(file)](file)
            return shape, fortran, dtype, file.tell()
    except UNREADABLE:
        raise
    except Exception as error:  # numpy parses a Python literal; a hostile one raises almost anything
        came, remedy = "one that cannot be read", "save the array again with numpy.save"
        raise mistake(where, "the header of a numpy array", came, remedy) from error
