"""The pictures of tutorial 001: those it shows, and those that show what was corrected."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from scorefield.gallery.drawing.curves import (
    LEARNED,
    SAMPLE,
    animate,
    draw_bars,
    draw_curves,
    draw_dots,
    draw_losses,
    panels,
    picture,
)
from scorefield.gallery.finite_difference import published
from scorefield.gallery.finite_difference.training import (
    EVERY,
    GRID,
    PDF,
    SCORE,
    Study,
    by_simpson,
    by_sum,
    fisher,
    total_variation,
)
from scorefield.gallery.report import save_figure

TITLES = {
    "a": "a: explicit, weighted by the density",
    "b": "b: explicit, without weight",
    "c": "c: finite differences on the grid",
    "d": "d: finite differences, 1,024 samples",
    "e": "e: a, then d",
    "f": "f: finite differences, 128 samples",
}
X, P, S = GRID[:, 0].numpy(), PDF.numpy(), SCORE[:, 0].numpy()
LIMITS = (1.4 * S.min(), 1.4 * S.max())


def as_published(studies: list[Study], folder: Path, frames: int | None) -> None:
    """Write the 20 figures and 3 animations of the tutorial; frames: fewer of them."""
    first = studies[0]
    _data(first.sample, folder)
    for letter in TITLES:
        _training(letter, studies, folder)
    _score_animation("a", first, folder, frames)
    _score_animation("d", first, folder, frames)
    _density_animation("d", first, folder, frames)


def corrected(studies: list[Study], folder: Path) -> None:
    """Write what was corrected: recovery, the scale of the losses, the trainings d and f."""
    _recovery(folder)
    _one_scale(studies, folder)
    _corrected_trainings(studies[0], folder)
    _all_seeds(studies, folder)


def _data(sample: Tensor, folder: Path) -> None:
    points = sample[:, 0].numpy()
    figure, (axes,) = panels()
    draw_bars(axes, points, 80, X, {"true density": P}, "Target and sample")
    draw_dots(axes, points, X, P)
    save_figure(figure, folder / "data.png")
    figure, (axes,) = panels()
    _score(axes, {}, sample, "Score of the target")
    save_figure(figure, folder / "score.png")


def _score(axes: Axes, learned: dict[str, np.ndarray], sample: Tensor, title: str) -> None:
    """Draw the true score at the sample, and learned ones."""
    draw_dots(axes, sample[:, 0].numpy(), X, S)
    draw_curves(axes, X, {"true score": S} | learned, title, "score").set_ylim(*LIMITS)


def _training(letter: str, studies: list[Study], folder: Path) -> None:
    first, runs = studies[0], [study.trained[letter] for study in studies]
    figure, (axes,) = panels()
    _score(axes, {"learned score": runs[0].score}, first.few if letter == "f" else first.sample, TITLES[letter])
    save_figure(figure, folder / f"{letter}-score.png")
    figure, (axes,) = panels()
    floor = first.floor(letter)
    draw_losses(axes, [run.losses for run in runs], TITLES[letter], floor, published.printed(letter))
    if floor:
        axes.set_ylim(1.5 * floor, -0.4 * floor)
    save_figure(figure, folder / f"{letter}-loss.png")
    curves = {"true density": P, "density of the learned score": by_sum(runs[0].score)}
    picture(folder / f"{letter}-density.png", X, curves, TITLES[letter], "density")


def _titles(letter: str, count: int) -> list[str]:
    return [f"{TITLES[letter]}, after {EVERY * i} steps" for i in range(count)]


def _score_animation(letter: str, study: Study, folder: Path, frames: int | None) -> None:
    scores = list(study.trained[letter].scores[:frames])
    titles = _titles(letter, len(scores))
    animate(folder / f"{letter}-score.gif", X, {"true score": S}, scores, titles, 20, "score", LIMITS)


def _density_animation(letter: str, study: Study, folder: Path, frames: int | None) -> None:
    densities = [by_sum(score) for score in study.trained[letter].scores[:frames]]
    titles, top = _titles(letter, len(densities)), 1.6 * P.max()
    animate(folder / f"{letter}-density.gif", X, {"true density": P}, densities, titles, 10, "density", (0.0, top))


def _recovery(folder: Path) -> None:
    """Draw the error of the density that each rule makes of the true score."""
    figure, (axes,) = panels()
    for colour, (name, rule) in zip(LEARNED, {"sum": by_sum, "Simpson": by_simpson}.items(), strict=False):
        found = rule(S)
        axes.plot(X, found - P, color=colour, label=f"{name}: total variation {total_variation(found):.1g}")
    axes.set(xlabel="x", ylabel="density less true density", title="Density recovered from the true score")
    axes.legend(frameon=False)
    save_figure(figure, folder / "recovery.png")


def _one_scale(studies: list[Study], folder: Path) -> None:
    """Draw the Fisher divergence of all trainings, whose losses have scales of their own, median of the seeds."""
    figure, (axes,) = panels()
    for colour, letter in zip(LEARNED, TITLES, strict=True):
        runs = np.array([[fisher(score) for score in study.trained[letter].scores] for study in studies])
        steps = EVERY * np.arange(runs.shape[1])
        axes.semilogy(steps, np.median(runs, 0), color=colour, label=TITLES[letter])
    axes.set(xlabel="step", ylabel="Fisher divergence (nats)", title="All trainings on one scale")
    axes.legend(frameon=False, fontsize=8)
    save_figure(figure, folder / "one-scale.png")


def _corrected_trainings(study: Study, folder: Path) -> None:
    """Draw d and f as published beside the corrected ones: scores and densities, by the same rule."""
    figure, axes = panels(2, 2)
    for left, right, letter, rows in zip(axes[::2], axes[1::2], "df", (study.sample, study.few), strict=True):
        shown = {"as published": letter, "stopped by held-out rows": f"{letter}, stopped"}
        shown["regularised"] = f"{letter}, regularised"
        found = {label: study.trained[name].score for label, name in shown.items()}
        _score(left, found, rows, TITLES[letter])
        densities = {label: by_simpson(score) for label, score in found.items()}
        draw_curves(right, X, {"true density": P} | densities, "densities by Simpson's rule", "density")
    save_figure(figure, folder / "few-samples.png")


def _all_seeds(studies: list[Study], folder: Path) -> None:
    """Draw Fisher divergence and total variation of every training and seed, with medians."""
    figure, axes = panels(2)
    names = list(studies[0].trained)
    measures = {"Fisher divergence (nats)": fisher, "total variation": lambda s: total_variation(by_simpson(s))}
    for ax, (label, measure) in zip(axes, measures.items(), strict=True):
        for place, name in enumerate(names):
            values = [measure(study.trained[name].score) for study in studies]
            ax.plot(values, [place] * len(values), "o", color=SAMPLE, alpha=0.4, markeredgewidth=0)
            ax.plot(np.median(values), place, "|", color="k", markersize=16, markeredgewidth=2)
        ax.set(xscale="log", xlabel=label, yticks=range(len(names)), yticklabels=names)
        ax.invert_yaxis()
    axes[0].set_title("Every seed, and the median")
    save_figure(figure, folder / "all-seeds.png")
