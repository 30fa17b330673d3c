"""Peak memory and time of `fit` and `logprob` on files larger than the memory that they may take.

Makes a .npy and a .parquet file of 4 GB in a temporary folder, fits each for a few seconds, and asks for the
log-density of every row: that would take days, so it is stopped after a while. A smaller file is answered whole.

    python benchmarks/memory.py
"""

import json
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
PATIENCE = 120
"""Seconds after which a command is stopped."""


def blocks(rows: int) -> Iterator[pd.DataFrame]:
    """Yield correlated columns with two modes, a block of rows after another."""
    draw = np.random.Generator(np.random.PCG64(0))
    mixing = draw.normal(size=(COLUMNS, COLUMNS))
    for start in range(0, rows, 2**16):
        n = min(2**16, rows - start)
        points = draw.normal(size=(n, COLUMNS)) @ mixing + 3 * draw.choice([-1, 1], (n, 1))
        yield pd.DataFrame(points, columns=[f"x{i + 1}" for i in range(COLUMNS)])


def measure(*arguments: object) -> dict:
    """Run the command line and return its peak resident memory in MB, its seconds and how it ended."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "scorefield", *map(str, arguments)])
    ended, status, usage = 0, 0, None
    while not ended:
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if not ended and time.perf_counter() - began > PATIENCE:
            process.kill()
        time.sleep(0.1)
    seconds = time.perf_counter() - began
    code = os.waitstatus_to_exitcode(status)
    peak = usage.ru_maxrss / 1000 * (1.024 if sys.platform == "linux" else 1e-3)
    return {"peak_mb": round(peak), "seconds": round(seconds, 1), "code": code}


def main() -> None:
    """Measure, print and keep the numbers."""
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        few = folder / "few.parquet"
        write_blocks(few, blocks(20_000), force=False)
        for suffix in (".npy", ".parquet"):
            path, run = folder / f"many{suffix}", folder / f"run{suffix}"
            write_blocks(path, blocks(ROWS), force=False)
            size = path.stat().st_size / 1e9
            commands = {
                "fit": ("fit", path, "--out", run, "--budget", "5s"),
                "logprob": ("logprob", run, path, "--out", folder / "never.npy"),
                "logprob of 20,000 rows": ("logprob", run, few, "--out", folder / f"few{suffix}.npy"),
            }
            for command, arguments in commands.items():
                results.append({"command": command, "file": f"{size:.1f} GB{suffix}"} | measure(*arguments))
                print(results[-1], flush=True)
            path.unlink()
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "memory.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
