"""Laws of the flow as a map: exact for Gaussians, its own inverse, latents with the law of the prior, ways between points."""

import math

import pytest
import torch
from cases import DENSITIES, F64, covering, f64, z_limit
from scipy import stats
from torch import Generator

from scorefield.diffusion.denoisers import ExactDenoiser
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.process import RATIO_MIN
from scorefield.diffusion.published import VP
from scorefield.inference import probability_flow
from scorefield.selftest.numbers.affine import USUAL

each_process = pytest.mark.parametrize("process", USUAL.values(), ids=USUAL)


@pytest.mark.slow
@covering(2, process=USUAL, name=["gauss-3d", "mixture-2d", "mixture-1d", "kde-5d"])
def test_decoding_undoes_encoding(process, name):
    """Round trips of data and of latents within 1e-5, in units of the data and of the prior."""
    density = DENSITIES[name]
    model = ExactDenoiser(density, process)
    x = density.sample(40, Generator().manual_seed(0))
    assert float((probability_flow.decode(model, probability_flow.encode(model, x)) - x).abs().max()) < 1e-5
    latents = model.prior().sample(40, Generator().manual_seed(1))
    back = probability_flow.encode(model, probability_flow.decode(model, latents))
    assert float((back - latents).abs().max()) < 1e-5 * float(model.prior().covariance.amax().sqrt())


@pytest.mark.parametrize("std", [1e-3, 1e-2])
def test_decoding_undoes_encoding_for_data_as_narrow_as_the_smallest_noise(std):
    """Round trips within 1e-6 of data of std 1 and 10 times ratio_min: the first step must be undone by iteration."""
    density = GaussianMixture.isotropic(f64(1.0, 2.0), f64([0.0, 0.3], [0.4, 1.0]), std)
    model, x = ExactDenoiser(density, VP()), density.sample(20, Generator().manual_seed(0))
    assert float((probability_flow.decode(model, probability_flow.encode(model, x)) - x).abs().max()) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("std", [1e-3, 2e-3])
def test_what_is_left_of_the_first_step_is_what_five_iterations_leave(std):
    """x = y - q x is iterated from y, for a Gaussian with q = 1 / (2 + 2 (std / ratio_min)^2): -q^6 x is left."""
    model = ExactDenoiser(GaussianMixture.isotropic(f64(1.0), f64([0.0]), std), VP())
    x = std * f64([-2.0], [-0.5], [1.0], [3.0])
    left = probability_flow.decode(model, probability_flow.encode(model, x, tol=1e-12), tol=1e-12) - x
    q = 1 / (2 + 2 * (std / RATIO_MIN) ** 2)
    assert torch.allclose(left, -(q**6) * x, rtol=0.01, atol=0)


@pytest.mark.slow
@each_process
def test_a_gaussian_is_encoded_by_its_affine_map(process):
    """latent = a m + sqrt(a^2 std^2 + s^2) / std (x - m), column by column."""
    mean, std = f64(1.0, -2.0, 0.3), f64(0.05, 1.0, 7.0)
    model = ExactDenoiser(GaussianMixture.gaussian(mean, std.square().diag()), process)
    x = mean + std * torch.randn(20, 3, dtype=F64, generator=Generator().manual_seed(0))
    t = torch.tensor(process.t_max, dtype=F64)
    a, s = process.mean_coef(t), process.std(t)
    spread = torch.hypot(a * std, s)
    assert float(((probability_flow.encode(model, x) - a * mean) / spread - (x - mean) / std).abs().max()) < 1e-5


@pytest.mark.slow
def test_latents_of_data_have_the_law_of_the_prior():
    """Each whitened column is normal by Kolmogorov's test and the columns are uncorrelated, 20,000 rows; 1e-6 in all."""
    density, n = DENSITIES["mixture-2d"], 20_000
    model = ExactDenoiser(density, VP())
    latents = probability_flow.encode(model, density.sample(n, Generator().manual_seed(0)), tol=1e-5)
    root = torch.linalg.cholesky(model.prior().covariance)
    w = torch.linalg.solve_triangular(root, (latents - model.prior().mean).T, upper=False)
    for column in w:
        assert stats.kstest(column.numpy(), "norm").pvalue > 1e-6 / 3
    assert abs(float(torch.corrcoef(w)[0, 1])) < z_limit(3) / math.sqrt(n)


@pytest.mark.slow
def test_the_way_between_two_points_is_a_great_circle_of_latents():
    """Ends are the points; on a standard Gaussian the middle of two orthogonal points of lengths 1 and 3 has length 2."""
    model = ExactDenoiser(DENSITIES["mixture-2d"], VP())
    x, y = DENSITIES["mixture-2d"].sample(10, Generator().manual_seed(0)).split(5)
    way = probability_flow.interpolate(model, x, y, [0.0, 0.5, 1.0])
    assert float((way[0] - x).abs().max()) < 1e-5
    assert float((way[2] - y).abs().max()) < 1e-5
    assert not torch.allclose(way[1], (x + y) / 2, atol=0.05)
    normal = ExactDenoiser(GaussianMixture.gaussian(f64(0.0, 0.0), torch.eye(2, dtype=F64)), VP())
    way = probability_flow.interpolate(normal, f64([1.0, 0.0]), f64([0.0, 3.0]), [1 / 3, 0.5])
    assert torch.allclose(way[1, 0], f64(2.0, 2.0) / 2**0.5, atol=1e-5)
    assert torch.allclose(way[0, 0], 5 / 3 * f64(math.cos(math.pi / 6), math.sin(math.pi / 6)), atol=1e-5)


def test_the_way_from_a_point_to_itself_stays_there():
    model = ExactDenoiser(DENSITIES["mixture-2d"], VP())
    x = DENSITIES["mixture-2d"].sample(3, Generator().manual_seed(0))
    assert float((probability_flow.interpolate(model, x, x, [0.3]) - x).abs().max()) < 1e-5


@pytest.mark.slow
def test_the_way_between_opposite_points_leads_through_the_mean():
    """On a line, and from the mean itself, where no circle is: finite, monotone, from end to end."""
    model = ExactDenoiser(GaussianMixture.gaussian(f64(0.5), f64([4.0])), VP())
    way = probability_flow.interpolate(model, f64([-1.5]), f64([4.5]), [0.0, 0.25, 0.5, 0.75, 1.0])[:, 0, 0]
    expected = [0.5 + 2 * math.cos(k * math.pi) * -((1 - k) + 2 * k) for k in (0, 0.25, 0.5, 0.75, 1)]
    assert way.tolist() == pytest.approx(expected, abs=1e-4)
    start = probability_flow.interpolate(model, f64([0.5]), f64([4.5]), [0.0, 0.5, 1.0])[:, 0, 0]
    assert start[0] == pytest.approx(0.5, abs=1e-5)
    assert 0.5 < float(start[1]) < 4.5


def test_images_are_encoded_in_their_own_shape():
    """Any event shape goes through, with a denoiser that knows it: point data come from any latent."""

    class Point(ExactDenoiser):
        def decompose(self, x, t):
            a, s = self.process.kernel(t, x)
            return torch.ones_like(x), (x - a) / s

    model = Point(DENSITIES["gauss-1d"], VP())
    found = probability_flow.decode(model, torch.randn(3, 1, 2, 2, dtype=F64, generator=Generator().manual_seed(0)))
    assert found.shape == (3, 1, 2, 2)
    assert float((found - 1).abs().max()) < 0.01
