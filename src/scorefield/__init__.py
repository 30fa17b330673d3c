"""scorefield learns the score, the gradient of the log-density, of any data set, and uses it.

Names are loaded when they are first used, so that importing the package, and `scorefield --help`, cost nothing.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "scorefield.kinds.tables.estimator": ["ScoreDensity"],
    "scorefield.kinds.loading": ["load"],
    "scorefield.kinds.images.estimator": ["ImageDensity"],
    "scorefield.diffusion.process": ["Process"],
    "scorefield.diffusion.published": ["EDM", "VE", "VP", "Cosine", "Straight", "SubVP"],
    "scorefield.diffusion.by_name": ["PROCESSES"],
    "scorefield.diffusion.sde": ["LinearSDE", "simulate"],
    "scorefield.diffusion.densities": ["GaussianMixture"],
    "scorefield.diffusion.prediction": ["PREDICTIONS"],
    "scorefield.diffusion.denoisers": ["Denoiser", "ExactDenoiser", "ScoreModel"],
    "scorefield.numerics.divergence": ["derivatives", "value_and_divergence"],
    "scorefield.training.objectives.table": ["OBJECTIVES"],
    "scorefield.training.objectives.losses": [
        "WEIGHTS",
        "denoising",
        "denoising_energy",
        "explicit",
        "implicit",
        "second_order",
        "sliced",
        "sliced_energy",
    ],
    "scorefield.inference.walking": ["then", "walk"],
    "scorefield.inference.exponential": ["adams", "deis", "dpmpp_2m", "dpmpp_2m_sde", "heun_sde"],
    "scorefield.inference.adaptive": ["adaptive_flow", "adaptive_sde"],
    "scorefield.inference.samplers": [
        "SAMPLERS",
        "churned_heun",
        "ddim",
        "euler_maruyama",
        "heun",
        "langevin_corrector",
        "sample",
    ],
    "scorefield.inference.probability_flow": ["decode", "encode", "interpolate"],
    "scorefield.inference.likelihood": ["LogProb", "log_prob"],
    "scorefield.inference.bound": ["Bound", "lower_bound", "lower_bound_of_levels"],
    "scorefield.training.trainer": ["Progress", "Trainer", "batches"],
}
_MODULES = {
    "data": "scorefield.data",
    "frontier": "scorefield.inference.frontier",
    "grids": "scorefield.inference.step_grid",
    "langevin": "scorefield.inference.langevin",
    "metrics": "scorefield.evaluation.metrics",
    "nets": "scorefield.diffusion.networks",
    "plots": "scorefield.reports",
    "recovery": "scorefield.inference.path_integral",
    "times": "scorefield.diffusion.times",
    "toys": "scorefield.data.toys",
    "transforms": "scorefield.kinds.tables.units",
}
_WHERE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [*_WHERE, *_MODULES, "__version__"]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    raise AttributeError(f"module 'scorefield' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
