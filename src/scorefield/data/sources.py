"""A file of columns that is read in blocks of rows: what every kind has in common, and what its numbers must be."""

import abc
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from scorefield.data.messages import cut, listed, mistake, show

LARGEST = 1e150
"""The largest size of a number in a table: the square of a number much larger leaves the range of float64."""

GROUP = 2**18
"""Tables are read and written in blocks of rows that hold about this many numbers."""

UNREADABLE = (OSError, EOFError, UnicodeError, NotImplementedError, zipfile.BadZipFile, zlib.error, pa.ArrowException)
"""What the libraries raise for a file that is damaged or of another kind."""

Block = list[np.ndarray]
"""Some rows of a table: an array for each column, all of one length."""


class Source(abc.ABC):
    """A file of columns whose names are known and whose numbers are not read yet."""

    named: bool
    names: list[str]
    notes: list[str]

    def __init__(self, path: Path) -> None:
        self.path, self.where = path, show(path)

    @abc.abstractmethod
    def read(self, keep: list[int]) -> Iterator[Block]:
        """Yield the columns at the given positions, a block of rows after another; no block is empty."""

    def checked(self, keep: list[int]) -> Iterator[Block]:
        """Yield what `read` yields. Raises ValueError for what cannot be read and for numbers that are not finite."""
        start = 0
        with readable(self.where):
            for block in self.read(keep):
                for i, values in zip(keep, block, strict=True):
                    check_values(values, partial(self._place_from, start, self.names[i]))
                yield block
                start += len(block[0])

    def place(self, row: int, name: str) -> str:
        """Return where a cell is, for a message."""
        return f"{self.where}, row {row + 1}, column {cut(name)}"

    def select(self, columns: Sequence[str] | None, drop: Sequence[str] | None) -> list[int]:
        """Return the positions of the columns to keep."""
        positions = {name: i for i, name in enumerate(self.names)}
        for name in [*(columns or []), *(drop or [])]:
            if name not in positions:
                raise mistake(self.where, f"a column {cut(name)}", f"the columns {listed(self.names)}")
        wanted = self.names if columns is None else dict.fromkeys(columns)
        keep = [positions[name] for name in wanted if name not in (drop or [])]
        if not keep:
            raise mistake(self.where, f"some of the columns {listed(self.names)}", "none", "keep at least one")
        return keep

    def _place_from(self, start: int, name: str, row: int) -> str:
        return self.place(start + row, name)


@contextmanager
def readable(where: str, kind: str = "a readable table") -> Iterator[None]:
    """Make a ValueError of whatever the libraries raise for a file that is damaged or of another kind."""
    try:
        yield
    except UNREADABLE as error:
        came, remedy = f"an error: {cut(str(error), 200)}", "it may be protected, damaged or of another kind"
        raise mistake(where, kind, came, remedy) from error


def rows_at_once(columns: int) -> int:
    """Return how many rows of so many columns make a block."""
    return max(1, GROUP // columns)


def check_values(values: np.ndarray, place: Callable[[int], str], cells: Sequence[str] | None = None) -> None:
    """Refuse numbers that are missing, infinite or too large; cells are the numbers as the file has them."""
    size = np.abs(values, dtype=np.float64) if values.dtype.kind == "f" else np.zeros(0)
    bad = ~(size <= LARGEST) if values.dtype.kind == "f" else values > np.iinfo(np.int64).max
    if cells is not None:
        for row in map(int, np.flatnonzero(size >= 2.0**63)):
            bad[row] |= _is_long_integer(cells[row].strip())
    if not bad.any():
        return
    row = int(bad.argmax())
    value, came = values[row], str(values[row]) if cells is None else cut(cells[row].strip())
    if np.isnan(value):
        raise mistake(place(row), "a number", f"{came}, a missing value", "remove the row or fill it")
    if np.isinf(value):
        raise mistake(place(row), "a finite number", came, "remove the row or fill it")
    if abs(float(value)) > LARGEST:
        expected = f"numbers up to {LARGEST:g}, whose squares are finite"
        raise mistake(place(row), expected, came, "rescale the column")
    raise mistake(place(row), "integers below 2^63", came, "rescale the column, or write decimal points")


def check_unique(names: list[str], where: str) -> None:
    """Refuse a name that occurs twice."""
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise mistake(where, "different names", f"{cut(repeated[0])} more than once", "rename the others")


def default_names(d: int) -> list[str]:
    """Return x1, x2, ..., the names of d columns that have none."""
    return [f"x{i}" for i in range(1, d + 1)]


def _is_long_integer(cell: str) -> bool:
    """Return whether a number of size 2^63 or more is written as an integer that int64 does not hold."""
    return cell.lstrip("+-").isdigit() and (len(cell) > 30 or not -(2**63) <= int(cell) < 2**63)
