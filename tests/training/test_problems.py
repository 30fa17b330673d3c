"""What is prepared to be learned: units, truths, parts of members, moments."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from cases import f64, table_learner
from torch import Generator

from scorefield.diffusion.densities import GaussianMixture
from scorefield.kinds.tables.problem import choose_transform, in_model_units, largest_distance
from scorefield.kinds.tables.units import TableTransform
from scorefield.numerics.whitening import moments
from scorefield.training import candidates
from scorefield.training.config import Config
from scorefield.training.problem import members_for, truth_for


def test_a_density_in_model_units_is_that_of_the_transformed_rows():
    """log p(x) = log p(z) + log |dz/dx| for a correlated mixture and whitened, standardised rows, to 1e-6."""
    covariances = torch.stack([f64([1.0, 0.8], [0.8, 2.0]), f64([0.3, -0.2], [-0.2, 0.5])])
    density = GaussianMixture(f64(0.3, 0.7), f64([5.0, -2.0], [8.0, 1.0]), covariances)
    x = density.sample(500, Generator().manual_seed(0))
    frame = pd.DataFrame(x.numpy(), columns=["a", "b"])
    transform = TableTransform.fit(frame, None, bend=False)
    found = in_model_units(density, transform, frame)
    z = transform.forward(frame).double()
    torch.testing.assert_close(
        found.log_prob(z) + transform.log_jacobian(frame), density.log_prob(x), rtol=0, atol=1e-6
    )
    with pytest.raises(ValueError, match="one of the built-in Gaussian mixtures"):
        in_model_units(None, transform, frame)
    bent = TableTransform.fit(frame.abs(), {"a": (0, math.inf)})
    with pytest.raises(ValueError, match="only shifted and scaled"):
        in_model_units(density, bent, frame.abs() + 0.1)


def test_parzen_learns_kernels_on_the_rows_of_each_member_alone():
    """Silverman's width for so many rows, at most CHOICE_ROWS of them, and none that validate the member."""
    x = torch.randn(90, 2, generator=Generator().manual_seed(0))
    learner = table_learner(Config(steps=1, width=8, features=4, members=3, objective="parzen"), x[:80], x[80:])
    for part in learner.prepared.parts:
        truth, rows, held_out = part.truth, part.data, part.held_out
        assert torch.equal(truth.means, rows)
        assert not (held_out[:, None] == truth.means).all(-1).any()
        width = len(rows) ** (-1 / 6)
        assert float(truth.covariances[0, 0, 0]) == pytest.approx(width**2, rel=1e-5)
    many = torch.zeros(candidates.CHOICE_ROWS + 100, 1)
    found = truth_for(Config(steps=1, objective="parzen"), None, many)
    assert len(found.means) == candidates.CHOICE_ROWS
    assert float(found.covariances[0, 0, 0]) == pytest.approx((4 / 3 / candidates.CHOICE_ROWS) ** 0.4, rel=1e-5)


@pytest.mark.slow
def test_members_are_validated_on_rows_they_and_their_base_have_not_seen():
    """Every row is held out once, and in no member's training rows; the model's own base is fitted to all rows."""
    x = GaussianMixture.isotropic(f64(1.0, 1.0), f64([-1.0, 0.0], [1.0, 0.5]), 0.1).sample(
        300, Generator().manual_seed(0)
    )
    learner = table_learner(Config(steps=1, width=8, features=4, members=5), x[:270], x[270:])
    parts = learner.prepared.parts
    assert torch.equal(torch.cat([part.held_out for part in parts]).sort(0).values, x.float().sort(0).values)
    for held_out, data, base in ((part.held_out, part.data, part.base) for part in parts):
        assert len(held_out) == 60
        assert torch.equal(torch.cat([held_out, data]).sort(0).values, x.float().sort(0).values)
        assert not torch.equal(base.means, learner.model.base.means)
    views = learner._views(learner.model)
    assert [view.net for view in views] == list(learner.model.net.members)
    assert [view.base for view in views] == [part.base for part in parts]


def test_more_rows_are_held_out_by_tenths_so_that_each_member_learns_from_nine():
    """From 2,000 rows on no member loses a third of the rows to its validation; none has seen a row that judges it."""
    x = torch.arange(2001.0)[:, None] + torch.tensor([[0.0, 0.5]])
    learner = table_learner(Config(steps=1, width=8, features=4, members=3), x[:1900], x[1900:])
    parts = learner.prepared.parts
    assert [len(part.held_out) for part in parts] == [201, 200, 200]
    for part in parts:
        assert torch.equal(torch.cat([part.held_out, part.data]).sort(0).values, x)
    assert len(torch.cat([part.held_out for part in parts]).unique(dim=0)) == 601


def test_as_many_networks_are_averaged_as_rows_ask_for():
    counts = {9: 1, 10: 5, 1_999: 5, 2_000: 3, 14_999: 3, 15_000: 1}
    assert {rows: members_for(rows) for rows in counts} == counts


def test_moments_are_numpys():
    x = torch.randn(50, 3, generator=Generator().manual_seed(0))
    mean, covariance = moments(x)
    torch.testing.assert_close(mean, x.mean(0))
    torch.testing.assert_close(covariance, torch.cov(x.T))
    assert (moments(x[:1])[1] == 0).all()


def test_the_largest_distance_is_that_of_all_pairs():
    x = torch.randn(3000, 2, generator=Generator().manual_seed(0))
    assert largest_distance(x) == pytest.approx(float(torch.pdist(x.double()).max()), rel=1e-6)


@pytest.mark.slow
def test_columns_are_bent_where_the_whole_table_gains_and_only_there():
    """Independent log-normal columns are; a skewed column, another and, up to 0.001, their sum are not."""
    draw = np.random.Generator(np.random.PCG64(0))
    skewed = np.exp(draw.normal(size=(600, 2)))
    apart = pd.DataFrame({"a": skewed[:, 0], "b": skewed[:, 1]})
    total = skewed[:, 0] + draw.normal(size=600)
    together = pd.DataFrame({"a": skewed[:, 0], "n": total - skewed[:, 0] + 0.001 * draw.normal(size=600), "c": total})
    bent = lambda frame: [column.is_bent for column in choose_transform(frame, None, 0).columns]
    assert bent(apart) == [True, True]
    assert bent(together) == [False] * 3
