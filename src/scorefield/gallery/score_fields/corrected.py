"""Tutorial 004 corrected: levels and steps that suit the data, a model of all levels, and its samples by the flow.

Under noise s the narrower component has the width w = sqrt(0.5^2 + s^2). The score changes over w, not over s: levels
overlap where their w do, and steps in proportion to s^2 stop moving anything long before s is small beside 0.5. So the
levels here are geometric in w, and the steps in proportion to w^2, or with momentum to w.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Generator, Tensor, nn

from scorefield.diffusion import times
from scorefield.diffusion.denoisers import ScoreModel
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.published import EDM
from scorefield.gallery.networks import dense
from scorefield.gallery.report import Results, row
from scorefield.gallery.score_fields.training import LEVELS, ROWS, STDS, TARGET, clusters, exact_clusters
from scorefield.inference import langevin
from scorefield.inference.likelihood import log_prob
from scorefield.inference.samplers import sample
from scorefield.numerics.shapes import Field
from scorefield.numerics.tensors import spawn
from scorefield.training.objectives.losses import denoising
from scorefield.training.trainer import Trainer, batches

NARROW = float(STDS.min())
LARGEST, SMALLEST = 2.0, 0.05
"""The noise of the first and the last level: beyond 2 the two components are one hill already."""

WIDTHS = np.geomspace(math.hypot(NARROW, LARGEST), math.hypot(NARROW, SMALLEST), 10)
NOISES: list[float] = np.sqrt(WIDTHS**2 - NARROW**2).tolist()
"""Ten widths in a geometric series, and the noise at which the narrower component has them."""

SIZES: list[float] = (WIDTHS**2 / 20).tolist()
"""Langevin steps in proportion to w^2."""

Scores = Callable[[float], Field]
"""The score at a level of noise."""


def exact(level: float) -> Field:
    """Return the true score of the data under noise."""
    return TARGET.noised(1.0, level).score


def published(scores: Scores, x: Tensor, generator: Generator, steps: int) -> list[Tensor]:
    """Return the state before and after each level of the page: s from 4 to 0.01, steps of size 0.1 s^2.

    Where a network sends a chain away for ever, it is asked no further than 100 from the origin.
    """
    path, sizes = [x], [1e-5 * (s / LEVELS[-1]) ** 2 for s in LEVELS]
    kept = lambda score: lambda x: score(x.clamp(-100, 100))
    states = list(langevin.annealed([kept(scores(s)) for s in LEVELS], x, sizes, steps, generator))
    return path + states[steps - 1 :: steps]


def by_levels(
    scores: Scores, noises: Sequence[float], sizes: Sequence[float], x: Tensor, generator: Generator, steps: int = 150
) -> Tensor:
    """Return the ends of chains over levels of noise, so many steps of its own size at each."""
    return _last(langevin.annealed([scores(s) for s in noises], x, sizes, steps, generator))


def by_noise(scores: Scores, x: Tensor, generator: Generator, steps: int = 150) -> Tensor:
    """Return the ends of chains over levels of half the noise each, with the steps of Song and Ermon, 2020."""
    levels = langevin.noise_levels(LEVELS[0], SMALLEST, 2)
    return by_levels(scores, levels.tolist(), langevin.step_sizes(levels, steps), x, generator, steps)


def by_width(scores: Scores, x: Tensor, generator: Generator) -> Tensor:
    """Return the ends of chains over the levels `NOISES` with steps of size w^2 / 20.

    That leaves the variance of a component too large by at most a fortieth, see `langevin.unadjusted`.
    """
    return by_levels(scores, NOISES, SIZES, x, generator)


def with_momentum(scores: Scores, x: Tensor, generator: Generator, steps: int = 50) -> Tensor:
    """Return the ends of chains with momentum over the levels `NOISES`, with steps w / 2 and friction 1 / w."""
    for s, w in zip(NOISES, WIDTHS.tolist(), strict=True):
        x = _last(langevin.underdamped(scores(s), x, w / 2, steps, generator, friction=1 / w))
    return x


def _last(path: langevin.Path) -> Tensor:
    for x in path:  # noqa: B007
        pass
    return x


def start(n: int, noise: float, generator: Generator) -> Tensor:
    """Draw n points of one Gaussian with the moments of the data under noise."""
    return GaussianMixture.gaussian(TARGET.mean, TARGET.covariance).noised(1.0, noise).sample(n, generator)


class _InLevel(nn.Module):
    """Dense layers on z and log s/a, as a ScoreModel asks for."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.net = dense(3, 64, 64, 64, 2, activations=nn.SiLU(), generator=generator)

    def forward(self, z: Tensor, log_ratio: Tensor) -> Tensor:
        """Return the prediction 'v'."""
        return self.net(torch.cat([z, log_ratio[:, None]], 1))


def learn(seed: int, steps: int) -> ScoreModel:
    """Train a model of all levels from 0.01 to 8 on the page's rows by denoising, and return its averaged weights.

    The loss is that of the prediction 'v', so that every level counts alike; targets are averaged over the batch.
    """
    rows = TARGET.sample(ROWS, spawn(seed, "rows")).float()
    covariance = rows.T.cov()
    net, spread = _InLevel(spawn(seed, "model")), float(covariance.diagonal().mean().sqrt())
    model = ScoreModel(net, EDM(8.0), rows.mean(0), covariance, data_std=spread)
    trainer, generator = Trainer(model, steps), spawn(seed, "training")
    law, drawn = times.log_uniform(model.process, ratio_min=LEVELS[-1]), batches(rows, 256, generator)

    def loss() -> Tensor:
        x = next(drawn)
        return denoising(trainer.model, x, law(len(x), generator), references=x, generator=generator).mean()

    for _ in trainer.run(loss):
        pass
    return trainer.average


def learned(model: ScoreModel) -> Scores:
    """Return the scores of a model by the noise, asked for in blocks of rows that fit the processor's cache."""

    def at(level: float) -> Field:
        score = model.at(model.process.time(torch.tensor(level, dtype=torch.float64)))
        return lambda x: torch.cat([score(block.float()).to(x) for block in x.split(2048)])

    return at


def by_flow(model: ScoreModel, n: int, generator: Generator) -> Tensor:
    """Return n samples of a model by the probability flow, from noise 8 down to the smallest that it has seen."""
    return sample(model, n, times=times.grid(model.process, 32, ratio_min=LEVELS[-1]), generator=generator)


def rows(name: str, ends: Sequence[Tensor]) -> Results:
    """Return the rows of the clusters of samples, one tensor a seed, beside those of the target."""
    found, true = [clusters(x.double()) for x in ends], exact_clusters()
    return (
        row(f"{name}: share of the right cluster", None, [c.mass for c in found], true.mass)
        | row(f"{name}: spread of the right cluster", None, [c.right for c in found], true.right)
        | row(f"{name}: spread of the left cluster", None, [c.left for c in found], true.left)
    )


def with_exact_scores(chains: int, few: int) -> Results:
    """Return what the rules of the page, of the literature and of this module give where the score is true."""
    draw, noises = spawn(0, "exact"), np.geomspace(LARGEST, SMALLEST, len(NOISES))
    by_square = [SIZES[0] * (s / LARGEST) ** 2 for s in NOISES]  # as large at the first level
    sizes = ((NARROW**2 + noises**2) / 20).tolist()
    walk = lambda noises, sizes: by_levels(exact, noises, sizes, start(few, LARGEST, draw), draw)
    ends = {
        f"{few:,} chains, levels and steps by noise": by_noise(exact, start(few, LEVELS[0], draw), draw),
        f"{few:,} chains, levels by width, steps by noise": walk(NOISES, by_square),
        f"{few:,} chains, levels by noise, steps by width": walk(noises.tolist(), sizes),
        f"{few:,} chains, levels and steps by width": walk(NOISES, SIZES),
        f"{chains:,} chains, with momentum": with_momentum(exact, start(chains, LARGEST, draw), draw),
    }
    return {k: v for name, x in ends.items() for k, v in rows(f"exact scores, {name}", [x]).items()}


def with_models(models: Sequence[ScoreModel], chains: int, points: int) -> tuple[Results, list[Tensor]]:
    """Return what learned models give: by chains with momentum, by the flow, and their likelihood; and the chains."""
    draws = [spawn(seed, "learned") for seed in range(len(models))]
    ends = [
        with_momentum(learned(model), start(chains, LARGEST, draw).float(), draw)
        for model, draw in zip(models, draws, strict=True)
    ]
    flows = [by_flow(model, chains, spawn(seed, "flow")) for seed, model in enumerate(models)]
    data = [TARGET.sample(ROWS, spawn(seed, "rows")) for seed in range(len(models))]
    results = rows(f"learned scores, {chains:,} chains, with momentum", ends)
    results |= rows(f"learned scores, {chains:,} samples by the flow", flows) | rows("the training rows", data)
    x = TARGET.sample(points, spawn(0, "held out"))
    with torch.no_grad():
        found = [
            float(log_prob(model, x.float(), tol=1e-4, ratio_min=LEVELS[-1]).value.double().mean()) for model in models
        ]
    truth = float(TARGET.log_prob(x).mean())
    return results | row("log-likelihood of new rows by the flow, nats", None, found, truth), ends
