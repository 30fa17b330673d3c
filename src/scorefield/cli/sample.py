"""`scorefield sample`: draw new samples from a RUN."""

from scorefield.cli import console, opening
from scorefield.cli.options import Sample
from scorefield.kinds.kind import Drawing


def run(options: Sample) -> None:
    """Draw new samples, block by block, so that memory does not grow with their number."""
    kind, run = opening.read(options.run, options)
    asked = Drawing(options.sampler, options.steps, options.tol, options.label, options.guidance)
    kind.check_drawing(run, asked, options.out, options.n, options.force)
    if options.n < 1 or options.seed < 0:
        raise ValueError(f"-n must be at least 1 and --seed at least 0; got -n {options.n} --seed {options.seed}")
    note = kind.draw(opening.opened(run, options), asked, options.out, options.n, options.seed, options.force)
    say = console.speaker(options)
    say(*([f"note: {note}"] if note else []))
    say(f"wrote {options.n:,} {kind.drawn} to {options.out}")
