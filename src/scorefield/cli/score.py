"""`scorefield score`: write the score at points."""

from collections.abc import Iterator

import pandas as pd

from scorefield import data
from scorefield.cli import console, opening
from scorefield.cli.options import Score
from scorefield.kinds.tables.estimator import ScoreDensity
from scorefield.kinds.tables.kind import BLOCK


def run(options: Score) -> None:
    """Write the gradient of the log-density at points of a table, block by block."""
    run = opening.read_table(options.run, options)
    data.check_output(options.out, options.force)
    estimator: ScoreDensity = opening.opened(run, options).estimator
    points = data.point_blocks(options.points, estimator.transform_.names, BLOCK)
    rows = data.write_blocks(options.out, _gradients(estimator, points), options.force)
    console.speaker(options)(f"wrote {rows:,} rows to {options.out}")


def _gradients(estimator: ScoreDensity, blocks: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    for points in blocks:
        found = pd.DataFrame(estimator.score_function(points))
        varying = [found.columns[i] for i in estimator.transform_.varying]
        yield found[varying].add_prefix("score_")
