"""Labels of images: from a file or an array to positions in a list of classes."""

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scorefield.data.images.idx import idx
from scorefield.data.messages import cut, listed, mistake, show
from scorefield.data.sources import readable
from scorefield.data.stored import Stored, npy, numbers

LONGEST = 255
"""The most characters of the name of a class."""

INTEGER = re.compile(r"-?[0-9]{1,18}")
HEADERS = {"class", "label", "labels", "target", "y"}
FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Labels(NamedTuple):
    """For each image the position of its class, and the names of the classes in order."""

    positions: np.ndarray
    classes: tuple[str, ...]


def classified(values: Sequence[str] | np.ndarray, where: str) -> Labels:
    """Return labels that are names or integers as positions; the classes are sorted, as numbers where all are integers.

    Raises ValueError for floats with a fraction, and for names that are empty, too long or not printable.
    """
    if isinstance(values, np.ndarray):
        values = _plain(values, where).tolist()
    names = [str(value) for value in values]
    found = set(names)
    for name in sorted(found):
        if not 0 < len(name) <= LONGEST or not name.isprintable():
            expected = f"names of classes of 1 to {LONGEST} printable characters"
            raise mistake(where, expected, cut(name), "rename the class")
    whole = all(INTEGER.fullmatch(name) for name in found)
    classes = sorted(found, key=lambda name: (int(name) if whole else 0, name))
    place = {name: i for i, name in enumerate(classes)}
    return Labels(np.fromiter((place[name] for name in names), np.int64, len(names)), tuple(classes))


def read_labels(path: Path, n: int) -> Labels:
    """Return the labels of n images: a .npy file, a .csv or .tsv file of one column, or an IDX file."""
    where = show(path)
    with readable(where, "readable labels"):
        if path.suffix.lower() in {".csv", ".tsv"}:
            values: Sequence[str] | np.ndarray = list(_one_column(path, where))
        else:
            values = stored_labels(npy(path, kinds="biufU") if path.suffix.lower() == ".npy" else idx(path))
        if len(values) != n:
            raise mistake(where, f"{n:,} labels, one for each image", f"{len(values):,}")
        return classified(values, where)


def stored_labels(stored: Stored) -> np.ndarray:
    """Return the numbers or names of an array of labels. Raises ValueError for more or less than one direction."""
    if len(stored.shape) != 1:
        raise mistake(stored.where, "labels as an array of one direction, (n,)", f"the shape {stored.shape}")
    with readable(stored.where, "readable labels"), stored.opened() as file:
        file.read(stored.offset)
        values = numbers(file, stored.dtype, stored.shape[0])
        check_end(file.read(1), stored.where)
    return values


def check_end(left: bytes, where: str) -> None:
    """Refuse a file that goes on behind the numbers that it declares."""
    if left:
        raise mistake(where, "no more bytes than its header declares", "more", "the file is damaged; fetch it again")


def file_labels(path: Path, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the label of each of the files named, by a table with the columns file and label, and notes."""
    where = show(path)
    if path.suffix.lower() not in {".csv", ".tsv"}:
        expected = "a .csv or .tsv file with the columns file and label"
        raise mistake(where, expected, cut(path.suffix), "name the labels of a folder by its files")
    with readable(where, "readable labels"):
        label: dict[str, str] = {}
        rows = _rows(path, where)
        _, header = next(rows, (1, []))
        if not {"file", "label"} <= set(header):
            raise mistake(where, "the columns file and label", listed(header) or "none", "name them in the first row")
        file, value = header.index("file"), header.index("label")
        for line, row in rows:
            if len(row) != len(header):
                raise mistake(f"{where}, line {line}", f"{len(header)} cells, as in the first row", f"{len(row)}")
            if row[file] in label:
                raise mistake(f"{where}, line {line}", "each file once", f"{cut(row[file])} again", "remove one")
            label[row[file]] = active(row[value].strip())
    missing = next((name for name in names if name not in label), None)
    if missing is not None:
        came = f"none for {cut(missing, 200)}"
        raise mistake(where, "a label for every image of the folder", came, "add it, or take the image out")
    unknown = len(label) - len(names)
    return [label[name] for name in names], [f"{where}: {unknown:,} labels are of no image"] if unknown else []


def inert(name: str) -> str:
    """Return a name that no spreadsheet takes for a formula: with an apostrophe before it, unless it is a number."""
    return "'" + name if name.startswith(FORMULA) and not INTEGER.fullmatch(name) else name


def active(cell: str) -> str:
    """Return the name of which `inert` has made a cell."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(FORMULA) else cell


def _plain(values: np.ndarray, where: str) -> np.ndarray:
    """Return labels as integers or names."""
    if values.dtype.kind != "f":
        return values.astype(np.int64) if values.dtype.kind == "b" else values
    whole = np.isfinite(values) & (values == np.round(values)) & (np.abs(values) < 2.0**53)
    if not whole.all():
        row = int(whole.argmin())
        came = f"{values[row]} for image {row + 1}"
        raise mistake(where, "labels that are integers or names", came, "labels are classes, not measurements")
    return values.astype(np.int64)


def _one_column(path: Path, where: str) -> Iterator[str]:
    """Yield the labels of a table of one column, below its name if it has one of the usual names."""
    for position, (line, row) in enumerate(_rows(path, where)):
        if len(row) != 1:
            came = f"{len(row)} cells"
            raise mistake(f"{where}, line {line}", "one column of labels", came, "leave out the others")
        if position or row[0].strip().lower() not in HEADERS:
            yield active(row[0].strip())


def _rows(path: Path, where: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not blank, with the number of the line at which each ends."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        try:
            for row in reader:
                if row:
                    yield reader.line_num, row
        except csv.Error as error:
            raise mistake(f"{where}, line {reader.line_num}", "a readable row", f"an error: {error}") from error
