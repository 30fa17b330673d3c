"""scorefield learns the score, the gradient of the log-density, of any data set, and uses it.

Names are loaded when they are first used, so that importing the package, and `scorefield --help`, cost nothing.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "scorefield.estimator": ["ScoreDensity", "load"],
    "scorefield.images": ["ImageDensity"],
    "scorefield.process": ["EDM", "PROCESSES", "VE", "VP", "Cosine", "Process", "Straight", "SubVP"],
    "scorefield.sde": ["LinearSDE", "simulate"],
    "scorefield.densities": ["GaussianMixture"],
    "scorefield.prediction": ["PREDICTIONS"],
    "scorefield.model": ["Denoiser", "ExactDenoiser", "ScoreModel"],
    "scorefield.divergence": ["derivatives", "value_and_divergence"],
    "scorefield.objectives": [
        "OBJECTIVES",
        "WEIGHTS",
        "denoising",
        "denoising_energy",
        "explicit",
        "implicit",
        "second_order",
        "sliced",
        "sliced_energy",
    ],
    "scorefield.walks": ["then", "walk"],
    "scorefield.exponential": ["adams", "deis", "dpmpp_2m", "dpmpp_2m_sde", "heun_sde"],
    "scorefield.adaptive": ["adaptive_flow", "adaptive_sde"],
    "scorefield.samplers": [
        "SAMPLERS",
        "churned_heun",
        "ddim",
        "euler_maruyama",
        "heun",
        "langevin_corrector",
        "sample",
    ],
    "scorefield.flow": ["decode", "encode", "interpolate"],
    "scorefield.likelihood": ["LogProb", "log_prob"],
    "scorefield.variational": ["Bound", "lower_bound", "lower_bound_of_levels"],
    "scorefield.training": ["Progress", "Trainer", "batches"],
}
_MODULES = [
    "data",
    "frontier",
    "grids",
    "langevin",
    "nets",
    "metrics",
    "plots",
    "recovery",
    "times",
    "toys",
    "transforms",
]
_WHERE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [*_WHERE, *_MODULES, "__version__"]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"scorefield.{name}")
    raise AttributeError(f"module 'scorefield' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
