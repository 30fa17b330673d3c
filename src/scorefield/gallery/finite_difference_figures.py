"""The pictures of tutorial 001: those it shows, and those that show what was corrected."""

from pathlib import Path

import numpy as np
from torch import Tensor

from scorefield.gallery import curves, published
from scorefield.gallery.finite_difference_training import (
    EVERY,
    GRID,
    PDF,
    SCORE,
    TARGET,
    Study,
    by_simpson,
    by_sum,
    fisher,
    total_variation,
)
from scorefield.gallery.report import save_animation, save_figure

TITLES = {
    "a": "a: explicit, weighted by the density",
    "b": "b: explicit, without weight",
    "c": "c: finite differences on the grid",
    "d": "d: finite differences, 1,024 samples",
    "e": "e: a, then d",
    "f": "f: finite differences, 128 samples",
}
X, P, S = GRID[:, 0].numpy(), PDF.numpy(), SCORE[:, 0].numpy()


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
    figure, axes = curves.sheet()
    curves.histogram(axes[0, 0], sample[:, 0].numpy(), X, P).set_title("Target and sample")
    save_figure(figure, folder / "data.png")
    figure, axes = curves.sheet()
    curves.scores(axes[0, 0], X, S, {}, _scored(sample)).set_title("Score of the target")
    save_figure(figure, folder / "score.png")


def _training(letter: str, studies: list[Study], folder: Path) -> None:
    first, runs = studies[0], [study.trained[letter] for study in studies]
    rows = first.few if letter == "f" else first.sample
    figure, axes = curves.sheet()
    curves.scores(axes[0, 0], X, S, {"learned score": runs[0].score}, _scored(rows)).set_title(TITLES[letter])
    save_figure(figure, folder / f"{letter}-score.png")
    figure, axes = curves.sheet()
    curves.losses(axes[0, 0], [run.losses for run in runs], published.printed(letter), first.floor(letter))
    axes[0, 0].set_title(TITLES[letter])
    save_figure(figure, folder / f"{letter}-loss.png")
    figure, axes = curves.sheet()
    curves.densities(axes[0, 0], X, P, {"density of the learned score": by_sum(runs[0].score)})
    axes[0, 0].set_title(TITLES[letter])
    save_figure(figure, folder / f"{letter}-density.png")


def _score_animation(letter: str, study: Study, folder: Path, frames: int | None) -> None:
    run = study.trained[letter]
    figure, axes = curves.sheet()
    curves.scores(axes[0, 0], X, S, {"learned score": run.scores[0]}, _scored(study.sample))
    line = axes[0, 0].lines[-1]

    def draw(i: int) -> None:
        line.set_ydata(run.scores[i])
        axes[0, 0].set_title(f"{TITLES[letter]}, after {EVERY * i} steps")

    save_animation(figure, draw, frames or len(run.scores), 20, folder / f"{letter}-score.gif")


def _density_animation(letter: str, study: Study, folder: Path, frames: int | None) -> None:
    run = study.trained[letter]
    figure, axes = curves.sheet()
    curves.densities(axes[0, 0], X, P, {"density of the learned score": by_sum(run.scores[0])})
    axes[0, 0].set_ylim(0, 1.6 * P.max())
    line = axes[0, 0].lines[-1]

    def draw(i: int) -> None:
        line.set_ydata(by_sum(run.scores[i]))
        axes[0, 0].set_title(f"{TITLES[letter]}, after {EVERY * i} steps")

    save_animation(figure, draw, frames or len(run.scores), 10, folder / f"{letter}-density.gif")


def _recovery(folder: Path) -> None:
    """Draw the error of the density that each rule makes of the true score."""
    figure, axes = curves.sheet()
    for colour, (name, rule) in zip(curves.LEARNED, {"sum": by_sum, "Simpson": by_simpson}.items(), strict=False):
        found = rule(S)
        axes[0, 0].plot(X, found - P, color=colour, label=f"{name}: total variation {total_variation(found):.1g}")
    axes[0, 0].set(xlabel="x", ylabel="density less true density", title="Density recovered from the true score")
    axes[0, 0].legend(frameon=False)
    save_figure(figure, folder / "recovery.png")


def _one_scale(studies: list[Study], folder: Path) -> None:
    """Draw the Fisher divergence of all trainings, whose losses have scales of their own, median of the seeds."""
    figure, axes = curves.sheet()
    for colour, letter in zip(curves.LEARNED, TITLES, strict=True):
        runs = np.array([[fisher(score) for score in study.trained[letter].scores] for study in studies])
        steps = EVERY * np.arange(runs.shape[1])
        axes[0, 0].semilogy(steps, np.median(runs, 0), color=colour, label=TITLES[letter])
    axes[0, 0].set(xlabel="step", ylabel="Fisher divergence (nats)", title="All trainings on one scale")
    axes[0, 0].legend(frameon=False, fontsize=8)
    save_figure(figure, folder / "one-scale.png")


def _corrected_trainings(study: Study, folder: Path) -> None:
    """Draw d and f as published beside the corrected ones: scores and densities, by the same rule."""
    figure, axes = curves.sheet(2, 2)
    for (left, right), letter, rows in zip(axes, "df", (study.sample, study.few), strict=True):
        shown = {"as published": letter, "stopped by held-out rows": f"{letter}, stopped"}
        shown["regularised"] = f"{letter}, regularised"
        found = {label: study.trained[name].score for label, name in shown.items()}
        curves.scores(left, X, S, found, _scored(rows)).set_title(TITLES[letter])
        densities = {label: by_simpson(score) for label, score in found.items()}
        curves.densities(right, X, P, densities).set_title("densities by Simpson's rule")
    save_figure(figure, folder / "few-samples.png")


def _all_seeds(studies: list[Study], folder: Path) -> None:
    """Draw Fisher divergence and total variation of every training and seed, with medians."""
    figure, axes = curves.sheet(1, 2)
    names = list(studies[0].trained)
    measures = {"Fisher divergence (nats)": fisher, "total variation": lambda s: total_variation(by_simpson(s))}
    for ax, (label, measure) in zip(axes[0], measures.items(), strict=True):
        for place, name in enumerate(names):
            values = [measure(study.trained[name].score) for study in studies]
            ax.plot(values, [place] * len(values), "o", color=curves.SAMPLE, alpha=0.4, markeredgewidth=0)
            ax.plot(np.median(values), place, "|", color="k", markersize=16, markeredgewidth=2)
        ax.set(xscale="log", xlabel=label, yticks=range(len(names)), yticklabels=names)
        ax.invert_yaxis()
    axes[0, 0].set_title("Every seed, and the median")
    save_figure(figure, folder / "all-seeds.png")


def _scored(sample: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the points of a sample and the true score at each."""
    return sample[:, 0].numpy(), TARGET.score(sample)[:, 0].numpy()
