"""Langevin dynamics: samples from a score alone, without a noising process."""

from collections.abc import Iterator, Sequence

import torch
from torch import Generator

from scorefield.densities import GaussianMixture
from scorefield.model import ScoreModel
from scorefield.samplers import BLOCK
from scorefield.tensors import integer, normal_like, spawn
from scorefield.types import Field, Samples


def unadjusted(
    score: Field, x: Samples, size: float, steps: int, generator: Generator | None = None, temperature: float = 1.0
) -> Iterator[Samples]:
    """Yield the states of x <- x + h score(x) + sqrt(2 h T) z, with step size h, temperature T and standard normal z.

    The law of the states tends to that of the score as h -> 0 and steps h -> infinity; for N(0, c^2) and T = 1 its
    variance is c^2 / (1 - h / 2c^2) (Roberts and Tweedie, 1996). Modes far apart exchange mass after a time that grows
    exponentially with the depth of the valley between them. Raises ValueError for a size that is not positive or a
    temperature below 0, and RuntimeError where a state is not finite: the step is then too long for the score.
    """
    if not size > 0 or not temperature >= 0:
        raise ValueError(f"expected a positive step size and a temperature from 0; got {size} and {temperature}")
    for step in range(1, steps + 1):
        with torch.no_grad():
            x = x + size * score(x) + (2 * size * temperature) ** 0.5 * normal_like(x, generator)
        if not bool(x.isfinite().all()):
            raise RuntimeError(f"Langevin step {step} of size {size:g} left the finite numbers; use a smaller size")
        yield x


def annealed(
    scores: Sequence[Field], x: Samples, sizes: Sequence[float], steps: int, generator: Generator | None = None
) -> Iterator[Samples]:
    """Yield the states of `steps` Langevin steps at each of several levels of noise, from the largest to the smallest.

    scores: the score at each level; sizes: the step size of each, for levels s_1 > ... > s_L best proportional to
    s_i^2 (Song and Ermon, 2019, algorithm 1). Raises ValueError unless there is one size a score, and as `unadjusted`.
    """
    if len(scores) != len(sizes):
        raise ValueError(f"expected one step size for each score; got {len(sizes)} for {len(scores)}")
    for score, size in zip(scores, sizes, strict=True):
        for state in unadjusted(score, x, size, steps, generator):
            yield (x := state)


STEPS = 1_000
"""Langevin steps for samples of a model that knows one level."""


def sample_blocks(model: ScoreModel, level: float, n: int, generator: Generator | None = None) -> Iterator[Samples]:
    """Yield n samples of a model at one noise ratio, in blocks of samplers.BLOCK rows, by STEPS Langevin steps.

    They start at the model's base, or at one Gaussian with the data's moments, and end with a jump to the clean part.
    The step is a quarter of level^2, the shortest scale of the noised density, so chains walk a time of 250 level^2 in
    all: at levels below about 0.06 less than a standard deviation, and samples stay near the base. Nor do modes
    exchange mass. The clean part is a mean: at large levels samples are too narrow, those of N(0, 1) at level 1
    by a half in variance. All levels mend all three. Blocks draw as those of `samplers.sample_blocks` do.
    """
    t = model.process.time(torch.tensor(level, dtype=torch.float64))
    a, s = model.process.mean_coef(t), model.process.std(t)
    base = GaussianMixture.gaussian(model.mean, model.covariance) if model.base is None else model.base.like(model.mean)
    start, seed = base.noised(float(a), float(s)), integer(generator)
    for k in range(-(-n // BLOCK)):
        own = spawn(seed, k)
        x = start.sample(BLOCK, own)
        for x in unadjusted(model.at(t), x, 0.25 * float(s) ** 2, STEPS, own):  # noqa: B007, B020
            pass
        with torch.no_grad():
            yield model.decompose(x, t)[0][: min(BLOCK, n - k * BLOCK)]
