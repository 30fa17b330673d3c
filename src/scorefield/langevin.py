"""Langevin dynamics: samples from a score alone, without a noising process."""

from collections.abc import Iterator, Sequence

import torch
from torch import Generator

from scorefield.tensors import normal_like
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
    for score, size in zip(scores, sizes, strict=True):
        for state in unadjusted(score, x, size, steps, generator):
            yield (x := state)
