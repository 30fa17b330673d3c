"""Reading a RUN folder: its newest valid model."""

from dataclasses import dataclass

from scorefield.diffusion.denoisers import ScoreModel
from scorefield.runs import checkpoint
from scorefield.runs.checkpoint import CheckpointError
from scorefield.runs.folder import Run
from scorefield.runs.metrics_log import reports_of
from scorefield.runs.weights import model_of
from scorefield.training.learner import PATIENCE, Report


@dataclass(frozen=True)
class Fitted:
    """A trained model, the noise ratio at which its score is read, what there is to say of it, and its reports."""

    model: ScoreModel
    score_ratio: float
    notes: list[str]
    reports: list[Report]


def load(run: Run, dim: int) -> Fitted:
    """Return the newest valid model of a run, which has so many coordinates.

    Raises ValueError where there is none yet, CheckpointError where all are damaged or of another size.
    """
    folder = run.folder
    found = checkpoint.latest(run.folder, run.digest)
    if found is None:
        raise ValueError(f"{folder} has no checkpoint yet; run the same fit command again to train it")
    notes = list(found.notes)
    reports = reports_of(run.folder, found.state)
    try:
        if found.step < run.config.steps and int(found.state["worse"]) != PATIENCE:
            notes.append(f"{folder} stopped at step {found.step} of {run.config.steps}; fit again to finish it")
        model, ratio = model_of(run.config, dim, dict(found.model))
    except (RuntimeError, KeyError, ValueError, TypeError, IndexError, ArithmeticError) as error:
        raise CheckpointError(f"the weights in {folder} are not those of its config.toml: {error}") from error
    return Fitted(model, ratio, notes, reports)
