"""What the entries of the gallery leave: figures as PNG, animations as GIF, numbers as JSON."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

from matplotlib.animation import PillowWriter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scorefield import reports as plots
from scorefield.data import atomic

Results = dict[str, object]
"""The rows of an entry by name, each a dictionary as `row` makes it."""


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, making the folder where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plots.save(figure, path)


def save_animation(figure: Figure, draw: Callable[[int], None], frames: int, fps: int, path: Path) -> None:
    """Write an animation as GIF: draw(i) changes the figure into frame i, for i = 0 ... frames - 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    draw(0)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # keeps the axes where they are, and takes half the time
    writer = PillowWriter(fps=fps)
    with writer.saving(figure, str(path), dpi=80):
        for i in range(frames):
            draw(i)
            writer.grab_frame()


def row(
    name: str,
    published: float | Mapping[str, float] | None,
    values: Sequence[float],
    floor: float | None = None,
    zero: float | None = None,
) -> Results:
    """Return one row of results, {name: {...}}, to be merged with others by |.

    published: the number of the tutorial, or several by the version that printed them, None where it printed none.
    values: ours, one a seed; the row holds their median and range.
    floor: the value of the true score, which for a loss of the whole density is the smallest there is.
    zero: the value of a network that returns 0.
    Raises ValueError for no values.
    """
    if len(values) == 0:
        raise ValueError(f"the row {name!r} needs a value of at least one seed; got none")
    ours = [float(value) for value in values]
    shown = dict(published) if isinstance(published, Mapping) else published
    numbers = {"median": median(ours), "low": min(ours), "high": max(ours), "seeds": len(ours)}
    return {name: {"published": shown, **numbers, "floor": floor, "zero": zero}}


def write_results(results: Results, path: Path) -> None:
    """Write results as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(path, (json.dumps(results, indent=1) + "\n").encode())
