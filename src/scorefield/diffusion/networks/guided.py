"""A network for rows whose classes are given."""

from torch import Tensor, nn


class Labelled(nn.Module):
    """A network that is told the class of every row, with classifier-free guidance (Ho and Salimans, 2022).

    y = y_free + w (y_label - y_free); y_free, the answer where no class is told, is not computed for w = 1.

    Args:
        net: What is told, (z, log_ratio, label) -> the shape of z.
        label: (n,), or () for one class for all rows.
        guidance: w: 1 is the class itself, larger is more of what sets the class apart, at the price of variety.
    """

    def __init__(self, net: nn.Module, label: Tensor, guidance: float = 1.0) -> None:
        super().__init__()
        self.net, self.label, self.guidance = net, label, guidance

    def forward(self, z: Tensor, log_ratio: Tensor) -> Tensor:
        """Return the prediction for the rows z (n, d) of these classes at log(s/a) (n,)."""
        told = self.net(z, log_ratio, self.label.expand(len(z)))
        return told if self.guidance == 1 else self.net(z, log_ratio).lerp(told, self.guidance)
