"""Between images as they came and the model's units: one shift and one scale for all pixels, and their levels."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scorefield.numerics.shapes import Samples

MOST_LEVELS = 2**16
"""Pixels of more different values than this are continuous."""

BINS = 256
"""Bins of the histogram of continuous pixels."""

SEEN = 2**24
"""Mean, scale and levels are learned from at most about this many pixels of evenly spaced images."""


@dataclass(frozen=True)
class PixelTransform:
    """Images (n, channels, height, width) against rows z = (x - mean) / scale, (n, channels * height * width).

    low and high: the smallest and the largest value seen; samples never leave them. step: the distance of two levels,
    0 for continuous pixels. dtype: that of the images, by its NumPy name. layout: HW, HWC or CHW, as they came.
    """

    shape: tuple[int, int, int]
    layout: str
    dtype: str
    low: float
    high: float
    step: float
    mean: float
    scale: float

    @classmethod
    def fit(cls, pixels: np.ndarray, layout: str = "CHW") -> "PixelTransform":
        """Return the transform that gives images (n, channels, height, width) mean 0 and variance 1 over all pixels.

        Raises ValueError where all pixels are equal.
        """
        every = max(1, math.ceil(pixels.size / SEEN))
        some = pixels[::every]
        low, high = float(pixels.min()), float(pixels.max())
        if low == high:
            raise ValueError(f"expected images whose pixels vary; all are {low:g}; there is nothing to learn")
        step = _step(some)
        mean, scale = float(some.mean(dtype=np.float64)), float(some.std(dtype=np.float64))
        return cls(tuple(pixels.shape[1:]), layout, str(pixels.dtype), low, high, step, mean, scale)

    @property
    def dim(self) -> int:
        """The number of pixels times channels, d."""
        return math.prod(self.shape)

    @property
    def count(self) -> int:
        """How many levels lie between low and high, 0 for continuous pixels."""
        return round((self.high - self.low) / self.step) + 1 if self.step else 0

    @property
    def levels(self) -> Tensor:
        """The levels in model units (k,), float64; the centres of BINS bins for continuous pixels."""
        if self.step:
            values = self.low + self.step * torch.arange(self.count, dtype=torch.float64)
        else:
            width = (self.high - self.low) / BINS
            values = self.low + width * (torch.arange(BINS, dtype=torch.float64) + 0.5)
        return (values - self.mean) / self.scale

    @property
    def width(self) -> float:
        """The standard deviation of pixels around their level, in model units: 0, or that of an even bin."""
        return 0.0 if self.step else (self.high - self.low) / BINS / math.sqrt(12) / self.scale

    def histogram(self, rows: Tensor) -> Tensor:
        """Return how many pixels of each channel lie at each of the levels, (channels, k), for raw rows (n, d)."""
        k = len(self.levels)
        size = self.step or (self.high - self.low) / k
        place = (rows.reshape(len(rows), self.shape[0], -1).double() - self.low) / size
        index = (place.round() if self.step else place.floor()).long().clamp(0, k - 1)
        return torch.stack([torch.bincount(channel.flatten(), minlength=k) for channel in index.unbind(1)])

    def forward(self, rows: Tensor) -> Samples:
        """Return z (n, d), float32, of raw rows (n, d) in the units of the images."""
        return (rows.float() - self.mean) / self.scale

    def inverse(self, z: Samples) -> np.ndarray:
        """Return images (n, channels, height, width) of rows z, rounded to the levels, in the type of the images."""
        x = z.detach().cpu().double() * self.scale + self.mean
        if self.step:
            place = ((x - self.low) / self.step).round()
            x = self.low + place * (self.high - self.low) / (self.count - 1)  # 3 / 10, which 3 steps of 0.1 are not
        return x.clamp(self.low, self.high).reshape(-1, *self.shape).numpy().astype(self.dtype)

    def rows(self, pixels: np.ndarray) -> Tensor:
        """Return images as raw rows (n, d), of the type that they have. Raises ValueError for images of another size.

        Values outside of those seen and between the levels are refused too, since they have no probability.
        """
        if pixels.shape[1:] != self.shape:
            raise ValueError(
                f"expected images of {self.shape[0]} channels and {self.shape[1]} x {self.shape[2]} pixels, as the run "
                f"has learned; got {pixels.shape[1]} channels and {pixels.shape[2]} x {pixels.shape[3]}"
            )
        rows = torch.from_numpy(np.ascontiguousarray(pixels)).reshape(len(pixels), self.dim)
        x = rows.double()
        between = ((x - self.low) / self.step % 1 - 0.5).abs() < 0.499 if self.step else torch.zeros_like(x).bool()
        if bool((bad := between | ~((self.low <= x) & (x <= self.high))).any()):
            raise ValueError(
                f"expected pixels as the run has learned them, {self.describe()}; got {float(x[bad][0]):g}, which has "
                "no probability; give images in the units of the training images"
            )
        return rows

    def describe(self) -> str:
        """Say what the pixels are, in words."""
        channels, height, width = self.shape
        kind = f"{self.count} levels from {self.low:g} to {self.high:g}" if self.step else "continuous"
        return f"{height} x {width} pixels, {channels} {'channel' if channels == 1 else 'channels'}, {kind}"


def _step(pixels: np.ndarray) -> float:
    """Return the distance of two levels of pixels, 0 where they have too many values or no common distance."""
    values = np.unique(pixels)
    if len(values) > MOST_LEVELS:
        return 0.0
    if values.dtype.kind in "bui":
        return float(np.gcd.reduce(np.diff(values.astype(np.int64))))
    span, exact = float(values[-1]) - float(values[0]), values.astype(np.float64)
    gap = float(np.diff(exact).min())
    count = round(span / gap)
    if count > MOST_LEVELS:
        return 0.0
    step, rounding = span / count, 8 * float(np.finfo(values.dtype).eps) * float(np.abs(exact).max())
    places = (exact - exact[0]) / step
    return step if float(np.abs(places - places.round()).max()) < 1e-3 + rounding / step else 0.0
