"""Gallery 002, the part without an SDE: the smallest loss a second time, the score, the chains, a reduced run."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from scorefield.gallery import ENTRIES
from scorefield.gallery.langevin_roll import tutorial
from scorefield.gallery.langevin_roll.tutorial import ROLL, Trained, Way, true_score
from scorefield.gallery.networks import dense
from scorefield.inference.langevin import score_of
from scorefield.numerics.tensors import spawn
from scorefield.training.objectives.losses import explicit, implicit

F64 = torch.float64


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Entry 002-langevin at reduced size: its folder and its results."""
    out, state = tmp_path_factory.mktemp("gallery"), torch.get_rng_state()
    results = ENTRIES["002-langevin"].run(out, quick=True)
    assert torch.equal(torch.get_rng_state(), state)
    return out, results


def roll_in_numpy(points, count=600):
    """Density and score of the roll: the mean over u of Gaussians around t (cos t, sin t) / 10, t = 3 pi (1 + 2u) / 2."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    t = 1.5 * np.pi * (2 + nodes)
    curve = np.column_stack([t * np.cos(t), t * np.sin(t)]) / 10
    far = points[:, None] - curve
    kernels = np.exp(-50 * (far**2).sum(-1)) / (2 * np.pi * 0.01)
    density = kernels @ weights / 2
    return density, -100 * np.einsum("nk,nkj,k->nj", kernels, far, weights / 2) / density[:, None]


@pytest.mark.slow
def test_the_smallest_implicit_loss_a_second_time():
    """-E |score|^2 / 2 with other nodes along the curve and in the plane; the reference's -49.67 is an estimate."""
    x, y = np.linspace(-2, 2, 141), np.linspace(-2.05, 2.05, 143)
    points = np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2)
    parts = [roll_in_numpy(part, 300) for part in np.array_split(points, 20)]
    area = (x[1] - x[0]) * (y[1] - y[0])
    smallest = -sum((p * (s**2).sum(1)).sum() for p, s in parts) * area / 2
    assert sum(p.sum() for p, _ in parts) * area == pytest.approx(1, abs=1e-6)
    assert tutorial.truths()[0] == pytest.approx(smallest, abs=1e-4)
    assert smallest == pytest.approx(-49.67, rel=0.006)


def test_the_true_score_is_that_of_the_density(generator):
    x = ROLL.sample(200, generator)
    density, score = roll_in_numpy(x.numpy())
    np.testing.assert_allclose(true_score(x), score, atol=1e-6)
    torch.testing.assert_close(true_score(x), score_of(tutorial.target().log_prob)(x))
    np.testing.assert_allclose(tutorial.target().log_prob(x), np.log(density), atol=1e-10)
    torch.testing.assert_close(true_score(x.float()).double(), true_score(x.float().double()), atol=2e-3, rtol=1e-4)


def test_the_mean_of_the_implicit_loss_of_the_true_score_and_the_share_at_the_bottom_left(generator):
    """40,000 rows, 5 standard errors each: false-alarm rate 1.2e-6."""
    x = ROLL.sample(40_000, generator)
    smallest, share = tutorial.truths()
    values = implicit(true_score, x)
    assert float(values.mean()) == pytest.approx(smallest, abs=5 * float(values.std()) / 200)
    found = float(tutorial.bottom_left(x).double().mean())
    assert found == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / len(x)))


def test_the_loss_and_the_error_on_other_rows_differ_by_the_smallest_loss():
    """Hyvarinen's identity for a network in training: 4,000 rows, 5 standard errors, false-alarm rate 6e-7."""
    found = tutorial.train(0, Way(100, 20, 3e-3))
    x = ROLL.sample(tutorial.OTHERS, spawn(0, "others")).float()
    each = implicit(found.net, x) - explicit(found.net, x, true_score)
    assert found.held_out[-1] - found.errors[-1] == pytest.approx(float(each.detach().mean()), abs=1e-3)
    spread = 5 * float(each.detach().std()) / math.sqrt(len(x))
    assert found.held_out[-1] - found.errors[-1] == pytest.approx(tutorial.truths()[0], abs=spread)


def test_training_takes_the_batches_the_rate_and_the_curvature_that_it_is_told(monkeypatch):
    """The rate falls along half a cosine; batches of 300, 300, 300 and 100 rows; a heavy curvature flattens."""
    rates, sizes = [], []

    def noted(optimiser, loss):
        rates.append(optimiser.param_groups[0]["lr"])
        return 0.0

    def counted(score, x, curvature=0.0):
        sizes.append((len(x), curvature))
        return implicit(score, x, curvature=curvature)

    monkeypatch.setattr(tutorial, "descend", noted)
    monkeypatch.setattr(tutorial, "implicit", counted)
    tutorial.train(0, Way(300, 4, 0.1, curvature=0.5, falls=True))
    np.testing.assert_allclose(rates[::4], [0.1, 0.1 * (1 + 0.5**0.5) / 2, 0.05, 0.1 * (1 - 0.5**0.5) / 2])
    assert sizes == 4 * [(300, 0.5), (300, 0.5), (300, 0.5), (100, 0.5)]


def test_the_network_has_the_published_number_of_parameters(generator):
    net = dense(2, 64, 64, 64, 2, activations=nn.LogSigmoid(), generator=generator)
    assert sum(p.numel() for p in net.parameters()) == 8642


def test_chains_start_in_the_square_and_take_steps_of_the_published_size():
    """Without a score the variance is 0.002 a step; 5 standard errors: false-alarm rate 6e-7."""
    path = tutorial.follow(torch.zeros_like, spawn(0, "chains"), 50)
    assert (len(path), len(path[0])) == (51, 1000)
    assert float(path[0].abs().max()) <= 1
    assert float(path[0].square().mean()) == pytest.approx(1 / 3, abs=5 * math.sqrt(4 / 45 / 2000))
    assert float((path[50] - path[0]).square().mean()) == pytest.approx(0.1, rel=5 * math.sqrt(2 / 2000))
    pushed = tutorial.follow(torch.ones_like, spawn(0, "chains"), 50)
    torch.testing.assert_close(pushed[50] - path[50], torch.full((1000, 2), 0.05), atol=1e-5, rtol=0)


def test_the_printed_losses_stand_beside_ours_of_the_same_epoch(tmp_path):
    net = nn.Sequential()
    rows = tutorial.losses(tmp_path, [Trained(net, [float(i) for i in range(1, 5001)], [], [])])
    names = [f"loss of epoch {1 + 500 * i}" for i in range(10)]
    assert list(rows) == names
    assert [rows[name]["published"] for name in names] == tutorial.PRINTED
    assert [rows[name]["median"] for name in names] == [1 + 500 * i for i in range(10)]
    assert (len(tutorial.PRINTED), tutorial.FRAMES) == (10, 30)
    assert sum(loss < tutorial.truths()[0] for loss in tutorial.PRINTED) == 7  # no true score has these


@pytest.mark.slow
def test_a_reduced_run_reports_the_known_truths(run):
    out, results = run
    assert json.loads(json.dumps(results)) == results
    smallest, share = tutorial.truths()
    first = results["loss of epoch 1"]
    assert (first["published"], first["floor"], first["zero"]) == (-0.054, smallest, 0.0)
    for way in "as published", "regularised":
        assert results[f"{way}: error of the score, last"]["zero"] == -smallest
        assert results[f"{way}: error of the score, last"]["median"] < -smallest  # better than a zero network
    for name in "as published", "exact score", "another sample":
        assert results[f"{name}: share at the bottom left"]["floor"] == share
    another = results["another sample: sliced Wasserstein distance to the roll"]["median"]
    assert 0.01 < another < 0.05  # two samples of one law
    with Image.open(out / "as-published" / "langevin.gif") as image:
        assert image.n_frames == 4
    folders = {path.parent.name + "/" + path.stem for path in out.rglob("*.png")}
    corrected = {f"corrected/{n}" for n in ("held-out", "fields", "samples")}
    assert folders == {"as-published/loss", "as-published/samples"} | corrected


@pytest.mark.slow
def test_the_network_learns_its_rows_and_regularised_it_does_not():
    """Without the penalty alone the loss falls below that of the true score, and the error on other rows rises."""
    free = tutorial.train(0, replace(tutorial.REGULARISED, curvature=0.0))
    smallest = tutorial.truths()[0]
    assert free.losses[-1] < smallest
    assert free.errors[-1] > 1.1 * min(free.errors)
    tame = tutorial.train(0, tutorial.REGULARISED)
    assert tame.errors[-1] < min(0.75 * free.errors[-1], 1.05 * min(tame.errors))
