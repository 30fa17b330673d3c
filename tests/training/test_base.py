"""Laws of the choice of a base: it finds what made the rows, and does not see what is not there."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from cases import F64, f64
from threadpoolctl import threadpool_info, threadpool_limits
from torch import Generator

from scorefield.diffusion.densities import GaussianMixture
from scorefield.numerics.whitening import whitening
from scorefield.training import candidates, closed_form, em


def white(mixture: GaussianMixture, n: int, seed: int) -> torch.Tensor:
    """Rows of a mixture in coordinates of mean 0 and covariance I."""
    rows = mixture.sample(n, Generator().manual_seed(seed))
    centred = rows - rows.mean(0)
    values, vectors = torch.linalg.eigh(centred.mT @ centred / n)
    return centred @ (vectors * values**-0.5) @ vectors.mT


@pytest.mark.slow
@pytest.mark.parametrize("d", [1, 3, 10])
@pytest.mark.parametrize("n", [30, 300, 3000])
def test_gaussian_rows_choose_the_gaussian_or_lose_nothing_by_it(n, d):
    """Over 3 seeds, fresh rows lose at most 0.02 nats per dimension + 3 / n by what was chosen instead."""
    for seed in range(3):
        rows = torch.randn(n, d, dtype=F64, generator=Generator().manual_seed(seed))
        found = closed_form.choose(rows, seed).fit(rows)
        if found is None:
            continue
        fresh = torch.randn(2000, d, dtype=F64, generator=Generator().manual_seed(99))
        trivial = GaussianMixture.gaussian(torch.zeros(d, dtype=F64), torch.eye(d, dtype=F64))
        assert float((trivial.log_prob(fresh) - found.log_prob(fresh)).mean()) < d * (0.02 + 3 / n)


@pytest.mark.slow
def test_three_clusters_in_ten_dimensions_are_found():
    """3,000 rows: three components with their own covariances, within 0.12 nats of the truth (229 parameters)."""
    draw = Generator().manual_seed(1)
    roots = torch.randn(3, 10, 10, dtype=F64, generator=draw) * 0.4
    covariances = roots @ roots.mT + 0.2 * torch.eye(10, dtype=F64)
    means = 3 * torch.randn(3, 10, dtype=F64, generator=draw)
    truth = GaussianMixture(f64(0.5, 0.3, 0.2), means, covariances)
    rows, fresh = truth.sample(3000, Generator().manual_seed(2)), truth.sample(4000, Generator().manual_seed(3))
    mean, scale = rows.mean(0), rows.std(0)
    chosen = closed_form.choose((rows - mean) / scale, 0)
    assert chosen.name.startswith("3 Gaussians, full covariance")
    assert chosen.score == max(chosen.scores.values())
    found = chosen.fit((rows - mean) / scale)
    gap = truth.log_prob(fresh) - found.log_prob((fresh - mean) / scale) + scale.log().sum()
    assert float(gap.mean()) < 0.12


@pytest.mark.slow
def test_kernels_win_on_a_thin_curve_of_few_rows():
    draw = np.random.Generator(np.random.PCG64(0))
    angle = draw.uniform(0, 2 * np.pi, 600)
    radius = draw.choice([0.75, 1.5, 2.25, 3.0], 600) + 0.08 * draw.normal(size=600)
    rows = torch.from_numpy(np.column_stack([radius * np.cos(angle), radius * np.sin(angle)]) / 1.5)
    chosen = closed_form.choose(rows, 0)
    assert "most of it kernels of width" in chosen.name
    assert len(chosen.fit(rows).means) > 600
    assert chosen.score > max(chosen.scores.values())


@pytest.mark.slow
def test_the_choice_is_the_same_every_time_and_leaves_the_global_state():
    rows = white(GaussianMixture.isotropic(f64(1.0, 1.0), f64([-1.0, 0.0], [1.0, 0.5]), 0.1), 200, 0)
    before = np.random.get_state()[1].copy()
    first, second = (closed_form.choose(rows, 5) for _ in range(2))
    assert first.name == second.name
    assert first.scores == second.scores
    one, two = first.fit(rows), second.fit(rows)
    assert torch.equal(one.means, two.means)
    assert (np.random.get_state()[1] == before).all()


@pytest.mark.parametrize("rows", [torch.zeros(2, 1), torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]])])
def test_hardly_any_rows_make_no_error(rows):
    chosen = closed_form.choose(rows, 0)
    found = chosen.fit(rows)
    assert found is None or bool(found.log_prob(torch.zeros(1, rows.shape[1], dtype=F64)).isfinite())
    assert chosen.name


def test_stacking_weights_maximise_the_likelihood():
    """The gradient of a maximum over the simplex: mean_i p_j / sum_k w_k p_k is 1 where w_j > 0, and at most 1."""
    log_densities = np.random.Generator(np.random.PCG64(0)).normal(size=(6, 400)) - np.arange(6)[:, None] / 4
    weights = closed_form.stacking_weights(log_densities)
    densities = np.exp(log_densities)
    slope = (densities / (weights @ densities)).mean(1)
    assert weights.sum() == pytest.approx(1)
    assert slope.max() < 1 + 1e-3
    assert np.abs(slope[weights > 1e-3] - 1).max() < 1e-3


@pytest.mark.slow
def test_a_stack_is_the_mixture_that_it_says():
    """log p of the fitted base is that of its weighted parts, each fitted alone, to 1e-10."""
    rows = white(GaussianMixture.isotropic(f64(1.0, 1.0), f64([-1.0, 0.0], [1.0, 0.5]), 0.3), 300, 0)
    chosen = closed_form.choose(rows, 0)
    assert len(chosen.parts) > 1
    x = 2 * torch.randn(50, 2, dtype=F64, generator=Generator().manual_seed(0))
    alone = torch.stack(
        [math.log(w) + replace(chosen, parts=((1.0, p),)).fit(rows).log_prob(x) for w, p in chosen.parts]
    )
    assert (chosen.fit(rows).log_prob(x) - alone.logsumexp(0)).abs().max() < 1e-10


@pytest.mark.slow
def test_no_candidate_has_seen_the_rows_that_judge_it():
    """60 Gaussian rows in 15 columns, whitened by all rows: N(0, I) fitted anew to 4/5 of them scores what fresh rows get.

    Through the covariance of all rows it would score a nat too high. Mean over 6 seeds within 0.8 nats; -27.3 unfitted.
    """
    gaps = []
    for seed in range(6):
        draw = Generator().manual_seed(seed)
        root = torch.randn(15, 15, dtype=F64, generator=draw)
        rows, fresh = (torch.randn(n, 15, dtype=F64, generator=draw) @ root for n in (60, 4000))
        mean, scale = rows.mean(0), rows.std(0)
        standard = ((rows - mean) / scale).numpy()
        matrix = torch.from_numpy(whitening(standard, np.zeros(15)))
        score = closed_form.choose((rows - mean) / scale @ matrix, seed, matrix).scores[candidates.GAUSSIAN]
        part = standard[:48] - standard[:48].mean(0)
        own = torch.from_numpy(whitening(part, np.zeros(15)))
        gauss = GaussianMixture.gaussian(torch.zeros(15, dtype=F64), torch.eye(15, dtype=F64))
        z = ((fresh - mean) / scale - torch.from_numpy(standard[:48].mean(0))) @ own
        expected = (
            gauss.log_prob(z).mean() + torch.linalg.slogdet(own).logabsdet - torch.linalg.slogdet(matrix).logabsdet
        )
        gaps.append(score - float(expected))
    assert abs(np.mean(gaps)) < 0.8, gaps


@pytest.mark.slow
def test_a_choice_uses_one_thread_and_gives_the_others_back(monkeypatch):
    """Whatever the process uses: BLAS and OpenMP have one thread while a base is chosen or fitted, then as many again."""

    def counts() -> set[int]:
        return {library["num_threads"] for library in threadpool_info()}

    seen, plain = [], em.fit
    monkeypatch.setattr(em, "fit", lambda *settings: seen.append(counts()) or plain(*settings))
    rows = (
        torch.randn(60, 2, dtype=F64, generator=Generator().manual_seed(0)).sign() * torch.tensor([1.0, 1.1]).double()
    )
    with threadpool_limits(limits=2):
        closed_form.choose(rows + 0.3 * torch.randn(60, 2, dtype=F64, generator=Generator().manual_seed(1)), 0).fit(
            rows
        )
        assert counts() == {2}
    assert seen
    assert all(found == {1} for found in seen)


GRID = [
    (n, d) for n in (1, 2, 10, 150, 442, 501, 1_437, 2_000, 2_001, 5_000, 50_000) for d in (1, 2, 4, 10, 20, 40, 64)
]


@pytest.mark.parametrize(("n", "d"), GRID)
def test_a_choice_costs_at_most_what_the_table_says(n, d):
    """If every candidate is tried in all of its steps; the fits of what is chosen too, if it is the largest of all."""
    limits = candidates.plan(n, d)
    assert limits.work <= candidates.CHOICE_WORK
    assert limits.rows * em.features("full", d) <= candidates.CHOICE_NUMBERS
    assert len({c.name for family in limits.families for c in family}) == sum(map(len, limits.families)) <= 103
    largest = [candidates.Candidate("full", 32, 1e-4)]
    for fits in (1, 4):
        rows, steps = candidates.fit_plan(largest, n, d, fits)
        assert fits * candidates.fit_work(largest, rows, d, steps) <= 1.01 * candidates.FIT_WORK or (
            steps == candidates.LEAST_STEPS and rows == min(n, candidates.CHOICE_ROWS)
        )
        assert min(n, candidates.CHOICE_ROWS) <= rows <= min(n, candidates.FIT_ROWS)


def test_the_work_is_what_was_planned_whatever_the_clock(monkeypatch):
    """The multiplications of all steps that are taken are at most those of the plan; no clock is asked."""
    rows = white(GaussianMixture.isotropic(f64(1.0, 1.0), f64([-1.0, 0.0], [1.0, 0.5]), 0.1), 600, 0)
    taken, plain = [0], em._expected

    def counted(prepared, mixture):
        taken[0] += em.step_work(mixture.kind, len(mixture.weights), *prepared.rows.shape)
        return plain(prepared, mixture)

    monkeypatch.setattr(em, "_expected", counted)
    for name in ("time", "perf_counter", "monotonic", "process_time"):
        monkeypatch.setattr(time, name, lambda: pytest.fail("a choice does not ask for the time"))
    closed_form.choose(rows, 0)
    assert 0 < taken[0] <= candidates.plan(600, 2).work


def test_a_stack_keeps_what_it_can_afford(monkeypatch):
    """Its smallest weights go until six fits of the rest are within the work; one density stays whatever it costs."""
    rows = white(GaussianMixture.isotropic(f64(1.0, 1.0), f64([-1.0, 0.0], [1.0, 0.5]), 0.3), 300, 0)
    before = [part for _, part in closed_form.choose(rows, 0).parts]
    most = candidates.STACK_FITS * candidates.fit_work(before, 300, 2, candidates.LEAST_STEPS)
    assert len(before) > 1
    monkeypatch.setattr(candidates, "STACK_WORK", most - 1)
    fewer = [part for _, part in closed_form.choose(rows, 0).parts]
    assert set(fewer) < set(before)
    monkeypatch.setattr(candidates, "STACK_WORK", 0)
    assert len(closed_form.choose(rows, 0).parts) == 1


def test_a_family_ends_after_two_in_a_row_that_are_worse_and_counts_from_the_best(monkeypatch):
    """Scores by the number of components: one worse, a new best, two worse, and the rest is not tried."""
    scores = {1: 0.0, 2: 3.0, 3: 2.0, 4: 5.0, 6: 4.0, 8: 4.5, 12: 9.0, 16: 9.0, 24: 9.0, 32: 9.0}
    tried = []

    def told(fold, candidate, steps):
        tried.append(candidate)
        return np.full(len(fold.held_out.rows), scores[candidate.k] if candidate.kind == "full" else -9.0)

    monkeypatch.setattr(closed_form.Fold, "log_density", told)
    closed_form.choose(torch.randn(3_000, 1, dtype=F64, generator=Generator().manual_seed(0)), 0)
    first = [each.k for each in tried if each.kind == "full" and each.added == candidates.REGULARISATION[0]]
    assert first == [1, 2, 3, 4, 6, 8]
