"""A grid made for a model: its ends, its independence of chance, and the error that it saves."""

import math

import pytest
import torch
from cases import DENSITIES, F64, each_process, f64
from torch import Generator, nn

from scorefield.data import toys
from scorefield.diffusion import times
from scorefield.diffusion.denoisers import ExactDenoiser, ScoreModel
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.networks.mlp import MLP
from scorefield.diffusion.published import VE, VP, Straight
from scorefield.inference import probability_flow
from scorefield.inference.samplers import SAMPLERS
from scorefield.inference.step_grid import optimised


def error(model: ExactDenoiser, sampler: str, grid: torch.Tensor, n: int = 128) -> float:
    """The root mean square distance to the converged flow, over latents that the grid was not made of."""
    x = model.prior().sample(n, Generator().manual_seed(1))
    truth = probability_flow.decode(model, x, tol=1e-8)
    *_, last = SAMPLERS[sampler].make(None)(model, x, grid)
    return float((model.decompose(last, grid[-1])[0] - truth).square().sum(1).mean().sqrt())


@pytest.mark.slow
@each_process
@pytest.mark.parametrize("steps", [1, 2, 10, 100])
def test_it_decreases_from_end_to_end_for_every_process(process, steps):
    found = optimised(ExactDenoiser(DENSITIES["mixture-2d"], process), steps)
    plain = times.grid(process, steps, math.inf)
    assert found.shape == (steps + 1,)
    assert found.dtype == F64
    assert (found.diff() < 0).all()
    assert torch.equal(found[[0, -1]], plain[[0, -1]])
    longest = (process.ratio(found).log().diff() / process.ratio(plain).log().diff()).max()
    assert float(longest) < (1 + 1 / 0.3) * 1.1  # LIFT bounds it, up to interpolation


@pytest.mark.slow
@pytest.mark.parametrize("process", [VP(), VE(0.01, 50.0), Straight()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("name", ["8gaussians", "mixture-1d", "mixture-2d"])
def test_errors_are_smaller_than_on_equal_steps(process, name):
    """Of `adams`: no larger at 12 steps, and 3 times smaller at 32."""
    density = DENSITIES[name] if name in DENSITIES else toys.TOYS[name].density
    model = ExactDenoiser(density, process)
    for steps, gain in ((12, 1), (32, 3)):
        plain = error(model, "adams", times.grid(process, steps, math.inf))
        assert error(model, "adams", optimised(model, steps)) < plain / gain


def test_steps_share_the_third_derivative_evenly():
    """Where z is known in closed form, N(0, diag(1, 0.01)) under VE: |z'''|^(1/3) + LIFT is the density of steps.

    z_i = sqrt((v_i + r^2) / (v + r^2)) z_i(end) up to a constant, v the mean variance; within 5 % where steps are many,
    but for the smoothing of the pilot's density, so over parts of a tenth of the range.
    """
    process = VE(0.01, 50.0)
    model = ExactDenoiser(GaussianMixture.gaussian(f64(0.0, 0.0), f64(1.0, 0.01).diag()), process)
    low, high = (math.log(r) for r in times.bounds(process))
    ls = torch.linspace(high, low, 20_001, dtype=F64)
    v = f64(1.0, 0.01)
    z = ((v + (2 * ls).exp()[:, None]) / (0.505 + (2 * ls).exp()[:, None])).sqrt()
    h = float(ls[0] - ls[1])
    rms = (z.diff(n=3, dim=0) / h**3).square().mean(1)
    third = torch.cat([rms[:2], rms, rms[-2:]])[: len(ls)] ** (1 / 6)
    density = third + 0.3 * third.mean()
    share = torch.cumulative_trapezoid(density, dx=h)
    expected = torch.stack([share[int(20_000 * k / 10) - 1] for k in range(1, 10)]) / share[-1]
    found = process.ratio(optimised(model, 2_000)).log()
    reached = torch.stack([(found > high - (high - low) * k / 10).double().mean() for k in range(1, 10)])
    assert float((reached - expected).abs().max()) < 0.02
    even = torch.arange(1, 10) / 10
    assert float((expected - even).abs().max()) > 0.05


def test_it_is_a_function_of_the_model_and_of_nothing_else():
    model = ExactDenoiser(DENSITIES["mixture-2d"], VP())
    before = torch.random.get_rng_state()
    found = optimised(model, 20)
    torch.rand(3, generator=Generator().manual_seed(0))
    assert torch.equal(optimised(model, 20), found)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_model_that_stands_still_gets_equal_steps():
    """Where nothing bends, a round Gaussian, the density is rounding: the grid is within a half of equal steps."""
    model = ExactDenoiser(GaussianMixture.isotropic(f64(1.0), f64([0.0, 0.0]), 1.0), VP())
    found = VP().ratio(optimised(model, 10)).log().diff()
    even = VP().ratio(times.grid(VP(), 10, math.inf)).log().diff()
    assert torch.allclose(found, even, rtol=1.0)


def test_data_without_variance_get_equal_steps():
    model = ExactDenoiser(GaussianMixture.gaussian(f64(1.5, -2.0), torch.zeros(2, 2, dtype=F64)), VP())
    assert torch.equal(optimised(model, 7), times.grid(VP(), 7, math.inf))


def test_bad_numbers_are_named():
    model = ExactDenoiser(DENSITIES["mixture-2d"], VP())
    with pytest.raises(ValueError, match="at least one step; got 0"):
        optimised(model, 0)
    model.decompose = lambda x, t: (x, x * math.nan)
    with pytest.raises(RuntimeError, match="finite"):
        optimised(model, 3)


def test_rounding_does_not_move_the_times():
    """Data of 1 + 1e-6 the size in float32, where paths are straight to rounding: times are the same to 1e-4."""
    density = GaussianMixture.gaussian(f64(0.0, 0.0, 0.0), f64(1.0, 0.8, 1.2).diag())
    found = []
    for size in (1.0, 1 + 1e-6):
        net = MLP(3, generator=Generator().manual_seed(0))
        nn.init.normal_(net.layers[-1].weight, std=1e-3, generator=Generator().manual_seed(1))
        moments = density.mean.float(), (size * density.covariance).float()
        found.append(optimised(ScoreModel(net, VP(), *moments), 32))
    assert 0 < float((found[1] / found[0] - 1).abs().max()) < 1e-4


def test_a_density_in_float32_has_the_grid_of_float64_to_its_rounding():
    double = DENSITIES["mixture-2d"]
    found = optimised(ExactDenoiser(double.like(torch.empty(0)), VP()), 32)
    assert float((found / optimised(ExactDenoiser(double, VP()), 32) - 1).abs().max()) < 1e-5
