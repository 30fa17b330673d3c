"""Log-densities: their error against network calls on exact models, and the time of 10,000 on a learned one.

The second part is beside the usual implementation (score_sde's likelihood.py, Song et al., 2021): SciPy's RK45 with
rtol = atol = 1e-5 on the whole batch as one vector, in t from 1e-5 to t_max, the divergence by one Hutchinson probe
through autograd. Both have the model's prior at the end and the same model in float64, of which ours asks the network
in float32 from tol 1e-3 on; a second row has the usual way do so too. The truth is our log-density with exact
divergence, tol 1e-6. Seconds are the processor's, one thread, taking turns.

    python benchmarks/likelihood.py [--rounds 3]
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from samplers import standardised
from scipy.integrate import solve_ivp
from torch import Tensor

from scorefield.data import toys
from scorefield.diffusion.denoisers import Denoiser, ExactDenoiser
from scorefield.diffusion.published import VP
from scorefield.inference.likelihood import log_prob
from scorefield.kinds.tables.estimator import ScoreDensity
from scorefield.numerics.tensors import signs_like, spawn

RESULTS = Path(__file__).parent / "results" / "likelihood.json"
EXACT = ["8gaussians", "mixture-2d", "rings"]
TOLERANCES = [1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 1e-6]
POINTS, ROWS = 1_000, 10_000


def exact(data: str) -> list[dict]:
    """Return the error at every tolerance on fresh points, against the closed form."""
    density, rows = standardised(data), []
    x = density.sample(POINTS, spawn(0, "points", data))
    model, truth = ExactDenoiser(density, VP()), density.log_prob(x)
    for tol in TOLERANCES:
        found = log_prob(model, x, tol=tol, errors=False)
        errors = (found.value - truth).abs()
        row = {"data": data, "tol": tol, "evaluations": float(found.evaluations.double().mean())}
        rows.append(row | {"error": float(errors.mean()), "largest": float(errors.max())})
        print(rows[-1], flush=True)
    return rows


def usual(model: Denoiser, x: Tensor, tol: float = 1e-5) -> tuple[Tensor, float]:
    """Return log p of the batch and the calls of the model, which are the same for all rows."""
    process, probe, shape = model.process, signs_like(x, spawn(0, "probe")), x.shape

    def velocity(y: Tensor, t: Tensor) -> Tensor:
        return process.drift(t).to(y) * y - process.diffusion(t).to(y) ** 2 / 2 * model.score(y, t.expand(len(y)))

    def field(t: float, state: np.ndarray) -> np.ndarray:
        y = torch.from_numpy(state[: x.numel()]).reshape(shape).to(x).requires_grad_()
        with torch.enable_grad():
            slope = velocity(y, torch.tensor(t, dtype=torch.float64))
            gradient = torch.autograd.grad((slope * probe).sum(), y)[0]
        divergence = (gradient * probe).sum(1)
        return np.concatenate([part.detach().double().numpy().ravel() for part in (slope, divergence)])

    state = np.concatenate([x.double().numpy().ravel(), np.zeros(len(x))])
    solution = solve_ivp(field, (1e-5, process.t_max), state, rtol=tol, atol=tol, method="RK45")
    end = torch.from_numpy(solution.y[:, -1])
    prior = model.prior().log_prob(end[: x.numel()].reshape(shape).to(x))
    return prior.double() + end[x.numel() :], float(solution.nfev)


def ours(tol: float, probes: int | None = None) -> Callable[[Denoiser, Tensor], tuple[Tensor, float]]:
    """Return our log-density as a method."""

    def method(model: Denoiser, x: Tensor) -> tuple[Tensor, float]:
        found = log_prob(model, x, tol=tol, probes=probes, errors=False, generator=spawn(0, "probes"))
        return found.value.double(), float(found.evaluations.double().mean())

    return method


def learned(data: str, turns: int) -> list[dict]:
    """Return seconds and errors of both on one learned model in float64, the type of our default."""
    fitted = ScoreDensity(random_state=0, max_iter=1500).fit(toys.load(data, 10_000, 0))
    x = fitted.transform_.forward(toys.load(data, ROWS, 1), spawn(0, "fresh")).double()
    model, rows = copy.deepcopy(fitted.model_).double(), []
    truth = ours(1e-6)(model, x)[0]
    single = lambda model, x: usual(model.with_single_network(), x)
    methods = {"usual": usual, "usual, network in float32": single}
    methods |= {f"ours, tol {tol:g}": ours(tol) for tol in (2e-2, 1e-2, 1e-3, 1e-5)}
    methods["ours, tol 1e-3, 2 probes"] = ours(1e-3, 2)
    found = {name: [] for name in methods}
    for name, method in [pair for _ in range(turns) for pair in methods.items()]:
        began = time.process_time()
        value, calls = method(model, x)
        found[name].append((time.process_time() - began, float((value - truth).abs().mean()), calls))
        print(name, found[name][-1], flush=True)
    for name, rounds in found.items():
        seconds, errors, calls = zip(*rounds, strict=True)
        ratios = [theirs[0] / one for theirs, one in zip(found["usual"], seconds, strict=True)]
        row = {"data": data, "method": name, "seconds": statistics.median(seconds)}
        rows.append(row | {"ratio": statistics.median(ratios), "error": errors[0], "evaluations": calls[0]})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Measure, print and keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = {"exact": [row for data in EXACT for row in exact(data)]}
    results["learned"] = learned("8gaussians", options.rounds)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
