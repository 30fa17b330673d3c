"""Sampling error against network evaluations, for each sampler and process, on exact models.

Left column: root mean square distance of each sample from the converged flow of the same latent, in data standard
deviations, for the deterministic samplers. Right column: sliced Wasserstein distance to exact draws.
The figure is docs/sampling-error.png.

    python benchmarks/samplers.py
"""

import json
from pathlib import Path

import torch
from matplotlib.figure import Figure

from scorefield import times, toys
from scorefield.densities import GaussianMixture
from scorefield.metrics import sliced_wasserstein
from scorefield.model import ExactDenoiser
from scorefield.process import PROCESSES
from scorefield.samplers import SAMPLERS

HERE = Path(__file__).parent
EVALUATIONS = [6, 8, 12, 16, 24, 36, 64, 128]
LATENTS = 1_000


def standardised(name: str) -> GaussianMixture:
    """Return a built-in mixture in units of its standard deviation; rings with 128 centres a circle."""
    density = toys.TOYS[name].density
    keep = slice(None, None, 4) if len(density.weights) > 64 else slice(None)
    weights, means = density.weights[keep], density.means[keep]
    scale = density.covariance.diagonal().sqrt().mean()
    return GaussianMixture(weights, (means - density.mean) / scale, density.covariances / scale**2)


@torch.no_grad()
def end(model: ExactDenoiser, sampler: str, steps: int, latents: torch.Tensor) -> torch.Tensor:
    """Return where a sampler takes latents, the jump to the clean part included."""
    path = times.grid(model.process, steps)
    *_, last = SAMPLERS[sampler].make(torch.Generator().manual_seed(1))(model, latents, path)
    return model.decompose(last, path[-1])[0]


def measure(data: str, process: str) -> list[dict]:
    """Return the errors of every sampler at every number of evaluations."""
    density = standardised(data)
    model = ExactDenoiser(density, PROCESSES[process]())
    latents = model.prior().sample(LATENTS, torch.Generator().manual_seed(0))
    real = [density.sample(LATENTS, torch.Generator().manual_seed(seed)) for seed in (2, 3)]
    distance = lambda x: sliced_wasserstein(x, real[0], generator=torch.Generator().manual_seed(4)).value
    truth, floor = end(model, "heun", 300, latents), distance(real[1])
    rows = []
    for name, row in SAMPLERS.items():
        for evaluations in EVALUATIONS:
            steps = (evaluations - 1) // row.evaluations
            found = end(model, name, steps, latents)
            error = None if row.stochastic else float((found - truth).square().sum(1).mean().sqrt())
            rows.append(
                {
                    "data": data,
                    "process": process,
                    "sampler": name,
                    "evaluations": steps * row.evaluations + 1,
                    "error": error,
                    "wasserstein": distance(found),
                    "floor": floor,
                }
            )
        print(data, process, name, "done", flush=True)
    return rows


def draw(rows: list[dict]) -> Figure:
    """Return the figure: a row for each data set, left the paired error, right the distance of the law."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    names = list(dict.fromkeys(row["data"] for row in rows))
    panels = figure.subplots(len(names), 2, sharex=True)
    colours = dict(zip(SAMPLERS, ["#0072B2", "#009E73", "#E69F00", "#CC79A7", "#D55E00"], strict=False))
    styles = dict(zip(PROCESSES, ["-", "--", ":"], strict=False))
    for (left, right), data in zip(panels, names, strict=True):
        for name in SAMPLERS:
            for process in PROCESSES:
                part = [r for r in rows if (r["data"], r["sampler"], r["process"]) == (data, name, process)]
                calls = [r["evaluations"] for r in part]
                kind = {"color": colours[name], "linestyle": styles[process], "label": f"{name}, {process}"}
                if part[0]["error"] is not None:
                    left.loglog(calls, [r["error"] for r in part], marker=".", **kind)
                right.loglog(calls, [r["wasserstein"] for r in part], marker=".", **kind)
        floor = next(r["floor"] for r in rows if r["data"] == data)
        right.axhline(floor, color="black", linestyle=(0, (6, 3)), linewidth=1, label="real against real")
        left.set(title=f"{data}: distance from the converged flow", ylabel="RMS error (data standard deviations)")
        right.set(title=f"{data}: distance of the law", ylabel="sliced Wasserstein distance")
    for axes in panels[-1]:
        axes.set_xlabel("network evaluations a sample")
    handles, labels = panels[0, 1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    return figure


def main() -> None:
    """Measure, keep the numbers, draw the figure, print the table of Heun against the others at 35 evaluations."""
    torch.set_num_threads(1)
    rows = [row for data in ("8gaussians", "rings") for process in PROCESSES for row in measure(data, process)]
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "samplers.json").write_text(json.dumps(rows, indent=1))
    draw(rows).savefig(HERE.parent / "docs" / "sampling-error.png", dpi=130)
    for row in rows:
        if row["evaluations"] in (12, 35, 36):
            print(row)


if __name__ == "__main__":
    main()
