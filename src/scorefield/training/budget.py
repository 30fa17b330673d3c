"""How long a training goes on: the steps that fit into a budget of seconds."""

import math
import time
from dataclasses import replace

from scorefield.training.config import Config
from scorefield.training.learner import REPORT_STEPS, REPORTS, Learner
from scorefield.training.problem import Problem


def steps_within(config: Config, problem: Problem, seconds: float) -> int:
    """Return how many steps fit into a budget of wall seconds, validation and this timing included, the base not.

    A throw-away copy of model and generators trains for a twentieth of the budget, and at least 4 steps. Its first
    step is not counted: in it PyTorch loads, once in a process, what takes a second or more.
    """
    trial = Learner(replace(config, steps=2**62), problem.prepare(config))
    steps = trial.run()
    next(steps)
    began = time.perf_counter()
    trial._validate(trial._views(trial.model))
    validating = time.perf_counter() - began
    costs: list[float] = []
    last = time.perf_counter()
    for _ in steps:
        now = time.perf_counter()
        costs.append(now - last)
        last = now
        if len(costs) >= 4 and now - began > seconds / 20:
            break
    steady = costs[len(costs) // 4 :]  # the first steps allocate memory
    left, step = seconds - (last - began), math.fsum(steady) / len(steady)
    short = left / (step + validating / REPORT_STEPS)
    long = (left - REPORTS * validating) / step
    return max(1, int(short if short < REPORTS * REPORT_STEPS else long))
