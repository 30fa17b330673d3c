"""The laws of score matching on a plain field: Hyvarinen's identity, exact minimisers, orders of differences, energies."""

import pytest
import torch
from cases import DENSITIES, F64, f64, z_limit
from torch import Generator
from torch.testing import assert_close

from scorefield.diffusion.densities import GaussianMixture
from scorefield.numerics.divergence import along, derivatives
from scorefield.selftest.numbers.quadrature import EXACT, as_field, field_of, grid_of_pairs, over_signs
from scorefield.training.objectives import losses
from scorefield.training.objectives.losses import denoising_energy, explicit, implicit, sliced, sliced_energy

each_exact = pytest.mark.parametrize("form", list(EXACT))


# ------------------------------------------------------------------------------------------ Hyvarinen's identity


@each_exact
def test_hyvarinens_identity_by_monte_carlo(form):
    """In three dimensions, 1e5 draws: a z-test of the paired difference, false alarm 1e-6."""
    density, n = DENSITIES["mixture-3d"], 100_000
    x = density.sample(n, Generator().manual_seed(0))
    field = as_field(field_of(3, seed=2).requires_grad_(False))
    generator = Generator().manual_seed(1)
    options = {} if form == "implicit" else {"generator": generator}
    options |= {"probes": 1} if form == "hutchinson" else {}
    loss = (sliced if form == "sliced" else implicit)(field, x, **options)
    difference = loss - explicit(field, x, density.score) + density.score(x).square().sum(1) / 2
    assert abs(float(difference.mean() / difference.std())) * n**0.5 < z_limit(3)


def test_the_true_score_is_where_explicit_vanishes():
    density = DENSITIES["mixture-2d"]
    x = density.sample(50, Generator().manual_seed(0))
    assert float(explicit(density.score, x, density.score).max()) == 0
    assert_close(explicit(lambda x: 0 * x, x, density.score), density.score(x).square().sum(1) / 2)


def test_parzen_is_minimised_by_the_score_of_the_kernel_density():
    """Explicit score matching against a KDE: zero at its score, positive beside it."""
    density = DENSITIES["kde-2d"]
    x = density.sample(200, Generator().manual_seed(0))
    bent = explicit(lambda x: density.score(x) + 0.1 * x.sin(), x, density.score)
    assert_close(bent, 0.005 * x.sin().square().sum(1), rtol=1e-10, atol=0)


# ----------------------------------------------------------------------------------------------- exact minimisers


def affine_minimiser(loss, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The matrix A and shift b at which loss(x -> A x + b), quadratic in them, is smallest: one Newton step."""
    size = dim * dim + dim

    def at(theta: torch.Tensor) -> torch.Tensor:
        return loss(lambda x: x @ theta[: dim * dim].reshape(dim, dim).mT + theta[dim * dim :])

    start = torch.linspace(-0.4, 0.3, size, dtype=F64)
    gradient = torch.autograd.functional.jacobian(at, start)
    hessian = torch.autograd.functional.hessian(at, start)
    assert float(torch.linalg.eigvalsh(hessian).min()) > 0
    found = start - torch.linalg.solve(hessian, gradient)
    return found[: dim * dim].reshape(dim, dim), found[dim * dim :]


def gaussian_quadrature(density: GaussianMixture) -> torch.Tensor:
    """Points of equal weight with the first two moments of a Gaussian: all that a quadratic loss sees."""
    root = torch.linalg.cholesky(density.covariance) * density.dim**0.5
    return torch.cat([density.mean + root.mT, density.mean - root.mT])


@pytest.mark.parametrize("form", [*EXACT, "finite-difference", "fd-sliced"])
def test_the_minimiser_for_gaussian_data_is_its_score(form):
    density = DENSITIES["gauss-2d"]
    x = gaussian_quadrature(density)
    forms = EXACT | {
        "finite-difference": lambda field, x: implicit(field, x, step=0.1),
        "fd-sliced": lambda field, x: sliced(field, x, step=0.1),
    }
    loss = lambda field: over_signs(2, lambda: forms[form](field, x).mean())
    matrix, shift = affine_minimiser(loss, 2)
    assert_close(matrix, -density.covariance.inverse(), rtol=1e-8, atol=1e-8)
    assert_close(shift, density.covariance.inverse() @ density.mean, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("curvature", [0.03, 0.5])
def test_the_curvature_regulariser_biases_the_minimiser_as_said(curvature):
    """N(m, c^2): the slope is -1 / (c^2 + 2 curvature); in two dimensions A C + 2 curvature diag A = -I."""
    density = DENSITIES["gauss-1d"]
    x = gaussian_quadrature(density)
    matrix, shift = affine_minimiser(lambda field: implicit(field, x, curvature=curvature).mean(), 1)
    slope = -1 / (density.covariance[0, 0] + 2 * curvature)
    assert_close(matrix[0, 0], slope, rtol=1e-9, atol=0)
    assert_close(shift, -slope * density.mean, rtol=1e-9, atol=0)
    density = DENSITIES["gauss-2d"]
    x = gaussian_quadrature(density)
    matrix, _ = affine_minimiser(lambda field: implicit(field, x, curvature=curvature).mean(), 2)
    balance = matrix @ density.covariance + 2 * curvature * matrix.diagonal().diag()
    assert_close(balance, -torch.eye(2, dtype=F64), rtol=0, atol=1e-9)


# ------------------------------------------------------------------------------------------- finite differences


def energy_of(seed: int):
    """A smooth random number field in two dimensions and its gradient."""
    net = field_of(2, seed)
    value = lambda x: (as_field(net)(x) * f64(0.7, -0.4)).sum(1) - x.square().sum(1) / 3
    return value, torch.func.grad(lambda x: value(x).sum())


DIFFERENCES = {
    "axes": lambda field, value, x, step: implicit(field, x, step=step),
    "directions": lambda field, value, x, step: implicit(field, x, probes=2, step=step, generator=drawn()),
    "sliced": lambda field, value, x, step: sliced(field, x, step=step, generator=drawn()),
    "energy": lambda field, value, x, step: sliced_energy(value, x, step=step, generator=drawn()),
    "energy-denoising": lambda field, value, x, step: denoising_energy(value, x, -x, step=step, generator=drawn()),
}
LIMITS = {
    "axes": lambda field, x: implicit(field, x),
    "directions": lambda field, x: implicit(field, x, probes=2, generator=drawn()),
    "sliced": lambda field, x: sliced(field, x, generator=drawn()),
    "energy": lambda field, x: sliced(field, x, generator=drawn()),
    "energy-denoising": lambda field, x: ((field(x) + x) * losses.signs_like(x, drawn())).sum(1).square() / 2,
}


def drawn() -> Generator:
    return Generator().manual_seed(9)


@pytest.mark.slow
@pytest.mark.parametrize("form", list(DIFFERENCES))
def test_the_error_of_finite_differences_falls_by_four_when_the_step_halves(form):
    """For 20 random smooth networks the ratio of mean errors is 4 +- 0.1; their sum keeps a sign by chance only."""
    x = torch.randn(400, 2, dtype=F64, generator=Generator().manual_seed(5))
    for seed in range(20):
        value, field = energy_of(seed)
        truth = LIMITS[form](field, x).detach()
        errors = [(DIFFERENCES[form](field, value, x, step).detach() - truth).norm() for step in (0.02, 0.01)]
        assert 3.9 < float(errors[0] / errors[1]) < 4.1


def test_for_a_relu_network_only_kinks_within_the_step_count():
    """Each kink at distance u < h changes the slope seen by jump (h - u) / 2h, at most half of its jump."""
    generator = Generator().manual_seed(3)
    inner, bias, outer = (torch.randn(8, dtype=F64, generator=generator) for _ in range(3))
    field = lambda x: (x * inner + bias).relu() @ outer[:, None]
    kinks, jumps, step = -bias / inner, outer * inner.abs(), 0.05
    x = torch.linspace(-4, 4, 2001, dtype=F64)[:, None]
    v = torch.ones_like(x)
    excess = along(field, x, v, step)[1] - along(field, x, v)[1]
    offset = kinks - x
    share = (step - offset.abs()).clamp(min=0) / (2 * step)
    assert_close(excess, (offset.sign() * jumps * share).sum(1), rtol=0, atol=1e-10)
    assert bool((excess.abs() <= (jumps.abs() * (share > 0)).sum(1) / 2 + 1e-10).all())
    assert float(excess.abs().max()) > 0.01


# ------------------------------------------------------------------------------------------------- second order


def test_the_second_order_loss_is_smallest_at_the_exact_divergence(monkeypatch):
    """Lu et al., 2022: with the exact noise, another divergence D + e h costs e^2 E h^2 / 2d more, to 1e-9."""
    from scorefield.diffusion.denoisers import ExactDenoiser
    from scorefield.diffusion.published import VP

    density, t = DENSITIES["mixture-1d"], f64(0.3)[0]
    clean, noise, share = grid_of_pairs(density, 120)
    monkeypatch.setattr(losses, "normal_like", lambda x, generator=None: noise)
    model = ExactDenoiser(density, VP())
    values = []
    for size in (0.0, 0.5, -0.5):

        def bent(field, y, directions, step=None, size=size):
            value, terms = derivatives(field, y, directions, step)
            return value, terms + size * y.sin()[:, 0]

        monkeypatch.setattr(losses, "derivatives", bent)
        values.append(share @ losses.second_order(model, clean, t))
    a, s = model.process.kernel(t, clean)
    excess = 0.125 * share @ ((a * clean + s * noise) / s)[:, 0].sin().square()
    assert_close(values[1] - values[0], excess, rtol=1e-6, atol=1e-9)
    assert_close(values[2] - values[0], excess, rtol=1e-6, atol=1e-9)


# ------------------------------------------------------------------------------------------- shapes and gradients

FORMS = DIFFERENCES | {name: lambda field, value, x, step, form=form: form(field, x) for name, form in LIMITS.items()}


@pytest.mark.parametrize("form", list(FORMS))
def test_gradients_are_right_and_each_sample_has_its_own_number(form):
    x = torch.randn(3, 2, dtype=F64, generator=Generator().manual_seed(0)).requires_grad_()
    value, field = energy_of(1)
    loss = lambda x: FORMS[form](field, value, x, 0.05)
    assert torch.autograd.gradcheck(loss, (x,), atol=1e-6)
    assert loss(x).shape == (3,)
    together, other = loss(x).detach(), x.detach().clone()
    other[1] += 1
    assert ((loss(other) - together).abs() > 1e-9).tolist() == [False, True, False]


# ------------------------------------------------------------------------------------------------------ bad input


def test_a_step_that_rounding_swallows_is_refused_with_one_that_works():
    x = 5 * torch.ones(3, 1)
    field = lambda x: -x
    for step in (0.0, -1.0):
        with pytest.raises(ValueError, match="must be positive"):
            implicit(field, x, step=step)
    with pytest.raises(
        ValueError, match=r"1e-06 is lost in the rounding of float32 numbers of size 5; use about 0\.02"
    ):
        implicit(field, x, step=1e-6)
    assert_close(implicit(field, x, step=0.02), implicit(field, x), rtol=1e-4, atol=0)
    implicit(field, x.double(), step=1e-6)
    value = lambda x: -x.square().sum(1) / 2
    with pytest.raises(ValueError, match=r"second difference of step 0\.001 .* float32 .* use about 0\.02"):
        sliced_energy(value, x, step=1e-3, generator=drawn())
    with pytest.raises(ValueError, match="second difference"):
        denoising_energy(value, x, x, step=0.0, generator=drawn())
    with pytest.raises(ValueError, match=r"step 0\.05 .* of size 1e\+04; use about 1,"):  # it grows with the size
        sliced_energy(value, 2_000 * x, step=0.05, generator=drawn())
    assert_close(sliced_energy(value, x, step=0.02, generator=drawn()), implicit(field, x), rtol=0.01, atol=0)


def test_scores_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"shape of the samples, \(3, 1\); got \(3, 1\) and \(3,\)"):
        explicit(lambda x: x, torch.ones(3, 1), lambda x: x[:, 0])


def test_curvature_and_too_few_directions_are_refused():
    x, field = torch.ones(3, 2), lambda x: -x
    with pytest.raises(ValueError, match="leave probes out"):
        implicit(field, x, probes=1, curvature=0.1)
    for loss in (implicit, lambda field, x, probes: sliced(field, x, slices=probes)):
        with pytest.raises(ValueError, match="at least one random direction; got 0"):
            loss(field, x, probes=0)
