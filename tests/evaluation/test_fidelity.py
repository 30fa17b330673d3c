"""Precision, recall, density and coverage by brute force and closed forms, and the classifier two-sample test."""

import numpy as np
import pytest
import torch
from cases import F64
from scipy.spatial.distance import cdist
from torch import Generator, Tensor

from scorefield.evaluation.descriptions import classifier_test, describe, precision_recall


def normal(n: int, d: int, generator: Generator, shift: float = 0.0) -> Tensor:
    return shift + torch.randn(n, d, generator=generator, dtype=F64)


def brute_force(x: Tensor, y: Tensor) -> dict[str, float]:
    """The four sums of Kynkaanniemi and of Naeem, pair by pair."""
    radius = lambda rows: [sorted(np.linalg.norm(rows - row, axis=1))[5] for row in rows]
    x, y = x.numpy(), y.numpy()
    of_x, of_y = radius(x), radius(y)
    return {
        "precision": np.mean([any(np.linalg.norm(a - b) <= r for b, r in zip(y, of_y, strict=True)) for a in x]),
        "recall": np.mean([any(np.linalg.norm(a - b) <= r for a, r in zip(x, of_x, strict=True)) for b in y]),
        "density": np.mean([sum(np.linalg.norm(a - b) <= r for b, r in zip(y, of_y, strict=True)) / 5 for a in x]),
        "coverage": np.mean([any(np.linalg.norm(a - b) <= r for a in x) for b, r in zip(y, of_y, strict=True)]),
    }


@pytest.mark.parametrize(("n", "m", "d", "shift"), [(12, 12, 1, 0.0), (30, 20, 2, 0.7), (15, 40, 5, 0.3)])
def test_the_numbers_are_sums_over_pairs(n, m, d, shift, generator):
    x, y = normal(n, d, generator, shift), normal(m, d, generator)
    found = precision_recall(x, y)
    assert {name: one.value for name, one in found.items()} == pytest.approx(brute_force(x, y))


def test_a_hand_made_example():
    # Rows 0 to 9: the ball around 0 reaches 5, around 4 it reaches 3, around 9 it reaches 5.
    y = torch.arange(10, dtype=F64)[:, None]
    x = torch.cat([torch.full((9, 1), 20.0, dtype=F64), torch.zeros(1, 1, dtype=F64)])
    found = precision_recall(x, y)
    assert found["precision"].value == pytest.approx(0.1)  # only the sample at 0 is in any ball
    assert found["recall"].value == 1.0  # its own ball reaches 20, and so does 9's neighbourhood: all are within
    assert found["coverage"].value == pytest.approx(0.4)  # 0 is in the balls of 0, 1, 2 and 3, of radii 5, 4, 3, 3
    assert found["density"].value == pytest.approx(4 / 5 / 10)


def test_coverage_and_density_of_equal_laws_are_the_closed_forms(generator):
    # Coverage 1 - (n-1)...(n-5) / ((2n-1)...(2n-5)) (Naeem et al., 2020), density 1, whatever the law.
    n, repeats = 40, 400
    found = [precision_recall(normal(n, 2, generator).exp(), normal(n, 2, generator).exp()) for _ in range(repeats)]
    exact = 1 - np.prod([(n - k) / (2 * n - k) for k in range(1, 6)])
    for name, value in (("coverage", exact), ("density", n / n)):
        values = np.array([one[name].value for one in found])
        assert abs(values.mean() - value) < 4.9 * values.std() / np.sqrt(repeats)  # false alarm 1e-6


def test_a_lost_mode_costs_recall_and_coverage_and_a_false_one_precision_and_density(generator):
    one = normal(300, 2, generator)
    two = torch.cat([normal(150, 2, generator), normal(150, 2, generator, 20.0)])
    lost, false = precision_recall(one, two), precision_recall(two, one)
    assert lost["precision"].value > 0.9
    assert false["recall"].value > 0.9
    assert max(lost["recall"].value, lost["coverage"].value) < 0.55
    assert max(false["precision"].value, false["density"].value) < 0.65


@pytest.mark.parametrize(("n", "d"), [(100, 2), (200, 8)])
def test_errors_are_no_less_than_eight_tenths_of_the_spread_of_repetitions(n, d, generator):
    # 0.8 to 2.5 elsewhere; less 0.15 for 100 repetitions.
    found = [precision_recall(normal(n, d, generator), normal(n, d, generator)) for _ in range(100)]
    for name in found[0]:
        errors, values = (np.array([getattr(one[name], part) for one in found]) for part in ("stderr", "value"))
        assert 0.65 < np.sqrt((errors**2).mean()) / values.std() < 3


def test_scale_rotation_and_order_do_not_matter(generator):
    x, y = normal(40, 3, generator, 0.3), normal(30, 3, generator)
    turn = torch.linalg.qr(normal(3, 3, generator))[0]
    before, after = precision_recall(x, y), precision_recall(1e3 * x.flip(0) @ turn + 7, 1e3 * y @ turn + 7)
    for name in before:
        assert (after[name].value, after[name].stderr) == pytest.approx((before[name].value, before[name].stderr))


@pytest.mark.slow
def test_the_classifier_is_at_one_half_for_equal_laws_and_tells_others(generator):
    found = [
        classifier_test(normal(60, 2, generator), normal(60, 2, generator), generator=generator) for _ in range(20)
    ]
    values = np.array([one.value for one in found])
    assert abs(values.mean() - 0.5) < 4.9 * values.std() / np.sqrt(20)
    assert 0.5 < np.mean([one.stderr for one in found]) / values.std() < 2
    assert classifier_test(normal(300, 2, generator), normal(300, 2, generator, 5.0), generator=generator).value > 0.99
    # The area for two unit Gaussians 1 apart is at most Phi(1 / sqrt 2) = 0.76.
    told = classifier_test(normal(2_000, 1, generator), normal(2_000, 1, generator, 1.0), generator=generator)
    assert 0.7 < told.value < 0.76 + 4.9 * told.stderr


def test_few_rows_and_copies_of_one_row_give_finite_numbers(generator):
    for rows in (normal(10, 3, generator), torch.ones(12, 1, dtype=F64)):
        found = describe(rows, rows, rows, generator=generator)
        assert list(found) == ["precision", "recall", "density", "coverage", "classifier_auc"]
        assert all(np.isfinite([one.model.value, one.model.stderr, one.excess]).all() for one in found.values())
        assert cdist(rows, rows).shape == (len(rows), len(rows))


@pytest.mark.slow
def test_the_generator_alone_decides(generator):
    rows, state = [normal(n, 2, generator) for n in (60, 50, 70)], np.random.get_state()[1].copy()
    first, again, other = (describe(*rows, generator=Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert np.array_equal(np.random.get_state()[1], state)


def test_too_few_rows_are_refused(generator):
    with pytest.raises(ValueError, match="x must be at least 10 rows"):
        precision_recall(normal(9, 2, generator), normal(20, 2, generator))
