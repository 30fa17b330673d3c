"""Runs of images that the benchmarks judge: the images on both sides, the eyes that look at them, and fidelity."""

import dataclasses
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scorefield import data
from scorefield.data import Images
from scorefield.evaluation.descriptions import frechet_distance, precision_recall
from scorefield.inference.samplers import STEPS
from scorefield.kinds.images.estimator import ImageDensity
from scorefield.kinds.images.evaluation import Eyes, open_eyes
from scorefield.kinds.loading import load
from scorefield.numerics.tensors import spawn


@dataclasses.dataclass(frozen=True)
class Judged:
    """What a run is judged by: images as rows (n, d) and their classes, and the eyes that look at them."""

    estimator: ImageDensity
    train: Images
    z: Tensor
    test: Images
    target: Tensor
    real: Tensor
    eyes: Eyes


def open_run(name: str, folder: Path) -> Judged:
    """Return a run with the images that it learned from, those that it is compared with, and real ones beside it.

    MNIST's own test images are the target, and images of the training file that the run has kept are real ones too.
    """
    estimator = load(folder)
    if name == "mnist":
        every, test = data.read_mnist("train"), data.read_mnist("test")
        first, validation, last = data.split(len(every.pixels), estimator.config_.seed)
        kept = np.concatenate([validation, last])
    else:
        from sklearn.datasets import load_digits

        digits = load_digits()
        every = data.as_images(digits.images.astype(np.uint8), digits.target)
        first, validation, last = data.split(len(every.pixels), estimator.config_.seed)
        test, kept = every.at(np.concatenate([validation, last])), np.zeros(0, np.int64)
    transform = estimator.transform_
    rows = lambda given: transform.forward(transform.rows(given.pixels))
    train = every.at(first)
    z = rows(train)
    eyes = open_eyes(z, train, transform.shape, spawn(0, "eyes"))
    real = torch.cat([rows(every.at(kept)), z[eyes.unused]])
    return Judged(estimator, train, z, test, rows(test), real, eyes)


def draw(run: Judged, n: int) -> tuple[Tensor, float]:
    """Return n images that a run draws, as rows, and the seconds it took."""
    transform, began = run.estimator.transform_, time.perf_counter()
    blocks = run.estimator.sample_blocks(n, None, 1.0, "adams", STEPS, 1)
    rows = torch.cat([transform.forward(transform.rows(block)) for block in blocks])
    return rows, time.perf_counter() - began


def fidelity(run: Judged, x: Tensor, n: int) -> dict[str, list[float]]:
    """Return the Frechet distance, density and coverage of images to as many of the target, with their errors.

    Where the target or the real images are fewer than n, these are means over parts of that many images.
    """
    n = min(n, len(run.target), len(run.real))
    target, found = run.eyes.features(run.target[:n]), []
    for start in range(0, len(x) - n + 1, n):
        own = run.eyes.features(x[start : start + n])
        told = precision_recall(own, target)
        found.append([frechet_distance(own, target), told["density"], told["coverage"]])
    names = "frechet", "density", "coverage"
    values = ([row[k] for row in found] for k in range(3))
    return {
        name: [statistics.fmean(each.value for each in column), statistics.fmean(each.stderr for each in column)]
        for name, column in zip(names, values, strict=True)
    }
