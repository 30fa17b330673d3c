"""Laws of the samplers that choose their steps: the exact flow, the exact law, rows that do not know each other."""

import math

import pytest
import torch
from cases import DENSITIES, F64, f64, z_limit
from torch import Generator, Tensor

from scorefield import times
from scorefield.adaptive import adaptive_flow, adaptive_sde
from scorefield.densities import GaussianMixture
from scorefield.model import Denoiser, ExactDenoiser
from scorefield.process import VE, VP, Cosine, Straight

each_process = pytest.mark.parametrize("process", [VP(), VE(), Cosine(), Straight()], ids=lambda p: type(p).__name__)


def end(sampler, model: Denoiser, x: Tensor, grid: Tensor) -> Tensor:
    *_, last = sampler(model, x, grid)
    return last


@each_process
def test_the_flow_of_a_gaussian_is_met_within_the_tolerance(process):
    """Gaussians of std 0.05 and 4 in two columns: the exact flow is affine; the error falls with the tolerance."""
    std = f64(0.05, 4.0)
    model = ExactDenoiser(GaussianMixture.gaussian(f64(1.0, -2.0), std.square().diag()), process)
    grid = process.time(f64(40.0, 3.0, 1e-3))
    spread = lambda t: torch.hypot(process.mean_coef(t) * std, process.std(t))
    x = torch.randn(64, 2, dtype=F64, generator=Generator().manual_seed(0)) * spread(grid[0])
    truth = x / spread(grid[0]) * spread(grid[-1]) + process.mean_coef(grid[-1]) * f64(1.0, -2.0)
    x = x + process.mean_coef(grid[0]) * f64(1.0, -2.0)
    errors = [float((end(adaptive_flow(tol), model, x, grid) - truth).abs().max()) for tol in (1e-2, 1e-4, 1e-6)]
    assert errors[0] < 0.2
    assert errors[1] < 2e-3
    assert errors[2] < 2e-5


@pytest.mark.parametrize("make", [lambda: adaptive_flow(1e-2), lambda: adaptive_sde(0.1, Generator().manual_seed(0))])
def test_a_row_does_not_depend_on_the_rows_beside_it(make):
    """Leaving out the later half changes no bit of the earlier: steps and noise belong to a row."""
    model = ExactDenoiser(DENSITIES["mixture-2d"], VP())
    x = model.prior().sample(40, Generator().manual_seed(1))
    grid = times.grid(VP(), 2)
    assert torch.equal(end(make(), model, x, grid)[:20], end(make(), model, x[:20], grid))


def test_the_adaptive_sde_has_the_law_of_the_mixture():
    """Mean and covariance at three times on the way, 4,096 rows; false alarm 1e-6 in all, plus a bias of 0.02."""
    density = DENSITIES["mixture-2d"]
    model, n = ExactDenoiser(density, VP()), 4_096
    grid = VP().time(f64(100.0, 3.0, 0.5, 0.01))
    x = density.noised(*(float(c) for c in VP().kernel(grid[0], torch.zeros(1, dtype=F64)))).sample(
        n, Generator().manual_seed(2)
    )
    for u, state in zip(grid[1:], adaptive_sde(0.02, Generator().manual_seed(3))(model, x, grid), strict=True):
        a, s = float(VP().mean_coef(u)), float(VP().std(u))
        law = density.noised(a, s)
        root = torch.linalg.cholesky(law.covariance)
        z = torch.linalg.solve_triangular(root, (state - law.mean).T, upper=False).T
        assert float(z.mean(0).abs().max()) < z_limit(15) / math.sqrt(n) + 0.02
        fourth = float(z.pow(4).mean(0).max())
        assert float((z.T @ z / n - torch.eye(2, dtype=F64)).abs().max()) < z_limit(15) * math.sqrt(fourth / n) + 0.02


def test_a_refused_step_does_not_draw_again():
    """Half the tolerance follows the same path: its ends lie near those of the whole, far nearer than another path's."""
    model = ExactDenoiser(DENSITIES["gauss-2d"], VP())
    x = model.prior().sample(200, Generator().manual_seed(4))
    grid = VP().time(f64(20.0, 0.05))
    ends = [end(adaptive_sde(tol, Generator().manual_seed(5)), model, x, grid) for tol in (0.02, 0.01, 0.005)]
    other = end(adaptive_sde(0.01, Generator().manual_seed(6)), model, x, grid)
    distance = lambda y, z: float((y - z).square().sum(1).mean().sqrt())
    assert distance(ends[1], ends[2]) < 0.7 * distance(ends[0], ends[1])
    assert distance(ends[1], ends[2]) < 0.05 * distance(ends[1], other)


class Broken(ExactDenoiser):
    """An oracle that knows nothing of one row where the noise is small."""

    def decompose(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        clean, noise = super().decompose(x, t)
        hidden = ((t < self.process.time(f64(0.5)[0])) & (clean[:, 0] > 0)).reshape(-1, 1)
        return clean.masked_fill(hidden, math.nan), noise.masked_fill(hidden, math.nan)


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (adaptive_flow(), "below 1e-12 of its range .* not finite or jumps there"),
        (
            adaptive_sde(generator=Generator().manual_seed(0)),
            r"sample \d+ needs steps below .* not finite or jumps there",
        ),
    ],
)
def test_a_score_that_is_not_a_number_ends_in_a_message(sampler, message):
    model = Broken(GaussianMixture.gaussian(f64(1.0), f64([1.0])), VP())
    with pytest.raises(RuntimeError, match=message):
        end(sampler, model, f64([0.0], [1.0], [-1.0]), times.grid(VP(), 1))


@pytest.mark.parametrize("tol", [0.0, -1.0, math.inf, math.nan])
def test_tolerances_are_positive(tol):
    for make in (adaptive_flow, adaptive_sde):
        with pytest.raises(ValueError, match="expected a positive tolerance; got"):
            make(tol)


@pytest.mark.parametrize("make", [adaptive_flow, lambda tol: adaptive_sde(tol, Generator().manual_seed(0))])
def test_a_smaller_tolerance_takes_more_calls(make):
    """One step of the grid is enough: they adapt by themselves."""

    def calls(tol: float) -> int:
        model, found = ExactDenoiser(DENSITIES["mixture-2d"], VP()), []
        ask = model.decompose
        model.decompose = lambda x, t: found.append(len(x)) or ask(x, t)
        end(make(tol), model, model.prior().sample(8, Generator().manual_seed(0)), times.grid(VP(), 1))
        return sum(found)

    assert calls(0.1) < calls(0.01) < calls(0.001)
