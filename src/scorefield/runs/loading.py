"""Reading a RUN folder: its newest valid model."""

from dataclasses import dataclass, replace

from scorefield.diffusion.denoisers import ScoreModel
from scorefield.runs import checkpoint
from scorefield.runs.checkpoint import CheckpointError
from scorefield.runs.folder import Run
from scorefield.runs.metrics_log import reports_of
from scorefield.runs.weights import model_of
from scorefield.training.config import Config
from scorefield.training.learner import PATIENCE, Report


@dataclass(frozen=True)
class Fitted:
    """A trained model, the noise ratio at which its score is read, what there is to say of it, and its reports.

    config: the settings of the run; its steps are those taken where the clock has not said yet how many there are.
    """

    config: Config
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
    notes, steps = list(found.notes), run.config.steps
    reports = reports_of(run.folder, found.state)
    try:
        if (not steps or found.step < steps) and int(found.state["worse"]) != PATIENCE:
            of_all = f" of {steps}" if steps else ""
            notes.append(f"{folder} stopped at step {found.step}{of_all}; fit again to finish it")
        model, ratio = model_of(run.config, dim, dict(found.model))
    except (RuntimeError, KeyError, ValueError, TypeError, IndexError, ArithmeticError) as error:
        raise CheckpointError(f"the weights in {folder} are not those of its config.toml: {error}") from error
    return Fitted(replace(run.config, steps=steps or found.step), model, ratio, notes, reports)
