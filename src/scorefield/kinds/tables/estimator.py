"""ScoreDensity: the whole method behind scikit-learn's estimator contract."""

import math
import numbers
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import DensityMixin
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from scorefield.data import split
from scorefield.diffusion.denoisers import ScoreModel
from scorefield.diffusion.sde import LinearSDE
from scorefield.inference import frontier, langevin, samplers
from scorefield.inference.bound import Bound, lower_bound
from scorefield.inference.likelihood import LogProb, log_prob
from scorefield.kinds.estimator import ScoreEstimator, seed_from
from scorefield.kinds.tables.problem import TableProblem, choose_transform
from scorefield.kinds.tables.settings import automatic_steps, choose_settings
from scorefield.kinds.tables.units import TableTransform
from scorefield.numerics.tensors import spawn
from scorefield.runs.folder import Run
from scorefield.runs.loading import Fitted
from scorefield.training.config import LINEAR, Config
from scorefield.training.score_level import data_score

CELL_POINTS = 8
"""Points in the cell of a row at which the density is averaged where columns have few different values."""


class ScoreDensity(DensityMixin, ScoreEstimator):
    """Density estimation by a learned score: samples, log-densities and the score of any table of numbers.

    It keeps scikit-learn's contract: parameters are stored as they come and checked by `fit`; X is anything that it
    takes for a matrix of numbers. Here `score(X)` is scikit-learn's, the mean log-likelihood. The score of this
    subject, the gradient of the log-density, is `score_function(X)`.

    Parameters:
        process (str, Process or LinearSDE): a name of PROCESSES, which gets its range from the data, or a process.
            Default "vp".
        predicts (str): what the network predicts, a name of PREDICTIONS. Default "v".
        objective (str): a name of OBJECTIVES. Default "denoising".
        network (str): "mlp", or "energy": the score is the gradient of a number. Default "mlp".
        level (float): 0 for all noise levels, else the one noise ratio to learn, for Langevin samples. Default 0.0.
        max_iter (int or "auto"): training steps; "auto" is a function of the number of rows, never of the clock.
            Default "auto".
        time_budget (float or None): seconds of training, in place of max_iter. Default None.
        random_state (int, RandomState or None): the seed of everything random. Default None.
        bounds (dict or None): (lower, upper) by column name, such as {"age": (0, math.inf)}; samples never leave them.
            Default None.

    Attributes:
        model_: the ScoreModel, in model units.
        transform_: the columns and their standardisation.
        config_: the settings of the training.
        score_ratio_: the noise ratio at which the score is read.
        losses_: training losses relative to the trivial model, one a report.
        n_iter_: the steps planned; training may stop before.
        notes_: what `load` has to say of the folder, sentences.
        n_features_in_, feature_names_in_: the columns; their names where fit got a data frame with names.

    Examples:
        >>> import numpy as np
        >>> import scorefield as sf
        >>> X = np.random.default_rng(0).normal([170, 65], [9, 8], (200, 2))
        >>> estimator = sf.ScoreDensity(max_iter=20, random_state=0).fit(X)
        >>> estimator.sample(3).shape
        (3, 2)
        >>> middle, tail = estimator.score_samples([[170, 65], [200, 30]])
        >>> bool(middle > tail)
        True
        >>> bool(estimator.score_function([[200, 65]])[0, 0] < 0)  # downhill, back to the middle
        True
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
        seed = seed_from(self.random_state)
        self.transform_ = choose_transform(frame, self.bounds, seed)
        z = self.transform_.forward(frame, spawn(seed, "dequantise"))
        rows, held_out, others = split(len(z), seed)
        process = self.process if isinstance(self.process, LinearSDE) else None
        problem = TableProblem(z[[*rows, *others]], z[held_out], self.transform_.white, process)
        steps = lambda config: automatic_steps(len(problem.train), config.members)
        self._learn(self._settings(problem, seed), problem, steps)
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
        n, k, volume = len(points[0][0]), len(points), torch.stack([v for _, v in points])
        found = log_prob(model, torch.cat([z for z, _ in points]), errors=errors, generator=generator)
        if k == 1:
            return found._replace(value=found.value + volume[0])
        values, probes = found.value.reshape(k, n) + volume, found.stderr.reshape(k, n)
        value = values.logsumexp(0) - math.log(k)
        spread = (values - value).exp().std(0) / math.sqrt(k)
        stderr = torch.hypot(spread, probes.square().sum(0).sqrt() / k)
        evaluations = found.evaluations.reshape(k, n).sum(0)
        shares = values.softmax(0)  # of the cell's probability
        solver_error, start_error = (
            column if column is None else (shares * column.reshape(k, n)).sum(0)
            for column in (found.solver_error, found.start_error)
        )
        return LogProb(value, stderr, evaluations, solver_error, start_error)

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
        seed = self._drawing_seed(n_samples, random_state)
        if tol is not None:
            point = frontier.choose(self.model_, tol)
            sampler, steps = point.sampler, point.steps
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
        self._save(folder, {"frame": self.frame_}, {}, self.transform_.content())

    @classmethod
    def of_run(cls, run: Run, transform: TableTransform, found: Fitted) -> "ScoreDensity":
        """Return the estimator that a RUN of a table holds."""
        config = found.config
        process = found.model.process if config.process == LINEAR else config.process
        choices = {name: getattr(config, name) for name in ("predicts", "objective", "network", "level")}
        estimator = cls(process, **choices, max_iter=config.steps, random_state=config.seed)
        estimator._restore(found)
        estimator.transform_, estimator.frame_ = transform, bool(run.request.get("frame", True))
        estimator.n_features_in_ = len(transform.names)
        if estimator.frame_:
            estimator.feature_names_in_ = np.array(transform.names, dtype=object)
        return estimator

    def _settings(self, problem: TableProblem, seed: int) -> Config:
        if self.objective == "explicit":
            raise ValueError("the objective 'explicit' is for built-in data, whose score is known; try 'parzen'")
        if isinstance(self.level, bool) or not isinstance(self.level, numbers.Real):
            raise ValueError(f"level must be a number, 0 for all noise levels; got {self.level!r}")
        choices = {name: getattr(self, name) for name in ("process", "predicts", "objective", "network")}
        return choose_settings(problem, seed=seed, level=float(self.level), **choices).config

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
