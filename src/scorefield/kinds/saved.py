"""What config.toml says of units, read with suspicion."""

from dataclasses import fields
from typing import Any

import numpy as np

TYPES = frozenset(
    text
    for code in "?" + np.typecodes["AllInteger"] + np.typecodes["Float"]
    for kind in [np.dtype(code)]
    for text in (kind.name, kind.newbyteorder("<").str, kind.newbyteorder(">").str)
)
"""The types of numbers that a config.toml may name; NumPy itself reads more into a text, and parses it as Python."""


def checked(units: Any) -> Any:  # noqa: ANN401, any dataclass with a dtype
    """Return units, a dataclass with a dtype. Raises ValueError for what is no number or no type of numbers."""
    if not isinstance(units.dtype, str) or units.dtype not in TYPES:
        raise ValueError(f"expected the type of a number; got {units.dtype!r}")
    for field in fields(units):
        value = getattr(units, field.name)
        if field.type is float and (isinstance(value, bool) or not isinstance(value, int | float) or value != value):
            raise ValueError(f"{field.name} must be a number; got {value!r}")
    return units
