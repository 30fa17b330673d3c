"""What a person sees: pictures of tables and of images."""

from scorefield.reports.figures import DATA, DEPTH, FEW, SAMPLES, Column, Figure, Table, save
from scorefield.reports.overview import overview
from scorefield.reports.tables import (
    POINTS,
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
from scorefield.reports.training import errors_by_level, loss_curves

__all__ = [
    "DATA",
    "DEPTH",
    "FEW",
    "POINTS",
    "SAMPLES",
    "Column",
    "Figure",
    "PointFunction",
    "Table",
    "density_map",
    "errors_by_level",
    "histogram",
    "log_density_curve",
    "loss_curves",
    "marginals",
    "overview",
    "pair_plot",
    "save",
    "scatter",
    "score_curve",
    "score_field",
]
