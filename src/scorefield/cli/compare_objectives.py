"""`scorefield compare-objectives`: train one network by each objective for the same time."""

import re
from pathlib import Path

from matplotlib.figure import Figure

from scorefield import reports as plots
from scorefield.cli import console, opening
from scorefield.cli.options import CompareObjectives
from scorefield.cli.request import seconds
from scorefield.data import atomic, toys
from scorefield.diffusion.densities import GaussianMixture
from scorefield.kinds.tables import source
from scorefield.kinds.tables.kind import TableKind
from scorefield.kinds.tables.units import TableTransform
from scorefield.training import comparison
from scorefield.training.objectives.table import OBJECTIVES
from scorefield.training.problem import Part


def run(options: CompareObjectives) -> None:
    """Train one network by each objective for the same time, and compare their errors at every noise level."""
    opening.start(options)
    say, budget = console.speaker(options), seconds(options.budget)
    outputs = [options.out / f"comparison{extension}" for extension in (".csv", ".png")]
    _check_output(options, outputs)
    known = isinstance(toys.density_of(options.data), GaussianMixture)
    names = _names(options, known)
    part, notes = _part(options, known)
    say(*(f"note      {note}" for note in notes), f"judged    by {'the true score' if known else 'held-out rows'}")
    options.out.mkdir(parents=True, exist_ok=True)
    results = []
    for result in comparison.compare(part, names, budget, options.seed):
        results.append(result)
        atomic.write(outputs[0], comparison.table(results).to_csv(index=False).encode())
        numbers = f"{result.steps:7,} steps {result.seconds:6.1f} s {result.megabytes:6.0f} MB  mean error"
        say(f"{result.objective:18} {numbers} {result.mean_error:.4f} {result.failure}")
    figure = Figure(figsize=(9, 5), layout="constrained")
    label = "Fisher divergence, relative" if known else "implicit loss less one Gaussian's"
    plots.errors_by_level(figure.subplots(), comparison.RATIOS, {r.objective: r.errors for r in results}, label)
    plots.save(figure, outputs[1])
    say(f"wrote     {outputs[0]} and {outputs[1]}")


def _check_output(options: CompareObjectives, outputs: list[Path]) -> None:
    if options.out.exists() and not options.out.is_dir():
        raise ValueError(f"expected a folder as --out; {options.out} is a file; name another")
    if options.device != "cpu":
        raise ValueError(f"compare-objectives measures on the CPU; got --device {options.device}; leave it out")
    if not options.force and any(path.exists() for path in outputs):
        raise ValueError(f"{options.out} holds a comparison already; name another --out, or replace it with --force")


def _names(options: CompareObjectives, known: bool) -> list[str]:
    """Return the names of the objectives asked for, or of all that apply."""
    names = [name for name in OBJECTIVES if known or name != "explicit"]
    if options.objectives is None:
        return names
    asked = re.split(r"\s*,\s*", options.objectives)
    if unknown := [name for name in asked if name not in names]:
        raise ValueError(f"--objectives must be among {', '.join(names)} for these data; got {unknown[0]!r}")
    return asked


def _part(options: CompareObjectives, known: bool) -> tuple[Part, list[str]]:
    """Return the rows to learn from and to judge by, and notes on them."""
    request = {"data": options.data, "seed": options.seed} | ({} if options.rows is None else {"rows": options.rows})
    found = source.read(request)
    transform = TableTransform.fit(found.parts[0], None, bend=False)
    request |= {"objective": "explicit" if known else "denoising", "network": "mlp"}
    problem = TableKind().problem(found, transform, request, "cpu")
    if len(problem.validation) < 10:
        total = sum(found.counts.values())
        raise ValueError(f"expected at least 100 rows, of which a tenth judges; got {total}")
    return Part(problem.train, problem.validation, truth=problem.truth), found.notes
