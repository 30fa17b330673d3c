"""The tests of R10 see small faults: what they pass is right to a hundredth."""

import numpy as np
import pytest
import torch

from scorefield.numerics.tensors import spawn
from scorefield.selftest.laws import mixture
from scorefield.selftest.nulls import Deviates

N = 50_000


def passes(x: torch.Tensor) -> bool:
    """Whether samples pass as those of the mixture."""
    deviates = Deviates()
    mixture.add_mixture(deviates, "samples", x)
    return deviates.check("", N).passed


@pytest.mark.parametrize("fault", ["none", "a weight off by 0.015", "a shift of 0.03", "a spread of 1.04"])
def test_small_faults_are_found(fault):
    x, mean = mixture.SKEWED.sample(N, spawn(0, "exact draws")), mixture.SKEWED.mean
    mode = mixture.uniforms(x.numpy())[2].argmax(1)
    first = np.flatnonzero(mode == 0)
    kept = np.concatenate([np.flatnonzero(mode != 0), first[: int(0.94 * len(first))]])
    faults = {"none": x, "a weight off by 0.015": x[kept], "a shift of 0.03": x + 0.03}
    assert passes(faults.get(fault, mean + 1.04 * (x - mean))) == (fault == "none")
