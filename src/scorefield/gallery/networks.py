"""What the tutorials in two dimensions train: dense networks, and rows in shuffled batches, epoch by epoch."""

import itertools
from collections.abc import Iterator

import torch
from torch import Generator, Tensor, nn


def dense(*sizes: int, activation: type[nn.Module], generator: Generator) -> nn.Sequential:
    """Return dense layers with an activation between them, started as PyTorch does: uniform within 1 / sqrt(inputs)."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
        for parameter in layer.parameters():
            nn.init.uniform_(parameter, -(inputs**-0.5), inputs**-0.5, generator=generator)
        layers += [activation(), layer] if layers else [layer]
    return nn.Sequential(*layers)


def shuffled(count: int, batch: int, generator: Generator) -> Iterator[Tensor]:
    """Yield the numbers below count in random order, in batches of which the last may be smaller: one epoch."""
    yield from torch.randperm(count, generator=generator).split(batch)


def descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> float:
    """Take one step and return the loss before it."""
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return float(loss.detach())
