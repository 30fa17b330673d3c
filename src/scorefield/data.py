"""Tables of numbers: read strictly, written whole or not at all, split and fingerprinted."""

import abc
import csv
import hashlib
import io
import itertools
import json
import math
import os
import re
import secrets
import shlex
import shutil
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO, Literal, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

LARGEST = 1e150
"""The largest size of a number in a table: the square of a number much larger leaves the range of float64."""

MAX_COLUMNS = 10_000
"""The most columns of a text file: one with more lies on its side, or is better kept in a binary format."""

MAX_RATIO = 100
"""How many times its size the arrays of an .npz file may take, so that a small file cannot fill memory."""

GROUP = 2**18
"""Text is read, and every table written, in groups of rows that hold about this many numbers."""

MISSING = {"", "-", ".", "?", "na", "n/a", "#n/a", "<na>", "nan", "nil", "none", "null"}
BOOLEANS = {"true": True, "false": False}
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars", ",": "commas", " ": "spaces"}
DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T].*)?")
FOREIGN = {
    b"\x1f\x8b": "gzip-compressed data",
    b"PK\x03\x04": "a zip archive or a spreadsheet",
    b"PAR1": "a Parquet file",
    b"\x93NUMPY": "a numpy array",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}


UNREADABLE = (OSError, EOFError, UnicodeError, NotImplementedError, zipfile.BadZipFile, zlib.error, pa.ArrowException)
"""What the libraries raise for a file that is damaged or of another kind."""


class Table(NamedTuple):
    """A data frame of numbers, and what the reader had to decide, one sentence each."""

    frame: pd.DataFrame
    notes: list[str]


def read_table(path: str | Path, columns: Sequence[str] | None = None, drop: Sequence[str] | None = None) -> Table:
    """Return the numbers of a .csv, .tsv, .parquet, .npy or .npz file, in the types that the file holds.

    columns keeps only the columns named, in that order; drop leaves columns out. A text file whose first row
    is all numbers has no header, and an array has none: their columns are called x1, x2, ... An .npz file
    holds one array, or the one to be read is called X, x or data.
    Raises ValueError, in one line that names the file, the row (for text the line of the file) and the
    column, for whatever is not a table of finite numbers.
    """
    source, frame = _load(Path(path), lambda source: source.select(columns, drop))
    return Table(frame, source.notes)


def read_points(path: str | Path, columns: Sequence[str]) -> pd.DataFrame:
    """Return the named columns of a file, which may hold others too.

    A file without names must hold exactly these columns, in this order. Raises ValueError as `read_table`.
    """

    def choose(source: _Source) -> list[int]:
        if source.named:
            return source.select(columns, None)
        if len(source.names) != len(columns):
            came = f"{len(source.names)} columns without names"
            raise _bad(source.where, f"{len(columns)} columns, {_list(columns)}", came)
        return list(range(len(columns)))

    _, frame = _load(Path(path), choose)
    return frame.set_axis(list(columns), axis=1)


def digest(frame: pd.DataFrame) -> str:
    """Return the SHA-256 of a table, over its column names, types and numbers, whatever file they came from.

    Raises ValueError for a column that is not of a plain type of numbers.
    """
    _check_types(frame, "the table")
    types = [dtype.newbyteorder("<") for dtype in frame.dtypes]
    header = [[str(name) for name in frame.columns], [dtype.str for dtype in types], len(frame)]
    total = hashlib.sha256(json.dumps(header).encode())
    for (_, column), dtype in zip(frame.items(), types, strict=True):
        total.update(np.ascontiguousarray(column.to_numpy(), dtype=dtype).data)
    return total.hexdigest()


def split(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows of the training, validation and test parts of n rows, dealt at random.

    A tenth is for testing, but at most 20,000 rows, and none below 200 rows; a tenth is for validation, and
    none below 10 rows; the rest is for training.
    """
    test = min(n // 10, 20_000) if n >= 200 else 0
    validation = n // 10
    order = np.random.Generator(np.random.PCG64(seed)).permutation(n)
    return order[validation + test :], order[:validation], order[validation : validation + test]


def check_output(path: str | Path, force: bool) -> None:
    """Raise ValueError if no table can be written to path, or if a file is there and force is not set."""
    path, where = Path(path), _show(path)
    try:
        if path.suffix.lower() not in WRITERS:
            raise _bad(where, f"a file ending in one of {', '.join(WRITERS)}", _cut(path.suffix))
        if not path.parent.is_dir():
            raise _bad(where, "a folder to write in", f"{_show(path.parent)}, which is none", "make it first")
        if path.exists() and not path.is_file():
            raise _bad(where, "a file to write", "a folder or a device", "choose another name")
        if path.exists() and not force:
            remedy = "choose another name, or replace it with --force"
            raise _bad(where, "a new file", "one that exists", remedy)
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise _bad(where, "a folder that may be written in", f"{_show(path.parent)}, which may not")
    except OSError as error:
        reason = f"an error: {error.strerror}"
        raise _bad(where, "a place to write", reason, "choose another name") from error


def write_blocks(path: str | Path, blocks: Iterable[pd.DataFrame], force: bool) -> None:
    """Write blocks of rows, one below another, in the format of the extension and with little memory.

    The file appears whole or not at all, and does not show how the rows were cut into blocks. Text holds the
    shortest digits that give back the same float64; a column name that a spreadsheet would take for a
    formula, one that starts with = + - @ tab or carriage return, gets an apostrophe before it. An array has
    one type for all columns and no names; in an .npz file it is called X.
    Raises ValueError as `check_output`, and for blocks that do not fit together or hold a number that is not
    finite; OSError, with the path and the reason, where the disk refuses.
    """
    path = Path(path)
    check_output(path, force)
    with _replacing(path) as file:
        WRITERS[path.suffix.lower()](file, _regrouped(blocks, _show(path)))


class _Source(abc.ABC):
    """A file of columns whose names are known and whose numbers are not read yet."""

    named: bool
    names: list[str]
    notes: list[str]

    def __init__(self, path: Path) -> None:
        self.path, self.where = path, _show(path)

    @abc.abstractmethod
    def read(self, keep: list[int]) -> list[np.ndarray]:
        """Return the columns at the given positions."""

    def place(self, row: int, name: str) -> str:
        """Return where a cell is, for a message."""
        return f"{self.where}, row {row + 1}, column {_cut(name)}"

    def select(self, columns: Sequence[str] | None, drop: Sequence[str] | None) -> list[int]:
        """Return the positions of the columns to keep."""
        positions = {name: i for i, name in enumerate(self.names)}
        for name in [*(columns or []), *(drop or [])]:
            if name not in positions:
                raise _bad(self.where, f"a column {_cut(name)}", f"the columns {_list(self.names)}")
        wanted = self.names if columns is None else dict.fromkeys(columns)
        keep = [positions[name] for name in wanted if name not in (drop or [])]
        if not keep:
            raise _bad(self.where, f"some of the columns {_list(self.names)}", "none", "keep at least one")
        return keep


class _Text(_Source):
    """A .csv or .tsv file, where every row is one line, so that the line of a row is known."""

    def __init__(self, path: Path, delimiter: str) -> None:
        super().__init__(path)
        self.delimiter = delimiter
        self._check_head()
        first = next(self._rows(), None)
        if first is None:
            raise _bad(self.where, "rows of numbers", "blank lines only")
        if len(first) > MAX_COLUMNS:
            remedy = "transpose the table if it lies on its side, or save it as .npy or .parquet"
            raise _bad(self._at(1), f"at most {MAX_COLUMNS:,} columns", f"{len(first):,}", remedy)
        values = [cell for cell in first if _is_number(cell) or cell.strip().lower() in BOOLEANS]
        self.named = len(values) < len(first)
        if not self.named:
            self.names = _default_names(len(first))
            self.notes = [
                f"{self.where} has no header (its first row is all numbers); its columns are called {_list(self.names)}"
            ]
        else:
            self.names = self._header(first)
            self.notes = [f"{self.where}: the first row gives names, {_cut(cell)} too" for cell in values[:1]]

    def place(self, row: int, name: str) -> str:
        return f"{self._at(self._line(row))}, column {_cut(name)}"

    def read(self, keep: list[int]) -> list[np.ndarray]:
        rows = itertools.islice(self._rows(), int(self.named), None)
        size = max(1, GROUP // len(self.names))
        parts: list[list[np.ndarray]] = [[] for _ in keep]
        start = 0
        while block := list(itertools.islice(rows, size)):
            self._check_widths(block, start)
            columns = list(zip(*block, strict=True))
            for part, i in zip(parts, keep, strict=True):
                boolean = part[0].dtype == bool if part else columns[i][0].strip().lower() in BOOLEANS
                parse = self._parse_booleans if boolean else self._parse_numbers
                part.append(parse(columns[i], start, self.names[i]))
            start += len(block)
        if start == 0:
            raise _bad(self.where, "rows of numbers below the header", "none")
        return [np.concatenate(part) for part in parts]

    def _at(self, line: int) -> str:
        return f"{self.where}, line {line}"

    def _line(self, row: int) -> int:
        return row + 1 + self.named

    def _check_head(self) -> None:
        """Refuse what is not UTF-8 text by its first bytes, where the reason can still be told."""
        with self.path.open("rb") as file:
            head = file.read(4096)
        for magic, kind in FOREIGN.items():
            if head.startswith(magic):
                remedy = "unpack it, save it as UTF-8 text, or give it its right extension"
                raise _bad(self.where, "UTF-8 text", kind, remedy)
        if b"\0" in head:
            line = head[: head.index(b"\0")].count(b"\n") + 1
            remedy = "it is damaged, or UTF-16; save it as UTF-8"
            raise _bad(self._at(line), "UTF-8 text", "a NUL byte", remedy)

    def _rows(self) -> Iterator[list[str]]:
        """Yield the cells of one line after another; blank lines may only be at the end."""
        number, blank = 0, 0
        with self.path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=self.delimiter, strict=True)
            try:
                for number, row in enumerate(reader, 1):
                    if reader.line_num > number:
                        came = "a line break within quotes"
                        raise _bad(self._at(number), "one line for each row", came, "remove it")
                    if len(row) < 2 and not "".join(row).strip():
                        blank = blank or number
                    elif blank:
                        raise _bad(self._at(blank), "a row", "a blank line", "remove it or fill it")
                    else:
                        yield row
            except UnicodeDecodeError as error:
                line = reader.line_num + len((error.object[: error.start] + b".").splitlines())
                came = f"the byte 0x{error.object[error.start]:02x}"
                raise _bad(self._at(line), "UTF-8 text", came, "save the file as UTF-8") from error
            except csv.Error as error:
                remedy = "check the quotes there"
                raise _bad(self._at(number + 1), "separated cells", f"an error: {error}", remedy) from error

    def _header(self, cells: list[str]) -> list[str]:
        names = [cell.strip() for cell in cells]
        if "" in names:
            remedy = "name it, or remove the index or the last comma that made it"
            came = f"none for column {names.index('') + 1}"
            raise _bad(self._at(1), "a name for every column", came, remedy)
        _check_unique(names, self.where)
        return names

    def _check_widths(self, block: list[list[str]], start: int) -> None:
        for row, cells in enumerate(block, start):
            if len(cells) != len(self.names):
                last = "remove the separator at its end" if not cells[-1].strip() else None
                remedy = self._hint(cells) or last or "give every row as many"
                expected = f"{len(self.names)} cells, as on line 1"
                raise _bad(self._at(self._line(row)), expected, str(len(cells)), remedy)

    def _parse_numbers(self, cells: Sequence[str], start: int, name: str) -> np.ndarray:
        try:
            values = _numbers(cells)
        except ValueError:
            raise self._text_error(cells, start, name) from None
        _check_values(values, lambda row: self.place(start + row, name), cells)
        return values

    def _parse_booleans(self, cells: Sequence[str], start: int, name: str) -> np.ndarray:
        words = [cell.strip().lower() for cell in cells]
        for row, word in enumerate(words):
            if word not in BOOLEANS:
                came, remedy = _cut(cells[row]), "remove the row or fill it"
                raise _bad(self.place(start + row, name), "True or False, as above", came, remedy)
        return np.array([BOOLEANS[word] for word in words])

    def _text_error(self, cells: Sequence[str], start: int, name: str) -> ValueError:
        """Return what is wrong with the first cell that is not a number."""
        i = next(i for i, cell in enumerate(cells) if not _is_number(cell))
        cell = cells[i].strip()
        whole = start == 0 and not any(_is_number(cell) for cell in cells)
        remedy = _drop(name) if whole else "remove the row or fill it"
        if cell.lower() in MISSING:
            came = f"{_cut(cell)}, a missing value"
        elif "\0" in cell:
            came, remedy = "a NUL byte", "the file is damaged"
        else:
            came = f"{'a date' if DATE.fullmatch(cell) else 'text'}, {_cut(cell)}"
        return _bad(self.place(start + i, name), "a number", came, self._hint([cell]) or remedy)

    def _hint(self, cells: Sequence[str]) -> str | None:
        """Return what to do where a cell looks like several numbers or has a decimal comma, else None."""
        for cell, (other, word) in itertools.product(cells, SEPARATORS.items()):
            parts = cell.split(None if other == " " else other)
            if len(parts) < 2 or not all(_is_number(part.replace(",", ".")) for part in parts):
                continue
            if other == "," and (self.delimiter == "," or len(self.names) > 1):
                return "the comma seems to be a decimal one or between thousands; write 1.5 and 1000"
            ours = SEPARATORS[self.delimiter]
            return f"the file seems to be separated by {word}; save it with {ours} and decimal points"
        return None


class _Array(_Source):
    """The array of a .npy file, or of one member of a .npz file."""

    named = False

    def __init__(self, path: Path, member: zipfile.ZipInfo | None = None) -> None:
        super().__init__(path)
        self.member, self.notes = member, []
        shape, dtype, there = self._read_header()
        self._check_type(shape, dtype)
        declared = math.prod(shape) * dtype.itemsize
        if declared != there:
            size = f"{declared:,}" if declared < 2**63 else "over 2^63"  # with too many digits to print
            expected = f"{size} bytes for the shape {_cut(str(shape))}"
            raise _bad(self.where, expected, f"{there:,}; it is cut short or damaged", "save it again")
        self.names = _default_names(shape[1] if len(shape) == 2 else 1)

    def read(self, keep: list[int]) -> list[np.ndarray]:
        with self._open() as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
        table = array.reshape(len(array), -1)
        return [table[:, i].astype(array.dtype.newbyteorder("=")) for i in keep]

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        if self.member is None:
            with self.path.open("rb") as file:
                yield file
        else:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as file:
                yield file

    def _read_header(self) -> tuple[tuple[int, ...], np.dtype, int]:
        """Return the shape and type that the array declares, and how many bytes follow."""
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        size = self.path.stat().st_size if self.member is None else self.member.file_size
        try:
            with self._open() as file:
                shape, _, dtype = readers[np.lib.format.read_magic(file)](file)
                return shape, dtype, size - file.tell()
        except UNREADABLE:
            raise
        except Exception as error:  # numpy parses a Python literal; a hostile one raises almost anything
            came, remedy = "one that cannot be read", "save the array again with numpy.save"
            raise _bad(self.where, "the header of a numpy array", came, remedy) from error

    def _check_type(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        if dtype.kind not in "biuf" or dtype.itemsize > 8:
            parts = {"c": "real and imaginary parts", "V": "fields"}.get(dtype.kind)
            remedy = f"save its {parts} as columns" if parts else "save array.astype(float)"
            expected = "booleans, integers or floats of at most 64 bits"
            raise _bad(self.where, expected, f"the dtype {_cut(str(dtype))}", remedy)
        if len(shape) not in {1, 2}:
            expected = "a 2-d array, rows by columns"
            raise _bad(self.where, expected, f"the shape {_cut(str(shape))}", "reshape it to (n, d)")
        if min(shape) < 1:
            raise _bad(self.where, "at least one row and one column", f"the shape {_cut(str(shape))}")


class _Parquet(_Source):
    """A Parquet file. The row index that pandas stores beside the columns is no data and is left out."""

    named = True

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.notes = []
        self.schema = pq.read_schema(path)
        self.names = [name for name in self.schema.names if not re.fullmatch(r"__index_level_\d+__", name)]
        if not self.names:
            raise _bad(self.where, "columns of numbers", "none")
        _check_unique(self.names, self.where)

    def read(self, keep: list[int]) -> list[np.ndarray]:
        names = [self.names[i] for i in keep]
        for name in names:
            kind = self.schema.field(name).type
            if not (pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
                place = f"{self.where}, column {_cut(name)}"
                remedy = f"convert it, or {_drop(name)}"
                raise _bad(place, "booleans, integers or floats", _cut(str(kind)), remedy)
        with pq.ParquetFile(self.path) as file:
            table = file.read(columns=names)
        if table.num_rows == 0:
            raise _bad(self.where, "rows of numbers below the names", "none")
        return [self._column(table, name) for name in names]

    def _column(self, table: pa.Table, name: str) -> np.ndarray:
        column = table.column(name)
        if column.null_count:
            row = int(column.is_null().to_numpy().argmax())
            came = "null, a missing value"
            raise _bad(self.place(row, name), "a number", came, "remove the row or fill it")
        return column.to_numpy()


def _npz(path: Path) -> _Array:
    """Return the one array of an .npz file, or the one called X, x or data."""
    where, size = _show(path), path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    declared = sum(member.file_size for member in members)
    if declared > MAX_RATIO * size:
        expected = f"arrays of at most {MAX_RATIO} times the size of the file, {size:,} bytes"
        raise _bad(where, expected, f"{declared:,}", "save it without compression, with numpy.savez")
    plain = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
    if any(member.compress_type not in plain or member.flag_bits & 1 for member in members):
        came = "an encrypted or otherwise compressed one"
        raise _bad(where, "an archive as numpy writes it", came, "save it with numpy.savez")
    keys = [member.filename.removesuffix(".npy") for member in members]
    _check_unique(keys, where)
    chosen = keys if len(keys) == 1 else [key for key in ("X", "x", "data") if key in keys]
    if len(chosen) != 1:
        raise _bad(where, "one array, or one called X, x or data", _list(keys) or "none")
    source = _Array(path, members[keys.index(chosen[0])])
    source.notes = [f"{where}: of the arrays {_list(keys)}, {chosen[0]} is read"] if len(keys) > 1 else []
    return source


READERS: dict[str, Callable[[Path], _Source]] = {
    ".csv": partial(_Text, delimiter=","),
    ".tsv": partial(_Text, delimiter="\t"),
    ".parquet": _Parquet,
    ".npy": _Array,
    ".npz": _npz,
}
"""How each kind of file is opened, by its extension."""


def _load(path: Path, choose: Callable[[_Source], list[int]]) -> tuple[_Source, pd.DataFrame]:
    """Open a file, choose among its columns and read those; every failure is a ValueError."""
    where = _show(path)
    try:
        _check_file(path, where)
        source = READERS[path.suffix.lower()](path)
        keep = choose(source)
        names, columns = [source.names[i] for i in keep], source.read(keep)
    except UNREADABLE as error:
        came, remedy = f"an error: {_cut(str(error), 200)}", "it may be protected, damaged or of another kind"
        raise _bad(where, "a readable table", came, remedy) from error
    for name, values in zip(names, columns, strict=True):
        _check_values(values, partial(source.place, name=name))
    return source, pd.DataFrame(dict(zip(names, columns, strict=True)))


def _check_file(path: Path, where: str) -> None:
    if path.is_dir():
        found = sorted(entry.name for entry in path.iterdir() if entry.suffix.lower() in READERS)
        remedy = f"name a table in it: {_list(found)}" if found else "it has no table"
        raise _bad(where, "a file", "a folder", remedy)
    if not path.exists():
        raise _bad(where, "a file", "a path where there is none", "check the name")
    if path.suffix.lower() not in READERS:
        expected = f"a file ending in one of {', '.join(READERS)}"
        raise _bad(where, expected, _cut(path.suffix), "unpack, convert or rename it")
    if not path.is_file():
        raise _bad(where, "a regular file", "a device or a pipe", "save it to a file first")
    if path.stat().st_size == 0:
        raise _bad(where, "a table", "an empty file")


def _numbers(cells: Sequence[str]) -> np.ndarray:
    """Return the cells as integers if all of them are, else as floats. ValueError if one is neither."""
    text = "".join(cells)
    if "_" in text or not text.isascii():
        raise ValueError("Python takes 1_000 and digits of other scripts for numbers, other programs do not")
    try:
        return np.array([int(cell) for cell in cells], dtype=np.int64)
    except (ValueError, OverflowError):
        return np.array([float(cell) for cell in cells])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return cell.isascii() and "_" not in cell


def _check_values(values: np.ndarray, place: Callable[[int], str], cells: Sequence[str] | None = None) -> None:
    """Refuse numbers that are missing, infinite or too large; cells are the numbers as the file has them."""
    size = np.abs(values, dtype=np.float64) if values.dtype.kind == "f" else np.zeros(0)
    bad = ~(size <= LARGEST) if values.dtype.kind == "f" else values > np.iinfo(np.int64).max
    if cells is not None:
        for row in map(int, np.flatnonzero(size >= 2.0**63)):
            bad[row] |= cells[row].strip().lstrip("+-").isdigit()
    if not bad.any():
        return
    row = int(bad.argmax())
    value, came = values[row], str(values[row]) if cells is None else _cut(cells[row].strip())
    if np.isnan(value):
        raise _bad(place(row), "a number", f"{came}, a missing value", "remove the row or fill it")
    if np.isinf(value):
        raise _bad(place(row), "a finite number", came, "remove the row or fill it")
    if abs(float(value)) > LARGEST:
        expected = f"numbers up to {LARGEST:g}, whose squares are finite"
        raise _bad(place(row), expected, came, "rescale the column")
    raise _bad(place(row), "integers below 2^63", came, "rescale the column, or write decimal points")


def _check_unique(names: list[str], where: str) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise _bad(where, "different names", f"{_cut(repeated[0])} more than once", "rename the others")


def _default_names(d: int) -> list[str]:
    return [f"x{i}" for i in range(1, d + 1)]


def _drop(name: str) -> str:
    return f"leave the column out with --drop {shlex.quote(name) if name.isprintable() else _cut(name)}"


def _bad(where: str, expected: str, came: str, remedy: str | None = None) -> ValueError:
    """Return the error for bad input: where, what was expected, what came, and what to do if not obvious."""
    return ValueError(f"{where}: expected {expected}; got {came}" + (f"; {remedy}" if remedy else ""))


def _show(path: str | Path) -> str:
    """Return a path as a message shows it, on one line."""
    return str(path) if str(path).isprintable() else repr(str(path))


def _cut(text: str, longest: int = 40) -> str:
    """Return a value as a message shows it, in quotes, on one line and not too long."""
    return repr(text if len(text) <= longest else text[: longest - 3] + "...")


def _list(names: Sequence[str]) -> str:
    """Return the first ten names, and how many more there are."""
    shown = ", ".join(name if name.isprintable() else repr(name) for name in names[:10])
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10:,} more"


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a temporary file beside path, which takes its place at a good end and is removed at any other."""
    temporary = path.parent / f".scorefield-{secrets.token_hex(8)}.tmp"
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OSError(f"{_show(path)}: could not be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _regrouped(blocks: Iterable[pd.DataFrame], where: str) -> Iterator[pd.DataFrame]:
    """Yield the rows, checked, in groups whose size depends on the columns only; the last may be empty."""
    held: list[pd.DataFrame] = []
    first, count, done = None, 0, 0
    for block in blocks:
        first = block if first is None else first
        _check_block(block, first, done + count, where)
        size = max(1, GROUP // block.shape[1])
        while count + len(block) >= size:
            cut = size - count
            yield pd.concat([*held, block.iloc[:cut]])
            block, held, count, done = block.iloc[cut:], [], 0, done + size
        held.append(block)
        count += len(block)
    if first is None:
        raise _bad(where, "at least one block of rows", "none")
    yield pd.concat(held)


def _check_block(block: pd.DataFrame, first: pd.DataFrame, start: int, where: str) -> None:
    """Refuse a block that does not continue the first one, or that holds a number that is not finite."""
    _check_types(block, where)
    _check_unique([str(name) for name in block.columns], where)
    if list(block.columns) != list(first.columns) or list(block.dtypes) != list(first.dtypes):
        raise _bad(where, f"blocks with the columns and types {dict(first.dtypes)}", str(dict(block.dtypes)))
    for name, column in block.items():
        finite = np.isfinite(column.to_numpy())
        if not finite.all():
            row = int(finite.argmin())
            place = f"{where}, row {start + row + 1}, column {_cut(str(name))}"
            raise _bad(place, "a finite number to write", str(column.iloc[row]))


def _check_types(frame: pd.DataFrame, where: str) -> None:
    if frame.shape[1] == 0:
        raise _bad(where, "columns of numbers", "none")
    for name, dtype in zip(frame.columns, frame.dtypes, strict=True):
        if not isinstance(dtype, np.dtype) or dtype.kind not in "biuf":
            raise _bad(f"{where}, column {_cut(str(name))}", "booleans, integers or floats", str(dtype))


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


def _write_npy(file: IO[bytes], frames: Iterator[pd.DataFrame]) -> None:
    """Write an array, then its header again: numpy pads headers so that any number of rows fits."""
    rows = 0
    for position, frame in enumerate(frames):
        array = _homogeneous(frame)
        if position == 0:
            _write_header(file, array, rows)
        file.write(array.tobytes())
        rows += len(array)
    file.seek(0)
    _write_header(file, array, rows)


def _write_npz(file: BinaryIO, frames: Iterator[pd.DataFrame]) -> None:
    """Write the array to a nameless file first, as a member of an archive cannot be changed afterwards."""
    with tempfile.TemporaryFile(dir=Path(file.name).parent) as part:
        _write_npy(part, frames)
        part.seek(0)
        member = zipfile.ZipInfo("X.npy")
        with zipfile.ZipFile(file, "w") as archive, archive.open(member, "w", force_zip64=True) as array:
            shutil.copyfileobj(part, array)


def _write_header(file: IO[bytes], array: np.ndarray, rows: int) -> None:
    descr, shape = np.lib.format.dtype_to_descr(array.dtype), (rows, array.shape[1])
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})


def _homogeneous(frame: pd.DataFrame) -> np.ndarray:
    """Return a table as an array of the one type that holds all its columns."""
    dtype = np.result_type(*frame.dtypes)
    columns = [column.to_numpy() for _, column in frame.items()]
    for name, values in zip(frame.columns, columns, strict=True):
        if dtype.kind != "f" or values.dtype.kind not in "iu":
            continue
        if ((values > 2**53) | (values < -(2**53))).any():
            place, remedy = f"column {_cut(str(name))}", "write .csv or .parquet"
            raise _bad(place, "integers up to 2^53 in an array of floats", "a larger one", remedy)
    return np.column_stack(columns).astype(dtype)


WRITERS: dict[str, Callable[[BinaryIO, Iterator[pd.DataFrame]], None]] = {
    ".csv": partial(_write_text, delimiter=","),
    ".tsv": partial(_write_text, delimiter="\t"),
    ".parquet": _write_parquet,
    ".npy": _write_npy,
    ".npz": _write_npz,
}
"""How each kind of file is written, by its extension."""
