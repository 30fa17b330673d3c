"""Networks: functions of a unit-variance noisy sample and the logarithm of its noise ratio."""

from scorefield.nets.energy import Energy
from scorefield.nets.ensemble import Ensemble
from scorefield.nets.labelled import Labelled
from scorefield.nets.mlp import MLP
from scorefield.nets.unet import UNet

NETS = {"mlp": MLP, "energy": Energy}
"""The networks for vectors by name; a saved model names one of these, never an import path. Images have a UNet."""

__all__ = ["MLP", "NETS", "Energy", "Ensemble", "Labelled", "UNet"]
