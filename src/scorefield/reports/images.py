"""Pictures of images: real beside drawn, the way from noise, the nearest training images."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

GAP = 1
"""Pixels between two images of a mosaic."""


def beside(real: np.ndarray, drawn: np.ndarray, limits: tuple[float, float]) -> Figure:
    """Return training images beside drawn ones, each (n, channels, height, width); limits are black and white."""
    figure = Figure(figsize=(10, 5.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    mosaic(left, real, limits, "Training images")
    mosaic(right, drawn, limits, "Drawn images")
    return figure


def path(states: Sequence[tuple[float, np.ndarray]], limits: tuple[float, float]) -> Figure:
    """Return images on their way from noise: a column for each noise ratio, with images (n, c, h, w)."""
    rows = len(states[0][1])
    figure = Figure(figsize=(len(states), 0.95 * rows + 0.8), layout="constrained")
    panels = figure.subplots(1, len(states))
    for axes, (ratio, images) in zip(panels, states, strict=True):
        mosaic(axes, images, limits, f"{ratio:.2g}", columns=1)
    figure.suptitle("The clean image that the model expects at each noise ratio s/a")
    return figure


def nearest(drawn: np.ndarray, neighbours: np.ndarray, limits: tuple[float, float]) -> Figure:
    """Return drawn images above the training image nearest to each."""
    figure = Figure(figsize=(10, 0.62 * 20 / len(drawn) * 2 + 1), layout="constrained")
    above, below = figure.subplots(2, 1)
    mosaic(above, drawn, limits, "Drawn images", columns=len(drawn))
    mosaic(below, neighbours, limits, "The nearest training image of each", columns=len(drawn))
    return figure


def mosaic(axes: Axes, images: np.ndarray, limits: tuple[float, float], title: str, columns: int | None = None) -> Axes:
    """Draw images (n, channels, height, width) side by side, as square as can be unless columns are given."""
    n, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    canvas = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, channels), 0.5)
    low, high = limits
    for k, image in enumerate(images):
        top, left = (height + GAP) * (k // columns), (width + GAP) * (k % columns)
        shown = (image.astype(float) - low) / (high - low)
        canvas[top : top + height, left : left + width] = shown.clip(0, 1).transpose(1, 2, 0)
    axes.imshow(canvas[:, :, 0] if channels == 1 else canvas, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(title, fontsize=10)
    axes.set_axis_off()
    return axes
