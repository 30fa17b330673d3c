"""Pictures of training: losses by step, and errors of objectives by noise level."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from scorefield.reports.figures import DATA, SAMPLES, finish


def loss_curves(axes: Axes, steps: np.ndarray, training: np.ndarray, validation: np.ndarray) -> Axes:
    """Draw losses relative to that of the trivial model against the step; NaN where none was measured."""
    axes.plot(steps, training, color=DATA, label="training")
    axes.plot(steps, validation, "o", color=SAMPLES, markersize=4, label="validation")
    axes.axhline(1, color="black", linestyle="--", linewidth=1, label="trivial model")
    axes.set_xscale("log", nonpositive="mask")
    limits = np.nanquantile([training, validation], [0.01, 0.99]).clip([-np.inf, 1], [0, np.inf])
    axes.set(xlabel="training step", ylabel="loss / loss of the trivial model", ylim=1.1 * limits)
    return finish(axes, [], "Loss: lower is better")


def errors_by_level(axes: Axes, ratios: Sequence[float], errors: Mapping[str, Sequence[float]], label: str) -> Axes:
    """Draw the error of several objectives against the noise level; logarithmic where all errors are positive."""
    styles = itertools.cycle(("-", "--", ":"))
    for k, (name, values) in enumerate(errors.items()):
        axes.plot(ratios, values, linestyle=next(styles), color=f"C{k % 10}", marker=".", label=name)
    positive = all(value > 0 for values in errors.values() for value in values)
    axes.set(xscale="log", yscale="log" if positive else "linear", xlabel="noise ratio s / a", ylabel=label)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return axes
