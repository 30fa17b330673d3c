"""R01, R02: the coefficients of every process against 50 digits, and against what their names promise of each other."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from unittest.mock import patch

import numpy as np
import torch
from mpmath import mp, mpf
from scipy.integrate import solve_ivp
from torch import Generator, Tensor, nn

from scorefield.diffusion.by_name import PROCESSES
from scorefield.diffusion.denoisers import ExactDenoiser, ScoreModel
from scorefield.diffusion.prediction import PREDICTIONS, coefficients
from scorefield.diffusion.process import Process
from scorefield.diffusion.published import VP
from scorefield.diffusion.sde import LinearSDE
from scorefield.inference import samplers
from scorefield.inference.samplers import euler_maruyama
from scorefield.numerics.tensors import match
from scorefield.selftest.cases import DENSITIES, F64, PROCESS_CASES, ProcessCase, f64
from scorefield.selftest.report import Check, Entry, Failures, Plan, Worst

# ------------------------------------------------------------------------------------------------ 50 digits

COLUMNS: dict[str, Callable[[Process, Tensor], Tensor]] = {
    "drift": lambda process, t: process.drift(t),
    "diffusion^2": lambda process, t: process.diffusion(t) ** 2,
    "mean_coef": lambda process, t: process.mean_coef(t),
    "std": lambda process, t: process.std(t),
    "variance": lambda process, t: process.std(t) ** 2,
    "ratio": lambda process, t: process.ratio(t),
    "mean_rate": lambda process, t: process.mean_rate(t),
    "std_rate": lambda process, t: process.std_rate(t),
}


def exact(case: ProcessCase, times: Tensor) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the columns from the case's formulas in 50 digits, each as a double and the rest, (2, n), and sizes.

    The sizes are those of the terms that cancel where a table's f or s' crosses zero.
    """
    columns: dict[str, list] = {name: [] for name in COLUMNS}
    sizes: dict[str, list[float]] = {"drift": [], "mean_rate": [], "std_rate": []}
    with mp.workdps(50):
        for t in map(mpf, times.tolist()):
            f, g2, a, variance = case.f(t), case.g2(t), case.a(t), case.var(t)
            s = mp.sqrt(variance)
            rate = f * s + g2 / (2 * s)
            for name, value in zip(COLUMNS, (f, g2, a, s, variance, s / a, f * a, rate), strict=True):
                columns[name].append((float(value), float(value - float(value))))
            term = abs(f) + g2 / (2 * variance)
            for name, size in zip(sizes, (term, a * term, s * term), strict=True):
                sizes[name].append(float(size))
    return {name: np.array(values).T for name, values in columns.items()}, {k: np.array(v) for k, v in sizes.items()}


def relative_error(values: Tensor, truth: np.ndarray, sizes: np.ndarray | None = None) -> float:
    """Return the largest |value - truth| / |truth|, or over other sizes; a zero must be met exactly."""
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.abs((values.double().numpy() - truth[0]) - truth[1])
        error = np.where(error == 0, 0, error / (np.abs(truth[0]) if sizes is None else sizes))
    return float(np.where(np.isnan(error), np.inf, error).max())


def ulps(values: Tensor, truth: np.ndarray) -> float:
    """Return the largest distance from the truth in units of the last place of bfloat16, which has 8 bits."""
    _, exponent = np.frexp(truth[0])
    return float((np.abs(values.double().numpy() - truth[0]) / 2.0 ** (exponent - 8)).max())


def accuracy(plan: Plan) -> Iterator[Check]:
    """Compare every coefficient of every process with 50 digits, in all types."""
    n = plan.of(smoke=300, quick=10_000, full=30_000)
    registered = Failures("registered processes with formulas of their own in 50 digits")
    for name, process_type in PROCESSES.items():
        present = any(type(case.process) is process_type for case in PROCESS_CASES)
        registered.add(name, None if present else "has none")
    yield registered.check()
    shapes = Failures("zeros, numbers that are not finite, and places where log-SNR does not fall")
    errors = {
        "formula": Worst("relative error in float64", 1e-13),
        "table": Worst("relative error of a LinearSDE, which promises as much", 1e-8),
        "float32": Worst("relative error in float32", 5e-7),
        "bfloat16": Worst("error in units of bfloat16's last place", 1.0),
    }
    for case in PROCESS_CASES:
        process, times = case.process, case.times(n).float().double()  # numbers that float32 has too
        times[times > process.t_max] = times[times <= process.t_max].max()
        times[-1] = process.t_max
        truth, sizes = exact(case, times)
        table = isinstance(process, LinearSDE)
        for name, column in COLUMNS.items():
            error = relative_error(column(process, times), truth[name], sizes.get(name) if table else None)
            errors["table" if table else "formula"].add(f"{name} of {case.name}", error, n)
        for kind, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
            given = times[:-1].float()
            for name, found in zip(("mean_coef", "std"), process.kernel(given, given.to(dtype)), strict=True):
                distance = relative_error if kind == "float32" else ulps
                errors[kind].add(f"{name} of {case.name}", distance(found, truth[name][:, :-1]), n - 1)
        positive = torch.stack(
            [COLUMNS[name](process, times) for name in ("mean_coef", "std", "diffusion^2", "std_rate")]
        )
        shapes.add(case.name, None if bool((positive.isfinite() & (positive > 0)).all()) else "a zero or not finite")
        falls = bool(((-2 * process.ratio(times).log()).diff()[times.diff() > 0] < 0).all())
        shapes.add(case.name, None if falls else "log-SNR does not fall")
    yield shapes.check()
    for worst in errors.values():
        yield worst.check()


def cancelling() -> AbstractContextManager:
    """Plant s = sqrt(1 - exp(-B)), which cancels where B is small, as published code computes it."""
    return patch.object(VP, "std", lambda self, t: (1 - (-self.integral(t)).exp()).sqrt())


# ------------------------------------------------------------------------------- equations and conversions


def levels(process: Process, n: int) -> Tensor:
    """Return n times of noise ratios from 1e-3, where sampling ends, to 100 or the largest."""
    highest = min(100.0, float(process.ratio(f64(process.t_max))))
    return process.time(torch.linspace(math.log(1e-3), math.log(highest), n, dtype=F64).exp())


def integrated(case: ProcessCase, n: int) -> float:
    """Return the largest relative error of a and s^2 against dm/dt = f m, dV/dt = 2 f V + g^2, solved by SciPy."""
    process, times = case.process, case.times(n, start=1e-5).numpy()

    def rates(t: float, state: np.ndarray) -> list[float]:
        time = torch.tensor(t, dtype=F64)
        f, g = float(process.drift(time)), float(process.diffusion(time))
        return [f * state[0], 2 * f * state[1] + g**2]

    span, given = (0, process.t_max), {"method": "DOP853", "rtol": 3e-14, "atol": 1e-20, "first_step": 1e-9}
    solution = solve_ivp(rates, span, [1, 0], t_eval=times, **given)
    if not solution.success:
        raise RuntimeError(f"SciPy could not integrate {process}: {solution.message}")
    t = torch.from_numpy(times)
    found = np.stack([process.mean_coef(t).numpy(), process.std(t).numpy() ** 2])
    return float(np.abs(found / solution.y - 1).max())


def reversed_drift(case: ProcessCase, n: int) -> float:
    """Return how far a step of the reverse SDE is from x - h (f x - (1 + eta^2)/2 g^2 score), of the terms' size."""
    process, density, worst = case.process, DENSITIES["mixture-2d"], 0.0
    model = ExactDenoiser(density, process)
    for eta in (0.0, 0.6, 1.0):
        with patch.object(samplers, "normal_like", lambda x, generator=None: torch.zeros_like(x)):
            step = euler_maruyama(eta)
            for t in levels(process, n):
                a, s, f, g = (float(c(t)) for c in (process.mean_coef, process.std, process.drift, process.diffusion))
                x = a * density.means + s * f64([0.5, -1.0])
                h, pull = float(t), (1 + eta**2) / 2 * g**2 * density.noised(a, s).score(x)
                expected = x - h * (f * x - pull)
                size = x.abs() + h * (abs(f) * x.abs() + pull.abs() + abs(float(process.std_rate(t))))
                worst = max(worst, float(((step(model, x, t, 0 * t) - expected).abs() / size).max()))
    return worst


class Answer(nn.Module):
    """The network that gives the answer it is told."""

    told: Tensor

    def forward(self, z: Tensor, log_ratio: Tensor) -> Tensor:
        return self.told


def converted(case: ProcessCase, n: int) -> float:
    """Return the largest error of a round trip between any two predictions, of the size of its parts."""
    process, times, generator, worst = case.process, levels(case.process, n), Generator().manual_seed(0), 0.0
    clean, noise = (torch.randn(n, 3, dtype=F64, generator=generator) for _ in range(2))
    a, s = process.kernel(times, clean)
    rows = {name: coefficients(name, process, times, 0.8) for name in PREDICTIONS}
    for predicts, (p, q) in rows.items():
        model = ScoreModel(net := Answer(), process, torch.zeros(3), torch.eye(3), predicts=predicts, data_std=0.8)
        net.told = match(p, clean) * clean + match(q, clean) * noise
        x = a * clean + s * noise
        found = model.decompose(x, times)
        for p_other, q_other in rows.values():
            weights = [match(c, clean) for c in (p_other, q_other)]
            back = [weight * part for weight, part in zip(weights, found, strict=True)]
            truth = [weight * part for weight, part in zip(weights, (clean, noise), strict=True)]
            size = sum(weight.abs() for weight in weights) * (clean.abs() + noise.abs())
            worst = max(worst, float(((back[0] + back[1] - truth[0] - truth[1]).abs() / size).max()))
        worst = max(worst, float(((model.score(x, times) * s + noise).abs() / (clean.abs() + noise.abs())).max()))
    return worst


def equations(plan: Plan) -> Iterator[Check]:
    """Integrate drift and diffusion, undo them in the reverse SDE, convert predictions into each other."""
    n = plan.of(smoke=100, quick=100, full=1_000)
    for worst, law in (
        (Worst("a and s^2 against the integrals of f and g^2, relative", 1e-9), integrated),
        (Worst("a step of the reverse SDE against f x - g^2 score, relative", 1e-9), reversed_drift),
        (Worst("a prediction turned into another and back, relative", 1e-12), converted),
    ):
        for case in PROCESS_CASES:
            worst.add(case.name, law(case, n), n)
        yield worst.check()


def one_per_cent_more_noise() -> AbstractContextManager:
    """Plant a diffusion whose beta is one per cent off."""
    return patch.object(VP, "diffusion", lambda self, t: (1.01 * self.beta(t)).sqrt())


TESTS = {
    "R01": Entry("coefficient accuracy", accuracy, cancelling, smoke=True),
    "R02": Entry("drift and diffusion against the marginal", equations, one_per_cent_more_noise, smoke=True),
}
