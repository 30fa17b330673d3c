"""What is found of drawn images: the Frechet distance against closed forms, and verdicts on images of a known law."""

import math

import numpy as np
import pytest
import torch
from scipy import linalg, stats

from scorefield import data
from scorefield.evaluation import verdict as core
from scorefield.evaluation.descriptions import frechet_distance
from scorefield.kinds.images import evaluation
from scorefield.kinds.images.estimator import ImageDensity
from scorefield.kinds.images.evaluation import in_features, open_eyes, verdict
from scorefield.numerics.tensors import normal, spawn, uniform

SIDE, CLASSES = 8, 4
F64 = torch.float64


def with_moments(n: int, mean: torch.Tensor, covariance: torch.Tensor, seed: int) -> torch.Tensor:
    """Rows whose own mean and covariance are exactly these."""
    z = normal((n, len(mean)), torch.zeros(1, dtype=F64), spawn(seed))
    z = z - z.mean(0)
    white = torch.linalg.solve_triangular(
        torch.linalg.cholesky(z.T.cov().reshape(covariance.shape)), z.T, upper=False
    ).T
    return mean + white @ torch.linalg.cholesky(covariance).T


def spread(dim: int, seed: int) -> torch.Tensor:
    root = normal((dim, dim), torch.zeros(1, dtype=F64), spawn(seed))
    return root @ root.T + torch.eye(dim, dtype=F64)


def test_the_frechet_distance_is_that_of_two_gaussians():
    """|m - n|^2 + tr(A + B - 2 (A B)^(1/2)), the root by SciPy's Schur method; in one dimension by hand."""
    for dim in (2, 5, 20):
        m, n, a, b = torch.zeros(dim, dtype=F64), torch.linspace(-1, 2, dim, dtype=F64), spread(dim, 1), spread(dim, 2)
        found = frechet_distance(with_moments(300, m, a, 3), with_moments(200, n, b, 4)).value
        root = np.trace(linalg.sqrtm((a @ b).numpy()).real)
        expected = float((m - n).square().sum() + a.trace() + b.trace()) - 2 * root
        assert found == pytest.approx(expected, rel=1e-9)
    one = with_moments(50, torch.tensor([3.0], dtype=F64), torch.tensor([[4.0]], dtype=F64), 5)
    other = with_moments(60, torch.tensor([1.0], dtype=F64), torch.tensor([[9.0]], dtype=F64), 6)
    assert frechet_distance(one, other).value == pytest.approx((3 - 1) ** 2 + (2 - 3) ** 2, rel=1e-9)
    assert frechet_distance(one, one).value == pytest.approx(0, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(("shift", "scale", "low", "high"), [(0.5, 1.4, 0.7, 1.4), (0.0, 1.0, 1.0, 2.0)])
def test_the_error_of_the_frechet_distance_is_its_spread(shift, scale, low, high):
    """Against that of 100 repetitions, whose own error is 7 %; for equal laws it is stated to be 1.4 times too large."""
    draw = lambda n, scale, seed: scale * normal((n, 3), torch.zeros(1, dtype=F64), spawn(seed))
    found = [frechet_distance(draw(200, 1.0, 2 * k), shift + draw(300, scale, 2 * k + 1)) for k in range(100)]
    told = float(np.mean([each.stderr for each in found]))
    assert low < told / float(np.std([each.value for each in found])) < high


def striped(n: int, seed: int, classes: int = CLASSES) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of one bright column of a random brightness, and noise; which column it is is the class."""
    draw = spawn(seed)
    labels = (uniform(n, draw) * classes).long()
    images = 0.2 * normal((n, SIDE, SIDE), torch.zeros(1), draw)
    images[torch.arange(n), :, 2 * labels] += 0.5 + uniform(n, draw)[:, None].float()
    return images.reshape(n, -1), labels


def judged(drawn: torch.Tensor, seed: int, labelled: bool = True) -> evaluation.Verdict:
    """The verdict on drawn images of stripes, given 1,500 training and 400 held-out ones."""
    train, labels = striped(1500, 3 * seed + 1)
    held_out, _ = striped(400, 3 * seed + 2)
    given = data.as_images(train.reshape(-1, SIDE, SIDE).numpy(), labels.numpy() if labelled else None)
    generator = spawn(seed, "judge")
    eyes = open_eyes(train, given, (1, SIDE, SIDE), generator)
    seen = eyes.features(drawn), eyes.features(held_out), eyes.features(train[eyes.unused])
    told = eyes.classes(drawn), eyes.classes(held_out)
    pixels = (drawn.double(), held_out.double(), train.double())
    return verdict(pixels, seen, told, [f"class {name}" for name in given.classes], generator)


@pytest.mark.slow
def test_the_false_alarm_rate_is_the_one_that_is_stated(monkeypatch):
    """50 seeds at a rate of 0.2, which would show tests that are a little too bold: 1e-6."""
    monkeypatch.setattr(core, "FALSE_ALARMS", 0.2)
    flagged = sum(bool(judged(striped(400, 3 * seed)[0], seed).findings) for seed in range(100, 150))
    assert flagged <= stats.binom.isf(1e-6, 50, 0.2)


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    """Stripes are learned in 100 steps."""
    monkeypatch.setattr(evaluation, "TRAINING", 100)


@pytest.mark.slow
@pytest.mark.parametrize("labelled", [True, False])
def test_fresh_images_are_not_found_unlike_the_data(labelled):
    """20 seeds, each with a false-alarm rate of 0.001: two or more fail with probability 2e-4."""
    found = [judged(striped(400, 3 * seed)[0], seed, labelled) for seed in range(20)]
    assert sum(bool(each.findings) for each in found) <= 1
    assert "could not be told from held-out rows" in found[0].sentence
    assert found[0].tests == (2 + CLASSES if labelled else 2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (lambda x, y, seed: striped(1500, 3 * seed + 1)[0][:400], "copies", "copies of training images"),
        (lambda x, y, seed: striped(400, 3 * seed, CLASSES - 1)[0], "missing mode", "class 3 is missing"),
        (lambda x, y, seed: x[uniform(400, spawn(9)) < torch.where(y == 1, 0.3, 1.0)], "mode weights", "class 1 has"),
        (lambda x, y, seed: x + 0.3 * normal(x.shape, x, spawn(8)), "joint shape", "the images have another law"),
    ],
    ids=["copies", "a class missing", "a class too rare", "noise"],
)
def test_what_is_wrong_is_named(change, kind, words, seed):
    x, y = striped(400, 3 * seed)
    found = judged(change(x, y, seed), seed)
    assert [finding.kind for finding in found.findings] == [kind]
    assert words in found.sentence


def test_a_few_images_make_a_verdict_that_claims_nothing():
    found = judged(striped(400, 0)[0][:8], 0)
    assert found.findings == ()
    assert "not even copies alone would have been seen" in found.sentence
    assert found.visible == {"copies": 1.0}


@pytest.mark.slow
def test_eyes_see_classes_in_images_of_any_size_and_stand_apart_from_what_they_learned():
    """Of one pixel, of 3 x 5, and larger than what the network looks at; a fifth is left unused, the first is right."""
    for shape in ((1, 1, 1), (1, 3, 5), (3, 40, 33)):
        draw, labels = spawn(1), (torch.arange(200) % 2)
        z = 0.1 * normal((200, math.prod(shape)), torch.zeros(1), draw) + labels[:, None]
        given = data.as_images(z.reshape(-1, *shape).numpy(), labels.numpy(), "CHW")
        before = torch.get_rng_state()
        eyes = open_eyes(z, given, shape, draw)
        assert torch.equal(before, torch.get_rng_state())
        assert float((eyes.classes(z) == labels).double().mean()) > 0.95
        assert eyes.features(z).shape == (200, evaluation.FEATURES)
        assert len(eyes.unused) == 40
        assert "right about the classes of" in eyes.words


@pytest.mark.slow
def test_eyes_learn_nothing_from_the_images_that_they_leave_unused():
    """Other pixels and other classes there change no bit of what they see."""
    z, labels = striped(200, 1)
    given = data.as_images(z.reshape(-1, SIDE, SIDE).numpy(), labels.numpy())
    eyes = open_eyes(z, given, (1, SIDE, SIDE), spawn(2))
    changed, told = z.clone(), given.labels.copy()
    changed[eyes.unused], told[eyes.unused.numpy()] = 9.0, 0
    others = data.as_images(changed.reshape(-1, SIDE, SIDE).numpy(), told)
    again = open_eyes(changed, others, (1, SIDE, SIDE), spawn(2))
    assert torch.equal(again.features(z), eyes.features(z))
    assert torch.equal(open_eyes(z, data.as_images(given.pixels[:, 0]), (1, SIDE, SIDE), spawn(2)).unused, eyes.unused)
    plain = data.as_images(z.reshape(-1, SIDE, SIDE).numpy())
    flat = [open_eyes(rows, plain, (1, SIDE, SIDE), spawn(2)) for rows in (z, changed)]
    assert torch.equal(flat[0].features(z), flat[1].features(z))


@pytest.mark.slow
def test_images_of_any_kind_are_evaluated_and_too_few_are_refused_before_work(monkeypatch):
    """Continuous colour without classes; then 9 held-out images, 19 training ones, and others of another size."""
    draw = np.random.default_rng(0)
    colours = draw.random((60, 5, 4, 3)).astype(np.float32)
    found = ImageDensity(max_iter=2, random_state=0).fit(colours)
    given = data.as_images(colours, layout="HWC")
    part = lambda n: data.as_images(colours[:n], layout="HWC")
    told = evaluation.evaluate(found, given, part(20), 0)
    assert told.bits_per_dim is None
    assert told.images == 20
    assert told.seen_by == "48 principal coordinates"
    assert set(told.compared) >= {"frechet_distance", "copying"}
    assert any("log-probability" in line for line in told.lines())
    monkeypatch.setattr(ImageDensity, "sample_blocks", lambda *_: pytest.fail("images were drawn"))
    other = data.as_images(draw.random((20, 4, 4, 3)).astype(np.float32), layout="HWC")
    for train, held_out, words in [
        (given, part(9), "at least 10 images to compare with; got 9; give more with --against"),
        (part(19), part(20), "at least 20 images to compare with; got 19"),
        (given, other, "expected images of 3 channels and 5 x 4 pixels"),
    ]:
        with pytest.raises(ValueError, match=words):
            evaluation.evaluate(found, train, held_out, 0)


def test_held_out_images_are_taken_at_random():
    """Of images in the order of their classes, as folders are read, a part has all classes as often (1e-6)."""
    given = data.as_images(np.zeros((3000, 2, 2), np.uint8), np.repeat(np.arange(3), 1000))
    found = evaluation.some_of(given, 600, spawn(3))
    assert len(found.pixels) == 600
    assert stats.chisquare(np.bincount(found.labels)).pvalue > 1e-6
    assert evaluation.some_of(given, 3000, spawn(3)) is given


def test_without_classes_images_are_seen_in_principal_coordinates():
    """Those of highest variance, which for rows of variances 1, 1/4, ... are the columns in turn."""
    z = normal((4000, 3), torch.zeros(1), spawn(0)) * torch.tensor([0.25, 1.0, 0.5])
    given = data.as_images(z.reshape(-1, 1, 3).numpy(), layout="HW")
    eyes = open_eyes(z, given, (1, 1, 3), spawn(1))
    found = eyes.features(z).abs() - (z - z.mean(0))[:, [1, 2, 0]].abs()
    assert float(found.abs().max()) < 0.3
    assert eyes.words == "3 principal coordinates"


@pytest.mark.slow
def test_metrics_of_equal_laws_are_those_of_real_images():
    """Within 5 standard errors of the difference; a shifted law is far off."""
    rows = [normal((600, 4), torch.zeros(1, dtype=F64), spawn(k)) for k in range(3)]
    same, moved = in_features(*rows, generator=spawn(9)), in_features(rows[0] + 2, *rows[1:], generator=spawn(9))
    assert list(same) == ["frechet_distance", "precision", "recall", "density", "coverage", "classifier_auc"]
    assert all(abs(value.excess) < 5 for value in same.values())
    assert moved["frechet_distance"].model.value == pytest.approx(16, rel=0.1)
    assert moved["coverage"].excess < -5


@pytest.mark.slow
def test_after_copies_few_images_are_asked_further(monkeypatch):
    """Copies are not independent: one in ten training images is as many as they are worth."""
    asked, joint = [], evaluation.joint_test
    monkeypatch.setattr(evaluation, "joint_test", lambda x, *others: asked.append(len(x)) or joint(x, *others))
    judged(striped(1500, 1)[0][:400], 0)
    judged(striped(400, 0)[0], 0)
    assert asked == [150, 400]


@pytest.mark.slow
def test_what_is_drawn_is_compared_with_held_out_images_and_a_fifth_that_the_eyes_have_not_used(monkeypatch):
    """A model that draws its training images: they are copies, not the held-out ones, and each set is in its place."""
    images = np.random.default_rng(1).random((120, 4, 5))
    found = ImageDensity(max_iter=2, random_state=0).fit(images[:100])
    train, held_out = data.as_images(images[:100], layout="HW"), data.as_images(images[100:], layout="HW")
    monkeypatch.setattr(ImageDensity, "sample_blocks", lambda *_: iter([train.pixels[:20]]))
    told, judge = [], evaluation.verdict
    monkeypatch.setattr(evaluation, "verdict", lambda *given: told.append(given) or judge(*given))
    compared = evaluation.evaluate(found, train, held_out, 0).compared
    assert compared["copying"].model.value == 1
    assert compared["near_duplicates"].model.value == 1
    pixels, seen, *_ = told[0]
    rows = lambda given: found.transform_.forward(found.transform_.rows(given)).double()
    for got, expected in zip(pixels, (train.pixels[:20], held_out.pixels, train.pixels), strict=True):
        torch.testing.assert_close(got, rows(expected))
    eyes = open_eyes(rows(train.pixels).float(), train, (1, 4, 5), spawn(found.config_.seed, "eyes"))
    expected = (pixels[0], pixels[1], rows(train.pixels)[eyes.unused])
    for got, given in zip(seen, expected, strict=True):
        torch.testing.assert_close(got, eyes.features(given.float()))
