"""Peak resident memory of long walks, 256 samples by 100,000 steps beside 1,000, each in a process of its own.

The model is a Gaussian in two columns, so that the walk is all there is; the peak is the kernel's count for the whole
process, PyTorch included. A block of 1,024 rows that kept its states for 100,000 steps would need 1,600 MB more.
adaptive_sde takes at least one step of its own between each two times: 10,000 beside 100.

    python benchmarks/walk_memory.py
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch

from scorefield.diffusion.denoisers import ExactDenoiser
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.published import VP
from scorefield.diffusion.times import grid
from scorefield.inference.samplers import grid_for, sample

RESULTS = Path(__file__).parent / "results" / "walk_memory.json"
ROWS = 256
STEPS = dict.fromkeys(["adams", "ancestral", "euler_maruyama", "predictor_corrector"], (1_000, 100_000))
STEPS["adaptive_sde"] = (100, 10_000)


def walk(sampler: str, steps: int) -> dict:
    """Return the peak resident memory of this process, in MB, and its seconds, after one walk."""
    torch.set_num_threads(1)
    covariance = torch.tensor([[1.0, 0.6], [0.6, 1.5]], dtype=torch.float64)
    model = ExactDenoiser(GaussianMixture.gaussian(torch.zeros(2, dtype=torch.float64), covariance), VP())
    path = grid(model.process, steps) if sampler == "adaptive_sde" else grid_for(sampler, model, steps)
    began = time.process_time()
    found = sample(model, ROWS, sampler=sampler, times=path, generator=torch.Generator().manual_seed(0))
    seconds = round(time.process_time() - began, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1.024e-3
    return {"steps": steps, "peak_mb": round(peak, 1), "seconds": seconds, "std": found.std(0).tolist()}


def main() -> None:
    """Measure each sampler in fresh processes, print and keep the numbers."""
    results = []
    RESULTS.parent.mkdir(exist_ok=True)
    for sampler, pair in STEPS.items():
        command = [sys.executable, __file__, sampler]
        few, many = (json.loads(subprocess.check_output([*command, str(steps)])) for steps in pair)
        results.append({"sampler": sampler, "walks": [few, many], "ratio": many["peak_mb"] / few["peak_mb"]})
        print(sampler, few["peak_mb"], many["peak_mb"], f"{results[-1]['ratio']:.4f}", many["seconds"], flush=True)
        RESULTS.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(walk(sys.argv[1], int(sys.argv[2]))))
    else:
        main()
