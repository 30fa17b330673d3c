"""R21: bad and unusual input, typed and from Python, and all of it again under `python -O`, where asserts are gone."""

import contextlib
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import pandas as pd
from PIL import Image

from scorefield.cli import entry as cli
from scorefield.data import check_output, read_images, read_points, read_table
from scorefield.data.tables import text
from scorefield.diffusion.published import VE
from scorefield.kinds.images.estimator import ImageDensity
from scorefield.kinds.loading import load
from scorefield.kinds.tables.estimator import ScoreDensity
from scorefield.runs import checkpoint
from scorefield.selftest.inputs import hostile
from scorefield.selftest.report import Check, Entry, Failures, Plan

LONGEST = 10.0
"""Seconds of processor time after which a case counts as hanging."""

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


class Found(NamedTuple):
    """What became of a case by one way: what was said, what is wrong with it, and processor seconds."""

    name: str
    said: str
    problem: str
    seconds: float


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
    case = table_case(name, "a.npy", hostile.npy(array), says, works)
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
    hostile.write_folder(folder, hostile.IMAGES)
    make(folder / name)


def one_file(folder: Path, file: str, content: bytes) -> None:
    """Write a file."""
    (folder / file).write_bytes(content)


def all_modes(folder: Path) -> None:
    """Write a picture of every mode that PNG and JPEG have."""
    grey, colour = hostile.levels((6, 5)), hostile.levels((6, 5, 3))
    made = {mode: Image.fromarray(grey).convert(mode) for mode in ("L", "P", "LA")}
    made |= {mode: Image.fromarray(colour).convert(mode) for mode in ("RGB", "RGBA")}
    made["I;16"] = Image.fromarray(grey.astype(np.uint16))
    for i, image in enumerate(made.values()):
        image.save(folder / f"{i}.png")
    Image.new("CMYK", (5, 6)).save(folder / "9.jpg")


def copied(change: Callable[[Path], object]) -> Callable[[Path], object]:
    """Return what copies the run PEOPLE into the folder, as `run`, and changes it there."""

    def written(folder: Path) -> None:
        shutil.copytree(folder.parent / "PEOPLE", folder / "run")
        change(folder / "run")

    return written


def with_other_range(run: Path) -> None:
    """Write a range whose ends are exchanged into config.toml."""
    path = run / "config.toml"
    lines = path.read_text().splitlines()
    exchanged = {"process": 'process = "ve"', "span": "span = [5.0, 0.1]"}
    place = next(i for i, line in enumerate(lines) if line.startswith("span = ["))
    end = next(i for i in range(place, len(lines)) if "]" in lines[i])
    lines[place : end + 1] = [exchanged["span"]]
    path.write_text("\n".join(exchanged["process"] if x.startswith("process =") else x for x in lines))


def with_other_weights(run: Path) -> None:
    """Put the weights of the run ONE under the seal of this one."""
    digest = checkpoint.sha256((run / "config.toml").read_bytes())
    other = run.parent.parent / "ONE"
    found = checkpoint.latest(other, checkpoint.sha256((other / "config.toml").read_bytes()))
    if found is not None:
        checkpoint.save(run, 9, found.model, found.state, digest)


def with_newer_format(run: Path) -> None:
    """Seal the checkpoint as one of a later version of the program."""
    hostile.reseal(next((run / "checkpoints").iterdir()), format=checkpoint.FORMAT + 1)


def writing(name: str) -> Callable[[Path], object]:
    """Return what writes a table over something."""
    return lambda folder: check_output(folder / name, force=False)


def people(folder: Path) -> ScoreDensity:
    """Return the estimator of the run PEOPLE."""
    return load(folder.parent / "PEOPLE")


def old(folder: Path) -> None:
    """Write a file that must stay."""
    (folder / "old.csv").write_text("precious")


def from_table(name: str, key: str) -> Case:
    """Return the case of a bad table of `hostile.TABLES` under a name."""
    return table_case(name, *hostile.TABLES[key])


LINE_ENDS = {"a": "\r\n", "b": "\r"}

TABLES = [
    from_table("empty file", "empty file"),
    from_table("header only", "header only"),
    table_case("one row", "a.csv", b"x,y\n1,2\n", ["a.csv", "1 equal rows", "nothing to learn"]),
    from_table("zero columns", "parquet without columns"),
    from_table("ragged row", "ragged, short"),
    from_table("NaN cell", "NaN cell"),
    from_table("Inf cell", "Inf cell"),
    from_table("-Inf cell", "-Inf cell"),
    from_table("1e400", "1e400"),
    from_table("text cell", "text cell"),
    from_table("blank line in the middle", "blank line in the middle"),
    from_table("trailing comma", "comma at the end of a row"),
    table_case("BOM", "a.csv", b"\xef\xbb\xbf" + csv_of(ROWS), works=True),
    from_table("UTF-16", "UTF-16"),
    from_table("NUL byte", "NUL byte"),
    from_table("wrong delimiter", "semicolons"),
    from_table("decimal comma", "decimal comma"),
    from_table("quoted newline", "quoted newline"),
    from_table("duplicate header", "duplicate header"),
    table_case("all-constant table", "a.csv", b"x\n3\n3\n3\n", ["a.csv", "3 equal rows", "nothing to learn"]),
    table_case("one constant column", "a.csv", csv_of(np.c_[ROWS, np.full(12, 7)], "x,y,z"), works=True),
    table_case("all rows equal", "a.csv", b"x,y\n" + b"1,2\n" * 12, ["a.csv", "12 equal rows", "nothing to learn"]),
    table_case("scale 1e300", "a.csv", csv_of(ROWS * 1e300), ["a.csv, line 2, column 'x'", "1e+150", "rescale"]),
    table_case("scale 1e-300", "a.csv", csv_of(ROWS * 1e-300), works=True),
    table_case("subnormal", "a.csv", csv_of(ROWS * 1e-310), works=True),
    from_table("integer overflow 2^63", "integer of 2^63"),
    from_table("complex", "complex cells"),
    table_case("boolean", "a.csv", csv_of(np.hstack([ROWS.astype(object), ROWS > 0]), "x,y,a,b"), works=True),
    from_table("date", "date column"),
    table_case("10^5 columns", "a.csv", b",".join([b"1"] * 10**5) + b"\n", ["a.csv, line 1", "10,000", "transpose"]),
    Case(
        "CRLF and CR",
        (
            "fit a.csv --out run --steps 2 --quiet",
            "fit b.csv --out other --steps 2 --quiet",
            "sample other -n 5 --out out.csv",
        ),
        (),
        lambda folder: [(folder / f"{name}.csv").write_bytes(csv_of(ROWS, end=end)) for name, end in LINE_ENDS.items()],
        lambda folder: [learned(read_table(folder / f"{name}.csv").frame) for name in LINE_ENDS],
        works=True,
        api_works=True,
    ),
    from_table("gz renamed to csv", "gz renamed to csv"),
]

ARRAYS = [
    array_case("0-d", np.array(1.0), ["a.npy", "2-d", "reshape"]),
    replace(
        array_case("1-d", ROWS[:, 0], works=True), api_works=False
    ),  # a file has columns; scikit-learn asks for 2-d
    Case(
        "4-d where 2-d expected",
        ("score ../PEOPLE a.npy --out x.csv",),
        ("a.npy", "2-d", "(5, 3, 4, 2)", "reshape"),
        lambda folder: np.save(folder / "a.npy", np.ones((5, 3, 4, 2))),
        lambda folder: learned(np.ones((5, 3, 4, 2))),
    ),
    array_case("shape (0, d)", np.ones((0, 2)), ["a.npy", "at least one row", "(0, 2)"]),
    array_case("shape (n, 0)", np.ones((2, 0)), ["a.npy", "one column", "(2, 0)"]),
    array_case("object dtype", np.array([[1, "a"], [2, "b"]], object), ["a.npy", "object", "astype(float)"]),
    array_case("string dtype", np.array([["a", "b"], ["c", "d"]]), ["a.npy", "'<U1'", "astype(float)"]),
    array_case("structured dtype", np.zeros(2, [("a", float), ("b", int)]), ["a.npy", "fields as columns"]),
    array_case("float16 with Inf", np.array([[1, 2], [-np.inf, 3]], "f2"), ["a.npy, row 2, column 'x1'", "-inf"]),
    array_case("big-endian", ROWS.astype(">f8"), works=True),
    array_case("Fortran order", np.asfortranarray(ROWS), works=True),
    replace(
        array_case("read-only memmap", ROWS, works=True),
        api=lambda folder: learned(np.lib.format.open_memmap(folder / "a.npy", "r")),
    ),
    array_case("non-contiguous", np.repeat(ROWS, 2, 1)[::-1, ::-2], works=True),
    from_table("npz with wrong key", "npz with other keys"),
    from_table("npz with two arrays of different n", "npz of two sizes"),
    from_table("truncated npy", "truncated npy"),
    from_table("header lies", "header declares 4 TB"),
]

PICTURES = [
    image_case("folder empty", in_data(nothing), ["data", "an empty folder", "name another folder"]),
    image_case("no readable image", in_data(lambda f: hostile.truncated(f / "0.png")), ["0.png", "readable PNG"]),
    image_case(
        "one corrupt among many",
        in_data(partial(among_good, name="002b.png", make=hostile.truncated)),
        ["002b.png", "readable PNG", "--skip-bad"],
    ),
    image_case("mixed sizes", in_data(hostile.FOLDERS["another size"][0]), hostile.FOLDERS["another size"][1]),
    image_case("mixed modes", in_data(all_modes), ["5.png", "levels of 8 bits, as '0.png'", "save all with the same"]),
    replace(
        image_case(
            "HWC vs CHW array",
            lambda folder: np.save(folder / "a.npy", hostile.levels((7, 3, 9, 3))),
            ["a.npy", "HWC or CHW", "--layout"],
            "a.npy",
        ),
        api=lambda folder: pictures(hostile.levels((7, 3, 9, 3))),
    ),
    image_case("0-byte file", in_data(lambda f: (f / "a.png").write_bytes(b"")), ["a.png", "readable PNG or JPEG"]),
    image_case(
        "directory named x.png",
        in_data(partial(among_good, name="x.png", make=Path.mkdir)),
        works=True,
    ),
]

SAMPLE = "sample ../PEOPLE --quiet --out x.csv"

ARGUMENTS = [
    Case("unknown option", ("fit moons --out run --bogus 1",), ("--bogus",), api=lambda _: ScoreDensity(bogus=1)),  # type: ignore[call-arg]
    Case(
        "missing file", ("fit no/such.csv --out run",), ("no/such.csv", "none"), api=lambda _: read_table("no/such.csv")
    ),
    Case(
        "directory as file",
        ("score ../PEOPLE data.csv --out x.csv",),
        ("data.csv", "a file", "a folder"),
        lambda folder: (folder / "data.csv").mkdir(),
        lambda folder: read_points(folder / "data.csv", ["height"]),
    ),
    Case("--n 0", (f"{SAMPLE} -n 0",), ("-n 0", "at least 1"), api=lambda folder: people(folder).sample(0)),
    Case("--n -1", (f"{SAMPLE} -n -1",), ("-1", "at least 1"), api=lambda folder: people(folder).sample(-1)),
    Case("--n 1e9", (f"{SAMPLE} -n 1e9",), ("1e9",), api=lambda folder: people(folder).sample(1e9)),  # type: ignore[arg-type]
    Case("--steps 0", (f"{SAMPLE} --steps 0",), ("at least one step", "0"), api=lambda f: people(f).sample(3, steps=0)),
    Case("--seed -1", (f"{SAMPLE} --seed -1",), ("--seed -1",), api=lambda f: people(f).sample(3, random_state=-1)),
    Case(
        "--seed abc",
        (f"{SAMPLE} --seed abc",),
        ("--seed", "abc"),
        api=lambda folder: ScoreDensity(random_state="abc").fit(ROWS),
    ),
    Case(
        "eps >= T",
        ("fit moons --rows 100 --out run --level 1e9",),
        ("level", "1e+09", "between"),
        api=lambda folder: ScoreDensity(level=1e9, max_iter=1).fit(ROWS),
    ),
    Case(
        "sigma_min > sigma_max",
        ("sample run --out x.csv",),
        ("config.toml", "0 < sigma_min < sigma_max", "--force"),
        copied(with_other_range),
        lambda folder: VE(5.0, 0.1),
    ),
    Case(
        "unknown SDE",
        ("fit moons --out run --process vq",),
        ("process", "'vq'", "'vp'"),
        api=lambda folder: ScoreDensity("vq").fit(ROWS),
    ),
    Case(
        "checkpoint of another architecture",
        ("sample run --out x.csv",),
        ("run", "not those of its config.toml"),
        copied(with_other_weights),
        lambda folder: load(folder / "run"),
    ),
    Case(
        "checkpoint of a newer version",
        ("sample run --out x.csv",),
        (f"format {checkpoint.FORMAT + 1}", "update scorefield"),
        copied(with_newer_format),
        lambda folder: load(folder / "run"),
    ),
    Case(
        "conditioning of wrong width",
        ("score ../PEOPLE a.npy --out x.csv",),
        ("a.npy", "3 columns", "2 columns"),
        lambda folder: np.save(folder / "a.npy", ROWS),
        lambda folder: people(folder).score_samples(pd.DataFrame(ROWS, columns=["x", "y"])),
    ),
    Case("output exists without --force", (f"{SAMPLE[:-5]}old.csv",), ("old.csv", "--force"), old, writing("old.csv")),
    Case(
        "output not writable", (f"{SAMPLE[:-5]}old.csv/x.csv",), ("old.csv", "make it first"), old, writing("old.csv/x")
    ),
]

LISTED = {case.name: case for case in [*TABLES, *ARRAYS, *PICTURES, *ARGUMENTS]}
"""The 74 inputs that broke other programs, by what they are."""

OPTIONS: list[tuple[str, list[str]]] = [
    ("fit", ["data"]),
    ("fit moons", ["--out"]),
    ("fit moonz --out run", ["moonz"]),
    ("fit moons --out run --steps 0", ["steps", "0"]),
    ("fit moons --out run --steps x", ["steps", "x"]),
    ("fit moons --out run --budget soon", ["--budget", "30s, 5m or 2h", "'soon'"]),
    ("fit moons --out run --budget 0s", ["--budget", "'0s'"]),
    ("fit moons --out run --budget 5s --steps 9", ["both"]),
    ("fit moons --out run --seed -1", ["seed", "-1"]),
    ("fit moons --out run --seed abc", ["seed", "abc"]),
    ("fit moons --out run --predicts eps", ["predicts", "'eps'", "noise"]),
    ("fit moons --out run --objective magic", ["objective", "'magic'", "denoising"]),
    ("fit moons --out run --objective energy-sliced", ["energy-sliced", "--network energy"]),
    ("fit checkerboard --out run --objective explicit", ["explicit", "parzen"]),
    ("fit moons --out run --network cnn", ["network", "'cnn'", "energy"]),
    ("fit moons --out run --level -0.1", ["level", "positive", "-0.1"]),
    ("fit moons --out run --level 1e-200", ["level", "1e-200", "between"]),
    ("fit moons --out run --level 0.1 --objective likelihood", ["likelihood", "--level"]),
    ("compare-objectives moons --out run --rows 0", ["at least one row", "0"]),
    ("fit moons --out run --rows 0", ["at least one row", "0"]),
    ("fit moons --out run --columns x1", ["--columns"]),
    ("fit moons --out run --positive nope", ["nope", "x1, x2"]),
    ("fit moons --out run --bounds x1", ["--bounds", "share=0:1", "'x1'"]),
    ("fit moons --out run --bounds x1=a:b", ["--bounds", "'x1=a:b'"]),
    ("fit moons --out run --bounds x1=5:1", ["x1", "got 5 and 1"]),
    ("fit moons --out run --bounds x1=0:", ["x1", "above 0", "outside"]),
    ("fit moons --out run --positive x1 --bounds x1=0:1", ["x1", "several"]),
    ("fit digits-table --out run --rows 5000", ["1,797", "5,000"]),
    ("fit moons --out run --threads 0", ["--threads", "0"]),
    ("fit moons --out run --device abacus", ["--device", "abacus"]),
    (f"{SAMPLE} -n ten", ["ten"]),
    (f"{SAMPLE[:-5]}x.xlsx", [".xlsx", ".csv"]),
    (f"{SAMPLE[:-5]}no/such/folder/x.csv", ["no/such/folder"]),
    (f"{SAMPLE} --sampler magic", ["sampler", "'magic'", "heun"]),
    ("sample . --out x.csv", ["not a run", "scorefield fit"]),
    ("logprob ../PEOPLE no/such.csv --out x.csv", ["no/such.csv"]),
    ("evaluate .", ["not a run"]),
    ("plot .", ["not a run"]),
    ("density . --out x.csv", ["not a run"]),
    ("density ../PEOPLE --out x.csv", ["one or two columns", "got 3", "--columns height,age"]),
    ("density ../ONE --out x.csv --method magic", ["--method", "flow or path", "'magic'"]),
    ("density ../ONE --out x.csv --points 2", ["--points", "from 3 to", "2"]),
    ("data moonz --out x.csv", ["moonz", "moons"]),
    ("data moons", ["--out"]),
    ("data moons -n 0 --out x.csv", ["0"]),
    ("explode", ["explode"]),
]
"""More that is typed and must be refused, and what must be said."""


def others() -> list[Case]:
    """Return the cases beside those listed: other bad tables, arrays, pictures, labels and options."""
    tables = {name: bad for name, bad in hostile.TABLES.items() if name not in LISTED and name != "3-d"}
    cases = [table_case(name, *bad) for name, bad in tables.items()]
    cases += [Case(command, (command,), tuple(says)) for command, says in OPTIONS]
    for name, (shape, says) in hostile.SHAPES.items():
        if len(shape) in {3, 4}:  # others are tables
            content = hostile.npy(np.zeros(shape, np.uint8))
            cases.append(image_case(f"shape: {name}", partial(one_file, file="a.npy", content=content), says, "a.npy"))
    for name, (file, content, _) in hostile.ARRAYS.items():  # typed, some are taken for tables
        cases.append(image_case(f"images: {name}", partial(one_file, file=file, content=content), [file], file))
    for name, (content, says) in hostile.IDX.items():
        write = in_data(partial(one_file, file="images-idx3-ubyte", content=content))
        cases.append(image_case(f"IDX: {name}", write, says))
    for name, (make, says) in hostile.PICTURES.items():
        cases.append(image_case(f"picture: {name}", in_data(partial(among_good, name="002b.png", make=make)), says))
    for name, (make, says) in hostile.FOLDERS.items():
        cases.append(image_case(f"folder: {name}", in_data(make), says))
    for name, (file, text_or_bytes, says) in hostile.LABELS.items():
        content = text_or_bytes.encode() if isinstance(text_or_bytes, str) else text_or_bytes
        case = image_case(f"labels: {name}", partial(labelled, file=file, content=content), says)
        api = partial(read_labelled, file=file)
        cases.append(replace(case, commands=(f"{case.commands[0]} --labels {file}",), api=api))
    return cases


def labelled(folder: Path, file: str, content: bytes) -> None:
    """Write two pictures and their labels."""
    hostile.write_folder(folder / "data", hostile.levels((2, 4, 4)))
    (folder / file).write_bytes(content)


def read_labelled(folder: Path, file: str) -> object:
    """Return pictures with their labels."""
    return read_images(folder / "data", labels=folder / file)


def listing(root: Path) -> dict[str, tuple[int, int]]:
    """Return what lies below a folder: names with sizes and times."""
    found = {path: path.lstat() for path in root.rglob("*")}
    return {str(path): (stat.st_size, 0 if path.is_dir() else stat.st_mtime_ns) for path, stat in found.items()}


def typed(command: str) -> tuple[int, str, str]:
    """Return exit code, standard output and standard error of a command, run in this process."""
    out, err, before = io.StringIO(), io.StringIO(), signal.getsignal(signal.SIGTERM)
    with (
        patch.object(sys, "argv", ["scorefield", *shlex.split(command)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as stop:
            return int(stop.code or 0), out.getvalue(), err.getvalue()
        except Exception as error:
            return -1, out.getvalue(), f"a traceback: {type(error).__name__}: {error}\n"
        finally:
            signal.signal(signal.SIGTERM, before)


def wrong_with_refusal(code: int, out: str, err: str, says: Iterable[str]) -> str:
    """Return what is wrong with how a command refused; nothing where it is as promised."""
    if code != 2:
        return f"exit code {code}, not 2: {err.strip() or out.strip()}"
    if out or err.count("\n") != 1 or not err.startswith("scorefield: "):
        return f"not one line on standard error: {out + err!r}"
    missing = [fragment for fragment in says if fragment not in err]
    return f"{missing[0]!r} is not in: {err.strip()}" if missing else ""


def by_command(case: Case, root: Path) -> Iterator[tuple[str, str]]:
    """Yield what a case's commands say and what is wrong with it, in its folder."""
    for command in case.commands:
        before = listing(root)
        code, out, err = typed(command)
        if case.works:
            yield err, f"exit code {code}: {err.strip()}" if code else ""
            continue
        changed = sorted(set(before.items()) ^ set(listing(root).items()))
        left = f"left {Path(changed[0][0]).name}" if changed else ""
        yield err, wrong_with_refusal(code, out, err, case.says) or left
    if case.works:
        made = [path for path in (Path("out.csv"), Path("out.npy")) if path.is_file()]
        finite = [np.isfinite(numbers(path)).all() and numbers(path).size > 0 for path in made]
        yield "", "" if finite == [True] else "no finite output"


def numbers(path: Path) -> np.ndarray:
    """Return the numbers of a file that a command wrote."""
    return (np.load(path) if path.suffix == ".npy" else pd.read_csv(path).to_numpy()).astype(float)


def by_python(case: Case, folder: Path) -> tuple[str, str]:
    """Return what Python says to a case, and what is wrong with it."""
    if case.api is None:
        return "", ""
    try:
        result = case.api(folder)
    except (ValueError, TypeError) as error:
        return str(error), f"refused: {error}" if case.api_works else ""
    except Exception as error:
        return "", f"{type(error).__name__}: {error}"
    if not case.api_works:
        return "", "silently accepted"
    return "", "" if np.isfinite(np.asarray(result)).all() else "not finite"


def outcomes(cases: Iterable[Case]) -> Iterator[Found]:
    """Yield what becomes of cases, by the command line and from Python."""
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        root = Path(name).resolve()
        make_runs(root)
        for number, case in enumerate(cases):
            folder = root / str(number)
            folder.mkdir()
            os.chdir(folder)
            case.write(folder)
            began = time.process_time()
            for said, problem in by_command(case, root):
                yield Found(f"{case.name}, typed", told(said, root), problem, time.process_time() - began)
                began = time.process_time()
            said, problem = by_python(case, folder)
            yield Found(f"{case.name}, from Python", told(said, root), problem, time.process_time() - began)
            os.chdir(root)
            shutil.rmtree(folder)


def told(said: str, root: Path) -> str:
    """Return what was said without the name of the temporary folder."""
    return said.replace(str(root), "")


def make_runs(root: Path) -> None:
    """Make the runs that cases name."""
    draw = np.random.default_rng(0)
    height, age = draw.normal(170, 9, 40), draw.integers(18, 80, 40)
    frame = pd.DataFrame({"height": height, "age": age, "smoker": draw.random(40) < 0.3})
    ScoreDensity(max_iter=2, random_state=0).fit(frame).save(root / "PEOPLE")
    ScoreDensity(max_iter=2, random_state=0).fit(frame[["height"]]).save(root / "ONE")


def without_asserts(size: str) -> list[Found]:
    """Return the outcomes of the whole corpus in a child process under `python -O`."""
    command = [sys.executable, "-O", "-m", "scorefield.selftest.inputs.corpus", size]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [Found(**one) for one in json.loads(done.stdout)]


def chosen(size: str) -> list[Case]:
    """Return the cases of a size: of the smoke form those that are refused while they are read."""
    listed = list(LISTED.values())
    return [case for case in listed if not case.works] if size == "smoke" else listed + others()


def run(plan: Plan) -> Iterator[Check]:
    """Count inputs that do not become what they should."""
    listed, more, slowest = Failures("the 74 listed inputs"), Failures("other bad input"), Found("", "", "", 0.0)
    before = list(outcomes(chosen(plan.size)))
    for found in before:
        (listed if found.name.rpartition(", ")[0] in LISTED else more).add(found.name, found.problem)
        slowest = max(slowest, found, key=lambda one: one.seconds)
    yield listed.check()
    yield Check(f"processor seconds of the slowest case, {slowest.name}", slowest.seconds, LONGEST, len(before))
    if plan.size == "smoke":
        return
    yield more.check()
    same = Failures("said otherwise under python -O")
    for plain, optimised in zip(before, without_asserts(plan.size), strict=True):
        same.add(plain.name, "" if plain[:3] == optimised[:3] else f"{plain.said!r} became {optimised.said!r}")
    yield same.check()


def fault() -> AbstractContextManager:
    """Plant: numbers of text files are no longer checked."""
    return patch.object(text, "check_values", lambda *_: None)


TESTS = {"R21": Entry("bad and unusual input", run, fault, smoke=True)}


if __name__ == "__main__":
    print(json.dumps([one._asdict() for one in outcomes(chosen(sys.argv[1]))]))
