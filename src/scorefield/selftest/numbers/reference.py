"""R20: the package against a second implementation, NumPy alone, given the same noise."""

import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager
from unittest.mock import patch

import numpy as np
import torch
from torch import Generator

from scorefield.diffusion.by_name import PROCESSES
from scorefield.diffusion.prediction import PREDICTIONS, coefficients, solve
from scorefield.inference import exponential
from scorefield.inference.samplers import SAMPLERS
from scorefield.selftest.cases import DENSITIES, PROCESS_CASES, f64
from scorefield.selftest.numbers import second, second_walks
from scorefield.selftest.numbers.affine import USUAL
from scorefield.selftest.numbers.reference_losses import bounds, likelihoods, objectives
from scorefield.selftest.numbers.reference_walks import langevin_ends, walked
from scorefield.selftest.numbers.translation import difference, drawn, levels, mixture, named
from scorefield.selftest.report import Check, Entry, Failures, Plan, Worst

THRESHOLD = 1e-10

FORMULAS = [case for case in PROCESS_CASES if type(case.process) in PROCESSES.values()]
"""All but a LinearSDE, which is a table of the user's functions: R01 measures it."""


def processes_and_predictions() -> Worst:
    """Compare coefficients and predictions of every process."""
    worst = Worst("coefficients and predictions", THRESHOLD)
    for case in FORMULAS:
        process, (name, p) = case.process, named(case.process)
        t = levels(process)
        found = torch.stack([process.drift(t), process.diffusion(t), process.mean_coef(t), process.std(t)], 1)
        worst.add(case.name, difference(found, [second.kernel(name, p, u) for u in t.tolist()]), found.numel())
        found = torch.stack([process.mean_rate(t), process.std_rate(t)], 1)
        worst.add(f"{case.name}, rates", difference(found, [second.rates(name, p, u) for u in t.tolist()]), 10)
        ratios = process.ratio(t)
        parts = torch.stack([process.mean_coef(t), process.std(t)], 1)
        worst.add(f"{case.name}, levels", difference(parts, [second.level(name, r) for r in ratios.tolist()]), 10)
        for predicts, std in itertools.product(PREDICTIONS, (1.0, 0.6)):
            rows = [second.prediction(predicts, name, p, u, std) for u in t.tolist()]
            pair = torch.stack(coefficients(predicts, process, t, std), 1)
            worst.add(f"{case.name}, {predicts}", difference(pair, rows), 10)
            found = torch.stack(solve(f64(0.8)[0], f64(-0.3)[0], *parts.unbind(1), *pair.unbind(1)), 1)
            systems = [np.array([part, row]) for part, row in zip(parts.tolist(), rows, strict=True)]
            truth = [np.linalg.solve(system, [0.8, -0.3]) for system in systems]
            worst.add(f"{case.name}, {predicts} solved", difference(found, truth), 10)
    return worst


def posteriors() -> Worst:
    """Compare moments, densities, scores, posteriors and their divergence of every mixture, noised by every process."""
    worst = Worst("mixtures", THRESHOLD)
    for kind, density in DENSITIES.items():
        plain = mixture(density)
        worst.add(kind, max(difference(density.mean, plain.mean), difference(density.covariance, plain.covariance)), 2)
        for name, process in USUAL.items():
            t = levels(process)[1:4]
            a, s = process.mean_coef(t), process.std(t)
            x = a[:, None] * density.sample(3, Generator().manual_seed(1)) + s[:, None] * drawn(3, density.dim, seed=2)
            rows = list(zip(x.numpy(), a.tolist(), s.tolist(), strict=True))
            truth = [plain(*row) for row in rows]
            found, (noise, divergence) = density.posterior(x, a, s), density.noise_and_divergence(x, a, s)
            for part, expected in zip(found, zip(*truth, strict=True), strict=True):
                worst.add(f"{kind}, {name}", difference(part, expected), 3)
            worst.add(f"{kind}, {name}, noise", difference(noise, [row[1] for row in truth]), 3)
            traces = [np.trace(plain.jacobian(*row)) for row in rows]
            worst.add(f"{kind}, {name}, divergence", difference(divergence, traces), 3)
            for i, row in enumerate(rows):
                noised, (log_p, score, _, _) = density.noised(a[i], s[i]), plain.noised(*row)
                worst.add(f"{kind}, {name}, log p", difference(noised.log_prob(x[i : i + 1])[0], log_p))
                worst.add(f"{kind}, {name}, score", difference(noised.score(x[i : i + 1])[0], score))
    return worst


def second_implementation(plan: Plan) -> Iterator[Check]:
    """Compare everything that is registered with its second implementation."""
    registered = Failures("registered names without a second implementation")
    for name in SAMPLERS:
        registered.add(name, None if name in second_walks.SAMPLERS else "has none")
    for name, process_type in PROCESSES.items():
        registered.add(name, None if any(type(case.process) is process_type for case in FORMULAS) else "has none")
    yield registered.check()
    yield processes_and_predictions().check()
    yield posteriors().check()
    usual = {"vp": USUAL["vp"], "ve": USUAL["ve"]} if plan.size == "smoke" else USUAL
    ends = Worst("samplers", THRESHOLD)
    for name, (label, process), kind in itertools.product(SAMPLERS, usual.items(), ("mixture-1d", "mixture-3d")):
        ends.add(f"{name}, {label}, {kind}", walked(name, process, DENSITIES[kind]), 3)
    for name, error in langevin_ends(DENSITIES["mixture-2d"]).items():
        ends.add(name, error, 3)
    yield ends.check()
    numbers = Worst("objectives", THRESHOLD)
    for (label, process), predicts in itertools.product(usual.items(), PREDICTIONS):
        for name, error in objectives(process, predicts).items():
            numbers.add(f"{name}, {label}, {predicts}", error, 4)
    yield numbers.check()
    densities, density = Worst("likelihoods", THRESHOLD), DENSITIES["mixture-3d"]
    for label, process in usual.items():
        for name, error in (likelihoods(process, density) | bounds(process, density)).items():
            densities.add(f"{name}, {label}", error, 2)
    yield densities.check()


def trapezoid() -> AbstractContextManager:
    """Plant the trapezoid's share of the later value: of the same order, so that orders do not tell it."""
    return patch.object(exponential, "sde_weight", lambda h: -torch.expm1(-2 * h) / 2)


TESTS = {"R20": Entry("second implementation", second_implementation, trapezoid, smoke=True)}
