"""Images to learn from: rows as they came, what each pixel says alone, and their classes."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scorefield.data import Images, split
from scorefield.diffusion.networks import UNet
from scorefield.diffusion.networks.ensemble import members_of
from scorefield.kinds.images.units import PixelTransform
from scorefield.numerics.tensors import spawn
from scorefield.training.config import Config
from scorefield.training.problem import Part, Prepared, Problem

VALIDATION_IMAGES, MOMENT_IMAGES = 1024, 10_000
"""Images are validated on at most so many; their moments and histogram come from at most so many."""

IMAGE_RATIO = 0.05
"""The noise ratio at which the score of images is read."""


@dataclass(frozen=True)
class ImageProblem(Problem):
    """Images as rows, to train and to validate on; they stay as they came, since a byte takes less than a float.

    labels: the classes of the images to train and to validate on.
    """

    train: Tensor
    validation: Tensor
    pixels: PixelTransform
    labels: tuple[Tensor, Tensor] | None = None
    device: str = "cpu"

    @classmethod
    def of(
        cls, given: Images, pixels: PixelTransform, seed: int, device: str = "cpu", test: bool = True
    ) -> "ImageProblem":
        """Return images as rows to learn from and to validate on, with labels; test: leave a tenth for a test."""
        rows = torch.from_numpy(given.pixels).reshape(len(given.pixels), -1)
        train, validation, others = split(len(rows), seed)
        train = train if test else np.concatenate([train, others])
        told = None
        if given.labels is not None:
            codes = torch.from_numpy(given.labels)
            told = codes[train], codes[validation]
        return cls(rows[train], rows[validation], pixels, told, device)

    def prepare(self, config: Config) -> Prepared:
        """Tabulate what each pixel says alone, which is part of the network; images have no other base."""
        pixels, device = self.pixels, self.device
        judges = self.validation if len(self.validation) else self.train
        some = self.train[torch.randperm(len(self.train), generator=spawn(config.seed, "moments"))[:MOMENT_IMAGES]]
        z = pixels.forward(some)
        model = config.model(z.mean(0), z.var(0, correction=0)).to(device)
        for net in members_of(model.net):
            if isinstance(net, UNet):
                net.pixels.learn(pixels.levels, pixels.histogram(some), pixels.width)
        labels = None
        if self.labels is not None:
            told = self.labels[1] if len(self.validation) else self.labels[0]
            labels = self.labels[0].to(device), told[:VALIDATION_IMAGES].to(device)
        part = Part(self.train.to(device), pixels.forward(judges[:VALIDATION_IMAGES]).to(device), labels=labels)
        name, reason = "the histogram of single pixels", "it is what a pixel says without its neighbours"
        return Prepared(model, (part,), name, reason, pixels.forward, IMAGE_RATIO)
