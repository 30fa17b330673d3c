"""R20: the package against a second implementation, NumPy alone, given the same noise."""

import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from unittest.mock import patch

import numpy as np
import torch
from torch import Generator, Tensor, nn

from scorefield.diffusion import sde
from scorefield.diffusion.by_name import PROCESSES
from scorefield.diffusion.denoisers import ExactDenoiser, ScoreModel
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.prediction import PREDICTIONS, coefficients, solve
from scorefield.diffusion.process import Process
from scorefield.inference import bound as variational
from scorefield.inference import exponential, langevin, likelihood, samplers
from scorefield.inference.langevin import annealed, mala, unadjusted, underdamped
from scorefield.inference.samplers import SAMPLERS
from scorefield.numerics.shapes import PerSample, Samples
from scorefield.numerics.tensors import integer
from scorefield.selftest.cases import DENSITIES, F64, PROCESS_CASES, f64, middle_time
from scorefield.selftest.numbers import second, second_losses
from scorefield.selftest.numbers.affine import USUAL
from scorefield.selftest.report import Check, Entry, Failures, Plan, Worst
from scorefield.training.objectives.losses import WEIGHTS, denoising
from scorefield.training.objectives.table import OBJECTIVES, Task

THRESHOLD = 1e-10

FORMULAS = [case for case in PROCESS_CASES if type(case.process) in PROCESSES.values()]
"""All but a LinearSDE, which is a table of the user's functions: R01 measures it."""


def named(process: Process) -> tuple[str, second.Settings]:
    """Return a process as its name and its numbers."""
    return next(name for name, kind in PROCESSES.items() if type(process) is kind), vars(process)


def mixture(density: GaussianMixture) -> second.Mixture:
    """Return a density as arrays."""
    k, d = density.means.shape
    return second.Mixture(
        density.weights.numpy(), density.means.numpy(), density.covariances.expand(k, d, d).numpy().copy()
    )


def difference(found: Tensor, truth: object) -> float:
    """Return the largest difference, absolute below 1 and relative above."""
    expected = np.asarray(truth, dtype=float)
    return float(np.max(np.abs(found.detach().numpy() - expected) / np.maximum(1, np.abs(expected))))


def levels(process: Process) -> Tensor:
    """Return times of noise ratios from 0.01 to 60, or half the largest."""
    return torch.stack([middle_time(process, ratio) for ratio in (0.01, 0.1, 0.7, 3.0, 60.0)])


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Return standard normals."""
    return torch.randn(*shape, dtype=F64, generator=Generator().manual_seed(seed))


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


# -------------------------------------------------------------------------------------------------- walks


def walked(name: str, process: Process, density: GaussianMixture) -> float:
    """Return the difference of a sampler's end, for three rows on eight ragged steps."""
    model, (kind, p), rows = ExactDenoiser(density, process), named(process), 3
    top = min(5.0, 0.9 * float(process.ratio(f64(process.t_max))))
    grid = process.time(top * f64(1.0, 0.7, 0.5, 0.3, 0.22, 0.1, 0.07, 0.05, 0.02))
    x, table = drawn(rows, density.dim, seed=3) * top, drawn(40, rows, density.dim, seed=4)
    given = iter(table)
    with ExitStack() as stack:
        for module in (samplers, exponential):
            stack.enter_context(patch.object(module, "normal_like", lambda x, generator=None: next(given)))
        *_, end = SAMPLERS[name].make(Generator().manual_seed(7))(model, x, grid)
    truth = []
    for row in range(rows):
        walk = second.Walk(mixture(density), kind, p, grid.tolist(), process.t_max)
        seeds = Generator().manual_seed(7)
        walk.row, walk.normals = row, iter(table[:, row].numpy())
        walk.seeds = iter([integer(seeds) for _ in range(len(grid))])
        truth.append(second.SAMPLERS[name](walk, x[row].numpy()))
    return difference(end, truth)


def langevin_ends(density: GaussianMixture) -> dict[str, float]:
    """Return the differences of Langevin dynamics and of forward simulation, 12 steps of three rows."""
    plain, x, steps, size = mixture(density), drawn(3, density.dim, seed=5), 12, 0.05
    table, uniforms = (
        drawn(2 * steps, 3, density.dim, seed=6),
        torch.rand(steps, 3, dtype=F64, generator=Generator().manual_seed(8)),
    )
    score, log_p = lambda y: plain.noised(y, 1.0, 0.0)[1], lambda y: plain.noised(y, 1.0, 0.0)[0]
    clock = torch.linspace(0, 1, steps + 1, dtype=F64) ** 1.3
    given, chances = iter(table), iter(uniforms)
    paths = {
        "unadjusted": lambda: unadjusted(density.score, x, size, steps, temperature=0.7),
        "mala": lambda: mala(density, x, 4 * size, steps),
        "underdamped": lambda: underdamped(density.score, x, size, steps, temperature=0.7, friction=1.3),
        "annealed": lambda: annealed([density.score, density.score], x, [2 * size, size], steps // 2),
        "simulate": lambda: sde.simulate(lambda x, t: -x.sin(), lambda t: 1 + t, x, clock),
    }
    half = steps // 2
    truths = {
        "unadjusted": lambda y, z, u: second_losses.unadjusted(score, y, size, z[:steps], 0.7),
        "mala": lambda y, z, u: second_losses.mala(log_p, score, y, 4 * size, z[:steps], u),
        "underdamped": lambda y, z, u: second_losses.underdamped(score, y, size, z[: steps + 1], 0.7, 1.3),
        "annealed": lambda y, z, u: second_losses.unadjusted(
            score, second_losses.unadjusted(score, y, 2 * size, z[:half]), size, z[half:steps]
        ),
        "simulate": lambda y, z, u: second_losses.simulated(
            lambda x, t: -np.sin(x), lambda t: 1 + t, y, clock.tolist(), z[:steps]
        ),
    }
    found = {}
    for name, path in paths.items():
        given, chances = iter(table), iter(uniforms)
        draw = lambda x, generator=None: next(given)  # noqa: B023
        with (
            patch.object(langevin, "normal_like", draw),
            patch.object(sde, "normal_like", draw),
            patch.object(langevin, "uniform", lambda n, generator=None: next(chances)),  # noqa: B023
        ):
            *_, end = path()
        truth = [truths[name](x[i].numpy(), table[:, i].numpy(), uniforms[:, i].tolist()) for i in range(3)]
        found[name] = difference(end, truth)
    return found


# ------------------------------------------------------------------------------------------------- losses


class LogCosh(nn.Module):
    """The network of the second implementation."""

    def __init__(self, matrix: Tensor, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)
        self.register_buffer("weights", weights)
        self.matrix, self.weights = matrix, weights

    def potential(self, z: Samples, log_ratio: Tensor) -> PerSample:
        """Return sum_i w_i log cosh(M z + l)_i."""
        return (z @ self.matrix.mT + log_ratio[:, None]).cosh().log() @ self.weights

    def forward(self, z: Samples, log_ratio: Tensor) -> Samples:
        """Return its gradient."""
        return (self.weights * (z @ self.matrix.mT + log_ratio[:, None]).tanh()) @ self.matrix


def losses(process: Process, predicts: str) -> dict[str, float]:
    """Return the differences of every objective, and of denoising with every weight and with references.

    In units of the squared error of the noise where those of the prediction are larger: a second difference of an
    energy loses 1 / STEP^2 = 400 times the rounding.
    """
    (name, p), t, d = named(process), levels(process)[1:], 3
    matrix, weights, density = 0.4 * drawn(4, d), f64(0.5, -0.3, 0.8, 0.2), DENSITIES["mixture-3d"]
    x, z, v = 1 + drawn(len(t), d, seed=1), drawn(len(t), d, seed=2), drawn(len(t), d, seed=3).sign()
    eye = torch.eye(d, dtype=F64)
    model = ScoreModel(LogCosh(matrix, weights), process, eye[0], eye, predicts=predicts, data_std=1.4)
    rows = [second_losses.Learned(matrix.numpy(), weights.numpy(), predicts, 1.4, name, p, u) for u in t.tolist()]
    truth, unit = mixture(density), np.maximum(1, [row.gain**-2 for row in rows])
    compared = lambda loss, expected: difference(loss / torch.from_numpy(unit), expected / unit)
    each = lambda loss: [loss(rows[i], x[i].numpy(), z[i].numpy(), v[i].numpy()) for i in range(len(rows))]
    found = {}
    with (
        patch("scorefield.training.objectives.losses.normal_like", lambda x, generator=None: z),
        patch("scorefield.training.objectives.losses.signs_like", lambda x, generator=None: v),
    ):
        for kind, row in OBJECTIVES.items():
            expected = each(lambda m, x, z, v: second_losses.objective(kind, m, x, z, v, truth))  # noqa: B023
            found[kind] = compared(row.loss(model, x, t, Task(None, density), None), expected)
        for weight in (None, *WEIGHTS):
            expected = each(lambda m, x, z, v: second_losses.denoising(m, x, z, weight))  # noqa: B023
            found[f"denoising, {weight}"] = compared(denoising(model, x, t, weight=weight), expected)
        expected = each(lambda m, row, z, v: second_losses.denoising(m, row, z, None, x.numpy()))
        found["denoising, references"] = compared(denoising(model, x, t, references=x), expected)
    return found


def likelihoods(process: Process, density: GaussianMixture) -> dict[str, float]:
    """Return the differences of log p, exact, by probes and by a sketch, with its errors, and of both lower bounds."""
    (name, _), model, plain, rows = named(process), ExactDenoiser(density, process), mixture(density), 2
    end, d = float(process.ratio(f64(process.t_max)[0])), density.dim
    x, found = density.sample(rows, Generator().manual_seed(0)), dict[str, float]()
    normal = drawn(5, rows, d, seed=9)
    for kind, given, sketch in (("exact", None, 0), ("probes", normal[:3].sign(), 0), ("sketch", normal, 2)):
        left = iter(()) if given is None else iter(given)
        draw = lambda x, generator=None: next(left)  # noqa: B023
        with patch.object(likelihood, "signs_like", draw), patch.object(likelihood, "normal_like", draw):
            count = None if given is None else len(given) - sketch
            answer = likelihood.log_prob(model, x, probes=count, sketch=sketch, tol=1e-5)
        asked = [None if given is None else given[:, i].numpy() for i in range(rows)]
        truth = [second_losses.log_prob(plain, name, x[i].numpy(), end, 1e-5, asked[i], sketch) for i in range(rows)]
        found[kind] = max(
            difference(part, expected)
            for part, expected in zip(answer, zip(*truth, strict=True), strict=True)
            if part is not None
        )
    draws = variational.REPEATS * 2
    uniforms = torch.rand(draws, rows, dtype=F64, generator=Generator().manual_seed(1))
    normals = drawn(draws + variational.REPEATS, rows, d, seed=2)
    for kind, step in (("bound", 0.0), ("bound of levels", 0.5)):
        chances, given = iter(uniforms), iter(normals)
        with (
            patch.object(variational, "uniform", lambda n, generator=None: next(chances)),  # noqa: B023
            patch.object(variational, "normal_like", lambda x, generator=None: next(given)),  # noqa: B023
        ):
            bound = (
                variational.lower_bound_of_levels(model, x, step, draws=draws)
                if step
                else variational.lower_bound(model, x, draws=draws)
            )
        told = [
            [
                (
                    uniforms[2 * k : 2 * k + 2, i].numpy(),
                    normals[3 * k : 3 * k + 2, i].numpy(),
                    normals[3 * k + 2, i].numpy(),
                )
                for k in range(variational.REPEATS)
            ]
            for i in range(rows)
        ]
        truths = [second_losses.lower_bound(plain, name, x[i].numpy(), end, told[i], step) for i in range(rows)]
        found[kind] = max(difference(part, e) for part, e in zip(bound, zip(*truths, strict=True), strict=True))
    return found


def second_implementation(plan: Plan) -> Iterator[Check]:
    """Compare everything that is registered with its second implementation."""
    registered = Failures("registered names without a second implementation")
    for name in SAMPLERS:
        registered.add(name, None if name in second.SAMPLERS else "has none")
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
        for name, error in losses(process, predicts).items():
            numbers.add(f"{name}, {label}, {predicts}", error, 4)
    yield numbers.check()
    densities = Worst("likelihoods", THRESHOLD)
    for label, process in usual.items():
        for name, error in likelihoods(process, DENSITIES["mixture-3d"]).items():
            densities.add(f"{name}, {label}", error, 2)
    yield densities.check()


def trapezoid() -> AbstractContextManager:
    """Plant the trapezoid's share of the later value: of the same order, so that orders do not tell it."""
    return patch.object(exponential, "sde_weight", lambda h: -torch.expm1(-2 * h) / 2)


TESTS = {"R20": Entry("second implementation", second_implementation, trapezoid, smoke=True)}
