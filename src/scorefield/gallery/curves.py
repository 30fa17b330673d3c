"""Pictures of densities and scores in one dimension: arrays and an Axes in, the Axes out."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

TRUTH, SAMPLE = "0.35", "#0072B2"  # grey and the blue of Okabe and Ito (2008)
LEARNED = ["#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#0072B2"]  # more of their colours


def sheet(rows: int = 1, columns: int = 1) -> tuple[Figure, np.ndarray]:
    """Return an empty figure and its axes, (rows, columns)."""
    figure = Figure(figsize=(6.4 * columns, 4.2 * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def histogram(axes: Axes, sample: np.ndarray, grid: np.ndarray, pdf: np.ndarray, bins: int = 80) -> Axes:
    """Draw the histogram of a sample, a tick for each of its points, and the density that it was drawn from."""
    axes.hist(sample, bins, density=True, color=SAMPLE, alpha=0.4, label=f"{len(sample):,} samples")
    axes.plot(sample, np.zeros_like(sample), "|", color=SAMPLE, alpha=0.5)
    axes.plot(grid, pdf, color=TRUTH, linewidth=2, label="true density")
    axes.set(xlabel="x", ylabel="density")
    axes.legend(frameon=False)
    return axes


def scores(
    axes: Axes,
    grid: np.ndarray,
    true: np.ndarray,
    learned: Mapping[str, np.ndarray],
    sample: tuple[np.ndarray, np.ndarray] | None = None,
) -> Axes:
    """Draw the true score, learned ones by their labels, and the true score at the points (x, score) of a sample."""
    axes.plot(grid, true, color=TRUTH, linewidth=3, alpha=0.6, label="true score")
    if sample is not None:
        axes.plot(*sample, ".", color=SAMPLE, markersize=4, label=f"{len(sample[0]):,} samples")
    for colour, (label, values) in zip(LEARNED, learned.items(), strict=False):
        axes.plot(grid, values, color=colour, label=label)
    axes.set(xlabel="x", ylabel="score", ylim=(1.4 * true.min(), 1.4 * true.max()))
    axes.legend(frameon=False)
    return axes


def densities(axes: Axes, grid: np.ndarray, true: np.ndarray, learned: Mapping[str, np.ndarray]) -> Axes:
    """Draw the true density and others by their labels."""
    axes.plot(grid, true, color=TRUTH, linewidth=3, alpha=0.6, label="true density")
    for colour, (label, values) in zip(LEARNED, learned.items(), strict=False):
        axes.plot(grid, values, color=colour, label=label)
    axes.set(xlabel="x", ylabel="density")
    axes.legend(frameon=False)
    return axes


def losses(
    axes: Axes,
    runs: Sequence[Sequence[float]],
    printed: Mapping[int, float],
    floor: float,
) -> Axes:
    """Draw the loss of the first run strong, of others faint, the published numbers by step as dots, and the floor.

    The floor is the loss of the true score. Where it is 0 the axis of the loss is logarithmic.
    """
    for i, run in enumerate(runs):
        label = {0: "first seed", 1: "other seeds"}.get(i)
        steps = range(1, len(run) + 1)
        axes.plot(steps, run, color=LEARNED[0] if i == 0 else "0.8", zorder=2 if i == 0 else 1, label=label)
    axes.plot([*printed.keys()], [*printed.values()], ".", color="k", zorder=3, label="published")
    if floor == 0:
        axes.set_yscale("log")
    else:
        axes.axhline(floor, color=SAMPLE, linestyle="--", label="loss of the true score")
        axes.set_ylim(1.5 * floor, -0.4 * floor)
    axes.set(xlabel="step", ylabel="loss")
    axes.legend(frameon=False)
    return axes
