"""ScoreDensity: scikit-learn's whole contract, frames in and out, the saved run, the two meanings of score."""

import itertools
import math
import pickle
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import scorefield
from scorefield import VP, LinearSDE, ScoreDensity
from scorefield.inference.likelihood import LogProb
from scorefield.kinds import estimator as estimators
from scorefield.kinds.tables import estimator as tables
from scorefield.kinds.tables.estimator import automatic_steps
from scorefield.training import candidates
from scorefield.training.budget import Budget

FAST = {"max_iter": 60, "random_state": 0}


@pytest.mark.slow
@parametrize_with_checks([ScoreDensity(max_iter=3, random_state=0)])
def test_scikit_learns_contract(estimator, check, monkeypatch):
    monkeypatch.setattr(candidates, "COMPONENTS", (1, 2))  # the contract does not depend on how many bases are tried
    monkeypatch.setattr(candidates, "REGULARISATION", (1e-2,))
    check(estimator)


def points(n: int = 300, seed: int = 0) -> np.ndarray:
    draw = np.random.Generator(np.random.PCG64(seed))
    return draw.normal([3.0, -200.0], [0.5, 40.0], size=(n, 2))


@pytest.fixture(scope="module")
def fitted() -> ScoreDensity:
    return ScoreDensity(**FAST).fit(points(2000))


@pytest.mark.slow
def test_a_gaussian_is_learned_in_its_own_units(fitted):
    """Mean log-likelihood within 0.05 nats of the truth on the same fresh points (paired), score within 0.5 per std."""
    fresh, std = points(500, seed=9), np.array([0.5, 40.0])
    z = (fresh - [3.0, -200.0]) / std
    truth = -(z**2).sum(1) / 2 - np.log(2 * np.pi * std.prod())
    difference = truth - fitted.score_samples(fresh)
    assert abs(difference.mean()) < 0.05 + 5 * difference.std() / np.sqrt(500)
    assert np.sqrt((((fitted.score_function(fresh) * std) + z) ** 2).mean()) < 0.5


@pytest.mark.slow
def test_score_is_the_mean_log_likelihood_and_score_function_its_gradient(fitted):
    """The gradient of score_samples by central differences as wide as the smoothing at which the score is read."""
    x = points(20, seed=3)
    assert fitted.score(x) == fitted.score_samples(x).mean()
    step = fitted.score_ratio_ * np.array([0.5, 40.0])
    for i in range(2):
        h = np.eye(2)[i] * step[i]
        slope = (fitted.score_samples(x + h) - fitted.score_samples(x - h)) / (2 * step[i])
        assert np.corrcoef(slope, fitted.score_function(x)[:, i])[0, 1] > 0.98


@pytest.mark.slow
def test_samples_have_the_right_units_and_are_prefixes(fitted):
    x = fitted.sample(2000, random_state=1)
    assert isinstance(x, np.ndarray)
    assert np.abs((x.mean(0) - [3.0, -200.0]) / [0.5, 40.0]).max() < 0.15
    assert np.abs(x.std(0) / [0.5, 40.0] - 1).max() < 0.1
    assert (fitted.sample(10, random_state=1) == x[:10]).all()
    assert not (fitted.sample(10, random_state=2) == x[:10]).any()


@pytest.mark.slow
def test_the_same_random_state_gives_the_same_model():
    x = points()
    first, second, other = (ScoreDensity(max_iter=20, random_state=seed).fit(x) for seed in (1, 1, 2))
    assert (first.score_samples(x[:5]) == second.score_samples(x[:5])).all()
    assert first.losses_ != other.losses_  # the model may be the base, which has no random state


def mixed_frame(n: int = 400) -> pd.DataFrame:
    draw = np.random.Generator(np.random.PCG64(1))
    return pd.DataFrame(
        {
            "weight": draw.normal(70, 9, n).astype(np.float32),
            "visits": draw.poisson(3, n),
            "member": draw.random(n) < 0.4,
            "version": np.full(n, 2),
        }
    )


@pytest.mark.slow
def test_frames_come_back_with_names_types_and_constants():
    frame = mixed_frame()
    estimator = ScoreDensity(**FAST).fit(frame)
    sample = estimator.sample(50)
    assert (sample.dtypes == frame.dtypes).all()
    assert list(sample.columns) == list(frame.columns)
    assert (sample["version"] == 2).all()
    assert 1 < sample["visits"].mean() < 5
    assert estimator.score_samples(frame[:20]).shape == (20,)
    gradient = estimator.score_function(frame[:40])
    assert list(gradient.columns) == list(frame.columns)
    assert (gradient["version"] == 0).all()
    assert list(estimator.feature_names_in_) == list(frame.columns)


@pytest.mark.slow
def test_it_works_in_a_pipeline_a_clone_and_cross_validation():
    x = points()
    pipeline = make_pipeline(StandardScaler(), ScoreDensity(**FAST)).fit(x)
    scaled = StandardScaler().fit(x)
    jacobian = np.log(scaled.scale_).sum()
    alone = ScoreDensity(**FAST).fit(x)
    assert pipeline.score(x) - jacobian == pytest.approx(alone.score(x), abs=1e-3)
    assert pipeline.score_samples(x).shape == (300,)
    assert np.isfinite(cross_val_score(clone(alone), x, cv=3)).all()


@pytest.mark.slow
def test_a_saved_run_is_the_same_estimator(fitted, tmp_path):
    fitted.save(tmp_path / "run")
    loaded = scorefield.load(tmp_path / "run")
    x = points(20)
    assert (loaded.score_samples(x) == fitted.score_samples(x)).all()
    assert (loaded.score_function(x) == fitted.score_function(x)).all()
    assert (loaded.sample(5, random_state=0) == fitted.sample(5, random_state=0)).all()
    assert loaded.n_iter_ == fitted.n_iter_
    with pytest.raises(ValueError, match=r"exists and is not a run|not empty|holds"):
        fitted.save(tmp_path / "run")


@pytest.mark.slow
def test_a_saved_frame_estimator_gives_frames(tmp_path):
    frame = mixed_frame()
    ScoreDensity(max_iter=5, random_state=0).fit(frame).save(tmp_path / "run")
    loaded = scorefield.load(tmp_path / "run")
    assert (loaded.sample(3).dtypes == frame.dtypes).all()


@pytest.mark.slow
def test_it_can_be_pickled_by_its_user(fitted):
    copy = pickle.loads(pickle.dumps(fitted))
    assert (copy.score_samples(points(5)) == fitted.score_samples(points(5))).all()


@pytest.mark.slow
def test_automatic_steps_are_a_function_of_the_data_alone():
    assert automatic_steps(10, 5) == automatic_steps(10, 1) == 500
    assert automatic_steps(900, 5) == automatic_steps(900, 1) == 3000
    assert (automatic_steps(2500, 1), automatic_steps(2500, 3)) == (5000, 4000)
    assert automatic_steps(10**6, 1) == 8000
    x = points(40)
    assert ScoreDensity(random_state=0).fit(x).n_iter_ == automatic_steps(36, 5)


def test_a_time_budget_replaces_the_number_of_steps(monkeypatch, tmp_path):
    """On a clock on which a step takes 0.1 s; the steps that it led to, given as max_iter, learn the same model."""
    clock = itertools.count()
    monkeypatch.setattr(estimators, "Budget", partial(Budget, clock=lambda: 0.1 * next(clock)))
    by_clock = ScoreDensity(time_budget=6.0, random_state=0).fit(points(9))
    assert by_clock.n_iter_ == by_clock.config_.steps == 60
    by_number = ScoreDensity(max_iter=60, random_state=0).fit(points(9))
    assert by_number.config_ == by_clock.config_
    weights = by_clock.model_.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in by_number.model_.state_dict().items())
    by_clock.save(tmp_path / "run")
    assert scorefield.load(tmp_path / "run").n_iter_ == 60
    with pytest.raises(ValueError, match="a budget of 2 s is too short: 50 steps take about 5 s here"):
        ScoreDensity(time_budget=2.0, random_state=0).fit(points(9))


def test_the_global_generators_are_not_used():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    ScoreDensity(max_iter=5, random_state=3).fit(points()).sample(3)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"process": "vpp"}, r"process must be one of .*'vp'.*; got 'vpp'"),
        ({"predicts": "x"}, r"predicts must be one of .*'v'.*; got 'x'"),
        ({"objective": "none"}, r"objective must be one of .*'denoising'.*; got 'none'"),
        ({"max_iter": 0}, r"max_iter must be 'auto' or a whole number of at least 1; got 0"),
        ({"max_iter": "many"}, r"max_iter must be 'auto' or a whole number of at least 1; got 'many'"),
        ({"time_budget": -1.0}, r"time_budget must be a positive number of seconds; got -1\.0"),
    ],
)
def test_bad_options_are_named_at_fit(options, message):
    with pytest.raises(ValueError, match=message):
        ScoreDensity(**options).fit(points())


@pytest.mark.slow
def test_bad_input_is_named(fitted):
    with pytest.raises(ValueError, match="n_samples must be a whole number of at least 1; got 0"):
        fitted.sample(0)
    with pytest.raises(ValueError, match=r"sampler must be one of .*; got 'magic'"):
        fitted.sample(3, sampler="magic")
    with pytest.raises(ValueError, match="nothing to learn"):
        ScoreDensity(**FAST).fit(np.ones((10, 2)))
    with pytest.raises(ValueError, match="NaN"):
        ScoreDensity(**FAST).fit(np.array([[1.0, np.nan], [0.0, 1.0]]))


@pytest.mark.slow
def test_a_linear_sde_is_saved_without_its_functions(tmp_path):
    """The reloaded run has the same coefficients, samples and densities to the bit; it knows no f and g."""
    process = LinearSDE(lambda t: -torch.sin(6 * t), lambda t: 6 * (1 + t))
    estimator = ScoreDensity(process=process, max_iter=20, random_state=0).fit(points(60))
    estimator.save(tmp_path / "run")
    again = scorefield.load(tmp_path / "run")
    assert isinstance(again.model_.process, LinearSDE)
    t = torch.linspace(0.01, 1, 50, dtype=torch.float64)
    for coefficient in ("drift", "diffusion", "mean_coef", "std"):
        assert torch.equal(getattr(again.model_.process, coefficient)(t), getattr(process, coefficient)(t))
    assert (again.sample(20, random_state=3) == estimator.sample(20, random_state=3)).all()
    assert (again.score_samples(points(5, seed=1)) == estimator.score_samples(points(5, seed=1))).all()


def test_a_process_with_a_range_of_its_own_is_kept(tmp_path):
    estimator = ScoreDensity(process=VP(0.2, 9.0), max_iter=5, random_state=0).fit(points(60))
    assert estimator.model_.process == VP(0.2, 9.0)
    estimator.save(tmp_path / "run")
    assert scorefield.load(tmp_path / "run").model_.process == VP(0.2, 9.0)


@pytest.mark.slow
def test_bounded_columns_stay_inside_and_their_density_is_per_unit():
    """Exponential rows: samples above 0; the mean log-density of 300 fresh rows within 0.1 nats of the truth (paired)."""
    draw = np.random.Generator(np.random.PCG64(0))
    rows = pd.DataFrame({"wait": draw.exponential(3.0, 1000)})
    estimator = ScoreDensity(bounds={"wait": (0, np.inf)}, **FAST).fit(rows)
    assert (estimator.sample(2000, random_state=0)["wait"] > 0).all()
    fresh = pd.DataFrame({"wait": draw.exponential(3.0, 300)})
    gap = -fresh["wait"].to_numpy() / 3 - np.log(3) - estimator.score_samples(fresh)
    assert abs(gap.mean()) < 0.1
    with pytest.raises(ValueError, match=r"column wait: .* got -1, where the density is 0"):
        estimator.score_samples(pd.DataFrame({"wait": [-1.0]}))


@pytest.mark.slow
def test_counts_get_probabilities():
    """Poisson(2) counts: the probabilities of 0 to 12 sum to 1 within 0.02, each within 0.03 of the truth."""
    counts = np.random.Generator(np.random.PCG64(1)).poisson(2.0, 3000)
    estimator = ScoreDensity(**FAST).fit(pd.DataFrame({"n": counts}))
    values = np.arange(13)
    found = np.exp(estimator.score_samples(pd.DataFrame({"n": values})))
    truth = np.exp(values * np.log(2) - 2 - np.array([np.log(np.arange(1, k + 1)).sum() for k in values]))
    assert found.sum() == pytest.approx(1, abs=0.02)
    assert np.abs(found - truth).max() < 0.03


@pytest.mark.slow
def test_columns_of_pandas_own_types_are_numbers():
    """Int64, Float64 and boolean without missing values are learned as NumPy's types of the same numbers."""
    plain = pd.DataFrame({"a": np.arange(40) % 7, "b": np.linspace(0, 1, 40) ** 2, "c": np.arange(40) % 3 == 0})
    own = plain.astype({"a": "Int64", "b": "Float64", "c": "boolean"})
    fitted, again = (ScoreDensity(max_iter=2, random_state=0).fit(frame) for frame in (own, plain))
    assert fitted.transform_ == again.transform_
    drawn = fitted.sample(3, random_state=0)
    assert list(drawn.dtypes) == list(plain.dtypes)
    pd.testing.assert_frame_equal(drawn, again.sample(3, random_state=0))
    assert (fitted.score_samples(own) == again.score_samples(plain)).all()


def test_rows_of_several_blocks_are_counted_through():
    rows = pd.DataFrame({"a": np.arange(20.0), "b": np.arange(20.0) ** 2})
    sample = ScoreDensity(max_iter=1, random_state=0).fit(rows).sample(1500)
    assert list(sample.index) == list(range(1500))


def test_the_error_of_a_coarse_cell_is_the_spread_of_the_density_over_its_points(monkeypatch):
    """Of k values v: the standard deviation of exp(v - log mean exp v) over sqrt(k)."""
    estimator = ScoreDensity(max_iter=1, random_state=0).fit(pd.DataFrame({"n": np.arange(40) % 5}))
    drawn = torch.randn(3 * tables.CELL_POINTS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    zeros = torch.zeros_like(drawn)
    known = LogProb(drawn, zeros, zeros, zeros, zeros)
    monkeypatch.setattr(tables, "log_prob", lambda *arguments, **options: known)
    found = estimator.log_prob(pd.DataFrame({"n": [1, 2, 3]}))
    volume = estimator._in_cells(pd.DataFrame({"n": [1, 2, 3]}))
    values = np.exp(drawn.numpy().reshape(-1, 3) + np.stack([v.numpy() for _, v in volume]))
    expected = values.std(0, ddof=1) / values.mean(0) / math.sqrt(len(values))
    assert found.stderr.numpy() == pytest.approx(expected, rel=1e-6)
