"""How close a fit of 30 seconds comes to the truth, beside three well-known estimators on the same points and seconds.

For each data set and seed: 50,000 points; `scorefield fit` with its budget and nothing else; log p - log q on 20,000 fresh
points, the same for all methods. scikit-learn's KernelDensity and GaussianMixture choose bandwidth and components by
validation; zuko's neural spline flow trains for the same seconds. One thread. Results go to benchmarks/results/.

    python benchmarks/densities.py [--seeds 0 1 2 3 4] [--budget 30] [--names rings moons ...]
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
import torch
import zuko
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity

import scorefield
from scorefield import toys

RESULTS = Path(__file__).parent / "results" / "densities.json"
NAMES = ["8gaussians", "moons", "rings", "checkerboard"]
FRESH = 20_000


def ours(data: Path, folder: Path, seconds: float, seed: int) -> tuple[object, float]:
    """Fit through the command line, as a user would; return the log-density and the seconds of the training loop."""
    command = [sys.executable, "-m", "scorefield", "fit", data, "--out", folder, "--seed", seed]
    subprocess.run([*map(str, command), "--budget", f"{seconds}s", "--quiet"], check=True)
    clock = json.loads((folder / "timing.jsonl").read_text().splitlines()[-1])["seconds"]
    return scorefield.load(folder).score_samples, clock


def kde(train: np.ndarray, validation: np.ndarray) -> tuple[object, float]:
    """Kernel density, the bandwidth by validation on a grid of factor 1.25."""
    began = time.perf_counter()
    fits = [KernelDensity(bandwidth=h, rtol=1e-4).fit(train) for h in 0.02 * 1.25 ** np.arange(15)]
    best = max(fits, key=lambda fit: fit.score(validation[:1000]))
    return best.score_samples, time.perf_counter() - began


def gmm(train: np.ndarray, validation: np.ndarray) -> tuple[object, float]:
    """Gaussian mixture with full covariances, the number of components by validation."""
    began = time.perf_counter()
    fits = [GaussianMixture(k, random_state=0).fit(train[:20_000]) for k in (4, 8, 16, 32, 64)]
    best = max(fits, key=lambda fit: fit.score(validation))
    return best.score_samples, time.perf_counter() - began


def nsf(train: np.ndarray, validation: np.ndarray, seconds: float, seed: int) -> tuple[object, float]:
    """Neural spline flow (Durkan et al., 2019) as zuko builds it, Adam with cosine decay for the same seconds."""
    torch.manual_seed(seed)
    mean, std = train.mean(0), train.std(0)
    x = torch.from_numpy((train - mean) / std).float()
    flow = zuko.flows.NSF(2, transforms=3, hidden_features=(64, 64))
    optimizer = torch.optim.Adam(flow.parameters(), lr=2e-3)
    began = time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds:
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 + math.cos(math.pi * elapsed / seconds))
        loss = -flow().log_prob(x[torch.randint(len(x), (512,))]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def log_density(points: np.ndarray) -> np.ndarray:
        z = torch.from_numpy((points - mean) / std).float()
        return flow().log_prob(z).numpy() - np.log(std).sum()

    return log_density, time.perf_counter() - began


def measure(name: str, seed: int, seconds: float, peers: bool) -> dict:
    """Return the mean of log p - log q, its standard error and the seconds of each method."""
    frame = toys.load(name, 50_000, seed)
    x = toys.load(name, FRESH, 1000 + seed).to_numpy()
    truth = toys.TOYS[name].density.log_prob(torch.from_numpy(x)).numpy()
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(frame))
    train, validation = frame.to_numpy()[order[5000:]], frame.to_numpy()[order[:5000]]
    row: dict = {"name": name, "seed": seed}
    with tempfile.TemporaryDirectory() as folder:
        frame.to_parquet(Path(folder) / "data.parquet")
        methods = {"scorefield": lambda: ours(Path(folder) / "data.parquet", Path(folder) / "run", seconds, seed)}
        if peers:
            methods["KDE"] = lambda: kde(train, validation)
            methods["GMM"] = lambda: gmm(train, validation)
            methods["NSF"] = lambda: nsf(train, validation, seconds, seed)
        for method, fit in methods.items():
            log_density, clock = fit()
            gap = truth - np.asarray(log_density(x))
            row[method] = {
                "gap": gap.mean(),
                "stderr": gap.std() / math.sqrt(FRESH),
                "seconds": clock,
            }
            print(name, seed, method, {k: round(float(v), 4) for k, v in row[method].items()}, flush=True)
    return row


def table(rows: list[dict]) -> str:
    """Return the table of medians and ranges for docs/benchmarks.md."""
    methods = [m for m in ("scorefield", "KDE", "GMM", "NSF") if m in rows[0]]
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
    parser.add_argument("--only-ours", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for seed in options.seeds:
        for name in options.names:
            rows.append(measure(name, seed, options.budget, not options.only_ours))
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps({"budget": options.budget, "rows": rows}, indent=1))
    print(table(rows))


if __name__ == "__main__":
    main()
