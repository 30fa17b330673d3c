"""The examples of docstrings run, and print what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

import scorefield

SOURCE = Path(scorefield.__file__).parent
MODULES = [
    ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
    for path in sorted(SOURCE.rglob("*.py"))
    if ">>> " in path.read_text()
]
"""Those that have examples: importing the others would take longer than all of these."""

CASES = [
    case
    for name in MODULES
    for case in doctest.DocTestFinder().find(importlib.import_module(name), name)
    if case.examples
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.removeprefix("scorefield."))
def test_an_example_prints_what_it_says(case):
    found = doctest.DocTestRunner().run(case)
    assert (found.failed, found.attempted) == (0, len(case.examples))


def test_what_is_used_most_has_an_example():
    used = {"GaussianMixture", "VP", "ExactDenoiser", "LinearSDE", "sample", "log_prob", "walk", "adams", "unadjusted"}
    assert used <= {case.name.rsplit(".", 1)[-1] for case in CASES}
