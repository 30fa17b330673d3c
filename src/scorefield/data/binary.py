"""Binary files of columns: .npy, .npz and .parquet."""

import io
import math
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scorefield.data.messages import cut, drop_hint, listed, mistake, show
from scorefield.data.sources import UNREADABLE, Block, Source, check_unique, default_names, rows_at_once

MAX_RATIO = 100
"""How many times its size the arrays of an .npz file may take, so that a small file cannot fill memory."""

PAGES = 2**20
"""Bytes of a column of a Parquet file that are fetched at once; unless told, Arrow fetches and keeps much more."""


class Array(Source):
    """The array of a .npy file, or of one member of a .npz file."""

    named = False

    def __init__(self, path: Path, member: zipfile.ZipInfo | None = None) -> None:
        super().__init__(path)
        self.member, self.notes = member, []
        shape, self.fortran, self.dtype, self.offset, there = self._read_header()
        self._check_type(shape)
        declared = math.prod(shape) * self.dtype.itemsize
        if declared != there:
            size = f"{declared:,}" if declared < 2**63 else "over 2^63"  # with too many digits to print
            expected = f"{size} bytes for the shape {cut(str(shape))}"
            raise mistake(self.where, expected, f"{there:,}; it is cut short or damaged", "save it again")
        self.shape = shape if len(shape) == 2 else (*shape, 1)
        self.names = default_names(self.shape[1])

    def read(self, keep: list[int]) -> Iterator[Block]:
        """Yield blocks that are read, not mapped: pages of a map count as memory in use."""
        return self._read_columns(keep) if self.fortran else self._read_rows(keep)

    def _read_rows(self, keep: list[int]) -> Iterator[Block]:
        n, d = self.shape
        step = rows_at_once(d)
        with self._open() as file:
            file.read(self.offset)
            for start in range(0, n, step):
                rows = self._numbers(file, min(step, n - start) * d).reshape(-1, d)
                yield [rows[:, i].copy() for i in keep]
            file.read(1)  # at its end, a member of an archive is compared with its checksum

    def _read_columns(self, keep: list[int]) -> Iterator[Block]:
        """Yield blocks of an array in Fortran's order, one column behind another; of an archive, from a plain copy."""
        n, d = self.shape
        step = rows_at_once(d)
        with self._open() as stored, tempfile.TemporaryFile() as copy:
            file = stored
            if self.member is not None:
                shutil.copyfileobj(stored, copy)
                file = copy
            for start in range(0, n, step):
                block = []
                for i in keep:
                    file.seek(self.offset + (i * n + start) * self.dtype.itemsize)
                    block.append(self._numbers(file, min(step, n - start)))
                yield block

    def _numbers(self, file: IO[bytes] | io.BufferedIOBase, count: int) -> np.ndarray:
        """Return the next numbers of a file, in the machine's order of bytes."""
        content = file.read(count * self.dtype.itemsize)
        if len(content) < count * self.dtype.itemsize:
            raise EOFError("it ends early")
        return np.frombuffer(content, self.dtype).astype(self.dtype.newbyteorder("="), copy=False)

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        if self.member is None:
            with self.path.open("rb") as file:
                yield file
        else:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as file:
                yield file

    def _read_header(self) -> tuple[tuple[int, ...], bool, np.dtype, int, int]:
        """Return the shape, order and type that the array declares, where it begins and how many bytes follow."""
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        size = self.path.stat().st_size if self.member is None else self.member.file_size
        try:
            with self._open() as file:
                header = readers[np.lib.format.read_magic(file)](file)
                return *header, file.tell(), size - file.tell()
        except UNREADABLE:
            raise
        except Exception as error:  # numpy parses a Python literal; a hostile one raises almost anything
            came, remedy = "one that cannot be read", "save the array again with numpy.save"
            raise mistake(self.where, "the header of a numpy array", came, remedy) from error

    def _check_type(self, shape: tuple[int, ...]) -> None:
        dtype = self.dtype
        if dtype.kind not in "biuf" or dtype.itemsize > 8:
            parts = {"c": "real and imaginary parts", "V": "fields"}.get(dtype.kind)
            remedy = f"save its {parts} as columns" if parts else "save array.astype(float)"
            expected = "booleans, integers or floats of at most 64 bits"
            raise mistake(self.where, expected, f"the dtype {cut(str(dtype))}", remedy)
        if len(shape) not in {1, 2}:
            expected = "a 2-d array, rows by columns"
            raise mistake(self.where, expected, f"the shape {cut(str(shape))}", "reshape it to (n, d)")
        if min(shape) < 1:
            raise mistake(self.where, "at least one row and one column", f"the shape {cut(str(shape))}")


class Parquet(Source):
    """A Parquet file. The row index that pandas stores beside the columns is no data and is left out."""

    named = True

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.notes = []
        self.schema = pq.read_schema(path)
        self.names = [name for name in self.schema.names if not re.fullmatch(r"__index_level_\d+__", name)]
        if not self.names:
            raise mistake(self.where, "columns of numbers", "none")
        check_unique(self.names, self.where)

    def read(self, keep: list[int]) -> Iterator[Block]:
        names = [self.names[i] for i in keep]
        for name in names:
            kind = self.schema.field(name).type
            if not (pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
                place = f"{self.where}, column {cut(name)}"
                remedy = f"convert it, or {drop_hint(name)}"
                raise mistake(place, "booleans, integers or floats", cut(str(kind)), remedy)
        start = 0
        with pq.ParquetFile(self.path, buffer_size=PAGES, pre_buffer=False) as file:
            for batch in file.iter_batches(rows_at_once(len(names)), columns=names, use_threads=False):
                if batch.num_rows:
                    yield [self._column(batch, name, start) for name in names]
                start += batch.num_rows
        if start == 0:
            raise mistake(self.where, "rows of numbers below the names", "none")

    def _column(self, batch: pa.RecordBatch, name: str, start: int) -> np.ndarray:
        column = batch.column(name)
        if column.null_count:
            row = start + int(column.is_null().to_numpy(zero_copy_only=False).argmax())
            came = "null, a missing value"
            raise mistake(self.place(row, name), "a number", came, "remove the row or fill it")
        return np.array(column.to_numpy(zero_copy_only=False))  # a copy, so that Arrow can use its memory again


def npz(path: Path) -> Array:
    """Return the one array of an .npz file, or the one called X, x or data."""
    where, size = show(path), path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    declared = sum(member.file_size for member in members)
    if declared > MAX_RATIO * size:
        expected = f"arrays of at most {MAX_RATIO} times the size of the file, {size:,} bytes"
        raise mistake(where, expected, f"{declared:,}", "save it without compression, with numpy.savez")
    plain = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
    if any(member.compress_type not in plain or member.flag_bits & 1 for member in members):
        came = "an encrypted or otherwise compressed one"
        raise mistake(where, "an archive as numpy writes it", came, "save it with numpy.savez")
    keys = [member.filename.removesuffix(".npy") for member in members]
    check_unique(keys, where)
    chosen = keys if len(keys) == 1 else [key for key in ("X", "x", "data") if key in keys]
    if len(chosen) != 1:
        raise mistake(where, "one array, or one called X, x or data", listed(keys) or "none")
    source = Array(path, members[keys.index(chosen[0])])
    source.notes = [f"{where}: of the arrays {listed(keys)}, {chosen[0]} is read"] if len(keys) > 1 else []
    return source
