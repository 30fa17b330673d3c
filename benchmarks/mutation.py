"""How many planted bugs the tests find: mutants drawn with a fixed seed from those that cosmic-ray can make.

A line of the rooms of the package is drawn first, evenly, then a place on it and one of the operators that apply there,
so that neither long files nor the many replacements of one sign crowd out the rest. Mutants that change nothing but
annotations are left out, and so are the two annexes: the scorecard, which is a test itself, and the tutorials. Each
mutant is planted in a copy of the project; then run the quick tests of its room, its module's own first, and the rest
of what `make check` runs, until one fails. One that does not end within LIMIT counts as found. Results go to
benchmarks/results/mutation.json as they come; what is there is not run again.

    python benchmarks/mutation.py [--count 60] [--seed 0] [--part 0/2]
"""

import argparse
import ast
import functools
import itertools
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cosmic_ray.plugins
import pytest
from cosmic_ray.ast import get_ast
from cosmic_ray.mutating import mutate_code

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "scorefield"
RESULTS = ROOT / "benchmarks" / "results"
ANNEXES = {"gallery", "selftest"}
LIMIT = 900
"""Seconds of a processor that the tests of a mutant may take, in each of the two runs."""

PARAMETRIC = {"core/VariableInserter", "core/VariableReplacer"}  # they need names of variables to replace


def modules() -> list[str]:
    """Return the paths of the modules that are mutated, below the package."""
    paths = (path.relative_to(SOURCE) for path in sorted(SOURCE.glob("*/**/*.py")))
    return [path.as_posix() for path in paths if path.parts[0] not in ANNEXES]


@functools.cache
def places(module: str) -> dict[tuple[int, int], list[tuple[str, int]]]:
    """Return what can be changed in a module: line and column to operators with the number of their occurrence."""
    found: dict[tuple[int, int], list[tuple[str, int]]] = {}
    tree = get_ast((SOURCE / module).read_text())
    for name in sorted(set(cosmic_ray.plugins.operator_names()) - PARAMETRIC):
        for occurrence, start in enumerate(positions(cosmic_ray.plugins.get_operator(name)(), tree)):
            found.setdefault(start, []).append((name, occurrence))
    return found


def positions(operator: object, tree: object) -> list[tuple[int, int]]:
    """Return where an operator applies, in the order of its occurrences."""
    found = []
    pending = [tree]
    while pending:
        node = pending.pop(0)
        found += [start for start, _ in operator.mutation_positions(node)]
        pending = [*getattr(node, "children", []), *pending]
    return found


def mutants(seed: int) -> Iterator[dict]:
    """Yield mutants without end, each line once: module, operator, line, the text before and after, the whole code."""
    draw = random.Random(seed)
    lines = [(m, i) for m in modules() for i in range(1, len((SOURCE / m).read_text().splitlines()) + 1)]
    draw.shuffle(lines)
    for module, line in lines:
        on_it = sorted(start for start in places(module) if start[0] == line)
        if not on_it:
            continue
        name, occurrence = draw.choice(places(module)[draw.choice(on_it)])
        before = (SOURCE / module).read_text()
        after = mutate_code(before, cosmic_ray.plugins.get_operator(name)(), occurrence)
        if after is None or same_code(before, after):
            continue
        was, now = next((a, b) for a, b in zip(before.splitlines(), after.splitlines(), strict=False) if a != b)
        found = {"module": module, "operator": name, "line": line, "was": was.strip(), "is": now.strip()}
        yield found | {"code": after}


def same_code(before: str, after: str) -> bool:
    """Return whether two texts are the same program but for annotations."""

    def bare(text: str) -> str:
        tree = ast.parse(text)
        for node in ast.walk(tree):
            for field in ("annotation", "returns"):
                if getattr(node, field, None) is not None:
                    setattr(node, field, ast.Constant(None))
        return ast.dump(tree)

    try:
        return bare(before) == bare(after)
    except SyntaxError:
        return True


def fails(copy: Path, *words: str) -> bool:
    """Return whether tests of a copy fail or do not end. Raises RuntimeError where pytest itself cannot run them."""
    environment = os.environ | {"PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not slow", *words],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT)),
    )
    if done.returncode == pytest.ExitCode.USAGE_ERROR:
        raise RuntimeError(f"the tests could not be run: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


def found_by(copy: Path, module: str) -> str:
    """Return which quick tests fail or do not end in a copy with a mutant: of its "room", the "rest", or none, ""."""
    room, own = module.split("/")[0], f"tests/{module.split('/')[0]}/test_{Path(module).stem}.py"
    if fails(copy, *([own] if (copy / own).exists() else []), f"tests/{room}"):
        return "room"
    return "rest" if fails(copy, "tests", f"--ignore=tests/{room}") else ""


def main() -> None:
    """Plant what is missing, keep the outcome of each, print the share that was found and the survivors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", default="0/1", help="this share of them, such as 0/2, to use several cores")
    options = parser.parse_args()
    part, parts = map(int, options.part.split("/"))
    path = RESULTS / ("mutation.json" if parts == 1 else f"mutation-{part}.json")
    kept = json.loads(path.read_text()) if path.exists() else {}
    drawn = {
        "{module}:{line} {operator}: {is}".format(**m): m
        for m in itertools.islice(mutants(options.seed), options.count)
    }
    results = {key: kept[key] for key in drawn if key in kept}
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "project"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "demo", "results", "__pycache__"))
        if fails(copy, "tests"):
            raise RuntimeError("the quick tests fail without any mutant, which would count as found")
        for number, (key, mutant) in enumerate(drawn.items()):
            if number % parts != part or key in results:
                continue
            target = copy / "src" / "scorefield" / mutant["module"]
            original = target.read_text()
            target.write_text(mutant.pop("code"))
            mutant["found"] = found_by(copy, mutant["module"])
            target.write_text(original)
            results[key] = mutant
            path.write_text(json.dumps(results, indent=1))
            print(number, mutant["found"] or "SURVIVED", key, flush=True)
    survivors = [key for key, mutant in results.items() if not mutant["found"]]
    print(f"{len(results) - len(survivors)} of {len(results)} found", *survivors, sep="\n")


if __name__ == "__main__":
    main()
