"""How long until ours stays as close to the truth as tutorial 002's own loop is after 200,000 steps.

Both learn the same 1,000 points of the swiss roll and are measured with one ruler: the mean of log p - log q on the
same 10,000 fresh points, p exact by quadrature, q by the probability flow with a tolerance of 1e-4 a step. The
tutorial's loop takes 5 to 20 minutes a seed, so its results are kept and ours can be run again alone.
Ours is `scorefield fit FILE --budget ...`, one whole fit for each budget. Its seconds are all of the command's after
Python's imports: reading, the choice of the base, the timing and the training; copied rows are checked by `evaluate`.
PyTorch's compiler, which `torch.optim` loads when the first optimiser is made, counts as an import on both sides.
Both have one thread, and `cpu` is the processor's seconds, which other work on the machine lengthens much less.

    python benchmarks/swissroll.py tutorial [--seeds 0 1 2 3 4] [--steps 200000]
    python benchmarks/swissroll.py ours [--seeds 0 1 2 3 4] [--budgets 1 2 3 5 8 12 20 30]
    python benchmarks/swissroll.py table
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import torch
import torch._dynamo
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import scorefield
from scorefield.data import toys
from scorefield.gallery.swiss_roll import training
from scorefield.gallery.swiss_roll.training import BATCH, PROCESS, T_MIN, TutorialModel, loss, network, points, steps
from scorefield.inference.likelihood import log_prob
from scorefield.numerics.tensors import spawn

RESULTS = Path(__file__).parent / "results" / "swissroll.json"
FRESH = 10_000

NOTICED = 3
"""Copying is noticed where it exceeds that of real rows by this many standard errors."""

FIT = """
import sys, time
import sklearn.mixture, torch._dynamo, scorefield.cli.commands
from scorefield.cli import entry as cli
wall, cpu = time.perf_counter(), time.process_time()
try:
    cli.main()
finally:
    print(time.perf_counter() - wall, time.process_time() - cpu)
"""


def tutorial_steps(net: nn.Module, data: Tensor, seed: int = 0, batch: int = BATCH) -> Iterator[float]:
    """Train as the tutorial does, without end, with its loader and its Adam; yield the losses."""
    noise, order = spawn(seed, "noise"), spawn(seed, "batches")
    loader = DataLoader(TensorDataset(data), batch_size=batch, shuffle=True, generator=order)
    rows = (x for _ in itertools.count() for (x,) in loader)
    return steps(net, rows, lambda net, x: loss(net, x, noise), fused=False)


def gap(log_density: Callable[[Tensor], Tensor], seed: int) -> dict[str, float]:
    """Return the mean of log p - log q on fresh points of the population, and its standard error."""
    found = training.gap(log_density, FRESH, seed)
    return {"gap": found.value, "stderr": found.stderr}


def tutorial(seed: int, count: int) -> list[dict]:
    """Return seconds, seconds of the processor and quality of the tutorial's loop at each quarter of its steps."""
    data = points(seed)
    net = network(spawn(seed, "init"))
    ratio_min = float(PROCESS.ratio(torch.tensor(T_MIN).double()))
    reports, wall, cpu = [], -time.perf_counter(), -time.process_time()
    for step, _ in enumerate(itertools.islice(tutorial_steps(net, data, seed), count), start=1):
        if step % (count // 4) == 0:
            wall, cpu = wall + time.perf_counter(), cpu + time.process_time()
            model = TutorialModel(net, data).double()
            found = gap(lambda x: log_prob(model, x, tol=1e-4, ratio_min=ratio_min).value, seed)  # noqa: B023
            reports.append({"step": step, "seconds": wall, "cpu": cpu} | found)
            print("tutorial", seed, reports[-1], flush=True)
            net.float()
            wall, cpu = wall - time.perf_counter(), cpu - time.process_time()
    return reports


def ours(seed: int, budget: float, folder: Path) -> dict:
    """Return seconds, quality and the check for copied rows of one fit through the command line."""
    data, fresh, run = folder / f"{seed}.parquet", folder / f"{seed}-fresh.parquet", folder / f"{seed}-{budget:g}"
    frame = pd.DataFrame(points(seed).numpy(), columns=["x1", "x2"])
    frame.to_parquet(data)
    toys.load("swissroll", FRESH, 2000 + seed).to_parquet(fresh)
    command = [sys.executable, "-c", FIT, "fit", data, "--out", run, "--seed", seed, "--budget", f"{budget}s"]
    found = subprocess.run([*map(str, command), "--quiet"], check=True, stdout=subprocess.PIPE, text=True)
    estimator = scorefield.load(run)
    transform, model = estimator.transform_, estimator.model_.double()

    def log_density(x: Tensor) -> Tensor:
        frame = pd.DataFrame(x.numpy(), columns=list(transform.names))
        return log_prob(model, transform.forward(frame), tol=1e-4).value + transform.log_jacobian(frame)

    command = [sys.executable, "-m", "scorefield", "evaluate", run, "--against", fresh, "--json"]
    text = subprocess.run([*map(str, command)], check=True, stdout=subprocess.PIPE, text=True).stdout
    excess = {name: json.loads(text)[name]["excess"] for name in ("copying", "near_duplicates")}
    seconds = dict(zip(("seconds", "cpu"), map(float, found.stdout.split()), strict=True))
    report = {"budget": budget} | seconds | gap(log_density, seed) | excess
    print("ours", seed, report, flush=True)
    return report


def reached(reports: list[dict], quality: float) -> dict | None:
    """Return the first report from which on all are at or under a quality, None where the last is not."""
    above = [i for i, report in enumerate(reports) if report["gap"] > quality]
    first = above[-1] + 1 if above else 0
    return reports[first] if first < len(reports) else None


def table(results: dict) -> str:
    """Return the table for docs/benchmarks.md, in seconds of the processor, and under it the ratios of both clocks."""
    lines = ["| seed | tutorial 002 | s | ours | s | ratio | copying, excess |", "|---" * 7 + "|"]
    ratios: dict[str, list[float]] = {"cpu": [], "seconds": []}
    for seed, reports in results["tutorial"].items():
        end = reports[-1]
        first = reached(results["ours"].get(seed, []), end["gap"])
        cells = [f"{end['gap']:.3f} +- {end['stderr']:.3f}", f"{end['cpu']:.0f}"]
        if first is not None:
            for clock, found in ratios.items():
                found.append(end[clock] / first[clock])
            excess = max(first["copying"], first["near_duplicates"])
            passed = f"{'noticed' if excess > NOTICED else 'passed'}, {excess:.1f}"
            cells += [f"{first['gap']:.3f} +- {first['stderr']:.3f}", f"{first['cpu']:.1f}"]
            cells += [f"{ratios['cpu'][-1]:.0f}", passed]
        cells += [""] * (6 - len(cells))
        lines.append(f"| {seed} | " + " | ".join(cells) + " |")
    for clock, found in ratios.items():
        if found:
            middle = statistics.median(found)
            lines.append(f"ratio by {clock}: median {middle:.0f} ({min(found):.0f} to {max(found):.0f})")
    return "\n".join(lines)


def keep(kind: str, seed: int, reports: list[dict]) -> None:
    """Put the reports of a seed into the file of results, which another process may be adding to as well."""
    results = load()
    results[kind][str(seed)] = reports
    RESULTS.write_text(json.dumps(results, indent=1))


def load() -> dict:
    """Return the results so far."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {"tutorial": {}, "ours": {}}


def main() -> None:
    """Measure one side, keep the numbers, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=["tutorial", "ours", "table"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--budgets", type=float, nargs="+", default=[1, 2, 3, 5, 8, 12, 20, 30])
    options = parser.parse_args()
    torch.set_num_threads(1)
    for seed in options.seeds if options.side != "table" else []:
        if options.side == "tutorial":
            keep("tutorial", seed, tutorial(seed, options.steps))
            continue
        with tempfile.TemporaryDirectory() as folder:
            keep("ours", seed, [ours(seed, budget, Path(folder)) for budget in sorted(options.budgets)])
    print(table(load()))


if __name__ == "__main__":
    main()
