"""Gallery 003: Langevin chains at a temperature, moons from noise, and the digits with their corrections and cures."""

import json
import math

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from scorefield.diffusion.denoisers import ExactDenoiser
from scorefield.diffusion.densities import GaussianMixture
from scorefield.evaluation.metrics import energy_distance
from scorefield.gallery import ENTRIES
from scorefield.gallery.digits import figures, images, training, tutorial
from scorefield.gallery.digits import levels as digits_levels
from scorefield.inference.langevin import step_sizes
from scorefield.numerics.tensors import normal_like, spawn
from scorefield.training.objectives.losses import explicit


@pytest.fixture(scope="module")
def reduced(tmp_path_factory) -> tuple:
    """The entry at reduced size: its folder and its results."""
    out = tmp_path_factory.mktemp("gallery")
    return out, ENTRIES["003-digits"].run(out, quick=True)


def test_the_published_noise_is_an_eighth_of_what_belongs_to_the_step():
    """eta^2 / (2 alpha sigma) = 0.0025 / 0.02: the chain samples p^8."""
    assert pytest.approx(1 / 8) == tutorial.TEMPERATURE


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [tutorial.TEMPERATURE, 0.01])
def test_chains_rest_at_their_temperature(temperature):
    """T c^2 / (1 - h / 2c^2) around each mode, which cold chains do not leave: 4,000 columns, 5 standard errors, so a
    false-alarm rate of 6e-7; 0.05 % of the way from 0 is left after 400 steps."""
    end = tutorial.settle(temperature, seed=0)
    expected = temperature * tutorial.STD**2 / (1 - tutorial.SIZE / (2 * tutorial.STD**2))
    assert tutorial.spread_of(end) == pytest.approx(expected, rel=5 * math.sqrt(2 / 4_000) + 5e-4)
    assert (tutorial.nearer(end) == tutorial.nearer(tutorial.chains_start())).all()


def test_the_spread_of_the_density_is_an_integral_on_a_line():
    """Across the line of the modes the variance is c^2; along it E (u - nearer)^2 = E (|u| - d)^2, by quad."""
    c, d = tutorial.STD, float(tutorial.PLACES[1].norm())
    density = lambda u: (norm.pdf(u, d, c) + norm.pdf(u, -d, c)) / 2
    along = 2 * quad(lambda u: (u - d) ** 2 * density(u), 0, 12, points=[d])[0]
    assert tutorial.true_spread() == pytest.approx((c**2 + along) / 2, abs=1e-6)


def test_noise_becomes_moons():
    """Energy distance within 5 of its standard errors of that of equal laws; noise itself is 50 away."""
    path, real = tutorial.denoise(0), tutorial.MOONS.sample(4_000, spawn(1, "real"))
    start, end = (energy_distance(x, real) for x in (path[0], path[-1]))
    assert abs(end.value) < 5 * end.stderr
    assert start.value > 50 * end.stderr


@pytest.mark.slow
def test_a_reduced_run_writes_all_figures_and_finds_what_it_should(reduced):
    out, found = reduced
    published = {"figure-1", "figure-2", "figure-3", "improvements"}
    assert {p.stem for p in (out / "as-published").iterdir()} == published
    corrected = {"figure-1-learned", "figure-2", "steps", "cures", "losses"}
    assert {p.stem for p in (out / "corrected").iterdir()} == corrected
    assert json.loads(json.dumps(found)) == found
    for which in "exact scores", "ScoreDensity":
        assert abs(found[f"figure 1, {which}: energy distance"]["median"]) < 0.02
    cold, right = (
        found[f"figure 2, noise of the step times {t}: variance around the nearer mode (Gaussian: 0.25)"]
        for t in ("0.125", "1")
    )
    assert cold["median"] == pytest.approx(0.0319, abs=0.004)
    assert right["median"] == pytest.approx(right["floor"], rel=0.02 + 5 * math.sqrt(2 / 4_000))
    assert found["figure 2, noise of the step times 1: share of chains in the other mode after 400 steps"]["low"] > 0.01


@pytest.mark.slow
def test_a_seed_gives_the_same_chains_again():
    torch.testing.assert_close(tutorial.settle(1.0, 0), tutorial.settle(1.0, 0), atol=0, rtol=0)


def net(seed: int = 0) -> torch.nn.Module:
    return training.network(spawn(seed, "net"))


def test_the_images_and_the_network_are_the_published_ones():
    """Parts of 1,000, 350 and 447; over 17 the pixels reach 0.88235 and have mean -0.425 and std 0.708."""
    page, ours = training.images(17), training.images(16)
    assert [len(x) for x in (page.train, page.validation, page.test)] == [1_000, 350, 447]
    every = torch.cat([page.train, page.validation, page.test])
    assert float(every.max()) == pytest.approx(15 / 17)
    assert (float(every.mean()), float(every.std())) == pytest.approx((-0.425, 0.708), abs=5e-4)
    torch.testing.assert_close(training.convert(ours.train, 16, 17), page.train)
    assert float(ours.train.max()) == 1
    assert sum(p.numel() for p in net().parameters()) == 591_424
    assert float(net()(100 * ours.test).detach().abs().max()) == 4


def test_the_published_loss_is_sigma_times_the_explicit_one_to_the_score_of_the_noise():
    x = training.images(17).train[:20]
    z = normal_like(x, spawn(0, "z"))
    half = explicit(training.score(net()), x + 0.1 * z, lambda y: -z / 0.1)
    torch.testing.assert_close(training.losses(net(), x, spawn(0, "z")), 0.1 * half)
    silent = torch.nn.Threshold(math.inf, 0.0)  # answers 0
    zero = training.losses(silent, x, spawn(0, "z"))
    assert float(zero.mean()) == pytest.approx(320, rel=5 * math.sqrt(2 / x.numel()))


def test_the_factor_of_the_loss_does_not_change_the_network():
    """Adamax divides by the largest gradient: with 1 / (2 sigma^2) in place of 1 / (2 sigma) it learns the same."""
    page, ours = (training.train(0, 17, 1, lambda net, x, g, k=k: k * training.losses(net, x, g)) for k in (1, 1 / 0.1))
    for p, q in zip(page["the same noise"].best.parameters(), ours["the same noise"].best.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=2e-5)
    assert page["the same noise"].losses == pytest.approx(ours["the same noise"].losses, rel=1e-5)


@pytest.mark.slow
def test_slices_have_the_mean_of_denoising_less_a_constant():
    """E sigma loss - d / 2 = E slice for every network (Hyvarinen and Vincent): 5 standard errors of paired draws."""
    x = training.images(17).train.repeat(20, 1)
    with torch.no_grad():
        difference = 0.1 * training.losses(net(), x, spawn(0, "z")) - 32 - training.slices(net(), x, spawn(0, "z"))
    assert abs(float(difference.mean())) < 5 * float(difference.std()) / math.sqrt(len(x))
    assert float(difference.std()) / math.sqrt(len(x)) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [training.TEMPERATURE, 1.0])
def test_chains_take_the_published_steps(temperature):
    """x + alpha net(x) + eta z, where eta = 0.05 as published and sqrt(2 alpha sigma) where it fits the step."""
    eta = 0.05 if temperature < 1 else math.sqrt(2 * 0.1 * 0.1)
    generator = spawn(0, "chains")
    x = training.uniform_start(3, generator)
    assert -1 <= float(x.min()) < -0.9 < 0.9 < float(x.max()) <= 1
    with torch.no_grad():
        for _ in range(100):
            x = x + 0.1 * net()(x) + eta * normal_like(x, generator)
    ours = training.chains(training.score(net()), 3, spawn(0, "chains"), temperature)
    torch.testing.assert_close(ours, x, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("temperature", "finer", "known"), [(training.TEMPERATURE, 1, 0.0025), (1.0, 1, 0.02), (1.0, 10, 0.0105)]
)
def test_chains_around_a_lonely_image_have_the_variance_of_their_recursion(temperature, finer, known):
    """v = (1 - h / sigma^2)^2 v + 2 h T: eta^2, 2 sigma^2 and 1.05 sigma^2, which should be sigma^2.

    400 images of 64 independent pixels: 5 standard errors, a false-alarm rate of 6e-7.
    """
    h = training.SIZE / finer
    expected = 2 * h * temperature / (1 - (1 - h / 0.01) ** 2)
    assert expected == pytest.approx(known, rel=3e-3)
    end = training.chains(lambda x: -x / 0.01, 400, spawn(0, "chains"), temperature, finer)
    assert float(end.square().mean()) == pytest.approx(expected, rel=5 * math.sqrt(2 / end.numel()))


def test_restored_images_are_the_mean_of_the_clean_ones():
    """Where all images are one the last step goes there, whatever the chains did."""
    image = training.images(16).test[:1]
    end = training.restored(lambda x: (image - x) / 0.01, 5, spawn(0, "chains"))
    torch.testing.assert_close(end, image.expand(5, -1), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_early_stopping_waits_as_long_as_published():
    """The published best is of epoch 189 and the last epoch is 210."""
    rule = training.Rule()
    for epoch in range(300):
        rule.judge(net(), abs(epoch - 189.0))
    assert (rule.epoch, len(rule.losses), rule.stopped) == (189, 211, True)


def test_a_rule_keeps_the_best_network_by_the_epochs_that_are_shown():
    """Losses that fall until epoch 30 (the 31st) and rise until 50: the best of 50 epochs is that of 31."""
    rule, nets = training.Rule(), {k: net(k) for k in (0, 24, 30, 49)}
    for epoch in range(50):
        rule.judge(nets.get(epoch, nets[0]), abs(epoch - 30.0))
    same = lambda a, b: all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert list(rule.kept) == [1, 25, 50]
    assert [same(rule.kept[k], nets[j]) for k, j in ((1, 0), (25, 24), (50, 30))] == [True, True, True]


def test_a_rule_keeps_the_network_of_its_best_epoch_and_frozen_noise_gives_its_loss_again():
    rules = training.train(0, 16, 2)
    found = training.held_out(rules["the same noise"].best, training.images(16).validation, spawn(0, "frozen"))
    assert found == min(rules["the same noise"].losses)
    assert rules["new noise each epoch"].losses != rules["the same noise"].losses


def test_the_measures_of_real_images_are_the_known_ones_and_copies_are_told():
    data = training.images(17)
    real, copies = training.measures(data.test), training.measures(data.train[:447])
    assert real["mean standard deviation of a pixel"] == pytest.approx(0.427, abs=5e-4)
    assert real["distance to the nearest training image"] == pytest.approx(2.26, abs=5e-3)
    assert (real["precision"], real["coverage"], real["copying"]) == (1, 1, 0.5)
    assert copies["distance to the nearest training image"] < 1e-2
    assert copies["copying"] == 1


def test_the_network_that_is_told_no_level_answers_the_same_at_all():
    for knows in (False, True):
        levelled = digits_levels.Levelled(knows, spawn(0, "init"))
        assert sum(p.numel() for p in levelled.parameters()) == 591_424 + 512  # one input more
        low, high = (levelled(torch.ones(2, 64), torch.full((2,), r)) for r in (-1.0, 1.0))
        assert torch.equal(low, high) is not knows


def test_the_ladder_goes_from_the_largest_distance_to_the_smallest_level():
    levels, x = digits_levels.ladder(), training.images(16).train
    assert float(levels[-1]) == pytest.approx(0.05)
    assert float(levels[0]) == pytest.approx(float(torch.pdist(x).max()), rel=1e-5)
    ways = digits_levels.ways()
    assert [(way.weight, way.knows) for way in ways.values()] == [
        ("noise", False),
        ("score", False),
        ("score", True),
        ("noise", False),
        ("noise", True),
        ("noise", True),
    ]
    drawn = ways[digits_levels.LADDER].law(1_000, spawn(0, "law"))
    ratios = digits_levels.process().ratio(drawn).unique()
    torch.testing.assert_close(ratios, levels.flip(0))
    only = digits_levels.process().ratio(ways[digits_levels.ONE].law(1_000, spawn(0, "law"))).unique()
    torch.testing.assert_close(only.float(), torch.tensor([0.1]))


@pytest.mark.slow
def test_annealing_a_gaussian_gives_the_variance_of_its_recursion():
    """For N(0, c^2): v <- (1 - h / (c^2 + s^2))^2 v + 2h from 1/3, at the end times (c^2 / (c^2 + s^2))^2.

    2,000 images of 64 independent pixels: 5 standard errors, a false-alarm rate of 6e-7.
    """
    variance, c = 1 / 3, 0.5
    for level, size in zip(digits_levels.ladder(), step_sizes(digits_levels.ladder(), 6), strict=True):
        for _ in range(6):
            variance = (1 - size / (c**2 + level**2)) ** 2 * variance + 2 * size
    expected = float((c**2 / (c**2 + level**2)) ** 2 * variance)
    model = ExactDenoiser(
        GaussianMixture.isotropic(torch.ones(1), torch.zeros(1, 64), c).like(torch.empty(0)), digits_levels.process()
    )
    found = digits_levels.anneal(model, 2_000, spawn(0, "chains"))
    assert float(found.square().mean()) == pytest.approx(expected, rel=5 * math.sqrt(2 / found.numel()))


def test_a_grid_shows_images_row_by_row():
    axes = figures.Figure().subplots()
    figures.draw_grid(axes, torch.arange(16.0)[:, None].expand(16, 64), "numbers")
    shown = axes.images[0].get_array()
    assert shown.shape == (32, 32)
    assert [shown[0, 8], shown[8, 0], shown[31, 31]] == [1, 4, 15]


@pytest.mark.slow
def test_the_published_numbers_of_the_digits_stand_beside_ours(reduced):
    _, found = reduced
    assert found["validation loss of epoch 0"]["published"] == 324.45
    assert found["validation loss of epoch 0"]["zero"] == 320
    assert found["validation loss of epoch 0"]["median"] == pytest.approx(324.45, abs=8)
    assert {name: found[name]["published"] for name in images.PRINTED} == images.PRINTED
    names = {name.split(": ")[0] for name in found if name.endswith("coverage")}
    assert len(names) == 1 + 6 + 2 + 7 + 1  # real sets together, corrections, two objectives, cures, ImageDensity
