"""An adaptive solver of ordinary differential equations in which the rows of a batch do not know each other."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from scorefield.numerics.tensors import power

RowField = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(t, y, rows) -> dy/dt for some rows of the batch: t (m,), y (m, k), rows (m,) their indices."""

# Dormand and Prince, 1980, table 2: nodes, stages, and the difference of the orders 5 and 4.
NODES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
STAGES = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


class Solution(NamedTuple):
    """The state of each row at the end, and how often each row asked for its derivative."""

    y: Tensor
    evaluations: Tensor


def dormand_prince(
    field: RowField,
    y: Tensor,
    start: float,
    stop: float,
    *,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    max_steps: int = 10_000,
) -> Solution:
    """Integrate dy/dt = field(t, y, rows) from start to stop, each row with steps of its own (order 5).

    Every step's estimated error is kept below atol + rtol |y| in every component of the row, so a row's result does
    not depend on its neighbours. Where the field jumps in y the error of the step that crosses can be 200 times that.
    start may lie above stop. y (n, k). Source: Dormand and Prince, 1980.
    Raises RuntimeError, naming the row and the time, where a row does not arrive: the field is not finite, or more
    than max_steps steps would be needed; ValueError for no tolerance at all and a field of another shape than y.
    Long because what a row knows of itself changes in one place.
    """
    _require_tolerances(rtol, atol)
    n, span = len(y), stop - start
    y, evaluations = y.clone(), torch.ones(n, dtype=torch.long)
    t, size = (torch.full((n,), value, dtype=torch.float64, device=y.device) for value in (start, span / 16))
    rows = torch.arange(n, device=y.device) if span else torch.arange(0, device=y.device)
    slope = field(t, y, rows) if span else torch.zeros_like(y)
    if slope.shape != y.shape:
        raise ValueError(f"expected a field of the shape of its state, {tuple(y.shape)}; got {tuple(slope.shape)}")
    for _ in range(max_steps):
        if not len(rows):
            return Solution(y, evaluations)
        left = stop - t[rows]
        last = size[rows].abs() >= left.abs()
        h = torch.where(last, left, size[rows])
        new, new_slope, error = _step(field, t[rows], y[rows], slope[rows], h, rows)
        tolerance = atol + rtol * torch.maximum(y[rows].abs(), new.abs())
        worst = _worst(error.abs() / tolerance, new_slope)
        good = worst <= 1
        kept = rows[good]
        y[kept], slope[kept] = new[good], new_slope[good]
        t[kept] = torch.where(last, stop, t[rows] + h)[good]
        evaluations[rows.cpu()] += 6
        factor = (0.9 * power(worst.clamp(min=1e-10), -0.2)).clamp(0.2, 5.0)
        size[rows] = h * torch.where(good, factor, factor.clamp(max=0.9))
        _require_progress(size[rows], span, rows, t[rows])
        rows = rows[~(good & last)]
    raise RuntimeError(
        f"the ODE solver took {max_steps} steps and row {int(rows[0])} had reached t={float(t[rows[0]]):g} of "
        f"[{start:g}, {stop:g}]; raise rtol and atol, or look at the field there"
    )


def _step(
    field: RowField, t: Tensor, y: Tensor, slope: Tensor, h: Tensor, rows: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the state after one step of size h, the slope there and the estimated error."""
    width = h[:, None].to(y)
    slopes, new = [slope], y
    for node, stage in zip(NODES[1:], STAGES[1:], strict=True):
        new = y + width * sum(c * k for c, k in zip(stage, slopes, strict=True))
        slopes.append(field(t + node * h, new, rows))
    return new, slopes[-1], width * sum(c * k for c, k in zip(ERROR, slopes, strict=True))


def _worst(shares: Tensor, slope: Tensor) -> Tensor:
    """Return the largest share of its tolerance that each row's error takes; infinite where a row is not finite."""
    worst = shares.amax(1).double()
    return torch.where(worst.isfinite() & slope.isfinite().all(1), worst, torch.inf)


def _require_tolerances(rtol: float, atol: float) -> None:
    if not (rtol >= 0 and atol >= 0 and rtol + atol > 0):
        raise ValueError(f"expected tolerances of which one is positive; got rtol={rtol:g}, atol={atol:g}")


def _require_progress(size: Tensor, span: float, rows: Tensor, t: Tensor) -> None:
    stuck = size.abs() < 1e-12 * abs(span)
    if bool(stuck.any()):
        row, at = int(rows[stuck][0]), float(t[stuck][0])
        raise RuntimeError(
            f"the ODE solver needs steps below 1e-12 of its range at t={at:g} in row {row}: "
            "the field is not finite or jumps there"
        )
