"""How many planted bugs the tests find: mutants drawn with a fixed seed from those that cosmic-ray can make.

A place in the code is drawn first, evenly over the modules' places, then one of the operators that apply there, so that
the many replacements of one sign do not crowd out the rest. Mutants that change nothing but annotations are left out.
`trace` runs the quick tests once and keeps which lines each reaches and how long it takes. `plant` then runs, for
each mutant in a copy of the project, the tests that enter its function and the module's own: those that reach its line
first, then the module's own, the quickest first, until one fails or PATIENCE is used up, and then its own slow ones. A
mutant that does not end counts as found. Results go to benchmarks/results/mutation.json as they come; what is there
is not run again.

    python benchmarks/mutation.py trace TRACE.json
    python benchmarks/mutation.py plant TRACE.json [--count 200] [--seed 0] [--part 0/2]
"""

import argparse
import ast
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import cosmic_ray.plugins
import coverage
import pytest
from cosmic_ray.ast import get_ast
from cosmic_ray.mutating import mutate_code

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
TESTS = {
    "diffusion/process": (["diffusion/test_process"], ["diffusion/test_model", "inference/test_samplers"]),
    "diffusion/published": (
        ["diffusion/test_process"],
        ["selftest/test_numbers", "inference/test_samplers", "inference/test_likelihood"],
    ),
    "diffusion/prediction": (
        ["diffusion/test_prediction"],
        ["diffusion/test_model", "selftest/test_numbers", "inference/test_samplers"],
    ),
    "numerics/divergence": (["numerics/test_divergence"], ["selftest/test_numbers", "inference/test_likelihood"]),
    "training/objectives/losses": (["training/test_objectives"], ["selftest/test_numbers", "training/test_training"]),
    "training/objectives/table": (["training/test_objectives"], ["selftest/test_numbers", "training/test_training"]),
    "inference/samplers": (
        ["inference/test_samplers"],
        ["selftest/test_numbers", "selftest/test_sampler_law", "kinds/test_estimator"],
    ),
    "inference/exponential": (
        ["inference/test_exponential"],
        ["inference/test_samplers", "selftest/test_numbers", "selftest/test_sampler_law"],
    ),
    "inference/adaptive": (
        ["inference/test_adaptive"],
        ["selftest/test_numbers", "inference/test_samplers", "selftest/test_sampler_law"],
    ),
    "inference/walking": (
        ["inference/test_samplers"],
        ["inference/test_adaptive", "inference/test_langevin", "selftest/test_numbers"],
    ),
    "inference/step_grid": (["inference/test_grids"], ["inference/test_samplers", "inference/test_frontier"]),
    "inference/probability_flow": (["inference/test_flow"], ["selftest/test_numbers", "kinds/test_estimator"]),
    "inference/likelihood": (["inference/test_likelihood"], ["selftest/test_numbers", "kinds/test_estimator"]),
    "inference/bound": (["inference/test_variational"], ["selftest/test_numbers", "kinds/test_estimator"]),
    "kinds/tables/units": (["kinds/test_transforms"], ["kinds/test_estimator"]),
    "kinds/tables/columns": (["kinds/test_transforms"], ["kinds/test_estimator", "cli/test_cli"]),
}
"""The modules, the tests of each, and those that use it."""

PATIENCE = 90
"""Seconds that the quick tests of one mutant may take, as traced."""

LIMIT = 1200
"""Seconds of processor time after which a mutant counts as found: it does not end."""

BROKEN = 99
"""The exit code of a process that did not come to an end of its tests."""

LIBRARIES = [
    "torch",
    "scipy.stats",
    "sklearn.mixture",
    "pandas",
    "mpmath",
    "matplotlib.pyplot",
    "arviz_stats",
]
"""What the tests import and no mutant changes."""

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


class Tracer:
    """A plugin of pytest that keeps the lines each test reaches, and its seconds."""

    def __init__(self, copy: Path) -> None:
        self.found: dict[str, dict] = {}
        self.folder = copy / "src" / "scorefield"
        self.coverage = coverage.Coverage(data_file=None, include=[str(self.folder / f"{m}.py") for m in TESTS])
        self.coverage.set_option("run:disable_warnings", ["no-data-collected"])  # pytest makes warnings errors

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.coverage.erase()
        self.coverage.start()
        try:
            return (yield)
        finally:
            self.coverage.stop()
            data = self.coverage.get_data()
            lines = {m: data.lines(str(self.folder / f"{m}.py")) for m in TESTS}
            entry = self.found.setdefault(item.nodeid, {"seconds": 0.0})
            entry["lines"] = {m: sorted(found) for m, found in lines.items() if found}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.found.setdefault(report.nodeid, {"seconds": 0.0})["seconds"] += report.duration


class Chosen:
    """A plugin of pytest that leaves only the chosen tests, in their order."""

    def __init__(self, names: list[str]) -> None:
        self.places = {name: place for place, name in enumerate(names)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((i for i in items if i.nodeid in self.places), key=lambda i: self.places[i.nodeid])


def forked(work: Callable[[], int], seconds: int) -> int:
    """Return what work returns in a process of its own, which is ended after seconds of processor time; -1 if so."""
    sys.stdout.flush()
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        code = BROKEN
        try:
            code = int(work())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def run_tests(copy: Path, files: list[str], marks: str, *plugins: object, quiet: bool = True) -> int:
    """Run tests of a copy of the project in this process and return pytest's exit code."""
    os.chdir(copy)
    os.environ["PYTHONPATH"] = str(copy / "src")
    sys.path.insert(0, str(copy / "src"))
    if quiet:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts=", "-m", marks]
    return pytest.main([*options, *(["-x"] if quiet else []), *files], plugins=list(plugins))


def trace(copy: Path, path: Path) -> None:
    """Keep what the quick tests reach."""
    files = sorted({f"tests/{name}.py" for own, users in TESTS.values() for name in own + users})

    def work() -> int:
        tracer = Tracer(copy)
        code = run_tests(copy, files, "not slow", tracer, quiet=False)
        path.write_text(json.dumps(tracer.found))
        return code

    print("exit code", forked(work, 100_000))


def function_lines(code: str, line: int) -> set[int]:
    """Return the lines of the innermost function around a line; of a line outside of all, the whole text's."""
    spans = [
        (node.lineno, node.end_lineno or node.lineno)
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.FunctionDef) and node.lineno < line <= (node.end_lineno or node.lineno)
    ]
    first, last = max(spans, default=(0, len(code.splitlines())))
    return set(range(first + 1, last + 1))


def tests_for(mutant: dict, traced: dict[str, dict]) -> list[str]:
    """Return the tests of a mutant's module or function, in the order to be run, until PATIENCE is used up."""
    code = (ROOT / "src" / "scorefield" / f"{mutant['module']}.py").read_text()
    around = function_lines(code, mutant["line"])
    reached = {name: set(test["lines"].get(mutant["module"], ())) for name, test in traced.items() if "lines" in test}
    own = {f"tests/{name}.py" for name in TESTS[mutant["module"]][0]}
    is_own = {name: name.split("::")[0] in own for name in reached}  # kept: what an import runs, no test enters
    entering = [name for name, lines in reached.items() if lines & around or is_own[name]]
    entering.sort(key=lambda name: (mutant["line"] not in reached[name], not is_own[name], traced[name]["seconds"]))
    chosen, spent = [], 0.0
    for name in entering:
        spent += traced[name]["seconds"]
        if spent > PATIENCE and chosen:
            break
        chosen.append(name)
    return chosen


def fails(work: Callable[[], int]) -> bool:
    """Return whether tests fail or do not end in a process of its own. Raises RuntimeError where pytest itself does."""
    code = forked(work, LIMIT)
    if code in (BROKEN, pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR):
        raise RuntimeError(f"the tests could not be run: exit code {code}")
    return code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


def is_found(copy: Path, mutant: dict, traced: dict[str, dict]) -> str:
    """Return which tests fail or do not end in a copy with a mutant: "quick", "slow", or nothing."""
    names = tests_for(mutant, traced)
    files = sorted({name.split("::")[0] for name in names})
    own = [f"tests/{name}.py" for name in TESTS[mutant["module"]][0]]
    if names and fails(lambda: run_tests(copy, files, "not slow", Chosen(names))):
        return "quick"
    return "slow" if fails(lambda: run_tests(copy, own, "slow")) else ""


def main() -> None:
    """Trace, or plant what is missing, keep the outcome of each, print the share that was found and the survivors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["trace", "plant"])
    parser.add_argument("trace", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", default="0/1", help="this share of them, such as 0/2, to use several cores")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    part, parts = map(int, options.part.split("/"))
    path = RESULTS / ("mutation.json" if parts == 1 else f"mutation-{part}.json")
    results = json.loads(path.read_text()) if path.exists() else {}
    trace_file = options.trace.absolute()
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "project"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "demo", "results", "__pycache__"))
        if options.action == "trace":
            trace(copy, trace_file)
            return
        for library in LIBRARIES:
            __import__(library)  # once, before the processes that test are forked
        traced = json.loads(trace_file.read_text())
        one = next(name for name, test in traced.items() if test.get("lines"))
        if fails(lambda: run_tests(copy, [one.split("::")[0]], "not slow", Chosen([one]))):
            raise RuntimeError(f"{one} fails without any mutant")
        for number, mutant in enumerate(mutants(options.count, options.seed)):
            key = "{module}:{line} {operator}: {is}".format(**mutant)
            if number % parts != part or key in results:
                continue
            target = copy / "src" / "scorefield" / f"{mutant['module']}.py"
            original = target.read_text()
            target.write_text(mutant.pop("code"))
            mutant["found"] = is_found(copy, mutant, traced)
            target.write_text(original)
            results[key] = mutant
            path.write_text(json.dumps(results, indent=1))
            print(number, mutant["found"] or "SURVIVED", key, flush=True)
    survivors = [key for key, mutant in results.items() if not mutant["found"]]
    print(f"{len(results) - len(survivors)} of {len(results)} found", *survivors, sep="\n")


if __name__ == "__main__":
    main()
