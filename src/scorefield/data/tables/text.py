"""Text files of columns: .csv and .tsv."""

import csv
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow

from scorefield.data import sources
from scorefield.data.messages import cut, drop_hint, listed, mistake
from scorefield.data.sources import LARGEST, Block, Source, check_unique, check_values, default_names, rows_at_once

MAX_COLUMNS = 10_000
"""The most columns of a text file: one with more lies on its side, or is better kept in a binary format."""

MISSING = {"", "-", ".", "?", "na", "n/a", "#n/a", "<na>", "nan", "nil", "none", "null"}
BOOLEANS = {"true": True, "false": False}
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars", ",": "commas", " ": "spaces"}
DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T].*)?")
LONG = re.compile(rb"(?<![.\d])\d{19}")
PLAIN = b"0123456789+-.eE\n"
FOREIGN = {
    b"\x1f\x8b": "gzip-compressed data",
    b"PK\x03\x04": "a zip archive or a spreadsheet",
    b"PAR1": "a Parquet file",
    b"\x93NUMPY": "a numpy array",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}


class Text(Source):
    """A .csv or .tsv file, where every row is one line, so that the line of a row is known."""

    def __init__(self, path: Path, delimiter: str) -> None:
        super().__init__(path)
        self.delimiter = delimiter
        self._check_head()
        first = next(self._rows(), None)
        if first is None:
            raise mistake(self.where, "rows of numbers", "blank lines only")
        if len(first) > MAX_COLUMNS:
            remedy = "transpose the table if it lies on its side, or save it as .npy or .parquet"
            raise mistake(self._at(1), f"at most {MAX_COLUMNS:,} columns", f"{len(first):,}", remedy)
        values = [cell for cell in first if _is_number(cell) or cell.strip().lower() in BOOLEANS]
        self.named = len(values) < len(first)
        if not self.named:
            self.names = default_names(len(first))
            called = f"its columns are called {listed(self.names)}"
            self.notes = [f"{self.where} has no header (its first row is all numbers); {called}"]
        else:
            self.names = self._header(first)
            self.notes = [f"{self.where}: the first row gives names, {cut(cell)} too" for cell in values[:1]]

    def place(self, row: int, name: str) -> str:
        return f"{self._at(self._line(row))}, column {cut(name)}"

    def read(self, keep: list[int]) -> Iterator[Block]:
        """Yield blocks of lines, parsed by Arrow up to the first line that may need another reading, then by Python."""
        lines, offset = 0, 0
        for block, size in self._plain_blocks():
            yield [block[i] for i in keep]
            lines, offset = (lines or int(self.named)) + len(block[0]), offset + size
        empty = lines == 0
        for columns in self._parsed_blocks(keep, lines, offset):
            yield columns
            empty = False
        if empty:
            raise mistake(self.where, "rows of numbers below the header", "none")

    def _plain_blocks(self) -> Iterator[tuple[Block, int]]:
        """Yield all columns, and how many bytes they took, as long as lines hold nothing but plain numbers."""
        with self.path.open("rb") as file:
            header = file.readline() if self.named else b""
            if b"\r" in header.rstrip(b"\r\n"):
                return
            while lines := file.read(8 * sources.GROUP) + file.readline():
                block = self._plain(lines)
                if block is None:
                    return
                yield block, len(header) + len(lines)
                header = b""

    def _plain(self, lines: bytes) -> Block | None:
        """Return the columns of lines that Arrow reads as Python does: numbers only, plain in spelling and in range."""
        lines = lines.replace(b"\r\n", b"\n")
        signs = lines.count(b"+") - lines.count(b"e+") - lines.count(b"E+")  # Arrow takes +1 for a float
        if signs or lines.translate(None, PLAIN + self.delimiter.encode()):
            return None
        reading = arrow.ReadOptions(use_threads=False, block_size=len(lines) + 1, autogenerate_column_names=True)
        parsing = arrow.ParseOptions(delimiter=self.delimiter, quote_char=False)
        try:
            table = arrow.read_csv(pa.BufferReader(lines), reading, parsing)
        except pa.ArrowInvalid:
            return None
        rows = lines.count(b"\n") + (not lines.endswith(b"\n"))
        numeric = all(column.type in (pa.int64(), pa.float64()) and not column.null_count for column in table.columns)
        if table.shape != (rows, len(self.names)) or not numeric:
            return None
        block = [np.array(column) for column in table.columns]  # a copy, so that Arrow can use its memory again
        floats = [values for values in block if values.dtype.kind == "f"]
        large = any((np.abs(x) >= 2.0**63).any() for x in floats)
        doubtful = any(((np.abs(x) > LARGEST) | (x == 0) & np.signbit(x)).any() for x in floats)
        return None if doubtful or (large and LONG.search(lines)) else block

    def _parsed_blocks(self, keep: list[int], lines: int, offset: int) -> Iterator[Block]:
        """Yield the columns to keep of what is below so many lines and bytes, checked cell by cell."""
        rows = itertools.islice(self._rows(lines, offset), int(self.named and not lines), None)
        start = max(0, lines - self.named)
        boolean: list[bool] = [False] * len(self.names)
        while cells := list(itertools.islice(rows, rows_at_once(len(self.names)))):
            self._check_widths(cells, start)
            columns = list(zip(*cells, strict=True))
            if start == 0:
                boolean = [column[0].strip().lower() in BOOLEANS for column in columns]
            parsers = [self._parse_booleans if yes else self._parse_numbers for yes in boolean]
            yield [parsers[i](columns[i], start, self.names[i]) for i in keep]
            start += len(cells)

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
                raise mistake(self.where, "UTF-8 text", kind, remedy)
        if b"\0" in head:
            line = head[: head.index(b"\0")].count(b"\n") + 1
            remedy = "it is damaged, or UTF-16; save it as UTF-8"
            raise mistake(self._at(line), "UTF-8 text", "a NUL byte", remedy)

    def _rows(self, lines: int = 0, offset: int = 0) -> Iterator[list[str]]:
        """Yield the cells of one line after another, below so many lines and bytes; blank lines are only at the end."""
        number, blank = lines, 0
        with self.path.open("rb") as binary:
            binary.seek(offset)
            text = io.TextIOWrapper(binary, newline="", encoding="utf-8" if offset else "utf-8-sig")
            reader = csv.reader(text, delimiter=self.delimiter, strict=True)
            try:
                for number, row in enumerate(reader, lines + 1):
                    if lines + reader.line_num > number:
                        came = "a line break within quotes"
                        raise mistake(self._at(number), "one line for each row", came, "remove it")
                    if len(row) < 2 and not "".join(row).strip():
                        blank = blank or number
                    elif blank:
                        raise mistake(self._at(blank), "a row", "a blank line", "remove it or fill it")
                    else:
                        yield row
            except UnicodeDecodeError as error:
                line = lines + reader.line_num + len((error.object[: error.start] + b".").splitlines())
                came = f"the byte 0x{error.object[error.start]:02x}"
                raise mistake(self._at(line), "UTF-8 text", came, "save the file as UTF-8") from error
            except csv.Error as error:
                remedy = "check the quotes there"
                raise mistake(self._at(number + 1), "separated cells", f"an error: {error}", remedy) from error

    def _header(self, cells: list[str]) -> list[str]:
        names = [cell.strip() for cell in cells]
        if "" in names:
            remedy = "name it, or remove the index or the last comma that made it"
            came = f"none for column {names.index('') + 1}"
            raise mistake(self._at(1), "a name for every column", came, remedy)
        check_unique(names, self.where)
        return names

    def _check_widths(self, block: list[list[str]], start: int) -> None:
        for row, cells in enumerate(block, start):
            if len(cells) != len(self.names):
                last = "remove the separator at its end" if not cells[-1].strip() else None
                remedy = self._hint(cells) or last or "give every row as many"
                expected = f"{len(self.names)} cells, as on line 1"
                raise mistake(self._at(self._line(row)), expected, str(len(cells)), remedy)

    def _parse_numbers(self, cells: Sequence[str], start: int, name: str) -> np.ndarray:
        try:
            values = _numbers(cells)
        except ValueError:
            raise self._text_error(cells, start, name) from None
        check_values(values, lambda row: self.place(start + row, name), cells)
        return values

    def _parse_booleans(self, cells: Sequence[str], start: int, name: str) -> np.ndarray:
        words = [cell.strip().lower() for cell in cells]
        for row, word in enumerate(words):
            if word not in BOOLEANS:
                came, remedy = cut(cells[row]), "remove the row or fill it"
                raise mistake(self.place(start + row, name), "True or False, as above", came, remedy)
        return np.array([BOOLEANS[word] for word in words])

    def _text_error(self, cells: Sequence[str], start: int, name: str) -> ValueError:
        """Return what is wrong with the first cell that is not a number."""
        i = next(i for i, cell in enumerate(cells) if not _is_number(cell))
        cell = cells[i].strip()
        whole = start == 0 and not any(_is_number(cell) for cell in cells)
        remedy = drop_hint(name) if whole else "remove the row or fill it"
        if cell.lower() in MISSING:
            came = f"{cut(cell)}, a missing value"
        elif "\0" in cell:
            came, remedy = "a NUL byte", "the file is damaged"
        else:
            came = f"{'a date' if DATE.fullmatch(cell) else 'text'}, {cut(cell)}"
        return mistake(self.place(start + i, name), "a number", came, self._hint([cell]) or remedy)

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


def _numbers(cells: Sequence[str]) -> np.ndarray:
    """Return the cells as integers if all of them are, else as floats. ValueError if one is neither."""
    text = "".join(cells)
    if "_" in text or not text.isascii():
        raise ValueError("Python takes 1_000 and digits of other scripts for numbers, other programs do not")
    try:
        return np.array([int(cell) for cell in cells], dtype=np.int64)
    except (ValueError, OverflowError):
        values = np.array([float(cell) for cell in cells])
    for row in map(int, np.flatnonzero((values == 0) & np.signbit(values))):
        values[row] = 0.0 if cells[row].strip().lstrip("-").isdigit() else -0.0  # as an integer has no sign of zero
    return values


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return cell.isascii() and "_" not in cell
