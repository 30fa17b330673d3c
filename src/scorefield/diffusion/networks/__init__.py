"""Networks: functions of a unit-variance noisy sample and the logarithm of its noise ratio."""

from scorefield.diffusion.networks.energy import Energy
from scorefield.diffusion.networks.ensemble import Ensemble
from scorefield.diffusion.networks.guided import Labelled
from scorefield.diffusion.networks.mlp import MLP
from scorefield.diffusion.networks.unet import UNet

NETS = {"mlp": MLP, "energy": Energy}
"""The networks for vectors by name; a saved model names one of these, never an import path. Images have a UNet."""

__all__ = ["MLP", "NETS", "Energy", "Ensemble", "Labelled", "UNet"]
