"""Tables to files: written whole or not at all, with little memory."""

import csv
import io
import itertools
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from scorefield.data.atomic import check_place, replacing
from scorefield.data.messages import cut, mistake, show
from scorefield.data.sources import check_unique, rows_at_once
from scorefield.data.tables.reading import check_types, regrouped


def check_output(path: str | Path, force: bool) -> None:
    """Raise ValueError if no table can be written to path, or if a file is there and force is not set."""
    path = Path(path)
    if path.suffix.lower() not in WRITERS:
        raise mistake(show(path), f"a file ending in one of {', '.join(WRITERS)}", cut(path.suffix))
    check_place(path, force)


def write_blocks(path: str | Path, blocks: Iterable[pd.DataFrame], force: bool) -> int:
    """Write blocks of rows, one below another, in the format of the extension and with little memory; return the rows.

    The file appears whole or not at all, and does not show how the rows were cut into blocks. Text holds the
    shortest digits that give back the same float64; a column name that a spreadsheet would take for a
    formula, one that starts with = + - @ tab or carriage return, gets an apostrophe before it. An array has
    one type for all columns and no names; in an .npz file it is called X.
    Raises ValueError as `check_output`, and for blocks that do not fit together or hold a number that is not
    finite; OSError, with the path and the reason, where the disk refuses.
    """
    path = Path(path)
    check_output(path, force)
    written = 0

    def groups() -> Iterator[pd.DataFrame]:
        nonlocal written
        checked = _checked(blocks, show(path))
        first = next(checked)
        for group in regrouped(itertools.chain([first], checked), rows_at_once(first.shape[1])):
            written += len(group)
            yield group

    with replacing(path) as file:
        WRITERS[path.suffix.lower()](file, groups())
    return written


def _checked(blocks: Iterable[pd.DataFrame], where: str) -> Iterator[pd.DataFrame]:
    """Yield blocks that fit together and hold finite numbers."""
    first, rows = None, 0
    for block in blocks:
        first = block if first is None else first
        _check_block(block, first, rows, where)
        rows += len(block)
        yield block
    if first is None:
        raise mistake(where, "at least one block of rows", "none")


def _check_block(block: pd.DataFrame, first: pd.DataFrame, start: int, where: str) -> None:
    """Refuse a block that does not continue the first one, or that holds a number that is not finite."""
    check_types(block, where)
    check_unique([str(name) for name in block.columns], where)
    if list(block.columns) != list(first.columns) or list(block.dtypes) != list(first.dtypes):
        raise mistake(where, f"blocks with the columns and types {dict(first.dtypes)}", str(dict(block.dtypes)))
    for name, column in block.items():
        finite = np.isfinite(column.to_numpy())
        if not finite.all():
            row = int(finite.argmin())
            place = f"{where}, row {start + row + 1}, column {cut(str(name))}"
            raise mistake(place, "a finite number to write", str(column.iloc[row]))


def _write_text(file: BinaryIO, frames: Iterator[pd.DataFrame], delimiter: str) -> None:
    for position, frame in enumerate(frames):
        text = io.StringIO()
        writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
        if position == 0:
            names = [_inert(str(name)) for name in frame.columns]
            # the writer quotes a line feed in a name but not a carriage return
            quoting: Literal[0, 1] = csv.QUOTE_ALL if "\r" in "".join(names) else csv.QUOTE_MINIMAL
            csv.writer(text, delimiter=delimiter, lineterminator="\n", quoting=quoting).writerow(names)
        writer.writerows(zip(*(column.to_numpy().tolist() for _, column in frame.items()), strict=True))
        file.write(text.getvalue().encode())


def _inert(name: str) -> str:
    """Return a name that no spreadsheet takes for a formula."""
    return "'" + name if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name


def _write_parquet(file: BinaryIO, frames: Iterator[pd.DataFrame]) -> None:
    tables = (pa.table({str(name): column.to_numpy() for name, column in frame.items()}) for frame in frames)
    first = next(tables)
    with pq.ParquetWriter(file, first.schema) as writer:
        for table in itertools.chain([first], tables):
            writer.write_table(table)


def write_npy(file: IO[bytes], arrays: Iterable[np.ndarray]) -> None:
    """Write arrays of one type, one behind another, then the header again: numpy pads it so that any length fits."""
    length = 0
    for position, array in enumerate(arrays):
        if position == 0:
            _write_header(file, array, length)
        file.write(array.tobytes())
        length += len(array)
    file.seek(0)
    _write_header(file, array, length)


def write_npz(file: BinaryIO, arrays: Iterable[np.ndarray], **others: np.ndarray) -> None:
    """Write arrays as one called X, and others; to a nameless file first, as members of an archive cannot change."""
    with tempfile.TemporaryFile(dir=Path(file.name).parent) as part:
        write_npy(part, arrays)
        part.seek(0)
        with zipfile.ZipFile(file, "w") as archive:
            with archive.open(zipfile.ZipInfo("X.npy"), "w", force_zip64=True) as member:
                shutil.copyfileobj(part, member)
            for name, array in others.items():
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)


def _write_header(file: IO[bytes], array: np.ndarray, rows: int) -> None:
    descr, shape = np.lib.format.dtype_to_descr(array.dtype), (rows, *array.shape[1:])
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})


def _homogeneous(frame: pd.DataFrame) -> np.ndarray:
    """Return a table as an array of the one type that holds all its columns."""
    dtype = np.result_type(*frame.dtypes)
    columns = [column.to_numpy() for _, column in frame.items()]
    for name, values in zip(frame.columns, columns, strict=True):
        if dtype.kind != "f" or values.dtype.kind not in "iu":
            continue
        if ((values > 2**53) | (values < -(2**53))).any():
            place, remedy = f"column {cut(str(name))}", "write .csv or .parquet"
            raise mistake(place, "integers up to 2^53 in an array of floats", "a larger one", remedy)
    return np.column_stack(columns).astype(dtype)


WRITERS: dict[str, Callable[[BinaryIO, Iterator[pd.DataFrame]], None]] = {
    ".csv": partial(_write_text, delimiter=","),
    ".tsv": partial(_write_text, delimiter="\t"),
    ".parquet": _write_parquet,
    ".npy": lambda file, frames: write_npy(file, map(_homogeneous, frames)),
    ".npz": lambda file, frames: write_npz(file, map(_homogeneous, frames)),
}
"""How each kind of file is written, by its extension."""
