"""Tests whose law under the right answer is known exactly, and the false alarms that they may raise together."""

import math
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from scorefield.selftest.cases import z_limit
from scorefield.selftest.report import Check


@dataclass
class Deviates:
    """The tests of one family: of each the size of the standard normal deviate that is as improbable as what came."""

    found: dict[str, float] = field(default_factory=dict)

    def normal(self, name: str, deviate: float) -> None:
        """Add a statistic that is a standard normal."""
        self.found[name] = abs(float(deviate))

    def chi_squared(self, name: str, total: float, freedom: int) -> None:
        """Add a statistic with a chi-squared law, two-sided."""
        law = stats.chi2(freedom)
        self.tail(name, 2 * min(float(law.cdf(total)), float(law.sf(total))))

    def uniform(self, name: str, values: np.ndarray, bias: float = 0.0) -> None:
        """Add the distance of values (n,) from the uniform law less a known bias (Kolmogorov and Smirnov)."""
        distance = float(stats.kstest(values, "uniform").statistic)
        self.tail(name, float(stats.kstwo(len(values)).sf(max(distance - bias, 0.0))))

    def tail(self, name: str, p_value: float) -> None:
        """Add a test by its p-value."""
        self.found[name] = float(stats.norm.isf(p_value / 2)) if p_value > 0 else math.inf

    def check(self, what: str, n: int) -> Check:
        """Return the largest deviate against the limit of all, naming it; NaN is the largest."""
        name = max(self.found, key=lambda key: math.inf if math.isnan(self.found[key]) else self.found[key])
        told = f"{what}, largest of {len(self.found)} deviates, {name}"
        return Check(told, self.found[name], z_limit(len(self.found)), n)


def sees(n: int | float, tests: int) -> str:
    """Say which error a mean and a variance are found with at 99.9 per cent."""
    shift = (z_limit(tests) + stats.norm.isf(1e-3)) / math.sqrt(n)
    return f"sees {shift:.2%} of a standard deviation in a mean, {math.sqrt(2) * shift:.2%} in a variance"
