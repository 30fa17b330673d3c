"""The one picture that shows what was learned of a table."""

import functools

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from scorefield.reports.figures import SAMPLES, Table, described, sides_of
from scorefield.reports.tables import (
    PointFunction,
    density_map,
    histogram,
    log_density_curve,
    marginals,
    pair_plot,
    scatter,
    score_curve,
    score_field,
)


def overview(data: Table, samples: Table, log_density: PointFunction, score: PointFunction) -> Figure:
    """Return the one picture that shows what was learned, 10 inches wide.

    One column: histograms, log-density, score. Two: data, samples, density, score field. More: each column
    and pairs of columns, data against samples; then neither function is called.
    """
    columns, _ = described(data)
    remembered = functools.cache(lambda raw: log_density(np.frombuffer(raw).reshape(-1, len(columns)).copy()))
    once = lambda points: remembered(points.tobytes())
    figure = Figure(figsize=(10, 9), layout=ConstrainedLayoutEngine(w_pad=0.07, h_pad=0.07))
    if len(columns) == 1:
        panels = figure.subplots(3, 1, sharex=True)
        histogram(panels[0], data, samples, once).label_outer()
        log_density_curve(panels[1], data, once).label_outer()
        score_curve(panels[2], data, score)
        figure.align_ylabels(panels)
    elif len(columns) == 2:
        panels, (_, (width, height)) = figure.subplots(2, 2), sides_of(columns)
        figure.set_size_inches(10, 2 * min(3.5 * height / width, 6) + 2)
        scatter(panels[0, 0], data, data)
        scatter(panels[0, 1], samples, data, "Samples", SAMPLES)
        density_map(panels[1, 0], data, once)
        score_field(panels[1, 1], data, once, score)
    else:
        heights = 1.7 * -(-min(len(columns), 16) // 4) + 0.8, 9
        figure.set_size_inches(10, sum(heights))
        parts = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)
        marginals(parts[0, 0], data, samples)
        pair_plot(parts[1, 0], data, samples)
    return figure
