"""Networks: functions of a unit-variance noisy sample and the logarithm of its noise ratio."""

from scorefield.nets.energy import Energy
from scorefield.nets.ensemble import Ensemble
from scorefield.nets.mlp import MLP

NETS = {"mlp": MLP, "energy": Energy}
"""The networks by name; a saved model names one of these, never an import path."""

__all__ = ["MLP", "NETS", "Energy", "Ensemble"]
