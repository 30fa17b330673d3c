"""A case of bad or unusual input, and what makes one of a table, an array or images."""

import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from scorefield.data import read_images, read_table
from scorefield.kinds.images.estimator import ImageDensity
from scorefield.kinds.tables.estimator import ScoreDensity
from scorefield.selftest.inputs import makers

ROWS = np.random.default_rng(0).normal(size=(12, 2))


def nothing(folder: Path) -> None:
    """Write no file."""


@dataclass(frozen=True)
class Case:
    """An input: its files, what is typed beside them, the same in Python, and what must become of it.

    Where it must be refused, `says` is what the one line must name; where it must work, the last command leaves out.csv
    or out.npy. `api` returns numbers, which must be finite where it works. PEOPLE, ONE and BARS are runs in the folder
    above: three columns, one, and images.
    """

    name: str
    commands: tuple[str, ...]
    says: tuple[str, ...] = ()
    write: Callable[[Path], object] = nothing
    api: Callable[[Path], object] | None = None
    works: bool = False
    api_works: bool = False


def learned(values: object) -> np.ndarray:
    """Return rows drawn after learning from a table."""
    return np.asarray(ScoreDensity(max_iter=2, random_state=0).fit(values).sample(5), dtype=float)


def pictures(values: np.ndarray) -> np.ndarray:
    """Return images drawn after learning from images."""
    return ImageDensity(max_iter=1, random_state=0).fit(values).sample(2, steps=2)


def table_case(name: str, file: str, content: bytes, says: Iterable[str] = (), works: bool = False) -> Case:
    """Return the case of a table in a file."""
    commands = [f"fit {shlex.quote(file)} --out run --steps 2 --quiet"]
    commands += ["sample run -n 5 --steps 2 --out out.csv --quiet"] if works else []
    api = lambda folder: learned(read_table(folder / file).frame)
    write = lambda folder: (folder / file).write_bytes(content)
    return Case(name, tuple(commands), tuple(says), write, api, works, works)


def array_case(name: str, array: np.ndarray, says: Iterable[str] = (), works: bool = False) -> Case:
    """Return the case of an array, in a file for the command line and as itself for Python."""
    case = table_case(name, "a.npy", makers.npy(array), says, works)
    return replace(case, api=lambda folder: learned(array))


def image_case(
    name: str, write: Callable[[Path], object], says: Iterable[str] = (), data: str = "data", works: bool = False
) -> Case:
    """Return the case of images: what writes them into a folder, and what is named in it."""
    commands = [f"fit {data} --out run --steps 1 --threads 1 --quiet"]
    commands += ["sample run -n 2 --steps 2 --threads 1 --out out.npy --quiet"] if works else []
    api = lambda folder: pictures(read_images(folder / data).pixels)
    return Case(name, tuple(commands), tuple(says), write, api, works, works)


def csv_of(rows: np.ndarray, names: str = "x,y", end: str = "\n") -> bytes:
    """Return rows as text with a header."""
    return (names + end + "".join(",".join(map(str, row)) + end for row in rows)).encode()


def in_data(write: Callable[[Path], object]) -> Callable[[Path], object]:
    """Return what writes into a new folder called data."""

    def written(folder: Path) -> None:
        (folder / "data").mkdir()
        write(folder / "data")

    return written


def among_good(folder: Path, name: str, make: Callable[[Path], object]) -> None:
    """Write good pictures, and one more thing among them."""
    makers.write_folder(folder, makers.IMAGES)
    make(folder / name)


def one_file(folder: Path, file: str, content: bytes) -> None:
    """Write a file."""
    (folder / file).write_bytes(content)
