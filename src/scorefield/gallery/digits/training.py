"""Tutorial 003's digits: its images, network, loss, training with early stopping and sampler, and how far images are.

The network answers with sigma times the score at one level of noise. Its validation draws new noise each epoch, so
that early stopping waits for luck; here the same training is also judged on noise that stays the same.
"""

import copy
import functools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor, nn

from scorefield.evaluation.descriptions import precision_recall
from scorefield.evaluation.metrics import copying, energy_distance
from scorefield.gallery.networks import dense, descend, shuffled
from scorefield.inference import langevin
from scorefield.numerics.shapes import Field
from scorefield.numerics.tensors import normal_like, spawn, uniform
from scorefield.training.objectives.losses import sliced

PIXELS, TRAIN, VALIDATION = 64, 1_000, 350
"""Numbers an image; the first so many images are learnt, the next judge, the other 447 test."""

PUBLISHED, LEVELS = 17, 16
"""What the tutorial divides a pixel by, and the largest pixel there is."""

HIDDEN, BATCH, RATE, EPOCHS, PATIENCE = (512, 512, 512), 32, 1e-4, 1_000, 20

SIGMA, ALPHA, ETA, STEPS = 0.1, 0.1, 0.05, 100
"""The tutorial's noise and sampler. Its network answers with sigma score: a step on the score is alpha sigma."""

SIZE = ALPHA * SIGMA
TEMPERATURE = ETA**2 / (2 * SIZE)
"""0.125: the noise that was added over the noise that belongs to the step, as variances."""

FINER = 10
"""Since alpha = sigma, a step goes all the way to the mean of the clean image; this many in place of one do not."""

Objective = Callable[[nn.Module, Tensor, Generator], Tensor]
"""A network, images (n, 64), a generator -> a loss of each image."""

FRESH, STILL = "new noise each epoch", "the same noise"
"""The two rules of early stopping."""

SHOWN = (1, 25, 50, 100, 150, 200)
"""After so many epochs the best network by then is kept, to be looked at."""


@dataclass(frozen=True)
class Images:
    """The three parts of the digits, pixels x as 2 x / top - 1, float32."""

    train: Tensor
    validation: Tensor
    test: Tensor


@functools.cache
def images(top: int) -> Images:
    """Return the digits in the tutorial's order and parts."""
    from sklearn.datasets import load_digits  # takes a second, which only this entry should cost

    pixels = torch.from_numpy(load_digits().data).float()
    return Images(*(2 * pixels / top - 1).split([TRAIN, VALIDATION, len(pixels) - TRAIN - VALIDATION]))


def convert(x: Tensor, top: int, other: int) -> Tensor:
    """Return images in units of one largest pixel in those of another."""
    return (x + 1) * top / other - 1


def network(generator: Generator) -> nn.Sequential:
    """Return the tutorial's network, 64-512-512-512-64 with SELU, cut to [-4, 4]: 591,424 weights."""
    net = dense(PIXELS, *HIDDEN, PIXELS, activations=nn.SELU(), generator=generator)
    return net.append(nn.Hardtanh(-4, 4))


def losses(net: nn.Module, x: Tensor, generator: Generator) -> Tensor:
    """Return the published loss of each image: |net(x + sigma z) + z|^2 / (2 sigma)."""
    z = normal_like(x, generator)
    return (net(x + SIGMA * z) + z).square().sum(1) / (2 * SIGMA)


def slices(net: nn.Module, x: Tensor, generator: Generator) -> Tensor:
    """Return sliced score matching of each image under noise sigma, (v . net)^2 / 2 + v . D net v for random signs v.

    In y = (x + sigma z) / sigma the score is the network's answer, of order one; less a constant it is the loss above.
    """
    y = x / SIGMA + normal_like(x, generator)
    return sliced(lambda y: net(SIGMA * y), y, generator=generator)


@dataclass
class Rule:
    """Early stopping by one validation loss: the losses of all epochs until it stops, and the best network.

    kept: the best network by the time of each number of epochs in SHOWN.
    """

    losses: list[float] = field(default_factory=list)
    best: nn.Module = field(default_factory=nn.Identity)
    kept: dict[int, nn.Module] = field(default_factory=dict)

    @property
    def epoch(self) -> int:
        """The epoch of the best network."""
        return min(range(len(self.losses)), key=self.losses.__getitem__)

    @property
    def stopped(self) -> bool:
        """Whether the loss has been above its best for more than 20 epochs."""
        return bool(self.losses) and len(self.losses) - 1 - self.epoch > PATIENCE

    def judge(self, net: nn.Module, loss: float) -> None:
        """Note the loss of an epoch, and a copy of the network where it is the best."""
        if self.stopped:
            return
        self.losses.append(loss)
        if self.epoch == len(self.losses) - 1:
            self.best = copy.deepcopy(net)
        if len(self.losses) in SHOWN:
            self.kept[len(self.losses)] = self.best


def train(seed: int, top: int, epochs: int, objective: Objective = losses) -> dict[str, Rule]:
    """Train as published until early stopping, at most so many epochs, judged on new and on frozen noise.

    Adamax at a constant rate on shuffled batches, on the published loss or another of each image. What judges draws
    from generators of its own, so both rules look at one and the same training; it ends when both have stopped.
    """
    data, rules = images(top), {FRESH: Rule(), STILL: Rule()}
    order, noise, fresh = (spawn(seed, name) for name in ("order", "noise", "validation"))
    net = network(spawn(seed, "init"))
    optimiser = torch.optim.Adamax(net.parameters(), lr=RATE, foreach=True)
    for _ in range(epochs):
        for pick in shuffled(TRAIN, BATCH, order):
            descend(optimiser, objective(net, data.train[pick], noise).mean())
        rules[FRESH].judge(net, held_out(net, data.validation, fresh))
        rules[STILL].judge(net, held_out(net, data.validation, spawn(seed, "frozen")))
        if all(rule.stopped for rule in rules.values()):
            break
    return rules


@torch.no_grad()
def held_out(net: nn.Module, x: Tensor, generator: Generator) -> float:
    """Return the mean published loss on images that are not learnt, one draw of noise each."""
    return float(losses(net, x, generator).mean())


def score(net: nn.Module) -> Field:
    """Return the score that the tutorial's network stands for, its answer over sigma."""
    return lambda x: net(x) / SIGMA


def chains(score: Field, n: int, generator: Generator, temperature: float = TEMPERATURE, finer: int = 1) -> Tensor:
    """Return n images after 100 Langevin steps of 0.01 from a uniform start in [-1, 1]^64: the published sampler.

    x + alpha net(x) + eta z is x + h score + sqrt(2 h T) z at the temperature T = eta^2 / 2h, which is 1/8. As h is
    sigma^2, x + h score is the mean of the clean image (Robbins, 1956): around a lonely image the variance is eta^2,
    0.0025, where the law that is learned has sigma^2 = 0.01; with T = 1 it is 2 sigma^2. finer: so many steps of
    h / finer in place of one, which at T = 1 give 2h / (1 - (1 - h / sigma^2)^2), 0.0105 with ten.
    """
    start = uniform_start(n, generator)
    path = langevin.unadjusted(score, start, SIZE / finer, STEPS * finer, generator, temperature)
    return deque(path, maxlen=1)[0]


def restored(score: Field, n: int, generator: Generator) -> Tensor:
    """Return n images by chains with noise that fits steps a tenth as large, and the mean of the clean image."""
    return langevin.denoised(score, chains(score, n, generator, 1.0, FINER), SIGMA)


def uniform_start(n: int, generator: Generator) -> Tensor:
    """Return n points drawn uniformly from [-1, 1]^64, float32."""
    return (2 * uniform(n * PIXELS, generator) - 1).reshape(n, PIXELS).float()


def measures(x: Tensor) -> dict[str, float]:
    """Return what is known of images in the tutorial's units, beside its training and test images.

    Precision and coverage as in `descriptions.precision_recall`; copying is the probability that an image is closer to
    a training image than a test image is, 1/2 for new images of the same law.
    """
    data = images(PUBLISHED)
    near = precision_recall(x, data.test)
    copied = copying(x, data.train, data.test, generator=spawn(0, "copying"))["copying"]
    return {
        "mean standard deviation of a pixel": float(x.std(0).mean()),
        "distance to the nearest training image": float(torch.cdist(x, data.train).amin(1).mean()),
        "energy distance to test images": energy_distance(x, data.test).value,
        "precision": near["precision"].value,
        "coverage": near["coverage"].value,
        "copying": copied.model.value,
    }
