"""ImageDensity: learn the score of small images, draw new ones, and say how probable given ones are."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from scorefield.data import Images, arranged, as_images
from scorefield.inference import samplers
from scorefield.inference.bound import Bound, lower_bound, lower_bound_of_levels
from scorefield.inference.samplers import SAMPLERS, STEPS
from scorefield.kinds.estimator import ScoreEstimator, seed_from
from scorefield.kinds.images.problem import ImageProblem
from scorefield.kinds.images.settings import automatic_steps, choose_settings
from scorefield.kinds.images.source import frequencies
from scorefield.kinds.images.units import PixelTransform
from scorefield.numerics.tensors import spawn, uniform
from scorefield.runs.checkpoint import CheckpointError
from scorefield.runs.folder import Run
from scorefield.runs.loading import Fitted

BLOCK = 64
"""Images are drawn in blocks of this size, each with a generator of its own."""


class ImageDensity(ScoreEstimator):
    """The density of small images by a learned score: samples, of a class where labels are known, and probabilities.

    Parameters:
        process (str or Process): a name of PROCESSES, which gets its range from the pixels, or a process. Default "vp".
        objective (str): a name of OBJECTIVES. Default "denoising".
        max_iter (int or "auto"): training steps; "auto" is a function of the number of images. Default "auto".
        time_budget (float or None): seconds of training, in place of max_iter. Default None.
        layout (str or None): "HW", "HWC" or "CHW", where the shape of the images alone does not tell. Default None.
        random_state (int, RandomState or None): the seed of everything random. Default None.

    Attributes:
        model_: the ScoreModel, on rows of pixels.
        transform_: the units of the pixels.
        config_: the settings of the training.
        classes_: the labels, sorted; empty without.
        frequencies_: their shares.
        losses_: training losses relative to the trivial model, one a report.
        n_iter_: the steps planned.
        notes_: what `load` has to say of the folder, sentences.

    Examples:
        >>> import numpy as np
        >>> import scorefield as sf
        >>> images = np.random.default_rng(0).integers(0, 4, (40, 6, 6)).astype(np.uint8)
        >>> estimator = sf.ImageDensity(max_iter=2, random_state=0).fit(images)
        >>> drawn = estimator.sample(2)
        >>> drawn.shape, drawn.dtype
        ((2, 6, 6), dtype('uint8'))
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
        seed = seed_from(self.random_state)
        self.classes_ = given.classes
        self.transform_ = PixelTransform.fit(given.pixels, given.layout)
        problem = ImageProblem.of(given, self.transform_, seed, test=False)
        self.frequencies_ = frequencies(given)
        chosen = choose_settings(problem, self.process, self.objective, seed)
        self._learn(chosen.config, problem, lambda config: automatic_steps(len(problem.train)))
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
        seed = self._drawing_seed(n_samples, random_state)
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
        self._save(folder, {}, {"frequencies": list(self.frequencies_)}, self.transform_.content(self.classes_))

    @classmethod
    def of_run(cls, run: Run, transform: PixelTransform, found: Fitted) -> "ImageDensity":
        """Return the estimator that a RUN of images holds. Raises CheckpointError where its classes do not agree."""
        config, classes = found.config, tuple(run.units.get("classes", ()))
        estimator = cls(config.process, config.objective, max_iter=config.steps, random_state=config.seed)
        estimator._restore(found)
        estimator.transform_, estimator.classes_ = transform, classes
        estimator.frequencies_ = tuple(map(float, run.data.get("frequencies", ())))
        if len(classes) != len(estimator.frequencies_) or len(classes) != config.classes:
            raise CheckpointError(f"{run.folder / 'config.toml'} is damaged: it names {len(classes)} classes")
        return estimator

    def position(self, label: Any) -> int | None:
        """Return where a label stands among the classes. Raises ValueError where it does not."""
        if label is None:
            return None
        names = self.classes_
        if str(label) not in names:
            known = f"one of {', '.join(names)}" if names else "none, since these images were learned without labels"
            raise ValueError(f"expected a class that the run has learned, {known}; got {label!r}")
        return names.index(str(label))
