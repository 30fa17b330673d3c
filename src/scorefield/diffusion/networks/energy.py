"""A network whose prediction is the gradient of a number, so that its score is that of a log-density."""

from typing import Protocol, runtime_checkable

import torch
from torch import Generator, Tensor, nn

from scorefield.diffusion.networks.mlp import MLP


@runtime_checkable
class HasPotential(Protocol):
    """A network that is the gradient of a number."""

    def potential(self, z: Tensor, log_ratio: Tensor) -> Tensor:
        """Return that number, (n,), for z (n, d) at log(s/a) (n,)."""
        ...


class Energy(nn.Module):
    """The gradient in z of a scalar network: a conservative field, at about three times the cost of a step.

    Where a divergence of it is trained (implicit, hutchinson, sliced, second-order), third derivatives of the network
    are taken, at several times that; energy-sliced and energy-denoising need first ones only.

    Args:
        dim: Columns of z.
        width: Of the layers.
        depth: Layers.
        features: Random Fourier features of z.
        generator: What weights are drawn from.
    """

    def __init__(
        self, dim: int, width: int = 128, depth: int = 3, features: int = 64, generator: Generator | None = None
    ) -> None:
        super().__init__()
        self.net = MLP(dim, width, depth, features, outputs=1, generator=generator)

    def potential(self, z: Tensor, log_ratio: Tensor) -> Tensor:
        """Return the number whose gradient is predicted, (n,), for z (n, d)."""
        return self.net(z, log_ratio)[:, 0]

    def forward(self, z: Tensor, log_ratio: Tensor) -> Tensor:
        """Return the gradient of the potential, (n, d)."""
        value, pull = torch.func.vjp(lambda z: self.potential(z, log_ratio), z)[:2]
        return pull(torch.ones_like(value))[0]
