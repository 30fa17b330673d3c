"""Tables that the tests of transforms share."""

import math

import numpy as np
import pandas as pd


def table(n: int = 500) -> pd.DataFrame:
    draw = np.random.Generator(np.random.PCG64(0))
    return pd.DataFrame(
        {
            "length": draw.normal(1e4, 3e-3, n),
            "fixed": np.full(n, 7.25),
            "count": draw.poisson(4, n),
            "small": draw.exponential(1e-6, n).astype(np.float32),
            "flag": draw.random(n) < 0.3,
            "level": draw.integers(0, 200, n).astype(np.uint8),
            "always": np.full(n, 3, dtype=np.int16),
        }
    )


def curved(n: int = 300) -> tuple[pd.DataFrame, dict]:
    """A table with every kind of column, and its bounds."""
    draw = np.random.Generator(np.random.PCG64(3))
    frame = pd.DataFrame(
        {
            "plain": draw.normal(3, 2, n),
            "positive": np.exp(draw.normal(size=n)),
            "below": 5 - np.exp(draw.normal(size=n)),
            "share": draw.beta(0.5, 2, n),
            "heavy": draw.standard_t(1.5, n),
            "price": np.exp(1.5 * draw.normal(size=n)) * 1e-3,
            "rating": draw.integers(1, 6, n) / 2,
            "count": draw.poisson(0.7, n),
        }
    )
    return frame, {"positive": (0, math.inf), "below": (-math.inf, 5), "share": (0, 1), "count": (0, math.inf)}
