"""A density from a score on a grid: exact scores give back their density, and a valley says what a path cannot know."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import cumulative_trapezoid
from scipy.interpolate import BSpline
from scipy.stats import norm

from scorefield.data.toys import TOYS
from scorefield.diffusion.densities import GaussianMixture
from scorefield.inference import path_integral
from scorefield.numerics.tensors import spawn

APART = TOYS["mixture-1d"].density
"""Tutorial 000: 0.5 N(-1, 0.2^2) + 0.5 N(1, 0.2^2), an empty valley."""

WIDE = TOYS["mixture-1d-wide"].density
"""Tutorial 001: 0.1 N(-3, 1) + 0.9 N(3, 1), a valley with a few points."""

TUTORIAL = np.linspace(-10, 10, 200)


def log_density(density, grid: np.ndarray) -> np.ndarray:
    return density.log_prob(torch.from_numpy(grid)[:, None]).numpy()


def score(density, grid: np.ndarray) -> np.ndarray:
    x = torch.from_numpy(grid)[:, None].requires_grad_()
    return torch.autograd.grad(density.log_prob(x).sum(), x)[0][:, 0].numpy()


def draw(density, n: int, seed: int = 0) -> np.ndarray:
    return density.sample(n, spawn(seed, "recovery")).numpy()[:, 0]


def error(log_p: np.ndarray, density, grid: np.ndarray) -> float:
    found = np.exp(path_integral.normalise(log_p, grid))
    return path_integral.total_variation(found, np.exp(log_density(density, grid)), grid)


# ---------------------------------------------------------------------------------------------------- integration


def test_simpson_gives_back_the_tutorials_density_and_their_sum_does_not():
    """Total variation with the exact score: 0.0199 by the cumulative sum, 1.7e-5 by trapezoids, 5e-7 by Simpson."""
    s, step = score(WIDE, TUTORIAL), TUTORIAL[1] - TUTORIAL[0]
    found = error(path_integral.integrate_score(TUTORIAL, s), WIDE, TUTORIAL)
    assert 4e-7 < found < 7e-7
    assert error(cumulative_trapezoid(s, TUTORIAL, initial=0.0), WIDE, TUTORIAL) == pytest.approx(1.7e-5, abs=5e-7)
    assert error(np.cumsum(s) * step, WIDE, TUTORIAL) == pytest.approx(0.0199, abs=5e-5)


def test_the_error_falls_with_the_fourth_power_of_the_step():
    errors = []
    for k in (201, 401, 801, 1601):
        grid = np.linspace(-8, 8, k)
        exact = log_density(WIDE, grid)
        errors.append(np.abs(path_integral.integrate_score(grid, score(WIDE, grid)) - (exact - exact.max())).max())
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert (abs(orders - 4) < 0.25).all(), orders


def test_a_grid_may_be_uneven():
    grid = np.sinh(np.linspace(-3, 3, 401))
    assert error(path_integral.integrate_score(grid, score(WIDE, grid)), WIDE, grid) < 1e-5


def test_far_down_nothing_overflows():
    grid = np.linspace(-100, 100, 2001)
    found = path_integral.integrate_score(grid, -grid)
    assert found.max() == 0
    np.testing.assert_allclose(path_integral.normalise(found, grid), norm.logpdf(grid), atol=1e-9)


def test_normalised_mass_is_one_on_every_axis():
    x, y = np.linspace(-6, 6, 101), np.linspace(-9, 9, 81)
    values = np.add.outer(-(x**2) / 2, -(y**2) / 8) + 300
    found = path_integral.normalise(values, x, y)
    assert path_integral.mass(np.exp(found), x, y) == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(found, np.add.outer(norm.logpdf(x), norm.logpdf(y, scale=2)), atol=1e-5)


# -------------------------------------------------------------------------------------------------- two dimensions


def field(density, xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-density, its maximum 0, and score on a grid."""
    points = torch.from_numpy(np.stack(np.meshgrid(xs, ys, indexing="ij"), -1).reshape(-1, 2)).requires_grad_()
    log_p = density.log_prob(points)
    gradient = torch.autograd.grad(log_p.sum(), points)[0].numpy()
    values = log_p.detach().numpy().reshape(len(xs), len(ys))
    return values - values.max(), gradient.reshape(*values.shape, 2)


def test_in_two_dimensions_a_gradient_comes_back_with_order_four():
    density, errors, residuals = TOYS["mixture-2d"].density, [], []
    for k in (81, 161, 321):
        xs, ys = np.linspace(-4, 6, k), np.linspace(-4, 5, k + 10)
        exact, s = field(density, xs, ys)
        found, residual = path_integral.integrate_score_2d(xs, ys, s)
        errors.append(np.abs(found - exact).max())
        residuals.append(residual)
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert (orders > 3.5).all(), orders
    assert residuals[-1] < 1e-4


def test_a_score_that_is_affine_comes_back_exactly_on_uneven_grids():
    xs, ys = np.sinh(np.linspace(-2, 2, 30)), np.linspace(-1, 3, 17) ** 3
    x, y = np.meshgrid(xs, ys, indexing="ij")
    exact = -(x**2) + x * y - 3 * y**2 + y
    found, residual = path_integral.integrate_score_2d(xs, ys, np.stack([y - 2 * x, x - 6 * y + 1], -1))
    np.testing.assert_allclose(found, exact - exact.max(), atol=1e-9)
    assert residual < 1e-12


def test_closed_loops_are_taken_out_and_measured():
    """psi = 0 on the boundary makes (psi_y, -psi_x) orthogonal to every gradient."""
    errors = []
    for k in (101, 201):
        xs = ys = np.linspace(0, 1, k)
        x, y = np.meshgrid(xs, ys, indexing="ij")
        loops = np.pi * np.stack([np.sin(np.pi * x) * np.cos(np.pi * y), -np.cos(np.pi * x) * np.sin(np.pi * y)], -1)
        gradient = np.stack([2 * (x - 0.3), 3 * np.cos(3 * y)], -1)
        exact = (x - 0.3) ** 2 + np.sin(3 * y)
        found, share = path_integral.integrate_score_2d(xs, ys, gradient + loops)
        errors.append(np.abs(found - exact + exact.max()).max())
    assert errors[1] < 0.55 * errors[0] < 5e-3  # edges on the boundary count too much: order 1 in the loops
    size = lambda field: np.square(field).mean()
    assert share == pytest.approx(math.sqrt(size(loops) / (size(loops) + size(gradient))), abs=0.01)
    assert path_integral.integrate_score_2d(xs, ys, loops)[1] == pytest.approx(1, abs=0.01)
    assert path_integral.integrate_score_2d(xs, ys, np.zeros_like(loops)) == (pytest.approx(np.zeros_like(x)), 0)


# ---------------------------------------------------------------------------------------------------------- valleys


def judged(density, n: int, low: float, high: float, seed: int = 0) -> path_integral.Valley:
    grid = np.linspace(low, high, 401)
    return path_integral.valley(grid, log_density(density, grid), draw(density, n, seed))


def test_an_empty_valley_is_refused():
    found = judged(APART, 1024, -3, 3)
    assert (found.points, found.stderr, found.mass_range) == (0, math.inf, (0, 1))
    assert found.at == pytest.approx(0, abs=0.02)
    assert found.drop == pytest.approx(12.5 - math.log(2), abs=1e-3)
    assert found.share == pytest.approx(0.5, abs=1e-3)
    assert not found.is_trustworthy
    assert "NOT normalised" in found.describe()


@pytest.mark.parametrize(("n", "trusted"), [(1024, False), (8192, True)])
def test_a_valley_with_few_points_is_refused_and_one_with_many_is_not(n, trusted):
    found = judged(WIDE, n, -10, 10)
    assert found.at == pytest.approx(-0.4123, abs=0.05)
    assert found.drop == pytest.approx(math.log(0.1 * norm.pdf(0) / 0.00246583), abs=2e-3)
    assert found.is_trustworthy == trusted
    assert 0.7 < found.stderr * math.sqrt(n / 1024) < 1.4  # the error falls with the root of the number of points


@pytest.mark.parametrize("n", [10, 100, 1024, 10_000])
def test_a_gaussian_has_no_valley(n):
    found = judged(GaussianMixture.isotropic(torch.ones(1).double(), torch.zeros(1, 1).double(), 1.0), n, -5, 5)
    assert (found.drop, found.is_trustworthy) == (0, True)
    assert "one mode" in found.describe("height")


def test_a_wiggle_without_points_beyond_is_no_valley():
    grid = np.linspace(-10, 10, 401)
    bumpy = np.logaddexp(norm.logpdf(grid), norm.logpdf(grid, 9, 0.1) - 8)
    assert path_integral.valley(grid, bumpy, np.random.Generator(np.random.PCG64(0)).normal(size=1000)).drop == 0


def test_mass_on_the_side_where_the_points_are_not_is_refused():
    """Points enough, but the score was wrong: the path says 0.9 on the left, where a tenth of the points is."""
    grid = np.linspace(-10, 10, 401)
    found = path_integral.valley(grid, log_density(WIDE, -grid), draw(WIDE, 50_000))
    assert max(abs(mass - found.counted) for mass in found.mass_range) < path_integral.TRUSTED
    assert found.share > 0.8
    assert not found.is_trustworthy


def test_points_in_a_window_tell_a_slope_to_the_root_of_12_over_k():
    """The variance of the most likely slope t of p(u) = t exp(t u) / (exp(t) - 1) on [0, 1], true slope 0, k points.

    The mean of p is 1/2 + t/12 - t^3/720 + ...; 4,000 trials, 5 standard errors (sqrt(2 / 4000)), false alarms 6e-7.
    """
    k, trials = 100, 4000
    means = np.random.Generator(np.random.PCG64(1)).random((trials, k)).mean(1)
    t = 12 * (means - 0.5)
    for _ in range(5):
        t = 12 * (means - 0.5 + t**3 / 720)
    assert t.var() == pytest.approx(12 / k, rel=5 * math.sqrt(2 / trials) + 0.01)


@pytest.mark.parametrize(
    ("weights", "centre", "std", "n"),
    [((0.1, 0.9), 3.0, 1.0, 4096), ((0.3, 0.7), 2.5, 1.0, 1024), ((0.5, 0.5), 2.2, 0.8, 1024)],
)
def test_scores_learned_by_splines_miss_the_mass_by_about_what_the_points_imply(weights, centre, std, n):
    """The least implicit loss over cubic splines with 14 knots, exactly, 30 times: median error within a factor of 2.5.

    The median of 30 errors has a relative standard error of 0.2, so the bound is more than 4 of them away.
    """
    means = torch.tensor([[-centre], [centre]], dtype=torch.float64)
    density = GaussianMixture.isotropic(torch.tensor(weights, dtype=torch.float64), means, std)
    grid = np.linspace(-7, 7, 281)
    knots = np.r_[[-9.0] * 3, np.linspace(-9, 9, 14), [9.0] * 3]
    basis = BSpline(knots, np.eye(len(knots) - 4), 3)
    slope = basis.derivative()
    missed, implied = [], []
    for seed in range(30):
        x = draw(density, n, seed)
        gram = basis(x).T @ basis(x) / n + 1e-3 / n * np.eye(len(knots) - 4)
        learned = basis(grid) @ np.linalg.solve(gram, -slope(x).mean(0))
        judge = path_integral.valley(grid, log_density(density, grid), x)
        found = np.exp(path_integral.normalise(path_integral.integrate_score(grid, learned), grid))
        left = path_integral.mass(np.where(grid <= judge.at, found, 0), grid)
        missed.append(abs(math.log(left / (1 - left)) - math.log(weights[0] / weights[1])))
        implied.append(judge.stderr)
    ratio = np.median(implied) / (np.median(missed) / norm.ppf(0.75))
    assert 1 / 2.5 < ratio < 2.5, ratio


# -------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("grid", "values", "message"),
    [
        ([0.0, 1.0, 1.0], [0.0, 0.0, 0.0], "increasing"),
        ([0.0, 1.0], [0.0, 0.0], "at least 3"),
        ([0.0, 1.0, 2.0], [0.0, math.nan, 0.0], "nan at position .1."),
        ([0.0, 1.0, 2.0], [0.0, 0.0, 0.0, 0.0], "one for each point"),
    ],
)
def test_bad_grids_and_scores_are_refused(grid, values, message):
    with pytest.raises(ValueError, match=message):
        path_integral.integrate_score(np.array(grid), np.array(values))


def test_bad_fields_and_missing_points_are_refused():
    grid = np.linspace(0, 1, 5)
    with pytest.raises(ValueError, match=r"\(5, 5, 2\); got \(5, 5, 3\)"):
        path_integral.integrate_score_2d(grid, grid, np.zeros((5, 5, 3)))
    with pytest.raises(ValueError, match=r"\(5, 5\), one for each point of the grid; got \(4, 5\)"):
        path_integral.integrate_score_2d(grid, grid, np.zeros((4, 5, 2)))
    with pytest.raises(ValueError, match="got none"):
        path_integral.valley(grid, grid, np.zeros(0))
