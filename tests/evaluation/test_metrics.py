"""The laws of the metrics: exact values, errors that match the spread, and what each must flag or let pass.

Statistical limits are `z_limit()` standard errors, a false alarm in 1e6 for a normal statistic, unless a
comment says otherwise. Seeds are fixed besides.
"""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
import torch
from cases import F64, f64, z_limit
from scipy import special, stats
from scipy.spatial.distance import cdist
from torch import Generator, Tensor
from torch.testing import assert_close

from scorefield.diffusion.densities import GaussianMixture
from scorefield.evaluation import metrics
from scorefield.evaluation.metrics import (
    Comparison,
    Estimate,
    compare,
    copying,
    energy_distance,
    mean_log_likelihood,
    sliced_wasserstein,
)

FLAG = 5.0
"""A fault is flagged where a metric lies this many standard errors above real rows."""


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def gaussian(n: int, d: int, generator: Generator, shift: float = 0.0, std: float = 1.0) -> Tensor:
    """n rows of N((shift, 0, ..., 0), std^2 I)."""
    x = std * torch.randn(n, d, generator=generator, dtype=F64)
    x[:, 0] += shift
    return x


def modes(d: int, weights: tuple[float, ...] = (0.5, 0.3, 0.2)) -> GaussianMixture:
    """Three modes of unequal weights and widths on the first axis, of variance about one."""
    means = torch.zeros(3, d, dtype=F64)
    means[:, 0] = f64(-0.9, 1.0, 2.0)
    eye = torch.eye(d, dtype=F64)
    return GaussianMixture(f64(*weights), means, torch.stack([0.3**2 * eye, 0.4**2 * eye, 0.2**2 * eye]))


def rotation(d: int, generator: Generator) -> Tensor:
    return torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=F64))[0]


# ----------------------------------------------------------------------------- exact values, another way


@pytest.mark.parametrize(("n", "m"), [(12, 12), (12, 18), (25, 14), (10, 40)])
def test_sliced_wasserstein_in_one_dimension_is_the_distance_of_sorted_copies(n, m, generator):
    x, y = gaussian(n, 1, generator), gaussian(m, 1, generator, 0.4, 1.7)
    repeated = [rows[:, 0].repeat_interleave(times).sort().values for rows, times in ((x, m), (y, n))]
    exact = (repeated[0] - repeated[1]).square().mean().sqrt().item()
    assert sliced_wasserstein(x, y, generator=generator).value == pytest.approx(exact, rel=1e-12)


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


# ------------------------------------------------------------------------------ what must be flagged, and not


def faulty(fault: str, train: Tensor, n: int, generator: Generator) -> Tensor:
    """n samples of a model of `modes` that has one fault."""
    d = train.shape[1]
    if fault == "dropped mode":
        return modes(d, (0.6, 0.4, 1e-9)).sample(n, generator)
    if fault == "wrong weights":
        return modes(d, (0.3, 0.5, 0.2)).sample(n, generator)
    if fault == "shifted column":
        return modes(d).sample(n, generator) + 0.3 * torch.eye(d, dtype=F64)[0]
    assert fault == "Gaussian fit"
    return GaussianMixture.gaussian(train.mean(0), train.T.cov().reshape(d, d)).sample(n, generator)


FAULTS = ["dropped mode", "wrong weights", "shifted column", "Gaussian fit"]
each_fault = pytest.mark.parametrize("fault", FAULTS)


@each_fault
@pytest.mark.parametrize("d", [1, 2, 8])
def test_faults_are_flagged_by_the_energy_distance_of_2000_rows(fault, d, generator):
    # Missed once in 408 runs with other seeds (a Gaussian fit of 8 columns, at 4.2); the medians are 15 to 60.
    train, held_out = modes(d).sample(4_000, generator), modes(d).sample(2_000, generator)
    found = compare(faulty(fault, train, 2_000, generator), held_out, train, generator=generator)
    assert found["energy_distance"].excess > FLAG
    assert found["copying"].excess < FLAG  # none of them copies


@each_fault
@pytest.mark.parametrize("d", [2, 8])
def test_faults_are_flagged_by_the_sliced_distance_of_8000_rows(fault, d, generator):
    train, held_out = modes(d).sample(8_000, generator), modes(d).sample(8_000, generator)
    samples = faulty(fault, train, 8_000, generator)
    model, real = (sliced_wasserstein(rows, held_out, slices=32, generator=generator) for rows in (samples, train))
    assert Comparison(model, real).excess > FLAG


@pytest.mark.parametrize("d", [1, 2, 40])
def test_fresh_rows_pass(d):
    # False alarm about 2e-4 for one number: 1 of 6,000 with 1,500 other seeds at d = 1. Here are 20 x 4 x 3.
    for seed in range(20):
        generator = seeded(seed)
        samples, held_out, train = (modes(d).sample(n, generator) for n in (300, 200, 500))
        found = compare(samples, held_out, train, generator=generator)
        assert {name: one for name, one in found.items() if abs(one.excess) > FLAG} == {}


@pytest.mark.parametrize("d", [1, 2, 40])
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_copies_are_flagged_though_no_distance_sees_them(noise, d, generator):
    train, held_out = modes(d).sample(500, generator), modes(d).sample(300, generator)
    spacing = torch.from_numpy(np.sort(cdist(train, train), 1)[:, 1:2])
    push = torch.nn.functional.normalize(gaussian(500, d, generator), dim=1)
    found = compare(train + noise * spacing * push, held_out, train, generator=generator)
    assert found["copying"].model.value > 0.9
    assert found["copying"].excess > FLAG
    assert found["near_duplicates"].excess > FLAG
    assert found["energy_distance"].excess < FLAG
    assert found["sliced_wasserstein"].excess < FLAG


def test_a_few_copies_are_flagged_by_both_numbers(generator):
    train, held_out, fresh = (modes(2).sample(n, generator) for n in (2_000, 1_000, 800))
    found = copying(torch.cat([train[:200], fresh]), train, held_out, generator=generator)
    assert found["copying"].excess > FLAG
    assert found["near_duplicates"].excess > FLAG


def test_samples_that_stray_from_the_data_lie_below_one_half(generator):
    train, held_out, samples = (modes(2).sample(n, generator) for n in (2_000, 500, 500))
    found = copying(samples + gaussian(500, 2, generator, std=0.5), train, held_out, generator=generator)
    assert found["copying"].excess < -FLAG


# ------------------------------------------------------------------------------------------------- compare


@pytest.mark.parametrize("d", [1, 64])
@pytest.mark.parametrize("sizes", [(20, 20, 20), (10, 10, 10), (1_000, 20, 150)])
def test_few_rows_give_finite_numbers_with_errors(sizes, d, generator):
    found = compare(*(gaussian(n, d, generator) for n in sizes), generator=generator)
    assert list(found) == ["sliced_wasserstein", "energy_distance", "copying", "near_duplicates"]
    numbers = json.loads(json.dumps({name: dataclasses.asdict(one) for name, one in found.items()}))
    for name, one in numbers.items():
        for side in ("model", "real"):
            assert all(isinstance(part, float) and math.isfinite(part) for part in one[side].values())
            assert one[side]["stderr"] > 0 or (name, side) == ("copying", "real")


def test_model_and_real_rows_are_as_many(monkeypatch, generator):
    seen = []

    def record(name):
        metric = getattr(metrics, name)

        def recorded(*samples, **options):
            seen.append((name, *map(len, samples)))
            return metric(*samples, **options)

        monkeypatch.setattr(metrics, name, recorded)

    for name in ("sliced_wasserstein", "energy_distance", "copying"):
        record(name)
    monkeypatch.setattr(metrics, "ROWS", 30)
    compare(*(gaussian(n, 2, generator) for n in (70, 40, 150)), generator=generator)
    assert seen == [
        *[("sliced_wasserstein", 40, 40)] * 2,
        *[("energy_distance", 30, 30)] * 2,
        ("copying", 30, 150, 30),
    ]


def test_rows_in_order_are_drawn_at_random(generator):
    # The first 200 of sorted rows would be another law.
    samples, held_out, train = (gaussian(n, 1, generator).sort(0).values for n in (2_000, 200, 900))
    found = compare(samples, held_out, train, generator=generator)
    assert max(abs(one.excess) for one in found.values()) < FLAG  # false alarm 2e-6


def test_the_generator_alone_decides(generator):
    rows = [gaussian(n, 3, generator) for n in (60, 50, 70)]
    kept, numpy_state = [part.clone() for part in rows], np.random.get_state()[1].copy()
    first, again, other = (compare(*rows, generator=seeded(seed)) for seed in (1, 1, 2))
    assert first == again
    assert first["sliced_wasserstein"] != other["sliced_wasserstein"]
    assert_close(rows, kept, rtol=0, atol=0)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


def test_float32_rows_are_compared_in_float64(generator):
    samples, held_out, train = (gaussian(n, 3, generator).float() for n in (60, 50, 70))
    found = compare(samples, held_out, train, generator=seeded())
    assert found == compare(samples.double(), held_out.double(), train.double(), generator=seeded())


# --------------------------------------------------------------------------------------- numbers and errors


def test_an_estimate_shows_the_digits_that_its_error_leaves():
    assert str(Estimate(0.018691, 0.001638)) == "0.0187 +- 0.0016"
    assert str(Estimate(-7.3491, 0.21)) == "-7.35 +- 0.21"
    assert str(Estimate(123.4, 25.0)) == "123 +- 25"
    assert str(Estimate(0.5, 0.0)) == "0.5000 +- 0.0000"


def test_excess_is_the_difference_in_standard_errors_of_equal_laws():
    certain = Estimate(0.5, 0.0)
    assert Comparison(Estimate(3.0, 0.9), Estimate(1.0, 0.4)).excess == pytest.approx(5 / math.sqrt(2))
    assert Comparison(Estimate(0.8, 0.1), certain).excess == pytest.approx(3.0)  # all the error is the model's
    assert Comparison(certain, certain).excess == 0.0
    assert Comparison(Estimate(1.0, 0.0), certain).excess > 1e100  # two point masses


def test_point_masses_have_a_distance_and_no_error():
    zeros, ones = torch.zeros(20, 1, dtype=F64), torch.ones(20, 1, dtype=F64)
    assert sliced_wasserstein(zeros, ones, generator=seeded()) == Estimate(1.0, 0.0)
    assert sliced_wasserstein(ones, ones, generator=seeded()) == Estimate(0.0, 0.0)
    assert energy_distance(zeros, ones) == Estimate(2.0, 0.0)


def test_too_few_rows_are_refused(generator):
    few, enough = gaussian(9, 2, generator), gaussian(10, 2, generator)
    message = r"must be at least 10 rows, shape \(n, d\); got \(9, 2\)"
    with pytest.raises(ValueError, match=r"^x " + message):
        energy_distance(few, enough)
    with pytest.raises(ValueError, match=r"^y " + message):
        sliced_wasserstein(enough, few, generator=generator)
    with pytest.raises(ValueError, match=r"^train " + message):
        copying(enough, few, enough, generator=generator)
    with pytest.raises(ValueError, match=r"^held_out " + message):
        compare(enough, few, enough, generator=generator)
    with pytest.raises(ValueError, match=r"^log_prob must be at least 10 rows"):
        mean_log_likelihood(few[:, 0])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused(bad, generator):
    x = gaussian(12, 2, generator)
    x[4, 1] = x[7, 0] = bad
    with pytest.raises(ValueError, match=r"^x must be finite; got 2 rows that are not, first 4"):
        energy_distance(x, gaussian(12, 2, generator))
    with pytest.raises(ValueError, match=r"^log_prob must be finite; got 1 rows that are not, first 7"):
        mean_log_likelihood(x[:, 0])


def test_shapes_that_do_not_fit_are_refused(generator):
    # Through the helper: under the shape checks of the tests the public functions refuse these earlier.
    x = gaussian(12, 2, generator)
    with pytest.raises(ValueError, match=r"the same number of columns; got \{'x': 2, 'y': 1\}"):
        metrics.checked(x=x, y=x[:, :1])
    for wrong in (x[:, 0], x[:, :0], x[None]):
        with pytest.raises(ValueError, match=r"^x must be at least 10 rows, shape \(n, d\); got "):
            metrics.checked(x=wrong)


def test_one_slice_is_refused(generator):
    x = gaussian(12, 2, generator)
    with pytest.raises(ValueError, match="needs at least 2 slices for its error; got 1"):
        sliced_wasserstein(x, x, slices=1, generator=generator)
