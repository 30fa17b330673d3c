"""Several networks that answer with their mean."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """The mean of networks that learned from different parts of the data, which has less variance than any."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, z: Tensor, log_ratio: Tensor, *label: Tensor) -> Tensor:
        """Return the mean of the members' predictions; label: the class of each row, for members that take one."""
        return torch.stack([member(z, log_ratio, *label) for member in self.members]).mean(0)


def members_of(net: nn.Module) -> list[nn.Module]:
    """Return the networks of which a network is the mean: its members, or itself alone."""
    return list(net.members) if isinstance(net, Ensemble) else [net]
