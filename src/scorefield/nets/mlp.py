"""A multilayer perceptron for vectors that leaves the symmetric solution quickly."""

import math

import torch
from torch import Generator, Tensor, nn

from scorefield.tensors import normal


class MLP(nn.Module):
    """Dense layers with SiLU on the sample, random Fourier features of it, and Fourier features of the log ratio.

    With the usual small initialisation such a network stays at the trivial solution for minutes on symmetric data;
    features of x and orthogonal matrices of gain 1.4 leave it at once. The last layer starts at zero, so the model
    starts as the Gaussian fit.
    """

    def __init__(
        self,
        dim: int,
        width: int = 128,
        depth: int = 3,
        features: int = 64,
        feature_scale: float = 0.3,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        empty = torch.empty(0)
        frequencies = normal((dim, features), empty, generator) * 2 * math.pi * feature_scale / math.sqrt(dim)
        self.register_buffer("frequencies", frequencies)
        self.register_buffer("rates", 2.0 ** torch.arange(-3, 2))
        sizes = [dim + 2 * features + 2 * len(self.rates) + 1, *[width] * depth, dim]
        layers = [nn.utils.skip_init(nn.Linear, i, o) for i, o in zip(sizes, sizes[1:], strict=False)]
        for layer in layers:
            nn.init.orthogonal_(layer.weight, gain=1.4, generator=generator)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(layers[-1].weight)
        self.layers = nn.ModuleList(layers)

    def forward(self, z: Tensor, log_ratio: Tensor) -> Tensor:
        """Return the prediction for z (n, d) of unit variance at log(s/a) (n,)."""
        angles, phases = z @ self.frequencies, log_ratio[:, None] * self.rates
        hidden = torch.cat(
            [z, angles.sin(), angles.cos(), log_ratio[:, None] / 4, phases.sin(), phases.cos()], 1
        )
        for layer in self.layers[:-1]:
            hidden = nn.functional.silu(layer(hidden))
        return self.layers[-1](hidden)
