"""The verdict on a model's samples, in a sentence: all tests together, and the causes of what they reject."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from scorefield.evaluation.findings import Finding, column_findings, mode_findings, same_shares
from scorefield.evaluation.metrics import MIN_ROWS, Rows, checked, draw
from scorefield.evaluation.two_sample import copying_test, find_modes, joint_test
from scorefield.numerics.tensors import uniform

FALSE_ALARMS = 1e-3
"""How often, at most, samples of the population itself are found unlike the data: all tests together, Bonferroni."""

POWER = 0.9
"""The probability with which the effects that a verdict says it would have seen are seen."""

INDEPENDENT = 10
"""Copies of one row are not independent: where there are copies, other tests take one sample per 10 training rows."""

SHOWN = 5
"""A sentence names no more findings than this."""


@dataclass(frozen=True)
class Verdict:
    """Whether samples are like held-out rows, in a sentence; the findings; what would have been seen."""

    sentence: str
    findings: tuple[Finding, ...]
    tests: int
    samples: int
    rows: int
    false_alarms: float
    visible: dict[str, float]


def verdict(
    samples: Rows, held_out: Rows, train: Rows | None, *, names: Sequence[str] | None = None, generator: Generator
) -> Verdict:
    """Return the verdict on samples, given held-out rows and the training rows.

    Units do not matter: training rows standardise and decorrelate the columns and decide what the modes are; without
    them half of the held-out rows does, and copies are not looked for. Each test is held to 0.001 / tests (Bonferroni),
    so samples that are fresh draws of the population are found unlike it once in a thousand times at most.

    What is rejected is traced to causes. Where modes have wrong shares, the rows of surplus are left out before columns
    are looked at. A column is shifted or spread if undoing the shift or the factor about its mean of least distance
    (Parr and Schucany, 1980) lets it pass; otherwise it has another shape. Columns together are looked at with all
    that undone. Copies come first, then the larger effect. Columns of whole numbers are spread over a cell of width 1,
    but for copies.

    Long because each argument is explained.

    Args:
        samples: Of the model, (S, d).
        held_out: Real rows, (H, d).
        train: What the model learned from, None where that is not known.
        names: Of the columns.
        generator: What ties are broken and rows drawn by.

    Raises:
        ValueError: fewer than 10 rows (20 held-out ones without training rows), or numbers that are not finite.
    """
    samples, held_out, reference = checked(
        samples=samples, held_out=held_out, train=held_out if train is None else train
    )
    if train is None:
        held_out, reference = _halved(held_out, generator)
    names = [f"column {j + 1}" for j in range(samples.shape[1])] if names is None else names
    copied = None
    if train is not None:
        white = _whitening(reference)
        pieces = white(samples), white(held_out), white(reference)
        copied = copies(*pieces, "about {:.0%} of the samples are copies of training rows", generator)
    x, y, reference = _spread_integers([samples, held_out, reference], generator)
    white = _whitening(reference)
    label, modes = find_modes(white(reference), generator)
    in_mode = label(white(reference))
    place = lambda k: _place(reference[in_mode == k], reference, names)
    modes_called = [f"mode {k + 1} of {modes} (around {place(k)})" for k in range(modes)]
    seen = Seen(x, y, label(white(x)), label(white(y)), modes_called)
    ask = lambda x, y, level: _shape_findings(x, y, reference, names, level, generator)
    tests = 3 * len(names) + modes + 1 + (copied is not None)
    findings = judge(seen, copied, len(reference), ask, tests, generator)
    told = ("shift", "spread") if copied is None else tuple(SEEN)
    findings.sort(key=lambda finding: (finding.kind != "copies", -finding.effect))
    return as_verdict(findings, tests, len(samples), len(held_out), told)


@dataclass(frozen=True)
class Seen:
    """Samples x and held-out rows y as tests see them, each (n, k), the modes that they are in, and those's names.

    own (S,) and others (H,): the modes of x and of y, 0 to their number - 1; no names where shares are not looked at.
    """

    x: Tensor
    y: Tensor
    own: Tensor
    others: Tensor
    names: Sequence[str]


def copies(samples: Rows, held_out: Rows, train: Rows, words: str, generator: Generator) -> Finding:
    """Return what the test for copies of training rows finds; words: the sentence, with room for their share."""
    p_value, share = copying_test(samples, held_out, train, generator)
    return Finding("copies", words.format(share), p_value, share)


def judge(
    seen: Seen,
    copied: Finding | None,
    trained: int,
    ask: Callable[[Tensor, Tensor, float], list[Finding]],
    tests: int,
    generator: Generator,
) -> list[Finding]:
    """Return what is wrong: copies, shares of modes, and what is asked of the rest, each test held to its level.

    Where there are copies, which are not independent, one sample per 10 training rows is asked further; where modes
    have wrong shares, the rows of surplus are left out.

    Args:
        seen: What is judged.
        copied: What the test for copies found, None where none was made.
        trained: The number of training rows.
        ask: What else is asked, (x, y, level) -> findings.
        tests: How many tests there are in all.
        generator: What rows are drawn by.
    """
    level, findings = FALSE_ALARMS / tests, []
    x, y, own = seen.x, seen.y, seen.own
    if copied is not None and copied.p_value <= level:
        findings.append(copied)
        kept = draw(torch.arange(len(x)), max(MIN_ROWS, trained // INDEPENDENT), generator)
        x, own = x[kept], own[kept]
    if seen.names and (found := mode_findings(own, seen.others, seen.names, level)):
        findings += found
        x, y = same_shares(x, y, own, seen.others, generator)
    return findings + (ask(x, y, level) if min(len(x), len(y)) >= MIN_ROWS else [])


def as_verdict(findings: list[Finding], tests: int, samples: int, rows: int, told: Collection[str]) -> Verdict:
    """Return the verdict that findings make, in a sentence; told: what it says would have been seen (see SEEN)."""
    sizes = f"{tests} tests, {samples:,} samples against {rows:,} rows, family false-alarm rate {FALSE_ALARMS:g}"
    seen = {name: size for name, size in visible(samples, rows, FALSE_ALARMS / tests).items() if name in told}
    sentence = _unlike(findings, sizes) if findings else _alike(seen, sizes)
    return Verdict(sentence, tuple(findings), tests, samples, rows, FALSE_ALARMS, seen)


SEEN = {
    "shift": "a shift of {:.2g} standard deviations",
    "spread": "a spread of x{:.3g}",
    "copies": "{:.0%} of copies",
}


def _alike(visible: dict[str, float], sizes: str) -> str:
    told = f"The samples could not be told from held-out rows ({sizes})."
    seen = ", ".join(SEEN[name].format(value) for name, value in visible.items() if name != "copies" or value < 1)
    if not seen:
        return f"{told} They are too few: not even copies alone would have been seen nine times in ten."
    where = ", in a normal column" if "shift" in visible else ""
    return f"{told} What would have been seen nine times in ten{where}: {seen}."


def _unlike(findings: list[Finding], sizes: str) -> str:
    more = [f"{len(findings) - SHOWN} more findings"] if len(findings) > SHOWN else []
    return f"NOT like the data ({sizes}): {'; '.join([*map(str, findings[:SHOWN]), *more])}."


def visible(n: int, m: int, level: float) -> dict[str, float]:
    """Return the smallest shift, in standard deviations, factor of spread and share of copies that are seen.

    Of n samples and m rows, in a normal column: the tests of Mann and Whitney and of Ansari and Bradley need 3 / pi and
    6 / pi^2 times as many rows as those of means and variances (Hodges and Lehmann, 1956).
    """
    from scipy.stats import norm

    errors = float(norm.isf(level / 2) + norm.ppf(POWER)) * math.sqrt(1 / n + 1 / m)
    found = {"shift": errors * math.sqrt(math.pi / 3), "spread": math.exp(errors * math.pi / math.sqrt(12))}
    return found | {"copies": min(1.0, errors / math.sqrt(3))}


def _shape_findings(
    x: Tensor, y: Tensor, reference: Tensor, names: Sequence[str], level: float, generator: Generator
) -> list[Finding]:
    """Return what is wrong with the columns one by one and, if none has another shape, with all of them together."""
    findings, undone = [], x.clone()
    for j, name in enumerate(names):
        found, undone[:, j] = column_findings(x[:, j], y[:, j], name, level, generator)
        findings += found
    white = _whitening(reference)
    p_value, effect = joint_test(white(undone), white(y), white(reference), generator)
    if p_value <= level and all(finding.kind != "shape of a column" for finding in findings):
        findings.append(Finding("joint shape", "the columns together have another shape", p_value, effect))
    return findings


def _halved(held_out: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Return half of the held-out rows, and the other half to stand for training rows, drawn at random."""
    if len(held_out) < 2 * MIN_ROWS:
        raise ValueError(
            f"expected at least {2 * MIN_ROWS} held-out rows where there are no training rows; got {len(held_out)}"
        )
    reference, held_out = draw(held_out, len(held_out), generator).tensor_split(2)
    return held_out, reference


def _whitening(reference: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the map to columns that are standardised and decorrelated as those of reference rows are."""
    mean, std = reference.mean(0), reference.std(0)
    std = torch.where(std > 0, std, 1.0)
    standard = (reference - mean) / std
    root = torch.linalg.cholesky(standard.T.cov().reshape(2 * std.shape) + 1e-6 * torch.eye(len(std), dtype=std.dtype))
    return lambda rows: torch.linalg.solve_triangular(root, ((rows - mean) / std).T, upper=False).T


def _spread_integers(parts: list[Tensor], generator: Generator) -> list[Tensor]:
    """Return rows with uniform numbers between -1/2 and 1/2 added to the columns that hold whole numbers only."""
    whole = torch.stack([(part == part.round()).all(0) for part in parts]).all(0)
    return [part + whole * (uniform(part.numel(), generator).reshape(part.shape) - 0.5) for part in parts]


def _place(rows: Tensor, reference: Tensor, names: Sequence[str]) -> str:
    """Return where a mode is: its mean in the columns, three at most, in which it is furthest from that of all rows."""
    centre = rows.mean(0)
    furthest = ((centre - reference.mean(0)) / reference.std(0)).nan_to_num().abs().argsort(descending=True)[:3]
    return ", ".join(f"{names[j]} = {float(centre[j]):.3g}" for j in sorted(furthest.tolist()))
