"""Images as `fit` reads them: what a request names, the images of a run read again, and those beside it."""

import re
from pathlib import Path

import numpy as np

from scorefield import data
from scorefield.data import Images
from scorefield.kinds.images.units import PixelTransform
from scorefield.kinds.kind import Request
from scorefield.runs.folder import Run

BUILT_IN = ("digits", "mnist")
"""Images by name: scikit-learn's digits, 8 x 8 in 17 levels, and MNIST from the user's files."""


def read(request: Request) -> Images:
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


def frequencies(given: Images) -> tuple[float, ...]:
    """Return the share of each class."""
    if given.labels is None:
        return ()
    return tuple((np.bincount(given.labels, minlength=len(given.classes)) / len(given.labels)).tolist())


def known(run: Run, transform: PixelTransform, against: Path | None) -> tuple[Images, Images, list[str]]:
    """Return the images a run was trained on, those it was not, and notes on these. ValueError where they are gone."""
    try:
        found = read(run.request)
    except (ValueError, KeyError) as error:
        raise ValueError(f"the images that {run.folder} was made from cannot be read again: {error}") from error
    if found.digest != run.data["digest"]:
        raise ValueError(f"the images that {run.folder} was made from have changed; fit them again")
    train, validation, test = data.split(len(found.pixels), run.config.seed)
    if against is not None:
        beside = others(against, transform)
        return found.at(train), beside, beside.notes
    if len(test):
        return found.at(train), found.at(test), []
    few = "too few images to keep a test: those that chose the weights stand for one; give others with --against"
    return found.at(train), found.at(validation), [few]


def others(path: Path, transform: PixelTransform) -> Images:
    """Return images beside those of a run; an array has the layout of those, which its shape alone may not tell."""
    layout = transform.layout if path.suffix.lower() in {".npy", ".npz"} else None
    return data.read_images(path, layout=layout)
