"""The pictures of tutorial 004: those it shows, and those that show what was corrected."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.patches import Circle
from scipy.stats import gaussian_kde
from torch import Tensor

from scorefield.gallery.drawing import curves
from scorefield.gallery.drawing.planes import (
    angle_colours,
    draw_arrows,
    draw_contours,
    draw_points,
    frame,
    mesh,
    panels,
)
from scorefield.gallery.report import save_figure
from scorefield.gallery.score_fields.training import LEVELS, MEANS, STDS, TARGET, Trained
from scorefield.numerics.shapes import Field
from scorefield.numerics.tensors import normal_like, spawn

EDGE = 5.0
"""The pictures show the square from -5 to 5."""


def page_density(x: Tensor) -> Tensor:
    """Return what the page calls the likelihood: the sum of the components, without their weights of a half."""
    return 2 * TARGET.log_prob(x).exp()


def page_kernel_mass(s: float) -> float:
    """Return the integral of the page's kernel (19), exp(-|x|^2 / 2 s^2) / sqrt((2 pi)^d s^d) with d = 2, on a grid."""
    axis, x = mesh(8 * s, 161)
    kernel = (-x.square().sum(1) / (2 * s**2)).exp() / (2 * math.pi * s)
    return float(kernel.sum()) * float(axis[1] - axis[0]) ** 2


def page_score(x: Tensor) -> Tensor:
    """Return the page's score, sum_k p_k (m_k - x) / c_k^2 / (sum_k p_k + 1e-8), which vanishes where p does."""
    density = page_density(x)
    return TARGET.score(x) * (density / (density + 1e-8))[:, None]


def draw_target(path: Path, density: Field, score: Field, name: str) -> None:
    """Write samples, the score over contours of the density, and the density."""
    figure, (left, middle, right) = panels(3)
    draw_points(frame(left, "1,000 samples", EDGE), TARGET.sample(1000, spawn(0, "shown")), size=6.0)
    draw_contours(middle, density, EDGE, 20)
    draw_arrows(frame(middle, f"Score, {name}", EDGE), score, mesh(EDGE, 25)[1], 10.0)
    side, rows = mesh(EDGE, 100)
    values = density(rows).reshape(100, 100).numpy()
    image = right.contourf(side, side, values, 50, cmap="viridis")
    figure.colorbar(image, ax=right, fraction=0.046, label="density")
    frame(right, f"Density, {name}", EDGE)
    save_figure(figure, path)


def draw_corners(path: Path) -> None:
    """Write the share of the true score that the page's formula keeps, and both over the grid."""
    figure, (left, middle, right) = panels(3)
    draw_arrows(frame(left, "Score by the page's formula", EDGE), page_score, mesh(EDGE, 15)[1], 5.0)
    draw_arrows(frame(middle, "Exact score", EDGE), TARGET.score, mesh(EDGE, 15)[1], 5.0)
    density = page_density(mesh(EDGE, 200)[1])
    kept = (density / (density + 1e-8)).reshape(200, 200).numpy()
    image = right.imshow(kept, origin="lower", extent=(-EDGE, EDGE, -EDGE, EDGE), vmin=0, vmax=1, cmap="viridis")
    figure.colorbar(image, ax=right, fraction=0.046, label="page / exact")
    frame(right, "What the formula keeps of the score", EDGE)
    save_figure(figure, path)


def draw_learned(path: Path, fields: Mapping[str, Field]) -> None:
    """Write score fields beside each other as the page does, 15 arrows a side."""
    figure, axes = panels(len(fields))
    for one, (name, score) in zip(axes, fields.items(), strict=True):
        draw_arrows(frame(one, name, EDGE), score, mesh(EDGE, 15)[1], 5.0)
    save_figure(figure, path)


def draw_losses(path: Path, runs: Sequence[Trained], printed: Sequence[float], floor: float, zero: float) -> None:
    """Write the loss of each epoch, the printed ones, the loss of the true score and that of a zero network."""
    figure, (axes,) = curves.panels()
    shown = {10 * (i + 1): loss for i, loss in enumerate(printed)}
    title = f"Denoising loss, {len(runs)} seed{'s' * (len(runs) > 1)}"
    curves.draw_losses(axes, [run.losses for run in runs], title, floor, shown, zero)
    low, high = axes.get_ylim()
    axes.set(xlabel="epoch", ylim=(low, high + (high - low) / 2))  # room for the legend
    save_figure(figure, path)


def draw_chains(
    path: Path, states: Sequence[Tensor], titles: Sequence[str], noises: Sequence[float], sampled: int = 0
) -> None:
    """Write a panel for each state of chains, coloured by the angle at which they started.

    noises: the data under such noise are drawn as contours; sampled: as the page does, of a kernel density estimate of
    so many samples.
    """
    figure, axes = panels(3, -(-len(states) // 3))
    colours = angle_colours(states[0])
    for one, x, title, noise in zip(axes, states, titles, noises, strict=False):
        density = _estimate(noise, sampled) if sampled else lambda x, s=noise: TARGET.noised(1.0, s).log_prob(x).exp()
        draw_contours(one, density, EDGE)
        draw_points(frame(one, title, EDGE), x, colours)
    for one in axes[len(states) :]:
        one.set_visible(False)
    save_figure(figure, path)


def _estimate(noise: float, sampled: int) -> Field:
    draw = spawn(0, "estimate")
    clean = TARGET.sample(sampled, draw)
    kernels = gaussian_kde((clean + noise * normal_like(clean, draw)).T.numpy())
    return lambda x: torch.from_numpy(kernels(x.T.numpy()))


def draw_errors(path: Path, errors: Mapping[str, Sequence[float]]) -> None:
    """Write the relative error of score networks at each level of the page."""
    figure, (axes,) = curves.panels()
    for (name, values), colour in zip(errors.items(), curves.LEARNED, strict=False):
        axes.loglog(LEVELS, values, ".-", color=colour, label=name)
    axes.axhline(1, color=curves.EXACT, linestyle=":", label="zero network")
    axes.set(
        title="Error of the learned score",
        xlabel="noise",
        ylabel="E |error|² / E |true score|²",
        ylim=(None, 30),
    )
    axes.legend(fontsize=8, frameon=False, ncols=2)
    save_figure(figure, path)


def draw_mixing(path: Path, shares: Mapping[str, Sequence[float]], true: float, every: int) -> None:
    """Write the share of chains in the right cluster over the steps of plain Langevin dynamics."""
    figure, (axes,) = curves.panels()
    for (name, share), colour in zip(shares.items(), curves.LEARNED, strict=False):
        axes.plot([every * i for i in range(len(share))], share, color=colour, label=name)
    axes.axhline(true, color=curves.EXACT, linestyle="--", label=f"of the target, {true:.4f}")
    axes.axvline(500, color="0.8", linewidth=0.8)
    axes.set(title="The page stops at 500 steps", xlabel="step", ylabel="share of the right cluster", ylim=(0, 0.6))
    axes.legend(fontsize=8, frameon=False)
    save_figure(figure, path)


def draw_ends(path: Path, ends: Mapping[str, Tensor], shown: int = 5000) -> None:
    """Write the ends of chains over circles of one and two standard deviations of both components."""
    figure, axes = panels(len(ends))
    for one, (name, x) in zip(axes, ends.items(), strict=True):
        draw_points(frame(one, name, EDGE), x[:shown], size=2.0)
        for mean, std in zip(MEANS.tolist(), STDS.tolist(), strict=True):
            for radius in std, 2 * std:
                one.add_patch(Circle(mean, radius, fill=False, color="black", linewidth=0.8))
    save_figure(figure, path)
