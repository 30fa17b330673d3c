"""Gallery 002: floors, moments and ends that are known without training, and a reduced run."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from commands import refused
from PIL import Image
from torch import nn

from scorefield.diffusion.denoisers import ExactDenoiser
from scorefield.diffusion.densities import GaussianMixture
from scorefield.gallery import ENTRIES, Entry, report
from scorefield.gallery.networks import dense
from scorefield.gallery.swiss_roll import langevin, training
from scorefield.gallery.swiss_roll import tutorial as swiss_roll
from scorefield.gallery.swiss_roll.training import DENSITY, FLOOR, PROCESS, Potential, TutorialModel
from scorefield.inference.likelihood import log_prob
from scorefield.kinds.tables.estimator import ScoreDensity
from scorefield.numerics.tensors import spawn

F64 = torch.float64
EXACT = ExactDenoiser(DENSITY, PROCESS)


@pytest.fixture(scope="module")
def reduced(tmp_path_factory) -> tuple:
    """The entry at reduced size: its folder and its results."""
    out = tmp_path_factory.mktemp("gallery")
    return out, ENTRIES["002-swiss-roll"].run(out, quick=True)


def exact_score(xt):
    return EXACT.score(xt[:, :2], xt[:, 2])


class Zero(nn.Module):
    def forward(self, xt):
        return 0 * xt[:, :2]


class LogDensity(nn.Module):
    """A network with one output that is exact, in float32 as a trained one."""

    def forward(self, xt):
        x, t = xt[:, :2].double(), xt[:, 2].double()
        return DENSITY.log_prob(x, PROCESS.mean_coef(t), PROCESS.std(t)).float()[:, None]


def count(net):
    return sum(p.numel() for p in net.parameters())


def test_the_networks_have_the_published_numbers_of_parameters(generator):
    log_sigmoid = [nn.LogSigmoid()] * 3
    assert count(training.network(generator)) == 8706
    assert count(dense(2, *training.HIDDEN, 2, activations=log_sigmoid, generator=generator)) == 8642
    assert count(Potential(dense(3, *training.HIDDEN, 1, activations=log_sigmoid, generator=generator))) == 8641


def test_the_process_has_the_published_kernel():
    t = torch.tensor([0.1, 0.25, 0.5, 0.75, 1.0], dtype=F64)
    np.testing.assert_allclose(PROCESS.mean_coef(t), [0.9467, 0.7237, 0.2812, 0.0587, 0.00657], atol=6e-5)
    np.testing.assert_allclose(PROCESS.std(t), [0.3221, 0.6902, 0.9597, 0.9983, 0.99998], atol=6e-5)


def test_the_loss_of_the_true_score_is_the_floor_and_of_zero_one(generator):
    """40,000 rows, 5 standard errors of the mean of z^2: false-alarm rate 6e-7 each, less for the smaller loss."""
    x = training.fresh(40_000, 0)
    error = 5 * math.sqrt(2 / x.numel())
    assert float(training.loss(exact_score, x, generator)) == pytest.approx(FLOOR, abs=error)
    assert float(training.loss(Zero(), x, generator)) == pytest.approx(1, abs=error)


@pytest.mark.slow
def test_the_floor_by_quadrature():
    """Gauss's rule over sqrt(t), 24 nodes, and the trapezoidal rule over a square of side 12, cells of 0.1."""
    node, weight = np.polynomial.legendre.leggauss(24)
    low = math.sqrt(training.T_MIN)
    root = low + (1 - low) * (node + 1) / 2
    weights = weight * (1 - low) * root / (1 - training.T_MIN)
    axis = torch.linspace(-6, 6, 121, dtype=F64)
    x = torch.cartesian_prod(axis, axis)
    squares = [
        float((DENSITY.log_prob(x, *PROCESS.kernel(t, x)).exp() * EXACT.predict(x, t).square().sum(1)).sum()) / 100
        for t in torch.from_numpy(root**2)
    ]
    assert 1 - float(weights @ squares) / 2 == pytest.approx(FLOOR, abs=2e-6)


def test_the_loss_above_the_floor_is_zero_for_the_true_score_and_the_rest_for_none():
    """For a zero network it is E noise^2 / 2 = 1 - floor: 20,000 rows, tolerance 5 standard errors of z^2's mean."""
    assert training.excess(EXACT, 1_000, 0) == 0
    nothing = TutorialModel(Zero(), training.points(0).double())
    assert training.excess(nothing, 20_000, 0) == pytest.approx(1 - FLOOR, abs=5 * math.sqrt(2 / 40_000))


def test_a_score_that_knows_its_one_point_has_no_loss():
    """What is left is 1 - mean z^2; 20,000 draws of two columns, 5 standard errors: false-alarm rate 6e-7."""
    assert training.memorised(torch.tensor([[0.3, -0.2]]), 20_000, 0) == pytest.approx(0, abs=5 * math.sqrt(2 / 40_000))


def test_a_step_of_the_sampler_is_the_published_one(generator):
    """x + (-beta x / 2 - beta score) dt + sqrt(beta |dt|) z with dt = -1/999, the first of 999."""
    net = training.network(generator).double()
    model = TutorialModel(net, training.points(0).double())
    with torch.no_grad():
        path = swiss_roll.reverse(model, 5, seed=3)
        x, dt, beta = path[0], -1 / 999, 20.0
        score = net(torch.cat([x, torch.ones_like(x[:, :1])], 1))
        z = torch.randn(x.shape, generator=spawn(3, "reverse"), dtype=F64)
        by_hand = x + (-beta * x / 2 - beta * score) * dt + math.sqrt(beta / 999) * z
    torch.testing.assert_close(path[1], by_hand)
    assert len(path) == 1000
    assert len(swiss_roll.TIMES) == 1000


@pytest.mark.slow
def test_the_last_step_leaves_noise_that_denoising_takes_out():
    """A point mass, exact scores: sqrt(beta(1/999) / 999) = 0.01096 stays, up to the tenth of s(1/999) that the step
    does not take out. 2,000 columns, 5 standard errors: false-alarm rate 6e-7."""
    place = torch.tensor([0.7, -0.4], dtype=F64)
    model = ExactDenoiser(GaussianMixture.isotropic(torch.ones(1, dtype=F64), place[None], 0.0), PROCESS)
    path = swiss_roll.reverse(model, 1_000, seed=0)
    left = math.sqrt((0.1 + 19.9 / 999) / 999)
    assert left == pytest.approx(0.01096, abs=5e-6)
    std = float((path[-1] - place).square().mean().sqrt())
    assert std == pytest.approx(left, rel=0.01 + 5 / math.sqrt(4_000))
    torch.testing.assert_close(swiss_roll.denoised(model, path), place.expand(1_000, 2))


def test_denoising_starts_before_the_last_step():
    """N(m, c^2): the mean of the clean points is m + a c^2 / (a^2 c^2 + s^2) (x - a m), at t = 1/999 and x there."""
    model = ExactDenoiser(langevin.TARGET, PROCESS)
    path = swiss_roll.reverse(model, 50, seed=0)
    big_b = 0.1 / 999 + 9.95 / 999**2
    a, variance = math.exp(-big_b / 2), -math.expm1(-big_b)
    expected = 0.3 + a * 0.04 / (a**2 * 0.04 + variance) * (path[998] - a * 0.3)
    torch.testing.assert_close(swiss_roll.denoised(model, path), expected)


def test_simulated_points_have_the_closed_moments():
    """1,000 points at 5 times, mean and variance of 2 columns, 5 standard errors: false-alarm rate 2e-5; 1 % more for the
    step of the method. Fourth moments are below those of a Gaussian."""
    found = swiss_roll.simulated([swiss_roll.forward(1_000, seed) for seed in range(3)])
    assert len(found) == 20
    for name, row in found.items():
        error = 5 / math.sqrt(3_000) * (math.sqrt(2) if "variance" in name else 1.0)
        assert (row["low"] + row["median"] + row["high"]) / 3 == pytest.approx(row["floor"], abs=error + 0.01)


def test_the_spiral_and_the_distance_from_it():
    """Off by 0.01 along the normal, the distance is 0.01; the point masses of the density lie on it."""
    assert float(training.off_curve(DENSITY.means).max()) < 1e-3
    t = torch.linspace(6, 12, 50, dtype=F64)
    curve = torch.stack([t * t.cos(), t * t.sin()], 1) / 10
    tangent = torch.stack([t.cos() - t * t.sin(), t.sin() + t * t.cos()], 1)
    normal = tangent.flip(1) * torch.tensor([1.0, -1.0], dtype=F64) / tangent.norm(dim=1, keepdim=True)
    torch.testing.assert_close(
        training.off_curve(curve + 0.01 * normal), torch.full((50,), 0.01, dtype=F64), atol=1e-4, rtol=0
    )


def test_a_network_with_one_output_answers_with_its_gradient(generator):
    """Central differences: error of order h^2."""
    net = Potential(langevin.evolving(generator)).double()
    xt, h = torch.randn(7, 3, generator=generator, dtype=F64), 1e-5
    for column in range(2):
        step = h * torch.eye(3, dtype=F64)[column]
        slope = (net.net(xt + step) - net.net(xt - step))[:, 0] / (2 * h)
        torch.testing.assert_close(net(xt)[:, column], slope, atol=1e-9, rtol=1e-7)


def test_the_density_of_an_exact_output_is_exact():
    """float32 output: 1e-5; at another time it is another density."""
    net = Potential(LogDensity())
    assert training.potential_error(net, DENSITY, 0.3, 4.0) < 1e-5
    other = DENSITY.noised(1.0, 0.3)
    assert training.potential_error(net, other, 0.3, 4.0) > 0.01


@pytest.mark.slow
def test_the_gap_of_the_true_density_is_zero():
    """Through the flow with exact scores; 60 points, the flow's own tolerance of 1e-4 a step and the prior's error."""
    found = training.gap(lambda x: log_prob(EXACT, x, tol=1e-4, ratio_min=swiss_roll.RATIO_MIN).value, 60, 0)
    assert found.value == pytest.approx(0, abs=2e-3)
    assert training.gap(lambda x: DENSITY.log_prob(x) - 0.25, 60, 0).value == pytest.approx(0.25)


@pytest.mark.slow
def test_the_default_is_its_base_in_closed_form():
    """log q of the base is that of the flow: 20 points, the flow's tolerance of 1e-4 a step."""
    estimator = ScoreDensity(max_iter=1, random_state=0).fit(training.points(0)[::4].numpy())
    x = training.fresh(20, 0)
    found = torch.from_numpy(estimator.score_samples(x.numpy()))
    torch.testing.assert_close(swiss_roll.default_density(estimator, x), found, atol=2e-3, rtol=0)


def test_exact_chains_end_with_the_moments_of_a_linear_recursion():
    """1,000 chains of 2 columns, 5 standard errors, kurtosis at most 3: false-alarm rate 1e-6."""
    mean, variance = langevin.exact_end()
    end = langevin.chains(langevin.TARGET.score, seed=0)[-1]
    assert len(langevin.chains(langevin.TARGET.score, seed=0)) == 101
    assert float(end.mean()) == pytest.approx(mean, abs=5 * math.sqrt(variance / 2_000))
    assert float(end.var(0).mean()) == pytest.approx(variance, rel=5 * math.sqrt(2 / 2_000))
    x_mean, x_variance = 0.0, 1 / 3  # the recursion, step by step
    for _ in range(100):
        x_mean, x_variance = x_mean + 0.001 * (0.3 - x_mean) / 0.04, (1 - 0.025) ** 2 * x_variance + 0.002
    assert (mean, variance) == pytest.approx((x_mean, x_variance), rel=1e-12)


def test_a_seed_gives_the_same_training_again_and_every_row_once_an_epoch():
    first, again, other = (swiss_roll.learn(seed, 8).losses for seed in (0, 0, 1))
    assert first == again
    assert first != other
    data = torch.arange(1000.0)[:, None]
    epoch = torch.cat(list(itertools.islice(training.epochs(data, 256, spawn(0, "batches")), 4)))
    assert sorted(epoch[:, 0].tolist()) == data[:, 0].tolist()


@pytest.mark.slow
def test_a_reduced_run_writes_every_figure(reduced):
    out, results = reduced
    files = {folder: {p.name for p in (out / folder).iterdir()} for folder in ("as-published", "corrected")}
    films = {"sampling.gif", "evolution.gif", "langevin.gif"}
    assert files["as-published"] == {"forward.png", "samples.png", "loss.png", *films}
    assert files["corrected"] == {"formulas.png", "last-step.png", "samples.png", "densities.png", "langevin.png"}
    for name in films:
        with Image.open(out / "as-published" / name) as film:
            assert film.n_frames == (1 if name == "langevin.gif" else 2)
    assert len(swiss_roll.SHOWN) == 29 + 40 + 10
    assert json.loads(json.dumps(results)) == results


@pytest.mark.slow
def test_a_reduced_run_finds_what_it_should(reduced):
    """Thresholds are far from what was measured, with fixed seeds; standard errors of the distances are about 0.001."""
    _, found = reduced
    first = found["loss of epoch 0"]
    assert (first["published"], first["floor"], first["zero"]) == (1.0375, FLOOR, 1.0)
    assert 0.95 < first["median"] < 1.3  # a network that answers almost zero
    left, none = (
        found[f"spiral without noise, {name}: RMS distance from it"]["median"]
        for name in ("noise in the last step", "last step denoises")
    )
    assert left == pytest.approx(0.011, rel=5 / math.sqrt(2 * 200))
    assert none < 0.001
    assert found["ScoreDensity: log p - log q, nats"]["median"] < 0.1
    assert abs(found["ScoreDensity: energy distance"]["median"]) < 0.008
    assert found["tutorial's network: log p - log q, nats"]["median"] > 0.5  # after 400 steps
    assert found["tutorial's network: energy distance"]["median"] > 0.015
    gaussian = lambda what: found[f"one Gaussian, Langevin, {what}: share within 4 standard deviations"]["median"]
    assert gaussian("Implicit loss") < 0.9
    assert min(gaussian("Exact score"), gaussian("ScoreDensity")) > 0.99


@pytest.mark.slow
def test_tutorial_and_ours_after_as_many_steps():
    """1,000 steps each of the same points: ours is closer to the truth, seed 0, by far more than standard errors."""
    tutorial = swiss_roll.learn(0, 1_000).model
    ours = swiss_roll.alone(training.points(0), 1_000, 0)
    gaps = [training.gap(lambda x, m=m: swiss_roll.flow_density(m, x), 1_000, 0) for m in (tutorial, ours)]
    assert gaps[1].value + 5 * (gaps[0].stderr + gaps[1].stderr) < gaps[0].value


def test_the_command_passes_full_only_to_entries_that_have_it(run_main, tmp_path, monkeypatch):
    short = Entry("short", lambda out, *, seeds: report.row("a", None, [float(seeds)]))
    long = Entry("long", lambda out, *, seeds, full=False: report.row("a", None, [float(seeds), float(full)]))
    monkeypatch.setitem(ENTRIES, "short", short)
    monkeypatch.setitem(ENTRIES, "long", long)
    refused(run_main("gallery", "run", "short", "--out", tmp_path / "a", "--full"), "--full", "got 'short'")
    assert not (tmp_path / "a").exists()
    for options, full in ([], 0.0), (["--full"], 1.0):
        folder = tmp_path / f"long-{full}"
        assert run_main("gallery", "run", "long", "--out", folder, "--seeds", 3, *options)[0] == 0
        assert json.loads((folder / "results.json").read_text()) == report.row("a", None, [3.0, full])
    with pytest.raises(ValueError, match="either a quick run or a full one; got both"):
        swiss_roll.run(tmp_path / "b", quick=True, full=True)
