"""Noising processes: dX = f(t) X dt + g(t) dW, so that X_t | X_0 ~ N(a(t) X_0, s(t)^2 I).

Time runs from 0, the data, to t_max. The common scale of all processes is the ratio s/a, the standard
deviation of the noise in units of the data.
"""

import abc
from dataclasses import dataclass

from torch import Tensor

from scorefield.numerics.shapes import Samples, Times
from scorefield.numerics.tensors import match

RATIO_MIN = 1e-3
"""The smallest noise-to-data ratio used for sampling and likelihood unless a model says otherwise."""

RATIO_MAX = 1e4
"""Where a process that ends without any data left (a = 0) is stopped."""


@dataclass(frozen=True, eq=False, repr=False)
class Process(abc.ABC):
    """dX = f(t) X dt + g(t) dW and its Gaussian kernel, four functions in closed form.

    Two differential equations tie them, a' = f a and (s^2)' = 2 f s^2 + g^2 (Song et al., 2021, eq. 29). Times and what
    is returned for them have one shape, any; float64 times give results to its rounding.
    """

    @property
    @abc.abstractmethod
    def t_max(self) -> float:
        """The last time: 1, or where s/a = 1e4 if a(1) = 0."""

    @abc.abstractmethod
    def drift(self, t: Tensor) -> Tensor:
        """f(t), the drift per unit of x."""

    @abc.abstractmethod
    def diffusion(self, t: Tensor) -> Tensor:
        """g(t), the noise per square root of time."""

    @abc.abstractmethod
    def mean_coef(self, t: Tensor) -> Tensor:
        """a(t), the factor of the clean sample."""

    @abc.abstractmethod
    def std(self, t: Tensor) -> Tensor:
        """s(t), the standard deviation of the noise."""

    @abc.abstractmethod
    def std_rate(self, t: Tensor) -> Tensor:
        """s'(t) = f s + g^2 / 2s; infinite at 0 where g(0) > 0."""

    @abc.abstractmethod
    def time(self, ratio: Tensor) -> Tensor:
        """The time t at which s(t)/a(t) = ratio."""

    def ratio(self, t: Tensor) -> Tensor:
        """s(t)/a(t), the inverse of `time`."""
        return self.std(t) / self.mean_coef(t)

    def mean_rate(self, t: Tensor) -> Tensor:
        """a'(t) = f(t) a(t)."""
        return self.drift(t) * self.mean_coef(t)

    def kernel(self, t: Times, x: Samples) -> tuple[Tensor, Tensor]:
        """Return (a, s) at t, computed in float64 and shaped to multiply x.

        Args:
            t: One time for the batch, (), or one for each sample, (n,).
            x: Samples (n, ...); their type is that of a and s.

        Raises:
            ValueError: t has another shape.

        Examples:
            >>> import torch
            >>> from scorefield import EDM
            >>> a, s = EDM(sigma_max=10.0).kernel(torch.tensor([0.1, 0.2]), torch.zeros(2, 3))
            >>> s
            tensor([[1.],
                    [2.]])
        """
        t = t.double()
        return match(self.mean_coef(t), x), match(self.std(t), x)
