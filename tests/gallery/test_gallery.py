"""The gallery: each entry runs at reduced size, and what it reports are the truths known without training."""

import json
import math

import numpy as np
import pytest
import torch
from commands import refused
from matplotlib.figure import Figure
from PIL import Image

from scorefield.gallery import ENTRIES, Entry, report
from scorefield.gallery.finite_difference import published, training, tutorial
from scorefield.numerics.tensors import spawn


@pytest.fixture(scope="module")
def finite(tmp_path_factory) -> tuple:
    """Entry 001 at reduced size: its folder and its results."""
    out = tmp_path_factory.mktemp("gallery")
    return out, ENTRIES["001-finite-difference"].run(out, quick=True)


def test_a_row_holds_the_median_and_range_of_the_seeds():
    found = report.row("a", {"first": 2.0}, [3.0, 1.0, 7.0, 2.0], floor=0.5, zero=4.0)
    assert found == {
        "a": {
            "published": {"first": 2.0},
            "median": 2.5,
            "low": 1.0,
            "high": 7.0,
            "seeds": 4,
            "floor": 0.5,
            "zero": 4.0,
        }
    }
    with pytest.raises(ValueError, match="'a' needs a value of at least one seed; got none"):
        report.row("a", None, [])


def test_an_animation_holds_the_frames_that_were_drawn_at_their_speed(tmp_path):
    figure = Figure(figsize=(2, 1))
    line = figure.subplots().plot([0, 1], [0, 0])[0]
    report.save_animation(figure, lambda i: line.set_ydata([0, i / 10]), 4, 10, tmp_path / "new" / "a.gif")
    with Image.open(tmp_path / "new" / "a.gif") as image:
        assert (image.n_frames, image.info["duration"]) == (4, 100)


@pytest.mark.slow
def test_finite_differences_leave_the_figures_and_animations_of_the_tutorial_and_results(finite):
    out, results = finite
    assert len([*(out / "as-published").glob("*.png")]) == 20
    assert len([*(out / "as-published").glob("*.gif")]) == 3
    assert {path.stem for path in (out / "corrected").iterdir()} == {
        "recovery",
        "one-scale",
        "few-samples",
        "all-seeds",
    }
    assert json.loads(json.dumps(results)) == results


@pytest.mark.slow
def test_finite_differences_report_every_published_number(finite):
    for letter in "abcdef":
        assert {letter} == {name[0] for name in finite[1] if name.startswith(f"{letter}: loss at")}
        assert finite[1][f"{letter}: last loss"]["published"] == published.ENDS[letter]
        assert f"{letter}: loss at step 25" in finite[1]
    assert [len(published.LOSSES[letter]) for letter in "abcdef"] == [20, 20, 40, 20, 20, 20]


@pytest.mark.slow
def test_constants_floors_and_the_zero_network_of_tutorial_001(finite):
    """Written a second time by a fine quadrature of E score^2 / 2, in NumPy."""
    x = np.linspace(-13, 13, 200_001)
    left, right = 0.1 * np.exp(-((x + 3) ** 2) / 2), 0.9 * np.exp(-((x - 3) ** 2) / 2)
    score = (-(x + 3) * left - (x - 3) * right) / (left + right)
    constant = ((left + right) * score**2).sum() * (x[1] - x[0]) / math.sqrt(2 * math.pi) / 2
    results = finite[1]
    assert results["constant C = E score^2 / 2 in nats"]["median"] == pytest.approx(constant, abs=5e-8)
    assert constant == pytest.approx(0.489386461, abs=1e-9)
    assert results["a: last loss"]["zero"] == pytest.approx(2 * constant / (200 * training.DX), abs=1e-8)
    assert results["b: last loss"]["zero"] == pytest.approx(12.28665, abs=5e-6)
    assert results["c: last loss"]["zero"] == 0
    assert results["c: last loss"]["floor"] == pytest.approx(-0.024353, abs=5e-7)
    for letter in "de":
        assert -0.56 < results[f"{letter}: last loss"]["floor"] < -0.42  # E +- 3 standard deviations over samples


def test_the_implicit_loss_on_the_grid_is_half_the_explicit_one_less_a_constant():
    """Hyvarinen's identity in the tutorial's units, also for its printed pairs; the step's error is quadratic."""
    constant = 0.489386461 / (200 * training.DX)
    for version in published.FIRST, published.LATER:
        esm, fdsm = (published.STARTS[letter][version] for letter in "ac")
        assert fdsm == pytest.approx(esm / 2 - constant, abs=2e-6)
    for seed in range(20):
        net = training.network(spawn(seed, "weights"))
        with torch.no_grad():
            assert float(training.fdsm(net)) == pytest.approx(float(training.esm(net)) / 2 - constant, abs=2e-5)


@pytest.mark.slow
def test_a_sum_shifts_the_density_by_half_a_cell_and_simpsons_rule_does_not(finite):
    results = finite[1]
    assert results["total variation of the true score, by sum"]["median"] == pytest.approx(0.0199, abs=1e-4)
    assert results["total variation of the true score, by Simpson"]["median"] < 1e-6
    score = training.SCORE[:, 0].numpy()
    shifted = training.TARGET.log_prob(training.GRID + training.DX / 2).exp().numpy()
    assert (
        np.abs(training.by_sum(score) - shifted).max()
        < 2e-4
        < np.abs(training.by_sum(score) - training.PDF.numpy()).max()
    )


def test_training_stops_where_the_held_out_loss_is_smallest():
    generator = spawn(0, "sample")
    learn, judge = (training.empirical(training.TARGET.sample(n, generator)) for n in (16, 64))
    start = training.network(spawn(0, "weights"))
    free, held = (training.train(start, learn, 100, held_out=loss) for loss in (None, judge))
    assert free.kept == 25
    assert free.losses == held.losses
    assert (free.scores == held.scores).all()
    assert not start[0].bias.any()  # the start is not touched


@pytest.mark.slow
def test_the_trainings_reach_what_they_must_and_the_corrected_ones_more():
    """Medians over the seeds 0 to 2: of a at most 1e-4, of c at most 3e-5 above the loss of the true score."""
    studies = [tutorial.study(seed, 500) for seed in range(3)]
    results = tutorial.as_published(studies) | tutorial.corrected(studies)
    assert results["a: last loss"]["median"] <= 1e-4
    assert results["c: last loss less that of the true score"]["median"] <= 3e-5
    for measure in "Fisher divergence in nats", "total variation, by Simpson":  # f varies too much for few seeds
        assert results[f"d, regularised: {measure}"]["median"] < results[f"d: {measure}"]["median"]
    for study in studies:  # the penalty adds to the loss of the same start, with either step; the step changes it
        for letter in "df":
            first = {name: study.trained[f"{letter}, {name}"].losses[0] for name in ("best start", "wide step")}
            assert study.trained[f"{letter}, penalty"].losses[0] > first["best start"]
            assert study.trained[f"{letter}, regularised"].losses[0] > first["wide step"] != first["best start"]


def test_the_command_lists_entries_and_names_mistakes(run_main, tmp_path):
    code, out, _ = run_main("gallery", "list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(ENTRIES)
    refused(run_main("gallery", "run"), "expected an entry of the gallery", "001-finite-difference")
    refused(run_main("gallery", "run", "002"), "got '002'")
    refused(run_main("gallery", "run", "001-finite-difference"), "expected a folder to write", "--out")
    refused(run_main("gallery", "walk"), "walk")
    (tmp_path / "file").write_text("x")
    refused(run_main("gallery", "run", "001-finite-difference", "--out", tmp_path), "is not empty", "--force")
    refused(run_main("gallery", "run", "001-finite-difference", "--out", tmp_path / "file"), "is a file")
    refused(run_main("gallery", "run", "001-finite-difference", "--out", tmp_path / "new", "--seeds", 0), "--seeds")


def test_the_command_writes_results(run_main, tmp_path, monkeypatch):
    entry = Entry("a title", lambda out, *, seeds: report.row("a", 1.0, [float(seeds), 2.0]))
    monkeypatch.setitem(ENTRIES, "made-up", entry)
    code, out, err = run_main("gallery", "run", "made-up", "--out", tmp_path / "new", "--seeds", 4)
    assert (code, out) == (0, ""), err
    assert "results.json" in err
    assert json.loads((tmp_path / "new" / "results.json").read_text()) == report.row("a", 1.0, [4.0, 2.0])
