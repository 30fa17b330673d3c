"""Images of a bar, lying or standing, that the tests of images learn."""

import numpy as np

SIDE = 6
BARS = np.zeros((2 * SIDE, SIDE, SIDE), np.uint8)
for place in range(SIDE):
    BARS[place, place] = BARS[SIDE + place, :, place] = 3
KINDS = np.array(["lying"] * SIDE + ["standing"] * SIDE)


def bars(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    pick = np.random.default_rng(seed).integers(len(BARS), size=n)
    return BARS[pick], KINDS[pick]
