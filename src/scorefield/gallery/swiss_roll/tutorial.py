"""Score-based models with an SDE on a swiss roll: the tutorial as published, and corrected.

Published: a network of 8,706 parameters learns 1,000 points in 600,000 steps of denoising over VP noise, and the
reverse SDE in 999 steps makes new points. `swiss_roll_langevin` has the tutorial's other example, one Gaussian; there
and here a network with one output, whose gradient is the score, gives the densities of the animations.
By default a fifteenth of the training is done, up to the second loss that was printed; the full one takes an hour.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from scorefield.diffusion import sde, times
from scorefield.diffusion.denoisers import Denoiser, ExactDenoiser, ScoreModel
from scorefield.diffusion.networks import MLP
from scorefield.evaluation.metrics import energy_distance
from scorefield.gallery.networks import dense
from scorefield.gallery.report import Results, row
from scorefield.gallery.swiss_roll import figures, langevin, training
from scorefield.gallery.swiss_roll.training import (
    DENSITY,
    EPOCH,
    F64,
    FLOOR,
    HIDDEN,
    PROCESS,
    Potential,
    TutorialModel,
    network,
    points,
)
from scorefield.inference.likelihood import log_prob
from scorefield.inference.samplers import euler_maruyama, walk
from scorefield.kinds.tables.estimator import ScoreDensity
from scorefield.numerics.tensors import normal_like, spawn
from scorefield.numerics.whitening import moments
from scorefield.training.objectives.losses import denoising
from scorefield.training.trainer import Trainer, batches

PRINTED = [1.0375, 0.2037, 0.2288, 0.2151, 0.1873, 0.2045, 0.2150, 0.1997]
PRINTED += [0.2171, 0.2022, 0.1886, 0.1908, 0.1957, 0.1956, 0.2035]
"""The mean loss of epochs 0, 10,000, ... 140,000 that the tutorial's notebook printed."""

EVERY = 10_000 * EPOCH
TIMES = torch.linspace(1, 0, 1000, dtype=F64)
"""The times of the tutorial's sampler: 1,000 points, so 999 steps."""

SHOWN = [*range(510, 800, 10), *range(800, 999, 5), *[999] * 10]
"""The states of the published animation; it rests on the last."""

SAMPLES, REAL = 1_000, 4_000
RATIO_MIN = float(PROCESS.ratio(torch.tensor(training.T_MIN, dtype=F64)))
CHECKED = (0.1, 0.25, 0.5, 0.75, 1.0)
"""Times at which the forward process is compared with its closed form."""


@dataclass(frozen=True)
class Size:
    """How much is computed: seeds of what is cheap and of what is trained, steps, points, frames (None: all)."""

    seeds: int
    trainings: int
    steps: int
    energy_steps: int
    energy_rate: float
    network_steps: int
    fresh: int
    epochs: int
    frames: int | None = None


@dataclass(frozen=True)
class Trained:
    """The tutorial's network on the points of one seed, and the loss of each step."""

    model: TutorialModel
    losses: list[float]

    @property
    def epochs(self) -> list[float]:
        """The mean loss of each epoch."""
        return np.reshape(self.losses, (-1, EPOCH)).mean(1).tolist()


def run(out: Path, *, seeds: int = 10, quick: bool = False, full: bool = False) -> Results:
    """Make the tutorial as published and corrected below `out`; return every number.

    full: the 600,000 steps of the published trainings, more than an hour; else 40,004, the second loss that was
    printed, and about 3 minutes; the networks of the animations then take up to 10,000 at ten times the rate.
    What is trained has at most two seeds. Raises ValueError for quick and full together.
    """
    if quick and full:
        raise ValueError("expected either a quick run or a full one; got both; leave one out")
    few, rate = min(seeds, 2), training.RATE
    size = Size(seeds, few, EVERY + EPOCH, 10_000, 10 * rate, 1_000, 1_000, 100)
    if quick:
        size = Size(few, 1, 400, 40, 10 * rate, 100, 100, 2, frames=2)
    if full:
        size = Size(seeds, few, training.FULL, training.FULL, rate, 1_000, 4_000, 500)
    runs = [learn(seed, size.steps) for seed in range(size.trainings)]
    paths = [reverse(found.model, SAMPLES, seed) for seed, found in enumerate(runs)]
    results = published(out / "as-published", runs, paths, size) | corrected(out / "corrected", runs, paths, size)
    steps = size.energy_steps if full else size.energy_steps // 3
    return results | langevin.run(out, size.trainings, size.epochs, steps, size.energy_rate, size.frames)


def learn(seed: int, steps: int) -> Trained:
    """Train the tutorial's network as published, for so many steps."""
    net, data = network(spawn(seed, "init")), points(seed)
    losses = training.train(net, data, steps, seed)
    return Trained(TutorialModel(net, data), losses)


def alone(data: Tensor, steps: int, seed: int) -> ScoreModel:
    """Train our network without a base: log-uniform times, targets averaged over the batch, averaged weights."""
    mean, covariance = moments(data)
    net = MLP(2, width=64, depth=2, features=32, generator=spawn(seed, "init"))
    model = ScoreModel(net, PROCESS, mean, covariance, data_std=float(covariance.diagonal().mean().sqrt()))
    trainer, law = Trainer(model, steps), times.log_uniform(PROCESS)
    rows, noise = batches(data, training.BATCH, spawn(seed, "batches")), spawn(seed, "noise")

    def loss() -> Tensor:
        x = next(rows)
        return denoising(model, x, law(len(x), noise), references=x, generator=noise).mean()

    for _ in trainer.run(loss):
        pass
    return trainer.average


def default_density(estimator: ScoreDensity, x: Tensor) -> Tensor:
    """Return log q of a ScoreDensity that is its base, in closed form, float64.

    On 1,000 rows the base, kernels and mixtures stacked by cross-validation, is better than a network can make it, and
    is the model: one step of training gives what 'auto' gives.
    """
    table = pd.DataFrame(x.numpy(), columns=list(estimator.transform_.names))
    z = estimator.transform_.forward(table).double()
    base = estimator.model_.base
    if base is None:
        raise RuntimeError("expected a ScoreDensity with a closed-form base; got one without")
    return base.like(z).log_prob(z) + estimator.transform_.log_jacobian(table)


def flow_density(model: Denoiser, x: Tensor) -> Tensor:
    """Return log q of a network through the flow, from the smallest time of the training on, float64."""
    return log_prob(copy.deepcopy(model).double(), x, tol=1e-4, ratio_min=RATIO_MIN).value


def reverse(model: Denoiser, n: int, seed: int) -> list[Tensor]:
    """Return the 1,000 states of the published sampler, (n, 2) each, from N(0, I) at t = 1 to 0."""
    start = normal_like(torch.empty(n, 2).to(model.mean), spawn(seed, "start"))
    return [start, *walk(euler_maruyama(1.0, spawn(seed, "reverse")))(model, start, TIMES)]


@torch.no_grad()
def denoised(model: Denoiser, path: Sequence[Tensor]) -> Tensor:
    """Return the end of a published path with its last step made anew: the mean of the clean points, no noise."""
    return model.decompose(path[-2], TIMES[-2])[0]


def forward(n: int, seed: int) -> list[Tensor]:
    """Return n points of the law and their states under the SDE at CHECKED times, by Euler-Maruyama in 999 steps."""
    x, generator = training.fresh(n, seed), spawn(seed, "forward")
    drift = lambda x, t: PROCESS.drift(t) * x
    states = list(sde.simulate(drift, PROCESS.diffusion, x, TIMES.flip(0), generator))
    return [states[round(999 * t)] for t in CHECKED]


def far(samples: Tensor, seed: int) -> float:
    """Return the energy distance of samples to fresh points of the law; its mean is 0 for samples of it."""
    return energy_distance(samples, training.fresh(REAL, 100 + seed)).value


def published(out: Path, runs: list[Trained], paths: list[list[Tensor]], size: Size) -> Results:
    """Do what the tutorial did: forward process, training, samples, and the animation by a network with one output."""
    moved = [forward(SAMPLES, seed) for seed in range(size.seeds)]
    losses = [found.epochs for found in runs]
    figures.draw_forward(out, CHECKED, moved[0], training.fresh(SAMPLES, 0))
    figures.draw_samples(out / "samples.png", {"samples": paths[0][-1], "training points": points(0)})
    figures.draw_training(out, losses, dict(zip(range(0, 150_000, 10_000), PRINTED, strict=True)))
    results = simulated(moved)
    for k, value in enumerate(PRINTED):
        if k * EVERY < size.steps:
            results |= row(f"loss of epoch {10_000 * k:,}", value, [run[10_000 * k] for run in losses], FLOOR, 1.0)
    last = [float(np.mean(run[-1_000:])) for run in losses]
    results |= row(f"mean loss of the last {min(1_000, len(losses[0])):,} epochs", None, last, FLOOR, 1.0)
    results |= noise_of_an_epoch(size)
    results |= quality("tutorial's network", [found.model for found in runs], size)
    results |= row("tutorial's network: energy distance", None, [far(p[-1], k) for k, p in enumerate(paths)], 0.0)
    return results | animate(out, size)


def simulated(moved: list[list[Tensor]]) -> Results:
    """Return mean and variance of simulated points beside their closed form, the floor."""
    results: Results = {}
    for k, t in enumerate(CHECKED):
        noised = DENSITY.noised(*(float(f(torch.tensor(t, dtype=F64))) for f in (PROCESS.mean_coef, PROCESS.std)))
        for j, column in enumerate(("x1", "x2")):
            mean = [float(states[k][:, j].mean()) for states in moved]
            results |= row(f"forward at t = {t:g}: mean of {column}", None, mean, float(noised.mean[j]))
            variance = [float(states[k][:, j].var()) for states in moved]
            exact = float(noised.covariance[j, j])
            results |= row(f"forward at t = {t:g}: variance of {column}", None, variance, exact)
    return results


def noise_of_an_epoch(size: Size) -> Results:
    """Return how much the loss of an epoch varies for the true score, and what the score of the points alone has."""
    exact = ExactDenoiser(DENSITY, PROCESS)
    net = lambda xt: exact.score(xt[:, :2], xt[:, 2])

    def spread(seed: int) -> float:
        draw = spawn(seed, "epochs")
        losses = [
            float(training.loss(net, training.fresh(training.POINTS, k), draw)) for k in range(3 * max(size.seeds, 2))
        ]
        return float(np.std(losses, ddof=1))

    later = float(np.std(PRINTED[1:], ddof=1))
    known = [training.memorised(points(seed), 50 * size.fresh, seed) for seed in range(size.trainings)]
    results = row("standard deviation of an epoch's loss, true score", later, [*map(spread, range(size.trainings))])
    return results | row("loss of the score that knows only the 1,000 points", None, known, FLOOR, 1.0)


def quality(name: str, models: Sequence[Denoiser], size: Size) -> Results:
    """Return the loss above that of the true score, and the mean of log p - log q, on fresh points."""
    over = [training.excess(model, 10 * size.fresh, seed) for seed, model in enumerate(models)]
    gaps = [training.gap(partial(flow_density, model), size.fresh, seed).value for seed, model in enumerate(models)]
    results = row(f"{name}: loss above that of the true score", None, over, 0.0, 1 - FLOOR)
    return results | row(f"{name}: log p - log q, nats", None, gaps, 0.0)


def animate(out: Path, size: Size) -> Results:
    """Write the sampling animation, with the density of a network with one output; return how far that is off."""
    net, data = Potential(dense(3, *HIDDEN, 1, activations=nn.LogSigmoid(), generator=spawn(0, "energy"))), points(0)
    training.train(net, data, size.energy_steps, 0, size.energy_rate)
    path = reverse(TutorialModel(net, data), SAMPLES, 0)
    shown = [SHOWN[0], SHOWN[-1]] if size.frames else SHOWN
    figures.animate_potential(out / "sampling.gif", net, [path[i] for i in shown], TIMES[shown].tolist(), 1.6)
    results: Results = {}
    for t in (0.01, 0.1, 0.3):
        off = training.potential_error(net, DENSITY, t, 2.0)
        results |= row(f"network with one output: total variation of its density at t = {t:g}", None, [off], 0.0)
    return results


def corrected(out: Path, runs: list[Trained], paths: list[list[Tensor]], size: Size) -> Results:
    """Show the printed formulas beside the right ones, the last step, and what other models make of the points."""
    figures.draw_formulas(out)
    results = last_step(out, runs, paths)
    networks = [alone(points(seed), size.network_steps, seed) for seed in range(size.trainings)]
    fits = [ScoreDensity(max_iter=1, random_state=seed).fit(points(seed).numpy()) for seed in range(size.trainings)]
    densities = [partial(default_density, fit) for fit in fits]
    gaps = [training.gap(density, 4 * size.fresh, seed).value for seed, density in enumerate(densities)]
    drawn = [torch.tensor(fit.sample(SAMPLES, random_state=seed)) for seed, fit in enumerate(fits)]
    results |= quality(f"our network, {size.network_steps:,} steps", networks, size)
    results |= row("ScoreDensity: log p - log q, nats", None, gaps, 0.0)
    results |= row("ScoreDensity: energy distance", None, [far(x, seed) for seed, x in enumerate(drawn)], 0.0)
    pictures = {"training points": points(0), "ScoreDensity": drawn[0], "fresh points": training.fresh(SAMPLES, 0)}
    figures.draw_samples(out / "samples.png", pictures)
    log_densities: dict[str, Callable[[Tensor], Tensor]] = {"exact": DENSITY.log_prob}
    log_densities |= {
        f"tutorial's network, {size.steps:,} steps": partial(flow_density, runs[0].model),
        "ScoreDensity": densities[0],
    }
    figures.draw_densities(out, log_densities, cells=15 if size.frames else 61)
    return results


def last_step(out: Path, runs: list[Trained], learned: list[list[Tensor]]) -> Results:
    """Compare the published end of the sampler with one whose last step takes all noise out.

    On the spiral without its noise and with exact scores, where it shows, and on the learned swiss roll.
    """
    curve = ExactDenoiser(training.without_noise(DENSITY), PROCESS)
    paths = [reverse(curve, 200, seed) for seed in range(len(runs))]
    as_published, ours = "noise in the last step", "last step denoises"
    ends = {as_published: [path[-1] for path in paths], ours: [denoised(curve, path) for path in paths]}
    figures.draw_last_step(out, {name: found[0] for name, found in ends.items()})
    results: Results = {}
    for name, found in ends.items():
        distances = [float(training.off_curve(x).square().mean().sqrt()) for x in found]
        results |= row(f"spiral without noise, {name}: RMS distance from it", None, distances, 0.0)
    values = [far(denoised(r.model, p), k) for k, (r, p) in enumerate(zip(runs, learned, strict=True))]
    return results | row("tutorial's network, last step denoises: energy distance", None, values, 0.0)
