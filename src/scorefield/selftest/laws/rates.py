"""R12: how rarely the laws of R09 to R11 raise a false alarm."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from unittest.mock import patch

import numpy as np
from scipy import stats

from scorefield.diffusion.published import VE, VP, SubVP
from scorefield.inference import langevin
from scorefield.inference.samplers import SAMPLERS
from scorefield.numerics.tensors import integer, normal_like, spawn
from scorefield.selftest.cases import FALSE_ALARM
from scorefield.selftest.laws import chains, gaussian, mixture
from scorefield.selftest.nulls import Deviates
from scorefield.selftest.report import Check, Entry, Failures, Plan

DRAWS, MIXTURE, CHAINS = 5_000, 2_000, 20_000
"""Samples of a sampler on the Gaussian, of one on the mixture, and chains, for one seed."""


def laws_of(seed: int, k: int) -> Deviates:
    """Return the tests of R09 to R11 at small sizes: noisy samplers on one case in turn, one sampler on the mixture."""
    found = Deviates()
    process, start = (VP(), SubVP(), VE())[k % 3], gaussian.STARTS[k // 3 % 3]
    for name in gaussian.NOISY:
        path = gaussian.path_from(process, start, 5)
        law = gaussian.by_recursion(name, process, path)
        gaussian.add_sums(found, name, gaussian.sums_of(name, process, start, path, DRAWS, seed, law))
    name = list(SAMPLERS)[k % len(SAMPLERS)]
    bias = mixture.BIAS * math.sqrt(math.log(2 / (FALSE_ALARM / 7)) / 2 / MIXTURE)
    mixture.add_mixture(found, "the mixture", mixture.draw_mixture(name, MIXTURE, seed), bias)
    chains.add_laws(found, CHAINS, seed)
    return found


def false_alarms(plan: Plan) -> Iterator[Check]:
    """Run the laws on fresh seeds: none may fail, and what each finds must be spread as its null law says."""
    seeds, failed = plan.of(3, 300, 3_000), Failures("seeds whose tests all pass")
    levels: dict[str, list[float]] = {}
    for k in range(seeds):
        seed = integer(spawn(plan.seed, "fresh", k))
        found = laws_of(seed, k)
        check = found.check("", DRAWS)
        failed.add(f"seed {seed}", None if check.passed else f"{check.what}, {check.value:.1f} > {check.threshold:.1f}")
        for name, deviate in found.found.items():
            levels.setdefault(name, []).append(2 * float(stats.norm.sf(deviate)))
    bound = 1 - 0.05 ** (1 / seeds)
    yield failed.check()
    spread = Deviates()
    for name, found_levels in levels.items():
        if not any(
            part in name for part in ("the mixture", "snr 0.16", "end of")
        ):  # these allow a bias: too few alarms
            spread.uniform(name, np.array(found_levels))
    yield spread.check(
        f"p-values over {seeds} seeds; none failed: below {bound:.2%} of seeds do, at 95 per cent", seeds
    )


def loud_noise() -> AbstractContextManager:
    """Plant noise that is a twentieth too large in Langevin chains."""
    return patch.object(langevin, "normal_like", lambda x, generator=None: 1.05 * normal_like(x, generator))


TESTS = {"R12": Entry("false alarms of R09 to R11 on fresh seeds", false_alarms, loud_noise, smoke=False)}
