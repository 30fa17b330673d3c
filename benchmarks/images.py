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
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn
from torch.nn import functional

from scorefield import data
from scorefield.data import Images
from scorefield.evaluation import metrics
from scorefield.evaluation.descriptions import frechet_distance, precision_recall
from scorefield.gallery.mnist import unet
from scorefield.inference.samplers import STEPS
from scorefield.kinds.images import estimator as images
from scorefield.kinds.images.estimator import ImageDensity
from scorefield.kinds.images.evaluation import Eyes, classifier, open_eyes, some_of
from scorefield.kinds.images.problem import ImageProblem
from scorefield.kinds.images.units import PixelTransform
from scorefield.numerics.tensors import spawn
from scorefield.training.learner import Learner

RESULTS = Path(__file__).parent / "results" / "images.json"
PARTS = 200
"""Components of the mixture of all images, in the space of its leading COORDINATES."""

COORDINATES = 50

WIDTHS, LAYERS = (16, 40, 48), 2
"""Channels of diffusers' network, which give it 0.68 million weights for the 0.66 of ours, and its blocks a level."""

LEVELS = 1000
"""Noise levels of diffusers' DDPM."""


@dataclasses.dataclass(frozen=True)
class Judged:
    """What a run is judged by: images as rows (n, d) and their classes, and the eyes that look at them."""

    estimator: ImageDensity
    train: Images
    z: Tensor
    test: Images
    target: Tensor
    real: Tensor
    eyes: Eyes


def open_run(name: str, folder: Path) -> Judged:
    """Return a run with the images that it learned from, those that it is compared with, and real ones beside it.

    MNIST's own test images are the target, and images of the training file that the run has kept are real ones too.
    """
    estimator = images.load(folder)
    if name == "mnist":
        every, test = data.read_mnist("train"), data.read_mnist("test")
        first, validation, last = data.split(len(every.pixels), estimator.config_.seed)
        kept = np.concatenate([validation, last])
    else:
        from sklearn.datasets import load_digits

        digits = load_digits()
        every = data.as_images(digits.images.astype(np.uint8), digits.target)
        first, validation, last = data.split(len(every.pixels), estimator.config_.seed)
        test, kept = every.at(np.concatenate([validation, last])), np.zeros(0, np.int64)
    transform = estimator.transform_
    rows = lambda given: transform.forward(transform.rows(given.pixels))
    train = every.at(first)
    z = rows(train)
    eyes = open_eyes(z, train, transform.shape, spawn(0, "eyes"))
    real = torch.cat([rows(every.at(kept)), z[eyes.unused]])
    return Judged(estimator, train, z, test, rows(test), real, eyes)


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


def draw(run: Judged, n: int) -> tuple[Tensor, float]:
    """Return n images that a run draws, as rows, and the seconds it took."""
    transform, began = run.estimator.transform_, time.perf_counter()
    blocks = run.estimator.sample_blocks(n, None, 1.0, "adams", STEPS, 1)
    rows = torch.cat([transform.forward(transform.rows(block)) for block in blocks])
    return rows, time.perf_counter() - began


def fidelity(run: Judged, x: Tensor, n: int) -> dict[str, list[float]]:
    """Return the Frechet distance, density and coverage of images to as many of the target, with their errors.

    Where the target or the real images are fewer than n, these are means over parts of that many images.
    """
    n = min(n, len(run.target), len(run.real))
    target, found = run.eyes.features(run.target[:n]), []
    for start in range(0, len(x) - n + 1, n):
        own = run.eyes.features(x[start : start + n])
        told = precision_recall(own, target)
        found.append([frechet_distance(own, target), told["density"], told["coverage"]])
    names = "frechet", "density", "coverage"
    values = ([row[k] for row in found] for k in range(3))
    return {
        name: [statistics.fmean(each.value for each in column), statistics.fmean(each.stderr for each in column)]
        for name, column in zip(names, values, strict=True)
    }


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
        estimator = images.load(folder)
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


# ------------------------------------------------------------------------------------------------------- other systems


def tutorial(run: Judged, seconds: float, n: int) -> tuple[Tensor, int]:
    """Return n images of tutorial 002's U-Net after so many seconds of its own loop, as rows, and its steps.

    It draws by Euler-Maruyama as published, with 250 steps in place of 999, to save time.
    """
    transform = run.estimator.transform_
    net = unet.UNet(spawn(0, "init"))
    pixels = torch.from_numpy(run.train.pixels).reshape(len(run.z), -1).float() / 255
    steps = timed(unet.train(net, pixels, 0), seconds)
    with torch.no_grad():
        drawn = [unet.sample(net.eval(), 100, k, torch.linspace(1, 0, 251).double()) for k in range(n // 100)]
    levels = (torch.cat(drawn).clamp(0, 1) * 255).round()
    return transform.forward(levels.reshape(-1, *transform.shape).to(torch.uint8)), steps


def diffusers_network() -> nn.Module:
    """Return diffusers' U-Net without attention, of about as many weights as ours."""
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    size = len(WIDTHS)
    return UNet2DModel(
        sample_size=28,
        in_channels=1,
        out_channels=1,
        layers_per_block=LAYERS,
        block_out_channels=WIDTHS,
        down_block_types=("DownBlock2D",) * size,
        up_block_types=("UpBlock2D",) * size,
        norm_num_groups=8,
        add_attention=False,
    )


def diffusers_steps(net: nn.Module, pixels: Tensor) -> Iterator[float]:
    """Train diffusers' network on pixels (n, 1, 28, 28) from -1 to 1 by its plain loop, with Adam.

    The documentation's loop takes AdamW at 1e-4 and batches of 16; 1e-3 and batches as ours are better here.
    """
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(num_train_timesteps=LEVELS)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    while True:
        clean = pixels[torch.randint(len(pixels), (images.BATCH,))]
        noise, level = torch.randn_like(clean), torch.randint(LEVELS, (images.BATCH,))
        loss = functional.mse_loss(net(scheduler.add_noise(clean, noise, level), level).sample, noise)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        yield loss.item()


def diffusers(run: Judged, seconds: float, n: int) -> tuple[Tensor, int]:
    """Return n images of diffusers' U-Net after so many seconds, by its DDIM with 100 steps, and its training steps."""
    from diffusers import DDIMScheduler

    transform, net = run.estimator.transform_, diffusers_network()
    pixels = torch.from_numpy(run.train.pixels).float() / 127.5 - 1
    steps = timed(diffusers_steps(net, pixels), seconds)
    scheduler = DDIMScheduler(num_train_timesteps=LEVELS)
    scheduler.set_timesteps(100)
    drawn = []
    with torch.no_grad():
        for _ in range(n // 100):
            x = torch.randn(100, *pixels.shape[1:])
            for level in scheduler.timesteps:
                x = scheduler.step(net(x, level).sample, level, x).prev_sample
            drawn.append(x)
    levels = ((torch.cat(drawn).clamp(-1, 1) + 1) * 127.5).round()
    return transform.forward(levels.to(torch.uint8)), steps


def timed(steps: Iterator[float], seconds: float) -> int:
    """Take steps for so many seconds of wall time; return how many."""
    began = time.perf_counter()
    for done, _ in enumerate(steps, 1):
        if time.perf_counter() - began > seconds:
            return done
    return 0


RIVALS: dict[str, Callable[[Judged, float, int], tuple[Tensor, int]]] = {"tutorial": tutorial, "diffusers": diffusers}


def rival(name: str, folder: Path, seconds: float, n: int) -> dict:
    """Return the fidelity of another system after so many seconds, beside that of the run and of real images."""
    run = open_run("mnist", folder)
    drawn, steps = RIVALS[name](run, seconds, n)
    found: dict = {"seconds": seconds, "n": n, "steps": steps, name: fidelity(run, drawn, n)}
    found["ours"] = {"steps": run.estimator.n_iter_} | fidelity(run, draw(run, n)[0], n)
    return found | {"real": fidelity(run, run.real, n)}


def speed(rounds: int) -> dict:
    """Return training images a second, and the rate of arithmetic beside `fastest`: medians, taking turns."""
    every = data.read_mnist("train")
    transform = PixelTransform.fit(every.pixels, every.layout)
    problem = ImageProblem.of(every, transform, 0)
    config = dataclasses.replace(images.settings(problem, "vp", "denoising", 0, None, 10), steps=10**6)
    learner = Learner(config, problem.prepare(config))
    theirs = diffusers_network()
    loops: dict[str, tuple[Iterator, nn.Module]] = {
        "ours": (learner.run(), learner.model),
        "diffusers": (diffusers_steps(theirs, torch.from_numpy(every.pixels).float() / 127.5 - 1), theirs),
    }
    found: dict = {"threads": torch.get_num_threads()}
    work = {name: operations(loop) for name, (loop, _) in loops.items()}
    taken: dict[str, list[float]] = {name: [] for name in loops}
    rates = []
    for _ in range(rounds):
        rates.append(fastest())
        for name, (loop, _) in loops.items():
            began = time.perf_counter()
            for _ in range(10):
                next(loop)
            taken[name].append((time.perf_counter() - began) / 10)
    for name, (_, net) in loops.items():
        seconds = statistics.median(taken[name])
        weights = sum(p.numel() for p in net.parameters())
        found[name] = {
            "weights": weights,
            "images a second": images.BATCH / seconds,
            "operations": work[name] / seconds,
        }
    return found | {name: statistics.median(rate[name] for rate in rates) for name in rates[0]}


def operations(loop: Iterator) -> float:
    """Return the floating-point operations of one step, of matrix products and convolutions."""
    from torch.utils.flop_counter import FlopCounterMode

    for _ in range(3):
        next(loop)
    with FlopCounterMode(display=False) as counter:
        next(loop)
    return float(counter.get_total_flops())


def fastest() -> dict[str, float]:
    """Return the operations a second of a product of matrices of 2,048 rows and of a convolution, the best of twenty.

    They come from different libraries, and the convolution can be the faster.
    """
    x = torch.randn(2048, 2048)
    image, kernel = torch.randn(64, 48, 14, 14), torch.randn(48, 48, 3, 3)
    image, kernel = (z.contiguous(memory_format=torch.channels_last) for z in (image, kernel))
    work: dict[str, tuple[float, Callable[[], Tensor]]] = {
        "matrix product": (2 * 2048**3, lambda: x @ x),
        "convolution": (2 * 9 * 48 * image.numel(), lambda: functional.conv2d(image, kernel, padding=1)),
    }
    return {name: total / min(seconds_of(task) for _ in range(20)) for name, (total, task) in work.items()}


def seconds_of(task: Callable[[], Tensor]) -> float:
    """Return the wall seconds of one call."""
    began = time.perf_counter()
    task()
    return time.perf_counter() - began


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
