"""Laws of the exponential integrators beside their orders, which test_samplers.py measures: what they solve exactly."""

import itertools
import math

import pytest
import torch
from cases import DENSITIES, F64, f64
from scipy import integrate
from torch import Generator, Tensor

from scorefield.diffusion import times
from scorefield.diffusion.denoisers import Denoiser, ExactDenoiser
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.process import Process
from scorefield.diffusion.published import EDM, VE, VP, Cosine, Straight, SubVP
from scorefield.inference import exponential
from scorefield.inference.samplers import SAMPLERS, churned_heun, ddim, grid_for, heun, langevin_corrector
from scorefield.inference.step_grid import optimised
from scorefield.inference.walking import then, walk

USUAL = [VP(), SubVP(), VE(), EDM(), Cosine(), Straight()]
each_usual = pytest.mark.parametrize("process", USUAL, ids=lambda p: type(p).__name__)
RAGGED = [5.0, 3.9, 2.0, 1.7, 0.8, 0.75, 0.2]


class Known(Denoiser):
    """A model whose noise is a given function of log s/a alone."""

    def __init__(self, process: Process, noise) -> None:
        super().__init__(process, torch.zeros(1, dtype=F64), torch.eye(1, dtype=F64))
        self.noise = noise

    def decompose(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        noise = self.noise(self.process.ratio(t).log()).expand(x.shape)
        return (x - self.process.std(t) * noise) / self.process.mean_coef(t), noise

    coefficients = predict = None


@each_usual
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_deis_integrates_polynomials_of_its_degree_exactly(process, order):
    """noise = l^(order - 1) in l = log s/a on ragged steps: each step that looks back far enough is exact.

    The integral over s/a of l^k is r (l^k - k l^(k-1) + k (k-1) l^(k-2) - ...).
    """

    def integral(ratio: float) -> float:
        k, log_ratio = order - 1, math.log(ratio)
        return ratio * sum((-1) ** i * math.perm(k, i) * log_ratio ** (k - i) for i in range(k + 1))

    grid = process.time(f64(*RAGGED))
    model = Known(process, lambda log_ratio: log_ratio ** (order - 1))
    a = process.mean_coef(grid)
    states = [a[0] * f64([0.3]), *exponential.deis(order)(model, a[0] * f64([[0.3]]), grid)]
    y = [float(state / b) for state, b in zip(states, a, strict=True)]
    looks_back = 0 if order <= 2 else order - 1
    for k, (high, low) in list(enumerate(itertools.pairwise(RAGGED)))[looks_back:]:
        assert y[k + 1] - y[k] == pytest.approx(integral(low) - integral(high), abs=1e-12)
    if looks_back:
        assert abs(y[1] - y[0] - (integral(RAGGED[1]) - integral(RAGGED[0]))) > 1e-4, "this law can fail"


@each_usual
def test_adams_is_exact_for_a_gaussian_of_the_datas_variance(process):
    """N(0, d^2 I) stands still in its frame: two steps from the largest noise to the smallest have no error."""
    d = 0.7
    model = ExactDenoiser(GaussianMixture.gaussian(f64(0.0, 0.0), d**2 * torch.eye(2, dtype=F64)), process)
    grid = times.grid(process, 2)
    x = model.prior().sample(20, Generator().manual_seed(0))
    *_, end = exponential.adams()(model, x, grid)
    spread = torch.hypot(process.mean_coef(grid) * d, process.std(grid))
    assert float((end - x * spread[-1] / spread[0]).abs().max()) < 1e-10


@each_usual
def test_dpmpp_2m_is_the_published_recursion(process):
    """Lu et al., 2022b, algorithm 2, in their letters and in floats, on ragged steps: orders cannot see r_i inverted."""
    model, grid = ExactDenoiser(DENSITIES["mixture-1d"], process), process.time(f64(*RAGGED))
    alpha, sigma = process.mean_coef(grid).tolist(), process.std(grid).tolist()
    lam = [math.log(a / s) for a, s in zip(alpha, sigma, strict=True)]
    x = 0.7 * sigma[0]
    found = [float(state) for state in exponential.dpmpp_2m(model, f64([x]), grid)]
    clean: list[float] = []
    for i in range(1, len(grid)):
        clean.append(float(model.decompose(f64([x]), grid[i - 1])[0]))
        h = lam[i] - lam[i - 1]
        d = clean[-1]
        if i > 1:
            r = (lam[i - 1] - lam[i - 2]) / h
            d = (1 + 1 / (2 * r)) * clean[-1] - 1 / (2 * r) * clean[-2]
        x = sigma[i] / sigma[i - 1] * x - alpha[i] * (math.exp(-h) - 1) * d
        assert found[i - 1] == pytest.approx(x, rel=1e-10)


class Drifting(Known):
    """A model whose clean part is 1 + 2 log s/a everywhere."""

    def decompose(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        clean = (1 + 2 * self.process.ratio(t).log()).expand(x.shape)
        return clean, (x - self.process.mean_coef(t) * clean) / self.process.std(t)


@each_usual
def test_the_exponential_heun_step_is_exact_for_a_clean_part_linear_in_log_s_over_a(process, monkeypatch):
    """Without its noise, against the integral of 2 e^-2(h-k) clean dk by quadrature: orders cannot see shares swapped."""
    monkeypatch.setattr(exponential, "normal_like", lambda x, generator=None: torch.zeros_like(x))
    model = Drifting(process, None)
    for high, low in itertools.pairwise(RAGGED):
        t, u = process.time(f64(high, low))
        h, y = math.log(high / low), 0.3
        part = lambda k, h=h, high=high: 2 * math.exp(-2 * (h - k)) * (1 + 2 * (math.log(high) - k))
        expected = math.exp(-2 * h) * y + integrate.quad(part, 0, h, epsabs=1e-13)[0]
        end = exponential.heun_sde()(model, process.mean_coef(t) * f64([y]), t, u) / process.mean_coef(u)
        assert float(end) == pytest.approx(expected, abs=1e-10)


@each_usual
def test_methods_of_first_order_are_one(process):
    """DEIS of order 1 and the first step of DPM-Solver++(2M) are DDIM; its SDE's first step is ancestral sampling."""
    model, grid = ExactDenoiser(DENSITIES["mixture-2d"], process), process.time(f64(*RAGGED))
    x = torch.randn(30, 2, dtype=F64, generator=Generator().manual_seed(1))
    for found, expected in zip(exponential.deis(1)(model, x, grid), walk(ddim())(model, x, grid), strict=True):
        assert torch.allclose(found, expected, atol=1e-11)
    first = lambda sampler: next(iter(sampler(model, x, grid)))
    assert torch.allclose(first(exponential.dpmpp_2m), first(walk(ddim())), atol=1e-12)
    noisy = [exponential.dpmpp_2m_sde(Generator().manual_seed(2)), walk(ddim(1.0, Generator().manual_seed(2)))]
    assert torch.allclose(*map(first, noisy), atol=1e-12)


def test_without_churn_it_is_heun_and_at_the_largest_noise_too():
    model, grid = ExactDenoiser(DENSITIES["mixture-2d"], VP()), times.grid(VP(), 8)
    x = model.prior().sample(30, Generator().manual_seed(1))
    for found, expected in zip(churned_heun(0.0)(model, x, grid), walk(heun)(model, x, grid), strict=True):
        assert torch.allclose(found, expected, atol=1e-12)
    states = churned_heun(10.0, Generator().manual_seed(0))(model, x, grid)
    plain = walk(heun)(model, x, grid)
    assert torch.allclose(next(states), next(plain), atol=1e-10)
    assert not torch.allclose(next(states), next(plain), atol=1e-2)


def test_churn_is_limited_as_published():
    """With churn 100 and 4 steps the ratio rises by sqrt(2), not by 26: for point data the state is known exactly."""
    model = ExactDenoiser(GaussianMixture.gaussian(f64(0.0), f64([1e-20])), VE())
    grid, asked = VE().time(f64(8.0, 4.0, 2.0, 1.0, 0.5)), []
    ask = model.decompose
    model.decompose = lambda x, t: asked.append(float(VE().ratio(t))) or ask(x, t)
    list(churned_heun(100.0, Generator().manual_seed(0))(model, f64([1.0]), grid))
    assert asked[::2] == pytest.approx([8 * 2**0.5, 4 * 2**0.5, 2 * 2**0.5, 2**0.5])
    assert asked[1::2] == pytest.approx([4, 2, 1, 0.5])


def test_a_corrector_follows_its_predictor():
    asked = []
    step = lambda name: lambda model, x, t, u: asked.append((name, float(x), float(t), float(u))) or x + 1
    model = ExactDenoiser(DENSITIES["gauss-1d"], VP())
    list(walk(then(step("p"), step("c"), step("d")))(model, f64([0.0]), f64(0.9, 0.5)))
    assert asked == [("p", 0.0, 0.9, 0.5), ("c", 1.0, 0.9, 0.5), ("d", 2.0, 0.9, 0.5)]


@pytest.mark.parametrize("name", [name for name, row in SAMPLERS.items() if not row.adapts])
def test_the_table_counts_the_calls_of_the_model(name):
    model, calls = ExactDenoiser(DENSITIES["mixture-2d"], VP()), []
    ask = model.decompose
    model.decompose = lambda x, t: calls.append(len(x)) or ask(x, t)
    x = model.prior().sample(4, Generator().manual_seed(1))
    list(SAMPLERS[name].make(Generator().manual_seed(0))(model, x, times.grid(VP(), 7)))
    assert sum(calls) / 4 == 7 * SAMPLERS[name].evaluations + SAMPLERS[name].first


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SAMPLERS))
def test_the_default_grid_is_the_models_own_and_only_ends_for_those_that_adapt(name):
    model = ExactDenoiser(DENSITIES["mixture-2d"], VP())
    expected = times.grid(VP(), 1) if name.startswith("adaptive") else optimised(model, 10)
    assert torch.equal(grid_for(name, model, 10), expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: exponential.deis(0), "order of at least 1; got 0"),
        (lambda: exponential.adams(-1), "order of at least 1; got -1"),
        (lambda: churned_heun(-1.0), "churn of at least 0; got -1"),
        (lambda: langevin_corrector(0.0), "positive signal-to-noise ratio; got 0"),
    ],
)
def test_bad_settings_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
