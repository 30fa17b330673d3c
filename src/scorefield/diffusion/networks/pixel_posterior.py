"""What a noisy pixel says alone: its mean given a histogram of values, as a table."""

import math

import torch
from torch import Tensor, nn

LEVELS, POINTS = 48, 4096
"""Noise ratios and values at which the mean is tabulated."""

LOWEST, HIGHEST = 1e-3, 1e3
"""The range of noise ratios of the table; outside of it the nearest one serves."""

REACH = 6.0
"""The table goes this many standard deviations, of the noise and of `width`, beyond the outer levels."""


class PixelPosterior(nn.Module):
    """E[X | X + r Z] of one pixel X that has a known histogram, and its slope; Z standard normal, X in each channel.

    It is what the noisy pixel says without its neighbours: a smooth curve where r is large, the nearest level where r
    is far below the distance of two levels. A network that corrects it need not learn to count in 256ths, and at the
    smallest noise the answer is exact. Values lie on a grid of POINTS by LEVELS (log r), cubic in the value with exact
    slopes (Hermite) and linear in log r; the tables are buffers, so a saved model brings its own. The slope is
    Var[X | X + r Z] / r^2, by the derivative of Tweedie's formula: nearly 0 where a pixel is sure of its level.
    """

    values: Tensor
    slopes: Tensor
    ends: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("values", torch.zeros(channels, LEVELS, POINTS))
        self.register_buffer("slopes", torch.zeros(channels, LEVELS, POINTS))
        self.register_buffer("ends", torch.tensor([0.0, 1.0]).repeat(channels, 1))

    @torch.no_grad()
    def learn(self, levels: Tensor, counts: Tensor, width: float = 0.0) -> None:
        """Tabulate the mean for pixels at levels (k,), in model units, seen so many times: counts (channels, k).

        Every level counts once more than it was seen. width: the standard deviation of values around their level.
        Raises ValueError for fewer than two levels.
        """
        if len(levels) < 2:
            raise ValueError(f"expected pixels of at least two values; got {len(levels)}")
        levels = levels.double()
        ends = torch.stack([levels[0] - REACH * width, levels[-1] + REACH * width])
        self.ends.copy_(ends.expand(len(counts), 2))
        for channel, seen in enumerate(counts.double() + 1):
            for row, ratio in enumerate(self._ratios().tolist()):
                low, high = (float(end) for end in self._range(self.ends[channel].double(), ratio))
                y = torch.linspace(low, high, POINTS, dtype=torch.float64)
                variance = ratio**2 + width**2
                posterior = (seen.log() - (y[:, None] - levels) ** 2 / (2 * variance)).softmax(1)
                mean = posterior @ levels
                within = (posterior @ levels**2 - mean**2).clamp(min=0)
                self.values[channel, row] = (mean * ratio**2 + y * width**2) / variance
                slope = (within / variance * ratio**2 + width**2) / variance
                self.slopes[channel, row] = slope * (high - low) / (POINTS - 1)

    def forward(self, y: Tensor, log_ratio: Tensor) -> tuple[Tensor, Tensor]:
        """Return each pixel's mean and its slope for y = x + r noise, (n, channels, height, width), at log r (n,)."""
        first, last = math.log(LOWEST), math.log(HIGHEST)
        place = ((log_ratio - first) / (last - first) * (LEVELS - 1)).clamp(0, LEVELS - 1)
        row = place.long().clamp(max=LEVELS - 2)
        share = (place - row)[:, None, None, None].to(y)
        below, above = self._at(y, row), self._at(y, row + 1)
        return torch.lerp(below[0], above[0], share), torch.lerp(below[1], above[1], share)

    def _at(self, y: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cubic of one row of the table for each image, and the slope between its exact ones."""
        ratio = self._ratios().to(y)[row]
        low, high = (end[:, :, None, None] for end in self._range(self.ends.to(y).T, ratio[:, None]))
        resolution = (POINTS - 1) / (high - low)
        place = ((y - low) * resolution).clamp(0, POINTS - 1)
        point = place.detach().long().clamp(max=POINTS - 2)
        h = place - point
        channel = torch.arange(len(self.ends), device=y.device)[:, None, None]
        index = (channel * LEVELS + row[:, None, None, None]) * POINTS + point
        values, slopes = self.values.to(y).flatten(), self.slopes.to(y).flatten()
        first, last, start, end = values[index], values[index + 1], slopes[index], slopes[index + 1]
        rise = last - first
        mean = first + h * (start + h * (3 * rise - 2 * start - end + h * (start + end - 2 * rise)))
        return mean, torch.lerp(start, end, h) * resolution

    @staticmethod
    def _ratios() -> Tensor:
        return torch.logspace(math.log10(LOWEST), math.log10(HIGHEST), LEVELS, dtype=torch.float64)

    @staticmethod
    def _range(ends: Tensor, ratio: Tensor | float) -> tuple[Tensor, Tensor]:
        """Return between which values the table lies at a ratio, for the ends of the values without noise."""
        return ends[0] - REACH * ratio, ends[1] + REACH * ratio
