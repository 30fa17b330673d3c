"""Exponential integrators: samplers that solve the linear part of the process exactly.

With l = log s/a, h = l(t) - l(u) > 0 and y = x/a the probability flow is dy = noise d(s/a), and the reverse SDE
dy = 2 (clean - y) |dl| + sqrt(2) (s/a) dW: whatever the process, only the noise or the clean part, which vary slowly,
is approximated. b, r are the coefficients a, s at u.
"""

import abc
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from scorefield.diffusion.denoisers import Denoiser
from scorefield.diffusion.process import Process
from scorefield.inference.walking import Sampler, Step, checked, pairs
from scorefield.numerics.shapes import Grid, Path, Samples
from scorefield.numerics.tensors import normal_like

QUADRATURE = [torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(20)]
"""Nodes and weights of Gauss and Legendre on [-1, 1]."""

PIECE = 2.0
"""The length in log s/a over which they integrate to rounding."""


@checked
def dpmpp_2m(model: Denoiser, x: Samples, times: Grid) -> Path:
    """Walk by DPM-Solver++(2M) (Lu et al., 2022b, algorithm 2): the probability flow, in which the clean part is slow.

    With h' the h of the step before:
    D = clean + h/2h' (clean - clean before);  (r/s) x + b (1 - e^-h) D.
    The first step has no step before it and is DDIM's.

    Args:
        model: What is asked.
        x: States (n, ...) at times[0].
        times: Decreasing, (k,).

    Returns:
        An iterator over the states at times[1:].
    """
    yield from _two_steps(model, x, times, None)


def dpmpp_2m_sde(generator: Generator | None = None) -> Sampler:
    """Make the same with noise (Lu et al., 2022b, as an SDE): (r/s) e^-h x + b (1 - e^-2h) D + r sqrt(1 - e^-2h) z.

    What D sees of the noise of the step before makes up for what it cannot know of its own: the law has order 2.

    Args:
        generator: What z is drawn from.
    """
    return checked(lambda model, x, times: _two_steps(model, x, times, lambda x: normal_like(x, generator)))


def _two_steps(model: Denoiser, x: Samples, times: Grid, draw: Callable[[Tensor], Tensor] | None) -> Path:
    past: tuple[Samples, Tensor] | None = None  # the clean part and the h of the step before
    for t, u in pairs(times):
        s, b, r = model.process.std(t), model.process.mean_coef(u), model.process.std(u)
        h = log_step(model.process, t, u)
        clean, _ = model.decompose(x, t)
        slow = clean if past is None else clean + (h / (2 * past[1])).to(x) * (clean - past[0])
        if draw is None:
            x = (r / s).to(x) * x - (b * torch.expm1(-h)).to(x) * slow
        else:
            share = -torch.expm1(-2 * h)
            x = (r / s * (-h).exp()).to(x) * x + (b * share).to(x) * slow + (r * share.sqrt()).to(x) * draw(x)
        past = clean, h
        yield x


class Frame(abc.ABC):
    """Coordinates z = x / (a scale) of the probability flow in which dz/d(angle) varies slowly."""

    @abc.abstractmethod
    def rate(self, ratio: Tensor) -> Tensor:
        """d(angle)/d(log s/a) at a ratio s/a."""

    @abc.abstractmethod
    def scale(self, ratio: Tensor) -> Tensor:
        """The size of x/a in units of z."""

    @abc.abstractmethod
    def velocity(self, clean: Samples, noise: Samples, ratio: Tensor) -> Samples:
        """dz/d(angle)."""


class Scaled(Frame):
    """y = x/a, dy = noise d(s/a)."""

    def rate(self, ratio: Tensor) -> Tensor:
        return ratio

    def scale(self, ratio: Tensor) -> Tensor:
        return torch.ones_like(ratio)

    def velocity(self, clean: Samples, noise: Samples, ratio: Tensor) -> Samples:
        return noise


@dataclass(frozen=True)
class Rotated(Frame):
    """z = x / sqrt(a^2 d^2 + s^2), dz = (cos(phi) noise - sin(phi) clean / d) d(phi), phi = atan(s / (a d))."""

    d: float

    def rate(self, ratio: Tensor) -> Tensor:
        return self.d * ratio / (ratio**2 + self.d**2)

    def scale(self, ratio: Tensor) -> Tensor:
        return (ratio**2 + self.d**2).sqrt()

    def velocity(self, clean: Samples, noise: Samples, ratio: Tensor) -> Samples:
        angle = torch.atan(ratio / self.d)
        return angle.cos().to(noise) * noise - (angle.sin() / self.d).to(clean) * clean


def deis(order: int = 3) -> Sampler:
    """Make the exponential Adams-Bashforth sampler of Zhang and Chen, 2023, with polynomials in log s/a.

    y_u = y_t + integral of P d(s/a), P the polynomial through the last noises, y = x/a. The first step is the
    trapezoid's, whose error is that of a polynomial through two points.

    Args:
        order: Of the sampler: so many noises.

    Raises:
        ValueError: the order is below 1.
    """
    return _adams_bashforth(order, lambda model: Scaled())


def adams(order: int = 3) -> Sampler:
    """Make the same sampler in the frame `Rotated`, d^2 the data's mean variance: z_u = z_t + integral of P d(phi).

    A Gaussian of variance d^2 stands still there, so the steps at large noise, where any data look like one, cost no
    accuracy. dz/d(phi) is the prediction v (Salimans and Ho, 2022).

    Args:
        order: Of the sampler: so many predictions.

    Raises:
        ValueError: the order is below 1.

    Examples:
        >>> import torch
        >>> from scorefield import VP, ExactDenoiser, GaussianMixture, times
        >>> model = ExactDenoiser(GaussianMixture.gaussian(torch.zeros(1), torch.eye(1)), VP())
        >>> *_, end = adams()(model, torch.ones(1, 1), times.grid(VP(), 5))
        >>> print(f"{end.item():.5f}")  # N(0, 1) stands still
        1.00000
    """
    return _adams_bashforth(order, lambda model: Rotated(model.spread))


def _adams_bashforth(order: int, frame_for: Callable[[Denoiser], Frame]) -> Sampler:
    if order < 1:
        raise ValueError(f"expected an order of at least 1; got {order}")

    def path(model: Denoiser, x: Samples, times: Grid) -> Path:
        frame, points = frame_for(model), deque[Tensor](maxlen=order)
        values = deque[Samples](maxlen=order)
        for t, u in pairs(times):
            a, b = model.process.mean_coef(t), model.process.mean_coef(u)
            ratio, ratio_u = model.process.ratio(t), model.process.ratio(u)
            z, scale_u = x / (a * frame.scale(ratio)).to(x), (b * frame.scale(ratio_u)).to(x)
            points.append(ratio.log())
            values.append(frame.velocity(*model.decompose(x, t), ratio))
            z_u = z + _integral(frame, points, values, ratio, ratio_u)
            if len(points) == 1 < order:
                value_u = frame.velocity(*model.decompose(scale_u * z_u, u), ratio_u)
                z_u = z + _integral(frame, [*points, ratio_u.log()], [*values, value_u], ratio, ratio_u)
            yield (x := scale_u * z_u)

    return checked(path)


def _integral(
    frame: Frame, points: Sequence[Tensor], values: Sequence[Samples], ratio: Tensor, ratio_u: Tensor
) -> Samples:
    """The integral d(angle) between two ratios of the polynomial in log s/a through values at points (Lagrange).

    By quadrature in log s/a, in pieces of at most PIECE: there the angle is smooth, however long the step.
    """
    start, end = ratio.log(), ratio_u.log()
    pieces = math.ceil(float(start - end) / PIECE)
    width = (end - start) / pieces
    middles = start + width * (torch.arange(pieces, dtype=start.dtype)[:, None] + 0.5)
    place = middles + width / 2 * QUADRATURE[0]
    weights = width / 2 * QUADRATURE[1] * frame.rate(place.exp())
    total = torch.zeros_like(values[0])
    for j, (point, value) in enumerate(zip(points, values, strict=True)):
        factors = [(place - other) / (point - other) for k, other in enumerate(points) if k != j]
        basis = math.prod(factors, start=torch.ones_like(place))
        total += (weights * basis).sum().to(total) * value
    return total


def heun_sde(generator: Generator | None = None) -> Step:
    """Make the exponential Heun step of the reverse SDE, of second order in law (Platen's scheme, exponential).

    y_u = e^-2h y_t + integral_0^h 2 e^-2(h-k) clean dk + (s/a at u) sqrt(1 - e^-2h) z.
    The clean part is taken as linear between its value at t and that where a step with the first value alone would
    lead, with the same z: additive noise asks for no more (Kloeden and Platen, 1992, section 15.1).

    Args:
        generator: What z is drawn from.
    """

    def step(model: Denoiser, x: Samples, t: Tensor, u: Tensor) -> Samples:
        y, end, h = x / model.process.mean_coef(t).to(x), model.process.ratio(u), log_step(model.process, t, u)
        b, share, later = model.process.mean_coef(u).to(x), -torch.expm1(-2 * h), sde_weight(h)
        clean, _ = model.decompose(x, t)
        noisy = (1 - share).to(x) * y + (end * share.sqrt()).to(x) * normal_like(x, generator)
        clean_u, _ = model.decompose(b * (noisy + share.to(x) * clean), u)
        return b * (noisy + (share - later).to(x) * clean + later.to(x) * clean_u)

    return step


def sde_weight(h: Tensor) -> Tensor:
    """Return the integral over k from 0 to h of 2 e^-2(h-k) k/h, the share of the later value."""
    return 1 + torch.expm1(-2 * h) / (2 * h)


def log_step(process: Process, t: Tensor, u: Tensor) -> Tensor:
    """Return h = log (s/a at t) - log (s/a at u)."""
    return (process.ratio(t) / process.ratio(u)).log()
