"""The laws of the metrics: exact values, errors that match the spread, and what each must flag or let pass.

Statistical limits are `z_limit()` standard errors, a false alarm in 1e6 for a normal statistic, unless a
comment says otherwise. Seeds are fixed besides.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from cases import F64, f64, z_limit
from samples_of_modes import gaussian, modes, seeded
from scipy import special, stats
from scipy.spatial.distance import cdist
from torch import Generator, Tensor

from scorefield.evaluation import metrics
from scorefield.evaluation.metrics import (
    Estimate,
    copying,
    energy_distance,
    mean_log_likelihood,
    sliced_wasserstein,
)


def rotation(d: int, generator: Generator) -> Tensor:
    return torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=F64))[0]


# ----------------------------------------------------------------------------- exact values, another way


@pytest.mark.parametrize(("n", "m"), [(12, 12), (12, 18), (25, 14), (10, 40)])
def test_sliced_wasserstein_in_one_dimension_is_the_distance_of_sorted_copies(n, m, generator):
    x, y = gaussian(n, 1, generator), gaussian(m, 1, generator, 0.4, 1.7)
    repeated = [rows[:, 0].repeat_interleave(times).sort().values for rows, times in ((x, m), (y, n))]
    exact = (repeated[0] - repeated[1]).square().mean().sqrt().item()
    assert sliced_wasserstein(x, y, generator=generator).value == pytest.approx(exact, rel=1e-12)


@pytest.mark.slow
def test_sliced_wasserstein_of_a_moved_sample_is_the_mean_projection_of_the_move(generator):
    # Every direction v gives (v . move)^2, of mean |move|^2 / d. Such narrow rows add nothing to the error: it
    # is that of the directions, for which (v . move)^2 / |move|^2 is Beta(1/2, 5/2).
    x, move = gaussian(10, 6, generator, std=1e-9), f64(1.0, -2.0, 0.5, 0.0, 3.0, 1.0)
    found = sliced_wasserstein(x, x + move, slices=20_000, generator=generator)
    exact = math.sqrt(move.square().sum().item() / 6)
    assert abs(found.value - exact) < z_limit() * found.stderr
    assert found.stderr == pytest.approx(exact * math.sqrt(2 * 5 / 8 / 20_000) / 2, rel=0.05)


PAIRS = [(15, 15, 1), (15, 22, 3), (18, 11, 40), (2_100, 2_100, 2), (2_100, 2_050, 33)]  # two in blocks


@pytest.mark.parametrize(("n", "m", "d"), PAIRS)
def test_energy_distance_is_the_sum_over_pairs(n, m, d, generator):
    x, y = gaussian(n, d, generator), gaussian(m, d, generator, 0.4, 1.2)
    pairs = 2 * cdist(x, y).mean() - cdist(x, x).sum() / (n * (n - 1)) - cdist(y, y).sum() / (m * (m - 1))
    assert energy_distance(x, y).value == pytest.approx(pairs, rel=1e-10)


def test_the_distance_variance_is_the_unbiased_sum_over_quadruples(generator):
    # tr S^2 = E <x1 - x2, x3 - x4>^2 / 4 where |x - y| is a squared norm, for all quadruples of 7 rows.
    x = gaussian(7, 2, generator)
    a = cdist(x, x)
    products = [a[i, k] - a[i, m] - a[j, k] + a[j, m] for i, j, k, m in itertools.permutations(range(7), 4)]
    exact = np.square(products).mean() / 4
    assert metrics._distance_variance(x, f64(*a.sum(1))) == pytest.approx(exact, rel=1e-12)


def test_copying_is_the_mann_whitney_statistic_with_the_error_of_delong(generator):
    train = gaussian(60, 2, generator)
    samples, held_out = gaussian(30, 2, generator, std=0.8), gaussian(40, 2, generator)
    samples[:4], held_out[:3] = train[:4], train[2:5]  # ties at distance zero count half
    near, far = cdist(samples, train).min(1), cdist(held_out, train).min(1)
    won = (near[:, None] < far) + 0.5 * (near[:, None] == far)
    error = math.sqrt(won.mean(1).var(ddof=1) / 30 + won.mean(0).var(ddof=1) / 40)
    found = copying(samples, train, held_out, generator=generator)["copying"]
    assert found.model.value == pytest.approx(stats.mannwhitneyu(far, near).statistic / (30 * 40), rel=1e-12)
    assert found.model.stderr == pytest.approx(error, rel=1e-12)
    assert found.real == Estimate(0.5, 0.0)


def test_near_duplicates_are_those_within_the_closest_percent_of_training_rows():
    train = torch.arange(101, dtype=F64)[:, None] ** 2  # nearest distances 1, 1, 3, 5, ...: the limit is 1
    samples, held_out = train[:40] + 0.5, train[-20:] + 2.0
    samples[10:20] -= 1.5  # 1 below a training row
    samples[20:40] += 3.0
    found = copying(samples, train, held_out, generator=seeded())["near_duplicates"]
    assert found.model.value == pytest.approx(0.5)
    assert found.model.stderr == pytest.approx(math.sqrt(0.25 / 40))
    assert found.real.value == 0.0
    assert found.real.stderr == pytest.approx(math.sqrt(0.05 * 0.95 / 20))


@pytest.mark.parametrize("d", [1, 2, 40])
def test_exact_copies_are_near_duplicates_of_a_table_that_repeats_its_rows(d, generator):
    # Where a training row is repeated the limit is 0: rounding in a distance would lose the copies.
    train = 100 + gaussian(150, d, generator).repeat(2, 1)
    found = copying(train[:60].clone(), train, 100 + gaussian(60, d, generator), generator=generator)
    near, one_row = found["near_duplicates"], math.sqrt(59) / 60**1.5
    assert (near.model.value, near.real.value) == (1.0, 0.0)
    assert (near.model.stderr, near.real.stderr) == pytest.approx((one_row, one_row))
    assert found["copying"].model == Estimate(1.0, 1 / 60)


def test_mean_log_likelihood_is_the_mean_and_its_standard_error():
    values = f64(*[-1.0, -3.0] * 8)
    assert mean_log_likelihood(values) == Estimate(-2.0, math.sqrt(16 / 15 / 16))


# -------------------------------------------------------------------------------- closed forms of Gaussians


def mean_norm(d: int, mean: float, variance: float) -> float:
    """E|Z| for Z ~ N(mean, variance I) in d dimensions."""
    scale = math.sqrt(2 * variance) * math.exp(special.gammaln((d + 1) / 2) - special.gammaln(d / 2))
    return scale * special.hyp1f1(-0.5, d / 2, -(mean**2) / (2 * variance))


GAUSSIANS = [(1, 0.0, 2.0), (1, 0.3, 1.0), (1, 2.0, 0.5), (3, 1.0, 1.0), (5, 0.5, 1.5), (64, 3.0, 1.0)]
"""Rows (d, shift, std) of a second Gaussian beside the standard normal one."""


@pytest.mark.slow
@pytest.mark.parametrize(("d", "shift", "std"), GAUSSIANS)
def test_distances_of_gaussians_are_the_closed_forms(d, shift, std, generator):
    x, y = gaussian(3_000, d, generator), gaussian(2_500, d, generator, shift, std)
    sliced, energy = sliced_wasserstein(x, y, generator=generator), energy_distance(x, y)
    exact_sliced = math.sqrt(shift**2 / d + (std - 1) ** 2)
    within = mean_norm(d, 0.0, 2.0) + mean_norm(d, 0.0, 2 * std**2)
    exact_energy = 2 * mean_norm(d, shift, 1 + std**2) - within
    assert abs(sliced.value - exact_sliced) < z_limit() * sliced.stderr
    assert abs(energy.value - exact_energy) < z_limit() * energy.stderr
    assert sliced.stderr < 0.25 * exact_sliced  # so a value off by its own size or more is found
    assert energy.stderr < 0.25 * exact_energy


# ------------------------------------------------------------------------------ bias and standard errors


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m", "d"), [(10, 10, 1), (20, 33, 2), (20, 20, 16)])
def test_energy_distance_is_unbiased_for_equal_laws(n, m, d, generator):
    density = modes(d)
    pairs = [(density.sample(n, generator), density.sample(m, generator)) for _ in range(300)]
    found = f64(*[energy_distance(x, y).value for x, y in pairs])
    assert abs(found.mean()) < 4.5 * found.std() / math.sqrt(300)  # false alarm 7e-6 each


REPEATS = 200


SITUATIONS = {
    "equal": (50, 50, 3, 0.0, 1.0),
    "equal, 16 columns, few rows": (20, 20, 16, 0.0, 1.0),
    "equal, unequal sizes": (60, 25, 8, 0.0, 1.0),
    "slightly apart": (70, 70, 2, 0.5, 1.0),
    "apart, one column": (80, 50, 1, 1.0, 1.5),
    "far apart": (40, 60, 16, 5.0, 0.7),
}
"""Rows (n, m, d, shift, std) of a Gaussian beside a standard normal one."""


@pytest.mark.slow
@pytest.mark.parametrize("metric", [sliced_wasserstein, energy_distance])
@pytest.mark.parametrize("situation", SITUATIONS)
def test_the_standard_error_is_the_spread_of_repetitions(situation, metric, generator):
    # Root mean square error over spread, within 30 %. With other seeds it is 0.9 to 1.1 +- 0.07.
    n, m, d, shift, std = SITUATIONS[situation]
    found = []
    for _ in range(REPEATS):
        x, y = gaussian(n, d, generator), gaussian(m, d, generator, shift, std)
        options = {"slices": 16, "generator": generator} if metric is sliced_wasserstein else {}
        found.append(metric(x, y, **options))
    values, errors = (f64(*[getattr(one, name) for one in found]) for name in ("value", "stderr"))
    assert 0.7 < errors.square().mean().sqrt() / values.std() < 1.3
    if situation.startswith("equal"):
        assert ((values - values.mean()) / errors).abs().max() < 5.0  # no single error is far too small


@pytest.mark.slow
@pytest.mark.parametrize("copies", [0.0, 0.3])
def test_the_standard_errors_of_copying_are_the_spread_of_repetitions(copies, generator):
    train, n = gaussian(200, 2, generator), 60
    found = []
    for _ in range(REPEATS):
        samples, copied = gaussian(n, 2, generator), torch.rand(n, generator=generator) < copies
        rows = torch.randint(200, (n,), generator=generator)
        samples = torch.where(copied[:, None], train[rows], samples)
        found.append(copying(samples, train, gaussian(n, 2, generator), generator=generator))
    for name in ["copying"] + ["near_duplicates"] * (copies > 0):  # without copies the least error rules there
        values, errors = (f64(*[getattr(one[name].model, k) for one in found]) for k in ("value", "stderr"))
        assert 0.8 < errors.square().mean().sqrt() / values.std() < 1.25
        # A copy always wins and is a near duplicate, the other samples are what held-out rows are.
        real = f64(*[one[name].real.value for one in found])
        off = values - copies - (1 - copies) * real
        assert abs(off.mean()) < z_limit() * off.std() / math.sqrt(REPEATS)


# --------------------------------------------------------------------------------------------- invariances


@pytest.mark.parametrize("d", [1, 3, 40])
def test_symmetry(d, generator):
    x, y = gaussian(30, d, generator), gaussian(44, d, generator, 0.7, 1.3)
    there, back = energy_distance(x, y), energy_distance(y, x)
    assert (there.value, there.stderr) == pytest.approx((back.value, back.stderr), rel=1e-10)
    there, back = (sliced_wasserstein(*pair, generator=seeded()) for pair in ((x, y), (y, x)))
    assert there.value == pytest.approx(back.value, rel=1e-12)


@pytest.mark.parametrize("d", [1, 3, 40])
def test_energy_distance_does_not_change_with_translation_rotation_or_order(d, generator):
    x, y = gaussian(30, d, generator), gaussian(44, d, generator, 0.7, 1.3)
    turn, move = rotation(d, generator), 50 * torch.randn(d, generator=generator, dtype=F64)
    before, after = energy_distance(x, y), energy_distance(x.flip(0) @ turn + move, y @ turn + move)
    assert after.value == pytest.approx(before.value, abs=1e-10)
    assert after.stderr == pytest.approx(before.stderr, abs=1e-10)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_distances_scale_with_their_unit_and_do_not_see_the_origin(scale, generator):
    x, y = gaussian(40, 3, generator), gaussian(50, 3, generator, 0.7, 1.3)
    for metric in (energy_distance, lambda x, y: sliced_wasserstein(x, y, generator=seeded())):
        before, after = metric(x, y), metric(scale * (x + 3.0), scale * (y + 3.0))
        assert after.value / scale == pytest.approx(before.value, rel=1e-9)
        assert after.stderr / scale == pytest.approx(before.stderr, rel=1e-9)


def test_copying_does_not_change_with_scale_rotation_or_translation(generator):
    train, samples, held_out = (gaussian(n, 3, generator) for n in (80, 30, 40))
    turn = rotation(3, generator)
    after = copying(*(1e3 * (rows @ turn + 5.0) for rows in (samples, train, held_out)), generator=generator)
    assert after == copying(samples, train, held_out, generator=generator)
