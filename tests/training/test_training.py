"""Training: the loop learns a known score, the average is an average, a bad loss stops it."""

from dataclasses import replace

import pytest
import torch
from cases import f64, table_learner
from torch import Generator

from scorefield.diffusion.by_name import make
from scorefield.diffusion.denoisers import Denoiser, ExactDenoiser
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.published import VP
from scorefield.numerics.whitening import moments
from scorefield.training import closed_form as bases
from scorefield.training import learner as learners
from scorefield.training.closed_form import Base
from scorefield.training.config import Config
from scorefield.training.learner import Learner
from scorefield.training.score_level import data_score, score_ratio
from scorefield.training.trainer import trivial_model


def test_the_trivial_model_is_at_one_and_the_truth_below():
    config = Config(steps=1)
    mixture = GaussianMixture.isotropic(f64(1.0, 1.0), f64([-1.0], [1.0]), 0.1)
    x = mixture.sample(2000, Generator().manual_seed(0)).float()
    model = config.model(*moments(x))
    loss = lambda m: float(config.loss(m)(x, Generator().manual_seed(0)).detach().mean())
    assert loss(trivial_model(model)) == pytest.approx(loss(model), rel=1e-6)  # a new model answers zero
    on_base = config.model(*moments(x), base=mixture)
    assert loss(trivial_model(on_base)) == loss(trivial_model(model))  # and has no base
    assert loss(on_base) < 0.9 * loss(model)


@pytest.mark.slow
@pytest.mark.parametrize("process", ["vp", "ve", "straight"])
def test_it_learns_the_score_of_a_mixture(process, monkeypatch):
    """After 400 steps on 5,000 points the held-out loss has closed most of the gap between trivial and exact.

    Without a base, which would be the mixture itself.
    The exact model's loss on the same frozen noise is the floor; at most a tenth of the gap is left.
    """
    config = Config(steps=400, process=process, width=64, features=32, batch_size=256)
    mixture = GaussianMixture.isotropic(f64(0.7, 0.3), f64([-0.6, 0.2], [1.4, -0.5]), 0.15)
    x = mixture.sample(6000, Generator().manual_seed(0))
    x = (x - x.mean(0)) / x.std(0)
    monkeypatch.setattr(bases, "choose", lambda rows, seed, white: Base("one Gaussian", (), 0.0, {"one Gaussian": 0.0}))
    learner = table_learner(config, x[:5000], x[5000:])
    *_, last = (report for report in learner.run() if report is not None)
    oracle = ExactDenoiser(mixture_of(x), learner.model.process)
    floor = exact_loss(config, learner, oracle)
    assert floor < last.validation
    assert (last.validation - floor) / (1 - floor) < 0.1


def mixture_of(x: torch.Tensor) -> GaussianMixture:
    """The density of standardised points by their two clusters: exact enough for a floor."""
    right = x[:, 0] > 0.5
    parts = [x[right], x[~right]]
    weights = torch.tensor([len(p) / len(x) for p in parts], dtype=torch.float64)
    means = torch.stack([p.mean(0) for p in parts])
    return GaussianMixture(weights, means, torch.stack([torch.cov(p.T) for p in parts]))


def exact_loss(config: Config, learner: Learner, oracle: ExactDenoiser) -> float:
    """The relative validation loss of the oracle, read in what the model predicts."""
    model = learner.result
    oracle.coefficients = model.coefficients

    def predict(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        clean, noise = oracle.decompose(x.double(), t)
        p, q = (c[:, None] for c in model.coefficients(t))
        return (p * clean + q * noise).to(x)

    oracle.predict = predict
    return float(learner._validate([oracle]).mean()) / learner.trivial


@pytest.mark.slow
def test_a_report_is_kept_unless_it_is_clearly_worse_than_the_lowest():
    """Kept while mean(loss - lowest) <= its standard error over the rows; the lowest moves only down."""
    x = torch.randn(100, 2, generator=Generator().manual_seed(0))
    learner = table_learner(Config(steps=1, width=8, features=4), x, x)
    base = torch.linspace(1, 2, 100, dtype=torch.float64)
    wave = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(50)  # std 1, standard error 0.1
    learner.lowest = base
    learner.start = base + 1
    reports = []
    for losses in (base - 0.5, base - 0.5 + 0.09 + wave, base - 0.5 + 0.11 + wave, base - 0.4, base - 0.6):
        learner.count, learner._validate = 1, lambda _, losses=losses: losses
        reports.append(learner._report())
    assert [report.kept for report in reports] == [True, True, False, False, True]


def test_once_the_base_is_clearly_beaten_a_later_report_need_only_be_no_worse():
    """Its own distance to the base may be below its own standard error: here 0.12 +- 0.15, after 0.2 +- 0."""
    x = torch.randn(100, 2, generator=Generator().manual_seed(0))
    learner = table_learner(Config(steps=1, width=8, features=4), x, x)
    base = torch.linspace(1, 2, 100, dtype=torch.float64)
    wave = torch.tensor([1.5, -1.5], dtype=torch.float64).repeat(50)
    learner.start = learner.lowest = base
    reports = []
    for losses in (base - 0.12 + wave, base - 0.2, base - 0.12 + wave, base + wave):
        learner.count, learner._validate = 1, lambda _, losses=losses: losses
        reports.append(learner._report())
    assert [report.kept for report in reports] == [False, True, True, False]


@pytest.mark.slow
def test_the_reading_ratio_is_chosen_by_members_on_rows_that_their_base_has_not_seen(monkeypatch):
    """Each member with its own part; on the base of all rows, whose kernels lie on those rows, the smallest would win."""
    x = torch.randn(90, 2, generator=Generator().manual_seed(0))
    learner = table_learner(Config(steps=1, width=8, features=4, members=3), x[:80], x[80:])
    asked = {}

    def score_ratio(views, parts, seed):
        asked.update(bases=[view.base for view in views], parts=parts)
        return 0.1

    monkeypatch.setattr(learners, "score_ratio", score_ratio)
    assert learner.reading_ratio == 0.1
    assert all(
        one is other for one, other in zip(asked["bases"], (part.base for part in learner.prepared.parts), strict=True)
    )
    assert all(
        torch.equal(one, other)
        for one, other in zip(asked["parts"], (part.held_out for part in learner.prepared.parts), strict=True)
    )
    learner.config = replace(learner.config, level=0.3)
    assert learner.reading_ratio == 0.3


def test_one_level_is_the_time_of_its_noise_ratio():
    """For processes where s/a is not t; outside their range it is refused before anything is made."""
    for name in ("vp", "edm", "straight"):
        config = Config(steps=1, process=name, level=0.3)
        process = make(name, ())
        t = config.law(process)(5, Generator())
        torch.testing.assert_close(process.ratio(t), torch.full((5,), 0.3, dtype=torch.float64), rtol=1e-12, atol=0)
    for level in (1e-6, 1e3):
        with pytest.raises(ValueError, match=r"expected a level between 0\.001 and 152"):
            Config(steps=1, level=level)
    with pytest.raises(ValueError, match="law of all levels; leave out --level"):
        Config(steps=1, level=0.3, objective="likelihood")


def test_with_few_rows_a_report_is_kept_only_if_it_clearly_beats_the_base():
    """Cross-validated: the smallest yet, and below the base by more than the standard error of the difference."""
    x = torch.randn(100, 2, generator=Generator().manual_seed(0))
    learner = table_learner(Config(steps=1, width=8, features=4, members=2), x[:90], x[90:])
    base = torch.linspace(1, 2, 100, dtype=torch.float64)
    wave = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(50)
    learner.start = learner.lowest = base
    reports = []
    for losses in (base - 0.09 + wave, base - 0.12 + wave, base - 0.11, base - 0.2):
        learner.count, learner._validate = 1, lambda _, losses=losses: losses
        reports.append(learner._report())
    assert [report.kept for report in reports] == [False, True, False, True]


def test_the_score_of_an_untrained_model_is_that_of_its_base():
    """A new network answers zero, so at any level the model is the exact denoiser of the base, for every prediction."""
    mixture = GaussianMixture.isotropic(f64(0.7, 0.3), f64([-0.6, 0.2], [1.4, -0.5]), 0.15)
    x = mixture.sample(50, Generator().manual_seed(0))
    for predicts in ("v", "noise", "clean"):
        model = Config(steps=1, predicts=predicts).model(*moments(x), base=mixture).double()
        for t in (0.02, 0.3, 0.9):
            exact = ExactDenoiser(mixture, model.process).decompose(x, f64(t)[0])
            found = model.decompose(x, f64(t)[0])
            assert (found[0] - exact[0]).abs().max() < 1e-9
            assert (found[1] - exact[1]).abs().max() < 1e-9


@pytest.mark.slow
def test_memorising_rows_does_not_win():
    """Trained long on 60 rows the end is clearly worse on held-out rows, so earlier weights are the model."""
    x = torch.randn(1060, 2, generator=Generator().manual_seed(0))
    learner = table_learner(Config(steps=600, width=64), x[:60], x[60:])
    reports = [report for report in learner.run() if report is not None]
    kept = [report for report in reports if report.kept]
    assert not reports[-1].kept
    best = float(learner._validate(learner._views(learner.result)).mean()) / learner.trivial
    assert best < reports[-1].validation - 0.05
    assert all(report.validation < 1.02 for report in kept)


def test_the_score_ratio_is_where_the_error_is_smallest():
    """For an exact model the smallest ratio is best; for one whose error is constant in the noise, a larger one."""
    mixture = GaussianMixture.isotropic(f64(0.5, 0.5), f64([-1.0, 0.0], [1.0, 0.3]), 0.2)
    x = mixture.sample(400, Generator().manual_seed(0))
    exact = ExactDenoiser(mixture, VP())
    assert score_ratio([exact], [x], seed=0) < 0.02

    class Blurred(ExactDenoiser):
        def decompose(self, x, t):
            clean, noise = super().decompose(x, t)
            return clean, noise + 0.1 * torch.sin(9 * x.flip(1))

        noise_and_divergence = Denoiser.noise_and_divergence

    blurred = Blurred(mixture, VP())
    ratio = score_ratio([blurred], [x], seed=0)
    error = lambda r: float((data_score(blurred, x, r) - mixture.score(x)).square().sum(1).mean())
    assert error(ratio) < 1.5 * min(error(r) for r in torch.logspace(-3, 0, 16).tolist())
    assert error(ratio) < 0.1 * error(1e-3)


def test_data_score_is_the_score_of_the_smoothed_data():
    mixture = GaussianMixture.isotropic(f64(0.5, 0.5), f64([-1.0], [1.0]), 0.2)
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    for process in (VP(),):
        found = data_score(ExactDenoiser(mixture, process), x, 0.1)
        assert (found - mixture.noised(1.0, 0.1).score(x)).abs().max() < 1e-9


@pytest.mark.slow
def test_training_stops_after_ten_clearly_worse_reports_in_a_row_and_stays_stopped():
    """Nine worse, one that is not, ten worse: the count starts anew, and a restored learner takes no further step."""
    x = torch.randn(100, 2, generator=Generator().manual_seed(0))
    learner = table_learner(Config(steps=100, width=8, features=4), x, x)
    wave = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(50)  # standard error 0.1
    learner.lowest = torch.linspace(1, 2, 100, dtype=torch.float64)
    worse, fine = learner.lowest + 0.31 + wave, learner.lowest + 0.29 + wave
    for losses in [worse] * 9 + [fine] + [worse] * 10:
        assert not learner.done
        learner.count, learner._validate = 1, lambda _, losses=losses: losses
        learner._report()
    assert learner.done
    again = table_learner(Config(steps=100, width=8, features=4), x, x)
    again.load_state(learner.state())
    assert list(again.run()) == []
