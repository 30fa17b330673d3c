"""The pictures of tutorial 002's swiss roll."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scorefield.gallery.drawing import planes
from scorefield.gallery.drawing.curves import LEARNED, SAMPLE, draw_curves, panels
from scorefield.gallery.report import save_figure
from scorefield.gallery.swiss_roll.training import FLOOR, PROCESS, Potential, log_potential

LIMIT = 2.0


def draw_forward(out: Path, times: Sequence[float], states: Sequence[Tensor], data: Tensor) -> None:
    """Write points at t = 0 and at later times of the forward SDE."""
    figure, every = planes.panels(3, 2)
    for axes, t, x in zip(every, (0.0, *times), (data, *states), strict=True):
        planes.draw_points(planes.frame(axes, f"t = {t:g}", 4.0), x, size=2.0)
    save_figure(figure, out / "forward.png")


def draw_samples(path: Path, tables: Mapping[str, Tensor]) -> None:
    """Write points beside each other, by their title; samples of a model are of another colour."""
    figure, every = planes.panels(len(tables))
    for axes, (title, x) in zip(every, tables.items(), strict=True):
        colour = SAMPLE if title.endswith("points") else LEARNED[0]
        planes.draw_points(planes.frame(axes, f"{title} ({len(x):,})", LIMIT), x, colour)
    save_figure(figure, path)


def draw_training(out: Path, losses: Sequence[Sequence[float]], printed: Mapping[int, float]) -> None:
    """Write the mean loss of each epoch, the printed ones, and what the true score has."""
    figure, (whole, near) = panels(2, width=5.5)
    for axes in (whole, near):
        for i, run in enumerate(losses):
            axes.plot(range(len(run)), run, color="0.8", linewidth=0.3, label=None if i else "each epoch")
            smooth = np.convolve(run, np.full(width := min(100, len(run)), 1 / width), "valid")
            axes.plot(range(width - 1, len(run)), smooth, color=LEARNED[0], label=None if i else "mean of 100 epochs")
        axes.plot([*printed.keys()], [*printed.values()], ".", color="k", label="published")
        axes.axhline(FLOOR, color=SAMPLE, linestyle="--", label=f"true score, {FLOOR:.4f}")
        axes.axhline(1, color="0.5", linestyle=":", label="zero network, 1")
        axes.set(xlabel="epoch", ylabel="loss")
    whole.set(title=f"Mean loss of an epoch, {len(losses)} seed{'s' * (len(losses) > 1)}", ylim=(0.1, 1.1))
    near.set(title="The same, near its end", ylim=(0.16, 0.26))
    whole.legend(fontsize=8, frameon=False)
    save_figure(figure, out / "loss.png")


def animate_potential(
    path: Path, net: Potential, states: Sequence[Tensor], times: Sequence[float], limit: float
) -> None:
    """Write particles on their way from noise over the score and the density of a network with one output.

    At 0, where nothing was learned, the field of t = 0.001 is shown.
    """
    _, rows = planes.mesh(limit)
    asked = [max(t, 0.001) for t in times]
    scores = [lambda x, t=t: net(torch.cat([x, torch.full_like(x[:, :1], t)], 1).float()) for t in asked]
    log_densities = [log_potential(net, rows, t).numpy() for t in asked]
    planes.animate_walk(path, states, times, scores, log_densities, limit, fps=10)


def draw_formulas(out: Path) -> None:
    """Write the weight and the gradient as they are printed in the text beside the right ones."""
    t = np.linspace(0.001, 1, 400)
    big_b = PROCESS.integral(torch.from_numpy(t)).numpy()
    figure, (left, right) = panels(2, width=5.5)
    curves = {"right, 1 - exp(-B), as in the code": -np.expm1(-big_b), "printed, 1 - exp(+B)": -np.expm1(big_b)}
    draw_curves(left, t, curves, "Weight of the loss", "weight")
    left.set(yscale="symlog", xlabel="t")
    gradients = {"right, in x(t): 1": np.ones_like(t), "printed, in x(0): -exp(-B/2)": -np.exp(-big_b / 2)}
    draw_curves(right, t, gradients, "Gradient of log p(x(t) | x(0)), over the right one", "ratio")
    right.set(xlabel="t", ylim=(-1.2, 1.2))
    save_figure(figure, out / "formulas.png")


def draw_last_step(out: Path, ends: Mapping[str, Tensor]) -> None:
    """Write a part of the spiral without noise as both ends of the sampler leave it, exact scores."""
    figure, every = planes.panels(len(ends), width=4.6)
    angle = np.linspace(1.5, 4.5, 2000) * np.pi
    for axes, (title, x) in zip(every, ends.items(), strict=True):
        axes.plot(angle * np.cos(angle) / 10, angle * np.sin(angle) / 10, color="0.7", linewidth=0.8)
        planes.draw_points(planes.frame(axes, f"Spiral without noise: {title}", LIMIT), x, LEARNED[0])
        axes.set(xlim=(0.9, 1.4), ylim=(-0.25, 0.25))
    save_figure(figure, out / "last-step.png")


@torch.no_grad()
def draw_densities(out: Path, log_densities: Mapping[str, Callable[[Tensor], Tensor]], cells: int) -> None:
    """Write log-densities on a square as images, all on the scale of the first."""
    figure, every = planes.panels(len(log_densities))
    _, rows = planes.mesh(LIMIT, cells)
    values = {title: f(rows).double().numpy() for title, f in log_densities.items()}
    top = float(np.exp(next(iter(values.values())).max()))
    for axes, (title, found) in zip(every, values.items(), strict=True):
        planes.draw_density(planes.frame(axes, f"Density: {title}", LIMIT), found, LIMIT, top)
    save_figure(figure, out / "densities.png")
