"""Samplers, Langevin dynamics and forward simulation against their second implementation, given the same noise."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from unittest.mock import patch

import numpy as np
import torch
from torch import Generator, Tensor

from scorefield.diffusion import sde
from scorefield.diffusion.denoisers import ExactDenoiser
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.process import Process
from scorefield.inference import exponential, langevin, samplers
from scorefield.inference.langevin import annealed, mala, unadjusted, underdamped
from scorefield.inference.samplers import SAMPLERS
from scorefield.numerics.tensors import integer
from scorefield.selftest.cases import F64, f64
from scorefield.selftest.numbers import second_losses, second_walks
from scorefield.selftest.numbers.second import Row
from scorefield.selftest.numbers.translation import difference, drawn, mixture, named


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
        walk = second_walks.Walk(mixture(density), kind, p, grid.tolist(), process.t_max)
        seeds = Generator().manual_seed(7)
        walk.row, walk.normals = row, iter(table[:, row].numpy())
        walk.seeds = iter([integer(seeds) for _ in range(len(grid))])
        truth.append(second_walks.SAMPLERS[name](walk, x[row].numpy()))
    return difference(end, truth)


def end_of(path: Callable[[], Iterator[Tensor]], normals: Tensor, uniforms: Tensor) -> Tensor:
    """Return the last state of a path that draws these numbers."""
    given, chances = iter(normals), iter(uniforms)
    draw = lambda x, generator=None: next(given)
    with (
        patch.object(langevin, "normal_like", draw),
        patch.object(sde, "normal_like", draw),
        patch.object(langevin, "uniform", lambda n, generator=None: next(chances)),
    ):
        *_, end = path()
    return end


Second = Callable[[Row, Row, Sequence[float]], Row]
"""(start, normals, uniform numbers) -> the end of one row."""


def langevin_ends(density: GaussianMixture) -> dict[str, float]:
    """Return the differences of Langevin dynamics and of forward simulation, 12 steps of three rows."""
    plain, x, steps, size = mixture(density), drawn(3, density.dim, seed=5), 12, 0.05
    table = drawn(2 * steps, 3, density.dim, seed=6)
    uniforms = torch.rand(steps, 3, dtype=F64, generator=Generator().manual_seed(8))
    score, log_p = lambda y: plain.noised(y, 1.0, 0.0)[1], lambda y: plain.noised(y, 1.0, 0.0)[0]
    clock, half = torch.linspace(0, 1, steps + 1, dtype=F64) ** 1.3, steps // 2
    first_level = lambda y, z: second_losses.unadjusted(score, y, 2 * size, z[:half])
    cases: dict[str, tuple[Callable[[], Iterator[Tensor]], Second]] = {
        "unadjusted": (
            lambda: unadjusted(density.score, x, size, steps, temperature=0.7),
            lambda y, z, u: second_losses.unadjusted(score, y, size, z[:steps], 0.7),
        ),
        "mala": (
            lambda: mala(density, x, 4 * size, steps),
            lambda y, z, u: second_losses.mala(log_p, score, y, 4 * size, z[:steps], u),
        ),
        "underdamped": (
            lambda: underdamped(density.score, x, size, steps, temperature=0.7, friction=1.3),
            lambda y, z, u: second_losses.underdamped(score, y, size, z[: steps + 1], 0.7, 1.3),
        ),
        "annealed": (
            lambda: annealed([density.score, density.score], x, [2 * size, size], half),
            lambda y, z, u: second_losses.unadjusted(score, first_level(y, z), size, z[half:steps]),
        ),
        "simulate": (
            lambda: sde.simulate(lambda x, t: -x.sin(), lambda t: 1 + t, x, clock),
            lambda y, z, u: second_losses.simulated(
                lambda x, t: -np.sin(x), lambda t: 1 + t, y, clock.tolist(), z[:steps]
            ),
        ),
    }
    found = {}
    for name, (path, second) in cases.items():
        truth = [second(x[i].numpy(), table[:, i].numpy(), uniforms[:, i].tolist()) for i in range(3)]
        found[name] = difference(end_of(path, table, uniforms), truth)
    return found
