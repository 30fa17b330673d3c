"""What a training step costs by each objective, relative to denoising: loss and backward pass, processor's time.

The default network in 2 and 64 dimensions, the energy network there, and a convolutional energy of 28 x 28 images at
one level of noise. Loops take turns, medians of rounds; one thread; results go to benchmarks/results/objectives.json.

    python benchmarks/objectives.py [--rounds 15]
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Generator, nn

from scorefield.training.config import Config
from scorefield.training.objectives import losses
from scorefield.training.objectives.table import OBJECTIVES

RESULTS = Path(__file__).parent / "results" / "objectives.json"
BATCH = {2: 256, 64: 256, 784: 32}


class ConvolutionalEnergy(nn.Module):
    """A number for an image: three convolutions with softplus, summed."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [(1, 16, 1), (16, 32, 2), (32, 32, 2)]
        layers = [(nn.Conv2d(i, o, 3, stride, 1), nn.Softplus()) for i, o, stride in sizes]
        self.net = nn.Sequential(*(part for pair in layers for part in pair), nn.Flatten(), nn.Linear(32 * 49, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)[:, 0]


def table_losses(d: int) -> dict[str, Callable[[], torch.Tensor]]:
    """Return the losses of a batch by name, network and objective, as `fit` would take them."""
    x = torch.randn(BATCH[d], d, generator=Generator().manual_seed(0))
    generator = Generator().manual_seed(1)
    found = {}
    for network in ("mlp", "energy"):
        for name, row in OBJECTIVES.items():
            exact = name in ("implicit", "finite-difference", "curvature")
            if name in ("explicit", "parzen") or (row.energy and network == "mlp") or (exact and d > 2):
                continue
            config = Config(steps=1, network=network, objective=name)
            model = config.model(torch.zeros(d), torch.eye(d))
            loss = config.loss(model)
            found[f"{network} {name}"] = lambda loss=loss: loss(x, generator).mean()
    return found


def image_losses() -> dict[str, Callable[[], torch.Tensor]]:
    """Return the losses of a convolutional energy at one level of noise, by name."""
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    energy = ConvolutionalEnergy()
    torch.random.set_rng_state(state)
    generator = Generator().manual_seed(1)
    x = torch.randn(BATCH[784], 1, 28, 28, generator=generator)
    target = torch.randn(x.shape, generator=generator)
    log_density = lambda x: -energy(x)

    def score(x: torch.Tensor) -> torch.Tensor:
        value, pull = torch.func.vjp(log_density, x)[:2]
        return pull(torch.ones_like(value))[0]

    def sliced_by_forward_mode() -> torch.Tensor:
        v = losses.signs_like(x, generator)
        value, derivative = torch.func.jvp(score, (x,), (v,))
        return ((value * v).flatten(1).sum(1).square() / 2 + (derivative * v).flatten(1).sum(1)).mean()

    options = {"step": 0.05, "generator": generator}
    return {
        "energy denoising": lambda: (score(x) - target).square().flatten(1).sum(1).mean() / 2,
        "energy sliced": lambda: losses.sliced(score, x, generator=generator).mean(),
        "energy sliced, forward mode": sliced_by_forward_mode,
        "energy energy-sliced": lambda: losses.sliced_energy(log_density, x, **options).mean(),
        "energy energy-denoising": lambda: losses.denoising_energy(log_density, x, target, **options).mean(),
    }


def milliseconds(losses: dict[str, Callable[[], torch.Tensor]], rounds: int) -> dict[str, float]:
    """Return the median time of loss and backward pass of each."""
    times: dict[str, list[float]] = {name: [] for name in losses}
    for k in range(rounds + 2):
        for name, loss in losses.items():
            began = time.process_time()
            for _ in range(5):
                loss().backward()
            if k >= 2:
                times[name].append((time.process_time() - began) / 5)
    return {name: 1e3 * statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Time everything, keep the numbers, print a table with ratios to denoising on the same network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for d in BATCH:
        found = milliseconds(image_losses() if d == 784 else table_losses(d), options.rounds)
        for name, value in found.items():
            ratio = value / found[name.split()[0] + " denoising"]
            print(f"d={d:3} {name:34} {value:8.2f} ms  {ratio:6.2f} x denoising", flush=True)
            results[f"{d} {name}"] = {"ms": value, "ratio": ratio}
    RESULTS.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
