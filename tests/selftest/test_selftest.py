"""How the scorecard counts and tells; `make test` runs it as a user does, and its planted faults."""

import importlib.util
import math
from contextlib import nullcontext
from json import loads

import pytest

from scorefield import selftest
from scorefield.cli import selftest as command
from scorefield.cli.options import Selftest
from scorefield.selftest.report import Check, Entry, Failures, Outcome, Plan, Worst, outcome

NEEDED = "needs hypothesis, which is not installed: pip install 'scorefield[selftest]'"


def test_a_check_passes_up_to_its_threshold_and_never_with_nan():
    assert Check("", 1.0, 1.0).passed
    assert not Check("", 1.0000001, 1.0).passed
    assert not Check("", math.nan, 1.0).passed


def made(*checks: Check, error: Exception | None = None) -> Entry:
    def run(plan):
        yield from checks
        if error:
            raise error

    return Entry("a test", run, nullcontext, smoke=True)


def test_the_line_tells_the_check_nearest_to_failing():
    found = outcome("R99", made(Check("far", 0.1, 1.0, 3), Check("near", 4.0, 5.0, 4)), Plan())
    assert found.passed
    assert found.line().startswith("R99 PASS value=4 threshold=5 n=7 seconds=0.0")
    found = outcome("R99", made(Check("near", 4.0, 5.0), Check("over", 1.0, 0.0)), Plan())
    assert not found.passed
    assert found.line().startswith("R99 FAIL value=1 threshold=0 n=2")


def test_what_is_raised_and_what_checks_nothing_fail():
    found = outcome("R99", made(Check("fine", 0.0, 1.0), error=ZeroDivisionError("by zero")), Plan())
    assert not found.passed
    assert "ZeroDivisionError: by zero" in found.line()
    assert not outcome("R99", made(), Plan()).passed


def test_a_planted_fault_is_tested_up_to_the_first_failure():
    test = made(Check("fine", 0.0, 1.0), Check("over", 2.0, 1.0), error=ZeroDivisionError("of what comes after"))
    found = outcome("R99", test, Plan(), to_the_end=False)
    assert (len(found.checks), found.passed, found.error) == (2, False, "")
    assert outcome("R99", test, Plan()).error


def test_failures_are_counted_and_the_first_is_named():
    cases = Failures("cases")
    cases.add("one", None)
    assert cases.check().passed
    cases.add("two", "came back empty")
    assert cases.check() == Check("cases; two: came back empty", 1.0, 0.0, 2)


def test_the_worst_case_is_named_and_what_is_not_a_number_is_worst():
    worst = Worst("cases", 1.0)
    assert not worst.check().passed
    for case, error in (("small", 0.5), ("none", math.nan), ("large", 1e9)):
        worst.add(case, error, 2)
        assert worst.check().passed == (case == "small")
    assert worst.check() == Check("cases: none", math.inf, 1.0, 6)


def test_a_number_that_no_test_has_is_named():
    with pytest.raises(ValueError, match="got 'R99'"):
        selftest.chosen(["r99"])


def test_a_test_whose_library_is_missing_is_not_run_and_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for planted in (False, True):
        found = selftest.run_one("R26", Plan("smoke"), planted)
        assert found.line() == f"R26 NOT RUN {NEEDED}"
        assert not found.passed
        assert found.as_json()["not_run"] == NEEDED


@pytest.mark.parametrize("prove", [False, True])
@pytest.mark.parametrize("json", [False, True])
@pytest.mark.parametrize("wrong", [False, True])
def test_not_run_is_counted_apart_and_is_no_failure(monkeypatch, capsys, wrong, json, prove):
    """One test that passes, one that fails if `wrong`, one not run; under --prove a planted fault must fail."""
    of = lambda name, value: outcome(name, made(Check("", value, 0.0)), Plan())
    found = [of("R97", float(prove)), of("R98", float(wrong != prove)), Outcome("R99", "", [], 0.0, not_run=NEEDED)]
    monkeypatch.setattr(selftest, "run", lambda names, plan, planted=False: iter(found))
    options = Selftest(names=("R26",), prove=prove, json=json)
    if wrong:
        with pytest.raises(RuntimeError, match=r"^1 of 2 tests failed: R98, not run: 1$"):
            command.run(options)
    else:
        command.run(options)
    printed = capsys.readouterr()
    assert wrong or "passed: 2 of 2, not run: 1" in printed.err
    if json:
        tests = loads(printed.out)["tests"]
        assert [(test["passed"], test["not_run"]) for test in tests] == [(True, ""), (not wrong, ""), (False, NEEDED)]
    else:
        assert [line.split(" ")[1] for line in printed.out.splitlines()] == ["PASS", "FAIL" if wrong else "PASS", "NOT"]
