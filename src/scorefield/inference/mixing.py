"""Whether chains have mixed: R-hat and the effective sample size."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from scorefield.numerics.shapes import Path, Samples


class Mixing(NamedTuple):
    """How well chains have mixed, for each column: rank-normalised split R-hat and the effective sample size."""

    rhat: Tensor
    ess: Tensor


def mixing(states: Sequence[Samples]) -> Mixing:
    """Return R-hat and effective sample size of chains, the rows of states (n, d) (Vehtari et al., 2021).

    R-hat near 1 says that the chains cannot be told from each other, not that they have seen every mode.

    Args:
        states: The states (n, d) of n chains, one after another.

    Raises:
        ValueError: fewer than 2 chains or 4 states.
    """
    from arviz_stats.base import array_stats

    draws = torch.stack(list(states)).flatten(2).double().numpy()
    if draws.shape[1] < 2 or len(draws) < 4:
        raise ValueError(f"expected at least 2 chains of 4 states; got {draws.shape[1]} of {len(draws)}")
    found = (f(draws, chain_axis=1, draw_axis=0) for f in (array_stats.rhat, array_stats.ess))
    return Mixing(*(torch.from_numpy(np.atleast_1d(np.asarray(values))) for values in found))


def until_mixed(path: Path, rhat: float = 1.01, ess: float = 400.0, first: int = 100) -> Path:
    """Yield the states of a path until its second half has mixed (Vehtari et al., 2021, on the limits).

    It is looked at after `first` states and whenever there are twice as many.

    Args:
        path: The states of chains.
        rhat: R-hat may be at most this.
        ess: The second half must be worth so many independent draws.
        first: When to look first.

    Raises:
        RuntimeError: the path ends before.
    """
    states: list[Samples] = []
    check = first
    for state in path:
        states.append(state)
        yield state
        if len(states) == check:
            found, check = mixing(states[check // 2 :]), 2 * check
            if float(found.rhat.max()) <= rhat and float(found.ess.min()) >= ess:
                return
    worst = mixing(states[len(states) // 2 :])
    raise RuntimeError(
        f"the chains have not mixed in {len(states)} steps: R-hat {float(worst.rhat.max()):.3f}, expected at most "
        f"{rhat}; effective sample size {float(worst.ess.min()):.0f}, expected at least {ess:g}; take more or larger "
        "steps, or anneal over levels of noise"
    )
