"""Langevin dynamics: samples from a score or a log-density alone, without a noising process."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from scorefield.diffusion.denoisers import ScoreModel
from scorefield.diffusion.densities import GaussianMixture
from scorefield.inference.mixing import Mixing, mixing, until_mixed
from scorefield.inference.noise_levels import noise_levels, step_sizes
from scorefield.inference.samplers import BLOCK
from scorefield.numerics.shapes import Field, Path, PerSample, Samples
from scorefield.numerics.tensors import dot, integer, match, normal_like, spawn, uniform

__all__ = [
    "Density",
    "LogDensity",
    "Mixing",
    "annealed",
    "denoised",
    "mala",
    "mixing",
    "noise_levels",
    "sample_blocks",
    "score_of",
    "step_sizes",
    "unadjusted",
    "underdamped",
    "until_mixed",
]


@runtime_checkable
class Density(Protocol):
    """Anything that knows a log-density, like the distributions of torch.distributions."""

    def log_prob(self, x: Any, /) -> Any:  # noqa: ANN401, each library has its own names and types
        """Return log p (n,) of x (n, d)."""
        ...


LogDensity = Callable[[Tensor], Tensor] | Density
"""x (n, d) -> log p (n,), up to a constant, or an object with such a log_prob."""


def score_of(log_density: LogDensity) -> Field:
    """Return the gradient of a log-density by automatic differentiation.

    Args:
        log_density: x (n, d) -> log p (n,), up to a constant, or an object with such a log_prob.

    Raises:
        ValueError: when the score is asked, where the log-density is anything but one number a row.

    Examples:
        >>> import torch
        >>> score_of(lambda x: -x.square().sum(1) / 2)(torch.tensor([[1.0, -2.0]]))
        tensor([[-1.,  2.]])
    """
    return lambda x: _value_and_score(log_density, x)[1]


def unadjusted(
    score: Field, x: Samples, size: float, steps: int, generator: Generator | None = None, temperature: float = 1.0
) -> Path:
    """Yield the states of x <- x + h score(x) + sqrt(2 h T) z, with step size h, temperature T and standard normal z.

    The law of the states tends to that of the score as h -> 0 and steps h -> infinity; for N(0, c^2) and T = 1 its
    variance is c^2 / (1 - h / 2c^2) (Roberts and Tweedie, 1996). Modes far apart exchange mass after a time that grows
    exponentially with the depth of the valley between them.

    Args:
        score: x -> the shape of x.
        x: Starts (n, *event), one chain a row.
        size: h, in squared units of x.
        steps: How many.
        generator: What z is drawn from.
        temperature: T.

    Raises:
        ValueError: the size is not positive, the temperature below 0, there is no step, or the score has another shape.
        RuntimeError: a state is not finite.

    Examples:
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> *_, x = unadjusted(lambda x: -x, torch.zeros(50_000, 1), 0.1, 100, generator)
        >>> print(f"variance {x.var():.2f}")  # 1 / (1 - 0.05) = 1.05
        variance 1.05
    """
    _require_numbers(size, steps, temperature)
    for step in range(1, steps + 1):
        with torch.no_grad():
            x = x + size * _force(score, x) + (2 * size * temperature) ** 0.5 * normal_like(x, generator)
        _require_finite(x, step, size)
        yield x


def mala(log_density: LogDensity, x: Samples, size: float, steps: int, generator: Generator | None = None) -> Path:
    """Yield the states of Langevin steps of size h that are accepted or refused, so that the law is exactly p.

    y = x + h score(x) + sqrt(2h) z is accepted with probability min(1, p(y) q(x|y) / p(x) q(y|x)), where
    q(y|x) = N(y; x + h score(x), 2h) (Roberts and Tweedie, 1996); else x stays. About 57 per cent accepted is best.

    Args:
        log_density: x (n, d) -> log p (n,), up to a constant, or an object with such a log_prob.
        x: Starts (n, d), one chain a row.
        size: h, in squared units of x.
        steps: How many.
        generator: What z and acceptances are drawn from.

    Raises:
        ValueError: as `unadjusted`; a start has no density; the target has a score only.
        RuntimeError: a state is not finite.
    """
    _require_numbers(size, steps, 1.0)
    log_p, score = _value_and_score(log_density, x)
    if not bool(log_p.isfinite().all()):
        row = int((~log_p.isfinite()).nonzero()[0])
        raise ValueError(f"expected starting points of positive density; row {row} has log p = {float(log_p[row])}")
    for step in range(1, steps + 1):
        with torch.no_grad():
            y = x + size * score + (2 * size) ** 0.5 * normal_like(x, generator)
        log_p_y, score_y = _value_and_score(log_density, y)
        there, back = y - x - size * score, x - y - size * score_y
        log_ratio = log_p_y - log_p + (dot(there, there) - dot(back, back)) / (4 * size)
        accepted = uniform(len(x), generator).to(x).log() < log_ratio  # never where log p at y is not a number
        keep = match(accepted, x) > 0
        x, score = torch.where(keep, y, x), torch.where(keep, score_y, score)
        log_p = torch.where(accepted, log_p_y, log_p)
        _require_finite(x, step, size)
        yield x


def underdamped(
    score: Field,
    x: Samples,
    size: float,
    steps: int,
    generator: Generator | None = None,
    temperature: float = 1.0,
    friction: float = 1.0,
) -> Path:
    """Yield the positions of Langevin dynamics with momentum, dx = v dt, dv = score dt - c v dt + sqrt(2 c T) dW.

    Each step of length h is B A O A B (Leimkuhler and Matthews, 2013): half a kick v + h/2 score, half a drift
    x + h/2 v, the momentum's own process e^-ch v + sqrt(T (1 - e^-2ch)) z, half a drift, half a kick. The positions of
    a Gaussian have its exact law at any stable h. One score a step.

    Long because each argument is explained.

    Args:
        score: x -> the shape of x.
        x: Starts (n, *event), one chain a row.
        size: h, in units of x.
        steps: How many.
        generator: What z is drawn from.
        temperature: T.
        friction: c.

    Raises:
        ValueError: as `unadjusted`, or the friction is not positive.
        RuntimeError: a state is not finite.
    """
    _require_numbers(size, steps, temperature)
    if not friction > 0:
        raise ValueError(f"expected a positive friction; got {friction}")
    decay = math.exp(-friction * size)
    noise = (temperature * -math.expm1(-2 * friction * size)) ** 0.5
    with torch.no_grad():
        v, force = temperature**0.5 * normal_like(x, generator), _force(score, x)
    for step in range(1, steps + 1):
        with torch.no_grad():
            v = v + size / 2 * force
            x = x + size / 2 * v
            v = decay * v + noise * normal_like(x, generator)
            x = x + size / 2 * v
            force = _force(score, x)
            v = v + size / 2 * force
        _require_finite(x, step, size)
        yield x


def annealed(
    scores: Sequence[Field], x: Samples, sizes: Sequence[float], steps: int, generator: Generator | None = None
) -> Path:
    """Yield the states of Langevin steps at each of several levels of noise, from the largest to the smallest.

    End with `denoised`.

    Args:
        scores: The score at each level.
        x: Starts (n, *event).
        sizes: The step size of each level, for levels s_1 > ... > s_L best proportional to s_i^2 (Song and Ermon, 2019,
            algorithm 1), see `step_sizes`.
        steps: How many at each level.
        generator: What noise is drawn from.

    Raises:
        ValueError: there is not one size a score; as `unadjusted`.
        RuntimeError: a state is not finite.
    """
    if len(scores) != len(sizes):
        raise ValueError(f"expected one step size for each score; got {len(sizes)} for {len(scores)}")
    for score, size in zip(scores, sizes, strict=True):
        for state in unadjusted(score, x, size, steps, generator):
            yield (x := state)


def denoised(score: Field, x: Samples, level: float) -> Samples:
    """Return E[clean | x = clean + level z] = x + level^2 score(x), the last of annealing (Song and Ermon, 2020)."""
    with torch.no_grad():
        return x + level**2 * _force(score, x)


def _value_and_score(log_density: LogDensity, x: Samples) -> tuple[PerSample, Samples]:
    """Return log p (n,) and its gradient. Raises ValueError for a function that is none."""
    ask = log_density.log_prob if isinstance(log_density, Density) else log_density
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = ask(x)
        if value.shape != x.shape[:1]:
            hint = (
                ": that looks like a score, which has no log-density to accept or refuse steps by; use unadjusted, "
                "underdamped or annealed, or an energy network and its log_potential"
                if value.shape == x.shape
                else ": sum it over the columns, for a torch distribution by torch.distributions.Independent"
            )
            raise ValueError(f"expected a log-density of shape {tuple(x.shape[:1])}; got {tuple(value.shape)}{hint}")
        (score,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), score


def _require_numbers(size: float, steps: int, temperature: float) -> None:
    if not size > 0 or not temperature >= 0:
        raise ValueError(f"expected a positive step size and a temperature from 0; got {size} and {temperature}")
    if steps < 1:
        raise ValueError(f"expected at least one step; got {steps}")


def _force(score: Field, x: Samples) -> Samples:
    found = score(x)
    if found.shape != x.shape:
        raise ValueError(
            f"expected a score of the shape of the samples, {tuple(x.shape)}; got {tuple(found.shape)}; "
            "of a log-density, score_of makes one"
        )
    return found


def _require_finite(x: Samples, step: int, size: float) -> None:
    finite = x.isfinite().flatten(1).all(1)
    if not bool(finite.all()):
        raise RuntimeError(
            f"sample {int((~finite).nonzero()[0])} left the finite numbers at Langevin step {step} of size {size:g}; "
            "use a smaller size, and look at the score there"
        )


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
            clean = model.decompose(x, t)[0]
        _require_finite(clean, STEPS + 1, 0.25 * float(s) ** 2)
        yield clean[: min(BLOCK, n - k * BLOCK)]
