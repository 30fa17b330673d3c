"""Samples of a run of images beside real ones and four controls, in the features of a small network trained here.

Frechet distance, density and coverage (five neighbours) to the images that were kept from training, each beside that of
as many training images, which are real. Controls: training images themselves, class means plus noise, a Gaussian for
each class, a mixture of Gaussians of all. Then the shares of the classes that the network finds (chi-square against
those of the data), copies of training images, bits per dimension, and how well a network that has seen only drawn
images tells real ones, beside one that has seen as many real ones. Results go to benchmarks/results/images.json.

    SCOREFIELD_DATA=folder python benchmarks/images.py mnist RUN [--n 10000]
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn
from torch.nn import functional

from scorefield import data, images, metrics
from scorefield.fidelity import precision_recall
from scorefield.samplers import STEPS
from scorefield.tensors import spawn

RESULTS = Path(__file__).parent / "results" / "images.json"
PARTS = 200
"""Components of the mixture of all images, in the space of its leading COORDINATES."""

COORDINATES = 50
FEATURES = 64


def network(x: Tensor, labels: Tensor, classes: int, seed: int, steps: int = 1500) -> nn.Module:
    """Return a small convolutional network trained to tell classes of images x (n, channels, height, width)."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        side = x.shape[-1] // 4
        net = nn.Sequential(
            nn.Conv2d(x.shape[1], 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * side**2, FEATURES),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(FEATURES, classes),
        )
        optimizer, draw = torch.optim.Adam(net.parameters(), 2e-3), spawn(seed, "rows")
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            index = torch.randint(len(x), (128,), generator=draw)
            loss = functional.cross_entropy(net(x[index]), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


@torch.no_grad()
def accuracy(net: nn.Module, x: Tensor, labels: Tensor) -> float:
    """Return the share of images whose class is found."""
    return float((torch.cat([net(part).argmax(1) for part in x.split(1000)]) == labels).float().mean())


@torch.no_grad()
def features(net: nn.Module, x: Tensor) -> Tensor:
    """Return what the network sees before its last layer, (n, FEATURES)."""
    return torch.cat([net[:-2](part) for part in x.split(1000)]).double()


def frechet(x: Tensor, y: Tensor) -> float:
    """|m - n|^2 + tr(A + B - 2 (A B)^(1/2)) of means m, n and covariances A, B (Heusel et al., 2017)."""
    a, b = torch.cov(x.T), torch.cov(y.T)
    values, vectors = torch.linalg.eigh(a)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ b @ root).clamp(min=0).sqrt().sum()
    return float((x.mean(0) - y.mean(0)).square().sum() + a.trace() + b.trace() - 2 * cross)


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


def measure(name: str, folder: Path, n: int) -> dict:
    """Return everything that the docs claim of one run."""
    estimator = images.load(folder)
    if name == "mnist":
        train, test = data.read_mnist("train"), data.read_mnist("test")
    else:
        from sklearn.datasets import load_digits

        digits = load_digits()
        every = data.as_images(digits.images.astype(np.uint8), digits.target)
        first, validation, last = data.split(len(every.pixels), estimator.config_.seed)
        kept = np.concatenate([validation, last])
        train, test = (data.as_images(every.pixels[rows][:, 0], every.labels[rows]) for rows in (first, kept))
    transform = estimator.transform_
    rows = lambda given: transform.forward(transform.rows(given.pixels))
    z, held_out = rows(train), rows(test)
    labels, kept_labels = torch.from_numpy(train.labels), torch.from_numpy(test.labels)
    shaped = lambda x: x.reshape(-1, *transform.shape)
    n = min(n, len(held_out)) if name == "mnist" else n
    began = time.perf_counter()
    blocks = estimator.sample_blocks(n, None, 1.0, "adams", STEPS, 1)
    drawn = torch.cat([transform.forward(transform.rows(block)) for block in blocks])
    seconds = time.perf_counter() - began
    told = torch.from_numpy(estimator.labels(n, None, 1))
    net = network(shaped(z), labels, len(train.classes), 0)
    found: dict = {"data": name, "n": n, "steps": estimator.n_iter_, "seconds for n samples": seconds}
    found["accuracy of the features' network"] = accuracy(net, shaped(held_out), kept_labels)
    shown = torch.randperm(len(z), generator=spawn(0, "real"))[:n]
    real = z[shown]
    target = features(net, shaped(held_out[:n]))
    sets = {"real": real, "ours": drawn, **controls(z, labels, n, 0)}
    for title, x in sets.items():
        own = features(net, shaped(x))
        fidelity = precision_recall(own[:5000], target[:5000])
        numbers = {key: fidelity[key].value for key in ("density", "coverage")}
        found[title] = {"frechet": frechet(own, target), **numbers}
        print(title, found[title], flush=True)
    guessed = torch.cat([net(part).argmax(1) for part in shaped(drawn).split(1000)])
    expected = np.array(estimator.frequencies_) * n
    counts = np.bincount(guessed.numpy(), minlength=len(expected))
    found["label counts, p"] = float(stats.chisquare(counts, expected * n / expected.sum()).pvalue)
    found["told label found"] = float((guessed == told).float().mean())
    m = min(1000, n, len(held_out))
    copies = metrics.copying(drawn[:m], z, held_out[:m], generator=spawn(0, "copies"))
    found["copies"] = {key: [value.model.value, value.real.value] for key, value in copies.items()}
    bits = estimator.bits_per_dim(estimator.bound(test.pixels[:1000], estimator.positions(test)[:1000], 64, 0)).value
    found["bits per dimension"] = [float(bits.mean()), float(bits.std() / len(bits) ** 0.5)]
    from_drawn = network(shaped(drawn), told, len(train.classes), 1)
    from_real = network(shaped(real), labels[shown], len(train.classes), 1)
    found["accuracy from drawn images only"] = accuracy(from_drawn, shaped(held_out), kept_labels)
    found["accuracy from as many real images"] = accuracy(from_real, shaped(held_out), kept_labels)
    return found


def main() -> None:
    """Measure one run, print and keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=["digits", "mnist"])
    parser.add_argument("run", type=Path)
    parser.add_argument("--n", type=int, default=10_000)
    options = parser.parse_args()
    torch.set_num_threads(2)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    found = measure(options.data, options.run, options.n)
    results[f"{options.data}, {found['steps']} steps"] = found
    RESULTS.write_text(json.dumps(results, indent=1))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
