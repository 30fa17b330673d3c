"""Binary files of columns: .npy, .npz and .parquet."""

import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scorefield.data.messages import cut, drop_hint, listed, mistake, show
from scorefield.data.sources import Block, Source, check_unique, default_names, rows_at_once
from scorefield.data.stored import members, npy, numbers

PAGES = 2**20
"""Bytes of a column of a Parquet file that are fetched at once; unless told, Arrow fetches and keeps much more."""


class Array(Source):
    """The array of a .npy file, or of one member of a .npz file."""

    named = False

    def __init__(self, path: Path, member: zipfile.ZipInfo | None = None) -> None:
        super().__init__(path)
        self.notes = []
        self.stored = npy(path, member)
        self.copied = member is not None
        shape = self.stored.shape
        self._check_shape(shape)
        self.shape = shape if len(shape) == 2 else (*shape, 1)
        self.names = default_names(self.shape[1])

    def read(self, keep: list[int]) -> Iterator[Block]:
        """Yield blocks that are read, not mapped: pages of a map count as memory in use."""
        return self._read_columns(keep) if self.stored.fortran else self._read_rows(keep)

    def _read_rows(self, keep: list[int]) -> Iterator[Block]:
        n, d = self.shape
        step = rows_at_once(d)
        with self.stored.opened() as file:
            file.read(self.stored.offset)
            for start in range(0, n, step):
                rows = numbers(file, self.stored.dtype, min(step, n - start) * d).reshape(-1, d)
                yield [rows[:, i].copy() for i in keep]
            file.read(1)  # at its end, a member of an archive is compared with its checksum

    def _read_columns(self, keep: list[int]) -> Iterator[Block]:
        """Yield blocks of an array in Fortran's order, one column behind another; of an archive, from a plain copy."""
        n, d = self.shape
        step = rows_at_once(d)
        dtype = self.stored.dtype
        with self.stored.opened() as stored, tempfile.TemporaryFile() as copy:
            file = stored
            if self.copied:
                shutil.copyfileobj(stored, copy)
                file = copy
            for start in range(0, n, step):
                block = []
                for i in keep:
                    file.seek(self.stored.offset + (i * n + start) * dtype.itemsize)
                    block.append(numbers(file, dtype, min(step, n - start)))
                yield block

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        if len(shape) not in {1, 2}:
            expected = "a 2-d array, rows by columns"
            raise mistake(self.where, expected, f"the shape {cut(str(shape))}", "reshape it to (n, d)")


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
    where, found = show(path), members(path)
    keys = list(found)
    chosen = keys if len(keys) == 1 else [key for key in ("X", "x", "data") if key in keys]
    if len(chosen) != 1:
        raise mistake(where, "one array, or one called X, x or data", listed(keys) or "none")
    source = Array(path, found[chosen[0]])
    source.notes = [f"{where}: of the arrays {listed(keys)}, {chosen[0]} is read"] if len(keys) > 1 else []
    return source
