"""Laws of the samplers that choose their steps: the exact flow, the exact law, rows that do not know each other."""

import math

import pytest
import torch
from cases import DENSITIES, F64, f64, z_limit
from torch import Generator, Tensor

from scorefield.diffusion import times
from scorefield.diffusion.denoisers import Denoiser, ExactDenoiser
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.published import VE, VP, Cosine, Straight
from scorefield.inference.adaptive import adaptive_flow, adaptive_sde

each_process = pytest.mark.parametrize("process", [VP(), VE(), Cosine(), Straight()], ids=lambda p: type(p).__name__)


def end(sampler, model: Denoiser, x: Tensor, grid: Tensor) -> Tensor:
    *_, last = sampler(model, x, grid)
    return last


@pytest.mark.slow
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
    """Leaving out later rows changes no bit of the earlier: steps and noise belong to a row."""
    model = ExactDenoiser(DENSITIES["mixture-2d"], VP())
    x = model.prior().sample(100, Generator().manual_seed(1))
    grid = times.grid(VP(), 2)
    whole = end(make(), model, x, grid)
    for k in (1, 7, 20, 33, 63):
        assert torch.equal(whole[:k], end(make(), model, x[:k], grid)), k


@pytest.mark.slow
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


@pytest.mark.slow
@each_process
def test_where_the_clean_part_is_linear_in_log_s_over_a_any_steps_end_alike(process):
    """The step is exact there, so three tolerances on one path give one end: 1e-9 of its size, in three legs."""

    class Drifting(ExactDenoiser):
        def decompose(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            clean = (1 + 2 * self.process.ratio(t).log()).reshape(-1, 1).expand(x.shape)
            a, s = self.process.kernel(t, x)
            return clean, (x - a * clean) / s

    model = Drifting(DENSITIES["gauss-2d"], process)
    grid = process.time(f64(40.0, 3.0, 0.2, 0.01))
    x = process.std(grid[0]) * torch.randn(20, 2, dtype=F64, generator=Generator().manual_seed(0))
    ends = [end(adaptive_sde(tol, Generator().manual_seed(1)), model, x, grid) for tol in (10.0, 0.3, 0.03)]
    for other in ends[1:]:
        assert float((other - ends[0]).abs().max()) < 1e-9 * float(ends[0].abs().max())
    assert not torch.allclose(ends[0], end(adaptive_sde(10.0, Generator().manual_seed(2)), model, x, grid), atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e2])
@pytest.mark.parametrize("name", ["flow", "sde"])
def test_the_tolerance_is_in_units_of_the_data(name, scale):
    """Data and noise a hundred times larger or smaller: the flow within ten tolerances, the SDE by as many calls.

    39.04 calls a row is what scale 1 takes from these starts; each row's path scales with the data, so every scale takes as many.
    """
    small = DENSITIES["mixture-2d"]
    density = GaussianMixture(small.weights, scale * small.means, scale**2 * small.covariances)
    process = VE(0.01 * scale, 50.0 * scale)
    model, calls = ExactDenoiser(density, process), []
    x = model.prior().sample(100, Generator().manual_seed(0))
    grid = process.time(scale * f64(40.0, 1e-2))
    truth = end(adaptive_flow(1e-7), model, x, grid)
    ask = model.decompose
    model.decompose = lambda x, t: calls.append(len(x)) or ask(x, t)
    if name == "flow":
        error = (end(adaptive_flow(1e-4), model, x, grid) - truth).norm(dim=1) / model.spread
        assert float(error.quantile(0.9)) < 1e-3
    else:
        end(adaptive_sde(0.05, Generator().manual_seed(1)), model, x, grid)
        assert sum(calls) / 100 == pytest.approx(39.04, rel=0.01)


@pytest.mark.slow
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
            r"sample \d+ needs steps below 1e-06 of the way at .* not finite or jumps there",
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


@pytest.mark.slow
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
