"""How well held-out rows of small tables are predicted, beside four estimators tuned by inner validation.

wine, breast_cancer and diabetes (scikit-learn): two-valued columns are left out and named, every column is spread over
its resolution with the same draws for all methods and z-scored; repeated 5-fold cross-validation; nats per row. The
training rows go as CSV through the command line, `fit --budget 30s` with nothing else.
rings and a mixture of three correlated Gaussians in ten dimensions at 100, 1,000 and 10,000 rows: log p - log q on
fresh points. Differences are paired, row by row; their standard error is over rows, averaged over repetitions first, or
over seeds. One thread; results go to benchmarks/results/tables.json as they come, and what is there is not run again.

    python benchmarks/tables.py [--repeats 5] [--seeds 0 1 2 3 4] [--budget 30] [--names wine rings-100 ...]
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import peers
import torch
from sklearn import datasets
from threadpoolctl import threadpool_limits

from scorefield.data import toys
from scorefield.diffusion.densities import GaussianMixture

RESULTS = Path(__file__).parent / "results" / "tables.json"
TABLES = ["wine", "breast_cancer", "diabetes"]
TRUTHS = [f"{name}-{n}" for name in ("rings", "mixture10") for n in (100, 1_000, 10_000)]
METHODS = ["scorefield", "Gaussian", "KDE", "GMM", "NSF"]
FRESH = 5_000


def table(name: str, seed: int) -> pd.DataFrame:
    """Return a table, its columns spread over their resolution and z-scored."""
    options = {"scaled": False} if name == "diabetes" else {}
    frame = getattr(datasets, f"load_{name}")(as_frame=True, **options).data.astype(float)
    two_valued = [column for column in frame if frame[column].nunique() <= 2]
    print(f"{name}: {len(frame)} rows, {frame.shape[1] - len(two_valued)} columns; left out: {two_valued or 'none'}")
    frame = frame.drop(columns=two_valued)
    draw = np.random.Generator(np.random.PCG64(seed))
    for column in frame:
        values = frame[column].to_numpy()
        decimals = next(k for k in range(16) if np.allclose(np.round(values, k), values, rtol=0, atol=1e-12))
        frame[column] = values + 10.0**-decimals * (draw.random(len(values)) - 0.5)
    return (frame - frame.mean()) / frame.std()


def mixture10() -> GaussianMixture:
    """Three correlated Gaussians in ten dimensions."""
    draw = torch.Generator().manual_seed(10)
    roots = 0.4 * torch.randn(3, 10, 10, generator=draw, dtype=torch.float64)
    covariances = roots @ roots.mT + 0.1 * torch.eye(10, dtype=torch.float64)
    means = 1.5 * torch.randn(3, 10, generator=draw, dtype=torch.float64)
    return GaussianMixture(torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), means, covariances)


def ours(train: np.ndarray, points: np.ndarray, seconds: float, seed: int) -> tuple[np.ndarray, dict]:
    """Fit and ask through the command line, as a user would; return log-densities and what `fit` said of it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        columns = [f"c{i}" for i in range(train.shape[1])]
        pd.DataFrame(train, columns=columns).to_csv(folder / "train.csv", index=False)
        pd.DataFrame(points, columns=columns).to_parquet(folder / "points.parquet")
        command = [sys.executable, "-m", "scorefield"]
        began = time.perf_counter()
        fit = ["fit", folder / "train.csv", "--out", folder / "run", "--budget", f"{seconds:g}s", "--seed", seed]
        told = subprocess.run([*command, *map(str, fit)], check=True, capture_output=True, text=True).stderr
        took = time.perf_counter() - began
        ask = ["logprob", folder / "run", folder / "points.parquet", "--out", folder / "logp.parquet", "--quiet"]
        subprocess.run([*command, *map(str, ask)], check=True)
        told = [line.split("; the run is in ")[0] for line in told.splitlines()]  # no path of a machine is kept
        said = [line for line in told if line.startswith(("base", "done", "stopped"))]
        return pd.read_parquet(folder / "logp.parquet")["logprob"].to_numpy(), {"seconds": took, "said": said}


def log_densities(train: np.ndarray, points: np.ndarray, seconds: float, seed: int) -> tuple[dict, dict]:
    """Return the log-density of points under each method, and what ours said."""
    found, said = ours(train, points, seconds, seed)
    methods = {
        "Gaussian": lambda: peers.gaussian(train),
        "KDE": lambda: peers.kde(train),
        "GMM": lambda: peers.gmm(train),
        "NSF": lambda: peers.nsf(train, seconds, seed),
    }
    return {"scorefield": found} | {name: fit()(points) for name, fit in methods.items()}, said


def measure_fold(name: str, repeat: int, fold: int, seconds: float) -> dict:
    """Return the log-densities of one fold of a table, with the positions of its rows."""
    x = table(name, repeat).to_numpy()
    order = np.random.Generator(np.random.PCG64(100 + repeat)).permutation(len(x))
    test = np.array_split(order, 5)[fold]
    found, said = log_densities(x[np.setdiff1d(order, test)], x[test], seconds, 10 * repeat + fold)
    return {"rows": test.tolist(), **said, **{method: values.round(4).tolist() for method, values in found.items()}}


def measure_truth(name: str, seed: int, seconds: float) -> dict:
    """Return the mean of log p - log q of fresh points for each method."""
    kind, n = name.rsplit("-", 1)
    density = mixture10() if kind == "mixture10" else toys.TOYS[kind].density

    def draw(count: int, seed: int) -> np.ndarray:
        if kind in toys.TOYS:
            return toys.load(kind, count, seed).to_numpy(copy=True)
        return density.sample(count, torch.Generator().manual_seed(seed)).numpy()

    points = draw(FRESH, 1000 + seed)
    found, said = log_densities(draw(int(n), seed), points, seconds, seed)
    truth = density.log_prob(torch.from_numpy(points)).numpy()
    return said | {method: float((truth - values).mean()) for method, values in found.items()}


def summary(results: dict) -> str:
    """Return the two tables for docs/benchmarks.md: means, and differences to ours with their standard error."""
    lines = ["| data | " + " | ".join(METHODS) + " |", "|---" * (len(METHODS) + 1) + "|"]
    for name in [*TABLES, *TRUTHS]:
        parts = results.get(name, {})
        if not parts:
            continue
        if name in TABLES:
            frame = pd.concat([pd.DataFrame({"row": p["rows"]} | {m: p[m] for m in METHODS}) for p in parts.values()])
            per_row = frame.groupby("row").mean()  # over repetitions: rows are independent, repetitions are not
        else:
            per_row = -pd.DataFrame([{m: p[m] for m in METHODS} for p in parts.values()])
        cells = [f"{per_row['scorefield'].mean():.3f}"]
        for method in METHODS[1:]:
            gap = per_row[method] - per_row["scorefield"]
            cells.append(f"{gap.mean():+.3f} +- {gap.std() / math.sqrt(len(gap)):.3f}")
        lines.append(f"| {name} ({len(parts)} fits) | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is missing, keep the numbers, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--names", nargs="*", default=[*TABLES, *TRUTHS])
    parser.add_argument("--budget", type=float, default=30)
    options = parser.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(limits=1)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    folds = [(n, f"{r}-{f}") for r in range(options.repeats) for n in TABLES for f in range(5)]
    truths = [(n, str(seed)) for seed in options.seeds for n in TRUTHS]
    for name, key in folds + truths:
        if name not in options.names or key in results.get(name, {}):
            continue
        if name in TABLES:
            found = measure_fold(name, *map(int, key.split("-")), options.budget)
        else:
            found = measure_truth(name, int(key), options.budget)
        print(name, key, {m: round(float(np.mean(found[m])), 3) for m in METHODS}, found["seconds"], *found["said"])
        results.setdefault(name, {})[key] = found
        RESULTS.write_text(json.dumps(results))
        sys.stdout.flush()
    print(summary(results))


if __name__ == "__main__":
    main()
