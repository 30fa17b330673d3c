"""ScoreDensity: the whole method behind scikit-learn's estimator contract."""

import math
import numbers
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from scorefield.data import split
from scorefield.diffusion.denoisers import ScoreModel
from scorefield.diffusion.process import Process, named, span_for
from scorefield.diffusion.sde import LinearSDE
from scorefield.inference import frontier, langevin, samplers
from scorefield.inference.bound import Bound, lower_bound
from scorefield.inference.likelihood import LogProb, log_prob
from scorefield.kinds.images import estimator as images
from scorefield.kinds.images.estimator import ImageDensity
from scorefield.kinds.tables.problem import TableProblem, choose_transform, largest_distance
from scorefield.numerics.tensors import spawn
from scorefield.runs import folder as runs
from scorefield.training.budget import steps_within
from scorefield.training.config import LINEAR, Config
from scorefield.training.learner import Learner
from scorefield.training.problem import members_for
from scorefield.training.score_level import data_score

CELL_POINTS = 8
"""Points in the cell of a row at which the density is averaged where columns have few different values."""


class ScoreDensity(DensityMixin, BaseEstimator):
    """Density estimation by a learned score: samples, log-densities and the score of any table of numbers.

    process, predicts and objective name rows of PROCESSES, PREDICTIONS and OBJECTIVES; process can also be an instance
    of a process or a LinearSDE of your own. network 'energy' makes the score the gradient of a number; level trains a
    single noise ratio, for Langevin samples, and 0 all of them. A named process gets its range from the data.
    bounds: a dictionary of
    (lower, upper) by column name, such as {"age": (0, math.inf)}: samples never leave them. max_iter is the number of
    training steps; 'auto' is a function of the number of rows, never of the clock. time_budget, in seconds
    of training, replaces it where given. random_state: an integer, a RandomState or None.

    As scikit-learn asks, parameters are stored as they come and checked by `fit`; X is anything that it takes for a
    matrix of numbers.

    Attributes after `fit`: model_ (the ScoreModel), transform_ (columns and standardisation), config_ (the settings),
    score_ratio_ (the noise ratio at which the score is read), losses_ (training loss relative to the trivial model,
    one number a report), n_iter_ (the steps planned; training
    may stop before), notes_ (what `load` has to say of the folder, a list of sentences), n_features_in_,
    feature_names_in_ (where fit got a data frame with names).

    Here `score(X)` is scikit-learn's: the mean log-likelihood. The score of this subject, the gradient of the
    log-density, is `score_function(X)`.
    """

    def __init__(
        self,
        process: Any = "vp",
        predicts: Any = "v",
        objective: Any = "denoising",
        network: Any = "mlp",
        level: Any = 0.0,
        max_iter: Any = "auto",
        time_budget: Any = None,
        random_state: Any = None,
        bounds: Any = None,
    ) -> None:
        self.process = process
        self.predicts = predicts
        self.objective = objective
        self.network = network
        self.level = level
        self.max_iter = max_iter
        self.time_budget = time_budget
        self.random_state = random_state
        self.bounds = bounds

    def fit(self, X: Any, y: object = None) -> "ScoreDensity":
        """Learn the score of the rows of X (n, d), an array or a data frame of numbers; y is ignored.

        From 10 rows on, a tenth of them is held out and chooses when to stop and where to read the score.
        Raises ValueError for missing, infinite or non-numeric values, for one row, and where no column varies.
        """
        frame = self._table(X, reset=True)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.transform_ = choose_transform(frame, self.bounds, seed)
        z = self.transform_.forward(frame, spawn(seed, "dequantise"))
        rows, held_out, others = split(len(z), seed)
        train, validation = z[[*rows, *others]], z[held_out]
        process = self.process if isinstance(self.process, LinearSDE) else None
        problem = TableProblem(train, validation, self.transform_.white, process)
        self.config_ = self._config(problem, seed)
        learner = Learner(self.config_, problem.prepare(self.config_))
        self.losses_ = [report.train for report in learner.run() if report is not None]
        self.model_ = learner.result
        self.score_ratio_ = learner.reading_ratio
        self.n_iter_ = self.config_.steps
        self.frame_ = isinstance(X, pd.DataFrame)
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """Return log p(x) of each row, (n,), in nats in the units of the data. See `log_prob` for the errors."""
        return self.log_prob(X, errors=False).value.numpy()

    def log_prob(self, X: Any, errors: bool = True) -> LogProb:
        """Return log p(x) of each row, its errors and the network calls it took; see `likelihood.LogProb`.

        In nats and the units of the data, from the probability flow in float64; constant columns are left out. An
        integer column counts with the log probability of its value, log of the integral of the density over the cell:
        the mean over CELL_POINTS points of it where cells are coarse, the density at its centre where they are fine.
        The standard error is that of the random probes above likelihood.EXACT_UP_TO columns and of the points in coarse
        cells. errors: also the solver's and the start's, at 1.7 times the price.
        """
        model, points = self._model_for_density(), self._in_cells(X)
        generator = spawn(self.config_.seed, "probes")
        parts = [(log_prob(model, z, errors=errors, generator=generator), volume) for z, volume in points]
        if len(parts) == 1:
            found, volume = parts[0]
            return found._replace(value=found.value + volume)
        values = torch.stack([found.value + volume for found, volume in parts])
        value = values.logsumexp(0) - math.log(len(parts))
        spread = (values - value).exp().std(0) / math.sqrt(len(parts))
        probes = torch.stack([found.stderr for found, _ in parts]).square().sum(0).sqrt() / len(parts)
        evaluations = torch.stack([found.evaluations for found, _ in parts]).sum(0)
        if not errors:
            return LogProb(value, torch.hypot(spread, probes), evaluations)
        shares = values.softmax(0)  # of the cell's probability
        solver_error, start_error = (
            (shares * torch.stack(column)).sum(0)
            for column in zip(*((found.solver_error, found.start_error) for found, _ in parts), strict=True)
        )
        return LogProb(value, torch.hypot(spread, probes), evaluations, solver_error, start_error)

    def lower_bound(self, X: Any) -> Bound:
        """Return a lower bound of log p(x) of each row under the reverse SDE, whose samples `sample` can draw.

        In nats and the units of the data, as `log_prob`, with the standard error of its random draws; see
        `bound.lower_bound`. In coarse cells it is the mean bound over the points, which is a bound again.
        """
        model, points = self._model_for_density(), self._in_cells(X)
        generator = spawn(self.config_.seed, "bound")
        parts = [(lower_bound(model, z, generator=generator), volume) for z, volume in points]
        value = torch.stack([found.value + volume for found, volume in parts]).mean(0)
        stderr = torch.stack([found.stderr for found, _ in parts]).square().sum(0).sqrt() / len(parts)
        return Bound(value, stderr)

    def score(self, X: Any, y: object = None) -> float:
        """Return the mean log-likelihood of the rows, in nats: not the gradient, which is `score_function`."""
        return float(self.score_samples(X).mean())

    @torch.no_grad()
    def score_function(self, X: Any) -> np.ndarray | pd.DataFrame:
        """Return grad log p(x), (n, d), per unit of each column; 0 for constant columns. A frame when fit got one.

        It is the score of the data smoothed by noise of std score_ratio_ column standard deviations, the level at
        which it was closest to that of held-out rows.
        """
        frame = self._fitted_table(X)
        z = self.transform_.forward(frame)
        gradient = np.zeros((len(z), len(self.transform_.names)))
        values = self.transform_.pull_back(frame, data_score(self._double(), z, self.score_ratio_))
        gradient[:, self.transform_.varying] = values.numpy()
        return pd.DataFrame(gradient, columns=list(self.transform_.names)) if self.frame_ else gradient

    def sample(
        self,
        n_samples: int = 1,
        random_state: int | np.random.RandomState | None = None,
        sampler: str = "adams",
        steps: int = samplers.STEPS,
        tol: float | None = None,
    ) -> np.ndarray | pd.DataFrame:
        """Draw n_samples rows, (n, d), in the units and types of the data: an array, or a frame when fit got one.

        random_state None draws afresh each time unless the estimator's own random_state is an integer. The first rows
        of a longer sample from the same integer are the same. tol: the cheapest deterministic sampler with at most this
        error, in standard deviations of the data, in place of `sampler` and `steps`; see `frontier.choose`.
        Raises ValueError for n_samples < 1 and a tol that is not positive.
        """
        check_is_fitted(self)
        if not isinstance(n_samples, numbers.Integral) or n_samples < 1:
            raise ValueError(f"n_samples must be a whole number of at least 1; got {n_samples!r}")
        if tol is not None:
            point = frontier.choose(self.model_, tol)
            sampler, steps = point.sampler, point.steps
        state = self.random_state if random_state is None else random_state
        seed = int(check_random_state(state).randint(2**31 - 1))
        frame = pd.concat(self.sample_blocks(n_samples, sampler, steps, seed), ignore_index=True)
        return frame if self.frame_ else frame.to_numpy()

    def sample_blocks(self, n: int, sampler: str, steps: int, seed: int) -> Iterator[pd.DataFrame]:
        """Yield n sampled rows in blocks, in the units of the data, by a sampler; by Langevin steps for one level."""
        model, generator = self.model_, spawn(seed, "sample")
        if self.config_.level:
            blocks = langevin.sample_blocks(model, self.config_.level, n, generator)
        else:
            path = samplers.grid_for(sampler, model, steps)
            blocks = samplers.sample_blocks(model, n, sampler=sampler, times=path, generator=generator)
        yield from map(self.transform_.inverse, blocks)

    def save(self, folder: str | Path) -> None:
        """Write a RUN folder, the same that the command line makes. Raises ValueError where the folder is not empty."""
        check_is_fitted(self)
        request: dict[str, object] = {"estimator": True, "frame": self.frame_}
        run = runs.create(Path(folder), request, {"source": "python"}, self.config_, self.transform_, None)
        runs.save_final(run, self.model_, self.score_ratio_)

    def _config(self, problem: TableProblem, seed: int) -> Config:
        train = problem.train
        if self.objective == "explicit":
            raise ValueError("the objective 'explicit' is for built-in data, whose score is known; try 'parzen'")
        if isinstance(self.level, bool) or not isinstance(self.level, numbers.Real):
            raise ValueError(f"level must be a number, 0 for all noise levels; got {self.level!r}")
        choices: dict = {"predicts": self.predicts, "objective": self.objective, "seed": seed}
        choices |= {"network": self.network, "level": float(self.level)}
        choices["process"], choices["span"] = self._named_process(train)
        choices["members"] = members_for(len(train) + len(problem.validation))
        if self.time_budget is not None:
            if not self.time_budget > 0:
                raise ValueError(f"time_budget must be a positive number of seconds; got {self.time_budget!r}")
            trial = Config(steps=1, **choices)
            return Config(steps=steps_within(trial, problem, self.time_budget), **choices)
        steps = automatic_steps(len(train), choices["members"]) if self.max_iter == "auto" else self.max_iter
        if not isinstance(steps, numbers.Integral) or steps < 1:
            raise ValueError(f"max_iter must be 'auto' or a whole number of at least 1; got {self.max_iter!r}")
        return Config(steps=int(steps), **choices)

    def _named_process(self, train: torch.Tensor) -> tuple[str, tuple[float, ...]]:
        """Return the name of the process and its range, from the data where only a name was given."""
        if isinstance(self.process, LinearSDE):
            return LINEAR, ()
        if isinstance(self.process, Process):
            return named(self.process)
        return self.process, span_for(self.process, largest_distance(train))[0]

    def _table(self, X: Any, reset: bool) -> pd.DataFrame:
        """Return X as a checked table whose columns keep their types."""
        frame = X if isinstance(X, pd.DataFrame) else None
        values = validate_data(self, X, reset=reset, dtype="numeric", ensure_min_samples=2 if reset else 1)
        if values.dtype.kind not in "bui":
            values = check_array(values, dtype=np.float64)
        if frame is not None:
            kinds = [getattr(dtype, "numpy_dtype", dtype) for dtype in frame.dtypes]  # of Int64 and its like int64
            if all(isinstance(kind, np.dtype) and kind.kind in "buif" for kind in kinds):
                return frame.astype(dict(zip(frame.columns, kinds, strict=True)))
        names = [f"x{i + 1}" for i in range(values.shape[1])] if frame is None else list(map(str, frame.columns))
        return pd.DataFrame(values, columns=names)

    def _fitted_table(self, X: Any) -> pd.DataFrame:
        check_is_fitted(self)
        return self._table(X, reset=False)

    def _in_cells(self, X: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return the points at which the density of each row is asked, and the log-volume that belongs to each."""
        frame = self._fitted_table(X)
        if not self.transform_.is_coarse:
            return [(self.transform_.forward(frame), self.transform_.log_jacobian(frame))]
        return list(self.transform_.in_cells(frame, CELL_POINTS, spawn(self.config_.seed, "cells")))

    def _model_for_density(self) -> ScoreModel:
        check_is_fitted(self)
        if self.config_.level:
            raise ValueError(
                f"this run learned one noise level, {self.config_.level:g}, and log-densities need all: fit without "
                "a level; score and sample work, and 'scorefield density' for one or two columns"
            )
        return self._double()

    def _double(self) -> ScoreModel:
        model = self.model_
        moments = model.mean.double(), model.covariance.double()
        copy = self.config_.model(*moments, model.base, model.process).double()
        copy.load_state_dict(self.model_.state_dict())
        return copy.eval()


def automatic_steps(n: int, members: int) -> int:
    """Return how many steps to train on n rows: 100 sqrt(n), from 500 to 8,000, or 4,000 each for several members."""
    return int(min(8000 if members == 1 else 4000, max(500, 100 * n**0.5)))


def load(folder: str | Path) -> ScoreDensity | ImageDensity:
    """Return the fitted estimator of a RUN folder, made by `save` or by the command line; no pickle is read.

    An ImageDensity where the run is one of images. Raises ValueError where the folder is not a run or is damaged.
    """
    return images.load(folder) if runs.read(Path(folder)).config.shape else load_table(folder)


def load_table(folder: str | Path) -> ScoreDensity:
    """Return the fitted estimator of a RUN folder of a table. Raises ValueError where it is none or is damaged."""
    found = runs.load(folder)
    config = found.run.config
    process = found.model.process if config.process == LINEAR else config.process
    choices = {name: getattr(config, name) for name in ("predicts", "objective", "network", "level")}
    estimator = ScoreDensity(process, **choices, max_iter=config.steps, random_state=config.seed)
    estimator.config_, estimator.transform_, estimator.model_ = config, found.run.transform, found.model
    estimator.notes_ = found.notes
    estimator.score_ratio_, estimator.n_iter_ = found.score_ratio, config.steps
    estimator.losses_ = [report.train for report in found.reports]
    estimator.frame_ = bool(found.run.request.get("frame", True))
    estimator.n_features_in_ = len(found.run.transform.names)
    if estimator.frame_:
        estimator.feature_names_in_ = np.array(found.run.transform.names, dtype=object)
    return estimator
