"""Samples of a run of images beside real ones and four controls, other networks after the same seconds, and speed.

`judge`: Frechet distance, density and coverage (five neighbours) in the features of a small network trained here, to
images that were kept from training, each beside that of as many other real images that the features' network has not
seen. Controls: training images themselves, class means plus noise, a Gaussian for each class, a mixture of Gaussians of
all. Then the shares of the classes that the network finds (chi-square against those of the data), copies of training
images, bits per dimension, and how well a network that has seen only drawn images tells real ones, beside one that has
seen as many real ones. With --inception, the Frechet distance in the features of Inception-v3 too (torchmetrics, and
the file of its weights: pt_inception-2015-12-05-6726825d.pth of torch-fidelity).
`rival`: tutorial 002's U-Net through its own loop, or diffusers' UNet2DModel of as many weights through the plain loop
of its documentation, trained for so many seconds on what the run learned from, and how far what it draws is from real.
`curve`: bits per dimension and fidelity of runs of MNIST with one seed and more and more training, all seen by the same
eyes.
`speed`: training images and operations a second, ours and diffusers' taking turns, beside those of a matrix product
and of a convolution alone.
Results go to benchmarks/results/images.json.

    SCOREFIELD_DATA=folder python benchmarks/images.py judge mnist RUN [--n 10000] [--inception WEIGHTS]
    SCOREFIELD_DATA=folder python benchmarks/images.py rival {tutorial,diffusers} RUN [--seconds 600] [--n 1000]
    SCOREFIELD_DATA=folder python benchmarks/images.py curve RUN [RUN ...] [--n 10000]
    SCOREFIELD_DATA=folder python benchmarks/images.py speed [--rounds 5]
"""

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
import torch
from image_rivals import RIVALS, rival, speed
from image_runs import Judged, draw, fidelity, open_run
from scipy import stats
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from scorefield.evaluation import metrics
from scorefield.kinds.images.evaluation import classifier, some_of
from scorefield.kinds.loading import load
from scorefield.numerics.tensors import spawn

RESULTS = Path(__file__).parent / "results" / "images.json"
PARTS = 200
"""Components of the mixture of all images, in the space of its leading COORDINATES."""

COORDINATES = 50


@torch.no_grad()
def accuracy(net: nn.Module, x: Tensor, labels: Tensor) -> float:
    """Return the share of images whose class is found."""
    return float((torch.cat([net(some).argmax(1) for some in x.split(1000)]) == labels).float().mean())


def controls(train: Tensor, labels: Tensor, n: int, seed: int) -> dict[str, Tensor]:
    """Return images (n, d) of each control, in the units of the rows of `train`."""
    draw, rng = spawn(seed, "controls"), np.random.default_rng(seed)
    pick = torch.randint(len(train), (n,), generator=draw)
    low, high = train.min(), train.max()
    means = torch.stack([train[labels == c].mean(0) for c in range(int(labels.max()) + 1)])
    spread = torch.stack([(train[labels == c] - means[c]).std() for c in range(len(means))])
    told = labels[pick]
    noisy = means[told] + spread[told][:, None] * torch.randn(n, train.shape[1], generator=draw)
    gaussian = torch.empty(n, train.shape[1])
    for c in range(len(means)):
        rows, own = train[labels == c].double(), told == c
        covariance = torch.cov(rows.T) + 1e-4 * torch.eye(train.shape[1])
        root = torch.linalg.cholesky(covariance)
        normal = torch.randn(int(own.sum()), train.shape[1], generator=draw, dtype=torch.float64)
        gaussian[own] = (rows.mean(0) + normal @ root.T).float()
    centre = train.mean(0)
    _, _, axes = torch.linalg.svd((train - centre)[:10_000], full_matrices=False)
    axes = axes[:COORDINATES]
    mixture = GaussianMixture(min(PARTS, len(train) // 20), reg_covar=1e-3, random_state=seed)
    mixture.fit(((train - centre) @ axes.T)[:20_000].numpy())
    drawn, _ = mixture.sample(n)
    mixed = centre + torch.from_numpy(rng.permutation(drawn)).float() @ axes
    found = {"training copies": train[pick], "class means + noise": noisy, "a Gaussian a class": gaussian}
    found["Gaussian mixture"] = mixed
    return {name: x.clamp(low, high) for name, x in found.items()}


def judge(name: str, folder: Path, n: int, inception: Path | None) -> dict:
    """Return everything that the docs claim of one run."""
    run = open_run(name, folder)
    n = min(n, len(run.target), len(run.real)) if name == "mnist" else n
    shaped = lambda x: x.reshape(-1, *run.estimator.transform_.shape)
    labels, kept_labels = torch.from_numpy(run.train.labels), torch.from_numpy(run.test.labels)
    drawn, seconds = draw(run, n)
    told = torch.from_numpy(run.estimator.labels(n, None, 1))
    found: dict = {"n": n, "steps": run.estimator.n_iter_, "seconds for n samples": seconds, "features": run.eyes.words}
    sets = {"real": run.real[:n], "ours": drawn, **controls(run.z, labels, n, 0)}
    for title, x in sets.items():
        found[title] = fidelity(run, x, n)
        if inception:
            found[title]["frechet of Inception"] = [inception_distance(inception, shaped(x), shaped(run.target[:n]))]
        print(title, found[title], flush=True)
    expected = np.array(run.estimator.frequencies_) * n
    counts = np.bincount(run.eyes.classes(drawn).numpy(), minlength=len(expected))
    found["label counts, p"] = float(stats.chisquare(counts, expected * n / expected.sum()).pvalue)
    found["told label found"] = float((run.eyes.classes(drawn) == told).float().mean())
    m = min(1000, n, len(run.target))
    copies = metrics.copying(drawn[:m], run.z, run.target[:m], generator=spawn(0, "copies"))
    found["copies"] = {key: [value.model.value, value.real.value] for key, value in copies.items()}
    found["bits per dimension"] = bits_per_dimension(run)
    shown = torch.randperm(len(run.z), generator=spawn(0, "real"))[:n]
    as_many = len(shown)
    for title, x, classes in ("drawn", drawn[:as_many], told[:as_many]), ("as many real", run.z[shown], labels[shown]):
        net = classifier(shaped(x), classes, len(run.train.classes), 1)
        found[f"accuracy from {title} images"] = accuracy(net, shaped(run.target), kept_labels)
    return found


def bits_per_dimension(run: Judged) -> list[float]:
    """Return the mean over 1,000 images that were not trained on, drawn at random, and its standard error."""
    some = some_of(run.test, 1000, spawn(0, "test"))
    bound = run.estimator.bound(some.pixels, run.estimator.positions(some), 64, 0)
    bits = run.estimator.bits_per_dim(bound).value
    return [float(bits.mean()), float(bits.std() / len(bits) ** 0.5)]


def curve(folders: list[Path], n: int) -> dict:
    """Return what runs of one seed reach by their steps, beside real images, seen by the same eyes."""
    run = open_run("mnist", folders[0])
    found: dict = {"n": n, "real": fidelity(run, run.real[:n], n)}
    for folder in folders:
        estimator = load(folder)
        if estimator.config_.seed != run.estimator.config_.seed:
            raise ValueError(f"expected runs of one seed, which have kept the same images; {folder} has another")
        own = dataclasses.replace(run, estimator=estimator)
        reached = {"bits per dimension": bits_per_dimension(own)} | fidelity(own, draw(own, n)[0], n)
        found[f"{estimator.n_iter_} steps"] = reached
        print(folder, reached, flush=True)
    return found


def inception_distance(weights: Path, x: Tensor, y: Tensor) -> float:
    """Return the Frechet distance of images in the 2,048 features of Inception-v3 (Heusel et al., 2017)."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(2048, normalize=True, feature_extractor_weights_path=str(weights))
    low, high = y.min(), y.max()
    for images_of, real in ((x, False), (y, True)):
        for some in images_of.split(100):
            grey = ((some - low) / (high - low)).clamp(0, 1)
            metric.update(grey.expand(-1, 3, -1, -1), real=real)
    return float(metric.compute())


def main() -> None:
    """Do what is asked, print and keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    judged = commands.add_parser("judge")
    judged.add_argument("data", choices=["digits", "mnist"])
    judged.add_argument("run", type=Path)
    judged.add_argument("--n", type=int, default=10_000)
    judged.add_argument("--inception", type=Path)
    other = commands.add_parser("rival")
    other.add_argument("name", choices=list(RIVALS))
    other.add_argument("run", type=Path)
    other.add_argument("--seconds", type=float, default=600.0)
    other.add_argument("--n", type=int, default=1000)
    several = commands.add_parser("curve")
    several.add_argument("runs", type=Path, nargs="+")
    several.add_argument("--n", type=int, default=10_000)
    commands.add_parser("speed").add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(2)
    if options.command == "judge":
        found = judge(options.data, options.run, options.n, options.inception)
        key = f"{options.data}, {found['steps']} steps"
    elif options.command == "rival":
        found = rival(options.name, options.run, options.seconds, options.n)
        key = f"{options.name}, {options.seconds:.0f} s"
    elif options.command == "curve":
        found, key = curve(options.runs, options.n), "mnist, curve"
    else:
        found, key = speed(options.rounds), "speed"
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[key] = found
    RESULTS.write_text(json.dumps(results, indent=1))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
