"""R13: what the scorecard finds: bugs that are planted one at a time."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from types import ModuleType
from unittest.mock import patch

import torch
from torch import Generator, Tensor

from scorefield.diffusion import denoisers as model_module
from scorefield.diffusion.denoisers import Denoiser
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.process import Process
from scorefield.diffusion.published import VE, VP
from scorefield.inference import exponential, langevin, likelihood, samplers, walking
from scorefield.inference.probability_flow import at
from scorefield.inference.walking import Sampler, Step
from scorefield.kinds.images.estimator import ImageDensity
from scorefield.numerics.shapes import Grid, Samples
from scorefield.numerics.tensors import normal_like, spawn
from scorefield.selftest.laws import chains, gaussian, mathematics, properties, storage
from scorefield.selftest.laws.draws import Draw
from scorefield.selftest.numbers import coefficients, likelihoods
from scorefield.selftest.report import Check, Entry, Failures, Plan

Part = Callable[[Plan], Iterable[Check]]


@dataclass(frozen=True)
class Mutant:
    """A planted bug: its name, the test that must find it, the part of that test that does, and what plants it."""

    name: str
    test: str
    part: Part
    plant: Callable[[], AbstractContextManager]


def with_posterior(change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> AbstractContextManager:
    """Plant a change of the clean part and the noise that the exact model answers."""
    right = GaussianMixture.posterior
    return patch.object(GaussianMixture, "posterior", lambda self, x, a, s: change(*right(self, x, a, s)))


def with_noise(change: Callable[[Tensor], Tensor]) -> AbstractContextManager:
    """Plant normals that are x -> change(x) instead of fresh ones, in all samplers."""
    stack, wrong = ExitStack(), lambda x, generator=None: change(normal_like(x, generator))
    for module in (samplers, exponential):
        stack.enter_context(patch.object(module, "normal_like", wrong))
    return stack


def with_chain_noise(factor: float) -> AbstractContextManager:
    """Plant normals of another size in Langevin chains."""
    return patch.object(langevin, "normal_like", lambda x, generator=None: factor * normal_like(x, generator))


def with_beta(factor: float) -> AbstractContextManager:
    """Plant another noise rate in VP's drift and diffusion, not in its kernel."""
    right = VP.beta
    return patch.object(VP, "beta", lambda self, t: factor * right(self, t))


def later_model() -> AbstractContextManager:
    """Plant a DDIM that asks the model at the end of the step."""

    def ddim(eta: float = 0.0, generator: Generator | None = None) -> Step:
        right = DDIM(eta, generator)

        def step(model: Denoiser, x: Samples, t: Tensor, u: Tensor) -> Samples:
            ask = model.decompose
            with patch.object(model, "decompose", lambda x, asked: ask(x, u)):
                return right(model, x, t, u)

        return step

    return patch.object(samplers, "ddim", ddim)


def start_late() -> AbstractContextManager:
    """Plant walks whose first step begins near the end of time, whatever the first time is."""
    stack, right = ExitStack(), walking.pairs
    wrong = lambda times: right(torch.cat([torch.full_like(times[:1], 0.9999), times[1:]]))
    for module in (walking, samplers, exponential):
        stack.enter_context(patch.object(module, "pairs", wrong))
    return stack


def noise_kept() -> AbstractContextManager:
    """Plant samples without the last jump to their clean part."""

    def draw_block(model: Denoiser, x: Samples, sampler: Sampler, times: Grid) -> Samples:
        *_, state = sampler(model, x, times)
        return state

    return patch.object(samplers, "draw_block", draw_block)


def other_way() -> AbstractContextManager:
    """Plant a step of Euler's that goes to later times."""

    def euler_maruyama(eta: float = 1.0, generator: Generator | None = None) -> Step:
        right = EULER(eta, generator)
        return lambda model, x, t, u: 2 * x - right(model, x, t, u)

    return patch.object(samplers, "euler_maruyama", euler_maruyama)


def unmatched() -> AbstractContextManager:
    """Plant coefficients (n,) that are multiplied with samples (n, d) as they are."""
    return patch.object(model_module, "match", lambda coefficient, x: coefficient.to(x))


def one_probe() -> AbstractContextManager:
    """Plant probes that all rows of a batch share."""
    stack = ExitStack()
    for name in ("signs_like", "normal_like"):
        right = getattr(likelihood, name)
        shared = lambda x, generator=None, right=right: right(x[:1], generator).expand_as(x)
        stack.enter_context(patch.object(likelihood, name, shared))
    return stack


def no_start() -> AbstractContextManager:
    """Plant likelihoods that take the data for what they are at the smallest noise."""

    def start(self: likelihood._Flow, log_ratio: float) -> Tensor:
        a, s, _ = at(self.model, log_ratio, self.x)
        cos = a / torch.hypot(a, s)
        count = 1 if self.signs is None else len(self.signs) - self.sketch
        log_det = (self.d * cos.log()).expand(len(self.x), count)
        return torch.cat([(cos * self.x).flatten(1), log_det], 1)

    return patch.object(likelihood._Flow, "start", start)


def offset_bits() -> AbstractContextManager:
    """Plant the offset of pixels in [-1, 1] for all pixels."""
    right = ImageDensity.bits_per_dim
    return patch.object(
        ImageDensity, "bits_per_dim", lambda self, bound: (b := right(self, bound))._replace(value=b.value + 7)
    )


def swapped_average() -> AbstractContextManager:
    """Plant an average that moves the weights in training to itself."""
    lerp = torch._foreach_lerp_

    def swapped(mine: list[Tensor], other: list[Tensor], weight: float) -> None:
        lerp(other, mine, weight)

    return patch.object(torch, "_foreach_lerp_", swapped)


def property_part(check: Callable[[Draw], float]) -> Part:
    """Return the part of R26 that tries one property."""
    return lambda plan: [properties.tried(check, plan)]


def test_part(module: ModuleType, name: str) -> Part:
    """Return a whole test of another module."""
    return lambda plan: module.TESTS[name].run(plan)


DDIM, EULER = samplers.ddim, samplers.euler_maruyama

MARGINALS, LIKELIHOOD = test_part(coefficients, "R02"), test_part(likelihoods, "R05")

MUTANTS = [
    Mutant(
        "half the score", "R09", gaussian.exact_laws, lambda: with_posterior(lambda clean, noise: (clean, noise / 2))
    ),
    Mutant(
        "sign of the score", "R09", gaussian.exact_laws, lambda: with_posterior(lambda clean, noise: (clean, -noise))
    ),
    Mutant(
        "missing drift",
        "R09",
        gaussian.exact_laws,
        lambda: patch.object(Process, "mean_rate", lambda self, t: torch.zeros_like(t)),
    ),
    Mutant("noise times sqrt 2", "R09", gaussian.drawn_laws, lambda: with_noise(lambda z: math.sqrt(2) * z)),
    Mutant("noise 1 % too large", "R11", chains.langevin_laws, lambda: with_chain_noise(1.01)),
    Mutant("noise 1 % too small", "R11", chains.langevin_laws, lambda: with_chain_noise(0.99)),
    Mutant("beta 1 % too large", "R02", MARGINALS, lambda: with_beta(1.01)),
    Mutant("beta 1 % too small", "R02", MARGINALS, lambda: with_beta(0.99)),
    Mutant(
        "the same noise in every step",
        "R09",
        gaussian.drawn_laws,
        lambda: with_noise(lambda z: normal_like(z, spawn(1))),
    ),
    Mutant("no noise", "R09", gaussian.drawn_laws, lambda: with_noise(torch.zeros_like)),
    Mutant("the same noise in every row", "R09", gaussian.drawn_laws, lambda: with_noise(lambda z: z[:1].expand_as(z))),
    Mutant("DDIM asks at the end of its step", "R09", gaussian.exact_laws, later_model),
    Mutant("prior N(0, I) for every process", "R09", gaussian.drawn_laws, gaussian.standard_prior),
    Mutant("start time ignored", "R09", gaussian.exact_laws, start_late),
    Mutant("noise of the last step kept", "R09", gaussian.exact_laws, noise_kept),
    Mutant("sign of dt", "R09", gaussian.exact_laws, other_way),
    Mutant("(n,) times (n, d)", "R26", property_part(mathematics.rows_are_alone), unmatched),
    Mutant(
        "the noise for the score",
        "R26",
        property_part(mathematics.score_is_noise),
        lambda: patch.object(Denoiser, "score", lambda self, x, t: self.decompose(x, t)[1]),
    ),
    Mutant("missing Jacobian", "R05", LIKELIHOOD, likelihoods.no_jacobian),
    Mutant("one probe for a batch", "R26", property_part(mathematics.probes_belong_to_rows), one_probe),
    Mutant("smallest noise taken for none", "R05", LIKELIHOOD, no_start),
    Mutant("offset of bits per dimension", "R26", property_part(storage.pixels_come_back), offset_bits),
    Mutant(
        "decay of the average inverted",
        "R26",
        property_part(mathematics.the_average_is_one),
        properties.inverted_average,
    ),
    Mutant("average of the wrong weights", "R26", property_part(mathematics.the_average_is_one), swapped_average),
    Mutant(
        "sigma^2 for sigma",
        "R02",
        MARGINALS,
        lambda: patch.object(VE, "std", lambda self, t: self.sigma_min**2 * torch.expm1(2 * self.log_range * t)),
    ),
    Mutant(
        "clean part clipped",
        "R09",
        gaussian.exact_laws,
        lambda: with_posterior(lambda clean, noise: (clean.clamp(-1, 1), noise)),
    ),
]
"""The 24 of reliability.md; noise and beta are off by 1 per cent in either direction."""


def passes(part: Part, seed: int) -> str | None:
    """Return what a part of a test finds wrong, at its smallest size; it stops at the first failure."""
    try:
        for check in part(Plan("smoke", seed)):
            if not check.passed:
                return f"{check.value:.3g} > {check.threshold:.3g}, {check.what}"
    except Exception as error:  # a bug may end in any of them
        return f"{type(error).__name__}: {error}"
    return None


def planted_bugs(plan: Plan) -> Iterator[Check]:
    """Plant each bug and ask the test that must find it; then ask all of them without."""
    seeds = [plan.seed + k for k in range(plan.of(1, 1, 5))]
    killed, sound = Failures("planted bugs found"), Failures("the same tests pass without")
    for mutant, seed in itertools.product(MUTANTS[:: plan.of(5, 1, 1)], seeds):
        with mutant.plant():
            found = passes(mutant.part, seed)
        killed.add(f"{mutant.name}, seed {seed}", None if found else f"not found by {mutant.test}")
    yield killed.check()
    parts = {name: part for mutant in MUTANTS for name, part in [(f"{mutant.test} for {mutant.name}", mutant.part)]}
    distinct = {part: name for name, part in parts.items()}
    for (part, name), seed in itertools.product(distinct.items(), seeds if plan.size != "smoke" else []):
        sound.add(f"{name}, seed {seed}", passes(part, seed))
    yield sound.check()


def blind() -> AbstractContextManager:
    """Plant checks that pass whatever they find, in what looks at every test."""
    return patch.object(Check, "passed", property(lambda self: self.threshold > 0 or self.value <= self.threshold))


TESTS = {"R13": Entry("planted bugs are found", planted_bugs, blind, smoke=False, needs="hypothesis")}
