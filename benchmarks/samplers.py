"""Sampling error against network evaluations, for each sampler and process, on exact models.

docs/sampling-error.png: root mean square distance of each sample from the converged flow of the same latent, in data
standard deviations, for the deterministic samplers. docs/sampling-law.png: sliced Wasserstein distance to exact draws.
Samplers that adapt are given tolerances instead of steps; calls of the model are counted, first and last included.

    python benchmarks/samplers.py
"""

import itertools
import json
import math
from pathlib import Path

import torch
from matplotlib.figure import Figure

from scorefield.data import toys
from scorefield.diffusion import times
from scorefield.diffusion.by_name import PROCESSES
from scorefield.diffusion.denoisers import ExactDenoiser
from scorefield.diffusion.densities import GaussianMixture
from scorefield.evaluation.metrics import sliced_wasserstein
from scorefield.inference import exponential
from scorefield.inference.adaptive import adaptive_flow, adaptive_sde
from scorefield.inference.samplers import SAMPLERS
from scorefield.inference.walking import Sampler

HERE = Path(__file__).parent
EVALUATIONS = [6, 8, 12, 16, 24, 35, 64, 128]
TOLERANCES = [0.3, 0.1, 0.03, 0.01, 0.003, 0.001]
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "black", "#999999"]
SHOWN = ["vp", "ve", "straight"]
LIMITS = {"error": (1e-3, 3), "wasserstein": (3e-2, 2)}
LATENTS = 1_000


def standardised(name: str) -> GaussianMixture:
    """Return a built-in mixture in units of its standard deviation; rings with 128 centres a circle."""
    density = toys.TOYS[name].density
    keep = slice(None, None, 4) if len(density.weights) > 64 else slice(None)
    weights, means = density.weights[keep], density.means[keep]
    scale = density.covariance.diagonal().sqrt().mean()
    return GaussianMixture(weights, (means - density.mean) / scale, density.covariances / scale**2)


@torch.no_grad()
def end(
    model: ExactDenoiser, sampler: Sampler, path: torch.Tensor, latents: torch.Tensor
) -> tuple[torch.Tensor, float]:
    """Return where a sampler takes latents, the jump to the clean part included, and the calls of the model a row."""
    rows, ask = 0, model.decompose

    def counted(x: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal rows
        rows += len(x)
        return ask(x, t)

    model.decompose = counted
    *_, last = sampler(model, latents, path)
    found = model.decompose(last, path[-1])[0]
    model.decompose = ask
    return found, rows / len(latents)


def settings(name: str) -> list[tuple[Sampler, int]]:
    """Return a sampler at every number of evaluations: itself and its steps."""
    row, generator = SAMPLERS[name], torch.Generator().manual_seed(1)
    if row.adapts:
        make = {"adaptive_flow": adaptive_flow, "adaptive_sde": lambda tol: adaptive_sde(tol, generator)}[name]
        return [(make(tol), 1) for tol in TOLERANCES]
    steps = [(calls - 1 - row.first) // row.evaluations for calls in EVALUATIONS]
    return [(row.make(generator.manual_seed(1)), k) for k in steps]


def measure(data: str, process: str) -> list[dict]:
    """Return the errors of every sampler at every number of evaluations."""
    density = standardised(data)
    model = ExactDenoiser(density, PROCESSES[process]())
    latents = model.prior().sample(LATENTS, torch.Generator().manual_seed(0))
    real = [density.sample(LATENTS, torch.Generator().manual_seed(seed)) for seed in (2, 3)]
    distance = lambda x: sliced_wasserstein(x, real[0], generator=torch.Generator().manual_seed(4)).value
    truth, _ = end(model, exponential.adams(), times.grid(model.process, 600, math.inf), latents)
    rows = []
    for name, row in SAMPLERS.items():
        for sampler, steps in settings(name):
            found, calls = end(model, sampler, times.grid(model.process, steps, math.inf), latents)
            error = None if row.stochastic else float((found - truth).square().sum(1).mean().sqrt())
            rows.append({"data": data, "process": process, "sampler": name, "evaluations": calls, "error": error})
            rows[-1] |= {"wasserstein": distance(found), "floor": distance(real[1])}
        print(data, process, name, "done", flush=True)
    return rows


def draw(rows: list[dict], value: str, label: str) -> Figure:
    """Return a figure of one measure: a row for each data set, a column for each process."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    data, processes = (list(dict.fromkeys(row[key] for row in rows)) for key in ("data", "process"))
    shown = [name for name in SAMPLERS if any(r["sampler"] == name and r[value] is not None for r in rows)]
    panels = figure.subplots(len(data), len(processes), sharex=True, sharey=True)
    for i, j in itertools.product(range(len(data)), range(len(processes))):
        axes, part = panels[i, j], [r for r in rows if (r["data"], r["process"]) == (data[i], processes[j])]
        for k, name in enumerate(shown):
            line = [r for r in part if r["sampler"] == name]
            kind = {"color": COLOURS[k % len(COLOURS)], "linestyle": "-" if k < len(COLOURS) else "--"}
            axes.loglog([r["evaluations"] for r in line], [r[value] for r in line], marker=".", label=name, **kind)
        if value == "wasserstein":
            axes.axhline(part[0]["floor"], color="black", linestyle=":", label="real against real")
        axes.set(title=f"{data[i]}, {processes[j]}", ylim=LIMITS[value])
    for axes in panels[-1]:
        axes.set_xlabel("network evaluations a sample")
    figure.supylabel(label)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


def main() -> None:
    """Measure, keep the numbers, draw both figures."""
    torch.set_num_threads(1)
    rows = [row for data in ("8gaussians", "rings") for process in SHOWN for row in measure(data, process)]
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "samplers.json").write_text(json.dumps(rows, indent=1))
    for value, name, label in [
        ("error", "sampling-error.png", "RMS distance from the converged flow (data standard deviations)"),
        ("wasserstein", "sampling-law.png", "sliced Wasserstein distance to exact draws"),
    ]:
        draw(rows, value, label).savefig(HERE.parent / "docs" / name, dpi=110)


if __name__ == "__main__":
    main()
