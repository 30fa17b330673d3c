"""`scorefield selftest`: check this installation."""

import json

from scorefield import selftest
from scorefield.cli import console, opening
from scorefield.cli.options import Selftest


def run(options: Selftest) -> None:
    """Run the scorecard and print a line a test. Raises RuntimeError if one failed; not run is not failed."""
    opening.start(options)
    if options.smoke + options.full + options.prove > 1:
        raise ValueError("--smoke, --full and --prove exclude each other; leave one in")
    if options.seed < 0:
        raise ValueError(f"--seed must be at least 0; got {options.seed}")
    size = "smoke" if options.smoke or options.prove else "full" if options.full else "quick"
    names = selftest.chosen(options.names, certain=options.smoke)
    tests = selftest.prove if options.prove else selftest.run
    found = []
    for outcome in tests(names, selftest.Plan(size, options.seed)):
        found.append(outcome)
        if not options.json:
            print(outcome.line(), flush=True)
    if options.json:
        print(json.dumps({"size": size, "seed": options.seed, "tests": [outcome.as_json() for outcome in found]}))
    ran = [outcome for outcome in found if not outcome.not_run]
    missing = f", not run: {len(found) - len(ran)}" if len(ran) < len(found) else ""
    if failed := [outcome.name for outcome in ran if not outcome.passed]:
        raise RuntimeError(f"{len(failed)} of {len(ran)} tests failed: {', '.join(failed)}{missing}")
    console.speaker(options)(f"passed: {len(ran)} of {len(ran)}{missing}")
