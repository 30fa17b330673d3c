"""Tutorial 003's digits as published, corrected step by step, and cured: numbers and pictures.

Every set of images is measured in the tutorial's units and beside the 447 test images.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor, nn

from scorefield.gallery.digits import figures, levels, training
from scorefield.gallery.digits.training import (
    FINER,
    FRESH,
    LEVELS,
    PUBLISHED,
    SIGMA,
    STILL,
    TEMPERATURE,
    Rule,
    chains,
    score,
)
from scorefield.gallery.drawing import curves
from scorefield.gallery.report import Results, row, save_figure
from scorefield.kinds.images.estimator import ImageDensity
from scorefield.numerics.tensors import spawn

SHORT, SHORT_SLICED, SHORT_STEPS = 260, 100, 1_500
"""Epochs of a default run, those of sliced score matching, and steps of the cures."""

LONG_STEPS, REPEATS = 4_000, 20
"""Steps of the cures in a full run; draws of noise on which a best network is judged again."""

ZERO = training.PIXELS / (2 * SIGMA)
"""The published loss of a network that returns 0."""

PRINTED = {
    "best validation loss": 223.34,
    "epoch of the best": 189.0,
    "epochs": 211.0,
    "last validation loss": 230.92,
    "mean validation loss of the last 20 epochs": 230.8,
}
"""What the published figure shows of early stopping."""

PAGE, NOISE, SMALL, UNITS, FROZEN, CLEAN = (
    "as published",
    "noise that fits the step",
    "+ steps a tenth as large",
    "+ pixels over 16",
    "+ frozen validation noise",
    "+ a last step that denoises, no tanh",
)
SLICED, DENOISING = "sliced score matching, one level", "denoising, one level, trained as long"
DEFAULT = "ImageDensity"

Trainings = dict[int, dict[str, Rule]]
"""By what pixels are divided by, and the rule of early stopping."""


def run(out: Path, *, seeds: int = 1, quick: bool = False, full: bool = False) -> Results:
    """Make the digits below `out`; return every published number beside ours, and the measures of all images.

    By default at most 260 epochs, 100 of sliced score matching, and 1,500 steps of the cures; full: until both rules
    of early stopping end, at most 1,000 epochs, and 4,000 steps; denoising stands at its best beside sliced then.
    """
    epochs = 2 if quick else training.EPOCHS if full else SHORT
    trained = [{top: training.train(seed, top, epochs) for top in (PUBLISHED, LEVELS)} for seed in range(seeds)]
    sliced_epochs = 1 if quick else training.EPOCHS if full else SHORT_SLICED
    sliced = [training.train(seed, LEVELS, sliced_epochs, training.slices) for seed in range(seeds)]
    steps, n = (2 if quick else LONG_STEPS if full else SHORT_STEPS), 16 if quick else 447
    stages = [corrections(both, n, seed) for seed, both in enumerate(trained)]
    cures = []
    for seed, rules in enumerate(sliced):
        alike = trained[seed][LEVELS][STILL]
        nets = {SLICED: rules[STILL].best, DENOISING: alike.kept.get(len(rules[STILL].losses), alike.best)}
        found = {name: convert(restored(net, n, seed), LEVELS) for name, net in nets.items()}
        found |= levels.cured(steps, n, seed, PUBLISHED)
        cures.append(found | {DEFAULT: by_default(n, seed, 2 if quick else "auto")})
    draw(out, trained, sliced, stages[0], cures[0])
    results = losses(trained) | sliced_losses(sliced, trained)
    data = training.images(PUBLISHED)
    real = {"test": data.test, "validation": data.validation, "training": data.train[: len(data.test)]}
    for name, x in real.items():
        results |= measured(f"real: {name} images", [x])
    for sets in stages, cures:
        for name in sets[0]:
            results |= measured(name, [x[name] for x in sets])
    return results


def draw(
    out: Path,
    trained: Sequence[Trainings],
    sliced: Sequence[Mapping[str, Rule]],
    stages: Mapping[str, Tensor],
    cures: Mapping[str, Tensor],
) -> None:
    """Write figure 3, what the best network draws by and by, corrections and cures beside real digits, and losses."""
    real = training.images(PUBLISHED).test
    published = [both[PUBLISHED][FRESH].losses for both in trained]
    figures.draw_figure_3(out / "as-published" / "figure-3.png", real, stages[PAGE], published)
    nets = trained[0][PUBLISHED][FRESH].kept.items()
    drawn = {f"the best of {k} epochs": chains(score(net), 16, spawn(0, "chains")).tanh() for k, net in nets}
    figures.draw_grids(out / "as-published" / "improvements.png", drawn, columns=3)
    figures.draw_grids(out / "corrected" / "steps.png", {"real": real, **stages})
    figures.draw_grids(out / "corrected" / "cures.png", {"real": real, **cures})
    draw_losses(out / "corrected" / "losses.png", trained[0], sliced[0])


def convert(x: Tensor, top: int) -> Tensor:
    """Return images in the tutorial's units."""
    return training.convert(x, top, PUBLISHED)


def corrections(trained: Mapping[int, Mapping[str, Rule]], n: int, seed: int) -> dict[str, Tensor]:
    """Return n images as published and after each correction, every one on top of those before."""
    page, ours = trained[PUBLISHED][FRESH].best, trained[LEVELS][FRESH].best
    end = lambda net, *how: chains(score(net), n, spawn(seed, "chains"), *how).tanh()
    return {
        PAGE: end(page, TEMPERATURE),
        NOISE: end(page, 1.0),
        SMALL: end(page, 1.0, FINER),
        UNITS: convert(end(ours, 1.0, FINER), LEVELS),
        FROZEN: convert(end(trained[LEVELS][STILL].best, 1.0, FINER), LEVELS),
        CLEAN: convert(restored(trained[LEVELS][STILL].best, n, seed), LEVELS),
    }


def restored(net: nn.Module, n: int, seed: int) -> Tensor:
    """Return n images by the corrected chains, and the mean of the clean image."""
    return training.restored(score(net), n, spawn(seed, "chains"))


def by_default(n: int, seed: int, steps: int | str) -> Tensor:
    """Return n images of ImageDensity of the training images, whole numbers from 0 to 16."""
    pixels = (8 * (training.images(LEVELS).train + 1)).round().to(torch.uint8).reshape(-1, 8, 8)
    drawn = ImageDensity(max_iter=steps, random_state=seed).fit(pixels.numpy()).sample(n, random_state=seed)
    return 2 * torch.from_numpy(drawn).reshape(n, -1).float() / PUBLISHED - 1


def measured(name: str, sets: Sequence[Tensor]) -> Results:
    """Return a row for every measure of images, one set a seed."""
    found = [training.measures(x) for x in sets]
    results: Results = {}
    for what in found[0]:
        results |= row(f"{name}: {what}", None, [values[what] for values in found])
    return results


def losses(trained: Sequence[Trainings]) -> Results:
    """Return the published validation losses beside ours, early stopping, and what its best is worth."""
    runs = [found[PUBLISHED][FRESH] for found in trained]
    results: Results = {}
    for epoch, loss in figures.PRINTED.items():
        values = [r.losses[epoch] for r in runs if epoch < len(r.losses)]
        if values:
            results |= row(f"validation loss of epoch {epoch}", loss, values, zero=ZERO)
    found = {
        "best validation loss": [min(r.losses) for r in runs],
        "epoch of the best": [float(r.epoch) for r in runs],
        "epochs": [float(len(r.losses)) for r in runs],
        "last validation loss": [r.losses[-1] for r in runs],
        "mean validation loss of the last 20 epochs": [fmean(r.losses[-20:]) for r in runs],
    }
    for name, values in found.items():
        results |= row(name, PRINTED[name], values)
    for part in "validation", "test":
        values = [again(r.best, PUBLISHED, part, seed) for seed, r in enumerate(runs)]
        results |= row(f"{part} loss of the best, {REPEATS} new draws of noise", None, values, zero=ZERO)
    nats = [again(r.best, PUBLISHED, "test", seed) / SIGMA for seed, r in enumerate(runs)]
    results |= row("with 1 / (2 sigma^2): test loss in nats", None, nats, zero=ZERO / SIGMA)
    for name, rule in (("new", FRESH), ("frozen", STILL)):
        rules = [found[LEVELS][rule] for found in trained]
        values = [again(r.best, LEVELS, "test", seed) / SIGMA for seed, r in enumerate(rules)]
        results |= row(f"pixels over 16, {name} noise: test loss in nats", None, values, zero=ZERO / SIGMA)
        results |= row(f"pixels over 16, {name} noise: epoch of the best", None, [float(r.epoch) for r in rules])
        results |= row(f"pixels over 16, {name} noise: epochs", None, [float(len(r.losses)) for r in rules])
    return results


def sliced_losses(sliced: Sequence[Mapping[str, Rule]], trained: Sequence[Trainings]) -> Results:
    """Return the published loss of sliced score matching after its last epoch, and that of denoising by then."""
    epochs = len(sliced[0][STILL].losses)
    name = f"frozen validation loss after {epochs} epochs"
    found = row(f"{SLICED}: {name}", None, [r[STILL].losses[-1] for r in sliced], zero=ZERO)
    by_then = [r[LEVELS][STILL].losses[:epochs][-1] for r in trained]
    return found | row(f"denoising, one level: {name}", None, by_then, zero=ZERO)


def again(net: nn.Module, top: int, part: str, seed: int) -> float:
    """Return the published loss of a network on a part of the images, the mean over REPEATS draws of noise."""
    x, generator = getattr(training.images(top), part), spawn(seed, "again")
    return fmean(training.held_out(net, x, generator) for _ in range(REPEATS))


def draw_losses(path: Path, trained: Trainings, sliced: Mapping[str, Rule]) -> None:
    """Write the validation losses by both rules of early stopping, and those of sliced score matching."""
    figure, (left, right) = curves.panels(2, width=5.5)
    both = {name: rule.losses for name, rule in trained[LEVELS].items()}
    figures.draw_curves(left, both, "One training judged in two ways, pixels over 16")
    compared = {"denoising": trained[LEVELS][STILL].losses, "sliced": sliced[STILL].losses}
    figures.draw_curves(right, compared, "Two objectives judged on the same noise")
    save_figure(figure, path)
