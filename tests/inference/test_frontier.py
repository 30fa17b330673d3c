"""What a sampler costs and reaches on a model, and that a recommendation keeps what it promises."""

import json
import math

import pytest
import torch
from cases import DENSITIES, F64, Wavy, f64, learned
from commands import refused
from torch import Generator

from scorefield.data import toys
from scorefield.diffusion import times
from scorefield.diffusion.denoisers import ExactDenoiser
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.published import VP
from scorefield.evaluation import metrics
from scorefield.inference import frontier, probability_flow, samplers
from scorefield.inference.frontier import Bench, Point, best, choose, steps_for
from scorefield.inference.samplers import SAMPLERS
from scorefield.inference.step_grid import optimised
from scorefield.kinds.tables.estimator import ScoreDensity
from scorefield.runs import recommendation


def model_of(name: str) -> ExactDenoiser:
    density = DENSITIES[name] if name in DENSITIES else toys.TOYS[name].density
    return ExactDenoiser(density, VP())


@torch.no_grad()
def fresh_error(model: ExactDenoiser, sampler: str, steps: int, seed: int) -> float:
    """The error written a second time: other latents, the library's own `sample_blocks` pieces, the flow at 1e-9."""
    x = model.prior().sample(256, Generator().manual_seed(seed))
    grid = optimised(model, steps)
    *_, last = SAMPLERS[sampler].make(None)(model, x, grid)
    gap = model.decompose(last, grid[-1])[0] - probability_flow.decode(model, x, tol=1e-9)
    return float((gap**2).sum(1).mean().sqrt() / model.covariance.diagonal().mean().sqrt())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["8gaussians", "mixture-1d"])
def test_what_is_chosen_reaches_its_error_on_other_latents(name):
    model = model_of(name)
    for tol in (1e-1, 1e-2, 1e-3):
        found = choose(model, tol)
        assert 1.5 * found.error + 2 * found.stderr <= tol
        assert fresh_error(model, found.sampler, found.steps, seed=5) <= tol


@pytest.mark.slow
def test_what_is_chosen_reaches_its_error_on_a_learned_model():
    """In float32 as users have it; the density has edges."""
    rows = toys.load("checkerboard", 300, 0)
    model = ScoreDensity(random_state=0, max_iter=100).fit(rows).model_
    exact = frontier.copy.deepcopy(model).double()
    for tol in (1e-1, 1e-2):
        found = choose(model, tol)
        assert fresh_error(exact, found.sampler, found.steps, seed=5) <= tol


@pytest.mark.slow
def test_two_models_get_different_recommendations():
    """Two Gaussians far apart ask for more steps than one round one, which any sampler made for it solves at once."""
    easy = ExactDenoiser(GaussianMixture.isotropic(f64(1.0), f64([0.0, 0.0]), 1.0), VP())
    first, second = choose(easy, 1e-3), choose(model_of("8gaussians"), 1e-3)
    assert (first.sampler, first.steps) != (second.sampler, second.steps)
    assert first.evaluations < second.evaluations


@pytest.mark.slow
def test_a_point_says_what_was_asked_and_how_far_it_is_off():
    """One sampler against its error written a second time, on the same latents, and its calls by its row."""
    model = model_of("mixture-2d")
    bench = Bench(model, seed=3)
    for sampler, steps in (("adams", 6), ("heun", 5), ("ddim", 9)):
        found, row = bench.measure(sampler, steps), SAMPLERS[sampler]
        assert found.evaluations == row.first + row.evaluations * steps + 1
        grid, x = optimised(model, steps), bench.latents[:256]
        *_, last = row.make(None)(model, x, grid)
        gap = model.decompose(last, grid[-1])[0] - probability_flow.decode(model, x, tol=1e-8)
        assert found.error == pytest.approx(float((gap**2).sum(1).mean().sqrt()) / model.spread, rel=1e-3)
        squares = (gap**2).sum(1) / model.spread**2
        draws = squares[torch.randint(256, (4_000, 256), generator=Generator().manual_seed(0))].mean(1).sqrt()
        assert found.stderr == pytest.approx(float(draws.std()), rel=0.15)  # the bootstrap, by 4,000 draws within 2 %
    noisy = bench.measure("ancestral", 20, distance=True)
    assert (noisy.error, noisy.stderr) == (None, None)
    assert bench.measure("adaptive_flow", 1).evaluations > 10


@pytest.mark.slow
def test_the_change_of_the_energy_distance_finds_a_bad_sampler_and_passes_a_good_one():
    """At a false-alarm rate of 1e-6; three ancestral steps are far off, 300 are not."""
    bench = Bench(model_of("mixture-2d"), 1, frontier.ROWS)
    bad, good = (bench.measure("ancestral", steps, distance=True) for steps in (3, 300))
    assert bad.change > 10 * bad.change_stderr
    assert abs(good.change) < 4.9 * good.change_stderr
    close = bench.measure("adams", 60, distance=True)
    assert close.change_stderr < good.change_stderr / 100  # paired rows


@pytest.mark.parametrize(("scale", "shift"), [(0.3, 1.0), (3.0, 0.0)])
def test_the_error_of_a_change_is_its_standard_deviation(scale, shift):
    """Over 400 draws of 60 pairs and 30 rows, within 15 % (the estimate's own spread is 3.5 %).

    The rows of y make most of it where x is shifted, the distances between the x where they are spread.
    """
    generator, found = Generator().manual_seed(0), []
    normal = lambda n: torch.randn(n, 2, dtype=F64, generator=generator)
    for _ in range(400):
        x0 = normal(60)
        found.append(metrics.energy_change(scale * x0 + shift + 0.1 * normal(60), x0, normal(30)))
    values, errors = torch.tensor([each.value for each in found]), torch.tensor([each.stderr for each in found])
    assert float(errors.square().mean().sqrt()) == pytest.approx(float(values.std()), rel=0.15)
    with pytest.raises(ValueError, match="expected rows in pairs; got 20 and 30"):
        metrics.energy_change(normal(20), normal(30), normal(30))


@pytest.mark.parametrize("name", [name for name, row in SAMPLERS.items() if not row.adapts])
def test_steps_are_the_most_within_the_evaluations(name):
    row = SAMPLERS[name]
    cost = lambda steps: row.first + row.evaluations * steps + 1
    for evaluations in frontier.BUDGETS:
        steps = steps_for(row, evaluations)
        assert cost(steps) <= evaluations < cost(steps + 1)


def test_the_best_point_is_the_cheapest_that_surely_reaches():
    point = lambda sampler, evaluations, error, stderr: Point(sampler, 1, float(evaluations), error, stderr)
    points = [
        point("adams", 10, 0.009, 0.001),  # reaches 0.015 only with luck
        point("deis", 12, 0.005, 0.0001),
        point("ddim", 12, 0.004, 0.0001),
        point("heun", 11, 0.02, 0.0001),
        point("ancestral", 5, None, None),
        point("adaptive_flow", 3, 0.0001, 0.0),
    ]
    assert best(points, 0.015) is points[2]
    assert best(points, 0.016) is points[0]
    assert best(points, 0.003) is None


def test_errors_are_named():
    model = model_of("mixture-1d")
    for tol in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="expected a positive error to reach"):
            choose(model, tol)
    with pytest.raises(ValueError, match="sampler must be one of"):
        Bench(model).measure("magic", 3)


@pytest.mark.slow
def test_an_error_out_of_reach_is_a_failure_that_names_the_best(monkeypatch):
    monkeypatch.setattr(frontier, "BUDGETS", (6,))
    monkeypatch.setattr(frontier, "LARGER", (8,))
    with pytest.raises(RuntimeError, match=r"no sampler reached an error of 1e-06 .* within 8 evaluations; .* came to"):
        choose(model_of("mixture-1d"), 1e-6)


def test_a_frontier_is_read_back_only_for_its_own_model(tmp_path):
    model, other = (learned(VP(), "v", 2, net=Wavy(2, seed=seed)) for seed in (0, 1))
    points = [Point("adams", 4, 6.0, 0.1, 0.01, 0.2, 0.3), Point("ancestral", 5, 6.0, None, None, 0.1, 0.1)]
    path = tmp_path / "frontier.json"
    assert recommendation.read(path, model) is None
    recommendation.write(path, model, 0.2, points, points[0])
    assert recommendation.read(path, model) == (0.2, points[0], points)
    assert recommendation.read(path, other) is None
    for text in ("{", "[]", path.read_text().replace('"adams"', '"magic"'), path.read_text().replace('"tol"', '"t"')):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"frontier.json is damaged: .*make it again with scorefield frontier"):
            recommendation.read(path, model)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    rows = toys.load("moons", 100, 0)
    folder = tmp_path_factory.mktemp("frontier") / "run"
    ScoreDensity(random_state=0, max_iter=50).fit(rows).save(folder)
    return folder


@pytest.mark.slow
def test_the_command_recommends_and_sample_follows(run_main, run, tmp_path, monkeypatch):
    monkeypatch.setattr(frontier, "BUDGETS", (6, 12))
    monkeypatch.setattr(frontier, "ROWS", 256)
    monkeypatch.setattr(frontier, "CONVERGED", 1e-5)
    out = tmp_path / "samples.csv"
    code, text, err = run_main("frontier", run, "--tol", 0.1)
    assert code == 0, err
    kept = json.loads((run / "frontier.json").read_text())
    assert (run / "figures" / "frontier.png").is_file()
    assert text.splitlines()[-1].startswith(f"recommended for an error of 0.1: {kept['recommended']['sampler']}, ")
    assert len([line for line in text.splitlines() if line.startswith("adams ")]) == 2
    assert {point["sampler"] for point in kept["points"]} == set(SAMPLERS)
    code, _, err = run_main("sample", run, "-n", 20, "-o", out)
    assert code == 0
    assert f"{kept['recommended']['sampler']}, {kept['recommended']['steps']} steps" in err
    followed = out.read_text()
    named = ["--sampler", kept["recommended"]["sampler"], "--steps", kept["recommended"]["steps"]]
    assert run_main("sample", run, "-n", 20, "-o", out, "--force", *named)[0] == 0
    assert out.read_text() == followed
    code, _, err = run_main("sample", run, "-n", 20, "-o", out, "--force", "--tol", 0.1)
    assert out.read_text() == followed, err
    monkeypatch.setattr(frontier, "frontier", lambda model, seed: iter([Bench(model, seed).measure("adams", 10, True)]))
    code, text, _ = run_main("frontier", run, "--json", "--tol", 0.1)
    assert json.loads(text)["recommended"] == kept["recommended"]


@pytest.mark.slow
def test_the_command_names_mistakes(run_main, run, tmp_path):
    out = tmp_path / "samples.csv"
    refused(run_main("sample", run, "-o", out, "--tol", 0.1, "--steps", 3), "--tol chooses the sampler", "leave out")
    refused(run_main("sample", run, "-o", out, "--tol", 0), "positive error to reach", "got 0")
    refused(run_main("frontier", run, "--tol", -1), "--tol must be positive", "got -1")
    refused(run_main("frontier", tmp_path), "is not a run")
    assert not out.exists()


@pytest.mark.slow
def test_an_estimator_samples_to_an_error(monkeypatch):
    monkeypatch.setattr(frontier, "BUDGETS", (6, 12))
    rows = toys.load("moons", 100, 0)
    estimator = ScoreDensity(random_state=0, max_iter=20).fit(rows)
    point = choose(estimator.model_, 0.1)
    found = estimator.sample(5, random_state=1, tol=0.1)
    assert found.equals(estimator.sample(5, random_state=1, sampler=point.sampler, steps=point.steps))
    assert not found.equals(estimator.sample(5, random_state=1, steps=point.steps + 5))


def test_the_default_of_sample_is_a_walk_on_the_models_own_grid():
    model = model_of("mixture-2d")
    draw = lambda **how: samplers.sample(model, 5, generator=Generator().manual_seed(0), **how)
    assert torch.equal(draw(), draw(sampler="adams", times=optimised(model, samplers.STEPS)))
    assert not torch.equal(draw(), draw(times=times.grid(VP(), samplers.STEPS, math.inf)))
    assert draw().dtype == F64
