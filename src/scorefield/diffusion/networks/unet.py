"""A U-Net for small images given as rows, made for a few minutes on a CPU."""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from scorefield.diffusion.networks.convolutions import Convolutions
from scorefield.diffusion.networks.pixel_posterior import PixelPosterior

PLACES = 2**17
"""Pixels of a channel that are answered at once where no gradients are asked for."""

SURE = 0.3
"""Noise ratio from which downwards a correction is held to what a pixel by itself leaves open."""


class UNet(Convolutions):
    """What each noisy pixel says alone, corrected by a residual U-Net.

    It predicts v, of unit variance: v = (noise - r clean) / sqrt(1 + r^2) for rows of data of unit variance. The clean
    pixel that `pixels` expects from the pixel alone gives a first v. Its correction is g times what the network says:
        g^2 = (Var[v | pixel] + w) / (1 + w),  Var[v | pixel] = (1 + r^2) dE[clean | pixel] / dpixel,  w = (r / SURE)^2,
    so where the noise is small a pixel that is sure of itself stays as it is, and where it is large g is 1. The network
    is shown the noisy image, the clean one that is expected, and g. Its last layer starts at zero, so untrained it is
    the model of independent pixels.

    Args:
        shape: (channels, height, width) of an image of any size.
        width: Features at the finest level, doubled at each coarser one.
        depth: Residual blocks a level on either side.
        classes: Number of labels that may be given, 0 for none; where no label is given the class is `classes`.
        generator: What weights are drawn from.
    """

    def __init__(
        self,
        shape: Sequence[int],
        width: int = 48,
        depth: int = 2,
        classes: int = 0,
        generator: Generator | None = None,
    ) -> None:
        channels, height, side = shape
        super().__init__(3 * channels, channels, min(height, side), width, depth, classes, generator)
        self.shape = tuple(shape)
        self.pixels = PixelPosterior(channels)

    def forward(self, z: Tensor, log_ratio: Tensor, label: Tensor | None = None) -> Tensor:
        """Return v for z (n, d), d = channels * height * width, of unit variance at log(s/a) (n,).

        label: the class of each row, (n,) integers up to `classes`, which stands for any. Without gradients a large
        batch is answered in parts, which bounds memory.
        """
        if not len(z):  # which no convolution takes
            return z
        label = torch.full_like(log_ratio, self.classes, dtype=torch.long) if label is None else label
        part = max(1, PLACES // math.prod(self.shape[1:]))
        if len(z) > part and not torch.is_grad_enabled():
            parts = zip(z.split(part), log_ratio.split(part), label.split(part), strict=True)
            return torch.cat([self(*rows) for rows in parts])
        return self._corrected(z.reshape(-1, *self.shape), log_ratio, label).reshape(len(z), -1)

    def _corrected(self, z: Tensor, log_ratio: Tensor, label: Tensor) -> Tensor:
        """Return v of images z (n, channels, height, width): the pixels' own, and the correction that g holds."""
        ratio = log_ratio.exp()[:, None, None, None]
        total = (1 + ratio**2).sqrt()
        y = z * total
        clean, slope = self.pixels(y, log_ratio)
        alone = ((y - clean) / ratio - ratio * clean) / total
        weight = (ratio / SURE) ** 2
        gate = ((total**2 * slope + weight) / (1 + weight)).sqrt()
        image = torch.cat([y / total, clean, gate], 1)
        return alone + gate * super().forward(image, log_ratio, label)
