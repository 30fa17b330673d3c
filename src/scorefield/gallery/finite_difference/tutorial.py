"""Finite-difference score matching in one dimension: six trainings of 25 parameters, as published and corrected.

All trainings start from the same initial state of the network 1 - 8 - 1:
a  explicit: the squared distance to the true score, weighted by the density, on a grid
b  the same without the weight
c  implicit, by finite differences, weighted by the density, on the grid; twice as long
d  the same over 1,024 samples, without knowing the target
e  a, then d
f  d with 128 samples: too few to see what lies between the modes
Corrected, d and f take the best of four initial states; then they are stopped by held-out rows, or take a wide step, or
a penalty, or both of these (regularised).
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from torch import no_grad

from scorefield.gallery.finite_difference import figures, published
from scorefield.gallery.finite_difference.training import (
    DX,
    GRID,
    PDF,
    SCORE,
    STEPS,
    TARGET,
    Study,
    by_simpson,
    by_sum,
    empirical,
    esm,
    fdsm,
    fisher,
    left_mass,
    network,
    plain,
    total_variation,
    train,
)
from scorefield.gallery.report import Results, row
from scorefield.numerics.tensors import spawn

STARTS = 4
"""Initial states of which the corrected trainings take the one with the least loss after a fifth of the steps."""

WIDE, CURVATURE = 0.3, 0.03
"""The step of the regularised trainings, which sees kinks between samples, and the weight of the regulariser.

On one of the two modes, of variance 1, the regulariser makes the score 6 per cent smaller; the step leaves it as it is.
"""


def run(out: Path, *, seeds: int = 10, quick: bool = False) -> Results:
    """Write 24 figures and 3 animations below `out` and return every published number beside ours."""
    studies = [study(seed, STEPS // 5 if quick else STEPS) for seed in range(2 if quick else seeds)]
    results = truths() | as_published(studies) | corrected(studies)
    figures.as_published(studies, out / "as-published", frames=3 if quick else None)
    figures.corrected(studies, out / "corrected")
    return results


def study(seed: int, steps: int) -> Study:
    """Run the six trainings of one seed, and those that correct d and f: from the best start, each alone and both."""
    weights, draw = spawn(seed, "weights"), spawn(seed, "sample")
    starts = [network(weights) for _ in range(STARTS)]
    start = starts[0]
    sample = TARGET.sample(1024, draw)
    few = TARGET.sample(128, draw)
    trained = {
        "a": train(start, esm, steps),
        "b": train(start, plain, steps),
        "c": train(start, fdsm, 2 * steps),
        "d": train(start, empirical(sample), steps),
        "e": train(start, empirical(sample), steps, warm_up=esm),
        "f": train(start, empirical(few), steps),
    }
    for letter, rows in ("d", sample), ("f", few):
        best = min(starts, key=lambda net: train(net, empirical(rows), steps // 5).losses[-1])
        cut = 3 * len(rows) // 4
        learn, judge = empirical(rows[:cut]), empirical(rows[cut:])
        trained[f"{letter}, best start"] = train(best, empirical(rows), steps)
        trained[f"{letter}, stopped"] = train(best, learn, steps, held_out=judge)
        trained[f"{letter}, wide step"] = train(best, empirical(rows, WIDE), steps)
        trained[f"{letter}, penalty"] = train(best, empirical(rows, curvature=CURVATURE), steps)
        trained[f"{letter}, regularised"] = train(best, empirical(rows, WIDE, CURVATURE), steps)
    return Study(sample, few, trained)


def truths() -> Results:
    """Return what is known without training: constants, floors, the zero network, and recovery from the true score."""
    score = SCORE[:, 0].numpy()
    with no_grad():
        constant = float((PDF * SCORE[:, 0] ** 2).sum() / 2) * DX
        known = {
            "constant C = E score^2 / 2 in nats": constant,
            "C over 200 dx, in units of c": constant / (200 * DX),
            "c: loss of the true score": float(fdsm(TARGET.score)),
            "total variation of the true score, by sum": total_variation(by_sum(score)),
            "total variation of the true score, by Simpson": total_variation(by_simpson(score)),
        }
    return merged(row(name, None, [value]) for name, value in known.items())


def as_published(studies: list[Study]) -> Results:
    """Return each printed number of the trainings a to f beside ours, on its own scale and in nats."""
    return merged(part for letter in "abcdef" for part in _training(letter, studies))


def _training(letter: str, studies: list[Study]) -> Iterator[Results]:
    runs = [each.trained[letter] for each in studies]
    floors = [each.floor(letter) for each in studies]
    zero = {"a": float(esm(lambda x: 0 * x)), "b": float(plain(lambda x: 0 * x))}.get(letter, 0.0)
    known = {"floor": float(np.median(floors)), "zero": zero}
    steps = len(runs[0].losses)
    yield row(f"{letter}: loss at the start", published.STARTS.get(letter), [run.losses[0] for run in runs], **known)
    for step, loss in published.printed(letter).items():
        if step < steps:
            both = published.C_AT_500 if (letter, step) == ("c", 500) else loss
            yield row(f"{letter}: loss at step {step}", both, [run.losses[step - 1] for run in runs], **known)
    yield row(f"{letter}: last loss", published.ENDS[letter], [run.losses[-1] for run in runs], **known)
    if letter == "c":
        yield row("c: smallest loss", published.C_BEST, [min(run.losses) for run in runs], **known)
    if letter in "cdef":
        excess = [run.losses[-1] - floor for run, floor in zip(runs, floors, strict=True)]
        yield row(f"{letter}: last loss less that of the true score", None, excess, 0.0, -known["floor"])
    for side, place, printed in zip(("-10", "10"), (0, -1), published.SCORE_AT_ENDS[letter], strict=True):
        yield row(f"{letter}: score at {side}", printed, [run.scores[-1][place] for run in runs], zero=0.0)
    variation, mass = published.RECOVERED[letter]
    yield _over(letter, "Fisher divergence in nats", None, studies, fisher)
    yield _over(letter, "total variation, by sum", variation, studies, lambda score: total_variation(by_sum(score)))
    yield _over(letter, "mass of the left mode, by sum", mass, studies, lambda score: left_mass(by_sum(score)))


def corrected(studies: list[Study]) -> Results:
    """Return the same measures with the density by Simpson's rule, of a to f and of the corrected trainings."""
    return merged(part for name in studies[0].trained for part in _recovery(name, studies))


def _recovery(name: str, studies: list[Study]) -> Iterator[Results]:
    if len(name) > 1:
        yield _over(name, "Fisher divergence in nats", None, studies, fisher)
    yield _over(name, "total variation, by Simpson", None, studies, lambda score: total_variation(by_simpson(score)))
    yield _over(name, "mass of the left mode, by Simpson", None, studies, lambda score: left_mass(by_simpson(score)))


def _over(
    name: str,
    measure: str,
    printed: float | None,
    studies: list[Study],
    function: Callable[[np.ndarray], float],
) -> Results:
    """Return the row of a measure of the scores that a training keeps; floor and zero: the true score's and 0's."""
    truth, nothing = SCORE[:, 0].numpy(), np.zeros(len(GRID))
    values = [function(each.trained[name].score) for each in studies]
    shown = None if printed is None else {published.LATER: printed}
    return row(f"{name}: {measure}", shown, values, function(truth), function(nothing))


def merged(parts: Iterator[Results]) -> Results:
    """Return rows as one dictionary."""
    return {name: value for part in parts for name, value in part.items()}
