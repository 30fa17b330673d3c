"""`scorefield evaluate`: compare a RUN with data that it has not seen."""

import json

from scorefield.cli import console, opening
from scorefield.cli.options import Evaluate


def run(options: Evaluate) -> None:
    """Print each number with its error, beside that of real data, and the verdict."""
    kind, run = opening.read(options.run, options)
    found, notes = kind.evaluate(opening.opened(run, options), options.against, options.seed)
    console.speaker(options)(*(f"note: {note}" for note in notes))
    print(json.dumps({"run": str(options.run)} | found.as_json()) if options.json else "\n".join(found.lines()))
