"""A residual U-Net of convolutions: images in, images out, told the noise ratio and a class."""

import itertools
import math
from typing import TypeVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.nn.functional import silu

from scorefield.diffusion.networks.mlp import RATES
from scorefield.numerics.tensors import unfilled

GROUPS = 8
"""Groups of channels that are normalised together (Wu and He, 2018)."""

SMALLEST = 8
"""Images are halved until a side is smaller than twice this; from 16 pixels on the first halving costs nothing."""

EMBEDDING = 128
"""Numbers in which the blocks are told the noise ratio and the class."""

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


class Convolutions(nn.Module):
    """A residual U-Net (Ronneberger et al., 2015; Ho et al., 2020); its last layer starts at zero.

    Images of any size, which are padded to a multiple of the coarsest cell. From 16 pixels on it works on 2 x 2
    patches: four times fewer places, each with four times the input.

    Args:
        inputs: Channels that come in.
        outputs: Channels that come out.
        smallest: The shorter side of an image, in pixels.
        width: Features at the finest level, doubled at each coarser one.
        depth: Residual blocks a level on either side.
        classes: Number of labels beside "any".
        generator: What weights are drawn from.
    """

    rates: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        smallest: int,
        width: int,
        depth: int,
        classes: int,
        generator: Generator | None,
    ) -> None:
        super().__init__()
        self.classes, self.patch = classes, 2 if smallest >= 2 * SMALLEST else 1
        halvings = max(1, math.floor(math.log2(smallest / self.patch / SMALLEST)) + 1)
        widths = [width * 2**i for i in range(halvings + 1)]
        self.register_buffer("rates", torch.tensor(RATES))
        self.embed = nn.Sequential(
            _linear(1 + 2 * len(RATES), EMBEDDING, generator), nn.SiLU(), _linear(EMBEDDING, EMBEDDING, generator)
        )
        self.label = unfilled(nn.Embedding, classes + 1, EMBEDDING)
        nn.init.normal_(self.label.weight, generator=generator)
        self.enter = _conv(inputs * self.patch**2, width, 3, generator)
        blocks = lambda size: Blocks(ResidualBlock(size, generator) for _ in range(depth))
        self.descent = nn.ModuleList(blocks(size) for size in widths)
        self.halve = nn.ModuleList(_conv(i, o, 2, generator, stride=2) for i, o in itertools.pairwise(widths))
        self.refine = nn.ModuleList(_linear(o, 4 * i, generator) for i, o in itertools.pairwise(widths))
        self.merge = nn.ModuleList(_linear(2 * size, size, generator) for size in widths[:-1])
        self.ascent = nn.ModuleList(blocks(size) for size in widths[:-1])
        self.norm = nn.GroupNorm(GROUPS, width)
        self.leave = _conv(width, outputs * self.patch**2, 3, generator)
        nn.init.zeros_(self.leave.weight)

    def forward(self, x: Tensor, log_ratio: Tensor, label: Tensor) -> Tensor:
        """Return images (n, outputs, h, w) for images x (n, inputs, h, w) at log(s/a) (n,) of classes (n,)."""
        return self._network(x, self._told(log_ratio, label))

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
            hidden = blocks(hidden, told)
        for blocks, refine, merge in zip(*map(reversed, (self.ascent, self.refine, self.merge)), strict=True):
            finer = functional.pixel_shuffle(_at_each_place(refine, hidden), 2)
            hidden = _at_each_place(merge, torch.cat([finer, kept.pop()], 1))
            hidden = blocks(hidden, told)
        answer = functional.pixel_shuffle(self.leave(silu(self.norm(hidden))), self.patch)
        return answer[:, :, :height, :width]


class Blocks(nn.ModuleList):
    """Residual blocks, one after another."""

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """Return what the blocks make of x (n, size, height, width)."""
        for block in self:
            x = block(x, told)
        return x


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
    layer = unfilled(nn.Conv2d, inputs, outputs, side, stride=stride, padding=side // 2 if stride == 1 else 0)
    return _filled(layer, generator)


def _linear(inputs: int, outputs: int, generator: Generator | None) -> nn.Linear:
    return _filled(unfilled(nn.Linear, inputs, outputs), generator)


def _filled(layer: Layer, generator: Generator | None) -> Layer:
    weight, bias = layer.parameters()
    nn.init.kaiming_normal_(weight, nonlinearity="linear", generator=generator)
    nn.init.zeros_(bias)
    return layer
