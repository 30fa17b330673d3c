"""R23: every sampler at the edges: one step and 999, no rows, one column and many, one pixel, every schedule."""

import functools
import itertools
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from unittest.mock import patch

import torch
from torch import Tensor

from scorefield.diffusion import times
from scorefield.diffusion.by_name import PROCESSES
from scorefield.diffusion.denoisers import Denoiser, ExactDenoiser
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.networks import UNet
from scorefield.diffusion.networks.ensemble import members_of
from scorefield.diffusion.process import Process
from scorefield.inference import step_grid
from scorefield.inference.samplers import SAMPLERS, sample
from scorefield.numerics.shapes import Grid
from scorefield.numerics.tensors import normal, spawn
from scorefield.selftest.cases import F64
from scorefield.selftest.report import Check, Entry, Failures, Plan
from scorefield.training.config import UNET, Config

STEPS, MANY = (1, 2, 3, 5, 11, 14), 999
ROWS, COLUMNS = (0, 1, 2, 17), (1, 2, 64)
IMAGES = ((1, 1, 1), (1, 7, 13), (3, 31, 33))

SPANS = ((math.inf, 1e-3), (3.0, 0.3), (0.02, 0.0199))
"""Noise ratios from which and to which samplers walk; infinity is the end of the process."""

TO_ZERO = ("euler", "ddim", "ancestral", "euler_maruyama")
"""Samplers that ask the model only where a step begins, so that time 0 is as good an end as any."""


def table_model(process: Process, columns: int, dtype: torch.dtype) -> Denoiser:
    """Return the exact model of two unequal Gaussians."""
    means = torch.stack([torch.linspace(-1, 2, columns, dtype=F64), torch.linspace(1, -3, columns, dtype=F64)])
    density = GaussianMixture.isotropic(torch.tensor([0.7, 0.3], dtype=F64), means, 0.4)
    return ExactDenoiser(density.like(torch.empty(0, dtype=dtype)), process)


@functools.cache
def image_model(process: str, shape: tuple[int, int, int]) -> Denoiser:
    """Return an untrained model of images, which is that of independent pixels of four levels."""
    config = Config(steps=1, process=process, network=UNET, shape=shape, width=8, depth=1)
    d = math.prod(shape)
    model = config.model(torch.zeros(d), torch.ones(d))
    for net in members_of(model.net):
        if isinstance(net, UNet):
            net.pixels.learn(torch.tensor([-1.5, -0.5, 0.5, 1.5], dtype=F64), torch.ones(shape[0], 4).long())
    return model.eval()


def path_of(process: Process, span: tuple[float, float], steps: int) -> Grid:
    """Return times with equal steps in log s/a."""
    start, stop = span
    if start == math.inf:
        return times.grid(process, steps, math.inf, stop)
    return process.time(torch.linspace(math.log(start), math.log(stop), steps + 1, dtype=F64).exp())


def trouble(name: str, model: Denoiser, path: Grid, n: int, seed: int, expected: int) -> str | None:
    """Walk n rows and say what is wrong with the states, if anything."""
    d, generator = len(model.mean), spawn(seed, name, n)
    x = normal((n, d), model.mean, generator)
    _, s = model.process.kernel(path[0], x)
    try:
        states = list(SAMPLERS[name].make(generator)(model, s * x, path))
    except Exception as error:  # whatever is raised is what is looked for
        return f"{type(error).__name__}: {error}"
    if len(states) != expected:
        return f"{len(states)} states for {expected} steps"
    if any(state.shape != (n, d) or state.dtype != model.mean.dtype for state in states):
        return "a state of another shape or type"
    return None if all(bool(state.isfinite().all()) for state in states) else "a state that is not finite"


def tables(plan: Plan) -> Check:
    """Walk tables: all samplers, schedules, steps and rows; columns, types and spans in turn, in full each of them."""
    found = Failures("walks of tables are finite, of their shape and type")
    inner = list(itertools.product(COLUMNS, SPANS, (F64, torch.float32)))
    taken = plan.of(1, 2, len(inner))
    models = {
        (name, columns, dtype): table_model(kind(), columns, dtype)
        for name, kind in PROCESSES.items()
        for columns in COLUMNS
        for dtype in (F64, torch.float32)
    }
    steps = plan.of(2, len(STEPS), len(STEPS))
    rows = ROWS[: plan.of(2, len(ROWS), len(ROWS))]
    for k, (name, process, count, n) in enumerate(itertools.product(SAMPLERS, PROCESSES, STEPS[:steps], rows)):
        if SAMPLERS[name].adapts and count > 1:
            continue
        for j in range(1 if SAMPLERS[name].adapts else taken):
            columns, span, dtype = inner[(7 * k + j * len(inner) // taken) % len(inner)]
            model = models[process, columns, dtype]
            reason = trouble(name, model, path_of(model.process, span, count), n, plan.seed, count)
            found.add(f"{name}, {process}, {count} steps, {n} x {columns}, {dtype}, {span}", reason)
    return found.check()


def long_walks(plan: Plan) -> Check:
    """Walk 999 steps; quick: each sampler on one schedule in turn."""
    found, names = Failures(f"{MANY} steps"), [name for name, row in SAMPLERS.items() if not row.adapts]
    kinds = list(PROCESSES)
    for k, name in enumerate(names[: plan.of(1, len(names), len(names))]):
        for process in kinds if plan.size == "full" else [kinds[k % len(kinds)]]:
            model = table_model(PROCESSES[process](), 2, F64)
            path = path_of(model.process, SPANS[0], MANY)
            found.add(f"{name}, {process}", trouble(name, model, path, 2, plan.seed, MANY))
    return found.check()


def images(plan: Plan) -> Check:
    """Walk images through the network."""
    found = Failures("walks of images")
    shapes, counts = IMAGES[: plan.of(2, 3, 3)], STEPS[: plan.of(1, 2, 5)]
    for k, (shape, name, n) in enumerate(itertools.product(shapes, SAMPLERS, (0, 1, 2))):
        for process in PROCESSES if plan.size == "full" else [list(PROCESSES)[k % len(PROCESSES)]]:
            model = image_model(process, shape)
            for count in counts[:1] if SAMPLERS[name].adapts else counts:
                path = path_of(model.process, SPANS[0], count)
                with torch.no_grad():
                    found.add(f"{name}, {process}, {shape}", trouble(name, model, path, n, plan.seed, count))
    return found.check()


def to_zero(plan: Plan) -> Check:
    """Walk to time 0: finite, or refused with a sentence before the first step, never wrong without a word."""
    found = Failures("walks to time 0 arrive, or say that they cannot")
    for name, process in itertools.product(SAMPLERS, PROCESSES):
        model = table_model(PROCESSES[process](), 2, F64)
        path = torch.linspace(model.process.t_max, 0.0, 4, dtype=F64)
        reason = trouble(name, model, path, 3, plan.seed, 3)
        refused = reason is not None and ("sampling times above 0" in reason or "not finite after step 3" in reason)
        found.add(f"{name}, {process}", reason if name in TO_ZERO or not refused else None)
    return found.check()


def whole_samples(plan: Plan) -> Check:
    """Draw from the prior to the data: no rows give an empty array, and shapes and types are those of the model."""
    found = Failures("samples of no and of few rows")
    for name, (n, dtype) in itertools.product(SAMPLERS, ((0, F64), (1, F64), (17, torch.float32))):
        model = table_model(list(PROCESSES.values())[n % len(PROCESSES)](), 2, dtype)
        try:
            x = sample(model, n, sampler=name, times=path_of(model.process, SPANS[0], 2), generator=spawn(plan.seed, n))
            reason = None if x.shape == (n, 2) and x.dtype == dtype and bool(x.isfinite().all()) else f"got {x}"
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
        found.add(f"{name}, {n} rows, {dtype}", reason)
    return found.check()


def grids_of(plan: Plan) -> Check:
    """Make grids of every kind: as many steps as asked, decreasing, with the exact ends of the process."""
    found = Failures("grids have their ends and their steps")
    for process, count in itertools.product(PROCESSES, (*STEPS, MANY)):
        model = table_model(PROCESSES[process](), 2, F64)
        last = float(model.process.time(torch.tensor(times.RATIO_MIN, dtype=F64)))
        made = {f"power {power:g}": times.grid(model.process, count, power) for power in (1.0, 7.0, math.inf)}
        made |= {"uniform": times.uniform_grid(model.process, count), "optimised": step_grid.optimised(model, count)}
        for kind, path in made.items():
            right = len(path) == count + 1 and bool((path.diff() < 0).all())
            ends = float(path[0]) == model.process.t_max and abs(float(path[-1]) / last - 1) < 1e-12
            found.add(f"{kind}, {process}, {count} steps", None if right and ends else f"got {path.tolist()[:3]}...")
    return found.check()


def run(plan: Plan) -> Iterator[Check]:
    """Walk all combinations, and count those that fail."""
    total, least = 0, plan.of(1, 2_000, 2_000)
    for part in (tables, long_walks, images, to_zero, whole_samples, grids_of):
        check = part(plan)
        total += check.n
        yield check
    yield Check(f"combinations missing of {least:,}", float(max(0, least - total)), 0.0)


def repeated_end() -> AbstractContextManager:
    """Plant a grid whose last time comes twice."""
    right = times._between

    def twice(process: Process, ratios: Tensor, ratio_min: float) -> Tensor:
        path = right(process, ratios, ratio_min)
        return torch.cat([path[:-2], path[-1:], path[-1:]]) if len(path) > 2 else path

    return patch.object(times, "_between", twice)


TESTS = {"R23": Entry("edges of steps, rows, columns, images and schedules", run, repeated_end, smoke=True)}
