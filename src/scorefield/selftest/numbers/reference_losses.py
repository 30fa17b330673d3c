"""Objectives, likelihoods and bounds against their second implementation, given the same noise."""

from unittest.mock import patch

import numpy as np
import torch
from torch import Generator, Tensor, nn

from scorefield.diffusion.denoisers import ExactDenoiser, ScoreModel
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.process import Process
from scorefield.inference import bound as variational
from scorefield.inference import likelihood
from scorefield.numerics.shapes import PerSample, Samples
from scorefield.selftest.cases import DENSITIES, F64, f64
from scorefield.selftest.numbers import second_losses
from scorefield.selftest.numbers.translation import difference, drawn, levels, mixture, named
from scorefield.training.objectives import losses
from scorefield.training.objectives.losses import WEIGHTS, denoising
from scorefield.training.objectives.table import OBJECTIVES, Task


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


def objectives(process: Process, predicts: str) -> dict[str, float]:
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
        patch.object(losses, "normal_like", lambda x, generator=None: z),
        patch.object(losses, "signs_like", lambda x, generator=None: v),
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
    """Return the differences of log p, exact, by probes and by a sketch, with its errors."""
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
    return found


def bounds(process: Process, density: GaussianMixture) -> dict[str, float]:
    """Return the differences of both lower bounds of log p, with their errors."""
    (name, _), model, plain, rows = named(process), ExactDenoiser(density, process), mixture(density), 2
    end, d = float(process.ratio(f64(process.t_max)[0])), density.dim
    x, found = density.sample(rows, Generator().manual_seed(0)), dict[str, float]()
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
