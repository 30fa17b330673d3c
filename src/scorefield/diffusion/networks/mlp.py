"""A multilayer perceptron for vectors that leaves the symmetric solution quickly."""

import itertools
import math

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import silu

from scorefield.numerics.tensors import normal, unfilled

SLOWEST, FASTEST = 0.1, 3.0
"""The range of the frequencies of the features, in periods per standard deviation of the data."""

RATES = (0.125, 0.25, 0.5, 1.0, 2.0)
"""The angular frequencies at which the network sees the logarithm of the noise ratio."""


class MLP(nn.Module):
    """Dense layers with SiLU on the sample and random Fourier features of it, steered by the noise ratio.

    With the usual small initialisation such a network stays at the trivial solution for minutes on symmetric data;
    features of x and orthogonal matrices of gain 1.4 leave it at once. Three things make it learn fast:
    each feature sin(w x) is damped by exp(-|w|^2 r^2 / 2), r = s/a, which is what noise does to that wave;
    their frequencies are spread evenly in log |w|, whatever the dimension;
    every layer's response is scaled and shifted by functions of log r (Perez et al., 2018).
    The last layer starts at zero, so the model starts as the Gaussian fit.

    Args:
        dim: Columns of z.
        width: Of the layers.
        depth: Layers.
        features: Random Fourier features of z.
        embedding: Numbers in which the layers are told the noise ratio.
        outputs: Columns of the answer; None for as many as z has.
        generator: What weights are drawn from.
    """

    frequencies: Tensor
    rates: Tensor

    def __init__(
        self,
        dim: int,
        width: int = 128,
        depth: int = 3,
        features: int = 64,
        embedding: int = 16,
        outputs: int | None = None,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        directions = nn.functional.normalize(normal((dim, features), torch.empty(0), generator), dim=0)
        periods = torch.logspace(math.log10(SLOWEST), math.log10(FASTEST), features)
        self.register_buffer("frequencies", 2 * math.pi * periods * directions)
        self.register_buffer("rates", torch.tensor(RATES))
        self.outputs = outputs or dim
        sizes = [dim + 2 * features, *[width] * depth, self.outputs]
        layers = [_linear(i, o, generator) for i, o in itertools.pairwise(sizes)]
        nn.init.zeros_(layers[-1].weight)
        self.layers = nn.ModuleList(layers)
        self.embed = _linear(1 + 2 * len(RATES), embedding, generator)
        self.steer = _linear(embedding, 2 * width * depth, generator)
        nn.init.normal_(self.steer.weight, std=0.6 / math.sqrt(embedding), generator=generator)
        with torch.no_grad():
            self.steer.bias.view(depth, 2, width)[:, 0] = 1

    def forward(self, z: Tensor, log_ratio: Tensor) -> Tensor:
        """Return the prediction for z (n, d) of unit variance at log(s/a) (n,).

        Before any training it is 0; in `eval` mode that is said at once.
        """
        last = self.layers[-1]
        if not self.training and not any(bool(number.any()) for number in last.parameters()):  # it has learned nothing
            return z.new_zeros(len(z), self.outputs)
        level = log_ratio[:, None]
        hidden = torch.cat([z, *self._features(z, level.exp())], 1)
        phases = level * self.rates
        embedded = silu(self.embed(torch.cat([level / 4, phases.sin(), phases.cos()], 1)))
        steering = self.steer(embedded).chunk(2 * (len(self.layers) - 1), 1)
        for layer, scale, shift in zip(self.layers[:-1], steering[::2], steering[1::2], strict=True):
            hidden = silu(torch.addcmul(shift, layer(hidden), scale))
        return last(hidden)

    def _features(self, z: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor]:
        """Return sin and cos of w x, x = z sqrt(1 + r^2), each damped by exp(-|w|^2 r^2 / 2)."""
        angles = (z * (1 + ratio**2).sqrt()) @ self.frequencies
        decay = self.frequencies.square().sum(0) / (-2 * math.log(2))
        damping = (decay * ratio**2).exp2()  # exp takes four times as long where it underflows
        return damping * angles.sin(), damping * angles.cos()


def _linear(inputs: int, outputs: int, generator: Generator | None) -> nn.Linear:
    layer = unfilled(nn.Linear, inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain=1.4, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer
