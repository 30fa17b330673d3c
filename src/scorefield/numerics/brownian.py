"""Brownian paths that answer the same value whenever, and in whatever order, they are asked."""

from collections.abc import Callable

import torch
from torch import Tensor

DEPTH = 20
"""A path can be asked at 2^DEPTH + 1 places."""

LAST = 2**DEPTH
"""The last place; the first is 0."""

GOLDEN, FIRST, SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
"""The odd constants of SplitMix64 as signed numbers: the golden ratio and two multipliers (Steele et al., 2014)."""


class BrownianPath:
    """W(clock(k)) for many rows, k a whole number from 0 to LAST, computed when asked and never stored.

    The value at a place is drawn by bisection of the clock, each midpoint from the law of a Brownian bridge between its
    neighbours, with normals that are a function of (seed, row, place, column) alone: the virtual Brownian tree of Li
    et al., 2020. W is 0 at the first place. clock maps places, float64, to increasing times.
    """

    def __init__(self, seed: int, columns: int, clock: Callable[[Tensor], Tensor]) -> None:
        self.seed, self.columns, self.clock = seed, columns, clock

    def __call__(self, rows: Tensor, places: Tensor) -> Tensor:
        """Return W (m, columns), float64, for rows (m,) and places (m,), both int64."""
        low, high = torch.zeros_like(places), torch.full_like(places, LAST)
        at_low = torch.zeros(len(places), self.columns, dtype=torch.float64)
        whole = self.clock(high.double()) - self.clock(low.double())
        at_high = whole.sqrt()[:, None] * self._normals(rows, high)
        for _ in range(DEPTH):
            middle = (low + high) // 2
            start, between, end = (self.clock(place.double()) for place in (low, middle, high))
            share = (between - start) / (end - start)
            std = ((between - start) * (1 - share)).sqrt()
            at_middle = at_low + share[:, None] * (at_high - at_low) + std[:, None] * self._normals(rows, middle)
            right = places >= middle
            low, high = torch.where(right, middle, low), torch.where(right, high, middle)
            at_low = torch.where(right[:, None], at_middle, at_low)
            at_high = torch.where(right[:, None], at_high, at_middle)
        return torch.where((places == high)[:, None], at_high, at_low)

    def _normals(self, rows: Tensor, places: Tensor) -> Tensor:
        """Standard normals (m, columns), a function of seed, row, place and column."""
        state = _mixed(self.seed + rows * GOLDEN)
        state = _mixed(state + places * GOLDEN)
        state = _mixed(state[:, None] + torch.arange(1, self.columns + 1) * GOLDEN)
        uniform = (_shifted(state, 12).double() + 0.5) * 2.0**-52
        return torch.special.ndtri(uniform)


def _mixed(state: Tensor) -> Tensor:
    """Scramble 64-bit integers so that every bit depends on every bit (SplitMix64: Steele et al., 2014)."""
    state = (state ^ _shifted(state, 30)) * FIRST
    state = (state ^ _shifted(state, 27)) * SECOND
    return state ^ _shifted(state, 31)


def _shifted(state: Tensor, bits: int) -> Tensor:
    """The unsigned right shift, which int64 lacks."""
    return (state >> bits) & ((1 << (64 - bits)) - 1)
