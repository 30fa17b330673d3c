"""From rows in model units to a trained model: its data, validation and length, and where to read the score."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor, nn

from scorefield import base
from scorefield.columns import Bounds
from scorefield.config import Config
from scorefield.densities import GaussianMixture
from scorefield.divergence import value_and_divergence
from scorefield.likelihood import EXACT_UP_TO, PROBES
from scorefield.model import Denoiser, ScoreModel
from scorefield.nets import UNet
from scorefield.pixels import PixelTransform
from scorefield.process import RATIO_MIN, Process
from scorefield.tensors import dot, signs_like, spawn, uniform
from scorefield.training import Trainer, batches, trivial_model
from scorefield.transforms import TableTransform
from scorefield.types import Rows, Samples

REPORTS, REPORT_STEPS = 50, 10
"""Validations in one training run, and the steps that lie between two of them at least."""

VALIDATION_ROWS = 4096
"""One network is validated on at most this many rows, with noise that is the same every time."""

REPEATED_ROWS = 1024
"""Fewer rows are repeated, with other noise, to about this many."""

FEW_ROWS, SOME_ROWS = 2_000, 15_000
"""Below so many rows a run cross-validates: each of several networks learns without its own part of the rows."""

FEW_MEMBERS, SOME_MEMBERS = 5, 3
"""Networks that cross-validate each other."""

MANY_PARTS = 10
"""From FEW_ROWS rows on each leaves out one of so many parts; of fewer rows, one of as many as there are networks."""

PATIENCE = 10
"""Training stops after so many reports in a row that are worse than the best by more than CERTAIN standard errors."""

CERTAIN = 3.0

VALIDATION_IMAGES, MOMENT_IMAGES = 1024, 10_000
"""Images are validated on at most so many; their moments and histogram come from at most so many."""

FORGOTTEN = 0.1
"""The share of labels that training leaves out (Ho and Salimans, 2022)."""

IMAGE_RATIO = 0.05
"""The noise ratio at which the score of images is read."""


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


@dataclass(frozen=True)
class Problem:
    """What is to be learned: rows in model units, and where.

    white: the W that whitened the rows; process: that of the run where its name does not tell; truth: the density of
    the rows where it is known and the objective is 'explicit'.
    pixels: of images, whose rows are then as they came, since a byte takes less memory than a float; labels: the
    classes of the images to train and to validate on.
    """

    train: Tensor
    validation: Tensor
    white: Tensor | None = None
    process: Process | None = None
    truth: GaussianMixture | None = None
    device: str = "cpu"
    pixels: PixelTransform | None = None
    labels: tuple[Tensor, Tensor] | None = None


def members_for(rows: int) -> int:
    """Return how many networks to average for so many rows: five from 10 up to 2,000, three up to 15,000, else one."""
    if rows < FEW_ROWS:
        return FEW_MEMBERS if rows >= 10 else 1
    return SOME_MEMBERS if rows < SOME_ROWS else 1


class Learner:
    """A model that learns rows in model units, and everything that decides how it goes on.

    Its base is the density in closed form that the rows choose. One network trains on `train` and is validated on
    `validation`. Several share both: each is validated on its own part of all rows and trained, on the base of the
    others, with the others; the model is their mean on the base of all rows. Images have no base but what each pixel
    says alone, which is part of their network.
    """

    def __init__(self, config: Config, problem: Problem) -> None:
        self.config, k = config, config.members
        self.units, self.labels, self.held_out_label = lambda rows: rows, None, None
        if problem.pixels is None:
            self._learn_table(problem)
        else:
            self._learn_images(problem, problem.pixels)
        self.trainer = Trainer(self.model, config.steps, config.learning_rate)
        self.rows, self.noise = config.generator("rows"), config.generator("noise")
        self.sum, self.count, self.worse = 0.0, 0, 0
        self.trivial = float(self._validate([trivial_model(self.model)] * k).mean())
        self.start = self._validate(self._views(self.model))
        self.best, self.lowest = _copy(self.model), self.start

    def _learn_images(self, problem: Problem, pixels: PixelTransform) -> None:
        """Prepare images, which stay as they came until they are needed, and their classes."""
        train, device, seed = problem.train, problem.device, self.config.seed
        self.units, self.base_reason = pixels.forward, "it is what a pixel says without its neighbours"
        self.base_name = "the histogram of single pixels"
        self.bases: list[GaussianMixture | None] = [None]
        self.truths: list[GaussianMixture | None] = [None]
        validation = problem.validation if len(problem.validation) else train
        self.held_out = [pixels.forward(validation[:VALIDATION_IMAGES]).to(device)]
        self.data = [train.to(device)]
        some = train[torch.randperm(len(train), generator=spawn(seed, "moments"))[:MOMENT_IMAGES]]
        z = pixels.forward(some)
        self.model = self.config.model(z.mean(0), z.var(0, correction=0)).to(device)
        nets: Iterable[UNet] = self.model.net.members  # type: ignore[assignment]
        for net in nets:
            net.pixels.learn(pixels.levels, pixels.histogram(some), pixels.width)
        if problem.labels is not None:
            self.labels = problem.labels[0].to(device)
            told = problem.labels[1] if len(problem.validation) else problem.labels[0]
            self.held_out_label = told[:VALIDATION_IMAGES].to(device)

    def _learn_table(self, problem: Problem) -> None:
        """Choose the base, deal the rows to the members, and put the model on it."""
        config, k = self.config, self.config.members
        train, validation, device = problem.train, problem.validation, problem.device
        pool = torch.cat([train, validation]).float() if k > 1 else train.float()
        chosen = base.choose(pool, config.seed, problem.white)
        self.base_name, self.base_reason = chosen.name, _why(chosen)
        if k > 1:
            deal = k if len(pool) < FEW_ROWS else max(k, MANY_PARTS)
            parts = [pool[i::deal] for i in range(deal)]
            others = [torch.cat(parts[:i] + parts[i + 1 :]) for i in range(k)]
            parts = parts[:k]
        else:
            parts, others = [(validation if len(validation) else train).float()[:VALIDATION_ROWS]], [pool]
        self.bases = [chosen.fit(rows) for rows in others]
        self.held_out, self.data = [rows.to(device) for rows in parts], [rows.to(device) for rows in others]
        self.model = config.model(*moments(pool), chosen.fit(pool), problem.process).to(device)
        self.truths = [truth_for(config, problem.truth, rows.float()) for rows in others]

    @property
    def done(self) -> bool:
        """Whether training is at its end: all steps taken, or stopped since held-out rows had got worse for long."""
        return self.trainer.step == self.config.steps or self.worse == PATIENCE

    def _views(self, model: ScoreModel) -> list[ScoreModel]:
        """Return each member of a model on the base that has not seen its held-out rows."""
        fixed = (model.process, model.mean, model.covariance, model.predicts, model.data_std)
        nets: Iterable[nn.Module] = model.net.members  # type: ignore[assignment]
        return [ScoreModel(net, *fixed, base=own) for net, own in zip(nets, self.bases, strict=True)]

    @property
    def result(self) -> ScoreModel:
        """The averaged weights of the last report that was kept: the model to use.

        A report is kept only once the smallest loss is below that of the base by more than the standard error of their
        difference, row by row; until then the model is the base. On few rows the loss rises again when a model starts
        to memorise, and a report must also have the smallest loss yet. On many rows the end is the best, and the report
        that happens to have the smallest loss is only luck: it is enough there not to be worse than it by more than
        that error.
        """
        old = self.model
        model = self.config.model(old.mean, old.covariance, old.base, old.process).to(old.mean.device)
        model.load_state_dict(self.best)
        return model.eval()

    @property
    def reading_ratio(self) -> float:
        """The noise ratio at which the result's score is read: its level, or what `score_ratio` finds."""
        if self.config.level:
            return self.config.level
        if self.config.shape:
            return IMAGE_RATIO
        rows = [part[: 1000 // len(self.held_out)] for part in self.held_out]
        return score_ratio(self._views(self.result), rows, self.config.seed)

    def run(self) -> Iterator[Report | None]:
        """Train to the end; after each step yield a report, or None between reports."""
        losses = [self._loss(*part) for part in zip(self._views(self.model), self.truths, self.data, strict=True)]
        every = max(REPORT_STEPS, self.config.steps // REPORTS)
        steps = self.trainer.run(lambda: torch.stack([loss() for loss in losses]).mean())
        while not self.done:
            progress = next(steps)
            if math.isfinite(progress.loss):
                self.sum, self.count = self.sum + progress.loss, self.count + 1
            due = progress.step % every == 0 or progress.step == self.config.steps
            yield self._report() if due else None

    def _loss(self, view: ScoreModel, truth: GaussianMixture | None, data: Tensor) -> Callable[[], Tensor]:
        """Return what draws a batch and gives its mean loss; images forget the class of some, to learn both ways."""
        drawn = batches(torch.arange(len(data), device=data.device), self.config.batch_size, self.rows)
        loss = self.config.loss(view, truth)
        if self.labels is None:
            return lambda: loss(self.units(data[next(drawn)]), self.noise).mean()
        labels = self.labels

        def told() -> Tensor:
            index = next(drawn)
            forget = uniform(len(index), self.noise).to(data.device) < FORGOTTEN
            given = view.given(labels[index].masked_fill(forget, self.config.classes))
            return self.config.loss(given)(self.units(data[index]), self.noise).mean()

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
        fine = lower if len(self.data) > 1 else _above(losses, self.lowest) <= 1
        self.worse = self.worse + 1 if _above(losses, self.lowest) > CERTAIN else 0
        kept = fine and _above(self.start, self.lowest) > 1
        if kept:
            self.best = _copy(average)
        return Report(self.trainer.step, train, float(losses.mean()) / self.trivial, kept, self.trainer.skipped)

    @torch.no_grad()
    def _validate(self, views: Sequence[Denoiser]) -> Tensor:
        """Return the loss of each held-out row on frozen noise, the mean of its repetitions, float64."""
        repeats = max(1, REPEATED_ROWS // sum(map(len, self.held_out)))
        generator, losses = self.config.generator("validation"), []
        for view, rows in zip(views, self.held_out, strict=True):
            if self.held_out_label is not None:
                view = view.given(self.held_out_label.repeat(repeats))
            found = self.config.validation_loss(view)(rows.repeat(repeats, 1), generator).double()
            losses.append(found.reshape(repeats, len(rows)).mean(0))
        return torch.cat(losses)


def _why(chosen: base.Base) -> str:
    """Return why this base, in words."""
    tried = len(chosen.scores) - 1
    if not chosen.parts:
        return f"of {tried} mixtures and kernel densities none was better, or all have the wrong shape"
    gain = chosen.score - chosen.scores[base.GAUSSIAN]
    return f"from {tried} mixtures and kernel densities, on held-out rows {gain:.3f} nats above one Gaussian"


def _above(losses: Tensor, others: Tensor) -> float:
    """Return the mean difference of two losses of the same rows in its standard errors; 0 where they are equal."""
    excess = losses - others
    error = float(excess.std(correction=0)) / math.sqrt(len(excess))
    mean = float(excess.mean())
    return mean / error if error > 0 else mean * math.inf if mean else 0.0


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def truth_for(config: Config, truth: GaussianMixture | None, rows: Tensor) -> GaussianMixture | None:
    """Return the density whose score an objective learns: a given one, or with 'parzen' a kernel density of rows."""
    if config.objective != "parzen":
        return truth
    rows = rows[: base.CHOICE_ROWS]
    n, d = rows.shape
    return GaussianMixture.kde(rows, (4 / ((d + 2) * n)) ** (1 / (d + 4)))  # Silverman, 1986


def moments(x: Samples) -> tuple[Tensor, Tensor]:
    """Return the mean (d,) and the covariance (d, d) of rows; one row has no covariance and gets zero."""
    centred = x.double() - x.double().mean(0)
    return x.double().mean(0).to(x), (centred.mT @ centred / max(1, len(x) - 1)).to(x)


def steps_within(config: Config, problem: Problem, seconds: float) -> int:
    """Return how many steps fit into a budget of wall seconds, validation and this timing included, the base not.

    A throw-away copy of model and generators trains for a twentieth of the budget, and at least 4 steps. Its first
    step is not counted: in it PyTorch loads, once in a process, what takes a second or more.
    """
    trial = Learner(replace(config, steps=2**62), problem)
    steps = trial.run()
    next(steps)
    began = time.perf_counter()
    trial._validate(trial._views(trial.model))
    validating = time.perf_counter() - began
    costs: list[float] = []
    last = time.perf_counter()
    for _ in steps:
        now = time.perf_counter()
        costs.append(now - last)
        last = now
        if len(costs) >= 4 and now - began > seconds / 20:
            break
    steady = costs[len(costs) // 4 :]  # the first steps allocate memory
    left, step = seconds - (last - began), math.fsum(steady) / len(steady)
    short = left / (step + validating / REPORT_STEPS)
    long = (left - REPORTS * validating) / step
    return max(1, int(short if short < REPORTS * REPORT_STEPS else long))


def choose_transform(frame: pd.DataFrame, bounds: Bounds | None, seed: int) -> TableTransform:
    """Return the transform of a table; skewed columns are bent where held-out rows are then more likely.

    A column alone may be better bent and its relations to others, such as a ratio of two of them, simpler unbent. So
    mixtures are fitted to the whole table both ways, and the larger held-out likelihood in the table's units decides.
    Raises ValueError as `TableTransform.fit`.
    """
    bent = TableTransform.fit(frame, bounds)
    if not any(column.is_bent for column in bent.columns):
        return bent
    rows = torch.randperm(len(frame), generator=spawn(seed, "transform"))[: base.CHOICE_ROWS]
    part = frame.iloc[rows.numpy()]

    def score(transform: TableTransform) -> float:
        z = transform.forward(part, spawn(seed, "dequantise"))
        return base.held_out_score(z, seed, transform.white) + float(transform.log_jacobian(part).mean())

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


@torch.no_grad()
def score_ratio(views: Sequence[Denoiser], parts: Sequence[Tensor], seed: int) -> float:
    """Return the noise ratio r at which the score is closest to that of the clean data.

    Reading the score at a small r divides the error of the predicted noise by r; a large r smooths the density. The
    held-out implicit loss 1/2 |S_r|^2 + div S_r, which is the squared distance to the true score up to a constant
    (Hyvarinen, 2005), is smallest at the best of 16 ratios between RATIO_MIN and 1. parts: for each view of the model
    rows in model units that it has not seen, not even in its base.
    """
    ratios = torch.logspace(math.log10(RATIO_MIN), 0, 16, dtype=torch.float64)
    generator = spawn(seed, "score ratio")
    probes: list[Tensor | None] = [None] * len(parts)
    if parts[0].shape[1] > EXACT_UP_TO:
        probes = [torch.stack([signs_like(x, generator) for _ in range(PROBES)]) for x in parts]

    def implicit(r: float) -> float:
        total = 0.0
        for view, x, v in zip(views, parts, probes, strict=True):
            value, divergence = value_and_divergence(lambda x, view=view: data_score(view, x, r), x, v)  # type: ignore
            total += float((dot(value, value) / 2 + divergence.reshape(-1, len(x)).mean(0)).sum())
        return total

    losses = [implicit(float(r)) for r in ratios]
    return float(ratios[losses.index(min(losses))])


def data_score(model: Denoiser, x: Samples, ratio: float) -> Samples:
    """Return the score of the data smoothed by noise of std r = ratio, -E[noise | x] / r, per unit of x."""
    t = model.process.time(torch.tensor(ratio, dtype=torch.float64))
    a, _ = model.process.kernel(t, x)
    return a * model.score(a * x, t)
