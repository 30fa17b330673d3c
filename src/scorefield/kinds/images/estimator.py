"""ImageDensity: learn the score of small images, draw new ones, and say how probable given ones are."""

import math
import numbers
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from scorefield.data import Images, arranged, as_images
from scorefield.diffusion.process import named, span_for
from scorefield.inference import samplers
from scorefield.inference.bound import Bound, lower_bound, lower_bound_of_levels
from scorefield.inference.samplers import SAMPLERS, STEPS
from scorefield.kinds.images.problem import ImageProblem
from scorefield.kinds.images.units import PixelTransform
from scorefield.numerics.tensors import spawn, uniform
from scorefield.runs import folder as runs
from scorefield.runs.checkpoint import CheckpointError
from scorefield.training.budget import steps_within
from scorefield.training.config import UNET, Config
from scorefield.training.learner import Learner

BLOCK = 64
"""Images are drawn in blocks of this size, each with a generator of its own."""

WIDTH, DEPTH = 48, 2
"""Features of the network at its finest level, and residual blocks a level."""

BATCH, LEARNING_RATE = 64, 2e-3
"""Images a step, and the largest learning rate."""

NOISE_MEDIAN, NOISE_SPREAD = 1.0, 1.3
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
        given = as_images(np.asarray(images), labels, self.layout)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.classes_ = given.classes
        self.transform_ = PixelTransform.fit(given.pixels, given.layout)
        problem = ImageProblem.of(given, self.transform_, seed, test=False)
        self.frequencies_ = frequencies(given)
        self.config_ = self._config(problem, seed)
        learner = Learner(self.config_, problem.prepare(self.config_))
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
        of what sets it apart (see `networks.Labelled`). The first images of a longer sample from the same integer are
        the same. Raises ValueError for n_samples < 1 and for a label or guidance that the run cannot follow.
        """
        check_is_fitted(self)
        if not isinstance(n_samples, numbers.Integral) or n_samples < 1:
            raise ValueError(f"n_samples must be a whole number of at least 1; got {n_samples!r}")
        state = self.random_state if random_state is None else random_state
        seed = int(check_random_state(state).randint(2**31 - 1))
        blocks = self.sample_blocks(int(n_samples), label, guidance, sampler, steps, seed)
        return arranged(np.concatenate(list(blocks)), self.transform_.layout)

    def labels(self, n: int, label: Any, seed: int) -> np.ndarray | None:
        """Return the positions of the classes of the n images that `sample_blocks` draws, None without classes."""
        if not self.classes_:
            return None
        told = self.position(label)
        return torch.cat([self._labels_of(k, told, seed) for k in range(-(-n // BLOCK))])[:n].numpy()

    def _labels_of(self, k: int, told: int | None, seed: int) -> Tensor:
        """Return the classes of one block: one for all, or drawn as often as in the data."""
        if told is not None:
            return torch.full((BLOCK,), told)
        shares = torch.tensor(self.frequencies_, dtype=torch.float64).cumsum(0)
        return torch.searchsorted(shares / shares[-1], uniform(BLOCK, spawn(seed, "labels", k)), right=True)

    def sample_blocks(
        self, n: int, label: Any, guidance: float, sampler: str, steps: int, seed: int
    ) -> Iterator[np.ndarray]:
        """Yield n images (n, channels, height, width) in blocks. Raises ValueError as `sample`."""
        told = self.position(label)
        if not 0 <= guidance < math.inf:
            raise ValueError(f"guidance must be a number from 0 on, 1 being the class as learned; got {guidance!r}")
        if guidance != 1 and not self.classes_:
            raise ValueError("guidance needs classes; these images were learned without labels")
        return self._blocks(n, told, guidance, sampler, samplers.grid_for(sampler, self.model_, steps), seed)

    def _blocks(
        self, n: int, told: int | None, guidance: float, sampler: str, times: Tensor, seed: int
    ) -> Iterator[np.ndarray]:
        prior = self.model_.prior()
        for k in range(-(-n // BLOCK)):
            own, given = spawn(seed, "sample", k), self.model_
            if self.classes_:
                given = given.given(self._labels_of(k, told, seed).to(given.mean.device), guidance)
            z = samplers.draw_block(given, prior.sample(BLOCK, own), SAMPLERS[sampler].make(own), times)
            yield self.transform_.inverse(z[: n - k * BLOCK])

    @torch.no_grad()
    def path(self, n: int, frames: int, seed: int) -> list[tuple[float, np.ndarray]]:
        """Return n images on their way from noise, at so many noise ratios from large to small: ratios and images.

        What is shown is the clean image that the model expects at each of them. n is at most BLOCK.
        """
        model = self.model_
        if self.classes_:
            model = model.given(self._labels_of(0, None, seed)[:n].to(model.mean.device))
        times = samplers.grid_for("adams", self.model_, STEPS)
        start, own = model.prior().sample(n, spawn(seed, "path")), spawn(seed, "path", "steps")
        states = [start, *SAMPLERS["adams"].make(own)(model, start, times)]
        found = []
        for k in np.linspace(0, len(times) - 1, frames).round().astype(int).tolist():
            clean, _ = model.decompose(states[k], times[k])
            found.append((float(model.process.ratio(times[k])), self.transform_.inverse(clean)))
        return found

    def log_prob(self, images: Any, labels: Any = None, draws: int = 64) -> Bound:
        """Return a lower bound of log P(image) in nats, and its standard error, each (n,).

        P is the probability of the image's levels where pixels have levels, else a density per unit of the pixels. With
        labels it is log P(image, label), which bounds log P(image) too, often better than no label. See
        `bound.lower_bound_of_levels`; bits per dimension are `bits_per_dim` of it.
        Raises ValueError for images of another size, for values that the run has not learned, and unknown labels.
        """
        check_is_fitted(self)
        given = as_images(np.asarray(images), labels, self.transform_.layout)
        return self.bound(given.pixels, self.positions(given), draws, 0)

    def positions(self, given: Images) -> np.ndarray | None:
        """Return the classes of images as positions among those of the run, None where either has none."""
        if given.labels is None or not self.classes_:
            return None
        own = np.array([self.position(name) for name in given.classes], dtype=np.int64)
        return own[given.labels]

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
        found: dict[str, object] = {"source": "python", "frequencies": list(self.frequencies_)}
        request: dict[str, object] = {"estimator": True}
        run = runs.create(Path(folder), request, found, self.config_, self.transform_, classes=self.classes_)
        runs.save_final(run, self.model_, self.score_ratio_)

    def position(self, label: Any) -> int | None:
        """Return where a label stands among the classes. Raises ValueError where it does not."""
        if label is None:
            return None
        names = self.classes_
        if str(label) not in names:
            known = f"one of {', '.join(names)}" if names else "none, since these images were learned without labels"
            raise ValueError(f"expected a class that the run has learned, {known}; got {label!r}")
        return names.index(str(label))

    def _config(self, problem: ImageProblem, seed: int) -> Config:
        name, span = (self.process, None) if isinstance(self.process, str) else named(self.process)
        config = settings(problem, name, self.objective, seed, span, len(self.classes_))
        if self.time_budget is not None:
            if not self.time_budget > 0:
                raise ValueError(f"time_budget must be a positive number of seconds; got {self.time_budget!r}")
            return replace(config, steps=steps_within(config, problem, self.time_budget))
        steps = automatic_steps(len(problem.train)) if self.max_iter == "auto" else self.max_iter
        if not isinstance(steps, numbers.Integral) or steps < 1:
            raise ValueError(f"max_iter must be 'auto' or a whole number of at least 1; got {self.max_iter!r}")
        return replace(config, steps=int(steps))


def automatic_steps(n: int) -> int:
    """Return how many steps to train on n images: 20 sqrt(n), from 500 to 5,000."""
    return int(min(5000, max(500, 20 * n**0.5)))


def settings(
    problem: ImageProblem, process: str, objective: str, seed: int, span: Sequence[float] | None, classes: int
) -> Config:
    """Return the settings of a run of images, for one step. Raises ValueError for names that do not exist."""
    if objective in ("explicit", "parzen"):
        raise ValueError(
            f"the objective {objective!r} learns a density that is known, and that of images is not; try another"
        )
    farthest = float(problem.pixels.levels[-1] - problem.pixels.levels[0]) * problem.pixels.dim**0.5
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


def frequencies(given: Images) -> tuple[float, ...]:
    """Return the share of each class."""
    if given.labels is None:
        return ()
    return tuple((np.bincount(given.labels, minlength=len(given.classes)) / len(given.labels)).tolist())


def load(folder: str | Path) -> ImageDensity:
    """Return the fitted estimator of a RUN folder of images. Raises ValueError where it is none or is damaged."""
    found = runs.load(folder)
    run, config = found.run, found.run.config
    estimator = ImageDensity(config.process, config.objective, max_iter=config.steps, random_state=config.seed)
    estimator.transform_, estimator.config_, estimator.model_ = run.pixels, config, found.model
    estimator.classes_, estimator.notes_ = run.classes, found.notes
    estimator.frequencies_ = tuple(map(float, run.data.get("frequencies", ())))  # type: ignore[call-overload]
    if len(run.classes) != len(estimator.frequencies_) or len(run.classes) != config.classes:
        raise CheckpointError(f"{run.folder / 'config.toml'} is damaged: it names {len(run.classes)} classes")
    estimator.score_ratio_, estimator.n_iter_ = found.score_ratio, config.steps
    estimator.losses_ = [report.train for report in found.reports]
    return estimator
