"""What `scorefield evaluate` finds: likelihoods, distances, descriptions and the verdict, as numbers and as lines."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Generator

from scorefield.diffusion.densities import GaussianMixture
from scorefield.evaluation import descriptions, metrics
from scorefield.evaluation.comparison import compared_json, compared_lines
from scorefield.evaluation.metrics import MIN_ROWS, Comparison, Estimate
from scorefield.evaluation.verdict import Verdict, verdict
from scorefield.kinds.tables.estimator import ScoreDensity
from scorefield.kinds.tables.units import TableTransform
from scorefield.numerics.tensors import spawn

LIKELIHOOD_ROWS = 2_000
"""The log-likelihood is that of at most this many rows, the first of the shuffled test rows."""

SAMPLES, PER_ROW = 20_000, 4
"""So many samples are drawn for each held-out row, at most 20,000: tests see more, at no cost in data."""

NEED_TRAINING_ROWS = ("copying", "near_duplicates")


@dataclass(frozen=True)
class Evaluation:
    """A model against held-out rows: log-likelihoods in nats per row, metrics beside real rows, and the verdict."""

    rows: int
    log_likelihood: Estimate
    gaussian_log_likelihood: Estimate
    compared: dict[str, Comparison]
    verdict: Verdict
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        """Return all numbers as one flat object, metrics with their excess."""
        found = dataclasses.asdict(self)
        del found["compared"]
        judged, notes = found.pop("verdict"), found.pop("notes")
        return found | compared_json(self.compared) | {"verdict": judged, "notes": list(notes)}

    def lines(self) -> list[str]:
        """Return the lines that are printed, up to 120 columns wide."""
        rows = min(self.rows, LIKELIHOOD_ROWS)
        return [
            *(f"note: {note}" for note in self.notes),
            f"{self.rows:,} held-out rows; +- one standard error; distances in decorrelated standard deviations",
            f"{f'log-likelihood of {rows:,} rows, nats':38}{self.log_likelihood!s:>22}",
            f"{'  of one Gaussian fitted to the data':38}{self.gaussian_log_likelihood!s:>22}",
            *compared_lines(self.compared, self.verdict),
        ]


def evaluate(
    estimator: ScoreDensity,
    held_out: pd.DataFrame,
    train: pd.DataFrame | None,
    seed: int,
    notes: Sequence[str] = (),
) -> Evaluation:
    """Return how an estimator compares with held-out rows, and whether its samples can be told from them.

    notes: what there is to say of the rows. Without training rows, half of the held-out rows stand for real ones, and
    no copies are looked for. Raises ValueError for fewer than 10 held-out rows, 20 without training rows.
    """
    least = MIN_ROWS if train is not None else 2 * MIN_ROWS
    if len(held_out) < least:
        raise ValueError(f"expected at least {least} held-out rows; got {len(held_out)}; give more with --against FILE")
    transform, generator = estimator.transform_, spawn(seed, "evaluate")
    real = transform.forward(held_out)
    likelihood = estimator.log_prob(held_out.iloc[:LIKELIHOOD_ROWS], errors=False).value
    drawn = estimator.sample(min(PER_ROW * len(held_out), SAMPLES), random_state=seed)
    frame = pd.DataFrame(drawn, columns=list(transform.names))
    samples = transform.forward(frame)[: len(held_out)]
    if train is None:
        known, asked = real.tensor_split(2)
    else:
        known, asked = transform.forward(train), real
    compared = metrics.compare(samples, asked, known, generator=generator)
    compared |= descriptions.describe(samples, asked, known, generator=generator)
    if train is None:
        compared = {name: value for name, value in compared.items() if name not in NEED_TRAINING_ROWS}
    return Evaluation(
        len(held_out),
        metrics.mean_log_likelihood(likelihood),
        metrics.mean_log_likelihood(_gaussian_log_prob(estimator, held_out.iloc[:LIKELIHOOD_ROWS])),
        compared,
        _judged(transform, frame, held_out, train, generator),
        tuple(notes),
    )


def _judged(
    transform: TableTransform,
    drawn: pd.DataFrame,
    held_out: pd.DataFrame,
    train: pd.DataFrame | None,
    generator: Generator,
) -> Verdict:
    """Return the verdict on drawn rows, in the units of the table."""
    values = lambda table: torch.from_numpy(table.iloc[:, transform.varying].to_numpy("float64", copy=True))
    known = None if train is None else values(train)
    names = [transform.names[j] for j in transform.varying]
    return verdict(values(drawn), values(held_out), known, names=names, generator=generator)


def _gaussian_log_prob(estimator: ScoreDensity, table: pd.DataFrame) -> torch.Tensor:
    """Return the log-density of rows under one Gaussian with the moments of the training data."""
    mean, covariance = estimator.model_.mean.double().cpu(), estimator.model_.covariance.double().cpu()
    transform = estimator.transform_
    return GaussianMixture.gaussian(mean, covariance).log_prob(transform.forward(table)) + transform.log_jacobian(table)
