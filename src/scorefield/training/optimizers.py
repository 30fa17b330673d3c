"""Muon: steps of momentum whose matrices are made orthogonal, for networks that use weights at many places."""

from collections.abc import Iterable

import torch
from torch import Tensor

MOMENTUM, ITERATIONS = 0.95, 5

QUINTIC = 3.4445, -4.7750, 2.0315
"""a, b and c of X -> a X + b (X X') X + c (X X')^2 X, which moves singular values towards 1, the small ones fast."""

SMALLEST = 16
"""Matrices with a side smaller than this have too few directions to gain from it."""


class Muon(torch.optim.Optimizer):
    """Steps of equal size in all directions of each matrix (Jordan et al., 2024).

    M <- m M + (1 - m) G,  W <- W - lr sqrt(max(1, rows / columns)) orthogonal(m M + (1 - m) G), m = 0.95, for matrices
    W with the gradient G. The weights of a convolution are a matrix with a row for each channel that comes out. The
    iterations are products of small matrices and cost as much as a few images; a dense network that sees each row once
    would spend more on them than on its gradients.
    """

    def __init__(self, matrices: Iterable[Tensor], lr: float) -> None:
        super().__init__(matrices, {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Take a step for all matrices that have a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if "momentum" not in self.state[weight]:
                    self.state[weight]["momentum"] = torch.zeros_like(weight)
                momentum = self.state[weight]["momentum"]
                momentum.lerp_(weight.grad, 1 - MOMENTUM)
                direction = orthogonal(weight.grad.lerp(momentum, MOMENTUM).flatten(1))
                size = max(1.0, direction.shape[0] / direction.shape[1]) ** 0.5
                weight.sub_(direction.view_as(weight), alpha=group["lr"] * size)


def orthogonal(matrix: Tensor) -> Tensor:
    """Return about U V' for a matrix U S V'.

    Five quintic iterations bring its singular values to between 0.65 and 1.25; those below about a thousandth of its
    Frobenius norm stay smaller. A matrix of zeros stays one.
    """
    a, b, c = QUINTIC
    x = matrix / (matrix.norm() + 1e-12)
    x = x.mT if x.shape[0] > x.shape[1] else x
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if matrix.shape[0] > matrix.shape[1] else x


def suits(weight: Tensor) -> bool:
    """Return whether a weight is a matrix, or a convolution as one, that is large enough."""
    return weight.ndim in (2, 4) and min(weight.shape[0], weight[0].numel()) >= SMALLEST
