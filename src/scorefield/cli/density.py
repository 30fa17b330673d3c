"""`scorefield density`: the density of a RUN of one or two columns on a grid."""

from scorefield import data
from scorefield import reports as plots
from scorefield.cli import console, opening
from scorefield.cli.options import Density
from scorefield.kinds.tables import density_grid
from scorefield.kinds.tables.kind import known_rows


def run(options: Density) -> None:
    """Write the density of a RUN on a grid, draw it into RUN/figures and print how far it can be trusted."""
    run = opening.read_table(options.run, options)
    data.check_output(options.out, options.force)
    opened = opening.opened(run, options)
    notes: list[str] = []
    rows = known_rows(opened, notes)
    found = density_grid.recover(opened.estimator, rows, options.method, options.points)
    data.write_blocks(options.out, [found.frame], options.force)
    folder = options.run / "figures"
    folder.mkdir(exist_ok=True)
    plots.save(found.figure(rows), folder / "density.png")
    print(*found.lines(), sep="\n")
    told = f"wrote {len(found.frame):,} rows to {options.out} and drew {folder / 'density.png'}"
    console.speaker(options)(*(f"note: {note}" for note in notes), told)
