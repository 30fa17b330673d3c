"""What the tests of images share: arrays, layouts, the text of an error."""

import numpy as np
import pytest


def array(shape, dtype="uint8", seed=0):
    draw = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return draw.normal(size=shape).astype(dtype)
    return draw.integers(0, 2 if dtype == "bool" else 256, shape).astype(dtype)


def channels_first(images, layout):
    return {"HW": lambda x: x[:, None], "HWC": lambda x: np.moveaxis(x, -1, 1), "CHW": lambda x: x}[layout](images)


def message(action):
    """What a ValueError says, which must be one line."""
    with pytest.raises(ValueError, match=r": expected .*; got ") as caught:
        action()
    text = str(caught.value)
    assert "\n" not in text
    assert text.isprintable()
    return text
