"""A model that learns, and everything that decides how it goes on: batches, validation, which weights are kept."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scorefield.diffusion.denoisers import Denoiser, ScoreModel
from scorefield.diffusion.networks.ensemble import members_of
from scorefield.numerics.tensors import uniform
from scorefield.training.budget import Falling, Schedule
from scorefield.training.config import Config
from scorefield.training.problem import Part, Prepared
from scorefield.training.score_level import score_ratio
from scorefield.training.trainer import Trainer, batches, trivial_model

REPEATED_ROWS = 1024
"""Fewer rows are repeated, with other noise, to about this many."""

PATIENCE = 10
"""Training stops after so many reports in a row that are worse than the best by more than CERTAIN standard errors."""

CERTAIN = 3.0

FORGOTTEN = 0.1
"""The share of labels that training leaves out (Ho and Salimans, 2022)."""


@dataclass(frozen=True)
class Report:
    """Where training stands: training loss since the last report and validation loss, relative to the trivial model.

    The validation loss is that of the averaged weights on held-out rows and frozen noise. kept: whether these weights
    are the model to use, until a later report is kept. skipped: how many steps had no finite loss or gradient so far.
    """

    step: int
    train: float
    validation: float
    kept: bool
    skipped: int = 0


class Learner:
    """A model that learns what was prepared, and everything that decides how it goes on.

    Each member of the model trains on its own part's rows and is validated on the part's others, on a base that has not
    seen them; the model is the mean of the members on the base of all rows. The schedule is `Falling` over config.steps
    where none is given.
    """

    def __init__(self, config: Config, prepared: Prepared, schedule: Schedule | None = None) -> None:
        self.config, self.prepared, self.model = config, prepared, prepared.model
        self.schedule = schedule or Falling(config.steps)
        self.trainer = Trainer(self.model, self.schedule, config.learning_rate)
        self.rows, self.noise = config.generator("rows"), config.generator("noise")
        self.sum, self.count, self.worse = 0.0, 0, 0
        self.trivial = float(self._validate([trivial_model(self.model)] * config.members).mean())
        self.start = self._validate(self._views(self.model))
        self.best, self.lowest = _copy(self.model), self.start

    @property
    def done(self) -> bool:
        """Whether training is at its end: all steps taken, or stopped since held-out rows had got worse for long."""
        return self.schedule.ends(self.trainer.step) or self.worse == PATIENCE

    def _views(self, model: ScoreModel) -> list[ScoreModel]:
        """Return each member of a model on the base that has not seen its held-out rows."""
        members = zip(members_of(model.net), self.prepared.parts, strict=True)
        return [model.with_network(net, part.base) for net, part in members]

    @property
    def result(self) -> ScoreModel:
        """The averaged weights of the last report that was kept: the model to use.

        A report is kept only once the smallest loss is below that of the base by more than the standard error of their
        difference, row by row; until then the model is the base. On few rows the loss rises again when a model starts
        to memorise, and a report must also have the smallest loss yet. On many rows the end is the best, and the report
        that happens to have the smallest loss is only luck: it is enough there not to be worse than it by more than
        that error.
        """
        model = copy.deepcopy(self.model)
        model.load_state_dict(self.best)
        return model.eval()

    @property
    def reading_ratio(self) -> float:
        """The noise ratio at which the result's score is read: its level, a given one, or what `score_ratio` finds."""
        if known := self.config.level or self.prepared.score_ratio:
            return known
        parts = self.prepared.parts
        rows = [part.held_out[: 1000 // len(parts)] for part in parts]
        return score_ratio(self._views(self.result), rows, self.config.seed)

    def run(self) -> Iterator[Report | None]:
        """Train to the end; after each step yield a report, or None between reports.

        Raises TooShort for a budget that has no time for a model.
        """
        losses = [self._loss(*each) for each in zip(self._views(self.model), self.prepared.parts, strict=True)]
        steps = self.trainer.run(lambda: torch.stack([loss() for loss in losses]).mean())
        while not self.done:
            progress = next(steps)
            if math.isfinite(progress.loss):
                self.sum, self.count = self.sum + progress.loss, self.count + 1
            report = self._report() if self.schedule.due(progress.step) else None
            if self.worse == PATIENCE and self.schedule.steps is None:
                self.schedule.settle(progress.step)
            yield report

    def _loss(self, view: ScoreModel, part: Part) -> Callable[[], Tensor]:
        """Return what draws a batch and gives its mean loss; some rows forget their class, to learn both ways."""
        data, units = part.data, self.prepared.units
        drawn = batches(torch.arange(len(data), device=data.device), self.config.batch_size, self.rows)
        if part.labels is None:
            loss = self.config.loss(view, part.truth)
            return lambda: loss(units(data[next(drawn)]), self.noise).mean()
        labels = part.labels[0]

        def told() -> Tensor:
            index = next(drawn)
            forget = uniform(len(index), self.noise).to(data.device) < FORGOTTEN
            given = view.given(labels[index].masked_fill(forget, self.config.classes))
            return self.config.loss(given)(units(data[index]), self.noise).mean()

        return told

    def state(self) -> dict[str, Tensor]:
        """Return everything that changes while `run` goes on, as tensors by name."""
        return self.trainer.state() | {
            "rows": self.rows.get_state(),
            "noise": self.noise.get_state(),
            "sum": torch.tensor(self.sum, dtype=torch.float64),
            "count": torch.tensor(self.count),
            "worse": torch.tensor(self.worse),
            "lowest": self.lowest.cpu(),
            **{f"best.{name}": value.cpu() for name, value in self.best.items()},
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` returned, to the bit."""
        self.trainer.load_state(state)
        self.rows.set_state(state["rows"])
        self.noise.set_state(state["noise"])
        self.sum, self.count, self.worse = float(state["sum"]), int(state["count"]), int(state["worse"])
        self.lowest = state["lowest"].to(self.lowest)
        self.best = {name: state[f"best.{name}"].to(value) for name, value in self.best.items()}

    def _report(self) -> Report:
        train = self.sum / self.count / self.trivial if self.count else math.nan
        self.sum, self.count = 0.0, 0
        average = self.trainer.average
        losses = self._validate(self._views(average))
        lower = bool(losses.mean() < self.lowest.mean())
        if lower:
            self.lowest = losses
        fine = lower if self.config.members > 1 else _above(losses, self.lowest) <= 1
        self.worse = self.worse + 1 if _above(losses, self.lowest) > CERTAIN else 0
        kept = fine and _above(self.start, self.lowest) > 1
        if kept:
            self.best = _copy(average)
        return Report(self.trainer.step, train, float(losses.mean()) / self.trivial, kept, self.trainer.skipped)

    @torch.no_grad()
    def _validate(self, views: Sequence[Denoiser]) -> Tensor:
        """Return the loss of each held-out row on frozen noise, the mean of its repetitions, float64."""
        parts = self.prepared.parts
        repeats = max(1, REPEATED_ROWS // sum(len(part.held_out) for part in parts))
        generator, losses = self.config.generator("validation"), []
        for view, part in zip(views, parts, strict=True):
            rows = part.held_out
            if part.labels is not None and isinstance(view, ScoreModel):
                view = view.given(part.labels[1].repeat(repeats))
            found = self.config.validation_loss(view)(rows.repeat(repeats, 1), generator).double()
            losses.append(found.reshape(repeats, len(rows)).mean(0))
        return torch.cat(losses)


def _above(losses: Tensor, others: Tensor) -> float:
    """Return the mean difference of two losses of the same rows in its standard errors; 0 where they are equal."""
    excess = losses - others
    error = float(excess.std(correction=0)) / math.sqrt(len(excess))
    mean = float(excess.mean())
    return mean / error if error > 0 else mean * math.inf if mean else 0.0


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
