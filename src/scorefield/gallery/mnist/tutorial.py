"""Tutorial 002's MNIST: the published U-Net and its samples, and beside them our default after the same seconds.

The published run took 400 epochs on a graphics card; the default here takes one, whose mean loss was printed, and
full=True all of them. MNIST is read from the user's files (see `data.read_mnist`).
"""

import itertools
import math
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from scorefield import data
from scorefield.gallery.drawing.curves import LEARNED
from scorefield.gallery.mnist import unet
from scorefield.gallery.report import Results, row, save_figure
from scorefield.kinds.images.estimator import ImageDensity
from scorefield.numerics.tensors import spawn
from scorefield.reports import images as image_plots

EPOCHS, SHOWN, JUDGED = 400, 20, 64
"""Epochs of the tutorial, the images of its grid, and the images whose distances to MNIST are measured."""

QUICK_IMAGES, QUICK_STEPS = 256, 4
"""Images and steps that a test takes."""


def run(out: Path, *, seeds: int = 10, quick: bool = False, full: bool = False) -> Results:
    """Make the tutorial's MNIST below `out`, with one seed whatever `seeds` is; return its numbers beside ours.

    Raises ValueError where MNIST is neither at hand nor to be fetched.
    """
    train, test = data.read_mnist("train"), data.read_mnist("test")
    rows = torch.from_numpy(train.pixels).reshape(len(train.pixels), -1)
    rows = rows[:QUICK_IMAGES] if quick else rows
    unet.draw_diagram(out / "as-published" / "network.png")
    began = perf_counter()
    net, losses = learn(rows.float() / 255, EPOCHS if full else 1, QUICK_STEPS if quick else None)
    seconds = perf_counter() - began
    count = 4 if quick else JUDGED
    steps = unet.TIMES[::200] if quick else unet.TIMES
    drawn = unet.sample(net, count, 0, steps)
    save_figure(published_grid(drawn), out / "as-published" / "samples.png")
    save_figure(loss_figure(losses), out / "as-published" / "loss.png")
    allowed = {"max_iter": QUICK_STEPS} if quick else {"time_budget": seconds}
    estimator = ImageDensity(random_state=0, **allowed)
    estimator.fit(train.pixels[: len(rows), 0], None if quick else train.labels)
    ours = torch.from_numpy(estimator.sample(count, random_state=0)).reshape(count, -1).float() / 255
    save_figure(published_grid(ours), out / "corrected" / "samples.png")
    held_out = torch.from_numpy(test.pixels[:count]).reshape(count, -1).float() / 255
    sets = {"real test images": held_out, "as published": drawn, "our default": ours}
    titles = {"as published": f"as published, {seconds:.0f} s", "our default": f"our default, {seconds:.0f} s"}
    save_figure(side_by_side(sets, titles), out / "corrected" / "side-by-side.png")
    results = row("weights of the network", 2_361_409.0, [float(sum(p.numel() for p in net.parameters()))])
    for epoch, loss in enumerate(losses):
        if epoch in unet.PRINTED:
            results |= row(f"loss of epoch {epoch}", unet.PRINTED[epoch], [loss], zero=1.0)
    results |= row("seconds of training", None, [seconds])
    for name, x in sets.items():
        results |= row(f"distance to the nearest training image, {name}", None, [nearest(x, rows)])
        results |= row(f"pixels between 0.1 and 0.9, {name}", None, [float(((x > 0.1) & (x < 0.9)).float().mean())])
    told = None if quick or test.labels is None else test.labels[:count]
    bound = estimator.bits_per_dim(estimator.log_prob(test.pixels[:count, 0], told))
    return results | row("bits per dimension, our default", None, [float(bound.value.mean())])


def learn(images: Tensor, epochs: int, most: int | None) -> tuple[torch.nn.Module, list[float]]:
    """Train the published network for epochs, or for at most so many steps; return it and each epoch's mean loss."""
    net = unet.UNet(spawn(0, "init"))
    steps = math.ceil(len(images) / unet.BATCH)
    losses = itertools.islice(unet.train(net, images, 0), most or epochs * steps)
    found = list(losses)
    return net.eval(), [float(np.mean(found[k : k + steps])) for k in range(0, len(found), steps)]


def nearest(x: Tensor, rows: Tensor) -> float:
    """Return the mean distance of images x (n, 784) from 0 to 1 to the nearest of the training bytes."""
    parts = [torch.cdist(x.clamp(0, 1), part.float() / 255).amin(1) for part in rows.split(10_000)]
    return float(torch.stack(parts).amin(0).mean())


def published_grid(x: Tensor) -> Figure:
    """Return the first 20 images as the tutorial shows them: dark on white, in three rows of seven, not clipped."""
    figure = Figure((7, 3.4), layout="constrained")
    panels = figure.subplots(3, 7).flat
    for k, axes in enumerate(panels):
        axes.set_axis_off()
        if k < min(SHOWN, len(x)):
            axes.imshow(1 - x[k].reshape(28, 28).numpy(), cmap="gray")
    return figure


def loss_figure(losses: list[float]) -> Figure:
    """Return the mean loss of each epoch with the published points, on logarithmic axes."""
    figure = Figure((6, 4), layout="constrained")
    axes = figure.subplots()
    printed = [epoch + 1 for epoch in unet.PRINTED]
    axes.plot(printed, list(unet.PRINTED.values()), "o", color="black", label="published")
    axes.plot(range(1, len(losses) + 1), losses, ".-", color=LEARNED[0], label="ours")
    axes.set(xscale="log", yscale="log", xlabel="epochs", ylabel="mean loss of the epoch, per pixel")
    axes.set_title("Tutorial 002's loss on MNIST", fontsize=10)
    axes.legend()
    return figure


def side_by_side(sets: dict[str, Tensor], titles: dict[str, str]) -> Figure:
    """Return mosaics of the first 49 images of several sets."""
    figure = Figure((12, 4.4), layout="constrained")
    for axes, (name, x) in zip(figure.subplots(1, len(sets)), sets.items(), strict=True):
        image_plots.mosaic(axes, x[:49].reshape(-1, 1, 28, 28).numpy(), (0.0, 1.0), titles.get(name, name))
    return figure
