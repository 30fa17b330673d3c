"""Tutorial 002's U-Net for MNIST: its layers, its diagram, its training and its sampler. Reading MNIST is left out.

Images are rows of 784 numbers from 0 to 1, not centred. The loss is that of its swiss roll, the mean over pixels of
s^2 (score + z/s)^2, and time is a second channel that is the same at every pixel.
"""

from collections import deque
from collections.abc import Iterator
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Generator, Tensor, nn

from scorefield.gallery.drawing.curves import LEARNED, SAMPLE
from scorefield.gallery.report import save_figure
from scorefield.gallery.swiss_roll.training import TutorialModel, epochs, loss, steps
from scorefield.inference.samplers import euler_maruyama
from scorefield.inference.walking import walk
from scorefield.numerics.tensors import Layer, normal_like, spawn, unfilled

SIDE, BATCH, RATE = 28, 64, 3e-4
PIXELS = SIDE**2

DOWN = ((2, 32, 28), (32, 64, 14), (64, 128, 7), (128, 256, 4), (256, 256, 2))
"""Channels in and out of each convolution on the way down, and the pixels along a side there."""

UP = ((256, 256, 4), (512, 128, 7), (256, 64, 14), (128, 32, 28))
"""The same of each transposed convolution on the way up; but for the first half of what goes in comes from DOWN."""

PRINTED = {0: 0.22342, 20: 0.02908, 40: 0.02331, 60: 0.02071, 80: 0.01914, 100: 0.01899, 200: 0.01639, 300: 0.01609}
PRINTED |= {380: 0.01530}
"""The mean loss of an epoch that the tutorial printed, by epoch; an epoch is 938 steps."""

TIMES = torch.linspace(1, 0, 1000, dtype=torch.float64)
"""The times of the tutorial's sampler: 1,000 points, so 999 steps."""


class UNet(nn.Module):
    """The published U-Net, (x, t) (n, 785) -> the score (n, 784): 2,361,409 weights, no normalisation, no attention.

    Sides are 28, 14, 7, 4 and 2: a pooling by 2 takes 7 to 4 by a border of one pixel. After each convolution but the
    last comes LogSigmoid. What a level has found on the way down is set beside what comes up to it.
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.pools = nn.ModuleList([nn.MaxPool2d(2, padding=side % 2) for _, _, side in DOWN[:-1]])
        self.down = nn.ModuleList([_started(nn.Conv2d, i, o, generator) for i, o, _ in DOWN])
        self.up = nn.ModuleList(
            [_started(nn.ConvTranspose2d, i, o, generator, stride=2, output_padding=1 - side % 2) for i, o, side in UP]
        )
        self.merge = _started(nn.Conv2d, 2 * UP[-1][1], UP[-1][1], generator)
        self.last = _started(nn.Conv2d, UP[-1][1], 1, generator)
        self.activation = nn.LogSigmoid()

    def forward(self, xt: Tensor) -> Tensor:
        """Return the score, (n, 784), for images and their time in the last column, (n, 785)."""
        x, t = xt[:, :-1].reshape(-1, 1, SIDE, SIDE), xt[:, -1:, None, None]
        hidden = self.activation(self.down[0](torch.cat([x, t.expand_as(x)], 1)))
        found = [hidden]
        for pool, layer in zip(self.pools, self.down[1:], strict=True):
            hidden = self.activation(layer(pool(hidden)))
            found.append(hidden)
        found.pop()
        for layer in self.up:
            hidden = torch.cat([self.activation(layer(hidden)), found.pop()], 1)
        return self.last(self.activation(self.merge(hidden))).flatten(1)


def _started(kind: type[Layer], inputs: int, outputs: int, generator: Generator, **shape: int) -> Layer:
    """Return a 3 x 3 convolution started as PyTorch does, uniform within 1 / sqrt(numbers that a first index has)."""
    layer = unfilled(kind, inputs, outputs, 3, padding=1, **shape)
    bound = next(layer.parameters())[0].numel() ** -0.5
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return layer


def train(net: nn.Module, images: Tensor, seed: int) -> Iterator[float]:
    """Train as published on images (n, 784) for as long as it is asked; yield the loss of each step of 64.

    Adam at 3e-4, VP noise with beta from 0.1 to 20, one t for each image. Raises ValueError for other images.
    """
    if images.ndim != 2 or images.shape[1] != PIXELS or not 0 <= float(images.min()) <= float(images.max()) <= 1:
        raise ValueError(
            f"expected images as rows of {PIXELS} numbers from 0 to 1; got {tuple(images.shape)} "
            f"from {float(images.min()):g} to {float(images.max()):g}; divide bytes by 255"
        )
    noise = spawn(seed, "noise")
    return steps(net, epochs(images, BATCH, spawn(seed, "batches")), lambda net, x: loss(net, x, noise), rate=RATE)


def sample(net: nn.Module, n: int, seed: int, times: Tensor = TIMES) -> Tensor:
    """Return n images (n, 784) by Euler-Maruyama steps of the reverse SDE from N(0, I): 999, noise in the last too."""
    model = TutorialModel(net, torch.zeros(2, PIXELS))  # its moments make a prior; the tutorial takes N(0, I)
    start = normal_like(torch.empty(n, PIXELS), spawn(seed, "start"))
    return deque(walk(euler_maruyama(1.0, spawn(seed, "reverse")))(model, start, times), maxlen=1)[0]


def draw_diagram(path: Path) -> None:
    """Write the layers as boxes, as high as images and as wide as channels are many, and where numbers go."""
    figure = Figure((12, 5.2), layout="constrained")
    axes = figure.subplots()
    boxes = [(o, side) for _, o, side in DOWN] + [(o, side) for _, o, side in UP]
    where, left = [_box(axes, 0.0, 2, SIDE, "x and t")], 2.2
    for k, (channels, side) in enumerate(boxes):
        where.append(_box(axes, left, channels, side, str(channels), colour=LEARNED[0] if k >= len(DOWN) else SAMPLE))
        left = where[-1] + _width(channels) + 1.4
    for channels, text in (UP[-1][1], str(UP[-1][1])), (1, "score"):
        where.append(_box(axes, left, channels, SIDE, text))
        left = where[-1] + _width(channels) + 1.4
    for k, height in enumerate((23.5, 20.0, 16.5, 13.0)):  # the ways across, the outermost highest
        start, end = where[k + 1] + _width(DOWN[k][1]) / 2, where[len(boxes) - k] + _width(UP[-1 - k][1]) / 2
        top = max(height, DOWN[k][2] / 2)
        axes.plot([start, start, end], [DOWN[k][2] / 2, top, top], color="0.5", linewidth=0.8)
        axes.annotate("", (end, UP[-1 - k][2] / 2), (end, top), arrowprops={"arrowstyle": "->", "color": "0.5"})
    axes.set(xlim=(-1, left), ylim=(-18, 26))
    axes.set_axis_off()
    axes.set_title(
        "Tutorial 002's U-Net: channels and pixels of each layer; blue on the way down, orange up, grey lines across"
    )
    save_figure(figure, path)


def _width(channels: int) -> float:
    return 0.25 + channels / 100


def _box(axes: Axes, left: float, channels: int, side: int, text: str, colour: str = "0.6") -> float:
    """Draw one box and return its left edge."""
    axes.add_patch(Rectangle((left, -side / 2), _width(channels), side, facecolor=colour, edgecolor="0.2", alpha=0.7))
    middle = left + _width(channels) / 2
    axes.text(middle, -side / 2 - 0.6, text, ha="center", va="top", fontsize=9)
    axes.text(middle, -side / 2 - 2.0, f"{side} x {side}", ha="center", va="top", fontsize=7, color="0.35")
    return left
