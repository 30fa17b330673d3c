"""What a user asks of `fit`: options to a request that can be kept, and a time in seconds."""

import dataclasses
import re
from pathlib import Path

from scorefield.cli.options import Fit
from scorefield.kinds.kind import Request
from scorefield.kinds.registry import KINDS

DEFAULT_BUDGET = "30s"


def request_of(options: Fit) -> Request:
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
    if options.steps is not None and options.steps < 1:
        raise ValueError(f"--steps must be at least 1; got {options.steps}")
    if options.seed < 0:
        raise ValueError(f"--seed must be at least 0; got {options.seed}")
    seconds(options.budget or DEFAULT_BUDGET)
    if options.budget is None and options.steps is None:
        asked["budget"] = DEFAULT_BUDGET
    if not any(kind.built_in(options.data) for kind in KINDS.values()):
        asked["data"] = str(Path(options.data).resolve())
    if options.labels is not None:
        asked["labels"] = str(Path(options.labels).resolve())
    return {name: asked[name] for name in names if asked[name] is not None and asked[name] is not False}


def seconds(text: str) -> float:
    """Return a time such as 30s, 5m, 2h or 30 in seconds. Raises ValueError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([smh]?)", text.strip())
    if not match or not float(match[1]) > 0:
        raise ValueError(f"--budget must be a time such as 30s, 5m or 2h; got {text!r}")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]
