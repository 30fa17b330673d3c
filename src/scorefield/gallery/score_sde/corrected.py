"""The score-SDE tutorial corrected: one network over all times, the reverse SDE and the flow, and a true density.

Two ways from a learned score to a density are shown beside each other. Along the probability flow the network is asked
at every level of noise, and the large ones tell the mass of each mode. A path integral of the score at one small level
crosses a valley without data, where the network never learned anything: its modes have any masses.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity
from torch import Tensor

from scorefield.diffusion import times
from scorefield.diffusion.denoisers import Denoiser, ScoreModel
from scorefield.diffusion.networks import MLP
from scorefield.diffusion.published import VP
from scorefield.gallery import line
from scorefield.gallery.drawing.curves import EXACT, LEARNED, draw_bars, draw_curves, draw_paths, panels
from scorefield.gallery.line import F64
from scorefield.gallery.report import Results, row, save_figure
from scorefield.inference import langevin
from scorefield.inference.likelihood import log_prob
from scorefield.inference.path_integral import total_variation
from scorefield.inference.samplers import Sampler, euler_maruyama, heun, walk
from scorefield.kinds.tables.estimator import ScoreDensity
from scorefield.numerics.tensors import normal_like, spawn
from scorefield.training.objectives.losses import denoising
from scorefield.training.trainer import Trainer, batches

TARGET = line.mixture([0.5, 0.5], [-1.0, 1.0], [0.2, 0.2])
GRID = np.linspace(-2.2, 2.2, 111)
PDF = line.pdf(TARGET, GRID)
PROCESS = VP()
RATIOS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Levels of noise at which the score is integrated along a path."""

CHAINS = 256
DEFAULTS = 3
"""Seeds of ScoreDensity, at 5 seconds each; benchmarks/score_sde.py takes 20."""

TOLERANCE = 1e-4


@dataclass(frozen=True)
class Learned:
    """A model of one seed, and its density from the flow and from path integrals by level."""

    model: ScoreModel
    flow: np.ndarray
    paths: list[np.ndarray]


def train(sample: Tensor, steps: int, seed: int) -> ScoreModel:
    """Train a network over t in [t_min, 1] by denoising, uniform in log s/a, and return its averaged weights."""
    net = MLP(1, width=64, depth=2, features=32, generator=spawn(seed, "init"))
    model = ScoreModel(net, PROCESS, sample.mean(0).double(), sample.T.cov().reshape(1, 1).double())
    trainer = Trainer(model, steps)
    draws, noise, law = batches(sample, 256, spawn(seed, "batches")), spawn(seed, "noise"), times.log_uniform(PROCESS)
    for _ in trainer.run(lambda: denoising(model, next(draws), law(256, noise), generator=noise).mean()):
        pass
    return trainer.average


def at_ratio(model: Denoiser, ratio: float) -> langevin.Field:
    """Return the score of the data plus noise of this std, as a function of y = x_t / a: a times that at x_t."""
    t = model.process.time(torch.tensor(ratio, dtype=F64))
    a = float(model.process.mean_coef(t))
    return lambda y: a * model.score(a * y, t)


@torch.no_grad()
def learn(seed: int, steps: int) -> Learned:
    """Train on 1,024 rows and recover the density both ways."""
    sample = TARGET.sample(1024, spawn(seed, "rows")).float()
    with torch.enable_grad():
        model = train(sample, steps, seed)
    grid = line.column(GRID).float()
    flow = log_prob(model, grid, tol=TOLERANCE, errors=False).value.double().exp().numpy()
    scores = [at_ratio(model, ratio)(grid)[:, 0].double().numpy() for ratio in RATIOS]
    return Learned(model, flow, [line.integrated(score, GRID) for score in scores])


def kernel_density(sample: np.ndarray) -> np.ndarray:
    """Return the kernel density estimate on the grid, its bandwidth cross-validated in five parts."""
    search = GridSearchCV(KernelDensity(rtol=1e-4), {"bandwidth": np.geomspace(0.03, 0.3, 11)}, cv=5).fit(sample)
    return np.exp(search.best_estimator_.score_samples(GRID[:, None]))


def default_density(sample: np.ndarray, seed: int, max_iter: int | str = 1) -> np.ndarray:
    """Return the density of ScoreDensity on the grid, through the flow.

    On 1,024 rows of two Gaussians its base, mixtures and kernel densities stacked by cross-validation, is better than a
    network can make it, and the network is left out; so one step of training gives what 'auto' gives.
    """
    estimator = ScoreDensity(max_iter=max_iter, random_state=seed).fit(sample)
    frame = pd.DataFrame(GRID[:, None], columns=list(estimator.transform_.names))
    z = estimator.transform_.forward(frame)
    found = log_prob(
        estimator.model_.double(), z, tol=TOLERANCE, errors=False
    ).value + estimator.transform_.log_jacobian(frame)
    return found.exp().numpy()


def run(out: Path, seeds: int, quick: bool) -> Results:
    """Write the figures of the correction and return its numbers."""
    learned = [learn(seed, 200 if quick else 1000) for seed in range(seeds)]
    samples = [TARGET.sample(1024, spawn(seed, "rows")).numpy() for seed in range(seeds)]
    kernels = [kernel_density(sample) for sample in samples]
    few = samples[: 1 if quick else DEFAULTS]
    defaults = [default_density(sample, seed) for seed, sample in enumerate(few)]
    draw_scores(out, learned[0].model)
    draw_densities(out, learned, kernels[0], defaults[0])
    draw_masses(out, learned)
    return rows(learned, kernels, defaults) | draw_samples(out, [found.model for found in learned])


def rows(learned: list[Learned], kernels: list[np.ndarray], defaults: list[np.ndarray]) -> Results:
    """Return total variations and masses over all seeds."""
    tv = lambda densities: [total_variation(q, PDF, GRID) for q in densities]
    flows = [found.flow for found in learned]
    results = row("total variation: ScoreDensity (its closed-form base does the work)", None, tv(defaults))
    results |= row("total variation: kernel density, bandwidth by cross-validation", None, tv(kernels))
    results |= row("total variation: network alone, by the flow", None, tv(flows))
    results |= row(
        "mass below 0: network alone, by the flow (true 0.5)", None, [line.mass_below(0.0, q, GRID) for q in flows]
    )
    for i, ratio in enumerate(RATIOS):
        paths, truth = [found.paths[i] for found in learned], line.pdf(TARGET.noised(1.0, ratio), GRID)
        name = f"by path integral at noise {ratio}"
        results |= row(f"mass below 0: {name} (true 0.5)", None, [line.mass_below(0.0, q, GRID) for q in paths])
        results |= row(
            f"total variation to the target noised: {name}", None, [total_variation(q, truth, GRID) for q in paths]
        )
    return results


def draw_scores(out: Path, model: ScoreModel) -> None:
    """Write the learned score at three levels of noise beside the exact one."""
    figure, frames = panels(3, width=4.2)
    for axes, ratio in zip(frames, (0.1, 0.5, 2.0), strict=True):
        grid = np.linspace(-2 - 2 * ratio, 2 + 2 * ratio, 201)
        exact = TARGET.noised(1.0, ratio).score(line.column(grid))[:, 0].numpy()
        with torch.no_grad():
            found = at_ratio(model, ratio)(line.column(grid).float())[:, 0].numpy()
        curves = {"exact": exact, "learned": found}
        draw_curves(axes, grid, curves, f"Score of the data with noise {ratio}", "score")
    save_figure(figure, out / "scores.png")


def draw_densities(out: Path, learned: list[Learned], kernel: np.ndarray, default: np.ndarray) -> None:
    """Write the densities of one seed: by the flow, of the default, of a kernel density, and by path integrals."""
    figure, (left, right) = panels(2, width=5.5)
    curves = {
        "exact density": PDF,
        "network, by the flow": learned[0].flow,
        "ScoreDensity": default,
        "kernel density": kernel,
    }
    draw_curves(left, GRID, curves, "By the flow, from 1,024 rows", "density")
    paths = {f"path integral, noise {r}": q for r, q in zip(RATIOS, learned[0].paths, strict=True) if r != 0.02}
    draw_curves(right, GRID, {"exact density": PDF} | paths, "The same network, by path integrals", "density")
    right.sharey(left)
    save_figure(figure, out / "densities.png")


def draw_masses(out: Path, learned: list[Learned]) -> None:
    """Write the mass that each seed gives to the left mode: by path integrals, level by level, and by the flow."""
    figure, (axes,) = panels()
    for found in learned:
        axes.semilogx(RATIOS, [line.mass_below(0.0, q, GRID) for q in found.paths], ".-", color=LEARNED[0], alpha=0.5)
        axes.axhline(line.mass_below(0.0, found.flow, GRID), color=LEARNED[1], alpha=0.5, linewidth=0.8)
    axes.axhline(0.5, color=EXACT, linestyle="--")
    axes.plot([], [], ".-", color=LEARNED[0], label="path integral of the score at one level")
    axes.plot([], [], color=LEARNED[1], label="the same networks, by the flow")
    axes.plot([], [], "--", color=EXACT, label="true")
    axes.set(
        title=f"Mass below zero, {len(learned)} seeds", xlabel="noise s/a", ylabel="mass below zero", ylim=(-0.03, 1.2)
    )
    axes.legend(fontsize=8, loc="upper right")
    save_figure(figure, out / "masses.png")


def draw_samples(out: Path, models: list[ScoreModel]) -> Results:
    """Write 256 trajectories of the reverse SDE, the flow and Langevin with steps s^2 / 4, and their ends."""
    figure, frames = panels(3, width=4.5)
    ends, bars = panels(3, width=4.5)
    results: Results = {}
    for axes, below, (name, make) in zip(frames, bars, WAYS.items(), strict=True):
        paths = [make(model, seed) for seed, model in enumerate(models)]
        draw_paths(axes, np.arange(len(paths[0])), paths[0].numpy(), name, "step")
        every = torch.cat([path[-1] for path in paths])
        draw_bars(below, every.numpy(), 60, GRID, {"exact density": PDF}, f"{name}, all seeds")
        share = [float((path[-1] < 0).double().mean()) for path in paths]
        valley = [float((path[-1].abs() < 0.5).double().mean()) for path in paths]
        results |= row(f"{name}: share below zero (true 0.5)", None, share)
        results |= row(f"{name}: share within 0.5 of zero (true 0.006)", None, valley)
    save_figure(figure, out / "trajectories.png")
    save_figure(ends, out / "histograms.png")
    return results


def reverse_sde(model: ScoreModel, seed: int) -> Tensor:
    """Return the states of the reverse SDE from the prior at t = 1, (steps, chains)."""
    return _walked(model, seed, walk(euler_maruyama(1.0, spawn(seed, "reverse"))), 200)


def flow(model: ScoreModel, seed: int) -> Tensor:
    """Return the states of the probability flow from the prior at t = 1 by Heun's method, (steps, chains)."""
    return _walked(model, seed, walk(heun), 40)


def _walked(model: ScoreModel, seed: int, sampler: Sampler, steps: int) -> Tensor:
    start = model.prior().sample(CHAINS, spawn(seed, "prior")).float()
    grid = times.grid(model.process, steps)
    return torch.stack([start, *sampler(model, start, grid)])[:, :, 0].double()


def anneal(model: ScoreModel, seed: int) -> Tensor:
    """Return Langevin states over 12 levels from 3 to 0.05 with steps proportional to s^2, (steps, chains)."""
    levels = torch.logspace(np.log10(3), np.log10(0.05), 12, dtype=F64).tolist()
    generator = spawn(seed, "langevin")
    start = levels[0] * normal_like(torch.empty(CHAINS, 1), generator)
    scores, sizes = [at_ratio(model, s) for s in levels], [s**2 / 4 for s in levels]
    return torch.stack([start, *langevin.annealed(scores, start, sizes, 50, generator)])[:, :, 0].double()


WAYS = {"Reverse SDE": reverse_sde, "Probability flow": flow, "Annealed Langevin, steps s^2/4": anneal}
"""Samplers that use the one network, by their name in the figures."""
