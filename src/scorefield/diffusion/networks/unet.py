"""A U-Net for small images given as rows, made for a few minutes on a CPU."""

import itertools
import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.nn.functional import silu

from scorefield.diffusion.networks.mlp import RATES
from scorefield.diffusion.networks.pixel_posterior import PixelPosterior

GROUPS = 8
"""Groups of channels that are normalised together (Wu and He, 2018)."""

SMALLEST = 8
"""Images are halved until a side is smaller than twice this; from 16 pixels on the first halving costs nothing."""

PLACES = 2**17
"""Pixels of a channel that are answered at once where no gradients are asked for."""

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)

SURE = 0.3
"""Noise ratio from which downwards a correction is held to what a pixel by itself leaves open."""

EMBEDDING = 128
"""Numbers in which the blocks are told the noise ratio and the class."""


class UNet(nn.Module):
    """A residual U-Net (Ronneberger et al., 2015; Ho et al., 2020) that corrects what each noisy pixel says alone.

    It predicts v, of unit variance: v = (noise - r clean) / sqrt(1 + r^2) for rows of data of unit variance. The clean
    pixel that `pixels` expects from the pixel alone gives a first v. Its correction is g times what the network says:
        g^2 = (Var[v | pixel] + w) / (1 + w),  Var[v | pixel] = (1 + r^2) dE[clean | pixel] / dpixel,  w = (r / SURE)^2,
    so where the noise is small a pixel that is sure of itself stays as it is, and where it is large g is 1. The network
    is shown the noisy image, the clean one that is expected, and g. Its last layer starts at zero, so untrained it is
    the model of independent pixels.
    shape: (channels, height, width) of an image; any size, since it is padded to a multiple of the coarsest cell. From
    16 pixels on the network works on 2 x 2 patches: four times fewer places, each with four times the input.
    width: features at the finest level, doubled at each coarser one; depth: residual blocks a level on either side.
    classes: number of labels that may be given, 0 for none; where no label is given the class is `classes`.
    """

    rates: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        width: int = 48,
        depth: int = 2,
        classes: int = 0,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        channels, height, side = shape
        self.shape, self.classes = tuple(shape), classes
        side = min(height, side)
        self.patch = 2 if side >= 2 * SMALLEST else 1
        halvings = max(1, math.floor(math.log2(side / self.patch / SMALLEST)) + 1)
        widths = [width * 2**i for i in range(halvings + 1)]
        self.pixels = PixelPosterior(channels)
        self.register_buffer("rates", torch.tensor(RATES))
        self.embed = nn.Sequential(
            _linear(1 + 2 * len(RATES), EMBEDDING, generator), nn.SiLU(), _linear(EMBEDDING, EMBEDDING, generator)
        )
        self.label = nn.utils.skip_init(nn.Embedding, classes + 1, EMBEDDING)
        nn.init.normal_(self.label.weight, generator=generator)
        self.enter = _conv(3 * channels * self.patch**2, width, 3, generator)
        blocks = lambda size: nn.ModuleList(ResidualBlock(size, generator) for _ in range(depth))
        self.descent = nn.ModuleList(blocks(size) for size in widths)
        self.halve = nn.ModuleList(_conv(i, o, 2, generator, stride=2) for i, o in itertools.pairwise(widths))
        self.refine = nn.ModuleList(_linear(o, 4 * i, generator) for i, o in itertools.pairwise(widths))
        self.merge = nn.ModuleList(_linear(2 * size, size, generator) for size in widths[:-1])
        self.ascent = nn.ModuleList(blocks(size) for size in widths[:-1])
        self.norm = nn.GroupNorm(GROUPS, width)
        self.leave = _conv(width, channels * self.patch**2, 3, generator)
        nn.init.zeros_(self.leave.weight)

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
        n, ratio = len(z), log_ratio.exp()[:, None, None, None]
        total = (1 + ratio**2).sqrt()
        y = z.reshape(n, *self.shape) * total
        clean, slope = self.pixels(y, log_ratio)
        alone = ((y - clean) / ratio - ratio * clean) / total
        weight = (ratio / SURE) ** 2
        gate = ((total**2 * slope + weight) / (1 + weight)).sqrt()
        image = torch.cat([y / total, clean, gate], 1)
        return (alone + gate * self._network(image, self._told(log_ratio, label))).reshape(n, -1)

    def _told(self, log_ratio: Tensor, label: Tensor) -> Tensor:
        """Return what the blocks are told: the noise ratio and the class."""
        level = log_ratio[:, None]
        phases = level * self.rates
        return silu(self.embed(torch.cat([level / 4, phases.sin(), phases.cos()], 1)) + self.label(label))

    def _network(self, image: Tensor, told: Tensor) -> Tensor:
        height, width = image.shape[2:]
        cell = self.patch * 2 ** len(self.halve)
        padded = functional.pad(image, (0, -width % cell, 0, -height % cell), mode="replicate")
        patches = functional.pixel_unshuffle(padded, self.patch)
        hidden, kept = self.enter(patches.contiguous(memory_format=torch.channels_last)), []
        for k, blocks in enumerate(self.descent):
            if k:
                kept.append(hidden)
                hidden = self.halve[k - 1](hidden)
            for block in blocks:  # type: ignore[attr-defined]
                hidden = block(hidden, told)
        for blocks, refine, merge in zip(*map(reversed, (self.ascent, self.refine, self.merge)), strict=True):
            finer = functional.pixel_shuffle(_at_each_place(refine, hidden), 2)
            hidden = _at_each_place(merge, torch.cat([finer, kept.pop()], 1))
            for block in blocks:
                hidden = block(hidden, told)
        answer = functional.pixel_shuffle(self.leave(silu(self.norm(hidden))), self.patch)
        return answer[:, :, :height, :width]


class ResidualBlock(nn.Module):
    """Two convolutions beside the identity, scaled and shifted in between by what the block is told."""

    def __init__(self, size: int, generator: Generator | None) -> None:
        super().__init__()
        self.before, self.between = nn.GroupNorm(GROUPS, size), nn.GroupNorm(GROUPS, size, affine=False)
        self.first, self.second = _conv(size, size, 3, generator), _conv(size, size, 3, generator)
        self.steer = _linear(EMBEDDING, 2 * size, generator)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """Return x and its correction, for x (n, size, height, width) and told (n, EMBEDDING)."""
        scale, shift = self.steer(told)[:, :, None, None].chunk(2, 1)
        hidden = self.between(self.first(silu(self.before(x))))
        return x + self.second(silu(torch.addcmul(shift, hidden, 1 + scale)))


def _at_each_place(layer: nn.Linear, x: Tensor) -> Tensor:
    """Apply a dense layer to the features of each place of x (n, size, height, width)."""
    return layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _conv(inputs: int, outputs: int, side: int, generator: Generator | None, stride: int = 1) -> nn.Conv2d:
    layer = nn.utils.skip_init(nn.Conv2d, inputs, outputs, side, stride=stride, padding=side // 2 if stride == 1 else 0)
    return _filled(layer, generator)


def _linear(inputs: int, outputs: int, generator: Generator | None) -> nn.Linear:
    return _filled(nn.utils.skip_init(nn.Linear, inputs, outputs), generator)


def _filled(layer: Layer, generator: Generator | None) -> Layer:
    nn.init.kaiming_normal_(layer.weight, nonlinearity="linear", generator=generator)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer
