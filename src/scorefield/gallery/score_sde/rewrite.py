"""The later version of the score-SDE page: one network over t, the reverse SDE, and a start that misplaces mass.

The target is 0.8 N(-1, 0.4^2) + 0.2 N(1, 0.3^2), the process dX = dW up to t = 1. There the data have the law
p_1 = target with noise of std 1, mean -0.6 and variance 1.786; the page starts from N(0, 1), which puts 0.286 in place
of 0.2 into the right mode even with exact scores.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.integrate import simpson
from torch import Tensor, nn

from scorefield.diffusion import times
from scorefield.diffusion.denoisers import Denoiser, ScoreModel
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.sde import LinearSDE
from scorefield.gallery import line
from scorefield.gallery.drawing.curves import (
    animate,
    draw_bars,
    draw_curves,
    draw_dots,
    draw_losses,
    draw_paths,
    panels,
    picture,
)
from scorefield.gallery.networks import descend
from scorefield.gallery.report import Results, row, save_figure
from scorefield.inference.likelihood import log_prob
from scorefield.inference.path_integral import total_variation
from scorefield.inference.samplers import euler_maruyama, walk
from scorefield.numerics.tensors import normal_like, spawn, uniform

TARGET = line.mixture([0.8, 0.2], [-1.0, 1.0], [0.4, 0.3])
GRID = np.linspace(-3, 3, 200)
WIDE = np.linspace(-9, 9, 1801)
PDF, SCORE = line.pdf(TARGET, GRID), TARGET.score(line.column(GRID))[:, 0].numpy()
LIMITS = (1.1 * SCORE.min(), 1.1 * SCORE.max())
BROWNIAN = LinearSDE(lambda t: torch.zeros_like(t), lambda t: torch.ones_like(t))
"""dX = dW, so a = 1 and s = sqrt(t)."""

EVERY = 25
"""Steps between the states that are kept: 80 of 2,000, as on the page."""

T_MIN = 1e-3
NODES, WEIGHTS = np.polynomial.legendre.leggauss(20)
TIMES = torch.from_numpy(T_MIN + (1 - T_MIN) * (NODES + 1) / 2)
FLOOR = float(WEIGHTS @ line.noise_floor(TARGET, TIMES.sqrt())) / 2
"""The loss of the exact score, by Gauss's rule over t."""

NORMAL = line.mixture([1.0], [0.0], [1.0])
MATCHED = GaussianMixture.gaussian(TARGET.mean, TARGET.covariance).noised(1.0, 1.0)
BETWEEN = np.abs(GRID) < 1
VALLEY = float(GRID[BETWEEN][PDF[BETWEEN].argmin()])
LEFT = line.mass_below(VALLEY, PDF, GRID)
STARTS = {
    "N(0, 1), the page's": NORMAL,
    "a Gaussian of the right moments": MATCHED,
    "p_1, the right one": TARGET.noised(1.0, 1.0),
}
"""Laws to start the reverse process from."""


class InTime(nn.Module):
    """The page's network of (x, t) as one of (z, log s/a), which ScoreModel asks: x = z sqrt(1 + t), t = (s/a)^2."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, z: Tensor, log_ratio: Tensor) -> Tensor:
        """Return the score at x and t."""
        t = (2 * log_ratio).exp()[:, None]
        return self.net(torch.cat([z * (1 + t).sqrt(), t], 1))


@dataclass(frozen=True)
class Trained:
    """A model, the loss before each step, and its score on the grid at t = 0 after every EVERY steps."""

    model: ScoreModel
    losses: list[float]
    scores: list[np.ndarray]


def train(seed: int, steps: int) -> Trained:
    """Train the page's 4,417 parameters on (s score(x + s z, t) + z)^2, t uniform from 0.001 to 1, s = sqrt(t)."""
    sample = TARGET.sample(1024, spawn(seed, "rows")).float()
    net, noise = line.dense(2, 64, 64, 1, generator=spawn(seed, "init")), spawn(seed, "noise")
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01, fused=True)
    losses, scores = [], [line.values(net, GRID, 0.0)]
    for step in range(1, steps + 1):
        t = (T_MIN + (1 - T_MIN) * uniform(len(sample), noise)).to(sample)[:, None]
        z = normal_like(sample, noise)
        loss = (t.sqrt() * net(torch.cat([sample + t.sqrt() * z, t], 1)) + z).square().mean()
        losses.append(descend(optimiser, loss))
        if step % EVERY == 0:
            scores.append(line.values(net, GRID, 0.0))
    covariance = sample.T.cov().reshape(1, 1).double()
    model = ScoreModel(InTime(net), BROWNIAN, sample.mean(0).double(), covariance, predicts="score")
    return Trained(model, losses, scores)


def exact_end(start: GaussianMixture) -> np.ndarray:
    """Return the density on WIDE after the exact reverse SDE from a law q_1 at t = 1, by quadrature.

    p_0(x) times the integral of N(y; x, 1) q_1(y) / p_1(y).
    """
    ratio = line.pdf(start, WIDE) / line.pdf(TARGET.noised(1.0, 1.0), WIDE)
    kernel = np.exp(-np.square(WIDE[:, None] - WIDE) / 2) / np.sqrt(2 * np.pi)
    return line.pdf(TARGET, WIDE) * simpson(kernel * ratio, x=WIDE, axis=1)


def right_mass(start: GaussianMixture) -> float:
    """Return the share of the right mode after the exact reverse SDE from a law at t = 1, by quadrature.

    The mode of an end given the state x at t = 1 has the posterior probability w_k N(x; m_k, C_k + 1) / p_1(x).
    """
    noised, x = TARGET.noised(1.0, 1.0), line.column(WIDE)
    right = GaussianMixture.gaussian(noised.means[1], noised.covariances[1])
    posterior = float(TARGET.weights[1]) * line.pdf(right, WIDE) / noised.log_prob(x).exp().numpy()
    return float(simpson(posterior * line.pdf(start, WIDE), x=WIDE))


def reverse(model: Denoiser, starts: list[GaussianMixture], chains: int, seed: int) -> Tensor:
    """Return the states of the reverse SDE from t = 1 to 0.001, (200, chains), so many chains from each start.

    By Euler and Maruyama's method, with 200 times at equal distances as on the page.
    """
    generator = spawn(seed, "start")
    x = torch.cat([start.sample(chains, generator) for start in starts]).float()
    sampler = walk(euler_maruyama(1.0, spawn(seed, "reverse")))
    path = sampler(model, x, times.uniform_grid(BROWNIAN, 199, ratio_min=T_MIN**0.5))
    return torch.stack([x, *path])[:, :, 0].double()


def run(out: Path, seeds: int, quick: bool) -> Results:
    """Make the page's later version, as published and from the right start; return its numbers."""
    runs = [train(seed, 200 if quick else 2000) for seed in range(seeds)]
    densities = [line.summed(found.scores[-1], GRID) for found in runs]
    with torch.no_grad():
        grid = line.column(GRID).float()
        flows = [
            log_prob(r.model, grid, tol=1e-4, errors=False, ratio_min=T_MIN**0.5).value.double().exp().numpy()
            for r in runs
        ]
    draw_training(out / "as-published", runs, densities)
    draw_density(out / "corrected", densities[0], flows[0])
    results = draw_starts(out, [found.model for found in runs], densities[0])
    results |= row("loss of the initial network", 0.78145, [r.losses[0] for r in runs], FLOOR, 1.0)
    results |= row("mean of the last 100 losses", 0.54, [float(np.mean(r.losses[-100:])) for r in runs], FLOOR, 1.0)
    for name, found, published in (
        ("recovered at t = 0", densities, (0.134, 0.8745, 0.762)),
        ("by the flow", flows, (None,) * 3),
    ):
        tv, left, peak = published
        results |= row(f"density {name}: total variation", tv, [total_variation(q, PDF, GRID) for q in found])
        results |= row(
            f"density {name}: mass left of the valley (true {LEFT:.4f})",
            left,
            [line.mass_below(VALLEY, q, GRID) for q in found],
        )
        results |= row(f"density {name}: peak (true 0.798)", peak, [q.max() for q in found])
    return results


def draw_training(out: Path, runs: list[Trained], densities: list[np.ndarray]) -> None:
    """Write data, score, fit, recovered density, losses and two animations."""
    sample = TARGET.sample(1024, spawn(0, "rows"))
    figure, (left, right) = panels(2, width=5.5)
    draw_bars(left, sample[:, 0].numpy(), 80, GRID, {"exact density": PDF}, "Data of the rewritten page")
    draw_curves(right, GRID, {"exact score": SCORE}, "Score", "score")
    draw_dots(right, sample[:, 0].numpy(), GRID, SCORE)
    save_figure(figure, out / "rewrite-data.png")
    figure, (left, right) = panels(2, width=5.5)
    draw_curves(left, GRID, {"exact score": SCORE, "learned": runs[0].scores[-1]}, "Score at t = 0", "score")
    curves = {"exact density": PDF, "recovered": densities[0]}
    draw_curves(right, GRID, curves, "Recovered density", "density")
    save_figure(figure, out / "rewrite-fit.png")
    figure, (axes,) = panels()
    losses = [found.losses for found in runs]
    draw_losses(axes, losses, f"Loss of the rewritten page, {len(runs)} seeds", FLOOR, {}, 1.0)
    axes.set_ylim(0.4, 1.1)
    save_figure(figure, out / "rewrite-loss.png")
    titles = [f"step {EVERY * i}" for i in range(len(runs[0].scores))]
    animate(out / "rewrite-fit.gif", GRID, {"exact score": SCORE}, runs[0].scores, titles, 10, "score", LIMITS)
    frames = [line.summed(score, GRID) for score in runs[0].scores]
    animate(out / "rewrite-density.gif", GRID, {"exact density": PDF}, frames, titles, 10, "density", (0.0, 1.35))


def draw_density(out: Path, recovered: np.ndarray, flow: np.ndarray) -> None:
    """Write the density of one network read at t = 0 and through the flow."""
    curves = {
        "exact density": PDF,
        "recovered at t = 0, as published": recovered,
        "the same network, by the flow": flow,
    }
    picture(out / "rewrite-density.png", GRID, curves, "Rewritten page: density", "density")


def draw_starts(out: Path, models: list[ScoreModel], recovered: np.ndarray) -> Results:
    """Write trajectories and ends of the reverse SDE from each start; return the mass of the right mode."""
    starts = list(STARTS.values())
    chains = [reverse(model, starts, 1024, seed) for seed, model in enumerate(models)]
    results: Results = {}
    figure, frames = panels(3, width=4.5)
    for i, (axes, (name, start)) in enumerate(zip(frames, STARTS.items(), strict=True)):
        ends = [path[-1].chunk(3)[i] for path in chains]
        exact = right_mass(start)
        title = f"Start: {name}\nright mode, exact scores: {exact:.3f} (true 0.2)"
        draw_bars(axes, torch.cat(ends).numpy(), 80, GRID, {"exact density": PDF}, title)
        axes.set_xlim(-3, 3)
        results |= row(f"right mode with exact scores from {name} (true 0.2)", None, [exact])
        far = total_variation(exact_end(start), line.pdf(TARGET, WIDE), WIDE)
        results |= row(f"total variation with exact scores from {name}", None, [far], 0.0)
        right = [float((x > VALLEY).double().mean()) for x in ends]
        results |= row(f"right of the valley, learned, from {name} (true {1 - LEFT:.4f})", None, right)
    save_figure(figure, out / "corrected" / "rewrite-starts.png")
    path = chains[0][:, :256]
    figure, (left, right_axes) = panels(2, width=5.5)
    draw_paths(left, np.linspace(1, T_MIN, len(path)), path.numpy(), "256 reverse trajectories from N(0, 1)", "t")
    left.invert_xaxis()
    curves = {"exact density": PDF, "recovered": recovered}
    draw_bars(right_axes, path[-1].numpy(), 40, GRID, curves, "Their ends")
    save_figure(figure, out / "as-published" / "rewrite-samples.png")
    return results
