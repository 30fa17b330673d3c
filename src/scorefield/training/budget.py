"""How long a training goes on and how fast it learns: so many steps, or a budget of seconds that is kept."""

import abc
import math
import time
from array import array
from collections import deque
from collections.abc import Callable

WARM_UP = 100
"""Steps over which the learning rate rises."""

FALL = 5
"""The learning rate falls over the last N // FALL of N steps."""

DENSE = 80
"""Reports follow every tenth step until here, and then eight times in each doubling of the steps."""

LEAST = 50
"""A budget that has no time for so many steps is refused: no model can be learned in it."""


class TooShort(ValueError):
    """A budget in which a model can't be learned; the message says how many seconds can be enough."""


class Budget:
    """So many seconds of the clock for training, its reports and checkpoints included.

    The fall begins after the first L steps with e(L) + (e(L) - e(L - L // 4)) >= seconds, where e are the elapsed
    seconds: it is expected to take as long as the last L // 4 steps took, which are as many, and what the reports take
    that it has more, by the last ones.

    spent: the seconds that the steps before `begin` took, as if all of them took the same time.
    """

    def __init__(self, seconds: float, spent: float = 0.0, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds, self.spent, self.clock = seconds, spent, clock

    def begin(self, step: int) -> None:
        """Start the clock where so many steps have been taken."""
        self._elapsed = array("d", (self.spent * k / max(1, step) for k in range(step + 1)))
        self._began, self._from = self.clock() - self.spent, step
        self._reports: deque[float] = deque([0.0], 4)

    def must_fall(self, step: int, due: Callable[[int], bool]) -> bool:
        """Return, once after each step and before its report, whether the fall must begin; due: where reports are.

        Raises TooShort where it would before LEAST steps are certain. So that nobody waits for that, it is raised as
        soon as a quarter of the time after the first step has shown it; the first step is apart since it allocates
        memory.
        """
        self.spent = now = self.clock() - self._began
        self._elapsed.append(now)
        if step == 1:
            return False
        first = self._elapsed[1]
        if due(step - 1) and step > self._from + 1:  # its report lies in the seconds of this step
            self._reports.append(now - 2 * self._elapsed[step - 1] + self._elapsed[step - 2])
        falling = self._expected(step, due) >= self.seconds
        needed = now + (LEAST - step) * (now - first) / (step - 1)
        hopeless = needed > self.seconds and 4 * (now - first) >= self.seconds - first
        if total(step) < LEAST and (falling or hopeless):
            raise TooShort(
                f"a budget of {self.seconds:g} s is too short: {LEAST} steps take about {math.ceil(needed)} s here; "
                f"give at least {math.ceil(1.5 * needed)} s"
            )
        return falling

    def _expected(self, step: int, due: Callable[[int], bool]) -> float:
        """Return the seconds at the end of a fall that begins after so many steps."""
        fall, now = step // (FALL - 1), self._elapsed[step]
        expected = 2 * now - self._elapsed[step - fall]
        report = max(0.0, sum(self._reports) / len(self._reports))
        if abs(self.seconds - expected) < 4 * report:  # they may decide
            more = 1 + sum(map(due, range(step, step + fall))) - sum(map(due, range(step - fall, step)))
            expected += more * report
        return expected


class Schedule(abc.ABC):
    """How long a training goes on, the learning rate of each step, and after which steps there is a report.

    limit: the number of steps, or a budget: then `steps` is None until the clock has said how many there are in all.
    Raises ValueError for less than one step.
    """

    def __init__(self, limit: int | Budget) -> None:
        if isinstance(limit, int) and limit < 1:
            raise ValueError(f"expected at least one step; got {limit}")
        self.budget = limit if isinstance(limit, Budget) else None
        self.steps: int | None = None if isinstance(limit, Budget) else limit

    @abc.abstractmethod
    def rate(self, step: int) -> float:
        """Return the share of the learning rate that the step after `step` steps takes."""

    @abc.abstractmethod
    def decay(self, step: int) -> float:
        """Return the share of the averaged weights that stays when those of the step after `step` steps join them."""

    @abc.abstractmethod
    def due(self, step: int) -> bool:
        """Return whether a report follows so many steps."""

    def ends(self, step: int) -> bool:
        """Return whether so many steps are all."""
        return self.steps is not None and step >= self.steps

    def begin(self, step: int) -> None:
        """Start the clock, where one decides, after so many steps."""
        if self.budget is not None:
            self.budget.begin(step)

    def observe(self, step: int) -> None:
        """Note the time after each step, where the clock decides. Raises TooShort; see `Budget`."""
        if self.budget is not None and self.steps is None and self.budget.must_fall(step, self.due):
            self.settle(step)

    def settle(self, level: int) -> None:
        """Let the fall begin after so many steps."""
        self.steps = total(level)


class Falling(Schedule):
    """A level learning rate that falls to 0 over the last fifth of the steps, and weights averaged over as long.

    The rate after k of N steps is min(1, (k + 1) / WARM_UP) min(1, (N - k) / (N // 5 + 1)). A budget finds the number L
    of steps before the fall by the clock, and N = L + L // 4. So N // 5 = L // 4, and N alone determines every rate.
    Reports lie at steps that do not depend on N, except for the last one. At a level rate weights wander: their average
    decays by k / (k + 4), so that it is a fifth of all steps old.
    """

    def rate(self, step: int) -> float:
        warm = min(1.0, (step + 1) / WARM_UP)
        return warm if self.steps is None else warm * min(1.0, (self.steps - step) / (self.steps // FALL + 1))

    def decay(self, step: int) -> float:
        return step / (step + FALL - 1)

    def due(self, step: int) -> bool:
        return step % grain(step) == 0 or step == self.steps


class Cosine(Schedule):
    """The schedule of runs whose config.toml has format 6, to finish them: a cosine from the first to the last step.

    The rate after k of N steps is min(1, (k + 1) / WARM_UP) (1 + cos(pi k / N)) / 2, the average decays by
    min(0.999, k / (k + 10)), and there are about 50 reports.
    """

    steps: int

    def __init__(self, steps: int) -> None:
        super().__init__(steps)

    def rate(self, step: int) -> float:
        return min(1.0, (step + 1) / WARM_UP) * (1 + math.cos(math.pi * step / self.steps)) / 2

    def decay(self, step: int) -> float:
        return min(0.999, step / (step + 10))

    def due(self, step: int) -> bool:
        return step % max(10, self.steps // 50) == 0 or step == self.steps


def total(level: int) -> int:
    """Return the number of all steps, L + L // 4, where the learning rate falls after so many."""
    return level + level // (FALL - 1)


def grain(step: int) -> int:
    """Return the distance of reports around a step: 10 below 160, 20 below 320, twice as much in each doubling."""
    return 10 << max(0, (step // DENSE).bit_length() - 1)
