"""The tutorial on score fields: its target, losses, networks and sampling are those of the page."""

import json
import math

import mpmath
import numpy as np
import pytest
import torch
from cases import F64
from scipy.stats import ncx2
from torch import nn

from scorefield.data.toys import TOYS
from scorefield.gallery import ENTRIES
from scorefield.gallery.networks import dense, shuffled
from scorefield.gallery.score_fields import corrected as mended
from scorefield.gallery.score_fields import figures, training, tutorial


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Entry 004 at reduced size: its folder and its results."""
    out, state = tmp_path_factory.mktemp("gallery"), torch.get_rng_state()
    results = ENTRIES["004-score-fields"].run(out, quick=True)
    assert torch.equal(torch.get_rng_state(), state)
    return out, results


def mixture_in_numpy(x, y, s):
    """Density of the target with noise s and its squared score, from the formulas."""
    narrow, wide = 0.25 + s**2, 1 + s**2
    left = np.exp(-(x**2 + y**2) / (2 * wide)) / (4 * np.pi * wide)
    right = np.exp(-((x - 3) ** 2 + (y - 2) ** 2) / (2 * narrow)) / (4 * np.pi * narrow)
    p = left + right
    u, v = -x * left / wide - (x - 3) * right / narrow, -y * left / wide - (y - 2) * right / narrow
    return p, (u**2 + v**2) / p**2


def energy_in_numpy(s):
    """E |score|^2 of the target with noise s by the trapezoidal rule on a grid of its own."""
    reach = 8 * math.hypot(1, s)
    x, y = np.linspace(-reach, 3 + reach, 701), np.linspace(-reach, 2 + reach, 651)
    p, square = mixture_in_numpy(x[:, None], y[None], s)
    return (p * square).sum() * (x[1] - x[0]) * (y[1] - y[0])


def test_the_target_is_the_built_in_mixture():
    x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    torch.testing.assert_close(training.TARGET.log_prob(x), TOYS["mixture-2d"].density.log_prob(x))


def test_the_floors_are_those_of_the_published_losses():
    """By a second quadrature; the numbers of the reference to all their digits."""
    energies = np.array([energy_in_numpy(s) for s in training.LEVELS])
    np.testing.assert_allclose(energies, [0.1105, 0.3497, 1.0075, 2.4459, 4.1134, 4.7240], atol=6e-5)
    noises = np.array(training.LEVELS)
    assert training.floor([0.1]) == pytest.approx(200 - energy_in_numpy(0.1), rel=1e-9)
    assert training.floor(training.LEVELS) == pytest.approx((2 / noises**2 - energies).mean(), rel=1e-9)
    assert training.floor(training.LEVELS, 2) == pytest.approx((2 - noises**2 * energies).mean(), rel=1e-9)
    assert training.floor([0.1]) == pytest.approx(195.4439, abs=5e-5)
    assert training.floor(training.LEVELS) == pytest.approx(3341.312, abs=5e-4)
    assert training.floor(training.LEVELS, 2) == pytest.approx(1.174866, abs=5e-7)
    assert training.zero([0.1]) == pytest.approx(200)
    assert training.zero(training.LEVELS) == pytest.approx(3343.4375)
    assert training.zero(training.LEVELS, 2) == pytest.approx(2)


class ExactNetwork(nn.Sequential):
    """The exact score of (x, s), or a multiple of it, in the place of a network."""

    def __init__(self, factor):
        super().__init__(nn.utils.skip_init(nn.Linear, 3, 2))
        self.factor = factor

    def forward(self, inputs):
        x, s = inputs[:, :2], inputs[:, 2]
        return -self.factor * training.TARGET.posterior(x, torch.ones_like(s), s)[1] / s[:, None]


@pytest.mark.parametrize(("factor", "known"), [(1.0, training.floor), (0.0, training.zero)])
@pytest.mark.parametrize("power", [0, 2])
def test_the_loss_of_the_exact_score_is_the_floor_and_of_zero_the_zero(factor, known, power, generator):
    """100,000 rows at two levels; 5 standard errors, of which the noise |z|^2 / s^2 makes 2 s^-2: below 6e-7 a case."""
    levels = (2.0, 0.5)
    s = torch.tensor(levels, dtype=F64).repeat(50_000)[:, None]
    x = training.TARGET.sample(len(s), generator)
    found = float(training.loss(ExactNetwork(factor), x, s, generator, power).detach())
    spread = math.sqrt(np.mean([(2 * level ** (power - 2)) ** 2 * 2 for level in levels]) / len(s))
    assert found == pytest.approx(known(levels, power), abs=5 * spread)


def test_relative_errors_are_those_of_multiples_of_the_truth():
    for level in 4.0, 0.01:
        truth = training.TARGET.noised(1.0, level).score
        for factor in 0.0, 0.7, 1.0:
            assert training.relative_error(lambda x, c=factor, f=truth: c * f(x), level) == pytest.approx(
                (1 - factor) ** 2, abs=1e-12
            )


def test_networks_and_batches_are_the_published_ones(generator):
    count = lambda *sizes: sum(
        p.numel() for p in dense(*sizes, activations=nn.SiLU(), generator=generator).parameters()
    )
    assert (count(2, 128, 128, 128, 2), count(3, 128, 128, 128, 2)) == (33_666, 33_794)
    layer = dense(4, 1000, activations=nn.SiLU(), generator=generator)[0]
    assert 0.498 < float(layer.weight.abs().max().detach()) <= 0.5  # PyTorch's own bound, 1 / sqrt(4)
    batches = list(shuffled(10_000, 128, generator))
    assert (len(batches), len(batches[-1])) == (79, 16)
    assert torch.equal(torch.cat(batches).sort().values, torch.arange(10_000))


@pytest.mark.slow
def test_the_right_cluster_is_a_disc_and_its_share_is_that_of_two_noncentral_laws():
    """Points at half the distance are a circle around (4, 8/3) (Apollonius); its masses by SciPy's ncx2."""
    radius, centre = 0.5 * math.sqrt(13) / 0.75, np.array([4, 8 / 3])
    angle = np.linspace(0, 2 * np.pi, 50)
    circle = centre + radius * np.column_stack([np.cos(angle), np.sin(angle)])
    for scale, inside in (1 - 1e-9, True), (1 + 1e-9, False):
        assert (training.is_right(torch.from_numpy(centre + scale * (circle - centre))) == inside).all()
    left = ncx2.cdf(radius**2, 2, centre @ centre)
    right = ncx2.cdf(4 * radius**2, 2, 4 * ((centre - [3, 2]) ** 2).sum())
    assert training.exact_clusters().mass == pytest.approx((left + right) / 2, abs=2e-5)


def test_the_spreads_of_the_clusters_are_those_of_the_disc_and_of_the_rest():
    """Moments over the disc in polar coordinates; those outside are the target's less those inside."""
    radius, (cx, cy) = 0.5 * math.sqrt(13) / 0.75, (4, 8 / 3)
    nodes, weights = np.polynomial.legendre.leggauss(120)
    r, angle = radius * (nodes + 1) / 2, 2 * np.pi * np.arange(240) / 240
    x, y = cx + r[:, None] * np.cos(angle), cy + r[:, None] * np.sin(angle)
    w = mixture_in_numpy(x, y, 0.0)[0] * (weights * radius / 2 * r)[:, None] * 2 * np.pi / 240
    inside = np.array([w.sum(), (w * x).sum(), (w * y).sum(), (w * (x**2 + y**2)).sum()])
    whole = np.array([1.0, 1.5, 1.0, (2 + 0.5 + 13) / 2])
    for moments, found in (inside, "right"), (whole - inside, "left"):
        mean, square = moments[1:3] / moments[0], moments[3] / moments[0]
        exact = math.sqrt((square - mean @ mean) / 2)
        assert getattr(training.exact_clusters(), found) == pytest.approx(exact, rel=5e-5)
    assert training.exact_clusters().mass == pytest.approx(inside[0], abs=2e-5)


@mpmath.workdps(50)
def test_scores_in_the_corners_are_exact_where_the_page_has_none():
    """Against mpmath with 50 digits, and the page's formula written a second time."""
    for corner in (-5, -5), (-5, 5), (5, -5), (5, 5):
        x = [mpmath.mpf(c) for c in corner]
        parts = [
            (mpmath.exp(-sum((a - b) ** 2 for a, b in zip(x, m, strict=True)) / (2 * v)) / (2 * mpmath.pi * v), m, v)
            for m, v in (((0, 0), mpmath.mpf(1)), ((3, 2), mpmath.mpf(1) / 4))
        ]
        point = torch.tensor([corner], dtype=F64)
        exact, page = training.TARGET.score(point)[0], figures.page_score(point)[0]
        for j in range(2):
            slope = sum(p * (m[j] - x[j]) / v for p, m, v in parts)
            total = sum(p for p, _, _ in parts)
            assert float(exact[j]) == pytest.approx(float(slope / total), rel=1e-13)
            assert float(page[j]) == pytest.approx(float(slope / (total + mpmath.mpf("1e-8"))), rel=1e-12)
    np.testing.assert_allclose(figures.page_score(torch.full((1, 2), -5.0, dtype=F64)), 0.0011, atol=6e-6)


def test_the_annealing_of_the_page_takes_its_published_steps(generator):
    """With the same noise, a score of 1 in place of 0 moves a chain by the sum of the sizes so far."""
    x, paths = torch.zeros(3, 2, dtype=F64), []
    for constant in 0.0, 1.0:
        draw = torch.Generator().manual_seed(1)
        paths.append(mended.published(lambda s, c=constant: lambda x: torch.full_like(x, c), x, draw, 150))
    moved = torch.stack(paths[1]) - torch.stack(paths[0])
    sizes = np.array([1.6, 0.4, 0.1, 0.025, 0.004, 1e-5])
    np.testing.assert_allclose(moved[:, 0, 0], [0, *np.cumsum(150 * sizes)], rtol=1e-9)


def test_annealing_by_width_takes_steps_of_a_twentieth_of_the_squared_width():
    """By the same shift, 150 steps at each of ten levels."""
    x, ends = torch.zeros(3, 2, dtype=F64), []
    for constant in 0.0, 1.0:
        draw = torch.Generator().manual_seed(1)
        ends.append(mended.by_width(lambda s, c=constant: lambda x: torch.full_like(x, c), x, draw))
    exact = 150 * sum(0.25 + s**2 for s in mended.NOISES) / 20
    torch.testing.assert_close(ends[1] - ends[0], torch.full((3, 2), exact, dtype=F64))


def test_other_levels_and_steps_may_be_given():
    """By the same shift, 10 steps of 0.1 and 0.2 at two levels."""
    x, ends = torch.zeros(3, 2, dtype=F64), []
    for constant in 0.0, 1.0:
        draw = torch.Generator().manual_seed(1)
        scores = lambda s, c=constant: lambda x: torch.full_like(x, c * s)
        ends.append(mended.by_levels(scores, [3.0, 1.0], [0.1, 0.2], x, draw, 10))
    torch.testing.assert_close(ends[1] - ends[0], torch.full((3, 2), 10 * (3 * 0.1 + 0.2), dtype=F64))


def test_the_model_of_all_levels_has_the_parameters_that_the_documents_state():
    assert sum(p.numel() for p in mended.learn(0, 1).net.parameters()) == 8706


def test_the_levels_are_geometric_in_the_width_of_the_narrower_component():
    assert mended.NOISES[0] == pytest.approx(2)
    assert mended.NOISES[-1] == pytest.approx(0.05)
    widths = np.hypot(0.5, mended.NOISES)
    np.testing.assert_allclose(widths, mended.WIDTHS)
    assert np.ptp(widths[1:] / widths[:-1]) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize(("way", "excess"), [(mended.by_width, 1 / (1 - 1 / 40)), (mended.with_momentum, 1.0)])
def test_chains_come_to_rest_at_their_known_variance(way, excess, generator):
    """On the narrower component alone, v / (1 - h / 2v) at h = v / 20 and exactly v with momentum; rate 6e-7 each."""
    score = lambda s: lambda x: -x / (0.25 + s**2)
    x = way(score, mended.start(10_000, 2.0, generator), generator)
    assert float(x.square().mean()) == pytest.approx(0.2525 * excess, rel=5 * math.sqrt(2 / x.numel()))


def test_the_losses_that_the_page_printed_stand_beside_ours_of_the_same_epoch():
    runs = [training.Trained(nn.Sequential(), [float(i + k) for i in range(1, 101)]) for k in (0, 2)]
    for printed in tutorial.PRINTED, tutorial.PRINTED_ANNEALED:
        rows = tutorial.losses("a", printed, runs, [0.1])
        assert [rows[f"a: loss of epoch {e}"]["published"] for e in range(10, 101, 10)] == printed
        assert [rows[f"a: loss of epoch {e}"]["median"] for e in range(10, 101, 10)] == list(range(11, 102, 10))
        assert rows["a: mean of the printed losses"]["median"] == 56
    assert np.mean(tutorial.PRINTED) == pytest.approx(196.05, abs=5e-3)
    assert np.mean(tutorial.PRINTED_ANNEALED) == pytest.approx(3334.2, abs=0.05)


@pytest.mark.slow
def test_a_reduced_run_reports_the_known_truths(run):
    out, results = run
    assert json.loads(json.dumps(results)) == results
    value = lambda name: results[name]["median"]
    assert value("integral of the page's density") == pytest.approx(2, abs=1e-6)
    assert value("integral of the page's kernel (19) at noise 0.1") == pytest.approx(0.1, abs=1e-12)
    assert value("score at (-5, -5) by the page's formula") == pytest.approx(0.0011, abs=6e-6)
    assert value("share of the page's grid where its score is off by a tenth") == pytest.approx(0.143, abs=6e-4)
    mean = results["one level: mean of the printed losses"]
    assert (mean["floor"], mean["zero"]) == (pytest.approx(195.4439, abs=5e-5), pytest.approx(200))
    shares = [value(f"Langevin, step {s}: share of the right cluster, exact score") for s in (401, 501)]
    assert all(0.2 < share < 0.35 for share in shares)  # the target has 0.497: 500 steps do not mix
    for name, row in results.items():
        if "share of the right cluster" in name:
            assert row["floor"] == training.exact_clusters().mass
    folders = {path.parent.name + "/" + path.stem for path in out.rglob("*.png")}
    published = {"target", "fields", "loss", "langevin", "annealed-loss", "annealed"}
    corrected = {"target", "corners", "fields", "langevin", "mixing", "errors"}
    corrected |= {"annealed-page", "annealed-weighted", "ends"}
    assert folders == {f"as-published/{n}" for n in published} | {f"corrected/{n}" for n in corrected}


@pytest.mark.slow
def test_annealing_by_width_with_momentum_gives_the_masses_and_spreads_of_the_target():
    """60,000 chains with exact scores: share within 0.01, 5 standard errors, and spreads within 2 per cent, 6."""
    results = mended.with_exact_scores(60_000, 10_000)
    value = lambda name: results[f"exact scores, {name}"]["median"]
    exact, name = training.exact_clusters(), "60,000 chains, with momentum"
    assert value(f"{name}: share of the right cluster") == pytest.approx(exact.mass, abs=0.01)
    assert value(f"{name}: spread of the right cluster") == pytest.approx(exact.right, rel=0.02)
    assert value(f"{name}: spread of the left cluster") == pytest.approx(exact.left, rel=0.02)
    assert value("10,000 chains, levels and steps by noise: spread of the right cluster") > 1.05 * exact.right


@pytest.mark.slow
def test_the_weight_of_the_loss_and_a_model_of_all_levels_learn_every_level():
    """Without weight the largest level stays worse than a zero network; with it, and in the model, it is learned."""
    plain, weighted = (training.train(0, training.LEVELS, 5, power=power) for power in (0, 2))
    model = mended.learn(0, 6000)
    for level in (4.0, *mended.NOISES):  # below 0.05 it is not asked
        assert training.relative_error(mended.learned(model)(level), level) < 0.05
    assert training.relative_error(plain.at(4.0), 4.0) > 1 > 0.1 > training.relative_error(weighted.at(4.0), 4.0)
    rows = training.clusters(training.TARGET.sample(training.ROWS, training.spawn(0, "rows")))
    flow = training.clusters(mended.by_flow(model, 20_000, training.spawn(0, "flow")).double())
    assert flow.mass == pytest.approx(rows.mass, abs=0.03)
