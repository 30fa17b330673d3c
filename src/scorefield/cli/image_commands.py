"""What the commands do for images: they are told from tables by what is given, and by what is in the RUN."""

import dataclasses
import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from scorefield import data
from scorefield.cli import console, requests
from scorefield.cli import entry as cli
from scorefield.data import Images
from scorefield.inference.samplers import STEPS
from scorefield.kinds.images import estimator as images
from scorefield.kinds.images import evaluation
from scorefield.kinds.images.estimator import ImageDensity
from scorefield.kinds.images.problem import ImageProblem
from scorefield.kinds.images.units import PixelTransform
from scorefield.reports import images as image_plots
from scorefield.reports import tables as plots
from scorefield.runs import folder as runs

SHOWN, PATH = 64, 8
"""Images in a grid of `plot`, and images whose way from noise it shows."""

BOUND_BLOCK = 256
"""Images whose probability is asked for at once."""


def concerns(options: cli.Common) -> bool:
    """Return whether a command is about images: its DATA, for `fit`, or what its RUN has learned.

    Raises ValueError where the RUN is none.
    """
    if isinstance(options, cli.Fit):
        return options.data in requests.BUILT_IN_IMAGES or data.is_images(options.data)
    if isinstance(options, cli.Sample | cli.Logprob | cli.Evaluate | cli.Plot):
        return bool(runs.read(options.run).config.shape)
    return False


def fit(options: cli.Fit) -> None:
    """Learn the score of images and keep it in a RUN folder."""
    say, request = console.speaker(options), requests.request_of(options)
    for name in ("columns", "drop", "positive", "bounds", "rows"):
        if name in request:
            raise ValueError(f"--{name} is for tables, and {options.data} holds images; leave it out")
    if options.network != "mlp" or options.level or options.predicts != "v":
        raise ValueError("images have a network of their own; leave out --network, --predicts and --level")
    found = _read(request)
    say(*(f"note      {note}" for note in found.notes))
    run = console.existing(options, request, found.digest) or _new_run(options, request, found)
    problem = ImageProblem.of(found, run.pixels, run.config.seed, options.device)
    console.train(options, run, problem)


def sample(options: cli.Sample) -> None:
    """Draw new images: a grid, single pictures or an array."""
    data.check_image_output(options.out, options.force, options.n)
    if options.n < 1 or options.seed < 0:
        raise ValueError(f"-n must be at least 1 and --seed at least 0; got -n {options.n} --seed {options.seed}")
    if options.tol is not None:
        raise ValueError("--tol is for tables; for images give --sampler and --steps")
    estimator = _open(options.run, options)
    steps = STEPS if options.steps is None else options.steps
    choices = options.label, options.guidance, options.sampler or "adams", steps
    data.write_images(
        options.out,
        estimator.sample_blocks(options.n, *choices, options.seed),
        estimator.transform_.layout,
        labels=estimator.labels(options.n, options.label, options.seed),
        classes=estimator.classes_,
        limits=_limits(estimator.transform_),
        force=options.force,
    )
    console.speaker(options)(f"wrote {options.n:,} images to {options.out}")


def logprob(options: cli.Logprob) -> None:
    """Write how probable images are: a bound of log P in nats, its error, and bits per dimension."""
    if options.bound:
        raise ValueError("the log-probability of images is a bound already; leave out --bound")
    data.check_output(options.out, options.force)
    estimator = _open(options.run, options)
    given = _others(options.points, estimator.transform_)
    told = estimator.positions(given)
    estimator.transform_.rows(given.pixels)

    def blocks() -> Iterator[pd.DataFrame]:
        for start in range(0, len(given.pixels), BOUND_BLOCK):
            part = slice(start, start + BOUND_BLOCK)
            bound = estimator.bound(given.pixels[part], None if told is None else told[part], 64, start)
            columns = {"logprob": bound.value, "stderr": bound.stderr}
            if estimator.transform_.step:
                columns["bits_per_dim"] = estimator.bits_per_dim(bound).value
            yield pd.DataFrame({name: values.double().numpy() for name, values in columns.items()})

    rows = data.write_blocks(options.out, blocks(), options.force)
    console.speaker(options)(f"wrote {rows:,} rows to {options.out}")


def evaluate(options: cli.Evaluate) -> None:
    """Print how a RUN compares with held-out images: bits per dimension, distances, copies, and the verdict."""
    estimator, run = _open(options.run, options), runs.read(options.run)
    train, held_out, notes = _known(run, options.against)
    console.speaker(options)(*(f"note: {note}" for note in notes))
    found = evaluation.evaluate(estimator, train, held_out, options.seed)
    print(json.dumps({"run": str(options.run)} | found.as_json()) if options.json else "\n".join(found.lines()))


def plot(options: cli.Plot) -> None:
    """Draw a RUN into RUN/figures: real beside generated, the way from noise, nearest training images, the loss."""
    estimator, run = _open(options.run, options), runs.read(options.run)
    folder = options.run / "figures"
    folder.mkdir(exist_ok=True)
    train, _, _ = _known(run, None)
    drawn = np.concatenate(list(estimator.sample_blocks(SHOWN, None, 1.0, "adams", STEPS, 0)))
    limits = run.pixels.low, run.pixels.high
    plots.save(image_plots.beside(train.pixels[:SHOWN], drawn, limits), folder / "overview.png")
    plots.save(image_plots.path(estimator.path(PATH, 10, 0), limits), folder / "path.png")
    nearest = _nearest(run.pixels, drawn[: 2 * PATH], train.pixels)
    plots.save(image_plots.nearest(drawn[: 2 * PATH], nearest, limits), folder / "nearest.png")
    console.draw_losses(run, folder)
    console.speaker(options)(f"drew {folder}")


def _limits(transform: PixelTransform) -> tuple[float, float] | None:
    """Return what pictures show as black and white; None for bytes, and for 16 bits in grey, that use their range.

    Those are written as they are. Others, and the 17 levels of digits among them, would be dark or have no picture.
    """
    whole = {"uint8": 2**8, "uint16": 2**16 if transform.shape[0] == 1 else math.inf}
    used = transform.high >= whole.get(transform.dtype, math.inf) / 2
    return None if used else (transform.low, transform.high)


def _new_run(options: cli.Fit, request: dict, found: Images) -> runs.Run:
    """Choose the settings of a new run, say what they are and why, and write its folder."""
    say = console.speaker(options)
    with data.about(request["data"]):
        transform = PixelTransform.fit(found.pixels, found.layout)
    problem = ImageProblem.of(found, transform, options.seed, options.device)
    config = images.settings(problem, options.process, options.objective, options.seed, None, len(found.classes))
    runs.prepare_folder(options.out)
    say(f"data      {request['data']}: {len(found.pixels):,} images of {transform.describe()}")
    say(f"images    {len(problem.train):,} to train, {len(problem.validation):,} to validate")
    if found.classes:
        say(f"classes   {len(found.classes)}: {', '.join(found.classes[:20])}; draw one with sample --class")
    steps, reason = console.steps_for(options, request, config, problem)
    config = dataclasses.replace(config, steps=steps)
    say(f"model     {config.process} process, a U-Net of {config.width} features, learned by {config.objective}")
    say(f"training  {steps:,} steps of {config.batch_size} images: {reason}; repeat it exactly with --steps")
    shares = list(images.frequencies(found))
    known = {"digest": found.digest, "images": len(found.pixels), "frequencies": shares}
    return runs.create(options.out, request, known, config, transform, classes=found.classes)


def _read(request: dict) -> Images:
    """Return the images that a request names."""
    if request["data"] == "mnist":
        return data.read_mnist()
    if request["data"] == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        return data.as_images(digits.images.astype(np.uint8), digits.target)
    return data.read_images(
        request["data"],
        labels=request.get("labels"),
        layout=request.get("layout"),
        resize=_size("resize", request.get("resize")),
        crop=_size("crop", request.get("crop")),
        skip_bad=request.get("skip_bad", False),
        seed=request["seed"],
    )


def _size(name: str, text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not match:
        raise ValueError(f"--{name} must be a height and a width such as 28x28; got {text!r}")
    return int(match[1]), int(match[2])


def _known(run: runs.Run, against: Path | None) -> tuple[Images, Images, list[str]]:
    """Return the images a run was trained on, those it was not, and notes on these. ValueError where they are gone."""
    try:
        found = _read(run.request)
    except (ValueError, KeyError) as error:
        raise ValueError(f"the images that {run.folder} was made from cannot be read again: {error}") from error
    if found.digest != run.data["digest"]:
        raise ValueError(f"the images that {run.folder} was made from have changed; fit them again")
    train, validation, test = data.split(len(found.pixels), run.config.seed)
    if against is not None:
        others = _others(against, run.pixels)
        return found.at(train), others, others.notes
    if len(test):
        return found.at(train), found.at(test), []
    few = "too few images to keep a test: those that chose the weights stand for one; give others with --against"
    return found.at(train), found.at(validation), [few]


def _others(path: Path, transform: PixelTransform) -> Images:
    """Return images beside those of a run; an array has the layout of those, which its shape alone may not tell."""
    layout = transform.layout if path.suffix.lower() in {".npy", ".npz"} else None
    return data.read_images(path, layout=layout)


def _nearest(transform: PixelTransform, drawn: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Return for each image the training image at the smallest Euclidean distance."""
    z = transform.forward(transform.rows(drawn))
    distances = [torch.cdist(z, transform.forward(part)) for part in transform.rows(train).split(4096)]
    return train[torch.cat(distances, 1).argmin(1).numpy()]


def _open(folder: Path, options: cli.Common) -> ImageDensity:
    """Return the estimator of a RUN on the device asked for, and print its notes."""
    estimator = images.load(folder)
    estimator.model_.to(options.device)
    console.speaker(options)(*(f"note: {note}" for note in estimator.notes_))
    return estimator


COMMANDS: dict[type, Callable] = {
    cli.Fit: fit,
    cli.Sample: sample,
    cli.Logprob: logprob,
    cli.Evaluate: evaluate,
    cli.Plot: plot,
}
"""What is done for images, by the options of each command."""
