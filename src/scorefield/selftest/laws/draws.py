"""What Hypothesis thinks of, as numbers, processes and densities, and how an answer to it is judged."""

import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TypeVar

import torch
from torch import Tensor

from scorefield.diffusion.by_name import PROCESSES, make
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.process import Process
from scorefield.numerics.tensors import normal, spawn
from scorefield.selftest.cases import F64

Option = TypeVar("Option")


class Draw:
    """What Hypothesis thinks of, one number after another."""

    def __init__(self, choose: Callable, strategies: ModuleType) -> None:
        self.choose, self.strategies = choose, strategies

    def whole(self, low: int, high: int) -> int:
        """Return a whole number, both ends included."""
        return self.choose(self.strategies.integers(low, high))

    def real(self, low: float, high: float) -> float:
        """Return a number, both ends included."""
        return self.choose(self.strategies.floats(low, high))

    def one_of(self, options: Sequence[Option]) -> Option:
        """Return one of some options."""
        return options[self.whole(0, len(options) - 1)]

    def normals(self, *shape: int) -> Tensor:
        """Return normals, float64, by a seed."""
        return normal(shape, torch.empty(0, dtype=F64), spawn(self.whole(0, 2**31)))

    def process(self) -> Process:
        """Return a registered process of any range."""
        name = self.one_of(list(PROCESSES))
        low = self.real(0.01, 2.0)
        spans = {
            "vp": (low, low + self.real(5.0, 30.0)),
            "ve": (0.01 * low, self.real(20.0, 200.0)),
            "edm": (self.real(20.0, 200.0),),
        }
        spans |= {"subvp": spans["vp"], "cosine": (0.01 * low,)}
        return make(name, spans.get(name, ()))

    def time(self, process: Process, low: float = 1e-3, high: float = 10.0) -> Tensor:
        """Return the time of a noise ratio."""
        ratio = math.exp(self.real(math.log(low), math.log(high)))
        return process.time(torch.tensor(ratio, dtype=F64))

    def mixture(self, d: int, components: int = 3) -> GaussianMixture:
        """Return a mixture of Gaussians."""
        root = 0.3 * self.normals(components, d, d)
        covariances = root @ root.mT + 0.1 * torch.eye(d, dtype=F64)
        return GaussianMixture(self.normals(components).exp(), self.normals(components, d), covariances)


def apart(x: Tensor, y: Tensor) -> float:
    """Return the largest difference, relative above 1."""
    return float(((x - y).abs() / y.abs().clamp(min=1)).max()) if x.numel() else 0.0


def wrong(right: bool) -> float:
    """Return 0 for right and infinity for wrong."""
    return 0.0 if right else math.inf
