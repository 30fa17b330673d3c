"""What a user asks of `fit`: options to a request that can be kept, its rows, the problem that they make."""

import dataclasses
import math
import re
from pathlib import Path

import pandas as pd

from scorefield import data
from scorefield.cli import entry as cli
from scorefield.data import toys
from scorefield.kinds.tables.columns import Bounds
from scorefield.kinds.tables.problem import TableProblem, in_model_units
from scorefield.kinds.tables.units import TableTransform
from scorefield.training.config import Config

DEFAULT_BUDGET = "30s"

BUILT_IN_IMAGES = ("digits", "mnist")
"""Images by name: scikit-learn's digits, 8 x 8 in 17 levels, and MNIST from the user's files."""


def request_of(options: cli.Fit) -> dict[str, object]:
    """Return what was asked for, without what was left out: the options that decide a run."""
    asked = dataclasses.asdict(options)
    names = (
        "data",
        "budget",
        "steps",
        "seed",
        "process",
        "objective",
        "predicts",
        "columns",
        "drop",
        "rows",
        "positive",
        "bounds",
        "network",
        "level",
        "labels",
        "layout",
        "resize",
        "crop",
        "skip_bad",
    )
    if options.budget is not None and options.steps is not None:
        raise ValueError("expected --budget or --steps; got both; leave one out")
    if options.seed < 0:
        raise ValueError(f"--seed must be at least 0; got {options.seed}")
    seconds(options.budget or DEFAULT_BUDGET)
    if options.budget is None and options.steps is None:
        asked["budget"] = DEFAULT_BUDGET
    if options.data not in toys.TOYS and options.data not in BUILT_IN_IMAGES:
        asked["data"] = str(Path(options.data).resolve())
    if options.labels is not None:
        asked["labels"] = str(Path(options.labels).resolve())
    return {name: asked[name] for name in names if asked[name] is not None and asked[name] is not False}


def parts_of(request: dict) -> tuple[list[pd.DataFrame], str, list[str]]:
    """Return the training, validation and test rows of what a request names, the digest of the whole, and notes."""
    table = _load(request)
    parts = [table.frame.iloc[rows] for rows in data.split(len(table.frame), request["seed"])]
    return parts, table.digest, table.notes


def _load(request: dict) -> data.Table:
    """Return the table that a request names, a file or a built-in data set, and notes on how it was read."""
    columns, drop = (re.split(r"\s*,\s*", request[key]) if key in request else None for key in ("columns", "drop"))
    if request["data"] in toys.TOYS:
        if columns or drop:
            raise ValueError(
                f"--columns and --drop are for files; {request['data']} is built in: write it to a file first"
            )
        frame = toys.load(request["data"], request.get("rows"), request["seed"])
        return data.Table(frame, [], data.digest(frame))
    if "rows" in request:
        raise ValueError("--rows is for built-in data sets; leave it out for a file")
    return data.read_table(request["data"], columns, drop, request["seed"])


def bounds_of(options: cli.Fit) -> Bounds:
    """Return the bounds of columns that --positive and --bounds ask for. Raises ValueError for what is no bound."""
    found: Bounds = {name: (0.0, math.inf) for name in re.split(r"\s*,\s*", options.positive or "") if name}
    for part in re.split(r"\s*,\s*", options.bounds or ""):
        name, sides = part.rpartition("=")[::2]
        low, colon, high = sides.partition(":")
        try:
            limits = float(low or "-inf"), float(high or "inf")
        except ValueError:
            colon = ""
        if part and not (name and colon):
            raise ValueError(f"--bounds must be like share=0:1,age=18:,loss=:0; got {part!r}")
        if name in found:
            raise ValueError(f"expected one limit for {name}; got several in --positive and --bounds")
        if part:
            found[name] = limits
    return found


def problem_of(
    config: Config, transform: TableTransform, request: dict, parts: list[pd.DataFrame], device: str
) -> TableProblem:
    """Return the training and the validation rows in model units, integers dequantised, and the truth to learn."""
    generator = config.generator("dequantise")
    train, validation = (transform.forward(part, generator) for part in parts[:2])
    truth = None
    if config.objective == "explicit":
        toy = toys.TOYS.get(request["data"])
        truth = in_model_units(None if toy is None else toy.density, transform, parts[0])
    return TableProblem(train, validation, transform.white, truth=truth, device=device)


def seconds(text: str) -> float:
    """Return a time such as 30s, 5m, 2h or 30 in seconds. Raises ValueError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([smh]?)", text.strip())
    if not match or not float(match[1]) > 0:
        raise ValueError(f"--budget must be a time such as 30s, 5m or 2h; got {text!r}")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]
