"""The default against a kernel density on the tutorials' targets in one dimension, from 1,024 rows.

For each target and seed: total variation to the truth and Fisher divergence E (score - truth)^2 / 2 in nats per unit
squared, both by quadrature, of ScoreDensity and of a Gaussian kernel density with cross-validated bandwidth. One
thread; results go to benchmarks/results/line.json as they come, and what is there is not run again.

    python benchmarks/line.py [--seeds 20] [--steps auto]
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity

import scorefield
from scorefield.diffusion.densities import GaussianMixture
from scorefield.gallery import line
from scorefield.inference.path_integral import mass, total_variation
from scorefield.numerics.tensors import spawn

RESULTS = Path(__file__).parent / "results" / "line.json"
TARGETS = {
    "000": line.mixture([0.5, 0.5], [-1.0, 1.0], [0.2, 0.2]),
    "000 rewritten": line.mixture([0.8, 0.2], [-1.0, 1.0], [0.4, 0.3]),
    "001": line.mixture([0.1, 0.9], [-3.0, 3.0], [1.0, 1.0]),
}

Answer = tuple[np.ndarray, np.ndarray]
"""Density and score on the grid."""


def default(sample: np.ndarray, grid: np.ndarray, seed: int, steps: int | str) -> Answer:
    """Return what ScoreDensity says, as a user asks it."""
    estimator = scorefield.ScoreDensity(max_iter=steps, random_state=seed).fit(sample)
    return np.exp(estimator.score_samples(grid)), np.asarray(estimator.score_function(grid))[:, 0]


def kernel_density(sample: np.ndarray, grid: np.ndarray) -> Answer:
    """Return the kernel density whose bandwidth has the largest held-out likelihood in five parts."""
    widths = {"bandwidth": sample.std() * np.geomspace(0.02, 0.5, 17)}
    best = GridSearchCV(KernelDensity(rtol=1e-4), widths, cv=5).fit(sample).best_params_["bandwidth"]
    density, x = GaussianMixture.kde(torch.from_numpy(sample), float(best)), torch.from_numpy(grid)
    return density.log_prob(x).exp().numpy(), density.score(x)[:, 0].numpy()


def measure(target: GaussianMixture, seed: int, steps: int | str) -> dict[str, float]:
    """Return total variation and Fisher divergence of both methods on the same rows."""
    sample = target.sample(1024, spawn(seed, "rows")).numpy()
    reach = 5 * float(target.covariances.amax().sqrt())
    x = np.linspace(float(target.means.min()) - reach, float(target.means.max()) + reach, 501)
    points = torch.from_numpy(x[:, None])
    pdf, score = target.log_prob(points).exp().numpy(), target.score(points)[:, 0].numpy()
    methods: dict[str, Callable[[], Answer]] = {
        "scorefield": lambda: default(sample, x[:, None], seed, steps),
        "kernel density": lambda: kernel_density(sample, x[:, None]),
    }
    found = {}
    for name, ask in methods.items():
        density, slope = ask()
        found[f"{name}: total variation"] = total_variation(density, pdf, x)
        found[f"{name}: Fisher divergence"] = mass(pdf * (slope - score) ** 2, x) / 2
    return found


def main() -> None:
    """Measure what is missing, keep the numbers, print medians and ranges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--steps", type=lambda text: text if text == "auto" else int(text), default="auto")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for seed in range(options.seeds):
        for name, target in TARGETS.items():
            key = f"{name}, seed {seed}, steps {options.steps}"
            if key not in results:
                results[key] = {"target": name} | measure(target, seed, options.steps)
                print(key, {k: round(v, 4) for k, v in results[key].items() if k != "target"}, flush=True)
                RESULTS.write_text(json.dumps(results, indent=1))
    frame = pd.DataFrame(results.values())
    print(frame.groupby("target").agg(["median", "min", "max"]).T.to_string(float_format="%.4f"))


if __name__ == "__main__":
    main()
