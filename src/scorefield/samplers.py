"""Samplers: steps from time t to an earlier time u, and the walk that chains them.

A sampler is (model, x, times) -> Iterator[x] over decreasing times, so a trajectory is a list of it, a progress bar
wraps it, and stopping is `break`. b, r are the coefficients a, s at u.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from scorefield.model import Denoiser
from scorefield.tensors import integer, normal_like, spawn
from scorefield.times import grid
from scorefield.types import Grid, Path, Samples

Step = Callable[[Denoiser, Samples, Tensor, Tensor], Samples]
"""(model, x, t, u) -> x at u, for 0-dimensional times u < t."""

Sampler = Callable[[Denoiser, Samples, Grid], Path]
"""(model, x, times) -> the states at times[1:], for decreasing times; x is the state at times[0]."""

STEPS = 32
"""Steps of a sampler unless said otherwise: where the error of Heun's fades into that of a learned model."""

BLOCK = 1024
"""Samples are drawn in blocks of this size, each with a generator of its own."""


def walk(step: Step) -> Sampler:
    """Make a sampler from a step: apply it between each two neighbouring times.

    The sampler raises ValueError unless the times decrease, and RuntimeError, naming the step, the time and the row,
    where a state is not finite.
    """

    def sampler(model: Denoiser, x: Samples, times: Grid) -> Path:
        if times.ndim != 1 or not bool((times.diff() < 0).all()):
            raise ValueError(f"sampling times must decrease; got {times.tolist()}")
        for k, (t, u) in enumerate(itertools.pairwise(times), start=1):
            with torch.no_grad():
                x = step(model, x, t, u)
            _require_finite(x, k, u)
            yield x

    return sampler


def euler_maruyama(eta: float = 1.0, generator: Generator | None = None) -> Step:
    """Make the Euler-Maruyama step of the reverse process with noise eta (Song et al., 2021, eq. 6 and appendix D.1).

    x - h [a' clean + s' noise + (eta g)^2 noise / 2s] + eta g sqrt(h) z, h = t - u.
    eta 1 is the reverse SDE, eta 0 Euler's method on the probability flow; any eta has the same marginals.
    """

    def step(model: Denoiser, x: Samples, t: Tensor, u: Tensor) -> Samples:
        h = (t - u).to(x)
        a_rate, s_rate = model.process.mean_rate(t).to(x), model.process.std_rate(t).to(x)
        g, s = model.process.diffusion(t).to(x), model.process.std(t).to(x)
        clean, noise = model.decompose(x, t)
        x = x - h * (a_rate * clean + s_rate * noise + (eta * g) ** 2 / (2 * s) * noise)
        return x + eta * g * h.sqrt() * normal_like(x, generator) if eta else x

    return step


def ddim(eta: float = 0.0, generator: Generator | None = None) -> Step:
    """Make the step of Song et al., 2021a, eq. 12, for any process.

    b clean + sqrt(r^2 - w^2) noise + w z, with w = eta r sqrt(1 - (a r / b s)^2).
    eta 0 is deterministic; eta 1 is ancestral sampling, the exact posterior of x_u given x_t and the clean part
    (Ho et al., 2020, eq. 7).
    """

    def step(model: Denoiser, x: Samples, t: Tensor, u: Tensor) -> Samples:
        a, s = model.process.mean_coef(t), model.process.std(t)
        b, r = model.process.mean_coef(u), model.process.std(u)
        w = eta * r * (1 - (a * r / (b * s)) ** 2).sqrt()
        clean, noise = model.decompose(x, t)
        x = b.to(x) * clean + (r**2 - w**2).sqrt().to(x) * noise
        return x + w.to(x) * normal_like(x, generator) if eta else x

    return step


def heun(model: Denoiser, x: Samples, t: Tensor, u: Tensor) -> Samples:
    """Take Heun's step on the probability flow in y = x/a against s/a: dy/d(s/a) = noise (Karras et al., 2022, alg. 1).

    It asks the model twice, at t and at u.
    """
    a, b = model.process.mean_coef(t).to(x), model.process.mean_coef(u).to(x)
    h = (model.process.ratio(u) - model.process.ratio(t)).to(x)
    _, noise = model.decompose(x, t)
    _, noise_u = model.decompose(b * (x / a + h * noise), u)
    return b * (x / a + h * (noise + noise_u) / 2)


@dataclass(frozen=True)
class SamplerRow:
    """One row of SAMPLERS: how to make a sampler, and what is true of it.

    weak_order: its order in the mean step for the law of the result; strong_order: along one path of the driving
    noise, None if none is proved; evaluations: calls of the model a step.
    """

    make: Callable[[Generator | None], Sampler]
    weak_order: int
    strong_order: int | None
    evaluations: int
    stochastic: bool


SAMPLERS: dict[str, SamplerRow] = {
    "heun": SamplerRow(lambda generator: walk(heun), 2, 2, 2, False),
    "ddim": SamplerRow(lambda generator: walk(ddim(0.0, generator)), 1, 1, 1, False),
    "euler": SamplerRow(lambda generator: walk(euler_maruyama(0.0, generator)), 1, 1, 1, False),
    "ancestral": SamplerRow(lambda generator: walk(ddim(1.0, generator)), 1, None, 1, True),
    "euler_maruyama": SamplerRow(lambda generator: walk(euler_maruyama(1.0, generator)), 1, 1, 1, True),
}
"""The samplers by their name on the command line."""


def sample_blocks(
    model: Denoiser,
    n: int,
    *,
    sampler: str = "heun",
    times: Grid | None = None,
    generator: Generator | None = None,
) -> Iterator[Samples]:
    """Yield n samples of the model in blocks of BLOCK rows, shape (rows, d), in the type of its moments.

    Each block starts from the prior at t_max, walks along `times` (32 steps of `times.grid` by default) and ends with
    a jump to the clean part, which leaves no noise behind. Block k draws from its own generator, made from one integer
    of `generator` and k, and a partial block is computed whole and cut: the first 10 of 10 samples are the first 10
    of 1,000. Raises ValueError for a negative n or an unknown sampler.
    """
    if n < 0:
        raise ValueError(f"the number of samples must not be negative; got {n}")
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler must be one of {list(SAMPLERS)}; got {sampler!r}")
    path = grid(model.process, STEPS) if times is None else times
    seed, prior = integer(generator), model.prior()
    for k in range(-(-n // BLOCK)):
        rows = min(BLOCK, n - k * BLOCK)
        yield _draw_block(model, prior.sample(BLOCK, own := spawn(seed, k)), SAMPLERS[sampler].make(own), path)[:rows]


@torch.no_grad()
def _draw_block(model: Denoiser, x: Samples, sampler: Sampler, times: Grid) -> Samples:
    state = x
    for state in sampler(model, x, times):  # noqa: B007, only the last is wanted
        pass
    return model.decompose(state, times[-1])[0]


def sample(
    model: Denoiser,
    n: int,
    *,
    sampler: str = "heun",
    times: Grid | None = None,
    generator: Generator | None = None,
) -> Samples:
    """Return n samples of the model, shape (n, d); see `sample_blocks`."""
    blocks = list(sample_blocks(model, n, sampler=sampler, times=times, generator=generator))
    return torch.cat(blocks) if blocks else model.mean.new_zeros(0, len(model.mean))


def _require_finite(x: Tensor, k: int, u: Tensor) -> None:
    finite = x.isfinite().flatten(1).all(1)
    if not bool(finite.all()):
        row = int((~finite).nonzero()[0])
        raise RuntimeError(
            f"the state of sample {row} is not finite after step {k}, at t={float(u):g}: the model's answer there "
            "is not a number; train it further, or use more or smaller steps"
        )
