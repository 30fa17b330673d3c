"""What each sampler costs and how far it is off, as a table of lines and as a picture."""

import itertools
from collections.abc import Sequence

from matplotlib.figure import Figure

from scorefield.inference.frontier import Point
from scorefield.inference.samplers import SAMPLERS


def lines(points: Sequence[Point], tol: float, recommended: Point) -> list[str]:
    """Return a frontier as a table of lines, with the recommendation last."""
    number = lambda value, error: "" if value is None else f"{value:10.2g} +- {error:.1g}"
    found = [f"{'sampler':20}{'steps':>6}{'evaluations':>13}{'error':>14}{'energy distance':>26}"]
    for p in points:
        error, change = number(p.error, p.stderr), number(p.change, p.change_stderr)
        found.append(f"{p.sampler:20}{p.steps:6,}{p.evaluations:13.1f}{error:>21}{change:>23}".rstrip())
    found.append(
        "error: root mean square distance to the converged flow of the same latents, standard deviations of the data"
    )
    found.append("energy distance: change of it to fresh samples of that flow, against those of the same latents")
    return [*found, f"recommended for an error of {tol:g}: {recommended.describe()}"]


def draw(points: Sequence[Point], tol: float, recommended: Point) -> Figure:
    """Return a figure of errors and of changes of the energy distance against evaluations."""
    figure = Figure((12, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    styles = itertools.cycle(("-", "--", ":"))
    for i, (name, row) in enumerate(SAMPLERS.items()):
        own = [point for point in points if point.sampler == name]
        style = {"color": f"C{i % 10}", "marker": ".", "linestyle": next(styles), "label": name}
        if own and not row.stochastic:
            left.plot([p.evaluations for p in own], [p.error for p in own], **style)
        changes = [max(abs(p.change or 0.0), p.change_stderr or 0.0) for p in own]
        right.plot([p.evaluations for p in own], changes, **style)
    left.axhline(tol, color="0.6", linewidth=0.8)
    left.plot(recommended.evaluations, recommended.error, "k*", markersize=14, label="recommended")
    left.set(title="Distance to the converged flow", ylabel="RMS error (standard deviations of the data)")
    right.set(title="Change of the energy distance, or its error where that is larger", ylabel="model units")
    for axes in (left, right):
        axes.set(xscale="log", yscale="log", xlabel="evaluations of the model a sample")
    left.legend(fontsize=8, frameon=False)
    right.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure
