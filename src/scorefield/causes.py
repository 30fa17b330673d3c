"""What is wrong with samples, in words: tests that reject are traced to causes, and the causes undone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from scorefield.diagnostics import column_tests, mode_tests
from scorefield.tensors import uniform

MISSING = 0.1
"""A mode that has less than this part of its share of the rows is missing."""


SHIFT, SPREAD = (0,), (1,)
"""What can be undone in a column, as the positions of its parameters."""


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


def mode_findings(x: Tensor, y: Tensor, places: Sequence[str], level: float) -> list[Finding]:
    """Return the missing modes and, of wrong weights among the others, that which is off most.

    x and y are the modes of samples and of rows, places where modes are; a test rejects at p <= level.
    """
    names = [f"mode {k + 1} of {len(places)} (around {place})" for k, place in enumerate(places)]
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
    closer. Where neither it nor both let the column pass all its tests, it has another shape and is returned as it is.
    """
    test = lambda moved: min(column_tests(moved, y, generator).values())
    p_value = test(x)
    if p_value > level:
        return [], x
    sorted_y = y.sort().values
    gap, at = _largest_gap(x.sort().values, sorted_y)
    distance = lambda causes: abs(_largest_gap(_closest(x, y, causes).sort().values, sorted_y)[0])
    for causes in (min(SHIFT, SPREAD, key=distance), SHIFT + SPREAD):
        moved = _closest(x, y, causes)
        if test(moved) > level:
            return [Finding(kind, text, p_value, abs(gap)) for kind, text in _moves(x, y, name, causes)], moved
    text = f"{name} has another shape: the share of values up to {at:.3g} is off by {gap:+.2f}"
    return [Finding("shape of a column", text, p_value, abs(gap))], x


def _moves(x: Tensor, y: Tensor, name: str, causes: tuple[int, ...]) -> list[tuple[str, str]]:
    """Return kind and sentence of each cause, with the difference of means and the ratio of standard deviations."""
    moved = (x.mean() - y.mean()) / y.std()
    wide = "wide" if (factor := x.std() / y.std()) > 1 else "narrow"
    found = [
        ("shift of a column", f"{name} is shifted by {moved:+.2f} standard deviations"),
        ("spread of a column", f"{name} is too {wide} (x{factor:.2f})"),
    ]
    return [found[cause] for cause in causes]


def _closest(x: Tensor, y: Tensor, causes: tuple[int, ...]) -> Tensor:
    """Return x without the shift, the factor about its mean, or both, that bring it closest to y (Kolmogorov)."""
    from scipy.optimize import minimize

    centre, std = x.mean(), y.std().clamp(min=1e-300)
    start = torch.stack([(x.median() - y.median()) / std, (x.std() / std).log()]).nan_to_num().clamp(-3, 3)

    def undo(values: np.ndarray, x: Tensor) -> Tensor:
        shift, log_factor = start.new_zeros(2).index_put((torch.tensor(causes),), torch.from_numpy(values))
        return centre - shift * std + (x - centre) / log_factor.exp()

    begin = start[list(causes)].numpy()
    simplex = np.vstack([begin, begin + 0.1 * np.eye(len(begin))])
    sorted_x, sorted_y = x.sort().values, y.sort().values
    distance = lambda values: abs(_largest_gap(undo(values, sorted_x), sorted_y)[0])
    options = {"initial_simplex": simplex, "xatol": 1e-3, "fatol": 1e-4}
    return undo(minimize(distance, begin, method="Nelder-Mead", options=options).x, x)


def _largest_gap(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Return the largest difference of the distribution functions of sorted x and y, with its sign, and where it is."""
    up_to = lambda side: torch.searchsorted(x, x, side=side) / len(x) - torch.searchsorted(y, x, side=side) / len(y)
    gaps = torch.cat([up_to("right"), up_to("left")])  # at each value of x and just below it
    k = int(gaps.abs().argmax())
    return float(gaps[k]), float(x[k % len(x)])


def _shares(labels: Tensor, modes: int) -> Tensor:
    return torch.bincount(labels, minlength=modes).double() / len(labels)
