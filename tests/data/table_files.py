"""What the tests of tables share: files, tables, the text of an error."""

import numpy as np
import pandas as pd

FORMATS = [".csv", ".tsv", ".parquet", ".npy", ".npz"]
X = [[1.0, 2.0], [3.0, 4.5]]


def message(error):
    text = str(error.value)
    assert "\n" not in text
    assert "\r" not in text
    return text


def table(n, seed=0):
    """All kinds of columns, with floats over the whole range that a table may have."""
    draw = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "x": draw.normal(size=n) * 10.0 ** draw.integers(-300, 149, n),
            "single": draw.normal(size=n).astype("f4"),
            "half": draw.normal(size=n).astype("f2"),
            "n": draw.integers(-(2**63), 2**63, n),
            "small": draw.integers(0, 200, n).astype("u1"),
            "yes": draw.random(n) < 0.5,
        }
    )
