"""How close the default comes to tutorial 000's target from 1,024 rows, beside a kernel density on the same rows.

For each seed: total variation to the target of ScoreDensity, of a kernel density whose bandwidth is cross-validated,
and of the gallery's network alone by the flow and by path integrals at small noise. One thread; results go to
benchmarks/results/. --steps auto trains the default for its full time; it then takes 95 seconds a seed, not 5.

    python benchmarks/score_sde.py [--seeds 20] [--steps 1]
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from scorefield.gallery import line
from scorefield.gallery.score_sde import corrected as entry
from scorefield.inference.path_integral import total_variation
from scorefield.numerics.tensors import spawn

RESULTS = Path(__file__).parent / "results" / "score_sde.json"


def measure(seed: int, steps: int | str) -> dict[str, float]:
    """Return the total variations of one seed, and the mass that path integrals give to the left mode."""
    sample = entry.TARGET.sample(1024, spawn(seed, "rows")).numpy()
    grid, pdf = entry.GRID, entry.PDF
    learned = entry.learn(seed, 1000)
    found = {
        "ScoreDensity": total_variation(entry.default_density(sample, seed, steps), pdf, grid),
        "kernel density": total_variation(entry.kernel_density(sample), pdf, grid),
        "network by the flow": total_variation(learned.flow, pdf, grid),
    }
    for ratio, path in zip(entry.RATIOS, learned.paths, strict=True):
        found[f"left mass by path at {ratio}"] = line.mass_below(0.0, path, grid)
    return {name: float(value) for name, value in found.items()}


def main() -> None:
    """Measure all seeds, keep the numbers, print medians and ranges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--steps", type=lambda text: text if text == "auto" else int(text), default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for seed in range(options.seeds):
        rows.append({"seed": seed} | measure(seed, options.steps))
        print({name: round(value, 4) for name, value in rows[-1].items()}, flush=True)
        RESULTS.write_text(json.dumps({"steps": options.steps, "rows": rows}, indent=1))
    frame = pd.DataFrame(rows).drop(columns="seed")
    print(frame.agg([np.median, np.min, np.max]).T.to_string(float_format="%.4f"))


if __name__ == "__main__":
    main()
