"""Pictures of a density on a grid: one column as curves over a histogram, two as maps."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from scorefield.inference.path_integral import Valley
from scorefield.reports.figures import DATA, DEPTH, SAMPLES

BINS = 60
"""Bins of the histogram; a lattice of fewer values has a bin for each."""

TITLES = {"flow": "by the flow", "path": "by integrating the score"}
"""The methods that find a density, in words."""


def curves(
    name: str,
    x: np.ndarray,
    logs: Mapping[str, np.ndarray],
    rows: np.ndarray,
    lattice: bool,
    valley: Valley | None,
) -> Figure:
    """Return the density of one column over a histogram of rows, and its logarithm below.

    logs: log-densities by method on the grid x, (k,), nats; lattice: the column has the values of x and no others in
    between; valley: the deepest one, which is marked.
    """
    figure = Figure(figsize=(10, 7), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    step = x[1] - x[0]
    edges = np.append(x, x[-1] + step) - step / 2 if lattice and len(x) <= BINS else BINS
    heights, edges = np.histogram(rows, edges, density=True)
    upper.stairs(heights, edges, fill=True, color=DATA, alpha=0.4, label=f"data ({len(rows):,} rows)")
    for method, values in logs.items():
        colour, style = ("black", "-") if method == "flow" else (SAMPLES, "--")
        upper.plot(x, np.exp(values), color=colour, linestyle=style, label=TITLES[method])
        lower.plot(x, values, color=colour, linestyle=style)
    top = max(float(values.max()) for values in logs.values())
    lower.set(ylabel="log-density (nats)", ylim=(max(top - DEPTH, lower.get_ylim()[0]), top + 1))
    if valley is not None and valley.drop > 0:
        lower.axvline(valley.at, color="grey", linewidth=1, linestyle=":")
        lower.set_title("Its logarithm; dotted: the deepest valley", loc="left", fontsize=10)
    upper.set(ylabel="density", ylim=(0, None))
    upper.legend(loc="upper right", frameon=False)
    lower.set_xlabel(name, parse_math=False)
    upper.set_title("Density", loc="left", fontsize=10)
    return figure


def maps(names: Sequence[str], grids: Sequence[np.ndarray], logs: Mapping[str, np.ndarray]) -> Figure:
    """Return the density of two columns as a map for each method; logs (k, l) on the two grids (k,) and (l,), nats."""
    figure = Figure(figsize=(10, 5), layout="constrained")
    panels = figure.subplots(1, len(logs), squeeze=False)[0]
    top = max(float(np.exp(values).max()) for values in logs.values())
    for panel, (method, values) in zip(panels, logs.items(), strict=True):
        density = np.exp(values).T
        image = panel.pcolormesh(*grids, density, shading="gouraud", cmap="viridis", vmin=0, vmax=top)
        panel.set_xlabel(names[0], parse_math=False)
        panel.set_ylabel(names[1], parse_math=False)
        panel.set_title(f"Density {TITLES[method]}", loc="left", fontsize=10)
    figure.colorbar(image, ax=panels, label="density")
    return figure
