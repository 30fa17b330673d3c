"""Training: the loop learns a known score, the average is an average, a bad loss stops it."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from cases import f64, learned, table_learner
from torch import Generator

from scorefield.diffusion.by_name import make
from scorefield.diffusion.denoisers import Denoiser, ExactDenoiser
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.published import VP
from scorefield.kinds.tables.problem import choose_transform, in_model_units, largest_distance
from scorefield.kinds.tables.units import TableTransform
from scorefield.numerics.whitening import moments
from scorefield.training import candidates
from scorefield.training import closed_form as bases
from scorefield.training import learner as learners
from scorefield.training.budget import Falling
from scorefield.training.closed_form import Base
from scorefield.training.config import Config
from scorefield.training.learner import Learner
from scorefield.training.problem import members_for, truth_for
from scorefield.training.score_level import data_score, score_ratio
from scorefield.training.trainer import AVERAGE, COUNTS, SKIPS, Trainer, batches, trivial_model


def quadratic(trainer: Trainer):
    """A loss that is the squared distance of all weights from 1."""
    return lambda: sum((p - 1).square().sum() for p in trainer.model.parameters())


def test_the_generator_reports_each_step_once_and_resumes_where_it_stopped():
    trainer = Trainer(learned(VP(), "v", 2), steps=7)
    seen = []
    for progress in trainer.run(quadratic(trainer)):
        seen.append(progress.step)
        if progress.step == 3:
            break
    seen += [progress.step for progress in trainer.run(quadratic(trainer))]
    assert seen == [1, 2, 3, 4, 5, 6, 7]


def test_the_loss_falls_and_the_report_is_the_loss_before_the_step():
    trainer = Trainer(learned(VP(), "v", 2), steps=300, learning_rate=0.05)
    first = float(quadratic(trainer)().detach())
    losses = [progress.loss for progress in trainer.run(quadratic(trainer))]
    assert losses[0] == first
    assert losses[-1] < 1e-3 * first


def test_the_average_is_the_recursion_that_it_states():
    """avg_k = d avg_k-1 + (1 - d) w_k with d = min(AVERAGE, k / (k + 10)), from the first weights after a step."""
    trainer = Trainer(learned(VP(), "v", 1), steps=30, learning_rate=0.05)
    expected = None
    for progress in trainer.run(quadratic(trainer)):
        weights = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
        count = progress.step - 1
        decay = min(AVERAGE, count / (count + 10)) if expected is not None else 0.0
        expected = weights if expected is None else decay * expected + (1 - decay) * weights
        found = torch.cat([p.flatten() for p in trainer.average.parameters()])
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def test_the_average_has_no_graph():
    """One of all steps so far would take 5 kB a step and never end."""
    trainer = Trainer(learned(VP(), "v", 1), steps=3, learning_rate=0.05)
    for _ in trainer.run(quadratic(trainer)):
        assert all(p.grad_fn is None and not p.requires_grad for p in trainer.average.parameters())


def test_each_step_takes_the_rate_of_its_schedule():
    schedule = Falling(20)
    trainer = Trainer(learned(VP(), "v", 1), schedule, learning_rate=2.0)
    rates = [trainer.optimizers["optimizer"].param_groups[0]["lr"] for _ in trainer.run(quadratic(trainer))]
    assert rates == [2.0 * schedule.rate(k) for k in range(20)]


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e200])
def test_a_step_that_is_not_finite_is_skipped_and_counted(bad):
    """The loss, or with a factor of 1e200 only the square of the gradient; weights, average and moments stay."""
    trainer = Trainer(learned(VP(), "v", 1), steps=40)
    good = quadratic(trainer)
    calls = iter(range(100))
    loss = lambda: good() * (bad if next(calls) in (4, *range(7, 6 + SKIPS)) else 1.0)
    found = []
    for progress in trainer.run(loss):
        found.append(progress.loss)
        if progress.step == 4:
            before = trainer.state()
        if progress.step == 5:
            after = trainer.state()
    assert (len(found), trainer.skipped, trainer.in_a_row) == (40, SKIPS, 0)
    assert [math.isfinite(value) for value in found[:8]] == [True] * 4 + [False] + [True] * 2 + [False]
    assert all(torch.equal(after[name], before[name]) for name in before if name not in COUNTS)


def test_training_ends_after_so_many_skipped_steps_in_a_row_also_when_it_was_continued():
    trainer = Trainer(learned(VP(), "v", 1), steps=100)
    loss = lambda: quadratic(trainer)() * math.nan
    steps = trainer.run(loss)
    for _ in range(SKIPS - 1):
        next(steps)
    again = Trainer(learned(VP(), "v", 1), steps=100)
    again.load_state(trainer.state())
    message = r"steps 1 to 10 were skipped.* loss, nan .*parameter net\.\S+; lower the learning rate \(0\.004\)"
    for unfinished in (trainer, again):
        with pytest.raises(RuntimeError, match=message):
            next(unfinished.run(lambda t=unfinished: quadratic(t)() * math.nan))
    assert all(p.isfinite().all() for p in trainer.average.parameters())


def test_a_state_of_another_network_is_refused():
    class Other(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.extra = torch.nn.Parameter(torch.zeros(1))

    state = Trainer(learned(VP(), "v", 1, net=Other()), steps=3).state()
    with pytest.raises(ValueError, match="another network"):
        Trainer(learned(VP(), "v", 1), steps=3).load_state(state)


def test_batches_draw_rows_evenly():
    """Each of 10 rows in a tenth of 20,000 draws: chi-square below its 1e-6 quantile for 9 degrees of freedom, 45."""
    data = torch.arange(10.0)[:, None]
    stream = batches(data, 1000, Generator().manual_seed(0))
    counts = torch.cat([next(stream) for _ in range(20)]).long().flatten().bincount(minlength=10)
    assert float(((counts - 2000.0) ** 2 / 2000).sum()) < 45


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


def test_a_density_in_model_units_is_that_of_the_transformed_rows():
    """log p(x) = log p(z) + log |dz/dx| for a correlated mixture and whitened, standardised rows, to 1e-6."""
    covariances = torch.stack([f64([1.0, 0.8], [0.8, 2.0]), f64([0.3, -0.2], [-0.2, 0.5])])
    density = GaussianMixture(f64(0.3, 0.7), f64([5.0, -2.0], [8.0, 1.0]), covariances)
    x = density.sample(500, Generator().manual_seed(0))
    frame = pd.DataFrame(x.numpy(), columns=["a", "b"])
    transform = TableTransform.fit(frame, None, bend=False)
    found = in_model_units(density, transform, frame)
    z = transform.forward(frame).double()
    torch.testing.assert_close(
        found.log_prob(z) + transform.log_jacobian(frame), density.log_prob(x), rtol=0, atol=1e-6
    )
    with pytest.raises(ValueError, match="one of the built-in Gaussian mixtures"):
        in_model_units(None, transform, frame)
    bent = TableTransform.fit(frame.abs(), {"a": (0, math.inf)})
    with pytest.raises(ValueError, match="only shifted and scaled"):
        in_model_units(density, bent, frame.abs() + 0.1)


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


def test_parzen_learns_kernels_on_the_rows_of_each_member_alone():
    """Silverman's width for so many rows, at most CHOICE_ROWS of them, and none that validate the member."""
    x = torch.randn(90, 2, generator=Generator().manual_seed(0))
    learner = table_learner(Config(steps=1, width=8, features=4, members=3, objective="parzen"), x[:80], x[80:])
    for part in learner.prepared.parts:
        truth, rows, held_out = part.truth, part.data, part.held_out
        assert torch.equal(truth.means, rows)
        assert not (held_out[:, None] == truth.means).all(-1).any()
        width = len(rows) ** (-1 / 6)
        assert float(truth.covariances[0, 0, 0]) == pytest.approx(width**2, rel=1e-5)
    many = torch.zeros(candidates.CHOICE_ROWS + 100, 1)
    found = truth_for(Config(steps=1, objective="parzen"), None, many)
    assert len(found.means) == candidates.CHOICE_ROWS
    assert float(found.covariances[0, 0, 0]) == pytest.approx((4 / 3 / candidates.CHOICE_ROWS) ** 0.4, rel=1e-5)


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


def test_members_are_validated_on_rows_they_and_their_base_have_not_seen():
    """Every row is held out once, and in no member's training rows; the model's own base is fitted to all rows."""
    x = GaussianMixture.isotropic(f64(1.0, 1.0), f64([-1.0, 0.0], [1.0, 0.5]), 0.1).sample(
        300, Generator().manual_seed(0)
    )
    learner = table_learner(Config(steps=1, width=8, features=4, members=5), x[:270], x[270:])
    parts = learner.prepared.parts
    assert torch.equal(torch.cat([part.held_out for part in parts]).sort(0).values, x.float().sort(0).values)
    for held_out, data, base in ((part.held_out, part.data, part.base) for part in parts):
        assert len(held_out) == 60
        assert torch.equal(torch.cat([held_out, data]).sort(0).values, x.float().sort(0).values)
        assert not torch.equal(base.means, learner.model.base.means)
    views = learner._views(learner.model)
    assert [view.net for view in views] == list(learner.model.net.members)
    assert [view.base for view in views] == [part.base for part in parts]


def test_more_rows_are_held_out_by_tenths_so_that_each_member_learns_from_nine():
    """From 2,000 rows on no member loses a third of the rows to its validation; none has seen a row that judges it."""
    x = torch.arange(2001.0)[:, None] + torch.tensor([[0.0, 0.5]])
    learner = table_learner(Config(steps=1, width=8, features=4, members=3), x[:1900], x[1900:])
    parts = learner.prepared.parts
    assert [len(part.held_out) for part in parts] == [201, 200, 200]
    for part in parts:
        assert torch.equal(torch.cat([part.held_out, part.data]).sort(0).values, x)
    assert len(torch.cat([part.held_out for part in parts]).unique(dim=0)) == 601


def test_as_many_networks_are_averaged_as_rows_ask_for():
    counts = {9: 1, 10: 5, 1_999: 5, 2_000: 3, 14_999: 3, 15_000: 1}
    assert {rows: members_for(rows) for rows in counts} == counts


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


def test_moments_are_numpys():
    x = torch.randn(50, 3, generator=Generator().manual_seed(0))
    mean, covariance = moments(x)
    torch.testing.assert_close(mean, x.mean(0))
    torch.testing.assert_close(covariance, torch.cov(x.T))
    assert (moments(x[:1])[1] == 0).all()


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


def test_the_largest_distance_is_that_of_all_pairs():
    x = torch.randn(3000, 2, generator=Generator().manual_seed(0))
    assert largest_distance(x) == pytest.approx(float(torch.pdist(x.double()).max()), rel=1e-6)


def test_columns_are_bent_where_the_whole_table_gains_and_only_there():
    """Independent log-normal columns are; a skewed column, another and, up to 0.001, their sum are not."""
    draw = np.random.Generator(np.random.PCG64(0))
    skewed = np.exp(draw.normal(size=(600, 2)))
    apart = pd.DataFrame({"a": skewed[:, 0], "b": skewed[:, 1]})
    total = skewed[:, 0] + draw.normal(size=600)
    together = pd.DataFrame({"a": skewed[:, 0], "n": total - skewed[:, 0] + 0.001 * draw.normal(size=600), "c": total})
    bent = lambda frame: [column.is_bent for column in choose_transform(frame, None, 0).columns]
    assert bent(apart) == [True, True]
    assert bent(together) == [False] * 3
