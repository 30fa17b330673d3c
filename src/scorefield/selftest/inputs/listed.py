"""The 74 inputs that broke other programs: tables, arrays, pictures and arguments."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from scorefield.data import check_output, read_points, read_table
from scorefield.diffusion.published import VE
from scorefield.kinds.loading import load
from scorefield.kinds.tables.estimator import ScoreDensity
from scorefield.runs import checkpoint
from scorefield.selftest.inputs import hostile, makers
from scorefield.selftest.inputs.cases import (
    ROWS,
    Case,
    among_good,
    array_case,
    csv_of,
    image_case,
    in_data,
    learned,
    nothing,
    pictures,
    table_case,
)


def all_modes(folder: Path) -> None:
    """Write a picture of every mode that PNG and JPEG have."""
    grey, colour = makers.levels((6, 5)), makers.levels((6, 5, 3))
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
    makers.reseal(next((run / "checkpoints").iterdir()), format=checkpoint.FORMAT + 1)


def writing(name: str) -> Callable[[Path], object]:
    """Return what writes a table over something."""
    return lambda folder: check_output(folder / name, force=False)


def people(folder: Path) -> ScoreDensity:
    """Return the estimator of the run PEOPLE."""
    return load(folder.parent / "PEOPLE")


def forbidden(call: Callable[..., object], *given: object, **options: object) -> object:
    """Return what is answered to arguments that the types forbid."""
    return call(*given, **options)


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
    image_case("no readable image", in_data(lambda f: makers.truncated(f / "0.png")), ["0.png", "readable PNG"]),
    image_case(
        "one corrupt among many",
        in_data(partial(among_good, name="002b.png", make=makers.truncated)),
        ["002b.png", "readable PNG", "--skip-bad"],
    ),
    image_case("mixed sizes", in_data(hostile.FOLDERS["another size"][0]), hostile.FOLDERS["another size"][1]),
    image_case("mixed modes", in_data(all_modes), ["5.png", "levels of 8 bits, as '0.png'", "save all with the same"]),
    replace(
        image_case(
            "HWC vs CHW array",
            lambda folder: np.save(folder / "a.npy", makers.levels((7, 3, 9, 3))),
            ["a.npy", "HWC or CHW", "--layout"],
            "a.npy",
        ),
        api=lambda folder: pictures(makers.levels((7, 3, 9, 3))),
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
    Case(
        "unknown option",
        ("fit moons --out run --bogus 1",),
        ("--bogus",),
        api=lambda _: forbidden(ScoreDensity, bogus=1),
    ),
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
    Case("--n 1e9", (f"{SAMPLE} -n 1e9",), ("1e9",), api=lambda folder: forbidden(people(folder).sample, 1e9)),
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
