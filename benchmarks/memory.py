"""Peak memory and time of the command line on files larger than the memory that it may take.

Makes a .npy and a .parquet file of 4 GB in a temporary folder, fits each for a few seconds and asks for the log-density
of every row: that would take days, so it is stopped after a while. Smaller files are answered whole.

    python benchmarks/memory.py
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from scorefield.data import write_blocks

HERE = Path(__file__).parent
ROWS, COLUMNS = 50_000_000, 10
PATIENCE = 100
"""Seconds after which the log-density of all rows is given up."""


def blocks(rows: int) -> Iterator[pd.DataFrame]:
    """Yield correlated columns with two modes, a block of rows after another."""
    draw = np.random.Generator(np.random.PCG64(0))
    mixing = draw.normal(size=(COLUMNS, COLUMNS))
    for start in range(0, rows, 2**16):
        n = min(2**16, rows - start)
        points = draw.normal(size=(n, COLUMNS)) @ mixing + 3 * draw.choice([-1, 1], (n, 1))
        yield pd.DataFrame(points, columns=[f"x{i + 1}" for i in range(COLUMNS)])


def measure(arguments: tuple, patience: float = math.inf) -> dict:
    """Run the command line, for so many seconds at most; return its peak resident memory, seconds and exit code."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "scorefield", *map(str, arguments)])
    ended = 0
    while not ended:
        time.sleep(0.1)
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if not ended and time.perf_counter() - began > patience:
            process.terminate()
            patience = math.inf
    seconds = round(time.perf_counter() - began, 1)
    return {"peak_mb": round(usage.ru_maxrss * 1.024e-3), "seconds": seconds, "code": os.waitstatus_to_exitcode(status)}


def main() -> None:
    """Measure, print and keep the numbers."""
    results = []

    def record(command: str, path: Path, measured: dict) -> None:
        size = f"{path.stat().st_size / 1e9:.3g} GB {path.suffix}"
        results.append({"command": command, "file": size} | measured)
        print(results[-1], flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for suffix in (".npy", ".parquet"):
            path, run = folder / f"all{suffix}", folder / f"run{suffix}"
            write_blocks(path, blocks(ROWS), force=False)
            record("fit", path, measure(("fit", path, "--out", run, "--budget", "5s")))
            record("logprob", path, measure(("logprob", run, path, "--out", folder / "never.npy"), PATIENCE))
            path.unlink()
        for command, rows in (("logprob", 1_000), ("logprob", 4_000), ("score", 50_000), ("score", 500_000)):
            path = folder / f"{rows}.npy"
            write_blocks(path, blocks(rows), force=True)
            measured = measure((command, run, path, "--out", folder / "answers.npy", "--force"))
            record(f"{command} of {rows:,} rows", path, measured)
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "memory.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
