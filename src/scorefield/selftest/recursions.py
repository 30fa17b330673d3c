"""The samplers a second time, in NumPy and from the papers: what each makes of given noise, for the law of its end.

A sampler here is (kernel, parts, x, times, draw) -> x at the last time. kernel(t) are the numbers of the process,
parts(x, t) the clean part and the noise of rows x (n, d), draw() the next normals, of the shape of x.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import torch
from scipy import integrate

from scorefield.process import Process

Kernel = Callable[[float], SimpleNamespace]
Parts = Callable[[np.ndarray, float], tuple[np.ndarray, np.ndarray]]
Draw = Callable[[], np.ndarray]
Recursion = Callable[[Kernel, Parts, np.ndarray, list[float], Draw], np.ndarray]


def kernel_of(process: Process) -> Kernel:
    """Return t -> f, g, a, s, the ratio s/a, and the time of a ratio."""

    def kernel(t: float) -> SimpleNamespace:
        at = torch.tensor(t, dtype=torch.float64)
        found = {"f": process.drift, "g": process.diffusion, "a": process.mean_coef, "s": process.std}
        numbers = {name: float(function(at)) for name, function in found.items()}
        return SimpleNamespace(**numbers, ratio=numbers["s"] / numbers["a"])

    return kernel


def euler_maruyama(eta: float) -> Recursion:
    """Song et al., 2021, eq. 6: dx = [f x - (1 + eta^2) g^2 score / 2] dt + eta g dW, x = a clean + s noise."""

    def end(kernel: Kernel, parts: Parts, x: np.ndarray, times: list[float], draw: Draw) -> np.ndarray:
        for t, u in pairwise(times):
            k, h = kernel(t), t - u
            clean, noise = parts(x, t)
            x = x - h * (k.f * k.a * clean + (k.f * k.s + (1 + eta**2) / 2 * k.g**2 / k.s) * noise)
            x = x + eta * k.g * math.sqrt(h) * draw() if eta else x
        return x

    return end


def ddim(eta: float, correct: bool = False) -> Recursion:
    """Song et al., 2021a, eq. 12 and 16, each step followed by one of Langevin's where `correct`."""

    def end(kernel: Kernel, parts: Parts, x: np.ndarray, times: list[float], draw: Draw) -> np.ndarray:
        for t, u in pairwise(times):
            k, to = kernel(t), kernel(u)
            w = eta * math.sqrt(to.s**2 - (k.a / to.a) ** 2 * to.s**4 / k.s**2)
            clean, noise = parts(x, t)
            x = to.a * clean + math.sqrt(to.s**2 - w**2) * noise
            x = x + w * draw() if eta else x
            if correct:
                size = (1 - to.ratio / k.ratio) * to.s**2 / 2
                x = x - size * parts(x, u)[1] / to.s + math.sqrt(2 * size) * draw()
        return x

    return end


def heun(process: Process, churn: float) -> Recursion:
    """Karras et al., 2022, algorithm 2, in x/a against s/a."""

    def end(kernel: Kernel, parts: Parts, x: np.ndarray, times: list[float], draw: Draw) -> np.ndarray:
        factor, highest = 1 + min(churn / (len(times) - 1), math.sqrt(2) - 1), kernel(process.t_max).ratio
        for t, u in pairwise(times):
            k, to = kernel(t), kernel(u)
            y, ratio = x / k.a, min(k.ratio * factor, highest)
            if ratio > k.ratio:
                y = y + math.sqrt(ratio**2 - k.ratio**2) * draw()
                t = float(process.time(torch.tensor(ratio, dtype=torch.float64)))
            first = parts(kernel(t).a * y, t)[1]
            h = to.ratio - kernel(t).ratio
            x = to.a * (y + h / 2 * (first + parts(to.a * (y + h * first), u)[1]))
        return x

    return end


def dpmpp_2m(noisy: bool) -> Recursion:
    """Lu et al., 2022b, algorithm 2, in their letters; noisy: with what the reverse SDE adds."""

    def end(kernel: Kernel, parts: Parts, x: np.ndarray, times: list[float], draw: Draw) -> np.ndarray:
        before, h_before = None, 0.0
        for t, u in pairwise(times):
            k, to = kernel(t), kernel(u)
            h, clean = math.log(to.a / to.s) - math.log(k.a / k.s), parts(x, t)[0]
            slow = clean if before is None else clean + h / h_before / 2 * (clean - before)
            if noisy:
                x = to.s / k.s * math.exp(-h) * x + to.a * (1 - math.exp(-2 * h)) * slow
                x = x + to.s * math.sqrt(1 - math.exp(-2 * h)) * draw()
            else:
                x = to.s / k.s * x - to.a * (math.exp(-h) - 1) * slow
            before, h_before = clean, h
        return x

    return end


def adams_bashforth(spread: float | None) -> Recursion:
    """Zhang and Chen, 2023: the integral of the polynomial in log s/a through the last three slopes, by SciPy.

    spread None: dy/d(s/a) of y = x/a; otherwise dz/d(phi) of z = x / sqrt(a^2 d^2 + s^2), phi = atan(s / (a d)).
    """
    d = spread or 1.0
    scale = lambda ratio: 1.0 if spread is None else math.hypot(ratio, d)
    speed = lambda ratio: ratio if spread is None else ratio * d / (ratio**2 + d**2)  # of the angle in log s/a

    def slope(clean: np.ndarray, noise: np.ndarray, ratio: float) -> np.ndarray:
        return noise if spread is None else (d * noise - ratio / d * clean) / math.hypot(ratio, d)

    def integral(points: list[float], values: list[np.ndarray], start: float, stop: float) -> np.ndarray:
        total = np.zeros_like(values[0])
        for j, value in enumerate(values):
            others = [k for k in range(len(points)) if k != j]

            def part(place: float, j: int = j, others: list[int] = others) -> float:
                basis = math.prod((place - points[k]) / (points[j] - points[k]) for k in others)
                return basis * speed(math.exp(place))

            total += integrate.quad(part, math.log(start), math.log(stop), epsabs=1e-13, epsrel=1e-13)[0] * value
        return total

    def end(kernel: Kernel, parts: Parts, x: np.ndarray, times: list[float], draw: Draw) -> np.ndarray:
        points: list[float] = []
        values: list[np.ndarray] = []
        for t, u in pairwise(times):
            k, to = kernel(t), kernel(u)
            z = x / (k.a * scale(k.ratio))
            points, values = [*points, math.log(k.ratio)][-3:], [*values, slope(*parts(x, t), k.ratio)][-3:]
            moved = z + integral(points, values, k.ratio, to.ratio)
            if len(points) == 1:
                later = slope(*parts(to.a * scale(to.ratio) * moved, u), to.ratio)
                moved = z + integral([*points, math.log(to.ratio)], [*values, later], k.ratio, to.ratio)
            x = to.a * scale(to.ratio) * moved
        return x

    return end


def heun_sde(kernel: Kernel, parts: Parts, x: np.ndarray, times: list[float], draw: Draw) -> np.ndarray:
    """Heun's step of the reverse SDE in y = x/a, the clean part linear in log s/a: Kloeden and Platen, 1992."""
    for t, u in pairwise(times):
        k, to = kernel(t), kernel(u)
        h = math.log(k.ratio / to.ratio)
        share = 1 - math.exp(-2 * h)
        later = 1 - share / (2 * h)
        known = math.exp(-2 * h) * x / k.a + to.ratio * math.sqrt(share) * draw()
        clean = parts(x, t)[0]
        second = parts(to.a * (known + share * clean), u)[0]
        x = to.a * (known + (share - later) * clean + later * second)
    return x


def recursions(process: Process, spread: float) -> dict[str, Recursion]:
    """Return the samplers that take the steps they are given, by name; spread: the root of the data's mean variance."""
    return {
        "adams": adams_bashforth(spread),
        "heun": heun(process, 0.0),
        "ddim": ddim(0.0),
        "euler": euler_maruyama(0.0),
        "dpmpp_2m": dpmpp_2m(False),
        "deis": adams_bashforth(None),
        "ancestral": ddim(1.0),
        "euler_maruyama": euler_maruyama(1.0),
        "churned_heun": heun(process, 10.0),
        "dpmpp_2m_sde": dpmpp_2m(True),
        "exponential_heun": heun_sde,
        "predictor_corrector": ddim(1.0, correct=True),
    }
