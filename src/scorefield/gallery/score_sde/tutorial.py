"""Score-based modelling through SDEs: the tutorial as published, and corrected with a network over all times.

The target is N(-1, 0.2^2) and N(1, 0.2^2) in equal parts. The page trains 257 parameters at six levels of noise from
2 to 0.5 and samples by annealed Langevin dynamics. Its smallest noise is 2.5 times the width of a mode, so what it
recovers is the target smoothed, at best. `score_sde_corrected` does what the title says; `score_sde_rewrite` is the
page's later version; `linear_sde` checks the theory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from scorefield.gallery import line
from scorefield.gallery.drawing.curves import (
    animate,
    draw_bars,
    draw_curves,
    draw_dots,
    draw_losses,
    draw_paths,
    panels,
    picture,
)
from scorefield.gallery.line import F64
from scorefield.gallery.networks import descend
from scorefield.gallery.report import Results, row, save_figure
from scorefield.gallery.score_sde import corrected as score_sde_corrected
from scorefield.gallery.score_sde import linear_sde
from scorefield.gallery.score_sde import rewrite as score_sde_rewrite
from scorefield.inference import langevin
from scorefield.inference.path_integral import total_variation
from scorefield.numerics.shapes import Field
from scorefield.numerics.tensors import normal_like, spawn
from scorefield.training.objectives.losses import explicit

TARGET = line.mixture([0.5, 0.5], [-1.0, 1.0], [0.2, 0.2])
GRID = np.linspace(-2, 2, 200)
PDF, SCORE = line.pdf(TARGET, GRID), TARGET.score(line.column(GRID))[:, 0].numpy()
LIMITS = (1.1 * SCORE.min(), 1.1 * SCORE.max())
LEVELS = torch.logspace(1, -1, 6, base=2, dtype=F64)
SMALLEST = float(LEVELS[-1])
FLOOR, ZERO = line.noise_floor(TARGET, LEVELS) / 2, 0.5
SMOOTHED = TARGET.noised(1.0, SMALLEST)

FIRST = 0.532838
PUBLISHED = [
    0.2715468,
    0.2695423,
    0.2514634,
    0.2366589,
    0.2330885,
    0.2288466,
    0.2295872,
    0.2255296,
    0.2214345,
    0.2210533,
]
PUBLISHED += [
    0.1993930,
    0.2150960,
    0.2364079,
    0.2181221,
    0.2066387,
    0.2014873,
    0.1989122,
    0.1947048,
    0.1994981,
    0.2005891,
]
"""The losses that the page prints: of the initial network, and after every 50 steps."""

EVERY = 8
"""Steps between the states that are kept, as on the page."""

CHAINS, MANY, STEP = 256, 20_000, 1 / 30
UPDATES = (49, 51, 51, 51, 51, 46)
"""Langevin steps at each level: 299 in all, as the page's integer division deals them out."""


@dataclass(frozen=True)
class Trained:
    """A network at its end, the loss before each step, and its answer on the grid at the smallest noise over time.

    The page keeps what the network says before a step under the number of that step; here it is what it says after.
    """

    net: nn.Module
    losses: list[float]
    scores: list[np.ndarray]


def loss(net: Callable[[Tensor], Tensor], sample: Tensor, levels: Tensor, generator: torch.Generator) -> Tensor:
    """Return 1/2 mean s^2 |score(x + s z) + z / s|^2 over all rows and levels, with one z a row for all its levels."""
    z = normal_like(sample, generator).repeat(len(levels), 1)
    clean = sample.repeat(len(levels), 1)
    s = levels.repeat_interleave(len(sample))[:, None]
    score = lambda x: net(torch.cat([x, s], 1))
    return (s[:, 0] ** 2 * explicit(score, clean + s * z, lambda x: (clean - x) / s**2)).mean()


def train(seed: int, steps: int) -> Trained:
    """Train the page's network on 1,024 rows by Adam, and keep what it says after every EVERY steps."""
    sample = TARGET.sample(1024, spawn(seed, "rows")).float()
    net = line.dense(2, 64, 1, generator=spawn(seed, "init"))
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01, fused=True)
    noise, losses, scores = spawn(seed, "noise"), [], [line.values(net, GRID, SMALLEST)]
    for step in range(1, steps + 1):
        losses.append(descend(optimiser, loss(net, sample, LEVELS.float(), noise)))
        if step % EVERY == 0:
            scores.append(line.values(net, GRID, SMALLEST))
    return Trained(net, losses, scores)


def learned(net: nn.Module) -> Callable[[float], Field]:
    """Return the network's score by the level."""
    return lambda level: lambda x: net(torch.cat([x, torch.full_like(x, level)], 1))


def exact(level: float) -> Field:
    """Return the score of the target under noise."""
    score = TARGET.noised(1.0, level).score
    return lambda x: score(x.double()).to(x)


def anneal(
    scores: Callable[[float], Field],
    generator: torch.Generator,
    chains: int = CHAINS,
    updates: Sequence[int] = UPDATES,
) -> Tensor:
    """Return the page's Langevin trajectories, (1 + all updates, chains): from N(0, 1), one step size at all levels."""
    path = [normal_like(torch.empty(chains, 1), generator)]
    for level, count in zip(LEVELS.tolist(), updates, strict=True):
        path += langevin.unadjusted(scores(level), path[-1], STEP, count, generator)
    return torch.stack(path)[:, :, 0].double()


def share_near_zero(x: Tensor) -> float:
    """Return the share of points within 0.5 of zero, the valley."""
    return float((x.abs() < 0.5).double().mean())


def run(out: Path, *, seeds: int = 10, quick: bool = False) -> Results:
    """Make the tutorial as published and corrected below `out`; return every number. Under 3 minutes on one core."""
    count = min(seeds, 1) if quick else seeds
    results = {"as published: " + name: found for name, found in published(out / "as-published", count, quick).items()}
    results |= {"theory: " + name: found for name, found in theory(out / "corrected", quick).items()}
    corrected = score_sde_corrected.run(out / "corrected", count, quick)
    results |= {"corrected: " + name: found for name, found in corrected.items()}
    rewrite = score_sde_rewrite.run(out, count, quick)
    return results | {"rewrite: " + name: found for name, found in rewrite.items()}


def theory(out: Path, quick: bool) -> Results:
    """Check the linear SDEs, and show where the page's kernels differ."""
    found = linear_sde.checks() | linear_sde.draw_kernels(out, TARGET, GRID)
    return found | linear_sde.draw_moments(out, score_sde_rewrite.TARGET, paths=500 if quick else 10_000)


def published(out: Path, seeds: int, quick: bool) -> Results:
    """Do what the page did, but with the exact log p(t, x), for its rewrite's target too, and for sub-VP."""
    draw_data(out)
    linear_sde.draw_marginals(out, TARGET, GRID)
    linear_sde.draw_marginals(out, score_sde_rewrite.TARGET, score_sde_rewrite.GRID, "rewrite-")
    steps = 100 if quick else 1000
    runs = [train(seed, steps) for seed in range(seeds)]
    paths = [anneal(learned(found.net), spawn(seed, "langevin")) for seed, found in enumerate(runs)]
    sample = TARGET.sample(1024, spawn(0, "rows"))
    draw_fits(out, runs[0], sample)
    draw_training(out, runs, steps)
    draw_samples(out, paths[0])
    return rows(runs, paths, steps) | exact_chains(CHAINS if quick else MANY)


def rows(runs: list[Trained], paths: list[Tensor], steps: int) -> Results:
    """Return the numbers that the page prints and what its figures show, over all seeds."""
    floor = float(FLOOR.mean())
    results = row("loss of the initial network", FIRST, [r.losses[0] for r in runs], floor, ZERO)
    for step, value in zip(range(50, steps + 1, 50), PUBLISHED, strict=False):
        results |= row(f"loss at step {step}", value, [r.losses[step - 1] for r in runs], floor, ZERO)
    last = [[r.losses[step - 1] for step in range(50, steps + 1, 50)][-10:] for r in runs]
    for name, find in (("smallest", min), ("largest", max), ("mean", lambda x: sum(x) / len(x))):
        results |= row(f"{name} of the last ten printed losses", find(PUBLISHED[-10:]), [*map(find, last)], floor, ZERO)
    densities = [line.summed(r.scores[-1], GRID) for r in runs]
    smoothed = line.pdf(SMOOTHED, GRID)
    best = line.summed(exact(SMALLEST)(line.column(GRID))[:, 0].numpy(), GRID)
    for name, truth in (("the target", PDF), ("the target smoothed by 0.5, within the grid", within(smoothed))):
        values = [total_variation(q, truth, GRID) for q in densities]
        results |= row(
            f"recovered density: total variation to {name}", None, values, total_variation(best, truth, GRID)
        )
    peak = f"recovered density: peak (target {PDF.max():.3f}, smoothed {smoothed.max():.3f})"
    results |= row(peak, None, [q.max() for q in densities])
    wide = np.linspace(-6, 6, 1201)
    near = [line.mass_below(0.5, q, wide) - line.mass_below(-0.5, q, wide) for q in map(wide_pdf, (TARGET, SMOOTHED))]
    name = f"Langevin: share within 0.5 of zero (target {near[0]:.3f}, smoothed {near[1]:.3f})"
    results |= row(name, None, [share_near_zero(path[-1]) for path in paths])
    std = [float(density.covariance) ** 0.5 for density in (TARGET, SMOOTHED)]
    name = f"Langevin: standard deviation (target {std[0]:.3f}, smoothed {std[1]:.3f})"
    return results | row(name, None, [float(path[-1].std()) for path in paths])


def within(values: np.ndarray) -> np.ndarray:
    """Return a density as that of the points within the grid, which is all that a recovered one can be."""
    return values / np.trapezoid(values, GRID)


def exact_chains(chains: int) -> Results:
    """Return where the page's chains end with exact scores, and with as many steps at each level."""
    results, true = Results(), float(SMOOTHED.covariance) ** 0.5
    ways = {"": UPDATES, ", 50 steps at each level": (50,) * len(LEVELS)}
    for name, updates in ways.items():
        end = anneal(exact, spawn(0, "exact chains"), chains, updates)[-1]
        results |= row(f"Langevin, exact scores{name}: standard deviation", None, [float(end.std())], true)
    return results


def wide_pdf(density: line.GaussianMixture) -> np.ndarray:
    """Return a density from -6 to 6."""
    return line.pdf(density, np.linspace(-6, 6, 1201))


def draw_data(out: Path) -> None:
    """Write the sample with the density, and the score."""
    sample = TARGET.sample(1024, spawn(0, "rows"))
    figure, (axes,) = panels()
    draw_bars(axes, sample[:, 0].numpy(), 80, GRID, {"exact density": PDF}, "Data")
    draw_dots(axes, sample[:, 0].numpy(), GRID, PDF)
    save_figure(figure, out / "data.png")
    figure, (axes,) = panels()
    draw_curves(axes, GRID, {"exact score": SCORE}, "Score of the target", "score")
    draw_dots(axes, sample[:, 0].numpy(), GRID, SCORE)
    save_figure(figure, out / "score.png")


def draw_fits(out: Path, trained: Trained, sample: Tensor) -> None:
    """Write scores and recovered densities at all levels and at the last, the latter beside what it can reach."""
    scores = [line.values(trained.net, GRID, level) for level in LEVELS.tolist()]
    densities = [line.summed(score, GRID) for score in scores]
    smoothed = SMOOTHED.score(line.column(GRID))[:, 0].numpy()
    draw_levels(out, "fits", "score", SCORE, smoothed, scores, sample)
    draw_levels(out, "densities", "density", PDF, line.pdf(SMOOTHED, GRID), densities, sample)


def draw_levels(
    out: Path, name: str, what: str, exact: np.ndarray, smoothed: np.ndarray, found: list[np.ndarray], sample: Tensor
) -> None:
    """Write one curve a level with the exact one and the sample, and that of the last level alone."""
    figure, (axes,) = panels()
    levels = {f"sigma {s:.3f}": curve for s, curve in zip(LEVELS.tolist(), found, strict=True)}
    draw_curves(axes, GRID, {f"exact {what}": exact} | levels, f"Learned {what}, by level of noise", what)
    draw_dots(axes, sample[:, 0].numpy(), GRID, exact)
    save_figure(figure, out / f"{name}.png")
    curves = {f"exact {what}": exact, "of the target smoothed by 0.5": smoothed, "learned at sigma 0.5": found[-1]}
    picture(out / f"{name}-last.png", GRID, curves, f"Learned {what} at the smallest noise", what)


def draw_training(out: Path, runs: list[Trained], steps: int) -> None:
    """Write the losses of all seeds between what can be reached and what a zero network has, and two animations."""
    figure, (axes,) = panels()
    printed = dict(zip(range(50, 1001, 50), PUBLISHED, strict=True))
    losses = [found.losses for found in runs]
    draw_losses(axes, losses, f"Loss, {len(runs)} seeds", float(FLOOR.mean()), printed, ZERO)
    axes.set(xlim=(0, steps), ylim=(0.15, 0.6))
    save_figure(figure, out / "loss.png")
    scores, titles = runs[0].scores, [f"step {EVERY * i}" for i in range(len(runs[0].scores))]
    animate(out / "fits.gif", GRID, {"exact score": SCORE}, scores, titles, 20, "score", LIMITS)
    densities = [line.summed(score, GRID) for score in scores]
    animate(out / "densities.gif", GRID, {"exact density": PDF}, densities, titles, 10, "density", (0.0, 1.35))


def draw_samples(out: Path, path: Tensor) -> None:
    """Write the Langevin trajectories and the histogram of their ends."""
    figure, (axes,) = panels()
    title = f"Annealed Langevin: M = 50, dt = {STEP:.4f}"
    draw_paths(axes, STEP * np.arange(len(path)), path.numpy(), title, "time")
    save_figure(figure, out / "langevin.png")
    figure, (axes,) = panels()
    wide = np.linspace(-6, 6, 1201)
    curves = {"exact density": wide_pdf(TARGET), "target smoothed by 0.5": wide_pdf(SMOOTHED)}
    draw_bars(axes, path[-1].numpy(), 40, wide, curves, "Ends of the chains")
    save_figure(figure, out / "langevin-histogram.png")
