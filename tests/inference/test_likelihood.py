"""Likelihoods beside R05 and R06: the first step, rows, blocks, float32 networks, stated errors, bad input."""

import math

import numpy as np
import pytest
import torch
from cases import DENSITIES, F64, Wavy, covering, each_process, f64, learned
from scipy import stats
from torch import Generator

from scorefield.diffusion.denoisers import ExactDenoiser
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.published import VE, VP, Straight
from scorefield.inference import likelihood
from scorefield.inference.likelihood import log_prob
from scorefield.selftest.numbers.affine import USUAL

each_usual = pytest.mark.parametrize("process", USUAL.values(), ids=USUAL)
MIXTURES = {name: DENSITIES[name] for name in ("mixture-1d", "mixture-2d")}


@pytest.mark.slow
@covering(process=USUAL, density=MIXTURES)
def test_mixtures_are_exact_up_to_what_the_prior_cannot_know(process, density):
    """The prior replaces the noised mixture at t_max by a Gaussian of its moments: off by at most 1e-3 nats here.

    log p of that exact end law, in place of the prior, leaves 1e-5 (R05).
    """
    x = density.sample(30, Generator().manual_seed(0))
    error = log_prob(ExactDenoiser(density, process), x, tol=1e-7).value - density.log_prob(x)
    assert error.abs().max() < 1e-3
    assert error.abs().mean() < 1e-4


@pytest.mark.slow
@covering(2, process=USUAL, std=[0.3, 0.03, 0.01])
def test_starting_at_the_smallest_ratio_costs_nothing(process, std):
    """E13: reading x_0 as x_t_min costs up to a nat per dimension; here at most 1e-2 at a std of 10 r, in 3 dimensions.

    Without the first step the error would be (r / std)^2 / 2 per dimension or more: 5e-3 at std 0.01 for r = 1e-3;
    with it the error is of the order of its square.
    """
    density = GaussianMixture.isotropic(f64(1.0, 2.0), f64([0.0, 0.3, -1.0], [0.4, 1.0, 0.5]), std)
    x = density.sample(20, Generator().manual_seed(0))
    error = log_prob(ExactDenoiser(density, process), x, tol=1e-7).value - density.log_prob(x)
    assert error.abs().max() < max(1e-3, 40 * (1e-3 / std) ** 4)
    coarse = log_prob(ExactDenoiser(density, process), x, tol=1e-7, ratio_min=std / 10).value
    assert (coarse - density.log_prob(x)).abs().max() < 1e-2 * density.dim


def test_the_first_step_has_the_order_it_states():
    """Halving r divides the error by 16: order r^4. Leaving the step out would make it 4."""
    density = GaussianMixture.gaussian(f64(0.2, -0.4), f64([0.04, 0.01], [0.01, 0.03]))
    x = density.sample(5, Generator().manual_seed(0))
    model = ExactDenoiser(density, VP())
    error = lambda r: (log_prob(model, x, tol=1e-10, ratio_min=r).value - density.log_prob(x)).abs().max()
    assert float(error(0.02) / error(0.01)) == pytest.approx(16, rel=0.1)


@pytest.mark.slow
@each_process
def test_every_process_gives_the_same_likelihood(process):
    """The tutorials' three and odd ranges of them; a narrow VE knows less of a mixture at its end, a Gaussian it knows."""
    density = DENSITIES["gauss-2d"]
    x = density.sample(10, Generator().manual_seed(1))
    found = log_prob(ExactDenoiser(density, process), x, tol=1e-7).value
    assert (found - density.log_prob(x)).abs().max() < 1e-4


@pytest.mark.slow
@covering(process=USUAL, density=MIXTURES)
def test_the_solvers_error_is_covered_by_what_is_stated(process, density):
    """At tolerances of 1e-3 and 1e-5 it covers at least 95 % of 60 rows, and is no more than 100 times too large."""
    model, x = ExactDenoiser(density, process), density.sample(60, Generator().manual_seed(0))
    exact = log_prob(model, x, tol=1e-9, errors=False).value
    for tol in (1e-3, 1e-5):
        found = log_prob(model, x, tol=tol)
        error = (found.value - exact).abs()
        assert float((error <= found.solver_error).double().mean()) >= 0.95
        assert float(found.solver_error.median()) < 100 * float(error.median())


def test_errors_do_not_change_the_value_and_are_small_with_the_default():
    density = DENSITIES["mixture-2d"]
    model, x = ExactDenoiser(density, VP()), density.sample(40, Generator().manual_seed(0))
    found = log_prob(model, x)
    assert found.value.equal(log_prob(model, x, errors=False).value)
    assert float(found.solver_error.max()) < 0.01
    assert float(found.start_error.max()) < 1e-6


@pytest.mark.slow
@each_usual
def test_the_starts_error_is_the_change_from_twice_the_smallest_ratio(process):
    """Within 1 % of two solutions at tight tolerance, whose difference it predicts to first order."""
    density = GaussianMixture.isotropic(f64(1.0, 2.0), f64([0.0, 0.3], [0.4, 1.0]), 0.01)
    model, x = ExactDenoiser(density, process), density.sample(20, Generator().manual_seed(0))
    near, far = (log_prob(model, x, tol=1e-9, ratio_min=r, errors=False).value for r in (1e-3, 2e-3))
    found = log_prob(model, x, tol=1e-7, ratio_min=1e-3)
    assert torch.allclose(found.start_error, (near - far).abs(), rtol=0.01, atol=1e-7)
    truth = (near - density.log_prob(x)).abs()
    assert float((found.start_error / truth).median()) == pytest.approx(15, rel=0.2)  # 16 - 1


@pytest.mark.slow
@pytest.mark.parametrize("thin", [4, 60])
def test_a_sketch_pays_where_few_directions_are_thin_or_few_are_not(thin):
    """64 dimensions of std 1 or 0.01, turned: at 24 derivatives a row an error at most half that of signs."""
    d, generator = 64, Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(d, d, dtype=F64, generator=generator))[0]
    scales = torch.cat([torch.ones(64 - thin), torch.full((thin,), 1e-4)]).double()
    density = GaussianMixture.gaussian(torch.zeros(d, dtype=F64), turn @ scales.diag() @ turn.T)
    model, x = ExactDenoiser(density, VP()), density.sample(20, generator)
    spread = lambda **how: log_prob(model, x, tol=1e-3, errors=False, generator=generator, **how).stderr.mean()
    assert spread(probes=8, sketch=8) < 0.5 * spread(probes=24)


@pytest.mark.slow
def test_rows_do_not_influence_each_other():
    """Of a learned model: the first rows of a batch, and a batch in another order, to 1e-9; the far row changes nothing."""
    model = learned(VP(), "v", 2, net=Wavy(2, seed=4))
    x = torch.randn(12, 2, dtype=F64, generator=Generator().manual_seed(0))
    far = torch.cat([x, f64([300.0, -200.0])])
    found = log_prob(model, far).value
    assert (log_prob(model, x).value - found[:12]).abs().max() < 1e-9
    assert (log_prob(model, x.flip(0)).value.flip(0) - found[:12]).abs().max() < 1e-9
    one_by_one = torch.cat([log_prob(model, row[None]).value for row in x])
    assert (one_by_one - found[:12]).abs().max() < 1e-9


@pytest.mark.slow
def test_blocks_do_not_change_the_result(monkeypatch):
    model, x = learned(VP(), "v", 2), torch.randn(11, 2, dtype=F64, generator=Generator().manual_seed(0))
    whole = log_prob(model, x)
    for limit in ("BLOCK", "DERIVATIVES"):
        monkeypatch.setattr(likelihood, limit, 4)
        parts = log_prob(model, x)
        assert (whole.value - parts.value).abs().max() < 1e-9
        assert torch.equal(whole.evaluations, parts.evaluations)


@pytest.mark.slow
def test_a_loose_tolerance_asks_the_network_in_float32_and_changes_a_hundredth_of_it(monkeypatch):
    """The types that the network sees, the distance to float64, and that of rows alone to rows in a batch."""
    model, seen = learned(VP(), "v", 2, net=Wavy(2, seed=4)), []
    seeing = lambda net, arguments: seen.append(arguments[0].dtype)
    model.net.register_forward_pre_hook(seeing)
    x = torch.randn(12, 2, dtype=F64, generator=Generator().manual_seed(0))
    tol = likelihood.SINGLE_FROM
    single = log_prob(model, x, tol=tol, errors=False).value
    alone = torch.cat([log_prob(model, row[None], tol=tol, errors=False).value for row in x])
    assert set(seen) == {torch.float32}
    assert single.dtype == F64
    log_prob(model, x, tol=0.999 * tol, errors=False)
    assert seen[-1] == F64
    monkeypatch.setattr(likelihood, "SINGLE_FROM", math.inf)
    double = log_prob(model, x, tol=tol, errors=False).value
    assert 0 < float((single - double).abs().max()) < tol / 100
    assert float((single - alone).abs().max()) < tol / 100


@pytest.mark.slow
def test_more_probes_shrink_the_error_and_many_dimensions_use_them():
    d = likelihood.EXACT_UP_TO + 1
    model = learned(VP(), "v", d, net=Wavy(d, seed=1))
    x = torch.randn(6, d, dtype=F64, generator=Generator().manual_seed(0))
    usual = log_prob(model, x, generator=Generator().manual_seed(0))
    many = log_prob(model, x, probes=16 * likelihood.PROBES, generator=Generator().manual_seed(0))
    assert (usual.stderr > 0).all()
    assert float((usual.stderr / many.stderr).mean()) == pytest.approx(4, rel=0.25)
    at_edge = learned(VP(), "v", likelihood.EXACT_UP_TO, net=Wavy(likelihood.EXACT_UP_TO, seed=1))
    assert (log_prob(at_edge, x[:2, :-1]).stderr == 0).all()


@pytest.mark.slow
def test_the_same_generator_gives_the_same_probes():
    model = learned(VP(), "v", 3)
    x = torch.randn(4, 3, dtype=F64, generator=Generator().manual_seed(0))
    draw = lambda seed: log_prob(model, x, probes=3, generator=Generator().manual_seed(seed)).value
    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("process", "predicts"),
    [(VP(), "v"), (VE(), "v"), (Straight(), "v"), (Straight(), "velocity")],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_density_of_any_network_integrates_to_one(process, predicts):
    """Any network gives a density: change of variables holds for the model, not only for the truth. 1-D, to 1e-3."""
    model = learned(process, predicts, 1, net=Smooth())
    x = torch.linspace(-20, 20, 401, dtype=F64)[:, None]
    found = log_prob(model, x, tol=1e-5).value
    assert float(found.exp().sum() * 40 / 400) == pytest.approx(1, abs=1e-3)


class Smooth(torch.nn.Module):
    """A tame non-linear network for one dimension."""

    def forward(self, z: torch.Tensor, log_ratio: torch.Tensor) -> torch.Tensor:
        return 0.2 * torch.sin(1.5 * z + 0.3) * torch.sigmoid(-log_ratio)[:, None]


def test_agrees_with_an_independent_change_of_variables():
    """NumPy and SciPy, no torch: 1-D mixture under VP, the flow in t instead of log s/a, from an explicit t_min."""
    weights, means, stds = np.array([0.3, 0.7]), np.array([-1.0, 0.8]), np.array([0.4, 0.25])
    from scipy.integrate import solve_ivp

    big_b = lambda t: 0.1 * t + 19.9 * t**2 / 2
    beta = lambda t: 0.1 + 19.9 * t

    def score_and_slope(x: float, t: float) -> tuple[float, float]:
        a = math.exp(-big_b(t) / 2)
        var = a**2 * stds**2 - math.expm1(-big_b(t))
        resid = x - a * means
        logs = np.log(weights) - resid**2 / (2 * var) - np.log(var) / 2
        r = np.exp(logs - logs.max())
        r /= r.sum()
        s = -(r * resid / var).sum()
        return s, -(r / var).sum() + (r * (resid / var) ** 2).sum() - s**2

    def field(t: float, y: np.ndarray) -> list[float]:
        s, ds = score_and_slope(y[0], t)
        return [-0.5 * beta(t) * (y[0] + s), -0.5 * beta(t) * (1 + ds)]

    density = GaussianMixture(f64(*weights), f64(*means)[:, None], f64(*stds**2)[:, None, None])
    points = [-1.7, -0.6, 0.0, 0.9, 1.6]
    found = log_prob(ExactDenoiser(density, VP()), f64(*points)[:, None], tol=1e-8).value
    a1 = math.exp(-big_b(1.0) / 2)
    mean, second = (weights * means).sum(), (weights * (means**2 + stds**2)).sum()
    end = stats.norm(a1 * mean, math.sqrt(a1**2 * (second - mean**2) - math.expm1(-big_b(1.0))))
    for x, ours in zip(points, found, strict=True):
        solved = solve_ivp(field, (0.0, 1.0), [x, 0.0], rtol=1e-11, atol=1e-12, method="DOP853")
        assert solved.success
        theirs = end.logpdf(solved.y[0, -1]) + solved.y[1, -1]
        assert float(ours) == pytest.approx(theirs, abs=1e-6)


def test_no_rows_and_too_few_probes():
    model = learned(VP(), "v", 2)
    assert log_prob(model, torch.zeros(0, 2, dtype=F64)).value.shape == (0,)
    assert log_prob(model, torch.zeros(0, 2, dtype=F64)).solver_error.shape == (0,)
    assert log_prob(model, torch.zeros(1, 2, dtype=F64), errors=False).solver_error is None
    for count, sketch in ((None, 1), (2, 2), (2, -1)):
        with pytest.raises(ValueError, match=f"a sketch needs probes, and fewer .* the 2 dimensions; got {sketch}"):
            log_prob(model, torch.zeros(1, 2, dtype=F64), probes=count, sketch=sketch)
    with pytest.raises(ValueError, match="at least 2 probes; got 1"):
        log_prob(model, torch.zeros(3, 2, dtype=F64), probes=1)


@pytest.mark.parametrize("ratio_min", [0.0, -1.0, 1e9])
def test_a_smallest_ratio_outside_the_process_is_named(ratio_min):
    with pytest.raises(ValueError, match="smallest noise ratio must lie between 0 and"):
        log_prob(learned(VP(), "v", 1), torch.zeros(1, 1, dtype=F64), ratio_min=ratio_min)


def test_a_model_that_is_not_finite_is_an_error_that_names_the_row():
    class Bad(torch.nn.Module):
        def forward(self, z: torch.Tensor, log_ratio: torch.Tensor) -> torch.Tensor:
            return torch.where(z.abs() > 2.5, math.nan, 0 * z)

    with pytest.raises(RuntimeError, match="row 1"):
        log_prob(learned(VP(), "v", 1, net=Bad()), f64([0.0], [3.0], [0.5]))


class Counted(ExactDenoiser):
    """Counts how often it is asked."""

    def decompose(self, *given):
        self.calls += 1
        return super().decompose(*given)

    def noise_and_divergence(self, *given):
        self.calls += 1
        return super().noise_and_divergence(*given)


@pytest.mark.parametrize("errors", [False, True])
def test_stated_evaluations_of_a_row_are_those_made(errors):
    """One row is asked for as often as it says, with the errors' own solution or without."""
    model = Counted(DENSITIES["mixture-2d"], VP())
    model.calls = 0
    found = log_prob(model, f64([0.3, -0.2]), errors=errors)
    assert found.evaluations.tolist() == [model.calls]
    assert model.calls > 20
