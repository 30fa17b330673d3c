"""A model as the tensors of a checkpoint, and back."""

import torch
from torch import Tensor

from scorefield.diffusion.denoisers import ScoreModel
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.sde import LinearSDE
from scorefield.training.config import Config

BASE = ("weights", "means", "covariances")
"""The parts of a model's base in its checkpoint."""


def tensors_of(model: ScoreModel, ratio: float) -> dict[str, Tensor]:
    """Return a model, with its base and its process, and the noise ratio at which its score is read, as tensors."""
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    base = {} if model.base is None else {f"base.{name}": getattr(model.base, name).contiguous() for name in BASE}
    process = {"process.table": model.process.table} if isinstance(model.process, LinearSDE) else {}
    return weights | base | process | {"score_ratio": torch.tensor(ratio, dtype=torch.float64)}


def model_of(config: Config, dim: int, weights: dict[str, Tensor]) -> tuple[ScoreModel, float]:
    """Return the model that the weights of a checkpoint make, and the noise ratio at which its score is read.

    dim: the number of its coordinates. Raises ValueError, KeyError or RuntimeError for weights that do not fit.
    """
    ratio = float(weights.pop("score_ratio"))
    parts = [weights.pop(f"base.{name}") for name in BASE if f"base.{name}" in weights]
    table = weights.pop("process.table", None)
    process = None if table is None else LinearSDE.from_table(table)
    moments = weights["mean"], weights["covariance"]
    if moments[0].shape != (dim,):
        raise ValueError(f"expected a mean of shape ({dim},); got {tuple(moments[0].shape)}")
    model = config.model(*moments, GaussianMixture(*parts) if parts else None, process)
    model.load_state_dict(weights)
    return model.eval(), ratio
