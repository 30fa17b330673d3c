"""What is wrong with samples, in words: tests that reject are traced to causes, and the causes undone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from scorefield.evaluation.two_sample import column_tests, mode_tests
from scorefield.numerics.tensors import uniform

MISSING = 0.1
"""A mode that has less than this part of its share of the rows is missing."""


FIT_VALUES = 2_000
"""A shift and a factor are fitted at so many values of a column."""

CONFIRMED = 3.0
"""A shift or a factor of spread is one if it is so many standard errors, of a normal column, away from none."""


@dataclass(frozen=True)
class Finding:
    """One way in which samples differ from held-out rows.

    kind is copies, missing mode, mode weights, shift of a column, spread of a column, shape of a column or joint
    shape; effect, from 0 to 1, is a difference of probabilities, by which findings can be ordered.
    """

    kind: str
    sentence: str
    p_value: float
    effect: float

    def __str__(self) -> str:
        return f"{self.sentence} (p {f'= {self.p_value:.0e}' if self.p_value > 0 else '< 1e-300'})"


def mode_findings(x: Tensor, y: Tensor, names: Sequence[str], level: float) -> list[Finding]:
    """Return the missing modes and, of wrong weights among the others, that which is off most.

    x and y are the modes of samples and of rows, 0 to their number - 1; a test rejects at p <= level.
    """
    findings = []
    p_values, p, q = mode_tests(x, y, len(names)), _shares(x, len(names)), _shares(y, len(names))
    for k in range(len(names)):
        if p_values[k] <= level and p[k] < MISSING * q[k]:
            text = f"{names[k]} is missing: it has {p[k]:.2f} of the samples and {q[k]:.2f} of the rows"
            findings.append(Finding("missing mode", text, p_values[k], float(q[k] - p[k])))
            x, y = x[x != k], y[y != k]
    p_values, p, q = mode_tests(x, y, len(names)), _shares(x, len(names)), _shares(y, len(names))
    if min(p_values) <= level:
        k = int((p - q).abs().argmax())
        whole = "" if not findings else " left"
        text = f"{names[k]} has {p[k]:.2f} of the samples{whole} and {q[k]:.2f} of the rows{whole}"
        findings.append(Finding("mode weights", text, min(p_values), float((p - q).abs()[k])))
    return findings


def same_shares(samples: Tensor, held_out: Tensor, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Return samples and rows of which some are left out at random, so that their modes x and y have equal shares."""
    modes = int(torch.cat([x, y]).max()) + 1
    p, q = _shares(x, modes), _shares(y, modes)
    keep = lambda labels, share: uniform(len(labels), generator) < share.nan_to_num()[labels]
    return samples[keep(x, q / p)], held_out[keep(y, p / q)]


def column_findings(
    x: Tensor, y: Tensor, name: str, level: float, generator: Generator
) -> tuple[list[Finding], Tensor]:
    """Return what is wrong with a column x of samples, given that of rows y, and the column with it undone.

    One cause is looked for before two: of a shift and a factor of spread that which brings the distribution functions
    closer, then both, if either is more than 3 standard errors of a normal column. Where neither lets the column pass
    all its tests, it has another shape and is returned as it is.
    """
    test = lambda moved: min(column_tests(moved, y, generator).values())
    p_value = test(x)
    if p_value > level:
        return [], x
    gap, at = _largest_gap(x, y)
    one = min(_closest(x, y, free) for free in ((True, False), (False, True)))[1:]
    for shift, factor in (one, _closest(x, y, (True, True))[1:]):
        moved = _undone(x, y, shift, factor)
        moves = _moves(name, shift, factor, CONFIRMED * math.sqrt(1 / len(x) + 1 / len(y)))
        if test(moved) > level and len(moves) == (shift != 0) + (factor != 1):
            return [Finding(kind, text, p_value, abs(gap)) for kind, text in moves], moved
    text = f"{name} has another shape: the share of values up to {at:.3g} is off by {gap:+.2f}"
    return [Finding("shape of a column", text, p_value, abs(gap))], x


def _moves(name: str, shift: float, factor: float, least: float) -> list[tuple[str, str]]:
    """Return kind and sentence of a shift and a factor that are larger than the least ones."""
    found = []
    if abs(shift) > least * math.sqrt(math.pi / 3):
        found.append(("shift of a column", f"{name} is shifted by {shift:+.2f} standard deviations"))
    if abs(math.log(factor)) > least * math.pi / math.sqrt(12):
        found.append(("spread of a column", f"{name} is too {'wide' if factor > 1 else 'narrow'} (x{factor:.2f})"))
    return found


def _undone(x: Tensor, y: Tensor, shift: float, factor: float) -> Tensor:
    """Return x without a shift, in standard deviations of y, and a factor about its mean."""
    return x.mean() - shift * y.std() + (x - x.mean()) / factor


def _closest(x: Tensor, y: Tensor, free: tuple[bool, bool]) -> tuple[float, float, float]:
    """Return the least distance of x to y that undoing a shift, a factor or both can reach, and those two.

    The distance is that of Cramer and von Mises, the mean squared difference of the distribution functions, at 2,000
    values of x.
    """
    from scipy.optimize import minimize

    chosen = np.flatnonzero(free)
    start = torch.stack([(x.median() - y.median()) / y.std(), (x.std() / y.std()).log()])
    begin = start.nan_to_num().clamp(-3, 3).numpy()[chosen]
    rank = torch.linspace(0, len(x) - 1, min(len(x), FIT_VALUES)).long()
    values_of_x, sorted_y, share = x.sort().values[rank], y.sort().values, (rank + 0.5) / len(x)

    mean, std = x.mean(), y.std()

    def parameters(values: np.ndarray) -> tuple[float, float]:
        found = np.zeros(2)
        found[chosen] = values
        return float(found[0]), math.exp(found[1])

    def distance(values: np.ndarray) -> float:
        shift, factor = parameters(values)
        at = mean - shift * std + (values_of_x - mean) / factor
        return float((share - torch.searchsorted(sorted_y, at) / len(y)).square().mean())

    simplex = np.vstack([begin, begin + 0.1 * np.eye(len(begin))])
    options = {"initial_simplex": simplex, "xatol": 1e-3, "fatol": 1e-9}
    found = minimize(distance, begin, method="Nelder-Mead", options=options)
    return float(found.fun), *parameters(found.x)


def _largest_gap(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Return the largest difference of the distribution functions of x and y, with its sign, and where it is."""
    gaps = _gaps(x, y)
    k = int(gaps.abs().argmax())
    return float(gaps[k]), float(x.sort().values[k % len(x)])


def _gaps(x: Tensor, y: Tensor) -> Tensor:
    """Return the differences of the distribution functions of x and y at and just below each value of sorted x."""
    x, y = x.sort().values, y.sort().values
    share = lambda rows, right: torch.searchsorted(rows, x, right=right) / len(rows)
    return torch.cat([share(x, right) - share(y, right) for right in (True, False)])


def _shares(labels: Tensor, modes: int) -> Tensor:
    return torch.bincount(labels, minlength=modes).double() / len(labels)
