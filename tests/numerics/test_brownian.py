"""Laws of the re-queryable Brownian path: the generator against a published one, increments, bridges, repeats."""

import itertools
import math

import numpy as np
import pytest
import torch
from cases import F64, FALSE_ALARM, z_limit
from scipy import stats

from scorefield.numerics import brownian
from scorefield.numerics.brownian import LAST, BrownianPath

N = 100_000


def straight(seed: int = 0, columns: int = 1) -> BrownianPath:
    """A path whose clock runs evenly from 2 to 5."""
    return BrownianPath(seed, columns, lambda place: 2 + 3 * place / LAST)


def test_the_scrambler_is_splitmix64():
    """The first outputs of SplitMix64 seeded with 1234567, from its published reference implementation."""
    states = torch.tensor(1234567) + brownian.GOLDEN * torch.arange(1, 6)
    found = [value % 2**64 for value in brownian._mixed(states).tolist()]
    assert found == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@pytest.mark.parametrize("place", [1, LAST // 3, LAST // 2, LAST - 1, LAST])
def test_the_value_is_normal_with_the_clocks_variance(place):
    """Kolmogorov's test and the variance over 100,000 rows; false alarm 1e-6 each."""
    rows = torch.arange(N)
    w = straight()(rows, torch.full_like(rows, place))[:, 0]
    z = (w / math.sqrt(3 * place / LAST)).numpy()
    assert stats.kstest(z, "norm").pvalue > FALSE_ALARM
    assert abs(z.var() - 1) < z_limit() * math.sqrt(2 / N)


@pytest.mark.slow
def test_increments_are_independent_of_each_other_rows_and_columns():
    """All correlations between four increments, two columns and neighbouring rows vanish; false alarm 1e-6 in all."""
    rows = torch.arange(N)
    path = straight(1, columns=2)
    places = [0, LAST // 5, LAST // 2 + 7, LAST - 3, LAST]
    values = [path(rows, torch.full_like(rows, place)) for place in places]
    steps = torch.cat([b - a for a, b in itertools.pairwise(values)], 1)
    steps = torch.cat([steps, steps.roll(1, 0)], 1)
    correlations = torch.corrcoef(steps.T) - torch.eye(16, dtype=F64)
    assert float(correlations.abs().max()) < z_limit(120) / math.sqrt(N)
    expected = torch.tensor([3 * (b - a) / LAST for a, b in itertools.pairwise(places) for _ in range(2)])
    assert (steps[:, :8].var(0) / expected - 1).abs().max() < z_limit(8) * math.sqrt(2 / N)


def test_seeds_are_unlike_and_columns_are_the_same_however_many():
    """That a value does not depend on what was asked before or beside is R04's."""
    draw = np.random.default_rng(0)
    rows, places = torch.from_numpy(draw.integers(0, 50, 500)), torch.from_numpy(draw.integers(0, LAST + 1, 500))
    found = straight(3, columns=3)(rows, places)
    assert torch.equal(straight(3, columns=2)(rows, places), found[:, :2])
    assert not torch.equal(straight(4, columns=3)(rows, places), found)


def test_neighbouring_seeds_share_no_row():
    """No value of 200 rows under one seed is one of another's."""
    rows = torch.arange(200)
    found = torch.cat([straight(seed)(rows, torch.full_like(rows, LAST))[:, 0] for seed in range(5)])
    assert len(found.unique()) == 1_000


@pytest.mark.slow
def test_it_starts_at_zero_and_is_fine_everywhere():
    """The variance of a million neighbouring increments is the clock's; R04 adds them up."""
    places = torch.arange(LAST - 1_000_000, LAST + 1)
    path = straight(5)
    w = torch.cat([path(torch.zeros_like(part), part) for part in places.split(200_000)])[:, 0]
    steps = w.diff()
    assert float(path(torch.tensor([7]), torch.tensor([0]))[0, 0]) == 0
    assert abs(float(steps.var()) / (3 / LAST) - 1) < z_limit() * math.sqrt(2 / 1e6)
