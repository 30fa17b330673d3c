"""`scorefield plot`: draw a RUN into RUN/figures."""

from pathlib import Path

import numpy as np

from scorefield import reports as plots
from scorefield.cli import console, opening
from scorefield.cli.options import Plot
from scorefield.runs import metrics_log
from scorefield.runs.folder import Run


def run(options: Plot) -> None:
    """Draw what its kind draws, and the losses of its training."""
    kind, run = opening.read(options.run, options)
    opened = opening.opened(run, options)
    folder = options.run / "figures"
    folder.mkdir(exist_ok=True)
    notes = kind.plot(opened, folder)
    _draw_losses(run, folder)
    console.speaker(options)(*(f"note: {note}" for note in notes), f"drew {folder}")


def _draw_losses(run: Run, folder: Path) -> None:
    """Draw the losses of a run into loss.png of a folder, if there are any."""
    if reports := metrics_log.read_metrics(run):
        figure = plots.Figure(figsize=(7, 4), layout="constrained")
        curves = [np.array([getattr(report, name) for report in reports]) for name in ("step", "train", "validation")]
        plots.loss_curves(figure.subplots(), *curves)
        plots.save(figure, folder / "loss.png")
