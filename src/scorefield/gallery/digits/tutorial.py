"""Score matching on digits: the tutorial's figures 1 and 2, which need no images, and its digits.

Figure 1 shows noise that becomes two moons step by step, figure 2 the score of a density with two modes and one path
of Langevin dynamics in it. Neither was learned; both are made with exact scores, and moons with ScoreDensity too.
The tutorial takes step and noise of Langevin dynamics as two numbers of one's own, x + alpha score + eta z. They must
be tied, eta^2 = 2 alpha; else the chain with small steps samples p to the power 2 alpha / eta^2, with the tutorial's
own numbers p^8. Its steps on digits are not small: each goes to the mean of the clean image (`training.chains`).
"""

from collections import deque
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from scorefield.data import toys
from scorefield.diffusion import times
from scorefield.diffusion.denoisers import ExactDenoiser
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.published import VP
from scorefield.evaluation.metrics import energy_distance
from scorefield.gallery.digits import images
from scorefield.gallery.digits.training import SIZE, STEPS, TEMPERATURE
from scorefield.gallery.drawing import planes
from scorefield.gallery.drawing.curves import LEARNED, SAMPLE
from scorefield.gallery.report import Results, row, save_figure
from scorefield.inference import langevin
from scorefield.inference.samplers import ddim, walk
from scorefield.kinds.tables.estimator import ScoreDensity
from scorefield.numerics.tensors import spawn

F64 = torch.float64
MOONS = cast(GaussianMixture, toys.TOYS["moons"].density)
POINTS, REAL, LIMIT = 1_000, 4_000, 5.0
SHOWN = (1.0, 0.5, 0.3, 0.15, 0.05)
"""Times of the panels of figure 1 before the last."""

STD, PLACES = 0.5, torch.tensor([[-1.2, -0.8], [1.2, 0.8]], dtype=F64)
MODES = GaussianMixture.isotropic(torch.ones(2, dtype=F64), PLACES, STD)
"""The density of figure 2; the tutorial does not say which it drew."""

START = torch.tensor([[1.6, -2.2]], dtype=F64)
"""Where figure 2's path begins: a place of next to no density."""

CHAINS, LONG = 2_000, 400


def run(out: Path, *, seeds: int = 10, quick: bool = False, full: bool = False) -> Results:
    """Make the tutorial below `out`; return every published number beside ours.

    Figures 1 and 2 take all seeds, the digits one; full: at most 3, trained to the end.
    """
    count = min(seeds, 1) if quick else seeds
    few = min(count, 3)
    simple = moons(out, count, few=few) | modes(out, count)
    return simple | images.run(out, seeds=few if full else 1, quick=quick, full=full)


def denoise(seed: int) -> list[Tensor]:
    """Return 1,000 points on their way from the prior to two moons: 200 ancestral steps with exact scores.

    The last is the mean of the clean points, without noise.
    """
    model, grid = ExactDenoiser(MOONS, VP()), times.grid(VP(), 200)
    x = model.prior().sample(POINTS, spawn(seed, "prior"))
    states = [x, *walk(ddim(1.0, spawn(seed, "ancestral")))(model, x, grid)]
    return [*states, model.decompose(states[-1], grid[-1])[0]]


def moons(out: Path, seeds: int, few: int) -> Results:
    """Write figure 1, exact and learned; return the energy distances of both from fresh moons."""
    paths = [denoise(seed) for seed in range(seeds)]
    figure, every = planes.panels(3, 2)
    grid = times.grid(VP(), 200)
    shown = [int((grid - t).abs().argmin()) for t in SHOWN]
    titles = [f"t = {float(grid[i]):.2f}" for i in shown] + ["the clean points"]
    for axes, i, title in zip(every, [*shown, -1], titles, strict=True):
        colour, marker = (LEARNED[0], "o") if i else ("0.3", "x")
        planes.draw_points(planes.frame(axes, title, LIMIT), paths[0][i], colour, 2.0 if i else 9.0, marker)
    save_figure(figure, out / "as-published" / "figure-1.png")
    learned = [learn(seed) for seed in range(few)]
    figure, every = planes.panels(3)
    tables = {"training points": rows(0), "ScoreDensity": learned[0], "exact scores": paths[0][-1]}
    for axes, (title, x) in zip(every, tables.items(), strict=True):
        colour = SAMPLE if title == "training points" else LEARNED[0]
        planes.draw_points(planes.frame(axes, title, LIMIT), x, colour, size=2.0)
    save_figure(figure, out / "corrected" / "figure-1-learned.png")
    results = row(
        "figure 1, exact scores: energy distance", None, [*map(far, [p[-1] for p in paths], range(seeds))], 0.0
    )
    return results | row("figure 1, ScoreDensity: energy distance", None, [*map(far, learned, range(few))], 0.0)


def rows(seed: int) -> Tensor:
    """Return 1,000 points of the moons to learn."""
    return MOONS.sample(POINTS, spawn(seed, "rows"))


def learn(seed: int) -> Tensor:
    """Return 1,000 samples of ScoreDensity of 1,000 points; one step of training, since its base is the model there."""
    estimator = ScoreDensity(max_iter=1, random_state=seed).fit(rows(seed).numpy())
    return torch.tensor(estimator.sample(POINTS, random_state=seed), dtype=F64)


def far(x: Tensor, seed: int) -> float:
    """Return the energy distance of points to fresh moons; 0 in the mean for moons."""
    return energy_distance(x, MOONS.sample(REAL, spawn(seed, "fresh"))).value


def modes(out: Path, seeds: int) -> Results:
    """Write figure 2 with the tutorial's step and noise, and with noise that fits the step; return the spreads."""
    results: Results = {}
    for folder, temperature in ("as-published", TEMPERATURE), ("corrected", 1.0):
        path = torch.cat([START, *langevin.unadjusted(MODES.score, START, SIZE, STEPS, spawn(1, "path"), temperature)])
        draw_modes(out / folder / "figure-2.png", path, temperature)
        ends = [settle(temperature, seed) for seed in range(seeds)]
        name = f"figure 2, noise of the step times {temperature:g}"
        published = "variance around the nearer mode (Gaussian: 0.25)"
        results |= row(f"{name}: {published}", None, [spread_of(x) for x in ends], true_spread())
        crossed = [float((nearer(x) != nearer(chains_start())).double().mean()) for x in ends]
        results |= row(f"{name}: share of chains in the other mode after 400 steps", None, crossed, 0.5)
    return results


def chains_start() -> Tensor:
    """Return where chains begin: half of them in each mode."""
    return PLACES.repeat(CHAINS // 2, 1)


def settle(temperature: float, seed: int) -> Tensor:
    """Return 2,000 chains after 400 Langevin steps from the modes."""
    path = langevin.unadjusted(MODES.score, chains_start(), SIZE, LONG, spawn(seed, "chains"), temperature)
    return deque(path, maxlen=1)[0]


def nearer(x: Tensor) -> Tensor:
    """Return the number of the nearer mode of each row, (n,)."""
    return torch.cdist(x, PLACES).argmin(1)


def spread_of(x: Tensor) -> float:
    """Return the mean variance of a column around the nearer mode."""
    return float((x - PLACES[nearer(x)]).square().mean())


def true_spread() -> float:
    """Return the same of the density itself, by the trapezoidal rule: next to 0.25, since few points cross over."""
    axis, x = planes.mesh(6.0, 481)
    squares = (x - PLACES[nearer(x)]).square().mean(1)
    return float((MODES.log_prob(x).exp() * squares).sum() * (axis[1] - axis[0]) ** 2)


def draw_modes(path: Path, states: Tensor, temperature: float) -> None:
    """Write the density with its score as arrows on a grid, and beside it one path with the score where it went."""
    figure, (left, right) = planes.panels(2, width=5.2)
    _, fine = planes.mesh(3.0)
    _, coarse = planes.mesh(2.8, 15)
    titles = "Score of two modes", f"{len(states) - 1} Langevin steps, noise variance x {temperature:g}"
    for axes, title in zip((left, right), titles, strict=True):
        planes.draw_density(planes.frame(axes, title, 3.0), MODES.log_prob(fine).numpy(), 3.0)
    planes.draw_arrows(left, MODES.score, coarse, scale=40.0, colour="0.3")
    planes.draw_arrows(right, MODES.score, states, scale=15.0, colour="0.5")
    right.plot(*states.T.numpy(), color=LEARNED[0], linewidth=0.6)
    planes.draw_points(right, states, LEARNED[0], 9.0, "x")
    save_figure(figure, path)
