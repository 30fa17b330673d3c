"""ImageDensity: learn the score of small images, draw new ones, and say how probable given ones are."""

import math
import numbers
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from scorefield import runs, samplers
from scorefield.config import UNET, Config
from scorefield.data.images import channels_first, channels_last
from scorefield.data.tables import split
from scorefield.fitting import Learner, Problem, steps_within
from scorefield.pixels import PixelTransform
from scorefield.process import named, span_for
from scorefield.samplers import SAMPLERS, STEPS
from scorefield.tensors import spawn, uniform
from scorefield.variational import Bound, lower_bound, lower_bound_of_levels

BLOCK = 64
"""Images are drawn in blocks of this size, each with a generator of its own."""

WIDTH, DEPTH = 48, 2
"""Features of the network at its finest level, and residual blocks a level."""

BATCH, LEARNING_RATE = 128, 2e-3
"""Images a step, and the largest learning rate."""

NOISE_MEDIAN, NOISE_SPREAD = 0.3, 1.6
"""The law of the noise ratios in training."""


class ImageDensity(BaseEstimator):
    """The density of small images by a learned score: samples, of a class where labels are known, and probabilities.

    process and objective name rows of PROCESSES and OBJECTIVES. max_iter is the number of training steps; 'auto' is a
    function of the number of images. time_budget, in seconds of training, replaces it where given. layout: HW, HWC or
    CHW, where the shape of the images alone does not tell. random_state: an integer, a RandomState or None.

    Attributes after `fit`: model_ (the ScoreModel, on rows), transform_ (the PixelTransform), config_ (the settings),
    classes_ (the labels, sorted; empty without), frequencies_ (their shares), losses_ (training loss relative to the
    trivial model, a number a report), n_iter_ (the steps planned), notes_ (what `load` has to say, sentences).
    """

    def __init__(
        self,
        process: Any = "vp",
        objective: Any = "denoising",
        max_iter: Any = "auto",
        time_budget: Any = None,
        layout: Any = None,
        random_state: Any = None,
    ) -> None:
        self.process = process
        self.objective = objective
        self.max_iter = max_iter
        self.time_budget = time_budget
        self.layout = layout
        self.random_state = random_state

    def fit(self, images: Any, labels: Any = None) -> "ImageDensity":
        """Learn the score of images (n, H, W), (n, H, W, C) or (n, C, H, W); labels (n,) are the classes, if known.

        From 10 images on a tenth is held out and chooses when to stop. Raises ValueError for images that are missing
        values, of an ambiguous shape, or all alike, and for labels of another number.
        """
        pixels, layout = channels_first(np.asarray(images), "images", self.layout)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        codes = None
        self.classes_: tuple = ()
        if labels is not None:
            if np.shape(labels) != (len(pixels),):
                raise ValueError(f"expected a label for each of {len(pixels)} images; got the shape {np.shape(labels)}")
            names, codes = np.unique(np.asarray(labels), return_inverse=True)
            self.classes_ = tuple(names.tolist())
        self.transform_ = PixelTransform.fit(pixels, layout)
        problem = problem_of(pixels, codes, self.transform_, seed)
        self.frequencies_ = frequencies(codes, len(self.classes_))
        self.config_ = self._config(problem, seed)
        learner = Learner(self.config_, problem)
        self.losses_ = [report.train for report in learner.run() if report is not None]
        self.model_, self.score_ratio_, self.n_iter_ = learner.result, learner.reading_ratio, self.config_.steps
        self.notes_: list[str] = []
        return self

    def sample(
        self,
        n_samples: int = 1,
        label: Any = None,
        guidance: float = 1.0,
        random_state: int | np.random.RandomState | None = None,
        sampler: str = "adams",
        steps: int = STEPS,
    ) -> np.ndarray:
        """Draw n_samples images in the shape, units and type of the data, all of one class where a label is given.

        Without a label classes come as often as in the data. guidance: 1 is the class as it was learned, larger is more
        of what sets it apart (see `nets.Labelled`). The first images of a longer sample from the same integer are the
        same. Raises ValueError for n_samples < 1 and for a label or guidance that the run cannot follow.
        """
        check_is_fitted(self)
        if not isinstance(n_samples, numbers.Integral) or n_samples < 1:
            raise ValueError(f"n_samples must be a whole number of at least 1; got {n_samples!r}")
        state = self.random_state if random_state is None else random_state
        seed = int(check_random_state(state).randint(2**31 - 1))
        blocks = self.sample_blocks(int(n_samples), label, guidance, sampler, steps, seed)
        return channels_last(np.concatenate([images for images, _ in blocks]), self.transform_.layout)

    def sample_blocks(
        self, n: int, label: Any, guidance: float, sampler: str, steps: int, seed: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Yield n images (n, channels, height, width) in blocks, with the positions of their classes where there are.

        Raises ValueError as `sample`.
        """
        told = self._position(label)
        if not 0 <= guidance < math.inf:
            raise ValueError(f"guidance must be a number from 0 on, 1 being the class as learned; got {guidance!r}")
        if guidance != 1 and not self.classes_:
            raise ValueError("guidance needs classes; these images were learned without labels")
        return self._blocks(n, told, guidance, sampler, steps, spawn(seed, "sample").initial_seed())

    def _blocks(
        self, n: int, told: int | None, guidance: float, sampler: str, steps: int, seed: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        model, prior = self.model_, self.model_.prior()
        path = samplers.grid_for(sampler, model, steps)
        shares = torch.tensor(self.frequencies_, dtype=torch.float64).cumsum(0)
        for k in range(-(-n // BLOCK)):
            rows, own = min(BLOCK, n - k * BLOCK), spawn(seed, k)
            labels, given = None, model
            if self.classes_:
                labels = torch.searchsorted(shares, uniform(BLOCK, spawn(seed, k, "label")) * shares[-1], right=True)
                labels = labels if told is None else torch.full_like(labels, told)
                given = model.given(labels.to(model.mean.device), guidance)
            z = samplers.draw_block(given, prior.sample(BLOCK, own), SAMPLERS[sampler].make(own), path)
            yield self.transform_.inverse(z[:rows]), None if labels is None else labels[:rows].numpy()

    def log_prob(self, images: Any, labels: Any = None, draws: int = 64) -> Bound:
        """Return a lower bound of log P(image) in nats, and its standard error, each (n,).

        P is the probability of the image's levels where pixels have levels, else a density per unit of the pixels. With
        labels it is log P(image, label), which bounds log P(image) too, often better than no label. See
        `variational.lower_bound_of_levels`; bits per dimension are `bits_per_dim` of it.
        Raises ValueError for images of another size, for values that the run has not learned, and unknown labels.
        """
        check_is_fitted(self)
        pixels, _ = channels_first(np.asarray(images), "images", self.transform_.layout)
        told = None if labels is None else np.array([self._position(label) for label in labels], dtype=np.int64)
        return self.bound(pixels, told, draws, 0)

    def bound(self, pixels: np.ndarray, told: np.ndarray | None, draws: int, seed: int) -> Bound:
        """Return `log_prob` of images (n, channels, height, width) whose classes are at the positions told."""
        transform, device = self.transform_, self.model_.mean.device
        z = transform.forward(transform.rows(pixels)).to(device)
        model, known, generator = self.model_, torch.zeros(len(z)), spawn(seed, "bound")
        if told is not None and self.classes_:
            model = self.model_.given(torch.from_numpy(told).to(device))
            known = torch.tensor(self.frequencies_).log()[torch.from_numpy(told)]
        if transform.step:
            found = lower_bound_of_levels(model, z, transform.step / transform.scale, draws=draws, generator=generator)
        else:
            found = lower_bound(model, z, draws=draws, generator=generator)
            known = known - transform.dim * math.log(transform.scale)
        return Bound(found.value.cpu() + known.to(found.value.cpu()), found.stderr.cpu())

    def bits_per_dim(self, bound: Bound) -> Bound:
        """Return a bound of log P in bits a pixel and channel, -log2 P / d: an upper bound then."""
        unit = self.transform_.dim * math.log(2)
        return Bound(-bound.value / unit, bound.stderr / unit)

    def save(self, folder: str | Path) -> None:
        """Write a RUN folder, the same that the command line makes. Raises ValueError where the folder is not empty."""
        check_is_fitted(self)
        found = {"source": "python", "frequencies": list(self.frequencies_)}
        names = [str(name) for name in self.classes_]
        run = runs.create(Path(folder), {"estimator": True}, found, self.config_, self.transform_, classes=names)
        runs.save_final(run, self.model_, self.score_ratio_)

    def _position(self, label: Any) -> int | None:
        """Return where a label stands among the classes. Raises ValueError where it does not."""
        if label is None:
            return None
        names = [str(name) for name in self.classes_]
        if str(label) not in names:
            known = f"one of {', '.join(names)}" if names else "none, since these images were learned without labels"
            raise ValueError(f"expected a class that the run has learned, {known}; got {label!r}")
        return names.index(str(label))

    def _config(self, problem: Problem, seed: int) -> Config:
        name, span = (self.process, None) if isinstance(self.process, str) else named(self.process)
        config = settings(problem, name, self.objective, seed, span, len(self.classes_))
        if self.time_budget is not None:
            if not self.time_budget > 0:
                raise ValueError(f"time_budget must be a positive number of seconds; got {self.time_budget!r}")
            return with_steps(config, steps_within(config, problem, self.time_budget))
        steps = automatic_steps(len(problem.train)) if self.max_iter == "auto" else self.max_iter
        if not isinstance(steps, numbers.Integral) or steps < 1:
            raise ValueError(f"max_iter must be 'auto' or a whole number of at least 1; got {self.max_iter!r}")
        return with_steps(config, int(steps))


def automatic_steps(n: int) -> int:
    """Return how many steps to train on n images: 20 sqrt(n), from 500 to 5,000."""
    return int(min(5000, max(500, 20 * n**0.5)))


def settings(
    problem: Problem, process: str, objective: str, seed: int, span: Sequence[float] | None, classes: int
) -> Config:
    """Return the settings of a run of images, for one step. Raises ValueError for names that do not exist."""
    if problem.pixels is None:
        raise ValueError("expected a problem of images, with pixels; got one of a table")
    width = float(np.ptp([float(problem.pixels.levels[0]), float(problem.pixels.levels[-1])]))
    farthest = width * problem.pixels.dim**0.5
    return Config(
        steps=1,
        seed=seed,
        process=process,
        span=tuple(span_for(process, farthest)[0] if span is None else span),
        objective=objective,
        network=UNET,
        batch_size=BATCH,
        learning_rate=LEARNING_RATE,
        width=WIDTH,
        depth=DEPTH,
        noise_median=NOISE_MEDIAN,
        noise_spread=NOISE_SPREAD,
        shape=problem.pixels.shape,
        classes=classes,
    )


def problem_of(
    pixels: np.ndarray, labels: np.ndarray | None, transform: PixelTransform, seed: int, device: str = "cpu"
) -> Problem:
    """Return images as rows to learn from and to validate on, a tenth, with their labels."""
    rows = transform.rows(pixels)
    train, validation, others = split(len(rows), seed)
    train = np.concatenate([train, others])
    told = None
    if labels is not None:
        codes = torch.from_numpy(np.asarray(labels, dtype=np.int64))
        told = codes[train], codes[validation]
    return Problem(rows[train], rows[validation], device=device, pixels=transform, labels=told)


def frequencies(labels: np.ndarray | None, classes: int) -> tuple[float, ...]:
    """Return the share of each class."""
    if labels is None:
        return ()
    return tuple((np.bincount(labels, minlength=classes) / len(labels)).tolist())
