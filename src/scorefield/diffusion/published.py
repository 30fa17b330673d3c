"""The processes of the literature, in closed form."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield.diffusion.process import RATIO_MAX, Process


@dataclass(frozen=True)
class _LinearRate(Process):
    """A process of the drift -beta/2, beta(t) linear: a = exp(-B/2), B the integral of beta."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min <= self.beta_max < math.inf:
            raise ValueError(
                f"VP needs 0 < beta_min <= beta_max; got beta_min={self.beta_min}, beta_max={self.beta_max}"
            )

    @property
    def t_max(self) -> float:
        return 1.0

    def beta(self, t: Tensor) -> Tensor:
        """Return the noise rate beta at t."""
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def integral(self, t: Tensor) -> Tensor:
        """B(t), the integral of beta from 0 to t."""
        return (self.beta_min + (self.beta_max - self.beta_min) / 2 * t) * t

    def drift(self, t: Tensor) -> Tensor:
        return -self.beta(t) / 2

    def mean_coef(self, t: Tensor) -> Tensor:
        return (-self.integral(t) / 2).exp()

    def _time_of_integral(self, big_b: Tensor) -> Tensor:
        """The positive root t of B(t) = big_b."""
        return 2 * big_b / (self.beta_min + (self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * big_b).sqrt())


@dataclass(frozen=True)
class VP(_LinearRate):
    """Variance preserving, f = -beta/2, g = sqrt(beta), beta(t) linear (Song et al., 2021, eq. 33).

    B(t) = beta_min t + (beta_max - beta_min) t^2 / 2;  a = exp(-B/2);  s^2 = 1 - exp(-B).

    Args:
        beta_min: beta at t = 0.
        beta_max: beta at t = 1, the last time.

    Raises:
        ValueError: not 0 < beta_min <= beta_max < infinity.

    Examples:
        >>> import torch
        >>> t = VP().time(torch.tensor(1.0, dtype=torch.float64))  # where there is as much noise as data
        >>> print(f"t = {t:.4f}, a = {VP().mean_coef(t):.4f}, s = {VP().std(t):.4f}")
        t = 0.2590, a = 0.7071, s = 0.7071
    """

    def diffusion(self, t: Tensor) -> Tensor:
        return self.beta(t).sqrt()

    def std(self, t: Tensor) -> Tensor:
        return (-torch.expm1(-self.integral(t))).sqrt()

    def std_rate(self, t: Tensor) -> Tensor:
        return self.beta(t) * (-self.integral(t)).exp() / (2 * self.std(t))

    def time(self, ratio: Tensor) -> Tensor:
        return self._time_of_integral(torch.log1p(ratio**2))  # (s/a)^2 = exp(B) - 1


@dataclass(frozen=True)
class SubVP(_LinearRate):
    """Sub-variance preserving, the drift of VP and g^2 = beta (1 - exp(-2B)) (Song et al., 2021, eq. 34).

    a = exp(-B/2);  s = 1 - exp(-B): below VP's at every t, and s'(0) is finite.

    Args:
        beta_min: beta at t = 0.
        beta_max: beta at t = 1, the last time.

    Raises:
        ValueError: not 0 < beta_min <= beta_max < infinity.
    """

    def diffusion(self, t: Tensor) -> Tensor:
        return (-self.beta(t) * torch.expm1(-2 * self.integral(t))).sqrt()

    def std(self, t: Tensor) -> Tensor:
        return -torch.expm1(-self.integral(t))

    def std_rate(self, t: Tensor) -> Tensor:
        return self.beta(t) * (-self.integral(t)).exp()

    def time(self, ratio: Tensor) -> Tensor:
        return self._time_of_integral(2 * torch.asinh(ratio / 2))  # s/a = 2 sinh(B/2)


@dataclass(frozen=True)
class Cosine(Process):
    """Variance preserving with a cosine schedule (Nichol and Dhariwal, 2021, eq. 17), in continuous time, unclipped.

    a = cos(phi) / cos(phi_0), phi(t) = (pi/2) (t + offset) / (1 + offset), phi_0 = phi(0);  s^2 = 1 - a^2;
    f = -phi' tan(phi);  g^2 = -2f. a(1) = 0, so t_max is where s/a = 1e4.

    Args:
        offset: What keeps the noise from growing too slowly at t = 0.

    Raises:
        ValueError: the offset is not positive and finite.
    """

    offset: float = 0.008

    def __post_init__(self) -> None:
        if not 0 < self.offset < math.inf:
            raise ValueError(f"Cosine needs a positive, finite offset; got offset={self.offset}")

    @property
    def t_max(self) -> float:
        return float(self.time(torch.tensor(RATIO_MAX, dtype=torch.float64)))

    @property
    def rate(self) -> float:
        """phi', the same at every time."""
        return math.pi / 2 / (1 + self.offset)

    def _from_end(self, t: Tensor) -> Tensor:
        """pi/2 - phi(t), without loss where phi is close to pi/2."""
        return self.rate * (1 - t)

    def drift(self, t: Tensor) -> Tensor:
        return -self.rate / self._from_end(t).tan()

    def diffusion(self, t: Tensor) -> Tensor:
        return (-2 * self.drift(t)).sqrt()

    def mean_coef(self, t: Tensor) -> Tensor:
        return self._from_end(t).sin() / math.cos(self.rate * self.offset)

    def std(self, t: Tensor) -> Tensor:
        product = (self.rate * t).sin() * (self.rate * (t + 2 * self.offset)).sin()  # sin^2 phi - sin^2 phi_0
        return product.sqrt() / math.cos(self.rate * self.offset)

    def std_rate(self, t: Tensor) -> Tensor:
        return -self.drift(t) * self.mean_coef(t) ** 2 / self.std(t)  # s s' = -a a'

    def time(self, ratio: Tensor) -> Tensor:
        start = self.rate * self.offset
        a = 1 / (ratio**2 + 1).sqrt()
        cos_phi = a * math.cos(start)
        sin_phi = a * (ratio**2 + math.sin(start) ** 2).sqrt()  # sin^2 phi = s^2 + a^2 sin^2 phi_0
        sin_sum = sin_phi * math.cos(start) + cos_phi * math.sin(start)
        cos_difference = cos_phi * math.cos(start) + sin_phi * math.sin(start)
        sin_difference = (ratio * cos_phi) ** 2 / sin_sum  # sin(phi - phi_0) sin(phi + phi_0) = (s/a)^2 cos^2 phi
        return (sin_difference / cos_difference).atan() / self.rate


@dataclass(frozen=True)
class VE(Process):
    """Variance exploding, f = 0, the noise grows geometrically (Song et al., 2021, eq. 30).

    s^2 = sigma_min^2 (r^(2t) - 1), r = sigma_max / sigma_min, so that s(0) = 0 exactly;  a = 1;
    g = sigma_min r^t sqrt(2 log r).

    Args:
        sigma_min: The noise, in units of the data, from which on it grows geometrically.
        sigma_max: About the noise at t = 1, in units of the data.

    Raises:
        ValueError: not 0 < sigma_min < sigma_max < infinity.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise ValueError(
                f"VE needs 0 < sigma_min < sigma_max; got sigma_min={self.sigma_min}, sigma_max={self.sigma_max}"
            )

    @property
    def t_max(self) -> float:
        return 1.0

    @property
    def log_range(self) -> float:
        """The logarithm of sigma_max / sigma_min."""
        return math.log(self.sigma_max / self.sigma_min)

    def drift(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def diffusion(self, t: Tensor) -> Tensor:
        return self.sigma_min * (self.log_range * t).exp() * math.sqrt(2 * self.log_range)

    def mean_coef(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def std(self, t: Tensor) -> Tensor:
        return self.sigma_min * torch.expm1(2 * self.log_range * t).sqrt()

    def std_rate(self, t: Tensor) -> Tensor:
        return self.diffusion(t) ** 2 / (2 * self.std(t))

    def time(self, ratio: Tensor) -> Tensor:
        return torch.log1p((ratio / self.sigma_min) ** 2) / (2 * self.log_range)


@dataclass(frozen=True)
class Straight(Process):
    """The straight line from data to noise, a = 1 - t, s = t (Liu et al., 2023; Lipman et al., 2023).

    f = -1/(1-t), g^2 = 2t/(1-t); both are infinite at 1, so t_max is where s/a = 1e4.
    """

    @property
    def t_max(self) -> float:
        return RATIO_MAX / (1 + RATIO_MAX)

    def drift(self, t: Tensor) -> Tensor:
        return -1 / (1 - t)

    def diffusion(self, t: Tensor) -> Tensor:
        return (2 * t / (1 - t)).sqrt()

    def mean_coef(self, t: Tensor) -> Tensor:
        return 1 - t

    def std(self, t: Tensor) -> Tensor:
        return t.clone()

    def std_rate(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def time(self, ratio: Tensor) -> Tensor:
        return ratio / (1 + ratio)


@dataclass(frozen=True)
class EDM(Process):
    """Variance exploding with s = sigma_max t, a = 1 (Karras et al., 2022, their time scaled to end at 1).

    f = 0, g = sigma_max sqrt(2t).

    Args:
        sigma_max: The noise at t = 1, in units of the data.

    Raises:
        ValueError: sigma_max is not positive and finite.
    """

    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_max < math.inf:
            raise ValueError(f"EDM needs a positive, finite sigma_max; got sigma_max={self.sigma_max}")

    @property
    def t_max(self) -> float:
        return 1.0

    def drift(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def diffusion(self, t: Tensor) -> Tensor:
        return self.sigma_max * (2 * t).sqrt()

    def mean_coef(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def std(self, t: Tensor) -> Tensor:
        return self.sigma_max * t

    def std_rate(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.sigma_max)

    def time(self, ratio: Tensor) -> Tensor:
        return ratio / self.sigma_max
