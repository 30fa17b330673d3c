"""Laws of the solver: accuracy follows the tolerance, rows are alone, failures are named."""

import itertools
import math
import re

import numpy as np
import pytest
import torch
from cases import F64
from scipy.integrate import solve_ivp
from torch import Tensor

from scorefield.ode import ERROR, NODES, STAGES, dormand_prince


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


def test_a_rows_result_does_not_depend_on_its_neighbours():
    """Bit by bit, with element-wise arithmetic and one neighbour that needs a hundred times the steps."""
    stiffness = torch.tensor([1.0, 1000.0, 3.0], dtype=F64)

    def field(t: Tensor, y: Tensor, rows: Tensor) -> Tensor:
        return -stiffness[rows][:, None] * (y - t.sin()[:, None])

    y = torch.tensor([[1.0], [5.0], [-2.0]], dtype=F64)
    together = dormand_prince(field, y, 0.0, 2.0)
    for i in range(3):
        alone = dormand_prince(lambda t, v, rows, i=i: field(t, v, rows + i), y[i : i + 1], 0.0, 2.0)
        assert torch.equal(alone.y[0], together.y[i])
        assert alone.evaluations[0] == together.evaluations[i]


def test_an_empty_interval_changes_nothing():
    y = torch.tensor([[1.0, 2.0]], dtype=F64)
    assert torch.equal(dormand_prince(pendulum, y, 0.7, 0.7).y, y)


def test_the_start_is_not_changed_in_place():
    y = torch.tensor([[1.0, 2.0]], dtype=F64)
    dormand_prince(pendulum, y, 0.0, 1.0)
    assert y.tolist() == [[1.0, 2.0]]


HOSTILE = {
    "nan after a while": lambda t, y: torch.where(t[:, None] > 0.5, torch.nan, -y),
    "infinite": lambda t, y: torch.full_like(y, math.inf),
    "blows up at t = 0.5": lambda t, y: y**2,
    "a pole": lambda t, y: 1 / (t[:, None] - 0.3) ** 2,
}


@pytest.mark.parametrize("field", HOSTILE.values(), ids=HOSTILE)
def test_a_field_that_cannot_be_integrated_is_an_error_that_names_the_row(field):
    """Row 1 of three is hostile; nothing finite is returned for it."""
    kind = lambda t, y, rows: torch.where((rows == 1)[:, None], field(t, y), -y)
    with pytest.raises(RuntimeError, match=r"row 1\b.*(t=|reached)|at t=.* in row 1\b"):
        dormand_prince(kind, torch.full((3, 1), 2.0, dtype=F64), 0.0, 1.0, max_steps=2000)


def test_too_many_steps_is_an_error_that_says_how_far_it_came():
    stiff = lambda t, y, rows: -1e6 * y
    with pytest.raises(RuntimeError, match=r"took 50 steps and row 0 had reached t=\S+ of \[0, 1\]"):
        dormand_prince(stiff, torch.ones(1, 1, dtype=F64), 0.0, 1.0, max_steps=50)


DECAY = math.exp(-1)
TAME = {
    "zero": (lambda t, y: 0 * y, 1.0),
    "a jump in time": (lambda t, y: torch.where(t[:, None] < 0.5, 1.0, -2.0).expand(y.shape), 0.5),
    "a jump in the state": (lambda t, y: torch.where(y < 1.25, 1.0, 0.5), 1.25 + 0.375),
    "stiff, 1e8": (lambda t, y: -1e8 * (y - t.cos()[:, None]), math.cos(1.0)),
    "non-contiguous": (lambda t, y: -y.T.contiguous().T, DECAY),
}


@pytest.mark.parametrize("name", TAME)
def test_a_hard_field_is_solved_or_refused_and_never_wrong(name):
    """R08: an answer is within 1e-3 of the truth, or there is none. A jump in the state costs 200 tolerances."""
    tol = 1e-6 if name == "a jump in the state" else 1e-5
    field, truth = TAME[name]
    y = torch.ones(2, 3, dtype=F64).T[:, :1] if name == "non-contiguous" else torch.ones(3, 1, dtype=F64)
    try:
        found = dormand_prince(lambda t, y, rows: field(t, y), y, 0.0, 1.0, rtol=tol, atol=tol, max_steps=3_000).y
    except RuntimeError as error:
        assert name.startswith("stiff")
        assert re.search(r"row 0 had reached t=\S+ of \[0, 1\]", str(error))  # noqa: PT017
    else:
        assert float((found - truth).abs().max()) < 1e-3


def test_one_bad_row_of_64_is_named_and_the_others_are_as_if_it_were_not_there():
    y = torch.linspace(0.5, 2.0, 64, dtype=F64)[:, None]
    bad = lambda t, y, rows: torch.where((rows == 17)[:, None] & (t[:, None] > 0.3), torch.nan, -y)
    with pytest.raises(RuntimeError, match=r"at t=0\.\d+ in row 17"):
        dormand_prince(bad, y, 0.0, 1.0)
    good = torch.arange(64) != 17
    without = dormand_prince(lambda t, y, rows: -y, y[good], 0.0, 1.0).y
    assert torch.equal(dormand_prince(lambda t, y, rows: -y, y, 0.0, 1.0).y[good], without)


def test_no_tolerance_and_a_field_of_another_shape_are_refused():
    y = torch.ones(3, 1, dtype=F64)
    for rtol, atol in ((0.0, 0.0), (-1.0, 1.0), (math.nan, 1.0)):
        with pytest.raises(ValueError, match="expected tolerances of which one is positive; got rtol="):
            dormand_prince(pendulum, y, 0.0, 1.0, rtol=rtol, atol=atol)
    with pytest.raises(ValueError, match=r"shape of its state, \(3, 1\); got \(3,\)"):
        dormand_prince(lambda t, y, rows: y[:, 0], y, 0.0, 1.0)


def test_what_a_field_raises_goes_through():
    class Own(Exception):
        pass

    def field(t: Tensor, y: Tensor, rows: Tensor) -> Tensor:
        raise Own

    with pytest.raises(Own):
        dormand_prince(field, torch.ones(1, 1, dtype=F64), 0.0, 1.0)


def test_a_start_that_asks_for_gradients_keeps_none_without_autograd_and_is_not_changed():
    y = torch.ones(2, 1, dtype=F64, requires_grad=True)
    with torch.no_grad():
        found = dormand_prince(lambda t, y, rows: -y, y, 0.0, 1.0).y
    assert not found.requires_grad
    assert float((found - DECAY).abs().max()) < 1e-4
    assert y.tolist() == [[1.0], [1.0]]
