"""What a network predicts: y = p clean + q noise, one row of a table, and the 2x2 solve that undoes it."""

from collections.abc import Callable

import torch
from torch import Tensor

from scorefield.diffusion.process import Process

Coefficients = Callable[[Process, Tensor, float], tuple[Tensor, Tensor]]


def _noise(process: Process, t: Tensor, data_std: float) -> tuple[Tensor, Tensor]:
    return torch.zeros_like(t), torch.ones_like(t)


def _clean(process: Process, t: Tensor, data_std: float) -> tuple[Tensor, Tensor]:
    return torch.ones_like(t), torch.zeros_like(t)


def _score(process: Process, t: Tensor, data_std: float) -> tuple[Tensor, Tensor]:
    return torch.zeros_like(t), -1 / process.std(t)


def _v(process: Process, t: Tensor, data_std: float) -> tuple[Tensor, Tensor]:
    signal, s = process.mean_coef(t) * data_std, process.std(t)
    total = torch.hypot(signal, s)
    return -s / (data_std * total), signal / total


def _velocity(process: Process, t: Tensor, data_std: float) -> tuple[Tensor, Tensor]:
    return process.mean_rate(t), process.std_rate(t)


PREDICTIONS: dict[str, Coefficients] = {
    "noise": _noise,
    "clean": _clean,
    "score": _score,
    "v": _v,
    "velocity": _velocity,
}
"""The rows (p, q) by name, as functions of (process, t, data_std).

noise     (0, 1)        Ho et al., 2020
clean     (1, 0)
score     (0, -1/s)     Song et al., 2021
v         (-s/d, a d) / sqrt(a^2 d^2 + s^2) for data of std d: the unit-variance target uncorrelated with x.
          d = 1 with a^2 + s^2 = 1 is Salimans and Ho, 2022; any (a, s) is Karras et al., 2022, up to its sign
velocity  (a', s')      flow matching: Lipman et al., 2023
"""


def coefficients(name: str, process: Process, t: Tensor, data_std: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return (p, q) at t in float64, after checking that y = p clean + q noise can be solved there.

    With x = a clean + s noise the determinant is a q - s p. Raises ValueError where it vanishes or is infinite:
    'clean' at t = 0, 'velocity' where s' is infinite, 'score' where s = 0.
    """
    t = t.double()
    p, q = PREDICTIONS[name](process, t, data_std)
    a, s = process.mean_coef(t), process.std(t)
    size = torch.hypot(a, s) * torch.hypot(p, q)
    solvable = ((a * q - s * p).abs() > 1e-7 * size) & size.isfinite()
    if not bool(solvable.all()):
        worst = float(t.reshape(-1)[~solvable.reshape(-1)][0])
        raise ValueError(
            f"the prediction '{name}' cannot be turned into clean and noise at t={worst:g} of {process}; "
            "stay further from that end of time or predict 'v', which is solvable everywhere"
        )
    return p, q


def solve(x: Tensor, y: Tensor, a: Tensor, s: Tensor, p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Return (clean, noise) with x = a clean + s noise and y = p clean + q noise."""
    det = a * q - s * p
    return (q * x - s * y) / det, (a * y - p * x) / det


def noise_gain(a: Tensor, s: Tensor, p: Tensor, q: Tensor) -> Tensor:
    """Return d noise / d y = a / (a q - s p): an error of the prediction read as an error of the noise."""
    return a / (a * q - s * p)
