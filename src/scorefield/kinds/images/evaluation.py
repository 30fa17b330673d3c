"""What `scorefield evaluate` finds of images: probabilities, distances in learned features, and the verdict."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional

from scorefield.data import Images
from scorefield.evaluation import descriptions, metrics
from scorefield.evaluation.comparison import compared_json, compared_lines
from scorefield.evaluation.findings import Finding
from scorefield.evaluation.metrics import MIN_ROWS, ROWS, Comparison, Estimate, Rows
from scorefield.evaluation.two_sample import joint_test
from scorefield.evaluation.verdict import Seen, Verdict, as_verdict, copies, judge
from scorefield.inference.samplers import STEPS
from scorefield.kinds.images.estimator import ImageDensity
from scorefield.numerics.tensors import integer, spawn, unfilled

Features = Float[Tensor, "_ k"]
"""Features of images, (n, k), in float64."""

JUDGED = 1000
"""Held-out images that are taken at most; as many are drawn."""

NUMBERS = 2**27
"""Copies are looked for among at most so many pixels of training images: 1 GB in float64, 170,000 images of MNIST."""

FEATURES, TRAINING, BATCH, RATE = 64, 1500, 128, 2e-3
"""Of the network that learns to tell the classes: what it sees, its steps, images a step, its learning rate."""

SIDE = 32
"""Larger images are averaged down to this before that network sees them."""


@dataclass(frozen=True)
class ImageEvaluation:
    """A model against held-out images: a bound of their probability, metrics beside real images, and the verdict.

    seen_by says in what features images are compared; the bound is in nats and, of levels, in bits per dimension.
    """

    images: int
    seen_by: str
    log_probability: Estimate
    bits_per_dim: Estimate | None
    compared: dict[str, Comparison]
    verdict: Verdict

    def as_json(self) -> dict[str, object]:
        """Return all numbers as one flat object, metrics with their excess."""
        found = dataclasses.asdict(self)
        del found["compared"]
        return found | compared_json(self.compared)

    def lines(self) -> list[str]:
        """Return the lines that are printed, up to 120 columns wide."""
        bits = [] if self.bits_per_dim is None else [f"{'bits per dimension (a bound)':38}{self.bits_per_dim!s:>22}"]
        return [
            f"{self.images:,} held-out images, as many drawn; +- one standard error",
            f"compared in {self.seen_by}",
            f"{'log-probability (a bound), nats':38}{self.log_probability!s:>22}",
            *bits,
            *compared_lines(self.compared, self.verdict),
        ]


def evaluate(estimator: ImageDensity, train: Images, held_out: Images, seed: int) -> ImageEvaluation:
    """Return how an estimator compares with held-out images, given those that it learned from.

    At most 1,000 held-out images are asked, drawn at random, and as many drawn from the model. Raises ValueError for
    fewer than 10 held-out or 20 training images, and for images that the estimator could not have learned from.
    """
    for images, least, remedy in ((held_out, MIN_ROWS, "give more with --against"), (train, 2 * MIN_ROWS, "fit more")):
        if len(images.pixels) < least:
            raise ValueError(f"expected at least {least} images to compare with; got {len(images.pixels)}; {remedy}")
    transform, generator = estimator.transform_, spawn(seed, "evaluate")
    rows = lambda pixels: transform.forward(transform.rows(pixels))
    held_out = some_of(held_out, JUDGED, generator)
    train = some_of(train, max(JUDGED, NUMBERS // transform.dim), generator)
    real, learned, count = rows(held_out.pixels), rows(train.pixels), len(held_out.pixels)
    bound = estimator.bound(held_out.pixels, estimator.positions(held_out), 64, seed)
    drawn = np.concatenate(list(estimator.sample_blocks(count, None, 1.0, "adams", STEPS, seed)))
    x, y, z = metrics.checked(samples=rows(drawn), held_out=real, train=learned)
    bits = metrics.mean_log_likelihood(estimator.bits_per_dim(bound).value) if transform.step else None
    eyes = open_eyes(learned, train, transform.shape, spawn(estimator.config_.seed, "eyes"))
    look = lambda rows: eyes.features(rows.float())
    seen = look(x), look(y), look(learned[eyes.unused])
    compared = in_features(*seen, generator=generator) | metrics.copying(x, z, y, generator=generator)
    told_apart = eyes.classes(x.float()), eyes.classes(y.float())
    judged = verdict((x, y, z), seen, told_apart, [f"class {name}" for name in train.classes], generator)
    return ImageEvaluation(count, eyes.words, metrics.mean_log_likelihood(bound.value), bits, compared, judged)


def some_of(images: Images, most: int, generator: Generator) -> Images:
    """Return at most so many of the images, drawn at random and in their order."""
    if len(images.pixels) <= most:
        return images
    rows = torch.randperm(len(images.pixels), generator=generator)[:most].sort().values.numpy()
    return images.at(rows)


def in_features(samples: Rows, held_out: Rows, train: Rows, *, generator: Generator) -> dict[str, Comparison]:
    """Return Frechet distance, precision, recall, density and coverage, and what a classifier tells, beside real rows.

    Raises ValueError for fewer than 10 rows.
    """
    n = min(len(samples), len(held_out), len(train))
    x, y, real = (metrics.draw(rows, n, generator) for rows in (samples, held_out, train))
    frechet = Comparison(*(descriptions.frechet_distance(rows, y) for rows in (x, real)))
    return {"frechet_distance": frechet} | descriptions.describe(samples, held_out, train, generator=generator)


def verdict(
    pixels: tuple[Rows, Rows, Rows],
    seen: tuple[Features, Features, Features],
    labels: tuple[Tensor, Tensor],
    names: list[str],
    generator: Generator,
) -> Verdict:
    """Return the verdict on drawn images, given held-out and training ones: as pixels (n, d), and as features.

    labels: the classes that the features' network finds in drawn and held-out images, names: those of the classes.
    Copies are looked for in the pixels, wrong shares of classes as of modes, another law in the features; see
    `verdict.judge`.
    """
    (x, y, reference), tests = seen, 2 + len(names)

    def another_law(x: Tensor, y: Tensor, level: float) -> list[Finding]:
        p_value, effect = joint_test(x, y, reference, generator)
        told = f"they can be told from real ones by {effect:.0%} of a perfect distinction"
        found = Finding("joint shape", f"the images have another law: {told}", p_value, effect)
        return [found] if p_value <= level else []

    copied = copies(*pixels, "about {:.0%} of the images are copies of training images", generator)
    findings = judge(Seen(x, y, *labels, names), copied, len(pixels[2]), another_law, tests, generator)
    return as_verdict(findings, tests, len(pixels[0]), len(pixels[1]), ["copies"])


@dataclass(frozen=True)
class Eyes:
    """What tells the classes (n,) of rows (n, d) and their features (n, k); `words` say what they are.

    unused: positions of training images from which nothing of this was learned, and which may stand for others.
    """

    classes: Callable[[Tensor], Tensor]
    features: Callable[[Tensor], Features]
    words: str
    unused: Tensor


def open_eyes(z: Rows, train: Images, shape: tuple[int, ...], generator: Generator) -> Eyes:
    """Return what tells the classes and the features of images, learned from four fifths of the training images.

    z are these as rows (n, d), n at least 20. Where they have two classes or more, a small convolutional network learns
    to tell them, and features are what it sees before its last layer; else they are leading principal coordinates.
    """
    order = torch.randperm(len(z), generator=generator)
    unused, used = order.tensor_split([max(MIN_ROWS, len(z) // 5)])
    images = lambda rows: rows.reshape(-1, *shape)
    if train.labels is None or len(train.classes) < 2:
        small = lambda rows: functional.adaptive_avg_pool2d(images(rows), (min(shape[1], SIDE), min(shape[2], SIDE)))
        flat = lambda rows: torch.cat([small(part).flatten(1) for part in rows.split(1000)]).double()
        some = flat(z[used[:ROWS]])
        centre = some.mean(0)
        axes = torch.linalg.svd(some - centre, full_matrices=False)[2][:FEATURES].T
        nothing = lambda rows: torch.zeros(len(rows), dtype=torch.long)
        coordinates = lambda rows: (flat(rows) - centre) @ axes
        return Eyes(nothing, coordinates, f"{axes.shape[1]} principal coordinates", unused)
    labels = torch.from_numpy(train.labels)
    net = classifier(images(z[used]), labels[used], len(train.classes), integer(generator) % 2**31)
    tell = torch.no_grad()(lambda rows: torch.cat([net(part).argmax(1) for part in images(rows).split(1000)]))
    see = torch.no_grad()(lambda rows: torch.cat([net[:-1](part) for part in images(rows).split(1000)]).double())
    right = float((tell(z[unused]) == labels[unused]).double().mean())
    words = f"{FEATURES} features of a network that is right about the classes of {right:.1%} of other real images"
    return Eyes(tell, see, words, unused)


def classifier(x: Tensor, labels: Tensor, classes: int, seed: int) -> nn.Sequential:
    """Return a small convolutional network trained to tell the classes of images x (n, channels, height, width)."""
    height, width = (min(side, SIDE) for side in x.shape[2:])
    smaller = lambda k: (-(-height // k), -(-width // k))
    places, start, draw = math.prod(smaller(4)), spawn(seed, "init"), spawn(seed, "rows")
    net = nn.Sequential(
        nn.AdaptiveAvgPool2d(smaller(1)),
        _layer(start, nn.Conv2d, x.shape[1], 16, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(smaller(2)),
        _layer(start, nn.Conv2d, 16, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(smaller(4)),
        nn.Flatten(),
        _layer(start, nn.Linear, 32 * places, FEATURES),
        nn.ReLU(),
        _layer(start, nn.Linear, FEATURES, classes),
    )
    optimizer = torch.optim.Adam(net.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, TRAINING)
    for _ in range(TRAINING):
        index = torch.randint(len(x), (BATCH,), generator=draw)
        loss = functional.cross_entropy(net(x[index]), labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net


def _layer(generator: Generator, kind: type[nn.Conv2d] | type[nn.Linear], *sizes: int, **options: int) -> nn.Module:
    """Return a layer whose weights are drawn for what ReLU leaves of its input (He et al., 2015)."""
    layer = unfilled(kind, *sizes, **options)
    weight, bias = layer.parameters()
    nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)
    nn.init.zeros_(bias)
    return layer
