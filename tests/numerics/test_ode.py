"""Laws of the solver: the tableau, accuracy follows the tolerance, cost. R08 gives it hostile fields."""

import itertools
import math

import numpy as np
import pytest
import torch
from cases import F64
from scipy.integrate import solve_ivp
from torch import Generator, Tensor

from scorefield.numerics.ode import ERROR, NODES, STAGES, dormand_prince


def test_the_tableau_satisfies_the_order_conditions():
    """Consistency of every stage, and the quadrature conditions sum b c^(k-1) = 1/k up to order 5 (4 for the other)."""
    for node, stage in zip(NODES, STAGES, strict=True):
        assert sum(stage) == pytest.approx(node, abs=1e-15)
    high = [*STAGES[-1], 0.0]
    low = [b - e for b, e in zip(high, ERROR, strict=True)]
    for k in range(1, 6):
        assert sum(b * c ** (k - 1) for b, c in zip(high, NODES, strict=True)) == pytest.approx(1 / k, abs=1e-14)
        if k <= 4:
            assert sum(b * c ** (k - 1) for b, c in zip(low, NODES, strict=True)) == pytest.approx(1 / k, abs=1e-14)


def pendulum(t: Tensor, y: Tensor, rows: Tensor) -> Tensor:
    return torch.stack([y[:, 1], -y[:, 0].sin() + 0.3 * t.cos()], 1)


@pytest.mark.parametrize(("start", "stop"), [(0.0, 5.0), (5.0, 0.0), (-1.0, 2.5)])
def test_agrees_with_an_independent_solver_in_both_directions(start, stop):
    y = torch.tensor([[0.5, 0.0], [2.0, -1.0], [-3.0, 0.2]], dtype=F64)
    found = dormand_prince(pendulum, y, start, stop, rtol=1e-10, atol=1e-10).y
    for row, end in zip(y, found, strict=True):
        field = lambda t, v: np.array([v[1], -math.sin(v[0]) + 0.3 * math.cos(t)])
        truth = solve_ivp(field, (start, stop), row.numpy(), rtol=1e-12, atol=1e-12, method="DOP853").y[:, -1]
        assert np.abs(end.numpy() - truth).max() < 1e-8


def test_error_and_cost_follow_the_tolerance():
    """y' = -y + cos t, known in closed form: ten times the tolerance is about ten times the error, at order 5's price."""
    y, stop = torch.tensor([[1.0]], dtype=F64), 6.0
    field = lambda t, y, rows: -y + t.cos()[:, None]
    truth = (math.cos(stop) + math.sin(stop)) / 2 + math.exp(-stop) / 2
    errors, costs = [], []
    for tol in (1e-4, 1e-6, 1e-8, 1e-10):
        end, evaluations = dormand_prince(field, y, 0.0, stop, rtol=tol, atol=tol)
        errors.append(abs(float(end) - truth))
        costs.append(int(evaluations))
        assert errors[-1] < 30 * tol
    assert costs[-1] / costs[0] < 10 ** (6 / 5) * 1.5
    assert all(a > b for a, b in itertools.pairwise(errors))


def test_evaluations_are_what_the_field_was_asked():
    asked = torch.zeros(3, dtype=torch.long)

    def field(t: Tensor, y: Tensor, rows: Tensor) -> Tensor:
        asked[rows] += 1
        return -y * torch.tensor([1.0, 30.0, 400.0], dtype=F64)[rows][:, None]

    _, evaluations = dormand_prince(field, torch.ones(3, 1, dtype=F64), 0.0, 1.0)
    assert torch.equal(evaluations, asked)
    assert evaluations[0] < evaluations[1] < evaluations[2]


def test_a_row_does_not_depend_on_the_rows_beside_it():
    """Fewer rows, from the first on: no bit of an end and no count of evaluations changes."""
    rates = torch.rand(1_001, 1, dtype=F64, generator=Generator().manual_seed(0)) * 30
    solved = lambda k: dormand_prince(lambda t, y, rows: t.cos()[:, None] - rates[rows] * y, rates[:k], 0.0, 3.0)
    whole = solved(len(rates))
    for k in (1, 2, 3, 5, 9, 15, 31, 40, 63, 65, 100, 257, 1_000):
        part = solved(k)
        assert torch.equal(part.y, whole.y[:k]), k
        assert torch.equal(part.evaluations, whole.evaluations[:k]), k


def test_the_start_is_not_changed_in_place():
    y = torch.tensor([[1.0, 2.0]], dtype=F64)
    dormand_prince(pendulum, y, 0.0, 1.0)
    assert y.tolist() == [[1.0, 2.0]]


def test_too_many_steps_is_an_error_that_says_how_far_it_came():
    stiff = lambda t, y, rows: -1e6 * y
    with pytest.raises(RuntimeError, match=r"took 50 steps and row 0 had reached t=\S+ of \[0, 1\]"):
        dormand_prince(stiff, torch.ones(1, 1, dtype=F64), 0.0, 1.0, max_steps=50)


def test_a_start_that_asks_for_gradients_keeps_none_without_autograd_and_is_not_changed():
    y = torch.ones(2, 1, dtype=F64, requires_grad=True)
    with torch.no_grad():
        found = dormand_prince(lambda t, y, rows: -y, y, 0.0, 1.0).y
    assert not found.requires_grad
    assert float((found - math.exp(-1)).abs().max()) < 1e-4
    assert y.tolist() == [[1.0], [1.0]]
