"""R29: archives, pictures and names that break other programs, and tables that a spreadsheet would run."""

import csv
import gzip
import io
import resource
import shlex
import shutil
import struct
import tempfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, chdir
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image

from scorefield.data import read_images, read_table, write_images
from scorefield.data.tables import writing
from scorefield.selftest.command_line import typed, wrong_with_refusal
from scorefield.selftest.inputs import cases, hostile, makers
from scorefield.selftest.report import Check, Entry, Failures, Plan

MEMORY = 64.0
"""Megabytes that no case may allocate more of."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that a spreadsheet takes for a formula, unless it is a number."""

NAMES = ["=1+1", "+a", "-b", "@c", "\td", "\re", "=HYPERLINK(1)"]

Case = Callable[[Path], str]
"""Does something in an empty folder, and returns what is wrong with the outcome."""


def refused(folder: Path, file: str, content: bytes, says: Iterable[str] = ()) -> str:
    """Return what is wrong with how a file is refused."""
    (folder / file).write_bytes(content)
    return wrong_with_refusal(typed(f"fit {shlex.quote(file)} --out run --steps 1"), [file, *says])


def as_data(folder: Path, file: str, content: bytes) -> str:
    """Return what is wrong where the numbers of a file are read, whatever they are called in it."""
    (folder / file).write_bytes(content)
    found = read_table(folder / file).frame.to_numpy()
    return "" if (found == makers.ONES).all() else f"other numbers: {found}"


def bad_picture(folder: Path, make: Callable[[Path], object], says: Iterable[str]) -> str:
    """Return what is wrong with how a picture among good ones is refused."""
    cases.in_data(partial(cases.among_good, name="002b.png", make=make))(folder)
    command = "fit data --out run --steps 1 --threads 1"
    return wrong_with_refusal(typed(command), ["002b.png", *says])


def link_member() -> bytes:
    """Return an archive whose member is a symbolic link, as archives of Unix hold them."""
    member = zipfile.ZipInfo("X.npy")
    member.create_system, member.external_attr = 3, 0o120777 << 16
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(member, "../../outside.npy")
    return file.getvalue()


def lying_member() -> bytes:
    """Return an archive that declares a fraction of what its member unpacks to."""
    size = 8 * 10**6
    content = bytearray(makers.npz(True, X=np.zeros((size // 16, 2))))
    real = struct.pack("<I", size + 128)
    while real in content:
        place = content.index(real)
        content[place : place + 4] = struct.pack("<I", 4096)
    return bytes(content)


def text_bomb(path: Path) -> None:
    """Write a PNG with a text of 200 million letters in a few bytes."""
    packed = zlib.compressobj(9)
    text = b"a\0\0" + b"".join(packed.compress(bytes(10**6)) for _ in range(200)) + packed.flush()
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    plain = makers.png_of_size(5, 6, 8, 0, (b"\0" + bytes(5)) * 6)
    path.write_bytes(plain[:33] + chunk + plain[33:])


def sixteen_bits(folder: Path) -> str:
    """Count the levels that a picture of 16 bits keeps."""
    levels = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    makers.write_png(folder / "f" / "a.png", levels)
    kept = len(np.unique(read_images(folder / "f").pixels))
    return "" if kept >= 65_000 else f"{kept} levels of 65,536 are kept"


def palette(folder: Path) -> str:
    """Compare a picture with a palette with its colours."""
    few = np.array([[10, 20, 30], [200, 0, 7], [9, 9, 9]], np.uint8)[makers.levels((6, 5)) % 3]
    (folder / "f").mkdir()
    Image.fromarray(few).quantize(3).save(folder / "f" / "a.png")
    return "" if (read_images(folder / "f").pixels[0] == few.transpose(2, 0, 1)).all() else "other colours"


def turned(folder: Path) -> str:
    """Compare a picture that its EXIF data turn with the upright one."""
    upright, exif = makers.levels((4, 6)), Image.Exif()
    exif[0x0112] = 6
    makers.write_png(folder / "f" / "a.png", np.ascontiguousarray(np.rot90(upright)), exif=exif)
    found = read_images(folder / "f").pixels[0, 0]
    return "" if found.shape == upright.shape and (found == upright).all() else "it is not turned"


def formulas(path: Path) -> list[str]:
    """Return the cells of a text file that a spreadsheet would run."""
    with path.open(newline="", encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",") for cell in row]
    return [cell for cell in cells if cell.startswith(FORMULA) and not number(cell)]


def number(cell: str) -> bool:
    """Return whether a cell is a number, which a spreadsheet shows and does not run."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def column_names(folder: Path, suffix: str) -> str:
    """Learn from columns that are called as formulas, and look for those in what is written."""
    rows = np.random.default_rng(0).normal(size=(12, len(NAMES)))
    quoted = ",".join(f'"{name}"' for name in NAMES if "\r" not in name)
    (folder / "a.csv").write_bytes(cases.csv_of(rows[:, : quoted.count(",") + 1], quoted))
    for command in ("fit a.csv --out run --steps 1 --quiet", f"sample run -n 5 --steps 2 --out b{suffix} --quiet"):
        code, _, err = typed(command)
        if code:
            return err
    found = formulas(folder / f"b{suffix}")
    return f"{found[0]!r} is a formula" if found else ""


def class_names(folder: Path) -> str:
    """Write pictures whose classes are called as formulas, and read them again."""
    names = [name for name in NAMES if name.isprintable()]
    labels = np.arange(len(names))
    images = np.zeros((len(names), 1, 4, 4), np.uint8)
    write_images(folder / "f", [images], "HW", labels=labels, classes=names)
    if found := formulas(folder / "f" / "labels.csv"):
        return f"{found[0]!r} is a formula"
    again = read_images(folder / "f", labels=folder / "f" / "labels.csv")
    return "" if again.classes == tuple(sorted(names)) else f"the classes came back as {again.classes}"


def look_alikes(folder: Path) -> str:
    """Read two columns, and two classes, whose names look the same and are not."""
    latin, cyrillic = "a", "\u0430"
    (folder / "a.csv").write_text(f"{latin},{cyrillic}\n1,2\n3,5\n", encoding="utf-8")
    if list(read_table(folder / "a.csv").frame) != [latin, cyrillic]:
        return "columns are mixed up"
    for name in (latin, cyrillic):
        makers.write_folder(folder / "f" / name, makers.levels((1, 4, 4)))
    return "" if read_images(folder / "f").classes == (latin, cyrillic) else "classes are mixed up"


def run_name(folder: Path, name: str, says: Iterable[str] = (), made: str = "") -> str:
    """Return what is wrong with how a name is taken for a RUN: refused, or where the run is then."""
    (folder / "a.csv").write_bytes(cases.csv_of(cases.ROWS))
    answer = typed(f"fit a.csv --out={shlex.quote(name)} --steps 1 --quiet")
    if not made:
        return wrong_with_refusal(answer, says)
    left = {str(path.relative_to(folder)) for path in folder.rglob("config.toml")}
    return "" if answer.code == 0 and left == {f"{made}/config.toml"} else f"{answer}, {left}"


def output_name(folder: Path, name: str, says: Iterable[str] = ()) -> str:
    """Return what is wrong with how a name is taken for a table to write."""
    answer = typed(f"data moons -n 5 --out={shlex.quote(name)} --quiet")
    if says:
        return wrong_with_refusal(answer, says)
    return "" if answer.code == 0 and [path.name for path in folder.iterdir()] == [name] else f"{answer}"


def class_of(folder: Path, name: str) -> str:
    """Return what is wrong with how pictures in a folder of that name are refused."""
    makers.write_folder(folder / "data" / name, makers.IMAGES)
    return wrong_with_refusal(typed("fit data --out run --steps 1 --threads 1"), ["printable"])


ARRAY = makers.npy(makers.ONES)
HUGE = makers.idx(makers.IMAGES)[:4] + b"\xff" * 4 + makers.idx(makers.IMAGES)[8:]

CASES: dict[str, Case] = {
    "npz bomb": partial(
        refused, file="a.npz", content=makers.npz(True, X=np.zeros((10**6, 2))), says=["at most 100 times"]
    ),
    "npz that declares less than it holds": partial(refused, file="a.npz", content=lying_member()),
    "npy header of 4 TB": partial(refused, file="a.npy", content=makers.lying((2**39, 1)), says=["got 16"]),
    "images of 3 TB": partial(refused, file="a.npy", content=makers.lying((10**6, 1000, 1000, 3), "|u1")),
    "header of 10^8000 numbers": partial(refused, file="a.npy", content=makers.lying((10**4000, 10**4000))),
    "packed IDX that declares 128 GB": partial(refused, file="a-images-idx3-ubyte", content=gzip.compress(HUGE)),
    "member ../X.npy": partial(as_data, file="a.npz", content=makers.zipped({"../X.npy": ARRAY})),
    "member with an absolute path": partial(as_data, file="a.npz", content=makers.zipped({"/tmp/X.npy": ARRAY})),
    "member with a drive letter": partial(as_data, file="a.npz", content=makers.zipped({"C:\\X.npy": ARRAY})),
    "member that is a link": partial(refused, file="a.npz", content=link_member(), says=["header of a numpy array"]),
    "member twice": partial(refused, file="a.npz", content=makers.npz_with_a_name_twice(), says=["more than once"]),
    "member encrypted": partial(refused, file="a.npz", content=makers.encrypted_npz(), says=["encrypted"]),
    "archive within an archive": partial(
        refused, file="a.npz", content=makers.zipped({"X.npy": makers.zipped({"X.npy": ARRAY})})
    ),
    "16 bits": sixteen_bits,
    "palette": palette,
    "turned by EXIF data": turned,
    "text bomb in a picture": partial(bad_picture, make=text_bomb, says=["readable PNG"]),
    **{
        f"picture: {name}": partial(bad_picture, make=make, says=says)
        for name, (make, says) in hostile.PICTURES.items()
    },
    "columns called as formulas, csv": partial(column_names, suffix=".csv"),
    "columns called as formulas, tsv": partial(column_names, suffix=".tsv"),
    "classes called as formulas": class_names,
    "names that look alike": look_alikes,
    "class with a newline": partial(class_of, name="a\nb"),
    "class with an escape": partial(class_of, name="a\x1b[31m"),
    "RUN with a slash": partial(run_name, name="a/b", made="a/b"),
    "RUN with ..": partial(run_name, name="a/../b", made="b"),
    "RUN with a newline": partial(run_name, name="a\nb", made="a\nb"),
    "RUN with a NUL": partial(run_name, name="a\0b", says=["a\\x00b"]),
    "RUN of 300 letters": partial(run_name, name="a" * 300, says=["name another --out"]),
    "RUN that begins with =": partial(run_name, name="=1+1", made="=1+1"),
    "RUN that begins with -": partial(run_name, name="-x", made="-x"),
    "output with a newline": partial(output_name, name="a\nb.csv"),
    "output with a NUL": partial(output_name, name="a\0b.csv", says=["a\\x00b.csv"]),
    "output of 300 letters": partial(output_name, name="a" * 300 + ".csv", says=["File name too long"]),
    "output that begins with @": partial(output_name, name="@a.csv"),
}


def outcome(case: Case, root: Path) -> tuple[str, float]:
    """Return what is wrong with a case, run in a folder of its own, and the megabytes that it took."""
    inside = root / "inside"
    inside.mkdir()
    before = {path: path.lstat().st_mtime_ns for path in root.rglob("*") if path != inside}
    tracemalloc.start()
    try:
        with chdir(inside):
            problem = case(inside)
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    shutil.rmtree(inside)
    after = {path: path.lstat().st_mtime_ns for path in root.rglob("*")}
    return problem or ("" if before == after else "something was written outside"), peak


def run(plan: Plan) -> Iterator[Check]:
    """Count cases that are not handled as documented, and measure the memory of the greediest."""
    handled, largest, hungriest = Failures("archives, pictures, names and formulas"), 0.0, ""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as name:
        root = Path(name).resolve() / "a" / "b"
        root.mkdir(parents=True)
        outcome(CASES["columns called as formulas, csv"], root)  # what is loaded once
        for case, do in CASES.items():
            problem, peak = outcome(do, root)
            handled.add(case, problem)
            largest, hungriest = max((largest, hungriest), (peak, case))
    yield handled.check()
    yield Check(f"megabytes taken by {hungriest}", largest, MEMORY, len(CASES))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    if plan.size == "full":
        yield Check("growth of the process, MB", grown, 4 * MEMORY)


def fault() -> AbstractContextManager:
    """Plant: names of columns are written as they are."""
    return patch.object(writing, "_inert", lambda name: name)


TESTS = {"R29": Entry("archives, pictures, names and formulas", run, fault, smoke=True)}
