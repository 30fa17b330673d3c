"""compare-objectives: what is measured is exact for the oracle, every objective learns, files and errors."""

import itertools

import pandas as pd
import pytest
import torch
from cases import DENSITIES
from commands import refused
from torch import Generator

from scorefield.diffusion.denoisers import ScoreModel
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.published import VP
from scorefield.training import comparison
from scorefield.training.budget import Budget
from scorefield.training.config import Config
from scorefield.training.problem import Part
from scorefield.training.trainer import trivial_model


def standard(density: GaussianMixture) -> GaussianMixture:
    """The density shifted and scaled to mean 0 and variance 1, in one dimension."""
    mean, std = density.mean, density.covariance[0, 0].sqrt()
    return GaussianMixture(density.weights, (density.means - mean) / std, density.covariances / std**2)


def model_of(density: GaussianMixture, base: GaussianMixture | None) -> ScoreModel:
    config = Config(steps=1, width=8, features=4)
    return config.model(density.mean.float(), density.covariance.float(), base)


@pytest.mark.slow
def test_the_error_is_zero_for_the_truth_and_what_it_should_be_for_one_gaussian():
    """Against the truth: 0, and for N(0, 1) the relative Fisher divergence 1 - 1 / E|true noise|^2, since E noise x = s.

    That is E|hat - noise|^2 = E|noise|^2 - E|hat|^2 for hat = s x, the projection; by 2e5 draws, to 2 per cent.
    """
    density = standard(DENSITIES["mixture-1d"])
    x = density.sample(200_000, Generator().manual_seed(0))
    assert max(comparison.judge(model_of(density, density), x.float(), density, 0)) < 1e-8
    flat = trivial_model(model_of(density, None))
    found = comparison.judge(flat, x.float(), density, 0)
    for ratio, error in zip(comparison.RATIOS, found, strict=True):
        t = VP().time(torch.tensor(ratio, dtype=torch.float64))
        a, s = VP().mean_coef(t), VP().std(t)
        grid = torch.linspace(-8, 8, 20001, dtype=torch.float64)[:, None]
        noised = density.noised(a, s)
        energy = (noised.log_prob(grid).exp() * (s * noised.score(grid))[:, 0].square()).sum() * 16 / 20000
        truth = float(1 - s**2 / energy)
        assert error == pytest.approx(truth, rel=0.02, abs=1e-4)


@pytest.mark.slow
def test_without_a_truth_the_error_is_the_implicit_loss_less_that_of_one_gaussian():
    """Its mean differs from half the squared error by the same constant for both models: 0 for the Gaussian itself.

    For the truth it is -(E|true noise - its projection|^2) / 2, here by the relative error above; 2e5 draws, 5 per cent.
    """
    density = standard(DENSITIES["mixture-1d"])
    x = density.sample(200_000, Generator().manual_seed(0)).float()
    flat, exact = trivial_model(model_of(density, None)), model_of(density, density)
    assert max(map(abs, comparison.judge(flat, x, None, 0))) < 1e-5
    relative, implicit = comparison.judge(flat, x, density, 0), comparison.judge(exact, x, None, 0)
    for ratio, share, loss in zip(comparison.RATIOS, relative, implicit, strict=True):
        t = VP().time(torch.tensor(ratio, dtype=torch.float64))
        s2 = float(VP().std(t)) ** 2
        energy = s2 / (1 - share)
        assert loss == pytest.approx(-share * energy / 2, rel=0.05, abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in comparison.OBJECTIVES if n != "curvature"])
def test_every_objective_learns(name, monkeypatch):
    """In 300 steps the mean error of a bimodal density falls below half of one Gaussian's; curvature is biased."""
    clock = itertools.count(0.0, 0.01)  # a hundredth of a second a step on every machine
    monkeypatch.setattr(comparison, "Budget", lambda seconds: Budget(seconds, clock=lambda: next(clock)))
    density = GaussianMixture(*(torch.tensor(v).double() for v in ([0.6, 0.4], [[-0.8], [1.2]], [[[0.05]]])))
    density = standard(density)
    x = density.sample(4_000, Generator().manual_seed(0))
    problem = Part(x[:3000], x[3000:], truth=density)
    network = "energy" if comparison.OBJECTIVES[name].energy else "mlp"
    config = Config(steps=1, objective=name, network=network)
    flat = trivial_model(config.model(torch.zeros(1), torch.eye(1)))
    result = comparison.train_one(problem, name, 3.0, 0)
    trivial = sum(comparison.judge(flat, x[3000:].float(), density, 0)) / len(comparison.RATIOS)
    assert result.failure == ""
    assert result.mean_error < 0.5 * trivial


@pytest.mark.slow
def test_the_command_writes_a_table_and_a_figure(run_main, tmp_path):
    arguments = ["--rows", 300, "--budget", "0.2s", "--objectives", "denoising,explicit", "--out", tmp_path / "c"]
    code, out, err = run_main("compare-objectives", "8gaussians", *arguments)
    assert (code, out) == (0, "")
    assert "judged    by the true score" in err
    frame = pd.read_csv(tmp_path / "c" / "comparison.csv")
    assert list(frame["objective"]) == ["denoising", "explicit"]
    assert list(frame.columns[6:]) == [f"{ratio:.3g}" for ratio in comparison.RATIOS]
    assert (frame["steps"] > 0).all()
    assert (tmp_path / "c" / "comparison.png").stat().st_size > 10_000
    refused(run_main("compare-objectives", "8gaussians", *arguments), "--force")
    refused(
        run_main("compare-objectives", "checkerboard", "--objectives", "explicit", "--out", tmp_path / "d"),
        "'explicit'",
        "parzen",
    )
    refused(run_main("compare-objectives", "moons", "--rows", 20, "--out", tmp_path / "d"), "at least 100 rows")
    assert not (tmp_path / "d").exists()
