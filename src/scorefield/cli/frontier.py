"""`scorefield frontier`: measure every sampler on a RUN and recommend one."""

import json
import sys

from rich.console import Console
from rich.progress import track

from scorefield import reports as plots
from scorefield.cli import console, opening
from scorefield.cli.options import Frontier
from scorefield.inference import frontier
from scorefield.kinds.tables.kind import FRONTIER
from scorefield.reports import frontier as drawn
from scorefield.runs import recommendation
from scorefield.runs.checkpoint import unseal


def run(options: Frontier) -> None:
    """Measure every sampler on a RUN, print the table, write it into the RUN, and draw it."""
    run = opening.read_table(options.run, options)
    estimator = opening.opened(run, options).estimator
    if run.config.level:
        raise ValueError(f"{options.run} learned one noise level; samplers need all: fit without --level")
    if options.seed < 0 or not options.tol > 0:
        raise ValueError(f"--tol must be positive and --seed at least 0; got {options.tol:g} and {options.seed}")
    model, path = estimator.model_, options.run / FRONTIER
    hidden, found = options.quiet or not sys.stderr.isatty(), frontier.frontier(model, options.seed)
    total = len(frontier.plan())
    points = list(track(found, "samplers", total, console=Console(stderr=True), transient=True, disable=hidden))
    recommended = frontier.choose(model, options.tol, options.seed, points)
    recommendation.write(path, model, options.tol, points, recommended)
    folder = options.run / "figures"
    folder.mkdir(exist_ok=True)
    plots.save(drawn.draw(points, options.tol, recommended), folder / "frontier.png")
    if options.json:
        print(json.dumps({"run": str(options.run), **unseal(path)}))
    else:
        print(*drawn.lines(points, options.tol, recommended), sep="\n")
    console.speaker(options)(f"wrote {path} and drew {folder / 'frontier.png'}")
