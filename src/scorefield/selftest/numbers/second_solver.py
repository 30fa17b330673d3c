"""The adaptive solver and the source of Brownian paths a second time, as in `second`."""

import math
from collections.abc import Callable

import numpy as np
from scipy import special

from scorefield.selftest.numbers.second import Row

TABLEAU = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
FOURTH = (5179 / 57600, 0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40)
"""The stages of Dormand and Prince, 1980, and the weights of their order 4."""


def dormand_prince(
    field: Callable[[float, Row], Row], y: Row, start: float, stop: float, rtol: float, atol: float
) -> tuple[Row, int]:
    """Return the end of dy/dt = field and the calls of the field, with steps that keep the error within bounds."""
    t, size, slope, calls = start, (stop - start) / 16, field(start, y), 1
    while True:
        last = abs(size) >= abs(stop - t)
        h = stop - t if last else size
        slopes = [slope]
        for stage in TABLEAU:
            moved = y + h * sum(c * k for c, k in zip(stage, slopes, strict=True))
            slopes.append(field(t + h * sum(stage), moved))
        calls += 6
        error = moved - y - h * sum(c * k for c, k in zip(FOURTH, slopes, strict=True))
        worst = float(np.max(np.abs(error) / (atol + rtol * np.maximum(np.abs(y), np.abs(moved)))))
        if worst <= 1:
            t, y, slope = t + h, moved, slopes[-1]
            if last:
                return y, calls
        size = h * min(max(0.9 * max(worst, 1e-10) ** -0.2, 0.2), 5.0 if worst <= 1 else 0.9)


MASK = 2**64 - 1


def splitmix(state: int) -> int:
    """Return the scrambled state of SplitMix64 (Steele et al., 2014)."""
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


def brownian(seed: int, row: int, place: int, columns: int, clock: Callable[[int], float]) -> Row:
    """Return W at a place of 2^20 by bisection, each middle from a Brownian bridge (Li et al., 2020)."""
    golden = 0x9E3779B97F4A7C15

    def normals(place: int) -> Row:
        state = splitmix((splitmix((seed + row * golden) & MASK) + place * golden) & MASK)
        words = [splitmix((state + (column + 1) * golden) & MASK) for column in range(columns)]
        return special.ndtri(np.array([((word >> 12) + 0.5) * 2.0**-52 for word in words]))

    low, high, w_low = 0, 2**20, np.zeros(columns)
    w_high = math.sqrt(clock(high) - clock(low)) * normals(high)
    while place not in (low, high):
        middle = (low + high) // 2
        share = (clock(middle) - clock(low)) / (clock(high) - clock(low))
        std = math.sqrt((clock(middle) - clock(low)) * (1 - share))
        w = w_low + share * (w_high - w_low) + std * normals(middle)
        low, w_low, high, w_high = (middle, w, high, w_high) if place >= middle else (low, w_low, middle, w)
    return w_low if place == low else w_high
