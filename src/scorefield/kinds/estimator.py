"""What the estimators share: how long they learn, what they keep of it, and where their random numbers come from."""

import numbers
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from scorefield.runs import folder as runs
from scorefield.runs import resuming
from scorefield.runs.loading import Fitted
from scorefield.training.budget import Budget, Falling
from scorefield.training.config import Config
from scorefield.training.learner import Learner
from scorefield.training.problem import Problem


class ScoreEstimator(BaseEstimator):
    """An estimator that learns a score by `max_iter` steps, or for `time_budget` seconds, from `random_state`."""

    max_iter: Any
    time_budget: Any
    random_state: Any

    def _learn(self, config: Config, problem: Problem, automatic: Callable[[Config], int]) -> None:
        """Train, and keep the model; automatic: how many steps max_iter 'auto' stands for."""
        config = self._with_steps(config, automatic)
        learner = Learner(config, problem.prepare(config), Falling(config.steps or Budget(self.time_budget)))
        self.losses_ = [report.train for report in learner.run() if report is not None]
        self.config_ = replace(config, steps=learner.schedule.steps or config.steps)
        self.model_, self.score_ratio_, self.n_iter_ = learner.result, learner.reading_ratio, self.config_.steps
        self.notes_: list[str] = []

    def _with_steps(self, config: Config, automatic: Callable[[Config], int]) -> Config:
        if self.time_budget is not None:
            if not self.time_budget > 0:
                raise ValueError(f"time_budget must be a positive number of seconds; got {self.time_budget!r}")
            return replace(config, steps=0)
        steps = automatic(config) if self.max_iter == "auto" else self.max_iter
        if not isinstance(steps, numbers.Integral) or steps < 1:
            raise ValueError(f"max_iter must be 'auto' or a whole number of at least 1; got {self.max_iter!r}")
        return replace(config, steps=int(steps))

    def _restore(self, found: Fitted) -> None:
        """Take over what a RUN folder holds."""
        self.config_, self.model_, self.score_ratio_ = found.config, found.model, found.score_ratio
        self.n_iter_, self.notes_ = found.config.steps, found.notes
        self.losses_ = [report.train for report in found.reports]

    def _save(self, folder: str | Path, request: dict, facts: dict, content: dict) -> None:
        """Write a RUN folder of a model that was trained here. Raises ValueError where the folder is not empty."""
        request, facts = {"estimator": True} | request, {"source": "python"} | facts
        run = runs.create(Path(folder), request, facts, self.config_, content)
        resuming.save_final(run, self.model_, self.score_ratio_)

    def _drawing_seed(self, n_samples: object, random_state: int | np.random.RandomState | None) -> int:
        """Return the seed of a sample. Raises ValueError unless n_samples is a whole number of at least 1."""
        check_is_fitted(self)
        if not isinstance(n_samples, numbers.Integral) or n_samples < 1:
            raise ValueError(f"n_samples must be a whole number of at least 1; got {n_samples!r}")
        return seed_from(self.random_state if random_state is None else random_state)


def seed_from(random_state: Any) -> int:  # noqa: ANN401, whatever scikit-learn takes
    """Return a seed drawn from a random_state as scikit-learn has it."""
    return int(check_random_state(random_state).randint(2**31 - 1))
