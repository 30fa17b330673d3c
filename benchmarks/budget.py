"""What the schedule of a budget costs, and how well a budget is kept.

`schedule`: the level rate that falls over the last fifth, beside the cosine from the first to the last step, at equal
steps: nats per row of four built-in densities on fresh points, and the fidelity of digits. `kept`: seconds of training
against the budget, for tables and digits, quiet and beside two busy processes. `whole`: seconds of a whole `fit` on one
core. All through the command line; results go to benchmarks/results/budget.json.

    python benchmarks/budget.py schedule [--seeds 0 1 2 3 4] [--steps 4000] [--names rings moons ... digits]
    python benchmarks/budget.py kept [--busy 0 2]
    python benchmarks/budget.py whole
"""

import argparse
import itertools
import json
import math
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import scorefield
from scorefield.data import toys
from scorefield.inference.likelihood import log_prob

RESULTS = Path(__file__).parent / "results" / "budget.json"

NAMES = ["8gaussians", "moons", "rings", "checkerboard"]
ROWS, FRESH = 50_000, 20_000
DIGITS_STEPS = 900
"""Steps of the digits, about what 60 s on two quiet cores are."""

COSINE = """
from scorefield.cli import main
from scorefield.runs import resuming
from scorefield.training.budget import Cosine
resuming.schedule_of = lambda run, seconds: Cosine(run.config.steps)
main()
"""
"""The command line with the schedule of before."""

KEPT = [
    *itertools.product([("moons", "--rows", 1_000), ("rings", "--rows", 100_000)], [3, 30, 300]),
    *itertools.product([("digits",)], [10, 60]),
]
"""Data and budgets in seconds."""

BUSY = "while True: pass"


def command(*arguments: object, code: str | None = None) -> str:
    """Run scorefield, or Python code in its place; return what it printed, the reason where a budget is too short."""
    start = ["-m", "scorefield"] if code is None else ["-c", code]
    done = subprocess.run([sys.executable, *start, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode == 2 and "too short" in done.stderr:
        return done.stderr
    done.check_returncode()
    return done.stdout


def keep(kind: str, row: dict) -> None:
    """Add a row to the results, in place of one of the same case."""
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    measured = ("case", "processor")
    same = lambda other: other["case"] == row["case"]
    rows = [other for other in found.get(kind, []) if not same(other)]
    RESULTS.write_text(json.dumps(found | {kind: [*rows, row | {"processor": processor()}]}, indent=1))
    print({name: value for name, value in row.items() if name not in measured}, row["case"], flush=True)


def processor() -> str:
    """Return the name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())


def gaps(run: Path, name: str, seed: int) -> np.ndarray:
    """Return log p - log q of fresh points, by the flow with a tolerance of 1e-4 a step."""
    estimator = scorefield.load(run)
    frame = toys.load(name, FRESH, 1000 + seed)
    truth = toys.TOYS[name].density.log_prob(torch.from_numpy(frame.to_numpy(copy=True)))
    transform = estimator.transform_
    found = log_prob(estimator.model_.double(), transform.forward(frame), tol=1e-4, errors=False).value
    return (truth - found - transform.log_jacobian(frame)).numpy()


def compare_tables(name: str, seed: int, steps: int, folder: Path) -> None:
    """Keep the nats that each schedule is short of the truth, and the standard error of their difference by points."""
    data = folder / "points.parquet"
    toys.load(name, ROWS, seed).to_parquet(data)
    found = {}
    for schedule, code in (("falling", None), ("cosine", COSINE)):
        run = folder / schedule
        command("fit", data, "--out", run, "--steps", steps, "--seed", seed, "--force", "--quiet", code=code)
        found[schedule] = gaps(run, name, seed)
    apart = found["falling"] - found["cosine"]
    row = {schedule: float(gap.mean()) for schedule, gap in found.items()}
    error = float(apart.std()) / math.sqrt(len(apart))
    keep("schedule", {"case": [name, seed, steps]} | row | {"difference": float(apart.mean()), "stderr": error})


def compare_digits(seed: int, folder: Path) -> None:
    """Keep what `evaluate` says of digits by each schedule."""
    row: dict = {"case": ["digits", seed, DIGITS_STEPS]}
    for schedule, code in (("falling", None), ("cosine", COSINE)):
        run = folder / schedule
        options = ("--out", run, "--steps", DIGITS_STEPS, "--seed", seed, "--force", "--quiet")
        command("fit", "digits", *options, code=code)
        row[schedule] = json.loads(command("evaluate", run, "--json", "--seed", seed)) | {"run": schedule}
    keep("schedule", row)


def summary() -> str:
    """Return the mean paired difference of the schedules and its standard error, over data sets and seeds."""
    rows = json.loads(RESULTS.read_text())["schedule"]
    found = np.array([row["difference"] for row in rows if "difference" in row])
    error = found.std(ddof=1) / math.sqrt(len(found))
    return f"falling less cosine: {found.mean():.5f} +- {error:.5f} nats over {len(found)} pairs"


@contextmanager
def beside(busy: int) -> Iterator[None]:
    """Keep so many other processes busy."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def fit_in(data: tuple[object, ...], seconds: float, folder: Path) -> dict:
    """Fit with a budget; return its steps, the seconds of training and of the whole command, or why it was refused."""
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)  # fit would find it finished
    began = time.perf_counter()
    told = command("fit", *data, "--out", run, "--budget", f"{seconds}s", "--force", "--quiet")
    whole = time.perf_counter() - began
    if told:
        return {"budget": seconds, "refused": told.strip()}
    last = json.loads((run / "timing.jsonl").read_text().splitlines()[-1])
    return {"budget": seconds, "training": last["seconds"], "whole": round(whole, 1), "steps": last["step"]}


def wide(folder: Path) -> Path:
    """Write a table of 50,000 x 10: three clusters in ten correlated columns."""
    draw = np.random.Generator(np.random.PCG64(0))
    mixing, centres = draw.normal(size=(10, 10)), 3 * draw.normal(size=(3, 10))
    rows = centres[draw.integers(3, size=ROWS)] + draw.normal(size=(ROWS, 10)) @ mixing
    pd.DataFrame(rows, columns=[f"x{i}" for i in range(10)]).to_parquet(folder / "wide.parquet")
    return folder / "wide.parquet"


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["schedule", "kept", "whole"])
    parser.add_argument("--seeds", type=int, nargs="+", default=range(5))
    parser.add_argument("--names", nargs="+", default=[*NAMES, "digits"])
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.what == "schedule":
            for seed, data in itertools.product(options.seeds, options.names):
                if data == "digits":
                    compare_digits(seed, folder)
                else:
                    compare_tables(data, seed, options.steps, folder)
            print(summary())
        if options.what == "kept":
            for (data, seconds), busy in itertools.product(KEPT, options.busy):
                with beside(busy):
                    keep("kept", {"case": [*data, seconds, busy]} | fit_in(data, seconds, folder))
        if options.what == "whole":
            for case, data in (("50,000 x 10", (wide(folder), "--threads", 1)), ("1,437 x 64", ("digits-table",))):
                keep("whole", {"case": [case]} | fit_in(data, 30, folder))


if __name__ == "__main__":
    main()
