"""What `scorefield evaluate` finds: likelihoods, distances, descriptions and the verdict, as numbers and as lines."""

import dataclasses
import textwrap
from dataclasses import dataclass

import pandas as pd
import torch

from scorefield.diffusion.densities import GaussianMixture
from scorefield.evaluation import descriptions, metrics
from scorefield.evaluation.metrics import MIN_ROWS, Comparison, Estimate
from scorefield.evaluation.verdict import Verdict, verdict
from scorefield.kinds.tables.estimator import ScoreDensity
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

    def as_json(self) -> dict[str, object]:
        """Return all numbers as one flat object, metrics with their excess."""
        others = {key: value for key, value in dataclasses.asdict(self).items() if key not in ("compared", "verdict")}
        return others | compared_json(self.compared) | {"verdict": dataclasses.asdict(self.verdict)}

    def lines(self) -> list[str]:
        """Return the lines that are printed, up to 120 columns wide."""
        rows = min(self.rows, LIKELIHOOD_ROWS)
        return [
            f"{self.rows:,} held-out rows; +- one standard error; distances in decorrelated standard deviations",
            f"{f'log-likelihood of {rows:,} rows, nats':38}{self.log_likelihood!s:>22}",
            f"{'  of one Gaussian fitted to the data':38}{self.gaussian_log_likelihood!s:>22}",
            *compared_lines(self.compared, self.verdict),
        ]


def compared_lines(compared: dict[str, Comparison], verdict: Verdict) -> list[str]:
    """Return metrics of a model beside those of real rows, and the verdict, as lines of up to 120 columns."""
    return [
        f"{'':38}{'this model':>22}{'real against real':>22}{'excess, in errors':>20}",
        *(
            f"{name.replace('_', ' '):38}{value.model!s:>22}{value.real!s:>22}{value.excess:>20.1f}"
            for name, value in compared.items()
        ),
        *textwrap.wrap(f"verdict: {verdict.sentence}", 120, subsequent_indent="  ", break_on_hyphens=False),
    ]


def compared_json(compared: dict[str, Comparison]) -> dict[str, object]:
    """Return metrics with their excess as one flat object."""
    return {name: dataclasses.asdict(value) | {"excess": value.excess} for name, value in compared.items()}


def evaluate(estimator: ScoreDensity, held_out: pd.DataFrame, train: pd.DataFrame | None, seed: int) -> Evaluation:
    """Return how an estimator compares with held-out rows, and whether its samples can be told from them.

    Without training rows, half of the held-out rows stand for real ones, and no copies are looked for. Raises
    ValueError for fewer than 10 held-out rows, 20 without training rows.
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
    values = lambda table: torch.from_numpy(table.iloc[:, transform.varying].to_numpy("float64", copy=True))
    return Evaluation(
        len(held_out),
        metrics.mean_log_likelihood(likelihood),
        metrics.mean_log_likelihood(_gaussian_log_prob(estimator, held_out.iloc[:LIKELIHOOD_ROWS])),
        compared,
        verdict(
            values(frame),
            values(held_out),
            None if train is None else values(train),
            names=[transform.names[j] for j in transform.varying],
            generator=generator,
        ),
    )


def _gaussian_log_prob(estimator: ScoreDensity, table: pd.DataFrame) -> torch.Tensor:
    """Return the log-density of rows under one Gaussian with the moments of the training data."""
    mean, covariance = estimator.model_.mean.double().cpu(), estimator.model_.covariance.double().cpu()
    transform = estimator.transform_
    return GaussianMixture.gaussian(mean, covariance).log_prob(transform.forward(table)) + transform.log_jacobian(table)
