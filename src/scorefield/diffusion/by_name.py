"""Processes by their name, and the range that suits a data set."""

import dataclasses
import math
from collections.abc import Sequence

import torch

from scorefield.diffusion.process import Process
from scorefield.diffusion.published import EDM, VE, VP, Cosine, Straight, SubVP

PROCESSES: dict[str, type[Process]] = {
    "vp": VP,
    "subvp": SubVP,
    "ve": VE,
    "edm": EDM,
    "cosine": Cosine,
    "straight": Straight,
}
"""The processes by their name on the command line; their fields are their range."""


def make(name: str, span: Sequence[float] = ()) -> Process:
    """Return a process by its name and range.

    Args:
        name: One of PROCESSES.
        span: The values of its fields in order; () is the published range.

    Raises:
        ValueError: the name is unknown, or the range does not fit.

    Examples:
        >>> make("ve", [0.02, 30.0])
        VE(sigma_min=0.02, sigma_max=30.0)
    """
    if name not in PROCESSES:
        raise ValueError(f"process must be one of {list(PROCESSES)}; got {name!r}")
    fields = [field.name for field in dataclasses.fields(PROCESSES[name])]
    if span and len(span) != len(fields):
        raise ValueError(f"the range of {name} is {', '.join(fields) or 'empty'}; got {list(span)}")
    return PROCESSES[name](*span)


def named(process: object) -> tuple[str, tuple[float, ...]]:
    """Return the name and the range from which `make` makes a process. Raises ValueError where it is not registered."""
    for name, kind in PROCESSES.items():
        if type(process) is kind:
            return name, dataclasses.astuple(process)
    raise ValueError(
        f"process must be an instance of one of {[k.__name__ for k in PROCESSES.values()]}; got {process!r}"
    )


def span_for(name: str, distance: float) -> tuple[tuple[float, ...], str]:
    """Return the range of a process for data whose rows are at most so far apart, and the reason in words.

    The noise must reach the largest distance between rows, so that any of them can become any other
    (Song and Ermon, 2020, technique 1); more only costs steps. VP ends at s/a = 152 unless
    that is too small.
    """
    if name in ("ve", "edm"):
        reason = f"noise up to {distance:.3g}, the largest distance between rows in model units"
        return ((VE.sigma_min, distance) if name == "ve" else (distance,)), reason
    if name in ("vp", "subvp") and distance > (end := float(make(name).ratio(torch.tensor(1.0, dtype=torch.float64)))):
        squared = math.log1p(distance**2) if name == "vp" else 2 * math.asinh(distance / 2)  # B(1) at this ratio
        reason = f"noise up to s/a = {distance:.3g}, the largest distance between rows in model units, not {end:.3g}"
        return (VP.beta_min, 2 * squared - VP.beta_min), reason
    process = make(name)
    end = float(process.ratio(torch.tensor(process.t_max, dtype=torch.float64)))
    reason = f"the published range, to s/a = {end:.4g}, is beyond the largest distance between rows, {distance:.3g}"
    return dataclasses.astuple(process), reason
