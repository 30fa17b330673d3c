"""How many planted bugs the tests find: mutants drawn with a fixed seed from those that cosmic-ray can make.

A place in the code is drawn first, evenly over the modules' places, then one of the operators that apply there, so that
the many replacements of one sign do not crowd out the rest. Mutants that change nothing but annotations are left out.
Each is planted in a copy of the project; the module's own tests run first, for survivors those that use it.
Results go to benchmarks/results/mutation.json as they come, and what is there is not run again.

    python benchmarks/mutation.py [--count 200] [--seed 0] [--part 0/2]
"""

import argparse
import ast
import functools
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cosmic_ray.plugins
from cosmic_ray.ast import get_ast
from cosmic_ray.mutating import mutate_code

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
TESTS = {
    "process": (["process"], ["reference", "samplers", "likelihood"]),
    "prediction": (["prediction"], ["model", "reference", "samplers"]),
    "divergence": (["divergence"], ["likelihood"]),
    "objectives": (["objectives"], ["training"]),
    "samplers": (["samplers"], ["reference", "sampler_law", "estimator"]),
    "exponential": (["exponential"], ["samplers", "reference", "sampler_law"]),
    "adaptive": (["adaptive"], ["samplers", "sampler_law"]),
    "walks": (["samplers"], ["adaptive", "langevin", "reference"]),
    "grids": (["grids"], ["samplers", "frontier"]),
    "flow": (["flow"], ["estimator"]),
    "likelihood": (["likelihood"], ["reference", "estimator"]),
    "variational": (["variational"], ["estimator"]),
    "transforms": (["transforms"], ["estimator"]),
    "columns": (["transforms"], ["estimator", "cli"]),
}
"""The modules, the tests of each, and those that use it."""

LIMIT = 1200
"""Seconds of processor time after which a mutant counts as found: it does not end."""

PARAMETRIC = {"core/VariableInserter", "core/VariableReplacer"}  # they need names of variables to replace


def mutants(count: int, seed: int) -> list[dict]:
    """Return mutants drawn evenly over places: module, operator, occurrence, line, the text before and after."""
    places: dict[tuple[str, tuple[int, int]], list[tuple[str, int]]] = {}
    for module in TESTS:
        tree = get_ast((ROOT / "src" / "scorefield" / f"{module}.py").read_text())
        for name in sorted(set(cosmic_ray.plugins.operator_names()) - PARAMETRIC):
            found = positions(cosmic_ray.plugins.get_operator(name)(), tree)
            for occurrence, start in enumerate(found):
                places.setdefault((module, start), []).append((name, occurrence))
    draw = random.Random(seed)
    order = sorted(places)
    draw.shuffle(order)
    chosen = []
    for module, start in order:
        name, occurrence = draw.choice(places[module, start])
        before = (ROOT / "src" / "scorefield" / f"{module}.py").read_text()
        after = mutate_code(before, cosmic_ray.plugins.get_operator(name)(), occurrence)
        if after is None or same_code(before, after):
            continue
        line = before.splitlines()[start[0] - 1].strip()
        changed = next(b for a, b in zip(before.splitlines(), after.splitlines(), strict=False) if a != b)
        chosen.append({"module": module, "operator": name, "line": start[0], "was": line, "is": changed.strip()})
        chosen[-1]["code"] = after
        if len(chosen) == count:
            break
    return chosen


def positions(operator: object, tree: object) -> list[tuple[int, int]]:
    """Return where an operator applies, in the order of its occurrences."""
    found = []
    pending = [tree]
    while pending:
        node = pending.pop(0)
        found += [start for start, _ in operator.mutation_positions(node)]
        pending = [*getattr(node, "children", []), *pending]
    return found


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


def is_found(copy: Path, names: list[str], marks: str) -> bool:
    """Return whether tests fail or do not end in a copy of the project."""
    files = [f"tests/test_{name}.py" for name in names]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "-o",
        "addopts=",
        *marks.split("|"),
    ]
    environment = os.environ | {"PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1"}
    limited = functools.partial(resource.setrlimit, resource.RLIMIT_CPU, (LIMIT, LIMIT))
    done = subprocess.run([*command, *files], cwd=copy, env=environment, capture_output=True, preexec_fn=limited)
    return done.returncode not in (0, 5)  # 5: no test was selected


def main() -> None:
    """Plant what is missing, keep the outcome of each, print the share that was found and the survivors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", default="0/1", help="this share of them, such as 0/2, to use several cores")
    options = parser.parse_args()
    part, parts = map(int, options.part.split("/"))
    path = RESULTS / ("mutation.json" if parts == 1 else f"mutation-{part}.json")
    results = json.loads(path.read_text()) if path.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "project"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "demo", "results", "__pycache__"))
        for number, mutant in enumerate(mutants(options.count, options.seed)):
            key = "{module}:{line} {operator}: {is}".format(**mutant)
            if number % parts != part or key in results:
                continue
            target = copy / "src" / "scorefield" / f"{mutant['module']}.py"
            original = target.read_text()
            target.write_text(mutant.pop("code"))
            own, users = TESTS[mutant["module"]]
            stages = [(own, "-m|not slow"), (own, "-m|slow"), (users, "-m|not slow")]
            mutant["found"] = next((i + 1 for i, stage in enumerate(stages) if is_found(copy, *stage)), 0)
            target.write_text(original)
            results[key] = mutant
            path.write_text(json.dumps(results, indent=1))
            print(number, mutant["found"], key, flush=True)
    survivors = [key for key, mutant in results.items() if not mutant["found"]]
    print(f"{len(results) - len(survivors)} of {len(results)} found", *survivors, sep="\n")


if __name__ == "__main__":
    main()
