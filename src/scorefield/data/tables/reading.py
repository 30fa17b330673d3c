"""Files to tables: read strictly, as many rows as memory should hold, fingerprinted, split."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from scorefield.data.messages import cut, listed, mistake, show
from scorefield.data.sources import Block, Source, readable
from scorefield.data.tables.binary import Array, Parquet, npz
from scorefield.data.tables.text import Text

TEST_FROM = 1_000
"""Below this many rows none are kept for a test: a tenth of them could show little, and the model needs them all."""

LIMIT = 2**24
"""The most numbers of a file that are kept in memory: 134 MB as float64, of which a fit needs five to eight times."""

INTEGER, FLOAT = np.dtype(np.int64), np.dtype(np.float64)


class Table(NamedTuple):
    """A data frame of numbers, what the reader had to decide, one sentence each, and the digest of the whole table."""

    frame: pd.DataFrame
    notes: list[str]
    digest: str


def read_table(
    path: str | Path, columns: Sequence[str] | None = None, drop: Sequence[str] | None = None, seed: int = 0
) -> Table:
    """Return the numbers of a .csv, .tsv, .parquet, .npy or .npz file, in the types that the file holds.

    columns keeps only the columns named, in that order; drop leaves columns out. A text file whose first row
    is all numbers has no header, and an array has none: their columns are called x1, x2, ... An .npz file
    holds one array, or the one to be read is called X, x or data.
    Every row is read and checked, a block at a time; of a table of more than LIMIT numbers, as many rows as hold
    LIMIT are drawn without replacement. Which ones depends on the table and the seed, not on the kind of file.
    Raises ValueError, in one line that names the file, the row (for text the line of the file) and the
    column, for whatever is not a table of finite numbers.
    """
    source = _open(Path(path))
    keep = source.select(columns, drop)
    table = _drawn_table(source, keep, [source.names[i] for i in keep], seed)
    return table._replace(notes=source.notes + table.notes)


def read_points(path: str | Path, columns: Sequence[str], seed: int = 0) -> Table:
    """Return the named columns of a file, which may hold others too; rows are drawn as by `read_table`.

    A file without names must hold exactly these columns, in this order. Raises ValueError as `read_table`.
    """
    source = _open(Path(path))
    return _drawn_table(source, _places(source, columns), list(columns), seed)


def point_blocks(path: str | Path, columns: Sequence[str], size: int) -> Iterator[pd.DataFrame]:
    """Yield all rows of the named columns of a file, as by `read_points`, `size` at a time; the last may be fewer.

    The file is read once to check it before the first block comes, then again. Raises ValueError as `read_table`.
    """
    source = _open(Path(path))
    keep = _places(source, columns)
    for _ in source.checked(keep):
        pass
    frames = (_frame(columns, block) for block in source.checked(keep))
    return (frame for frame in regrouped(frames, size) if len(frame))


def digest(frame: pd.DataFrame) -> str:
    """Return the SHA-256 of a table, over its column names, types and numbers, whatever file they came from.

    Raises ValueError for a column that is not of a plain type of numbers.
    """
    check_types(frame, "the table")
    fingerprint = _Fingerprint([str(name) for name in frame.columns])
    fingerprint.update([column.to_numpy() for _, column in frame.items()])
    return fingerprint.digest()


def split(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows of the training, validation and test parts of n rows, dealt at random.

    A tenth is for testing, but at most 20,000 rows, and none below TEST_FROM rows; a tenth is for validation, and
    none below 10 rows; the rest is for training.
    """
    test = min(n // 10, 20_000) if n >= TEST_FROM else 0
    validation = n // 10
    order = np.random.Generator(np.random.PCG64(seed)).permutation(n)
    return order[validation + test :], order[:validation], order[validation : validation + test]


def regrouped(frames: Iterable[pd.DataFrame], size: int) -> Iterator[pd.DataFrame]:
    """Yield the rows of frames `size` at a time; the last has fewer, or none."""
    held: list[pd.DataFrame] = []
    count = 0
    for frame in frames:
        while count + len(frame) >= size:
            fits = size - count
            yield pd.concat([*held, frame.iloc[:fits]])
            frame, held, count = frame.iloc[fits:], [], 0
        held.append(frame)
        count += len(frame)
    yield pd.concat(held)


def check_types(frame: pd.DataFrame, where: str) -> None:
    """Refuse columns that do not hold booleans, integers or floats."""
    if frame.shape[1] == 0:
        raise mistake(where, "columns of numbers", "none")
    for name, dtype in zip(frame.columns, frame.dtypes, strict=True):
        if not isinstance(dtype, np.dtype) or dtype.kind not in "biuf":
            raise mistake(f"{where}, column {cut(str(name))}", "booleans, integers or floats", str(dtype))


READERS: dict[str, Callable[[Path], Source]] = {
    ".csv": partial(Text, delimiter=","),
    ".tsv": partial(Text, delimiter="\t"),
    ".parquet": Parquet,
    ".npy": Array,
    ".npz": npz,
}
"""How each kind of file is opened, by its extension."""


def _open(path: Path) -> Source:
    """Return a file whose columns can be chosen and read; every failure is a ValueError."""
    where = show(path)
    with readable(where):
        _check_file(path, where)
        return READERS[path.suffix.lower()](path)


def _check_file(path: Path, where: str) -> None:
    if path.is_dir():
        found = sorted(entry.name for entry in path.iterdir() if entry.suffix.lower() in READERS)
        remedy = f"name a table in it: {listed(found)}" if found else "it has no table"
        raise mistake(where, "a file", "a folder", remedy)
    if not path.exists():
        raise mistake(where, "a file", "a path where there is none", "check the name")
    if path.suffix.lower() not in READERS:
        expected = f"a file ending in one of {', '.join(READERS)}"
        raise mistake(where, expected, cut(path.suffix), "unpack, convert or rename it")
    if not path.is_file():
        raise mistake(where, "a regular file", "a device or a pipe", "save it to a file first")
    if path.stat().st_size == 0:
        raise mistake(where, "a table", "an empty file")


def _places(source: Source, columns: Sequence[str]) -> list[int]:
    """Return where the columns are, by name, or by place in a file that has no names."""
    if source.named:
        return source.select(columns, None)
    if len(source.names) != len(columns):
        came = f"{len(source.names)} columns without names"
        raise mistake(source.where, f"{len(columns)} columns, {listed(columns)}", came)
    return list(range(len(columns)))


def _frame(names: Sequence[str], columns: Block) -> pd.DataFrame:
    return pd.DataFrame(dict(zip(names, columns, strict=True)), copy=False)


def _drawn_table(source: Source, keep: list[int], names: list[str], seed: int) -> Table:
    """Return the rows of a source that memory should hold, a note where those are not all, and the digest of all."""
    most = max(1, LIMIT // len(keep))
    fingerprint = _Fingerprint(names)
    columns = _drawn(fingerprint.passing(source.checked(keep)), most, seed)
    notes = []
    if fingerprint.rows > most:
        used = f"{most:,} of them, drawn at random, are used: more than {LIMIT:,} numbers are not kept in memory"
        notes.append(f"{source.where} has {fingerprint.rows:,} rows; {used}")
    return Table(_frame(names, columns), notes, fingerprint.digest())


def _drawn(blocks: Iterable[Block], most: int, seed: int) -> Block:
    """Return all rows, or as many as `most`, each set of so many with equal probability (Vitter, 1985, algorithm R).

    Row k, counted from 0, takes one of k + 1 places at random, and stays if that is one of the first `most`, until
    another row takes it.
    """
    draw = np.random.Generator(np.random.PCG64((seed, 1)))  # not the generator that deals the rows
    parts: list[list[np.ndarray]] = []
    held: Block = []
    count = 0
    for block in blocks:
        parts = parts or [[] for _ in block]
        fits = min(len(block[0]), max(0, most - count))
        if fits:
            for part, values in zip(parts, block, strict=True):
                part.append(values[:fits])
        rows = np.arange(count + fits, count + len(block[0]))
        if len(rows):
            held = held or _joined(parts)
            places = (draw.random(len(rows)) * (rows + 1)).astype(np.int64)
            stays = np.flatnonzero(places < most)
            for i, values in enumerate(block):
                held[i] = held[i].astype(np.result_type(held[i], values), copy=False)
                held[i][places[stays]] = values[fits + stays]  # of two rows in one place the later one stays
        count += len(block[0])
    return held or _joined(parts)


def _joined(parts: list[list[np.ndarray]]) -> Block:
    """Return each column in one piece, and let go of its pieces at once."""
    return [np.concatenate(parts.pop(0)) for _ in range(len(parts))]


class _Fingerprint:
    """The SHA-256 of a table whose rows come in blocks: of the names, types and length, then of each column's own.

    A column of text is one of integers until a float comes, so integers are hashed as both.
    """

    def __init__(self, names: list[str]) -> None:
        self.names, self.rows = names, 0
        self.hashes: list[dict[np.dtype, hashlib._Hash]] = [{} for _ in names]

    def passing(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """Yield blocks that have been taken into account."""
        for block in blocks:
            self.update(block)
            yield block

    def update(self, block: Block) -> None:
        """Take more rows into account."""
        self.rows += len(block[0])
        for hashes, values in zip(self.hashes, block, strict=True):
            own = values.dtype.newbyteorder("=")
            if not hashes:
                hashes |= {dtype: hashlib.sha256() for dtype in ([own, FLOAT] if own == INTEGER else [own])}
            for dtype in list(hashes):
                if np.result_type(own, dtype) != dtype:
                    del hashes[dtype]
                else:
                    hashes[dtype].update(np.ascontiguousarray(values, dtype.newbyteorder("<")).data)

    def digest(self) -> str:
        """Return the fingerprint of the rows so far."""
        found = [next(iter(hashes.items())) for hashes in self.hashes]
        types = [dtype.newbyteorder("<").str for dtype, _ in found]
        total = hashlib.sha256(json.dumps([self.names, types, self.rows]).encode())
        for _, one in found:
            total.update(one.digest())
        return total.hexdigest()
