"""Images learned from Python: samples, classes, bounds, colours, saved runs, training that goes on."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bars import BARS, KINDS, SIDE, bars
from safetensors.torch import load, save
from scipy import stats

import scorefield as sf
from scorefield import data
from scorefield.diffusion.denoisers import ScoreModel
from scorefield.kinds.images import kind as image_kind
from scorefield.kinds.images import settings
from scorefield.kinds.images.estimator import BLOCK, ImageDensity
from scorefield.kinds.images.problem import ImageProblem
from scorefield.kinds.images.units import PixelTransform
from scorefield.training.learner import Learner
from scorefield.training.objectives import table

pytestmark = [pytest.mark.usefixtures("small"), pytest.mark.xdist_group("learned images")]

STEPS = 900


@pytest.fixture(scope="module")
def learned(small) -> ImageDensity:
    images, kinds = bars(600, 0)
    return ImageDensity(max_iter=STEPS, random_state=0).fit(images, kinds)


@pytest.fixture(scope="module")
def run(learned, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images") / "run"
    learned.save(folder)
    return folder


def which(images: np.ndarray) -> np.ndarray:
    """The number of the bar that each image is, -1 for none of them."""
    same = (images[:, None] == BARS).all((2, 3))
    return np.where(same.any(1), same.argmax(1), -1)


@pytest.mark.slow
def test_samples_are_the_pictures_and_come_as_often(learned):
    """At least nine in ten are bars to the pixel, and those are spread evenly (chi-square, 1e-6)."""
    found = which(learned.sample(1_000, random_state=1))
    assert (found >= 0).mean() > 0.9
    assert stats.chisquare(np.bincount(found[found >= 0], minlength=12)).pvalue > 1e-6


@pytest.mark.slow
def test_a_class_is_drawn_alone(learned):
    """No bar is of the other class, and as many images are bars as of all classes (binomial, 1e-6)."""
    share = (which(learned.sample(1_000, random_state=1)) >= 0).mean()
    for kind, other in (("lying", range(SIDE, 2 * SIDE)), ("standing", range(SIDE))):
        for guidance in (1.0, 1.5):
            found = which(learned.sample(100, label=kind, guidance=guidance, random_state=2))
            assert not np.isin(found, other).any(), (kind, guidance)
            assert (found >= 0).sum() >= stats.binom.ppf(1e-6, 100, share), (kind, guidance)


@pytest.mark.slow
def test_the_bound_is_below_the_probability_and_near_it(learned):
    """P = 1/12 for each bar, with its kind or without: the mean bound is at most log 1/12, up to its error, and near."""
    images, kinds = bars(300, 5)
    with_kind, without = learned.log_prob(images, kinds), learned.log_prob(images)
    for found in (with_kind, without):
        error = float(found.value.std()) / math.sqrt(len(found.value))
        assert float(found.value.mean()) < -math.log(12) + 4.9 * error
    assert float(with_kind.value.mean()) > -math.log(12) - 1.0
    bits = learned.bits_per_dim(with_kind)
    torch.testing.assert_close(bits.value * SIDE**2 * math.log(2), -with_kind.value)
    other = np.roll(KINDS, SIDE)[which(images)]
    assert float(learned.log_prob(images, other).value.mean()) < -5  # the wrong kind is improbable


@pytest.mark.slow
def test_the_first_images_of_a_longer_sample_are_the_same(learned):
    few, many = learned.sample(3, random_state=7), learned.sample(BLOCK + 5, random_state=7)
    assert few.dtype == np.uint8
    assert few.shape == (3, SIDE, SIDE)
    assert np.array_equal(few, many[:3])
    labels = learned.labels(BLOCK + 5, None, 7)
    assert np.array_equal(learned.labels(3, None, 7), labels[:3])
    assert not np.array_equal(few, learned.sample(3, random_state=8))


@pytest.mark.slow
def test_a_saved_run_is_the_same_estimator(learned, run):
    again = sf.load(run)
    assert isinstance(again, ImageDensity)
    assert again.classes_ == ("lying", "standing")
    assert np.array_equal(again.sample(3, random_state=1), learned.sample(3, random_state=1))
    images, kinds = bars(5, 3)
    assert torch.equal(again.log_prob(images, kinds).value, learned.log_prob(images, kinds).value)


@pytest.mark.slow
def test_colour_floats_and_layouts_come_back_as_they_went_in():
    """Continuous pixels, height x width x channels, no labels: float images in the range of the data."""
    images = np.random.default_rng(0).random((40, 5, 7, 3)).astype(np.float32)
    found = ImageDensity(max_iter=3, random_state=0).fit(images)
    drawn = found.sample(2)
    assert drawn.dtype == np.float32
    assert drawn.shape == (2, 5, 7, 3)
    assert drawn.min() >= images.min()
    assert drawn.max() <= images.max()
    assert bool(found.log_prob(images[:4]).value.isfinite().all())
    again = ImageDensity(max_iter=3, random_state=0).fit(images.transpose(0, 3, 1, 2))
    assert np.array_equal(again.sample(2, random_state=1), found.sample(2, random_state=1).transpose(0, 3, 1, 2))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e.sample(0), "n_samples must be a whole number"),
        (lambda e: e.sample(1, label="7"), "one of lying, standing; got '7'"),
        (lambda e: e.sample(1, label="lying", guidance=-1.0), "guidance must be a number from 0 on"),
        (lambda e: e.log_prob(BARS[:, :5]), "expected images of 1 channels and 6 x 6 pixels"),
        (lambda e: e.log_prob(BARS + 1), "has no probability"),
        (lambda e: e.log_prob(BARS, KINDS[:3]), "one for each of 12 images"),
        (lambda e: ImageDensity(max_iter=0).fit(BARS), "max_iter must be"),
        (lambda e: ImageDensity(time_budget=-1).fit(BARS), "time_budget must be a positive"),
        (lambda e: ImageDensity(max_iter=2).fit(BARS).sample(1, label="lying"), "learned without labels"),
        (lambda e: ImageDensity(max_iter=2).fit(BARS).sample(1, guidance=2.0), "guidance needs classes"),
        (lambda e: ImageDensity().fit(np.zeros((9, 3, 3, 3), np.uint8)), "layout"),
        (lambda e: ImageDensity().fit(np.full((9, 4, 4), np.nan)), "finite"),
        (lambda e: ImageDensity().fit(BARS.astype(str)), "numbers"),
    ],
)
def test_what_cannot_be_is_refused_in_words(learned, change, message):
    with pytest.raises(ValueError, match=message):
        change(learned)


def test_training_goes_on_from_its_state_to_the_bit():
    """Twelve steps at once, and six, a state as a file would hold it, and six more: every tensor is equal."""
    given = data.as_images(*bars(100, 0))
    transform = PixelTransform.fit(given.pixels)
    problem = ImageProblem.of(given, transform, 0)
    config = replace(settings.choose_settings(problem, "vp", "denoising", 0).config, steps=12)
    whole = Learner(config, problem.prepare(config))
    for _ in whole.run():
        pass
    first = Learner(config, problem.prepare(config))
    for _ in zip(range(6), first.run(), strict=False):
        pass
    state = load(save({name: value.contiguous() for name, value in first.state().items()}))
    second = Learner(config, problem.prepare(config))
    second.load_state(state)
    for _ in second.run():
        pass
    expected, found = whole.state(), second.state()
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


@pytest.mark.slow
def test_ten_times_larger_pixels_have_a_density_smaller_by_their_jacobian():
    """The same network learns either, so log p differs by d log 10 in every image, up to rounding."""
    images = np.random.default_rng(0).random((40, 5, 4))
    found = [ImageDensity(max_iter=3, random_state=0).fit(k * images).log_prob(k * images[:6]).value for k in (1, 10)]
    torch.testing.assert_close(found[0] - found[1], torch.full((6,), 20 * math.log(10)), atol=0.02, rtol=0)


@pytest.mark.slow
def test_classes_come_as_often_as_in_the_data_and_count_as_often():
    """Nine to one, drawn (a binomial test, 1e-6), and in the probability of an image with its label."""
    pick = np.random.default_rng(1).permutation(np.repeat([0, 1], [90, 10]))
    found = ImageDensity(max_iter=2, random_state=0).fit(BARS[SIDE * pick], KINDS[SIDE * pick])
    assert found.frequencies_ == (0.9, 0.1)
    labels = found.labels(5_000, None, 3)
    assert stats.binomtest(int((labels == 1).sum()), 5_000, 0.1).pvalue > 1e-6
    untold = ImageDensity(max_iter=2, random_state=0).fit(BARS[SIDE * pick], KINDS[SIDE * pick])
    untold.frequencies_ = (1.0, 1.0)
    gap = found.log_prob(BARS[:3], KINDS[:3]).value - untold.log_prob(BARS[:3], KINDS[:3]).value
    torch.testing.assert_close(gap, torch.full((3,), math.log(0.9)), atol=1e-3, rtol=0)


def test_training_forgets_a_tenth_of_the_labels_and_mixes_no_classes(monkeypatch):
    """What the model is given in training: its own labels but for a tenth, and no other images as references."""
    given = data.as_images(*bars(100, 0))
    transform = PixelTransform.fit(given.pixels)
    problem = ImageProblem.of(given, transform, 0)
    config = replace(settings.choose_settings(problem, "vp", "denoising", 0).config, steps=30)
    seen, references = [], []
    keep, loss = ScoreModel.given, table.denoising
    monkeypatch.setattr(ScoreModel, "given", lambda model, label: seen.append(label) or keep(model, label))
    told = lambda *a, **k: references.append(k.get("references")) or loss(*a, **k)
    monkeypatch.setattr(table, "denoising", told)
    learner = Learner(config, problem.prepare(config))
    seen.clear()
    for _ in zip(range(9), learner.run(), strict=False):
        pass
    labels = torch.cat([label for label in seen if len(label) == config.batch_size])
    assert stats.binomtest(int((labels == 2).sum()), len(labels), 0.1).pvalue > 1e-6
    assert set(labels.tolist()) == {0, 1, 2}
    assert len(references) >= 9
    assert all(each is None for each in references)


@pytest.mark.parametrize(
    ("dtype", "channels", "high", "limits"),
    [
        ("uint8", 1, 255, None),
        ("uint8", 3, 200, None),
        ("uint8", 1, 16, (0, 16)),
        ("uint16", 1, 65_000, None),
        ("uint16", 3, 65_000, (0, 65_000)),
        ("uint16", 1, 4095, (0, 4095)),
        ("float32", 1, 255, (0, 255)),
    ],
)
def test_pictures_show_the_range_of_pixels_unless_they_are_bytes_as_they_came(dtype, channels, high, limits):
    transform = PixelTransform((channels, 4, 4), "CHW", dtype, 0.0, float(high), 1.0, 1.0, 1.0)
    assert image_kind._limits(transform) == limits


@pytest.mark.slow
def test_classes_are_told_by_name_whatever_their_order(learned):
    """Images of one class only, and in the other order: their positions are those of the run."""
    for names in (["standing", "standing"], ["standing", "lying"]):
        given = data.as_images(BARS[[SIDE, 0]], np.array(names))
        assert [learned.classes_[k] for k in learned.positions(given)] == names


def test_the_nearest_image_is_the_nearest():
    transform = PixelTransform.fit(BARS[:, None])
    near = BARS[[3, 8], None].copy()
    near[:, 0, 5, 5] = 3 - near[:, 0, 5, 5]
    found = image_kind._nearest(transform, near, BARS[:, None])
    assert np.array_equal(found, BARS[[3, 8], None])


def test_the_score_is_read_at_a_noise_ratio_within_the_range_of_the_process():
    given = data.as_images(*bars(30, 0))
    problem = ImageProblem.of(given, PixelTransform.fit(given.pixels), 0)
    prepared = problem.prepare(settings.choose_settings(problem, "vp", "denoising", 0).config)
    assert 0 < prepared.score_ratio < float(prepared.model.process.ratio(torch.ones(())))
