"""Samplers: steps from time t to an earlier time u, and the table of all.

A sampler is (model, x, times) -> Iterator[x] over decreasing times, so a trajectory is a list of it, a progress bar
wraps it, and stopping is `break`. b, r are the coefficients a, s at u.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from scorefield.diffusion.denoisers import Denoiser
from scorefield.diffusion.times import grid
from scorefield.inference import adaptive, exponential
from scorefield.inference.step_grid import optimised
from scorefield.inference.walking import Sampler, Step, checked, pairs, require_finite, then, walk
from scorefield.numerics.shapes import Grid, Path, Samples
from scorefield.numerics.tensors import integer, normal_like, spawn

STEPS = 32
"""Steps of a sampler unless said otherwise: where the error of the default fades into that of a learned model."""

BLOCK = 1024
"""Samples are drawn in blocks of this size, each with a generator of its own."""


def euler_maruyama(eta: float = 1.0, generator: Generator | None = None) -> Step:
    """Make the Euler-Maruyama step of the reverse process with noise eta (Song et al., 2021, eq. 6 and appendix D.1).

    x - h [a' clean + s' noise + (eta g)^2 noise / 2s] + eta g sqrt(h) z, h = t - u. Any eta has the same marginals.

    Args:
        eta: 1 is the reverse SDE, 0 Euler's method on the probability flow.
        generator: What z is drawn from.
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

    Args:
        eta: 0 is deterministic; 1 is ancestral sampling, the exact posterior of x_u given x_t and the clean part
            (Ho et al., 2020, eq. 7).
        generator: What z is drawn from.
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

    Args:
        model: What is asked, at t and at u.
        x: States (n, ...) at t.
        t: The time, ().
        u: The earlier time, ().

    Returns:
        The states at u.
    """
    a, b = model.process.mean_coef(t).to(x), model.process.mean_coef(u).to(x)
    h = (model.process.ratio(u) - model.process.ratio(t)).to(x)
    _, noise = model.decompose(x, t)
    _, noise_u = model.decompose(b * (x / a + h * noise), u)
    return b * (x / a + h * (noise + noise_u) / 2)


def churned_heun(churn: float = 10.0, generator: Generator | None = None) -> Sampler:
    """Make the stochastic sampler of Karras et al., 2022, algorithm 2, for any process.

    With N steps, each first raises the ratio s/a by the factor 1 + min(churn / N, sqrt(2) - 1), by fresh noise, and
    then takes Heun's step down to u. The ratio never rises above that at t_max, so the first step of a whole walk is
    plain.

    Args:
        churn: 0 is `heun`.
        generator: What the noise is drawn from.

    Raises:
        ValueError: the churn is negative.
    """
    if not churn >= 0:
        raise ValueError(f"expected a churn of at least 0; got {churn}")

    def path(model: Denoiser, x: Samples, times: Grid) -> Path:
        process = model.process
        factor = 1 + min(churn / (len(times) - 1), math.sqrt(2) - 1)
        highest = process.ratio(torch.tensor(process.t_max, dtype=torch.float64))
        for t, u in pairs(times):
            ratio = process.ratio(t)
            raised = torch.minimum(ratio * factor, highest)
            if raised > ratio:
                added = (raised**2 - ratio**2).sqrt().to(x) * normal_like(x, generator)
                y, t = x / process.mean_coef(t).to(x) + added, process.time(raised)
                x = process.mean_coef(t).to(x) * y
            yield (x := heun(model, x, t, u))

    return checked(path)


def langevin_corrector(snr: float | None = None, generator: Generator | None = None) -> Step:
    """Make a corrector: a step of Langevin dynamics at u, which leaves p_u as it is up to the order of its size.

    x + e score + sqrt(2e) z, by default with e = s^2 (1 - u's s/a over t's) / 2: in all as much noise as half the
    reverse SDE renews, whatever the number of steps, so that its error vanishes as they shrink.

    Args:
        snr: The rule of Song et al., 2021, algorithm 4, instead: e = 2 a^2 (snr |z| / |score|)^2, norms averaged over
            the batch, which couples its rows; its error stays.
        generator: What z is drawn from.

    Raises:
        ValueError: the snr is not positive.
    """
    if snr is not None and not snr > 0:
        raise ValueError(f"expected a positive signal-to-noise ratio; got {snr}")

    def step(model: Denoiser, x: Samples, t: Tensor, u: Tensor) -> Samples:
        a, s = model.process.kernel(u, x)
        score, z = -model.decompose(x, u)[1] / s, normal_like(x, generator)
        share = (1 - model.process.ratio(u) / model.process.ratio(t)).to(x)
        size = share * s**2 / 2 if snr is None else 2 * (a * snr * _mean_norm(z) / _mean_norm(score)) ** 2
        return x + size * score + (2 * size).sqrt() * z

    return step


def _mean_norm(x: Tensor) -> Tensor:
    return x.flatten(1).norm(dim=1).mean()


@dataclass(frozen=True)
class SamplerRow:
    """One row of SAMPLERS: how to make a sampler, and what is true of it.

    weak_order: its order in the mean step for the law of the result; strong_order: along one path of the driving
    noise, None if none is proved; evaluations: calls of the model a step, and `first` more in the first. A sampler
    that adapts its steps has none of these.
    """

    make: Callable[[Generator | None], Sampler]
    weak_order: int | None
    strong_order: int | None
    evaluations: int | None
    stochastic: bool
    first: int = 0

    @property
    def adapts(self) -> bool:
        """Whether it takes steps of its own between its times."""
        return self.evaluations is None


SAMPLERS: dict[str, SamplerRow] = {
    "adams": SamplerRow(lambda generator: exponential.adams(), 3, 3, 1, False, first=1),
    "heun": SamplerRow(lambda generator: walk(heun), 2, 2, 2, False),
    "ddim": SamplerRow(lambda generator: walk(ddim(0.0, generator)), 1, 1, 1, False),
    "euler": SamplerRow(lambda generator: walk(euler_maruyama(0.0, generator)), 1, 1, 1, False),
    "dpmpp_2m": SamplerRow(lambda generator: exponential.dpmpp_2m, 2, 2, 1, False),
    "deis": SamplerRow(lambda generator: exponential.deis(), 3, 3, 1, False, first=1),
    "adaptive_flow": SamplerRow(lambda generator: adaptive.adaptive_flow(), None, None, None, False),
    "ancestral": SamplerRow(lambda generator: walk(ddim(1.0, generator)), 1, None, 1, True),
    "euler_maruyama": SamplerRow(lambda generator: walk(euler_maruyama(1.0, generator)), 1, 1, 1, True),
    "churned_heun": SamplerRow(lambda generator: churned_heun(10.0, generator), 2, None, 2, True),
    "dpmpp_2m_sde": SamplerRow(lambda generator: exponential.dpmpp_2m_sde(generator), 2, None, 1, True),
    "exponential_heun": SamplerRow(lambda generator: walk(exponential.heun_sde(generator)), 2, 1, 2, True),
    "adaptive_sde": SamplerRow(lambda generator: adaptive.adaptive_sde(generator=generator), None, None, None, True),
    "predictor_corrector": SamplerRow(
        lambda generator: walk(then(ddim(1.0, generator), langevin_corrector(generator=generator))), 1, None, 2, True
    ),
}
"""The samplers by their name on the command line."""


def grid_for(sampler: str, model: Denoiser, steps: int, wanted: Tensor | None = None) -> Grid:
    """Return the times that are optimal for a model, see `step_grid.optimised`; one step if the sampler adapts.

    wanted: `step_grid.density` of the model, where several grids are made of one.

    Raises ValueError for an unknown sampler and fewer than one step.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler must be one of {list(SAMPLERS)}; got {sampler!r}")
    return grid(model.process, 1) if SAMPLERS[sampler].adapts else optimised(model, steps, wanted=wanted)


def sample_blocks(
    model: Denoiser,
    n: int,
    *,
    sampler: str = "adams",
    times: Grid | None = None,
    generator: Generator | None = None,
) -> Iterator[Samples]:
    """Yield n samples of the model in blocks of BLOCK rows, shape (rows, d), in the type of its moments.

    Each block starts from the prior at t_max, walks along `times` and ends with a jump to the clean part, which leaves
    no noise behind. Block k draws from its own generator, made from one integer of `generator` and k, and a partial
    block is computed whole and cut: the first 10 of 10 samples are the first 10 of 1,000.

    Args:
        model: What is sampled.
        n: How many samples.
        sampler: One of SAMPLERS.
        times: Decreasing, (k,); 32 steps of `grid_for` by default.
        generator: What seeds the blocks.

    Raises:
        ValueError: n is negative, or the sampler unknown.
    """
    if n < 0:
        raise ValueError(f"the number of samples must not be negative; got {n}")
    path = grid_for(sampler, model, STEPS) if times is None else times
    seed, prior = integer(generator), model.prior()
    for k in range(-(-n // BLOCK)):
        rows = min(BLOCK, n - k * BLOCK)
        yield draw_block(model, prior.sample(BLOCK, own := spawn(seed, k)), SAMPLERS[sampler].make(own), path)[:rows]


@torch.no_grad()
def draw_block(model: Denoiser, x: Samples, sampler: Sampler, times: Grid) -> Samples:
    """Return where a sampler takes rows x of the prior, (n, d), with a last jump to the clean part."""
    state = x
    for state in sampler(model, x, times):  # noqa: B007, only the last is wanted
        pass
    clean = model.decompose(state, times[-1])[0]
    require_finite(clean, len(times), times[-1])
    return clean


def sample(
    model: Denoiser,
    n: int,
    *,
    sampler: str = "adams",
    times: Grid | None = None,
    generator: Generator | None = None,
) -> Samples:
    """Return n samples of the model, shape (n, d), in the type of its moments; see `sample_blocks`.

    Args:
        model: What is sampled.
        n: How many samples.
        sampler: One of SAMPLERS.
        times: Decreasing, (k,); 32 steps on a grid made for the model by default.
        generator: What everything is drawn from; the same seed gives the same samples.

    Raises:
        ValueError: n is negative, or the sampler unknown.

    Examples:
        >>> import torch
        >>> from scorefield import VP, ExactDenoiser, GaussianMixture
        >>> mixture = GaussianMixture.isotropic(torch.ones(2), torch.tensor([[-2.0], [2.0]]), std=0.1)
        >>> x = sample(ExactDenoiser(mixture, VP()), 1000, generator=torch.Generator().manual_seed(0))
        >>> print(f"{x.shape[0]} samples, |x| = {x.abs().mean():.2f} on average")
        1000 samples, |x| = 2.00 on average
    """
    blocks = list(sample_blocks(model, n, sampler=sampler, times=times, generator=generator))
    return torch.cat(blocks) if blocks else model.mean.new_zeros(0, len(model.mean))
