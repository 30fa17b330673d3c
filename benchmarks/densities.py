"""How close a fit of 30 seconds comes to the truth, beside three well-known estimators on the same points and seconds.

For each data set and seed: 50,000 points; `scorefield fit` with its budget and nothing else; log p - log q on 20,000
fresh points, the same for all methods (`peers`). One thread; results go to benchmarks/results/.

    python benchmarks/densities.py [--seeds 0 1 2 3 4] [--budget 30] [--names rings moons ...]
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import peers
import torch
from threadpoolctl import threadpool_limits

import scorefield
from scorefield.data import toys
from scorefield.inference.likelihood import log_prob

Method = Callable[[np.ndarray], np.ndarray]

RESULTS = Path(__file__).parent / "results" / "densities.json"
NAMES = ["8gaussians", "moons", "rings", "checkerboard"]
FRESH = 20_000


def fit_ours(name: str, seed: int, seconds: float, folder: Path) -> float:
    """Fit through the command line, as a user would; return the seconds of the training loop."""
    data, run = folder / f"{name}-{seed}.parquet", folder / f"{name}-{seed}"
    toys.load(name, 50_000, seed).to_parquet(data)
    command = [sys.executable, "-m", "scorefield", "fit", data, "--out", run, "--seed", seed]
    subprocess.run([*map(str, command), "--budget", f"{seconds}s", "--quiet"], check=True)
    return json.loads((run / "timing.jsonl").read_text().splitlines()[-1])["seconds"]


def ours(name: str, seed: int, folder: Path) -> Method:
    """Return the log-density of a fitted run, by the flow with a tolerance of 1e-4 a step."""
    estimator = scorefield.load(folder / f"{name}-{seed}")
    transform = estimator.transform_

    def log_density(points: np.ndarray) -> np.ndarray:
        frame = pd.DataFrame(points, columns=list(transform.names))
        value = log_prob(estimator.model_.double(), transform.forward(frame), tol=1e-4).value
        return (value + transform.log_jacobian(frame)).numpy()

    return log_density


def measure(name: str, seed: int, seconds: float, folder: Path) -> dict:
    """Return the mean of log p - log q and its standard error for each method, on the same fresh points."""
    frame = toys.load(name, 50_000, seed).to_numpy(copy=True)
    x = toys.load(name, FRESH, 1000 + seed).to_numpy(copy=True)
    truth = toys.TOYS[name].density.log_prob(torch.from_numpy(x)).numpy()
    mean, std = frame.mean(0), frame.std(0)
    train, points = (frame - mean) / std, (x - mean) / std
    methods = {
        "scorefield": lambda: ours(name, seed, folder)(x),
        "KDE": lambda: peers.kde(train)(points) - np.log(std).sum(),
        "GMM": lambda: peers.gmm(train)(points) - np.log(std).sum(),
        "NSF": lambda: peers.nsf(train, seconds, seed)(points) - np.log(std).sum(),
    }
    row: dict = {"name": name, "seed": seed}
    for method, log_density in methods.items():
        gap = truth - log_density()
        row[method] = {"gap": gap.mean(), "stderr": gap.std() / math.sqrt(FRESH)}
        print(name, seed, method, {k: round(float(v), 4) for k, v in row[method].items()}, flush=True)
    return row


def table(rows: list[dict]) -> str:
    """Return the table of medians and ranges for docs/benchmarks.md."""
    methods = ["scorefield", "KDE", "GMM", "NSF"]
    lines = ["| data | " + " | ".join(methods) + " |", "|---" * (len(methods) + 1) + "|"]
    frame = pd.DataFrame([{"name": r["name"]} | {m: r[m]["gap"] for m in methods} for r in rows])
    for name, part in frame.groupby("name", sort=False):
        cells = [f"{part[m].median():.3f} ({part[m].min():.3f} to {part[m].max():.3f})" for m in methods]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure everything, keep the numbers, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--names", nargs="+", default=NAMES)
    parser.add_argument("--budget", type=float, default=30)
    options = parser.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(limits=1)
    with tempfile.TemporaryDirectory() as folder:
        cases = [(name, seed) for seed in options.seeds for name in options.names]
        clocks = {case: fit_ours(*case, options.budget, Path(folder)) for case in cases}
        print("seconds of training", clocks, flush=True)
        rows = []
        for case in cases:
            rows.append(measure(*case, options.budget, Path(folder)) | {"seconds": clocks[case]})
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps({"budget": options.budget, "rows": rows}, indent=1))
    print(table(rows))


if __name__ == "__main__":
    main()
