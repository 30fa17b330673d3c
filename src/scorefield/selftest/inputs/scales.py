"""R24: units do not matter: rows times a number and plus another give the same training, samples and densities."""

import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch

from scorefield.kinds.tables.estimator import ScoreDensity
from scorefield.kinds.tables.units import TableTransform
from scorefield.numerics.tensors import normal, spawn
from scorefield.selftest.report import Check, Entry, Failures, Plan, Worst

ROWS, STEPS, DRAWN = 40, 40, 500

MOVED = 1e4
"""What is added to rows."""

SCALES = (1e-6, 1e-3, 1e-1, 1e1, 1e3, 1e6)
"""The units."""

EXTREME = (1e-300, 1e140)
"""Units in which the coordinates must be the same too; so large or small, no density fits into a float."""

MIXED = np.array([1e-6, 1.0, 1e6])


def rows_of(seed: int) -> np.ndarray:
    """Return rows of two correlated columns and a skewed one."""
    z = normal((ROWS, 3), torch.empty(0, dtype=torch.float64), spawn(seed, "rows")).numpy()
    return np.column_stack([z[:, 0], 0.6 * z[:, 0] + 0.8 * z[:, 1], np.exp(z[:, 2])])


def table_of(x: np.ndarray) -> pd.DataFrame:
    """Return rows as a table."""
    return pd.DataFrame(x, columns=list("abc"))


def fitted(x: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Train on rows; return the losses, samples, and log-densities of the rows."""
    estimator = ScoreDensity(max_iter=STEPS, random_state=seed).fit(table_of(x))
    samples = np.asarray(estimator.sample(DRAWN, random_state=seed))
    return {"losses": np.array(estimator.losses_), "samples": samples, "logs": estimator.score_samples(table_of(x))}


def cases(plan: Plan) -> Iterator[tuple[str, np.ndarray | float, float]]:
    """Yield units and shifts, y = x unit + shift; each column its own unit in the last."""
    if plan.size == "full":
        yield from ((f"times {scale:g}, plus {shift:g}", scale, shift) for scale in SCALES for shift in (0.0, MOVED))
    else:
        yield "times 1e-6, plus 1e4", 1e-6, MOVED
        yield "times 1e6", 1e6, 0.0
    yield "columns in units from 1e-6 to 1e6", MIXED, 0.0


def trained(plan: Plan) -> Iterator[Check]:
    """Train on the same rows in different units."""
    losses, samples = Worst("losses, relative", 1e-5), Worst("samples, in standard deviations", 1e-4)
    logs = Worst("log-densities less -d log unit, in nats", 1e-4)
    x = rows_of(plan.seed)
    plain = fitted(x, plan.seed)
    for name, scale, shift in cases(plan):
        found = fitted(x * scale + shift, plan.seed)
        losses.add(name, float(np.abs(found["losses"] / plain["losses"] - 1).max()), len(plain["losses"]))
        error = ((found["samples"] - shift) / scale - plain["samples"]) / x.std(0)
        samples.add(name, float(np.abs(error).max()), error.size)
        change = found["logs"] - plain["logs"] + np.log(np.broadcast_to(scale, 3)).sum()
        logs.add(name, float(np.abs(change).max()), ROWS)
    yield from (losses.check(), samples.check(), logs.check())


def mapped(plan: Plan) -> Iterator[Check]:
    """Map the same rows in different units, the most extreme too: coordinates and log-Jacobian."""
    places, slopes = Worst("coordinates", 1e-8), Worst("log-Jacobian less -d log unit", 1e-8)
    x = rows_of(plan.seed)
    plain = TableTransform.fit(table_of(x), bend=False)
    for scale in (*SCALES, *EXTREME):
        for shift in (0.0, MOVED):
            y = table_of((x + shift) * scale)
            moved = TableTransform.fit(y, bend=False)
            error = (moved.forward(y) - plain.forward(table_of(x))).abs().max()
            places.add(f"plus {shift:g}, times {scale:g}", float(error), ROWS)
            change = moved.log_jacobian(y) - plain.log_jacobian(table_of(x)) + 3 * math.log(scale)
            slopes.add(f"plus {shift:g}, times {scale:g}", float(change.abs().max()), ROWS)
    yield from (places.check(), slopes.check())


def constants(plan: Plan) -> Check:
    """Fit a table with constant columns by the command line: told, and the same in every sample."""
    found, values = Failures("constant columns are told and reproduced exactly"), {"tenth": 0.1, "many": 123456789}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table_of(rows_of(plan.seed)).assign(**values).to_csv(folder / "data.csv", index=False)
        fit = ["fit", "data.csv", "--out", "run", "--steps", "5"]
        draw = ["sample", "run", "-n", "7", "--out", "drawn.csv"]
        runs = []
        for arguments in (fit, draw):
            command = [sys.executable, "-m", "scorefield", *arguments]
            runs.append(subprocess.run(command, cwd=folder, capture_output=True, text=True))
            if runs[-1].returncode:
                found.add(arguments[0], runs[-1].stderr or "failed")
                return found.check()
        told = runs[0].stdout + runs[0].stderr
        drawn = pd.read_csv(folder / "drawn.csv")
    for column, value in values.items():
        found.add(f"{column} is told", None if f"{column} is constant" in told else "no word of it")
        found.add(f"{column} in samples", None if (drawn[column] == value).all() else f"got {drawn[column].tolist()}")
    return found.check()


def run(plan: Plan) -> Iterator[Check]:
    """Compare everything in other units."""
    yield from mapped(plan)
    if plan.size != "smoke":
        yield constants(plan)
        yield from trained(plan)


def no_units() -> AbstractContextManager:
    """Plant a log-Jacobian without the slopes of the columns, which hold their units."""
    return patch.object(TableTransform, "log_jacobian", lambda self, frame: self._log_volume.expand(len(frame)))


TESTS = {"R24": Entry("units of the data", run, no_units, smoke=True)}
