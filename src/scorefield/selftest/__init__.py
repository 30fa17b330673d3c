"""The scorecard: tests of numbers, laws, faults, bad input and attacks that a user can run on an installation.

Each test has a number, R01 to R30, thresholds that are never loosened, and a planted fault that must make it fail. A
test is added by a row in the TESTS of its module; a module, by a name in MODULES.
"""

import importlib
import importlib.util
import multiprocessing
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor

import torch

from scorefield.selftest.report import SIZES, Check, Entry, Outcome, Plan, outcome

__all__ = ["MODULES", "SIZES", "Outcome", "Plan", "chosen", "prove", "run", "table"]

MODULES: list[str] = [
    "numbers.coefficients",
    "numbers.orders",
    "numbers.likelihoods",
    "numbers.traces",
    "numbers.matching",
    "numbers.fields",
    "numbers.reference",
    "laws.gaussian",
    "laws.mixture",
    "laws.chains",
    "laws.rates",
    "laws.mutants",
    "faults.resuming",
    "faults.stopping",
    "faults.saves",
    "faults.disks",
    "faults.determinism",
    "inputs.corpus",
    "faults.guard",
    "inputs.edges",
    "inputs.scales",
    "faults.memory",
    "laws.properties",
    "attacks.fuzz",
    "attacks.execution",
    "attacks.files",
    "attacks.gate",
]
"""The modules with tests, in the order of their numbers."""


def table() -> dict[str, Entry]:
    """Return all tests by number."""
    modules = [importlib.import_module(f"scorefield.selftest.{name}") for name in MODULES]
    return dict(sorted(item for module in modules for item in module.TESTS.items()))


def chosen(names: Iterable[str], certain: bool = False) -> list[str]:
    """Return the numbers asked for, else all, or those that chance cannot fail. Raises ValueError for others."""
    tests, names = table(), [name.upper() for name in names]
    if unknown := [name for name in names if name not in tests]:
        raise ValueError(f"expected numbers of tests among {', '.join(tests)}; got {unknown[0]!r}")
    return names or [name for name, test in tests.items() if test.smoke or not certain]


def run_one(name: str, plan: Plan, planted: bool = False) -> Outcome:
    """Return what one test finds in this process, with its fault planted or not."""
    torch.set_num_threads(1)  # before anything is computed: a process that had more cannot be forked
    test = table()[name]
    if test.needs and importlib.util.find_spec(test.needs) is None:
        missing = f"needs {test.needs}, which is not installed: pip install 'scorefield[selftest]'"
        return Outcome(name, test.title, [], 0.0, not_run=missing)
    if not planted:
        return outcome(name, test, plan)
    with test.fault():
        return outcome(name, test, plan, to_the_end=False)


def run(names: list[str], plan: Plan, planted: bool = False) -> Iterator[Outcome]:
    """Yield what each test finds, in order; each has a process of its own, as many at once as there are cores."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=spawn, max_tasks_per_child=1) as pool:
        waiting = [pool.submit(run_one, name, plan, planted) for name in names]
        for future in waiting:
            yield future.result()


def prove(names: list[str], plan: Plan) -> Iterator[Outcome]:
    """Yield for each test whether its planted fault made it fail, with what it then said; not run ones as they are."""
    for found in run(names, plan, planted=True):
        if found.not_run:
            yield found
            continue
        told = found.line().partition(" ")[2]
        check = Check(f"planted fault: {told}", float(found.passed), 0.0, sum(check.n for check in found.checks))
        yield Outcome(found.name, found.title, [check], found.seconds)
