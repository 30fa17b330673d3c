"""Laws of the choice of a base: it finds what made the rows, and does not see what is not there."""

import numpy as np
import pytest
import torch
from cases import F64, f64
from torch import Generator

from scorefield import base
from scorefield.densities import GaussianMixture


def white(mixture: GaussianMixture, n: int, seed: int) -> torch.Tensor:
    """Rows of a mixture in coordinates of mean 0 and covariance I."""
    rows = mixture.sample(n, Generator().manual_seed(seed))
    centred = rows - rows.mean(0)
    values, vectors = torch.linalg.eigh(centred.mT @ centred / n)
    return centred @ (vectors * values**-0.5) @ vectors.mT


@pytest.mark.parametrize("d", [1, 3, 10])
@pytest.mark.parametrize("n", [30, 300, 3000])
def test_gaussian_rows_choose_the_gaussian_or_lose_nothing_by_it(n, d):
    """Over 3 seeds, fresh rows lose at most 0.02 nats per dimension + 3 / n by what was chosen instead."""
    for seed in range(3):
        rows = torch.randn(n, d, dtype=F64, generator=Generator().manual_seed(seed))
        _, chosen, _ = base.choose(rows, seed)
        found = base.fit(chosen, rows)
        if found is None:
            continue
        fresh = torch.randn(2000, d, dtype=F64, generator=Generator().manual_seed(99))
        trivial = GaussianMixture.gaussian(torch.zeros(d, dtype=F64), torch.eye(d, dtype=F64))
        assert float((trivial.log_prob(fresh) - found.log_prob(fresh)).mean()) < d * (0.02 + 3 / n)


def test_three_clusters_in_ten_dimensions_are_found():
    """3,000 rows: three components with their own covariances, within 0.12 nats of the truth (229 parameters)."""
    draw = Generator().manual_seed(1)
    roots = torch.randn(3, 10, 10, dtype=F64, generator=draw) * 0.4
    covariances = roots @ roots.mT + 0.2 * torch.eye(10, dtype=F64)
    means = 3 * torch.randn(3, 10, dtype=F64, generator=draw)
    truth = GaussianMixture(f64(0.5, 0.3, 0.2), means, covariances)
    rows, fresh = truth.sample(3000, Generator().manual_seed(2)), truth.sample(4000, Generator().manual_seed(3))
    mean, scale = rows.mean(0), rows.std(0)
    name, chosen, scores = base.choose((rows - mean) / scale, 0)
    assert name.startswith("3 Gaussians, full covariance")
    assert scores[name] == max(scores.values())
    found = base.fit(chosen, (rows - mean) / scale)
    gap = truth.log_prob(fresh) - found.log_prob((fresh - mean) / scale) + scale.log().sum()
    assert float(gap.mean()) < 0.12


def test_kernels_win_on_a_thin_curve_of_few_rows():
    draw = np.random.Generator(np.random.PCG64(0))
    angle = draw.uniform(0, 2 * np.pi, 600)
    radius = draw.choice([0.75, 1.5, 2.25, 3.0], 600) + 0.08 * draw.normal(size=600)
    rows = torch.from_numpy(np.column_stack([radius * np.cos(angle), radius * np.sin(angle)]) / 1.5)
    name, chosen, _ = base.choose(rows, 0)
    assert name.startswith("kernels of width")
    assert len(base.fit(chosen, rows).means) == 600


def test_the_choice_is_the_same_every_time_and_leaves_the_global_state():
    rows = white(GaussianMixture.isotropic(f64(1.0, 1.0), f64([-1.0, 0.0], [1.0, 0.5]), 0.1), 200, 0)
    before = np.random.get_state()[1].copy()
    first, second = (base.choose(rows, 5) for _ in range(2))
    assert first[0] == second[0]
    assert first[2] == second[2]
    one, two = (base.fit(chosen, rows) for _, chosen, _ in (first, second))
    assert torch.equal(one.means, two.means)
    assert (np.random.get_state()[1] == before).all()


@pytest.mark.parametrize("rows", [torch.zeros(2, 1), torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]])])
def test_hardly_any_rows_make_no_error(rows):
    name, chosen, _ = base.choose(rows, 0)
    found = base.fit(chosen, rows)
    assert found is None or bool(found.log_prob(torch.zeros(1, rows.shape[1], dtype=F64)).isfinite())
    assert name
