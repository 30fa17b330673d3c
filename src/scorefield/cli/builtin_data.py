"""`scorefield data`: write a built-in data set to a file, or list them."""

from scorefield import data
from scorefield.cli import console, opening
from scorefield.cli.options import Data
from scorefield.data import toys


def run(options: Data) -> None:
    """Write a built-in data set to a file, or list them."""
    opening.start(options)
    if options.name is None:
        for name, toy in toys.TOYS.items():
            print(f"{name:18}{len(toy.columns)} columns")
        return
    if options.out is None:
        raise ValueError(f"expected a file to write; got none; for example: --out {options.name}.csv")
    data.check_output(options.out, options.force)
    frame = toys.load(options.name, options.n, options.seed)
    data.write_blocks(options.out, [frame], options.force)
    console.speaker(options)(f"wrote {len(frame):,} rows to {options.out}")
