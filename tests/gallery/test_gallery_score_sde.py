"""Gallery 000: floors, kernels and prior masses by quadrature; a reduced run, as published and corrected."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import norm

from scorefield.diffusion.denoisers import ExactDenoiser
from scorefield.diffusion.sde import LinearSDE
from scorefield.gallery import line
from scorefield.gallery.score_sde import corrected as score_sde_corrected
from scorefield.gallery.score_sde import linear_sde, rewrite, tutorial
from scorefield.gallery.score_sde.linear_sde import PAGE, PROCESSES, residual, true_kernel
from scorefield.inference.path_integral import total_variation

F64 = torch.float64


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    out = tmp_path_factory.mktemp("gallery")
    return out, tutorial.run(out, quick=True)


def test_the_floors_are_those_of_the_published_losses():
    """Per level and in the mean; a loss printed below the floor is one draw of the noise."""
    np.testing.assert_allclose(tutorial.FLOOR, [0.1027, 0.1532, 0.2088, 0.2497, 0.2504, 0.2102], atol=5e-5)
    assert tutorial.FLOOR.mean() == pytest.approx(0.195826, abs=1e-6)
    assert pytest.approx(0.530780, abs=5e-6) == rewrite.FLOOR


def test_the_floor_is_the_loss_of_the_exact_score(generator):
    """200,000 draws, 5 standard errors: false-alarm rate 6e-7 a level."""
    density, levels = tutorial.TARGET, torch.tensor([0.5, 2.0], dtype=F64)
    x = density.sample(200_000, generator)
    for s, floor in zip(levels, line.noise_floor(density, levels), strict=True):
        z = torch.randn(x.shape, generator=generator, dtype=F64)
        square = (s * density.noised(1.0, s).score(x + s * z) + z).square()
        assert float(square.mean()) == pytest.approx(floor, abs=5 * float(square.std()) / math.sqrt(len(x)))


def test_the_loss_of_a_network_that_answers_zero_is_a_half(generator):
    """1/2 E z^2, with one z a row for all levels; 5 standard errors: false-alarm rate 6e-7."""
    sample, zero = torch.zeros(50_000, 1), lambda x: 0 * x[:, :1]
    value = tutorial.loss(zero, sample, torch.tensor([2.0, 0.5]), generator)
    assert float(value) == pytest.approx(0.5, abs=5 / math.sqrt(2 * len(sample)))


def test_the_networks_have_the_published_numbers_of_parameters(generator):
    count = lambda *sizes: sum(p.numel() for p in line.dense(*sizes, generator=generator).parameters())
    assert (count(2, 64, 1), count(2, 64, 64, 1)) == (257, 4417)


def test_the_levels_and_the_steps_are_the_published_ones():
    published = [2.0, 1.515716566510398, 1.1486983549970349, 0.870550563296124, 0.659753955386447, 0.5]
    np.testing.assert_allclose(tutorial.LEVELS, published, rtol=1e-14)
    assert sum(tutorial.UPDATES) + 1 == 300
    assert pytest.approx(10, abs=0.05) == sum(tutorial.UPDATES) * tutorial.STEP


@pytest.mark.parametrize("name", PROCESSES)
def test_kernels_solve_the_fokker_planck_equation(name):
    """Central differences: what is left falls by 4 when the step halves, so it is the step's and not the kernel's."""
    process = PROCESSES[name]
    errors = [residual(process, true_kernel(process), step) for step in (4e-3, 2e-3, 1e-3)]
    assert errors[0] / errors[1] == pytest.approx(4, abs=0.1)
    assert errors[1] / errors[2] == pytest.approx(4, abs=0.1)


def test_what_the_page_writes_does_not_solve_it():
    vp = PROCESSES["VP"]
    assert residual(vp, true_kernel(vp), 1e-3) < 1e-4
    assert residual(vp, true_kernel(vp), 1e-3, published=True) > 0.1
    for name, page in PAGE.items():
        assert residual(PROCESSES[name], page, 1e-3) > 0.1


@pytest.mark.parametrize(
    ("name", "which", "true", "page"),
    [
        ("VP", 0, [0.7237, 0.2812, 0.0587], [0.9686, 0.7147, 0.1996]),
        ("VP", 1, [0.6902, 0.9597, 0.9983], [0.0619, 0.4892, 0.9602]),
        ("VE", 1, [0.0300, 0.0995, 0.3161], [0.001, 0.01, 0.1]),
    ],
)
def test_the_kernels_of_the_page_differ_as_measured(name, which, true, page):
    """At t = 0.25, 0.5 and 0.75: t^4 for t^2, a variance for a standard deviation, and no - sigma(0)^2."""
    np.testing.assert_allclose(true_kernel(PROCESSES[name])(linear_sde.CHECKED)[which], true, atol=6e-5)
    np.testing.assert_allclose(PAGE[name](linear_sde.CHECKED)[which], page, atol=6e-5)


@pytest.mark.parametrize("name", PROCESSES)
def test_the_marginal_is_the_integral_of_the_kernel(name):
    """By quadrature over x_0, at 3 times and 5 points."""
    process, density = PROCESSES[name], tutorial.TARGET
    t, x0 = torch.tensor([0.3, 0.6, 1.0], dtype=F64), torch.linspace(-3, 3, 6001, dtype=F64)
    grid = np.linspace(-1.5, 1.5, 5)
    a, s = (c[:, None, None] for c in true_kernel(process)(t))
    kernel = torch.distributions.Normal(a * x0, s).log_prob(torch.from_numpy(grid)[:, None]).exp()
    integral = torch.trapezoid(kernel * density.log_prob(x0[:, None]).exp(), x0)
    np.testing.assert_allclose(np.exp(linear_sde.log_marginal(process, density, grid, t)), integral, rtol=1e-8)


def test_the_sum_of_the_page_lacks_the_cell():
    """With a kernel much wider than the cells its log is too large by -log dx = 3.91."""
    process, grid, t = PROCESSES["VE"], tutorial.GRID, torch.tensor([0.8], dtype=F64)
    middle = np.abs(grid) < 0.5
    page = linear_sde.page_marginal(true_kernel(process), tutorial.TARGET, grid, t)[:, middle]
    exact = linear_sde.log_marginal(process, tutorial.TARGET, grid, t)[:, middle]
    np.testing.assert_allclose(page - exact, -math.log(4 / 199), atol=2e-3)


@pytest.mark.parametrize("name", PROCESSES)
def test_simulated_paths_have_the_closed_moments(name, generator):
    """4,000 paths at 11 times, 5 standard errors: false-alarm rate below 3e-5; 1 % more for the step of the method."""
    process, data = PROCESSES[name], rewrite.TARGET
    t, mean, variance = linear_sde.moments(process, data, 4000, 1000, generator)
    exact_mean, exact_variance = linear_sde.closed_moments(process, data, t)
    assert float(((mean - exact_mean) / (exact_variance / 4000).sqrt()).abs().max()) < 5
    assert float((variance / exact_variance - 1).abs().max()) < 5 * math.sqrt(2 / 4000) + 0.01


def test_a_normal_start_misplaces_mass_and_the_right_start_does_not():
    """Exact scores, by quadrature: the right mode gets 0.285 from N(0, 1), and 0.2 from p_1."""
    page, matched, right = map(rewrite.right_mass, rewrite.STARTS.values())
    assert page == pytest.approx(0.286, abs=1e-3)
    assert matched == pytest.approx(0.2, abs=2e-3)
    assert right == pytest.approx(0.2, abs=1e-9)


def test_the_density_after_the_reverse_sde_is_that_of_exact_draws():
    """From N(0, 1): y, then the mode given y, then x given both, which is normal; 20,000 draws, a Kolmogorov distance
    below 0.0201, a false-alarm rate of 2 exp(-2 n D^2) = 2e-7. From p_1 it is the target."""
    target, grid, draw = rewrite.TARGET, rewrite.WIDE, np.random.default_rng(0)
    w, m, v = (part.numpy().reshape(2) for part in (target.weights, target.means, target.covariances))
    y = draw.normal(size=(20_000, 1))
    joint = w * np.exp(-((y - m) ** 2) / (2 * (v + 1))) / np.sqrt(v + 1)
    k = (draw.random(len(y)) > (joint / joint.sum(1, keepdims=True))[:, 0]).astype(int)
    gain = v[k] / (v[k] + 1)
    x = np.sort(m[k] + gain * (y[:, 0] - m[k]) + np.sqrt(gain) * draw.normal(size=len(y)))
    page, matched, right = map(rewrite.exact_end, rewrite.STARTS.values())
    below = np.interp(x, grid, np.concatenate([[0], np.cumsum((page[1:] + page[:-1]) / 2) * (grid[1] - grid[0])]))
    assert np.abs(below - np.arange(len(x)) / len(x)).max() < 0.0201
    far = [total_variation(end, line.pdf(target, grid), grid) for end in (page, matched, right)]
    assert far[2] < 1e-6 < far[1] < 0.02 < 0.11 < far[0] < 0.12


@pytest.mark.slow
def test_the_reverse_sde_ends_where_quadrature_says():
    """4,000 chains from each start, 5 standard errors (false-alarm rate 6e-7 each) and 0.005 for 200 steps."""
    model = ExactDenoiser(rewrite.TARGET, LinearSDE(torch.zeros_like, torch.ones_like))
    starts = list(rewrite.STARTS.values())
    ends = rewrite.reverse(model, starts, 4000, seed=0)[-1].chunk(3)
    for start, x in zip(starts, ends, strict=True):
        share = float((x > rewrite.VALLEY).double().mean())
        assert share == pytest.approx(rewrite.right_mass(start), abs=5 * math.sqrt(0.2 / 4000) + 0.005)


@pytest.mark.slow
def test_exact_scores_take_the_pages_chains_to_the_smoothed_target():
    """Standard deviation 1.136, and 0.7 per cent more for steps of 1/30; 20,000 chains, 5 standard errors."""
    found = tutorial.exact_chains(20_000)
    assert len(found) == 2
    for row in found.values():
        assert row["floor"] == pytest.approx(1.29**0.5)
        assert row["median"] == pytest.approx(1.007 * row["floor"], rel=5 / math.sqrt(2 * 20_000))


def test_the_smoothed_target_within_the_grid_is_divided_by_its_mass_there():
    """P(|x| < 2) of N(1, 0.29), by the normal distribution; the other mode has the same by symmetry."""
    mass = norm.cdf(2, 1, 0.29**0.5) - norm.cdf(-2, 1, 0.29**0.5)
    density = line.pdf(tutorial.SMOOTHED, tutorial.GRID)
    np.testing.assert_allclose(tutorial.within(density), density / mass, rtol=1e-4)


def test_recovery_from_the_exact_score():
    """The inclusive sum of the page is half a cell ahead; Simpson's rule is not."""
    grid, pdf = tutorial.GRID, tutorial.PDF
    pdf = pdf / np.trapezoid(pdf, grid)
    assert total_variation(line.summed(tutorial.SCORE, grid), pdf, grid) > 0.01
    assert total_variation(line.integrated(tutorial.SCORE, grid), pdf, grid) < 1e-4


def test_the_score_of_a_model_at_a_ratio_is_that_of_the_noised_data():
    model = ExactDenoiser(score_sde_corrected.TARGET, score_sde_corrected.PROCESS)
    grid = line.column(score_sde_corrected.GRID)
    for ratio in score_sde_corrected.RATIOS:
        exact = score_sde_corrected.TARGET.noised(1.0, ratio).score(grid)
        torch.testing.assert_close(score_sde_corrected.at_ratio(model, ratio)(grid), exact)


def test_a_network_of_the_page_is_asked_at_its_own_x_and_t(generator):
    net = line.dense(2, 8, 1, generator=generator)
    x, t = torch.linspace(-2, 2, 7)[:, None], torch.full((7,), 0.3)
    model = rewrite.ScoreModel(
        rewrite.InTime(net), rewrite.BROWNIAN, torch.zeros(1), torch.ones(1, 1), predicts="score"
    )
    torch.testing.assert_close(model.score(x, t), net(torch.cat([x, t[:, None]], 1)))


@pytest.mark.slow
def test_a_reduced_run_writes_every_figure(results):
    out, _ = results
    published, corrected = (sorted(p.name for p in (out / part).iterdir()) for part in ("as-published", "corrected"))
    main = [name for name in published if not name.startswith("rewrite")]
    maps = [f"rewrite-{name.lower()}-{kind}.png" for name in PROCESSES for kind in ("surface", "heatmap")]
    assert set(maps) <= set(published)
    assert len([n for n in main if n.endswith(".png")]) == 15  # 13 of the page, 2 of sub-VP
    assert len([n for n in main if n.endswith(".gif")]) == 2
    assert {"kernels.png", "marginals.png", "masses.png", "moments.png", "rewrite-starts.png"} <= set(corrected)
    with Image.open(out / "as-published" / "fits.gif") as film:
        assert film.n_frames == 1 + 100 // 8


@pytest.mark.slow
def test_a_reduced_run_finds_what_it_should(results):
    _, found = results
    loss = found["as published: loss at step 100"]
    assert loss["floor"] == pytest.approx(0.195826, abs=1e-6)
    assert 0.23 < loss["low"] <= loss["high"] < loss["zero"] == 0.5
    default = found["corrected: total variation: ScoreDensity (its closed-form base does the work)"]["median"]
    network = found["corrected: total variation: network alone, by the flow"]["median"]
    published = next(v["median"] for k, v in found.items() if k.startswith("as published: recovered density: total"))
    assert default < 0.06
    assert network < 0.25 < published
    assert found["theory: VP: mean factor at t = 0.5"]["median"] == pytest.approx(0.2812, abs=5e-5)


def test_a_seed_gives_the_same_training_again():
    first, again = (tutorial.train(3, 16) for _ in range(2))
    assert first.losses == again.losses
    np.testing.assert_array_equal(first.scores[-1], again.scores[-1])
    np.testing.assert_array_equal(first.scores[-1], line.values(first.net, tutorial.GRID, 0.5))  # after the last step
    assert tutorial.train(4, 16).losses != first.losses
