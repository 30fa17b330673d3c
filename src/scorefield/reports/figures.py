"""What pictures share: colours, how columns lie on axes, titles, and the file.

Only matplotlib's objects are used (Figure, Axes), never pyplot: no global state changes and no window opens.
Axes show a robust range of the data, and a picture says which share of the rows lies outside of it.
"""

from pathlib import Path
from textwrap import fill
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from scorefield.data.atomic import replacing

Table: TypeAlias = pd.DataFrame | np.ndarray  # numbers (n, d); the columns of an array are called x1 ... xd
DATA, SAMPLES = "#0072B2", "#D55E00"  # blue and vermilion of Okabe and Ito (2008), distinct to every eye
FEW = 40  # integers on an axis that still have a bin each, and dots spread to show how many there are
DEPTH = 32  # nats below the top: e^-32 = 1e-14 is less than any data set can show


class Column(NamedTuple):
    """How a column is drawn: its name, its bins from end to end of the axis, whether it holds integers."""

    name: str
    edges: np.ndarray
    integral: bool


def described(*tables: Table, exactly: int = 0, most: int = 0) -> tuple[list[Column], list[pd.DataFrame]]:
    """Return how to draw the columns of the first table, and all tables as frames of floats."""
    names = list(getattr(tables[0], "columns", [f"x{j + 1}" for j in range(tables[0].shape[-1])]))
    frames = [t if isinstance(t, pd.DataFrame) else pd.DataFrame(t, columns=names) for t in tables]
    if any(list(frame.columns) != names for frame in frames) or len(names) != (exactly or len(names)):
        raise ValueError(f"expected {exactly or 'the same'} columns; got {[list(f.columns) for f in frames]}")
    order = np.argsort((frames[0].nunique() == 1).to_numpy(), stable=True)[:most] if most else slice(None)
    frames = [frame.iloc[:, order].astype(float) for frame in frames]
    return [_column(str(name), values.to_numpy()) for name, values in frames[0].items()], frames


def _column(name: str, values: np.ndarray) -> Column:
    """Return how to draw a column: from its 0.1 % to its 99.9 % quantile and a margin of 5 %, robustly.

    But at most half the 1 % to 99 % distance beyond these two: one wild row in a hundred ruins nothing.
    """
    values = values[np.isfinite(values)]
    if not len(values):
        raise ValueError(f"expected numbers in column {name!r}; got none that is finite; drop the column")
    first, last = np.quantile(values, 0.01, method="higher"), np.quantile(values, 0.99, method="lower")
    reach = (last - first) / 2 or np.inf
    low, high = np.quantile(values, [0.001, 0.999]).clip(first - reach, last + reach)
    bins = round(np.clip(3 * len(values) ** (1 / 3), 10, 60))
    margin = 0.05 * (high - low)
    if ((values == values.round()) & (np.abs(values) < 2**52)).all():  # as many integers in every bin
        low, high = np.floor(low) - np.floor(margin) - 0.5, np.ceil(high) + np.floor(margin) + 0.5
        step = 1 if high - low <= FEW else np.ceil((high - low) / bins)
        return Column(name, low + step * np.arange(np.ceil((high - low) / step) + 1), True)
    margin = margin or 0.5 + 0.05 * abs(low)
    return Column(name, np.linspace(low - margin, high + margin, bins + 1), False)


def outside(columns: list[Column], **tables: pd.DataFrame) -> list[str]:
    """Return a line on the shares of rows with a value beyond the axes; no line if there are none."""
    low, high = np.array([column.edges[[0, -1]] for column in columns]).T
    shares = {name: 1 - ((low <= t) & (t <= high)).all(axis=1).mean() for name, t in tables.items()}
    told = [f"{100 * share:.3g} % of the {name}" for name, share in shares.items() if share > 0]
    return [f"outside the axes: {', '.join(told)}"] if told else []


def sides_of(columns: list[Column]) -> tuple[np.ndarray, np.ndarray]:
    """Return the lengths of two axes and the sides of their box: to scale, or equal if that were a sliver."""
    lengths = np.array([np.ptp(column.edges) for column in columns])
    return lengths, lengths if lengths.max() <= 4 * lengths.min() else np.ones(2)


def finish(axes: Axes, columns: list[Column], *lines: str, ticks: int = 6) -> Axes:
    """Give axes their limits, names and ticks, two columns a box to scale, and a picture title and legend."""
    for column, axis, way in zip(columns, (axes.xaxis, axes.yaxis), "xy", strict=False):
        axes.set(**{f"{way}lim": column.edges[[0, -1]]})
        axis.set_major_locator(MaxNLocator(ticks, integer=column.integral, steps=[1, 2, 2.5, 5, 10]))
        axis.get_major_formatter().format_ticks([*axis.get_majorticklocs()])
        factor = axis.get_major_formatter().get_offset()  # like 1e6; matplotlib lets it overlap with names
        axis.get_offset_text().set_visible(False)
        name = fill(column.name, 6 * ticks, max_lines=2, placeholder="…")
        axis.set_label_text(f"{name}\n{'in ' * factor.startswith('1')}{factor}".strip(), parse_math=False)
    if len(columns) == 2:
        axes.set_box_aspect(1 / np.divide(*sides_of(columns)[1]))
    legend = bool(lines and axes.get_legend_handles_labels()[0])
    if legend:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False, borderpad=0)
    axes.set_title("\n".join(lines), loc="left", fontsize=10, pad=24 if legend and len(lines) > 1 else 6)
    return axes


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure at 150 dots an inch, whole or not at all, in the format of the extension (.png)."""
    path = Path(path)
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix[1:], dpi=150)
