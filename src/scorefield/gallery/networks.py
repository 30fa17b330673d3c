"""What the tutorials train and how: dense networks, rows in shuffled batches, a step of an optimiser."""

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Generator, Tensor, nn

from scorefield.numerics.tensors import unfilled


def dense(*sizes: int, activations: nn.Module | Sequence[nn.Module], generator: Generator) -> nn.Sequential:
    """Return dense layers with activations between them, started as PyTorch does: uniform within 1 / sqrt(inputs)."""
    between = [activations] * (len(sizes) - 2) if isinstance(activations, nn.Module) else activations
    layers: list[nn.Module] = []
    for k, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        layer = unfilled(nn.Linear, inputs, outputs)
        for parameter in layer.parameters():
            nn.init.uniform_(parameter, -(inputs**-0.5), inputs**-0.5, generator=generator)
        layers += [layer, *between[k : k + 1]]
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
