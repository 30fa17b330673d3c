"""Tables as `fit` reads them: what a request names, its training, validation and test rows, bounds of columns."""

import math
import re
from dataclasses import dataclass

import pandas as pd

from scorefield import data
from scorefield.data import toys
from scorefield.kinds.kind import Request
from scorefield.kinds.tables.columns import Bounds


@dataclass(frozen=True)
class TableSource:
    """The training, validation and test rows of a table, the digest of the whole, and notes on how it was read."""

    name: str
    parts: list[pd.DataFrame]
    digest: str
    notes: list[str]

    @property
    def counts(self) -> dict[str, int]:
        """How many rows each part has."""
        return dict(zip(("train", "validation", "test"), map(len, self.parts), strict=True))

    @property
    def known(self) -> pd.DataFrame:
        """The rows from which everything is learned: to train and to validate."""
        return pd.concat(self.parts[:2], ignore_index=True)


def read(request: Request) -> TableSource:
    """Return the rows of what a request names, a file or a built-in data set. Raises ValueError as the readers do."""
    table = _load(request)
    parts = [table.frame.iloc[rows] for rows in data.split(len(table.frame), request["seed"])]
    return TableSource(request["data"], parts, table.digest, table.notes)


def _load(request: Request) -> data.Table:
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


def bounds_of(request: Request) -> Bounds:
    """Return the bounds of columns that --positive and --bounds ask for. Raises ValueError for what is no bound."""
    found: Bounds = {name: (0.0, math.inf) for name in re.split(r"\s*,\s*", request.get("positive", "")) if name}
    for part in re.split(r"\s*,\s*", request.get("bounds", "")):
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
