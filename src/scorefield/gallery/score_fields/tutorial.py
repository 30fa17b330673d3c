"""Score fields in the plane: the tutorial on a mixture of two Gaussians as published, and corrected.

The page learns the score at one level of noise and follows it by Langevin dynamics, then at six levels and anneals.
Its panels are one step late, its chains have not mixed, its second loss hardly sees five of the six levels, and its
last steps are too small to move anything. `score_fields_corrected` mends levels, steps and weights.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from scorefield.gallery.drawing.planes import mesh
from scorefield.gallery.report import Results, row
from scorefield.gallery.score_fields import corrected as mended
from scorefield.gallery.score_fields import figures
from scorefield.gallery.score_fields.training import (
    LEVELS,
    ROWS,
    SINGLE,
    TARGET,
    Trained,
    exact_clusters,
    floor,
    is_right,
    nodes,
    relative_error,
    train,
    zero,
)
from scorefield.inference import langevin
from scorefield.numerics.shapes import Field
from scorefield.numerics.tensors import spawn

PRINTED = [192.8589, 197.8407, 196.8402, 198.7428, 194.3992, 198.6634, 194.6108, 197.0947, 191.6466, 197.7943]
PRINTED_ANNEALED = [3306.6889, 3374.6170, 3296.4916, 3328.9254, 3302.5448, 3362.3191, 3349.0398, 3337.2041]
PRINTED_ANNEALED += [3354.9199, 3328.9864]
"""The losses that the page prints, of every tenth epoch: of one level, and of six."""

EPOCHS, SHORT = 100, 20
"""Epochs of the page, and of the training with weights, which needs fewer."""

SIZE, STEPS = 0.01, 501
LOST = 10.0
"""A chain that ends so far from the origin is lost: the data are within 6."""

SHOWN = (0, 1, 101, 201, 301, 401)
"""Langevin steps after which the page looks, at what it calls 0, 100, ..., 500."""


def run(out: Path, *, seeds: int = 10, quick: bool = False, full: bool = False) -> Results:
    """Make the tutorial below `out`; return every published number beside ours.

    One level is trained with at most 3 seeds, six levels with 1; full: with all, 6 minutes a seed more.
    """
    epochs, short, chains = (1, 1, 2_000) if quick else (EPOCHS, SHORT, 100_000)
    few, fewer = (seeds, seeds) if full and not quick else (min(seeds, 1 if quick else 3), 1)
    size = ROWS // 10 if quick else ROWS
    single = [train(seed, [SINGLE], epochs, rows=size) for seed in range(few)]
    annealed = [train(seed, LEVELS, epochs, rows=size) for seed in range(fewer)]
    weighted = [train(seed, LEVELS, short, power=2, rows=size) for seed in range(fewer)]
    models = [mended.learn(seed, 200 if quick else 6000) for seed in range(fewer)]
    return (
        truths(out)
        | one_level(out, single, steps=600 if quick else 3000)
        | six_levels(out, annealed, weighted, models, steps=10 if quick else 150)
        | corrected(out / "corrected", models, chains)
    )


def truths(out: Path) -> Results:
    """Draw the target by the page's formulas and by right ones; return where they differ."""
    exact_density = lambda x: TARGET.log_prob(x).exp()
    figures.draw_target(out / "as-published" / "target.png", figures.page_density, figures.page_score, "page")
    figures.draw_target(out / "corrected" / "target.png", exact_density, TARGET.score, "exact")
    figures.draw_corners(out / "corrected" / "corners.png")
    corner, plot = torch.full((1, 2), -5.0, dtype=torch.float64), mesh(figures.EDGE, 30)[1]
    error = 1 - figures.page_score(plot).norm(dim=1) / TARGET.score(plot).norm(dim=1)
    points, weights = nodes(TARGET)
    integral = float(weights @ (figures.page_density(points) / exact_density(points)))
    off = float((error > 0.1).double().mean())
    return (
        row("integral of the page's density", None, [integral], 1.0)
        | row("integral of the page's kernel (19) at noise 0.1", None, [figures.page_kernel_mass(SINGLE)], 1.0)
        | row("score at (-5, -5) by the page's formula", None, [float(figures.page_score(corner)[0, 0])], 5.0)
        | row("share of the page's grid where its score is off by a tenth", None, [off], 0.0)
    )


def losses(name: str, printed: Sequence[float], runs: Sequence[Trained], levels: Sequence[float]) -> Results:
    """Return the rows of the losses that the page prints, and of their mean."""
    known = {"floor": floor(levels), "zero": zero(levels)}
    epochs, results = range(10, len(runs[0].losses) + 1, 10), Results()
    for epoch, loss in zip(epochs, printed, strict=False):
        results |= row(f"{name}: loss of epoch {epoch}", loss, [r.losses[epoch - 1] for r in runs], **known)
    means = [sum(r.losses[9::10] or r.losses) / len(r.losses[9::10] or r.losses) for r in runs]
    return results | row(f"{name}: mean of the printed losses", sum(printed) / len(printed), means, **known)


def one_level(out: Path, runs: list[Trained], steps: int) -> Results:
    """Draw and return what the page does with noise 0.1: losses, field, Langevin dynamics from a grid."""
    noised, first = TARGET.noised(1.0, SINGLE), runs[0].at(SINGLE)
    figures.draw_learned(
        out / "as-published" / "fields.png", {"True score by the page's formula": figures.page_score, "Learned": first}
    )
    smooth = {"Exact score of the data with noise 0.1": noised.score, "Learned": first}
    figures.draw_learned(out / "corrected" / "fields.png", smooth)
    figures.draw_losses(out / "as-published" / "loss.png", runs, PRINTED, floor([SINGLE]), zero([SINGLE]))
    results = losses("one level", PRINTED, runs, [SINGLE])
    errors = [relative_error(r.at(SINGLE), SINGLE) for r in runs]
    results |= row("one level: relative error of the score", None, errors, 0.0, 1.0)
    paths = [follow(r.at(SINGLE), STEPS, seed) for seed, r in enumerate(runs)]
    draw_panels(out, paths[0])
    true, long = exact_clusters().mass, follow(noised.score, steps, 0)
    for step in (401, 501):
        name = f"Langevin, step {step}: share of the right cluster"
        results |= row(f"{name}, learned score", None, [share(path[step]) for path in paths], true)
        results |= row(f"{name}, exact score", None, [share(long[step])], true)
    results |= row(f"Langevin, step {steps}: share of the right cluster, exact score", None, [share(long[-1])], true)
    shares = {"exact score": [share(x) for x in long[::50]], "learned": [share(x) for x in paths[0][::50]]}
    figures.draw_mixing(out / "corrected" / "mixing.png", shares, true, 50)
    return results


def follow(score: Field, steps: int, seed: int) -> list[Tensor]:
    """Return the states of Langevin dynamics from the page's grid, 35 points a side from -5 to 5."""
    start = mesh(5.0, 35)[1].flip(1)  # the first coordinate outside, as on the page
    return [start, *langevin.unadjusted(score, start, SIZE, steps, spawn(seed, "langevin"))]


def share(x: Tensor) -> float:
    """Return the share of points in the right cluster."""
    return float(is_right(x).double().mean())


def draw_panels(out: Path, path: Sequence[Tensor]) -> None:
    """Write Langevin states as the page shows them, and those that its titles promise."""
    late = [f'the page\'s "Step {100 * i}": after {step}' for i, step in enumerate(SHOWN)]
    figures.draw_chains(
        out / "as-published" / "langevin.png", [path[i] for i in SHOWN], late, [0.0] * len(SHOWN), sampled=1000
    )
    steps = range(0, STEPS, 100)
    titles = [f"Step {step}" for step in steps]
    noises = [SINGLE] * len(titles)
    figures.draw_chains(out / "corrected" / "langevin.png", [path[i] for i in steps], titles, noises)


def six_levels(
    out: Path, runs: list[Trained], weighted: list[Trained], models: list[mended.ScoreModel], steps: int
) -> Results:
    """Draw and return what the page does with six levels, and what the weight s^2 of the loss changes."""
    figures.draw_losses(out / "as-published" / "annealed-loss.png", runs, PRINTED_ANNEALED, floor(LEVELS), zero(LEVELS))
    results = losses("six levels", PRINTED_ANNEALED, runs, LEVELS)
    known = {"floor": floor(LEVELS, 2), "zero": zero(LEVELS, 2)}
    results |= row("six levels, weighted by s²: last loss", None, [r.losses[-1] for r in weighted], **known)
    errors: dict[str, list[float]] = {}
    ways: dict[str, list[mended.Scores]] = {
        "without weight": [r.at for r in runs],
        "weighted by s²": [r.at for r in weighted],
    }
    ways |= {"corrected": [mended.learned(model) for model in models]}
    for name, scores in ways.items():
        table = [[relative_error(at(s), s) for s in LEVELS] for at in scores]
        errors[name] = table[0]
        for i, s in enumerate(LEVELS):
            results |= row(f"{name}: relative error of the score at {s}", None, [line[i] for line in table], 0.0, 1.0)
    figures.draw_errors(out / "corrected" / "errors.png", errors)
    return results | draw_annealed(out, runs, weighted, steps)


def draw_annealed(out: Path, runs: list[Trained], weighted: list[Trained], steps: int) -> Results:
    """Write the page's annealed chains by its titles and by right ones; return where they end."""
    start = mesh(10.0, 35)[1].flip(1)
    results, paths = Results(), {}
    for name, scores in {
        "exact scores": [mended.exact] * 10,
        "trained without weight": [r.at for r in runs],
        "trained with weight s²": [r.at for r in weighted],
    }.items():
        paths[name] = [mended.published(at, start, spawn(seed, "annealed"), steps) for seed, at in enumerate(scores)]
        ends = [path[-1] for path in paths[name]]
        lost = [x.norm(dim=1) > LOST for x in ends]
        shares = [float(far.double().mean()) for far in lost]
        results |= row(f"the page's annealing, {name}: share of lost chains", None, shares, 0.0)
        kept = [x[~far] for x, far in zip(ends, lost, strict=True)]
        results |= mended.rows(f"the page's annealing, {name}, the others", kept)
    states = paths["trained without weight"][0]
    late = ['the page\'s "Initial"', *(f'the page\'s "noise = {s}": before it' for s in LEVELS[1:])]
    figures.draw_chains(out / "as-published" / "annealed.png", states[:6], late, LEVELS, sampled=5000)
    titles = ["Start", *(f"after noise {s}" for s in LEVELS)]
    noises = [LEVELS[0], *LEVELS]
    figures.draw_chains(out / "corrected" / "annealed-page.png", states, titles, noises)
    figures.draw_chains(out / "corrected" / "annealed-weighted.png", paths["trained with weight s²"][0], titles, noises)
    return results


def corrected(out: Path, models: list[mended.ScoreModel], chains: int) -> Results:
    """Draw and return where chains end with levels and steps that suit the data."""
    results = mended.with_exact_scores(chains, chains // 10)
    found, ends = mended.with_models(models, chains, points=chains // 50)
    draw = spawn(0, "shown")
    shown = {
        "Samples of the target": TARGET.sample(5000, draw),
        "Annealed with momentum, learned scores": ends[0],
        "By the flow of the same model": mended.by_flow(models[0], 5000, spawn(0, "flow")),
    }
    figures.draw_ends(out / "ends.png", shown)
    return results | found
