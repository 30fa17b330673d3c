"""Laws of the samplers: exact orders by affine steps, exact discrete laws, prefixes, truthful failures."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from cases import DENSITIES, F64, PROCESSES, covering, f64
from torch import Generator, Tensor

from scorefield.diffusion import times
from scorefield.diffusion.denoisers import Denoiser, ExactDenoiser
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.published import VE, VP
from scorefield.inference import samplers
from scorefield.inference.samplers import SAMPLERS, ddim, euler_maruyama, heun
from scorefield.inference.walking import pairs, walk
from scorefield.selftest.numbers.affine import MEAN, USUAL, Affine, exact_flow, gaussian_model

each_sampler = pytest.mark.parametrize("name", list(SAMPLERS))
each_usual = pytest.mark.parametrize("process", USUAL.values(), ids=USUAL)


@pytest.mark.slow
@covering(3, name=[n for n, row in SAMPLERS.items() if not row.stochastic and not row.adapts], process=USUAL)
def test_order_on_ragged_steps_is_the_same(name, process):
    """Steps of five unequal lengths in turn: equal steps hide wrong weights of methods that look back."""
    model, order = gaussian_model(process), SAMPLERS[name].strong_order
    pattern, errors = f64(1.0, 0.4, 1.7, 0.6, 1.3), []
    for rounds in (12, 24, 48) if order > 1 else (100, 200, 400):
        ratios = 3.0 - 2.7 * torch.cat([f64(0.0), (pattern / pattern.sum() / rounds).repeat(rounds)]).cumsum(0)
        grid = process.time(ratios)
        x = f64([-2.0], [0.0], [3.0])
        *_, end = SAMPLERS[name].make(None)(model, x, grid)
        errors.append(float((end - exact_flow(process, x, grid)).abs().max()))
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert orders == pytest.approx([order] * 2, abs=0.15), errors


@pytest.mark.parametrize("name", ["heun", "ddim", "euler"])
@each_usual
def test_local_order_on_single_steps_is_one_more(name, process):
    """One deterministic step of size h, anywhere, is off the exact flow of the Gaussian by h^(order + 1)."""
    model, x = gaussian_model(process), f64([-2.0], [0.0], [3.0])
    for ratio in (2.0, 0.9, 0.31):
        errors = []
        for h in (0.02, 0.01, 0.005):
            grid = process.time(f64(ratio, ratio * (1 - h)))
            (end,) = SAMPLERS[name].make(None)(model, x, grid)
            errors.append(float((end - exact_flow(process, x, grid)).abs().max()))
        orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
        assert orders == pytest.approx([SAMPLERS[name].strong_order + 1] * 2, abs=0.12), (ratio, errors)


@each_usual
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_ddim_with_exact_clean_part_has_the_exact_joint_law(process, eta):
    """For point-mass data the law of x_u is right for every eta, and for eta 1 so is its joint law with x_t."""
    point = GaussianMixture.gaussian(f64(MEAN), f64([0.0]))
    model = ExactDenoiser(point, process)
    chain = Affine(walk(ddim(eta)), model)
    for high, low in ((2.0, 1.5), (0.5, 0.05), (30.0, 0.2)):
        t, u = process.time(f64(high, low))
        (a, s), (b, r) = ((float(process.mean_coef(w)), float(process.std(w))) for w in (t, u))
        slope, gains, shift = chain(torch.stack([t, u]))
        gain = float(gains.sum())
        assert slope * a * MEAN + shift == pytest.approx(b * MEAN, abs=1e-12)
        assert slope**2 * s**2 + gain**2 == pytest.approx(r**2, rel=1e-12)
        if eta == 1.0:  # x_t = (a / b) x_u + independent noise, so Cov(x_t, x_u) = (a / b) r^2
            assert slope * s**2 == pytest.approx(a / b * r**2, rel=1e-10)


@each_usual
def test_euler_maruyama_noise_has_the_variance_of_the_sde(process):
    """The gain squared is g^2 h, and eta scales it: a wrong factor would still converge to a wrong law slowly."""
    model = gaussian_model(process)
    t, u = process.time(f64(1.0, 0.95))
    for eta in (0.3, 1.0):
        _, gains, _ = Affine(walk(euler_maruyama(eta)), model)(torch.stack([t, u]))
        assert float(gains) ** 2 == pytest.approx(float(eta**2 * process.diffusion(t) ** 2 * (t - u)), rel=1e-12)


@pytest.mark.slow
@each_sampler
def test_a_shorter_sample_is_a_prefix_of_a_longer_one(name):
    """To the bit, across the edge of a block, with float32 as users have it."""
    density = GaussianMixture.gaussian(torch.tensor([0.5]), torch.tensor([[0.3]]))
    model = ExactDenoiser(density, VP())
    path = samplers.grid_for(name, model, 5)
    draw = lambda n: samplers.sample(model, n, sampler=name, times=path, generator=Generator().manual_seed(3))
    long = draw(samplers.BLOCK + 77)
    assert long.shape == (samplers.BLOCK + 77, 1)
    for n in (0, 1, 10, samplers.BLOCK, samplers.BLOCK + 1):
        assert torch.equal(draw(n), long[:n])
    assert len(long.unique()) >= len(long) - 3, "blocks or rows repeat their noise"  # some meet by chance in float32


@pytest.mark.slow
@each_sampler
def test_different_seeds_give_different_samples(name):
    model = gaussian_model(VP())
    draw = lambda seed: samplers.sample(model, 5, sampler=name, generator=Generator().manual_seed(seed))
    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_the_last_jump_leaves_no_noise():
    """Point-mass data come back exactly, although the walk ends at noise ratio 1e-3."""
    model = ExactDenoiser(GaussianMixture.gaussian(f64(1.5, -2.0), torch.zeros(2, 2, dtype=F64)), VP())
    x = samplers.sample(model, 50, sampler="ancestral", generator=Generator().manual_seed(0))
    assert (x - f64(1.5, -2.0)).abs().max() < 1e-9


def test_a_trajectory_is_a_list_and_stopping_is_break():
    model, grid = gaussian_model(VP()), times.grid(VP(), 6)
    x = torch.zeros(3, 1, dtype=F64)
    path = list(walk(heun)(model, x, grid))
    assert len(path) == 6
    asked: list[float] = []
    spy = lambda model, x, t, u: asked.append(float(u)) or heun(model, x, t, u)
    for state, expected in zip(walk(spy)(model, x, grid), path, strict=False):
        assert torch.equal(state, expected)
        if len(asked) == 2:
            break
    assert asked == grid[1:3].tolist()


def test_the_times_of_a_walk_are_made_as_they_are_asked_for(monkeypatch):
    grid = torch.linspace(1, 0, 5, dtype=F64)
    expected = list(itertools.pairwise(grid.tolist()))
    monkeypatch.setattr(Tensor, "__iter__", lambda grid: pytest.fail("all times were made at once"))
    assert [(float(t), float(u)) for t, u in pairs(grid)] == expected


def test_walking_in_two_parts_is_walking_at_once():
    """A start at any time is as good as one at t_max: nothing in a step looks at where the walk began."""
    model, grid = gaussian_model(VE()), times.grid(VE(), 9)
    x = torch.randn(4, 1, dtype=F64, generator=Generator().manual_seed(0))
    *_, middle = walk(heun)(model, x, grid[:5])
    *_, end = walk(heun)(model, middle, grid[4:])
    assert torch.equal(end, list(walk(heun)(model, x, grid))[-1])


def test_no_gradient_is_kept_and_the_callers_mode_is_untouched():
    model = gaussian_model(VP())
    x = torch.zeros(2, 1, dtype=F64, requires_grad=True)
    for state in walk(heun)(model, x, times.grid(VP(), 3)):
        assert not state.requires_grad
        assert torch.is_grad_enabled()


@pytest.mark.parametrize("grid", [[0.1, 0.9], [0.5, 0.5], [0.9, 0.2, 0.4], [0.5]])
def test_times_that_do_not_decrease_are_refused(grid):
    with pytest.raises(ValueError, match=r"at least two sampling times that decrease; got \[0\.\d"):
        list(walk(heun)(gaussian_model(VP()), torch.zeros(1, 1, dtype=F64), torch.tensor(grid, dtype=F64)))


@pytest.mark.parametrize("grid", [[1.2, 0.5], [0.9, -0.1]])
def test_times_outside_of_the_process_are_refused(grid):
    with pytest.raises(ValueError, match=r"sampling times from 0 up to 1, the range of VP\(.*\); got \d"):
        list(walk(heun)(gaussian_model(VP()), torch.zeros(1, 1, dtype=F64), torch.tensor(grid, dtype=F64)))


@pytest.mark.parametrize("name", ["adams", "deis", "dpmpp_2m", "dpmpp_2m_sde", "adaptive_flow", "adaptive_sde"])
def test_samplers_in_log_s_over_a_do_not_go_to_time_0(name):
    with pytest.raises(ValueError, match=r"sampling times above 0 up to 1, the range of VP\(.*\); got 0.9 to 0"):
        list(SAMPLERS[name].make(None)(gaussian_model(VP()), torch.zeros(1, 1, dtype=F64), f64(0.9, 0.0)))


def test_a_state_that_is_not_finite_names_step_time_and_sample():
    def bad(model: Denoiser, x: Tensor, t: Tensor, u: Tensor) -> Tensor:
        x = x.clone()
        x[2] = math.nan if float(u) < 0.5 else 0.0
        return x

    with pytest.raises(RuntimeError, match=r"sample 2 is not finite after step 3, at t=0\.4"):
        list(walk(bad)(gaussian_model(VP()), torch.zeros(4, 1, dtype=F64), f64(0.9, 0.7, 0.5, 0.4)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: samplers.sample(model, -1), "must not be negative; got -1"),
        (lambda model: samplers.sample(model, 5, sampler="magic"), "sampler must be one of .*'heun'.*; got 'magic'"),
    ],
)
def test_bad_arguments_are_named(call: Callable, message):
    with pytest.raises(ValueError, match=message):
        call(gaussian_model(VP()))


@pytest.mark.slow
@covering(3, name=[name for name, row in SAMPLERS.items() if not row.adapts], process=PROCESSES)
def test_extreme_numbers_of_steps_are_finite(name, process):
    """1, 2, 3 and 99 steps, 0, 1 and 3 rows, d = 1 and 16: nothing but finite numbers of the right shape."""
    for density in (DENSITIES["gauss-1d"], DENSITIES["gauss-16d"]):
        model = ExactDenoiser(density, process)
        for steps in (1, 2, 3, 99) if density.dim == 1 else (1, 11):
            for x in (model.prior().sample(n, Generator().manual_seed(n)) for n in (1, 3)):
                *_, end = SAMPLERS[name].make(Generator().manual_seed(0))(model, x, times.grid(process, steps))
                assert end.shape == x.shape
                assert end.isfinite().all()
