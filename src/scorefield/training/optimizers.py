"""Adam, and Muon: momentum whose matrices are made orthogonal, for networks that use weights at many places.

The classes of `torch.optim` load PyTorch's compiler when the first is made, which takes 1.3 s; its functions don't.
"""

import abc
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.adam import adam

BETAS, EPS = (0.9, 0.999), 1e-8

MOMENTUM, ITERATIONS = 0.95, 5

QUINTIC = 3.4445, -4.7750, 2.0315
"""a, b and c of X -> a X + b (X X') X + c (X X')^2 X, which moves singular values towards 1, the small ones fast."""

SMALLEST = 16
"""Matrices with a side smaller than this have too few directions to gain from it."""

Moments = dict[str, Tensor]


class Optimizer(abc.ABC):
    """What takes steps of some weights by their gradients, a learning rate, and the moments of each weight by name."""

    def __init__(self, weights: Iterable[Tensor], lr: float) -> None:
        self.weights, self.lr, self.highest = list(weights), lr, lr
        self.moments: list[Moments] = [{} for _ in self.weights]

    @abc.abstractmethod
    def step(self) -> None:
        """Take a step for all weights that have a gradient."""

    def load(self, moments: dict[int, Moments]) -> None:
        """Continue from the moments of some weights by number."""
        for index, weight in enumerate(self.weights):
            self.moments[index] = {name: v.clone().to(weight.device) for name, v in moments.get(index, {}).items()}


class Adam(Optimizer):
    """Steps by a running mean of gradients over the root of that of their squares (Kingma and Ba, 2015, algorithm 1).

    m <- b1 m + (1 - b1) g,  v <- b2 v + (1 - b2) g^2,  w <- w - lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + 1e-8), with
    b1 = 0.9 and b2 = 0.999, by PyTorch's fused function.
    """

    @torch.no_grad()
    def step(self) -> None:
        weights: list[Tensor] = []
        gradients: list[Tensor] = []
        moved: list[Moments] = []
        for weight, known in zip(self.weights, self.moments, strict=True):
            if weight.grad is None:
                continue
            if not known:
                known["step"] = torch.zeros((), device=weight.device)
                known |= {"exp_avg": torch.zeros_like(weight), "exp_avg_sq": torch.zeros_like(weight)}
            weights.append(weight)
            gradients.append(weight.grad)
            moved.append(known)
        means, squares, counts = ([known[name] for known in moved] for name in ("exp_avg", "exp_avg_sq", "step"))
        adam(
            weights,
            gradients,
            means,
            squares,
            max_exp_avg_sqs=[],
            state_steps=counts,
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=self.lr,
            weight_decay=0.0,
            eps=EPS,
            maximize=False,
        )


class Muon(Optimizer):
    """Steps of equal size in all directions of each matrix (Jordan et al., 2024).

    M <- m M + (1 - m) G,  W <- W - lr sqrt(max(1, rows / columns)) orthogonal(m M + (1 - m) G), m = 0.95, for matrices
    W with the gradient G. The weights of a convolution are a matrix with a row for each channel that comes out. The
    iterations are products of small matrices and cost as much as a few images; a dense network that sees each row once
    would spend more on them than on its gradients.
    """

    @torch.no_grad()
    def step(self) -> None:
        for weight, known in zip(self.weights, self.moments, strict=True):
            if weight.grad is None:
                continue
            if not known:
                known["momentum"] = torch.zeros_like(weight)
            momentum = known["momentum"]
            momentum.lerp_(weight.grad, 1 - MOMENTUM)
            direction = orthogonal(weight.grad.lerp(momentum, MOMENTUM).flatten(1))
            size = max(1.0, direction.shape[0] / direction.shape[1]) ** 0.5
            weight.sub_(direction.view_as(weight), alpha=self.lr * size)


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
