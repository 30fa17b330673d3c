"""`scorefield logprob`: write the log-probability of points, and its errors."""

from scorefield import data
from scorefield.cli import console, opening
from scorefield.cli.options import Logprob


def run(options: Logprob) -> None:
    """Write the log-probability at points of a file, block by block."""
    kind, run = opening.read(options.run, options)
    data.check_output(options.out, options.force)
    blocks = kind.log_probs(opening.opened(run, options), options.points, options.bound)
    rows = data.write_blocks(options.out, blocks, options.force)
    console.speaker(options)(f"wrote {rows:,} rows to {options.out}")
