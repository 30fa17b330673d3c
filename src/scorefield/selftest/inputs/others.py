"""Bad input beside the listed: all other files of `hostile`, and more that is typed."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from scorefield.data import read_images
from scorefield.selftest.inputs import hostile, makers
from scorefield.selftest.inputs.cases import Case, among_good, image_case, in_data, one_file, table_case
from scorefield.selftest.inputs.listed import LISTED, SAMPLE

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
            content = makers.npy(np.zeros(shape, np.uint8))
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
    makers.write_folder(folder / "data", makers.levels((2, 4, 4)))
    (folder / file).write_bytes(content)


def read_labelled(folder: Path, file: str) -> object:
    """Return pictures with their labels."""
    return read_images(folder / "data", labels=folder / file)
