"""The cures of tutorial 003: what turns score matching at one level of noise into a diffusion model, step by step.

The tutorial's three things are a schedule of variances, a model that knows the variance, and a sum of losses with
weights. Each is added to the tutorial's own network, all trained alike, the last two also one without the other; then
the schedule becomes continuous and the chains a reverse process, and at last the network becomes ours. `ScoreModel`
scales what goes in and comes out by the level in all of them. Images are in units of 16.
"""

import functools
from collections import deque
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from scorefield.diffusion import times
from scorefield.diffusion.denoisers import Denoiser, ScoreModel
from scorefield.diffusion.published import EDM
from scorefield.gallery.digits.training import HIDDEN, LEVELS, PIXELS, SIGMA, convert, images, restored, uniform_start
from scorefield.gallery.networks import dense
from scorefield.inference import langevin, samplers
from scorefield.kinds.tables.problem import largest_distance
from scorefield.numerics.tensors import spawn
from scorefield.numerics.whitening import moments
from scorefield.training.config import Config
from scorefield.training.objectives.losses import denoising
from scorefield.training.trainer import Trainer, batches

SMALLEST, PER_LEVEL, STEPS = 0.05, 6, 100
"""The smallest level, less than half of what lies between two grey values; Langevin steps a level; ancestral steps."""

BATCH, RATE = 128, 1e-3

ONE = "one level, the same training"
LADDER = "a ladder of levels"
TOLD = "a ladder, level as input"
WEIGHTS = "a ladder with weights"
KNOWS = "a ladder, weights, level as input"
CONTINUOUS = "all levels, reverse SDE"
OURS = "our network, all levels, reverse SDE"


class Levelled(nn.Module):
    """The tutorial's network with one input more, log(s/a), which is always 0 where it is not to know the level."""

    def __init__(self, knows: bool, generator: Generator) -> None:
        super().__init__()
        self.knows = knows
        self.net = dense(PIXELS + 1, *HIDDEN, PIXELS, activations=nn.SELU(), generator=generator)

    def forward(self, z: Tensor, log_ratio: Tensor) -> Tensor:
        """Return the prediction for z (n, 64) of unit variance at log(s/a) (n,)."""
        return self.net(torch.cat([z, self.knows * log_ratio[:, None]], 1))


@functools.cache
def process() -> EDM:
    """Return noise up to the largest distance between two training images (Song and Ermon, 2020, technique 1)."""
    return EDM(largest_distance(images(LEVELS).train))


@functools.cache
def ladder() -> Tensor:
    """Return the levels from there down to SMALLEST, as close as technique 2 of Song and Ermon, 2020 asks."""
    return langevin.noise_levels(process().sigma_max, SMALLEST, PIXELS)


def at_sigma() -> Tensor:
    """Return the time of the tutorial's own level."""
    return process().time(torch.tensor(SIGMA))


@dataclass(frozen=True)
class Way:
    """How the tutorial's network is trained: the law of the level, the weight, and whether it knows the level."""

    law: times.Law
    weight: str
    knows: bool = True


def ways() -> dict[str, Way]:
    """Return the ways from one level and a ladder of plain losses, |score error|^2, to weights s^2 and all levels."""
    rungs = times.ladder(process().time(ladder()).tolist())
    return {
        ONE: Way(times.ladder([float(at_sigma())]), "noise", knows=False),
        LADDER: Way(rungs, "score", knows=False),
        TOLD: Way(rungs, "score"),
        WEIGHTS: Way(rungs, "noise", knows=False),
        KNOWS: Way(rungs, "noise"),
        CONTINUOUS: Way(times.log_uniform(process(), SMALLEST), "noise"),
    }


def learn(way: Way, steps: int, seed: int) -> ScoreModel:
    """Train the tutorial's network on the digits in one of the ways; return the model of its averaged weights."""
    rows = images(LEVELS).train
    model = ScoreModel(Levelled(way.knows, spawn(seed, "init")), process(), *moments(rows))
    draws, noise = batches(rows, BATCH, spawn(seed, "rows")), spawn(seed, "noise")
    trainer = Trainer(model, steps, RATE)
    law = lambda: way.law(BATCH, noise)
    deque(trainer.run(lambda: denoising(model, next(draws), law(), weight=way.weight, generator=noise).mean()), 0)
    return trainer.average


def learn_ours(steps: int, seed: int) -> ScoreModel:
    """Train our network, 512 wide, by the library's defaults, without a base in closed form."""
    rows = images(LEVELS).train
    config = Config(steps, seed, process="edm", span=(process().sigma_max,), width=512, batch_size=BATCH)
    model, draws = config.model(*moments(rows)), batches(rows, BATCH, config.generator("rows"))
    loss, noise = config.loss(model), config.generator("noise")
    trainer = Trainer(model, steps, config.learning_rate)
    deque(trainer.run(lambda: loss(next(draws), noise).mean()), 0)
    return trainer.average


def anneal(model: Denoiser, n: int, generator: Generator) -> Tensor:
    """Return n images by annealed Langevin dynamics from the published start, then the mean of the clean image."""
    scores = [model.at(t) for t in process().time(ladder())]
    sizes = langevin.step_sizes(ladder(), PER_LEVEL)
    path = langevin.annealed(scores, uniform_start(n, generator), sizes, PER_LEVEL, generator)
    return langevin.denoised(scores[-1], deque(path, 1)[0], float(ladder()[-1]))


def cured(steps: int, n: int, seed: int, top: int) -> dict[str, Tensor]:
    """Return n images by each cure, in units of the largest pixel `top`.

    Chains at one level are those of the corrections, on ladders they are annealed; all levels go by the reverse SDE.
    """
    found: dict[str, Tensor] = {}
    for name, way in ways().items():
        model = learn(way, steps, seed)
        if name == CONTINUOUS:
            found[name] = diffuse(model, n, seed)
        elif name == ONE:
            found[name] = restored(model.at(at_sigma()), n, spawn(seed, "chains"))
        else:
            found[name] = anneal(model, n, spawn(seed, "chains"))
    found[OURS] = diffuse(learn_ours(steps, seed), n, seed)
    return {name: convert(x, LEVELS, top) for name, x in found.items()}


def diffuse(model: Denoiser, n: int, seed: int) -> Tensor:
    """Return n images by 100 ancestral steps of the reverse SDE, at the times that are optimal for the model."""
    path = samplers.grid_for("ancestral", model, STEPS)
    return samplers.sample(model, n, sampler="ancestral", times=path, generator=spawn(seed, "samples"))
