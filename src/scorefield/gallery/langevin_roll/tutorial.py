"""Exact implicit score matching and Langevin dynamics on a Swiss roll, as published, and regularised.

The tutorial trains 8,642 parameters on 1,000 rows for 5,000 epochs. No score can have an implicit loss below that of
the true one, -E |score|^2 / 2, but its loss ends a half below: it learns the rows, and on other rows it gets worse.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from scorefield.data.toys import TOYS
from scorefield.diffusion.densities import GaussianMixture
from scorefield.evaluation.metrics import sliced_wasserstein
from scorefield.gallery.drawing import curves
from scorefield.gallery.drawing.planes import animate_particles, draw_contours, draw_points, draw_streams, frame, panels
from scorefield.gallery.networks import dense, descend, shuffled
from scorefield.gallery.report import Results, row, save_figure
from scorefield.inference import langevin
from scorefield.numerics.shapes import Field
from scorefield.numerics.tensors import spawn, uniform
from scorefield.training.objectives.losses import explicit, implicit

ROLL = TOYS["swissroll"]
ROWS, EPOCHS, SHORT = 1000, 5000, 2000
"""Training rows, epochs of the page, and those of a default run."""

EVERY, OTHERS = 20, 4000
"""Epochs between two looks at so many rows that the network does not learn from."""

PRINTED = [-0.054, -22.11, -46.27, -52.44, -57.98, -60.73, -64.89, -67.67, -71.52, -74.47]
"""The mean loss of the epochs 0, 500, ..., 4500 that the tutorial's notebook prints."""

SIZE, STEPS, CHAINS, FRAMES = 1e-3, 1000, 1000, 30
EDGE = 1.8
"""The pictures show the square from -1.8 to 1.8."""


@dataclass(frozen=True)
class Way:
    """How a network is trained: rows a batch, epochs, learning rate, the weight of the curvature (see `implicit`).

    falls: whether the learning rate falls to 0 along a cosine.
    """

    batch: int
    epochs: int
    rate: float
    curvature: float = 0.0
    falls: bool = False


REGULARISED = Way(250, 1000, 3e-3, curvature=2e-3, falls=True)
"""The curvature makes the variance across the curve, 0.01, look like 0.014."""


@dataclass(frozen=True)
class Trained:
    """A network, the mean loss of each epoch, and after every EVERY epochs its loss and its error on other rows."""

    net: nn.Sequential
    losses: list[float]
    held_out: list[float]
    errors: list[float]


@functools.cache
def target() -> GaussianMixture:
    """Return the density of the roll: 512 Gaussians of standard deviation 0.1 along its curve."""
    if not isinstance(ROLL.density, GaussianMixture):
        raise TypeError(f"expected a mixture as the density of the roll; got {type(ROLL.density).__name__}")
    return ROLL.density


def true_score(x: Tensor) -> Tensor:
    """Return the score of the roll, -E[z | x] / 0.1 where x is a point of the curve plus 0.1 z."""
    std = float(target().covariances[0, 0, 0].sqrt())
    curve = GaussianMixture.isotropic(target().weights.to(x), target().means.to(x), 0.0)
    return -curve.posterior(x, torch.ones(()), torch.tensor(std))[1] / std


@functools.cache
def truths() -> tuple[float, float]:
    """Return the smallest implicit loss, -E |score|^2 / 2, and the share of the roll at the bottom left.

    By midpoints at distances of 0.03, a third of the standard deviation across the curve.
    """
    side = 0.03 * (torch.arange(140, dtype=torch.float64) - 69.5)
    x = torch.cartesian_prod(side, side)
    mass = target().log_prob(x).exp() * 0.03**2
    return -float(mass @ true_score(x).square().sum(1)) / 2, float(mass @ bottom_left(x).double())


def bottom_left(x: Tensor) -> Tensor:
    """Return which points have two negative coordinates."""
    return (x < 0).all(1)


def train(seed: int, way: Way) -> Trained:
    """Train the network 2 - 64 - 64 - 64 - 2 by Adam on 1/2 |score|^2 + div score, exactly."""
    rows, others = (ROLL.sample(n, spawn(seed, name)).float() for n, name in ((ROWS, "rows"), (OTHERS, "others")))
    truth, order = true_score(others), spawn(seed, "order")
    net = dense(2, 64, 64, 64, 2, activations=nn.LogSigmoid(), generator=spawn(seed, "init"))
    optimiser = torch.optim.Adam(net.parameters(), lr=way.rate, fused=True)
    found = Trained(net, [], [], [])
    for epoch in range(way.epochs):
        if way.falls:
            optimiser.param_groups[0]["lr"] = way.rate * (1 + math.cos(math.pi * epoch / way.epochs)) / 2
        batches = []
        for pick in shuffled(ROWS, way.batch, order):
            batches.append(descend(optimiser, implicit(net, rows[pick], curvature=way.curvature).mean()))
        found.losses.append(sum(batches) / len(batches))
        if (epoch + 1) % EVERY == 0:
            found.held_out.append(float(implicit(net, others).detach().mean()))
            found.errors.append(float(explicit(net, others, lambda x: truth).detach().mean()))
    return found


def follow(score: Field, generator: Generator, steps: int = STEPS) -> list[Tensor]:
    """Return the states of Langevin dynamics with steps of 0.001 from points drawn uniformly from [-1, 1]^2."""
    start = (2 * uniform(2 * CHAINS, generator) - 1).reshape(CHAINS, 2).float()
    return [start, *langevin.unadjusted(score, start, SIZE, steps, generator)]


def run(out: Path, *, seeds: int = 10, quick: bool = False, full: bool = False) -> Results:
    """Make the tutorial below `out`; return every published number beside ours.

    One seed and 2,000 of its 5,000 epochs; full: all epochs with at most 3 seeds, 4 minutes each.
    """
    count = min(seeds, 3) if full and not quick else 1
    epochs = 40 if quick else EPOCHS if full else SHORT
    published = [train(seed, Way(32, epochs, 3e-4)) for seed in range(count)]
    better = REGULARISED if not quick else Way(250, 80, 3e-3, curvature=2e-3, falls=True)
    regularised = [train(seed, better) for seed in range(count)]
    return (
        losses(out, published)
        | errors(out, {"as published": published, "regularised": regularised})
        | chains(out, published, regularised, *((100, 3) if quick else (STEPS, FRAMES)))
    )


def losses(out: Path, runs: Sequence[Trained]) -> Results:
    """Write the loss over the epochs; return it beside the printed ones and the smallest that is no mistake."""
    best, results = truths()[0], Results()
    printed = {1 + 500 * i: loss for i, loss in enumerate(PRINTED) if 500 * i < len(runs[0].losses)}
    for epoch, loss in printed.items():
        results |= row(f"loss of epoch {epoch}", loss, [r.losses[epoch - 1] for r in runs], best, 0.0)
    figure, (axes,) = curves.panels()
    title = f"Implicit loss on the training rows, {len(runs)} seed{'s' * (len(runs) > 1)}"
    curves.draw_losses(axes, [r.losses for r in runs], title, best, printed, 0.0)
    axes.set(xlabel="epoch", ylim=(min(-80.0, *runs[0].losses), 5))
    save_figure(figure, out / "as-published" / "loss.png")
    return results


def errors(out: Path, ways: Mapping[str, Sequence[Trained]]) -> Results:
    """Write the loss on training and other rows; return the error E |score - truth|^2 / 2 at the best and the last."""
    best, results = truths()[0], Results()
    figure, (left, right) = curves.panels(2, width=5.5)
    for (name, runs), colour in zip(ways.items(), curves.LEARNED, strict=False):
        epochs = [EVERY * (i + 1) for i in range(len(runs[0].errors))]
        left.plot(runs[0].losses, color=colour, linestyle=":", linewidth=0.8, label=f"{name}, training rows")
        left.plot(epochs, runs[0].held_out, color=colour, label=f"{name}, other rows")
        right.plot(epochs, runs[0].errors, color=colour, label=name)
        results |= row(f"{name}: loss on other rows, last", None, [r.held_out[-1] for r in runs], best, 0.0)
        results |= row(f"{name}: error of the score, last", None, [r.errors[-1] for r in runs], 0.0, -best)
        results |= row(f"{name}: error of the score, smallest", None, [min(r.errors) for r in runs], 0.0, -best)
        where = [float(epochs[min(range(len(r.errors)), key=r.errors.__getitem__)]) for r in runs]
        results |= row(f"{name}: epoch of the smallest error", None, where)
    left.axhline(best, color=curves.EXACT, linestyle="--", label=f"true score, {best:.2f}")
    left.set(title="Implicit loss", xlabel="epoch", ylabel="nats", ylim=(-80, 5))
    right.set(title="Error on other rows, E |score - truth|² / 2", xlabel="epoch", ylabel="nats", ylim=(0, -best))
    for axes in left, right:
        axes.legend(fontsize=8, frameon=False)
    save_figure(figure, out / "corrected" / "held-out.png")
    return results


def chains(out: Path, published: Sequence[Trained], regularised: Sequence[Trained], steps: int, frames: int) -> Results:
    """Write fields, chains and the animation of their first steps, a frame each; return where the chains end."""
    first = follow(published[0].net, spawn(0, "chains"), steps)
    ends = {
        "as published": [first[-1], *(follow(r.net, spawn(i, "chains"), steps)[-1] for i, r in _others(published))],
        "regularised": [follow(r.net, spawn(i, "chains"), steps)[-1] for i, r in enumerate(regularised)],
        "exact score": [follow(true_score, spawn(0, "chains"), steps)[-1]],
        "exact score, three times as long": [follow(true_score, spawn(0, "chains"), 3 * steps)[-1]],
        "another sample": [ROLL.sample(CHAINS, spawn(0, "another"))],
    }
    results, other = Results(), ROLL.sample(20_000, spawn(0, "population"))
    for name, found in ends.items():
        shares = [float(bottom_left(x).double().mean()) for x in found]
        results |= row(f"{name}: share at the bottom left", None, shares, truths()[1])
        far = [sliced_wasserstein(x.double(), other, generator=spawn(0, "slices")).value for x in found]
        results |= row(f"{name}: sliced Wasserstein distance to the roll", None, far)
    path, name = out / "as-published" / "langevin.gif", "Langevin dynamics"
    animate_particles(path, {name: _wide(published[0].net)}, {name: first[: frames + 1]}, 1, EDGE, 5)
    draw_samples(out / "as-published" / "samples.png", ROLL.sample(ROWS, spawn(0, "rows")), first[-1])
    draw_fields(out / "corrected" / "fields.png", published[0].net, regularised[0].net)
    shown = {name: found[0] for name, found in ends.items() if name != "another sample"}
    draw_ends(out / "corrected" / "samples.png", shown)
    return results


def _others(runs: Sequence[Trained]) -> list[tuple[int, Trained]]:
    return list(enumerate(runs))[1:]


def _wide(net: nn.Sequential) -> Field:
    return lambda x: net(x.float()).to(x)


def draw_samples(path: Path, rows: Tensor, samples: Tensor) -> None:
    """Write training rows and samples beside each other."""
    figure, (left, right) = panels(2)
    draw_points(frame(left, f"{len(rows):,} training rows", EDGE), rows)
    draw_points(frame(right, f"{len(samples):,} Langevin samples", EDGE), samples)
    save_figure(figure, path)


def draw_fields(path: Path, published: nn.Sequential, regularised: nn.Sequential) -> None:
    """Write the streams of the score as published, regularised and exact over contours of the density."""
    figure, axes = panels(3)
    fields = {"As published": _wide(published), "Regularised": _wide(regularised), "Exact": true_score}
    for one, (name, score) in zip(axes, fields.items(), strict=True):
        draw_contours(one, lambda x: target().log_prob(x).exp(), EDGE, 5)
        draw_streams(frame(one, name, EDGE), score, EDGE)
    save_figure(figure, path)


def draw_ends(path: Path, ends: Mapping[str, Tensor]) -> None:
    """Write the ends of chains of several scores."""
    figure, axes = panels(2, 2)
    for one, (name, x) in zip(axes, ends.items(), strict=True):
        draw_contours(one, lambda x: target().log_prob(x).exp(), EDGE, 5)
        draw_points(frame(one, name, EDGE), x)
    save_figure(figure, path)
