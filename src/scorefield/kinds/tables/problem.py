"""Tables to learn from: rows in model units, the base that they choose, and how they are dealt to the members."""

from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.process import Process
from scorefield.kinds.tables.columns import Bounds
from scorefield.kinds.tables.units import TableTransform
from scorefield.numerics.shapes import Rows
from scorefield.numerics.tensors import spawn
from scorefield.numerics.whitening import moments
from scorefield.training import candidates, closed_form
from scorefield.training.config import Config
from scorefield.training.problem import FEW_ROWS, Part, Prepared, Problem, truth_for

VALIDATION_ROWS = 4096
"""One network is validated on at most this many rows, with noise that is the same every time."""

MANY_PARTS = 10
"""From FEW_ROWS rows on each leaves out one of so many parts; of fewer rows, one of as many as there are networks."""


@dataclass(frozen=True)
class TableProblem(Problem):
    """Rows of a table in model units, to train and to validate on.

    white: the W that whitened the rows; process: that of the run where its name does not tell; truth: the density of
    the rows where it is known and the objective is 'explicit'.
    """

    train: Tensor
    validation: Tensor
    white: Tensor | None = None
    process: Process | None = None
    truth: GaussianMixture | None = None
    device: str = "cpu"

    def prepare(self, config: Config) -> Prepared:
        """Choose the base, deal the rows to the members, and put the model on it.

        One network trains on `train` and is validated on `validation`. Several share both: each is validated on its
        own part of all rows and trained, on the base of the others, with the others; the model is their mean on the
        base of all rows.
        """
        k, train = config.members, self.train.float()
        pool = torch.cat([self.train, self.validation]).float() if k > 1 else train
        chosen = closed_form.choose(pool, config.seed, self.white)
        if k > 1:
            deal = k if len(pool) < FEW_ROWS else max(k, MANY_PARTS)
            dealt = [pool[i::deal] for i in range(deal)]
            others = [torch.cat(dealt[:i] + dealt[i + 1 :]) for i in range(k)]
            held_out = dealt[:k]
        else:
            judges = self.validation if len(self.validation) else self.train
            others, held_out = [pool], [judges.float()[:VALIDATION_ROWS]]
        fits = chosen.fit_each([pool] if k == 1 else [*others, pool])
        parts = tuple(
            Part(rows.to(self.device), judges.to(self.device), fit, truth_for(config, self.truth, rows))
            for rows, judges, fit in zip(others, held_out, fits[:k], strict=True)
        )
        model = config.model(*moments(pool), fits[-1], self.process).to(self.device)
        return Prepared(model, parts, chosen.name, _why(chosen))


def _why(chosen: closed_form.Base) -> str:
    """Return why this base, in words."""
    tried = len(chosen.scores) - 1
    if not chosen.parts:
        return f"of {tried} mixtures and kernel densities none was better, or all have the wrong shape"
    gain = chosen.score - chosen.scores[candidates.GAUSSIAN]
    return f"from {tried} mixtures and kernel densities, on held-out rows {gain:.3f} nats above one Gaussian"


def choose_transform(frame: pd.DataFrame, bounds: Bounds | None, seed: int) -> TableTransform:
    """Return the transform of a table; skewed columns are bent where held-out rows are then more likely.

    A column alone may be better bent and its relations to others, such as a ratio of two of them, simpler unbent. So
    mixtures are fitted to the whole table both ways, and the larger held-out likelihood in the table's units decides.
    Raises ValueError as `TableTransform.fit`.
    """
    bent = TableTransform.fit(frame, bounds)
    if not any(column.is_bent for column in bent.columns):
        return bent
    rows = torch.randperm(len(frame), generator=spawn(seed, "transform"))[: candidates.CHOICE_ROWS]
    part = frame.iloc[rows.numpy()]

    def score(transform: TableTransform) -> float:
        z = transform.forward(part, spawn(seed, "dequantise"))
        return closed_form.held_out_score(z, seed, transform.white) + float(transform.log_jacobian(part).mean())

    return max((TableTransform.fit(frame, bounds, bend=False), bent), key=score)


def in_model_units(density: object, transform: TableTransform, frame: pd.DataFrame) -> GaussianMixture:
    """Return a density of a table's rows as one in model units, for a transform that is affine on the rows of frame.

    Raises ValueError for a density that is no GaussianMixture and for a transform that bends.
    """
    if not isinstance(density, GaussianMixture):
        raise ValueError(
            "the objective 'explicit' needs data whose score is known, one of the built-in Gaussian mixtures; "
            "'parzen' learns the score of a kernel density estimate of any data"
        )
    part = frame.iloc[:1000]
    x, z = torch.from_numpy(part.to_numpy(dtype=float, copy=True)), transform.forward(part).double()
    extended = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    solution = torch.linalg.lstsq(extended, z).solution
    if not torch.allclose(extended @ solution, z, atol=1e-6):
        raise ValueError("the objective 'explicit' needs columns that are only shifted and scaled; leave out --bounds")
    matrix, shift = solution[:-1], solution[-1]
    means, covariances = density.means.double(), density.covariances.double()
    return GaussianMixture(density.weights.double(), means @ matrix + shift, matrix.mT @ covariances @ matrix)


def largest_distance(x: Rows) -> float:
    """Return the largest distance between two rows of x (n, d), looked for among the 1,000 farthest from the mean."""
    far = (x - x.mean(0)).norm(dim=1).topk(min(len(x), 1000)).indices
    return float(torch.pdist(x[far].double()).max())
