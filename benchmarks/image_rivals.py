"""Other networks of images after the same seconds of training as a run, and the speed of a training step."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from image_runs import Judged, draw, fidelity, open_run
from torch import Tensor, nn
from torch.nn import functional

from scorefield import data
from scorefield.gallery.mnist import unet
from scorefield.kinds.images.problem import ImageProblem
from scorefield.kinds.images.settings import BATCH, choose_settings
from scorefield.kinds.images.units import PixelTransform
from scorefield.numerics.tensors import spawn
from scorefield.training.learner import Learner

WIDTHS, LAYERS = (16, 40, 48), 2
"""Channels of diffusers' network, which give it 0.68 million weights for the 0.66 of ours, and its blocks a level."""

LEVELS = 1000
"""Noise levels of diffusers' DDPM."""


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
        clean = pixels[torch.randint(len(pixels), (BATCH,))]
        noise, level = torch.randn_like(clean), torch.randint(LEVELS, (BATCH,))
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
    config = dataclasses.replace(choose_settings(problem, "vp", "denoising", 0).config, steps=10**6)
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
            "images a second": BATCH / seconds,
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
