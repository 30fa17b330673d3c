"""What a test of the scorecard is, what it finds, and the line that tells it."""

import math
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field

SIZES = ("smoke", "quick", "full")
"""How much is drawn, killed or mutated: enough to notice a broken installation, the quick form, the full form."""


@dataclass(frozen=True)
class Plan:
    """What the user asked of a test: how much, and the seed of everything random."""

    size: str = "quick"
    seed: int = 0

    def of(self, smoke: int, quick: int, full: int) -> int:
        """Return the count that belongs to the size."""
        return dict(zip(SIZES, (smoke, quick, full), strict=True))[self.size]


@dataclass(frozen=True)
class Check:
    """One number of a test, found over n cases; it passes where value <= threshold, so not where it is NaN."""

    what: str
    value: float
    threshold: float
    n: int = 1

    @property
    def passed(self) -> bool:
        return self.value <= self.threshold

    @property
    def share(self) -> float:
        """How much of the threshold is used up."""
        if not self.passed:
            return math.inf
        return self.value / self.threshold if self.threshold else 0.0


@dataclass(frozen=True)
class Entry:
    """A test of the scorecard: what it is called, what it does, and what must make it fail.

    `run` yields its checks; `fault` plants a bug in the package, or in what the test looks at, which must make it fail.
    A test of the smoke form has no chance of failing by bad luck and takes seconds.
    """

    title: str
    run: Callable[[Plan], Iterable[Check]]
    fault: Callable[[], AbstractContextManager]
    smoke: bool
    needs: str = ""
    """a library that only this test needs"""


@dataclass(frozen=True)
class Outcome:
    """What a test found: its checks, the time it took in seconds, and what it raised if it did not get to its end.

    not_run: what it needs and how to install it, where that is why it was not run; then it neither passed nor failed.
    """

    name: str
    title: str
    checks: list[Check]
    seconds: float
    error: str = ""
    not_run: str = ""

    @property
    def passed(self) -> bool:
        return bool(self.checks) and not self.error and all(check.passed for check in self.checks)

    def line(self) -> str:
        """Return the line of the scorecard; value and threshold are those of the check that is nearest to failing."""
        if self.not_run:
            return f"{self.name} NOT RUN {self.not_run}"
        verdict, n = "PASS" if self.passed else "FAIL", sum(check.n for check in self.checks)
        if self.error:
            return f"{self.name} FAIL n={n} seconds={self.seconds:.1f} {self.error}"
        worst = max(self.checks, key=lambda check: check.share, default=Check("no check was made", math.nan, 0.0, 0))
        numbers = f"value={worst.value:.3g} threshold={worst.threshold:.3g} n={n} seconds={self.seconds:.1f}"
        return f"{self.name} {verdict} {numbers} {self.title}: {worst.what}"

    def as_json(self) -> dict:
        """Return everything as plain values."""
        return {"passed": self.passed} | asdict(self)


@dataclass
class Failures:
    """Cases of which each must come out as it should; those that do not are kept with their reason."""

    what: str
    n: int = 0
    found: list[str] = field(default_factory=list)

    def add(self, case: str, reason: str | None) -> None:
        """Count a case; a reason says what is wrong with it."""
        self.n += 1
        if reason:
            self.found.append(f"{case}: {reason}")

    def check(self) -> Check:
        """Return the number of failures as a check that allows none, naming the first."""
        told = self.what + (f"; {self.found[0]}" if self.found else "")
        return Check(told, float(len(self.found)), 0.0, self.n)


@dataclass
class Worst:
    """Cases of which the largest error counts; one that is not a number counts as infinite."""

    what: str
    threshold: float
    n: int = 0
    value: float = math.nan
    case: str = ""

    def add(self, case: str, error: float, n: int = 1) -> None:
        """Count n cases with their largest error."""
        self.n += n
        error = math.inf if math.isnan(error) else error
        if not self.value >= error:
            self.value, self.case = error, case

    def check(self) -> Check:
        """Return the largest error as a check, naming its case."""
        return Check(f"{self.what}: {self.case}", self.value, self.threshold, self.n)


def outcome(name: str, test: Entry, plan: Plan, to_the_end: bool = True) -> Outcome:
    """Return what a test finds, or to_the_end=False up to its first failure; whatever it raises makes it fail."""
    began, checks, error = time.perf_counter(), [], ""
    try:
        for check in test.run(plan):
            checks.append(check)
            if not (to_the_end or check.passed):
                break
    except Exception as raised:  # a test must never take the others down
        last = traceback.extract_tb(raised.__traceback__)[-1]
        error = f"{type(raised).__name__}: {raised} ({last.filename.rsplit('/', 1)[-1]}:{last.lineno})"
    return Outcome(name, test.title, checks, time.perf_counter() - began, error)
