"""Small images as a kind of data."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from scorefield import data
from scorefield.data import Images
from scorefield.inference.samplers import STEPS
from scorefield.kinds.images import source
from scorefield.kinds.images.estimator import ImageDensity
from scorefield.kinds.images.evaluation import ImageEvaluation, evaluate
from scorefield.kinds.images.problem import ImageProblem
from scorefield.kinds.images.settings import choose_settings
from scorefield.kinds.images.units import PixelTransform
from scorefield.kinds.kind import Drawing, Kind, Opened, Request, Settings
from scorefield.runs import loading
from scorefield.runs.folder import Run
from scorefield.training.threads import cores

SHOWN, PATH = 64, 8
"""Images in a grid of `plot`, and images whose way from noise it shows."""

BOUND_BLOCK, BOUND_DRAWS = 256, 64
"""Images whose probability is asked for at once, and random draws for each."""


class ImageKind(Kind):
    """Small pictures, of one to four channels: folders, arrays, IDX files, and two sets of digits by name."""

    name, noun, drawn, key = "images", "images", "images", "pixels"
    options = frozenset({"labels", "layout", "resize", "crop", "skip_bad"})

    def owns(self, data_named: str) -> bool:
        return self.built_in(data_named) or data.is_images(data_named)

    def built_in(self, data_named: str) -> bool:
        return data_named in source.BUILT_IN

    def check(self, request: Request) -> None:
        if request["network"] != "mlp" or request["level"] or request["predicts"] != "v":
            raise ValueError("images have a network of their own; leave out --network, --predicts and --level")

    def read(self, request: Request) -> Images:
        return source.read(request)

    def learn_units(self, images: Images, request: Request) -> PixelTransform:
        with data.about(request["data"]):
            return PixelTransform.fit(images.pixels, images.layout)

    def problem(self, images: Images, units: PixelTransform, request: Request, device: str) -> ImageProblem:
        return ImageProblem.of(images, units, request["seed"], device)

    def settings(self, problem: ImageProblem, request: Request) -> Settings:
        return choose_settings(problem, request["process"], request["objective"], request["seed"])

    def words(self, images: Images, units: PixelTransform, settings: Settings, request: Request) -> list[str]:
        config, (train, validation, _) = settings.config, data.split(len(images.pixels), request["seed"])
        said = [
            f"data      {request['data']}: {len(images.pixels):,} images of {units.describe()}",
            f"images    {len(train):,} to train, {len(validation):,} to validate",
        ]
        if images.classes:
            names = ", ".join(images.classes[:20])
            said.append(f"classes   {len(images.classes)}: {names}; draw one with sample --class")
        network = f"a U-Net of {config.width} features"
        return [*said, f"model     {config.process} process, {network}, learned by {config.objective}"]

    def facts(self, images: Images) -> dict[str, object]:
        shares = list(source.frequencies(images))
        return {"digest": images.digest, "images": len(images.pixels), "frequencies": shares}

    def content(self, images: Images, units: PixelTransform) -> dict[str, object]:
        return units.content(images.classes)

    def units_of(self, run: Run) -> PixelTransform:
        return PixelTransform.saved(run.units)

    def estimator(self, run: Run, units: PixelTransform) -> ImageDensity:
        return ImageDensity.of_run(run, units, loading.load(run, units.dim))

    def check_drawing(self, run: Run, asked: Drawing, out: Path, n: int, force: bool) -> None:
        data.check_image_output(out, force, n)
        if asked.tol is not None:
            raise ValueError("--tol is for tables; for images give --sampler and --steps")

    def draw(self, opened: Opened, asked: Drawing, out: Path, n: int, seed: int, force: bool) -> str:
        estimator: ImageDensity = opened.estimator
        steps = STEPS if asked.steps is None else asked.steps
        choices = asked.label, asked.guidance, asked.sampler or "adams", steps
        data.write_images(
            out,
            estimator.sample_blocks(n, *choices, seed),
            estimator.transform_.layout,
            labels=estimator.labels(n, asked.label, seed),
            classes=estimator.classes_,
            limits=_limits(estimator.transform_),
            force=force,
        )
        return ""

    def log_probs(self, opened: Opened, points: Path, bound: bool) -> Iterator[pd.DataFrame]:
        if bound:
            raise ValueError("the log-probability of images is a bound already; leave out --bound")
        estimator: ImageDensity = opened.estimator
        given = source.others(points, estimator.transform_)
        told = estimator.positions(given)
        estimator.transform_.rows(given.pixels)
        return _bounds(estimator, given.pixels, told)

    def evaluate(self, opened: Opened, against: Path | None, seed: int) -> tuple[ImageEvaluation, list[str]]:
        train, held_out, notes = source.known(opened.run, opened.estimator.transform_, against)
        return evaluate(opened.estimator, train, held_out, seed), notes

    def plot(self, opened: Opened, folder: Path) -> list[str]:
        from scorefield.reports import images as pictures  # matplotlib, for which other commands need not wait
        from scorefield.reports import save

        estimator: ImageDensity = opened.estimator
        transform = estimator.transform_
        train, _, _ = source.known(opened.run, transform, None)
        drawn = np.concatenate(list(estimator.sample_blocks(SHOWN, None, 1.0, "adams", STEPS, 0)))
        limits = transform.low, transform.high
        save(pictures.beside(train.pixels[:SHOWN], drawn, limits), folder / "overview.png")
        save(pictures.path(estimator.path(PATH, 10, 0), limits), folder / "path.png")
        nearest = _nearest(transform, drawn[: 2 * PATH], train.pixels)
        save(pictures.nearest(drawn[: 2 * PATH], nearest, limits), folder / "nearest.png")
        return []

    def threads(self) -> int:
        return cores()


def _bounds(estimator: ImageDensity, pixels: np.ndarray, told: np.ndarray | None) -> Iterator[pd.DataFrame]:
    """Yield a lower bound of log P of images, its error, and bits per dimension where pixels have levels."""
    for start in range(0, len(pixels), BOUND_BLOCK):
        part = slice(start, start + BOUND_BLOCK)
        bound = estimator.bound(pixels[part], None if told is None else told[part], BOUND_DRAWS, start)
        columns = {"logprob": bound.value, "stderr": bound.stderr}
        if estimator.transform_.step:
            columns["bits_per_dim"] = estimator.bits_per_dim(bound).value
        yield pd.DataFrame({name: values.double().numpy() for name, values in columns.items()})


def _limits(transform: PixelTransform) -> tuple[float, float] | None:
    """Return what pictures show as black and white; None for bytes, and for 16 bits in grey, that use their range.

    Those are written as they are. Others, and the 17 levels of digits among them, would be dark or have no picture.
    """
    whole = {"uint8": 2**8, "uint16": 2**16 if transform.shape[0] == 1 else math.inf}
    used = transform.high >= whole.get(transform.dtype, math.inf) / 2
    return None if used else (transform.low, transform.high)


def _nearest(transform: PixelTransform, drawn: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Return for each image the training image at the smallest Euclidean distance."""
    z = transform.forward(transform.rows(drawn))
    distances = [torch.cdist(z, transform.forward(part)) for part in transform.rows(train).split(4096)]
    return train[torch.cat(distances, 1).argmin(1).numpy()]
