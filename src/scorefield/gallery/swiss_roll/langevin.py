"""Tutorial 002's other example, one Gaussian: Langevin in a wrong score and in the right one, and evolution in time.

Wrong is a network that learned the implicit loss of 1,000 points and answers everywhere else as it likes. Particles
that start there do not come home; with the exact score they do, and with the score of ScoreDensity of the same points.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from scorefield.diffusion.densities import GaussianMixture
from scorefield.evaluation.metrics import energy_distance
from scorefield.gallery.drawing import planes
from scorefield.gallery.networks import dense
from scorefield.gallery.report import Results, row, save_figure
from scorefield.gallery.swiss_roll import figures, training
from scorefield.gallery.swiss_roll.training import F64, HIDDEN, Potential, Sine, TutorialModel
from scorefield.inference import langevin
from scorefield.inference.samplers import euler_maruyama, walk
from scorefield.kinds.tables.estimator import ScoreDensity
from scorefield.numerics.shapes import Field
from scorefield.numerics.tensors import normal_like, spawn, uniform
from scorefield.training.objectives.losses import implicit

CENTRE, STD = 0.3, 0.2
TARGET = GaussianMixture.isotropic(torch.ones(1, dtype=F64), torch.full((1, 2), CENTRE, dtype=F64), STD)
CHAINS, SIZE, STEPS, BATCH = 1_000, 1e-3, 100, 32
NEAR = 4 * STD
"""Within this distance of the centre lie all but 3 in 10,000 points of the target."""

LIMIT = 1.3


def sample(seed: int) -> Tensor:
    """Return the 1,000 points that are learned."""
    return TARGET.sample(training.POINTS, spawn(seed, "gaussian")).float()


def wrong(seed: int, epochs: int) -> nn.Sequential:
    """Train the network 2-64-64-64-2 of sin(2x), sin(2x), LogSigmoid on the implicit loss in batches of 32."""
    data = sample(seed)
    net = dense(2, *HIDDEN, 2, activations=[Sine(), Sine(), nn.LogSigmoid()], generator=spawn(seed, "implicit"))
    batches = training.epochs(data, BATCH, spawn(seed, "implicit batches"))
    found = training.steps(net, batches, lambda net, x: implicit(net, x).mean())
    for _, _ in zip(range(epochs * -(-len(data) // BATCH)), found, strict=False):
        pass
    return net.double().requires_grad_(False)


def default(seed: int) -> Field:
    """Return the score of ScoreDensity of the same points. One step of training: its closed-form base is the model."""
    estimator = ScoreDensity(max_iter=1, random_state=seed).fit(sample(seed).numpy())
    return lambda x: torch.from_numpy(estimator.score_function(x.numpy())).to(x)


def chains(score: Field, seed: int) -> list[Tensor]:
    """Return the states of 1,000 chains, uniform in the square from -1 to 1 at first, 100 steps of 0.001."""
    generator = spawn(seed, "chains")
    start = (2 * uniform(2 * CHAINS, generator) - 1).reshape(CHAINS, 2)
    return [start, *langevin.unadjusted(score, start, SIZE, STEPS, generator)]


def exact_end() -> tuple[float, float]:
    """Return mean and variance of a column of the exact chains after their last step.

    x - m shrinks by 1 - h/c^2 a step and gets the variance 2h: from a uniform start, of mean 0 and variance 1/3.
    """
    shrink = 1 - SIZE / STD**2
    left = shrink ** (2 * STEPS)
    return CENTRE * (1 - shrink**STEPS), left / 3 + 2 * SIZE * (1 - left) / (1 - shrink**2)


def run(out: Path, seeds: int, epochs: int, steps: int, rate: float, frames: int | None) -> Results:
    """Write the pair as an animation, the ends with ours beside them, and the evolution; return where chains end."""
    results: Results = {}
    mean, variance = exact_end()
    ends: dict[str, list[Tensor]] = {}
    paths: list[dict[str, list[Tensor]]] = []
    for seed in range(seeds):
        fields: dict[str, Field] = {"Implicit loss": wrong(seed, epochs), "Exact score": TARGET.score}
        fields["ScoreDensity"] = default(seed)
        paths.append({name: chains(field, seed) for name, field in fields.items()})
        if seed == 0:
            draw(out, fields, paths[0], frames)
    for name in paths[0]:
        ends[name] = [path[name][-1] for path in paths]
        label = f"one Gaussian, Langevin, {name}"
        near = [float(((x - CENTRE).norm(dim=1) < NEAR).double().mean()) for x in ends[name]]
        results |= row(f"{label}: share within 4 standard deviations", None, near, 1.0)
        results |= row(f"{label}: mean of x1", None, [float(x[:, 0].mean()) for x in ends[name]], mean)
        results |= row(f"{label}: variance of x1", None, [float(x[:, 0].var()) for x in ends[name]], variance)
        distance = [energy_distance(x, TARGET.sample(4_000, spawn(k, "truth"))).value for k, x in enumerate(ends[name])]
        results |= row(f"{label}: energy distance to the target", None, distance)
    return results | evolve(out / "as-published", steps, rate, frames)


def draw(out: Path, fields: dict[str, Field], paths: dict[str, list[Tensor]], frames: int | None) -> None:
    """Write wrong beside right, every second state, and where all end after 100 steps."""
    pair = {name: fields[name] for name in ("Implicit loss", "Exact score")}
    shown = {name: paths[name][:frames] for name in pair}
    planes.animate_particles(out / "as-published" / "langevin.gif", pair, shown, 2, LIMIT, 10)
    figure, every = planes.panels(len(fields))
    for axes, (name, score) in zip(every, fields.items(), strict=True):
        planes.draw_points(planes.frame(axes, f"{name}, {STEPS} steps", LIMIT), paths[name][-1])
        planes.draw_streams(axes, score, LIMIT)
    save_figure(figure, out / "corrected" / "langevin.png")


def evolving(generator: Generator) -> nn.Sequential:
    """Return the network of the evolution, 3-64-64-64-1 of sin(2x), LogSigmoid, LogSigmoid."""
    return dense(3, *HIDDEN, 1, activations=[Sine(), nn.LogSigmoid(), nn.LogSigmoid()], generator=generator)


def evolve(out: Path, steps: int, rate: float, frames: int | None) -> Results:
    """Write the evolution: a network with one output, sin(2x) first, learned over all t, and its reverse SDE."""
    net, data = Potential(evolving(spawn(0, "evolution"))), sample(0)
    training.train(net, data, steps, 0, rate)
    times = torch.linspace(1, 0, 1000, dtype=F64)
    start = normal_like(torch.empty(CHAINS, 2), spawn(0, "evolution start"))
    path = [start, *walk(euler_maruyama(1.0, spawn(0, "evolution noise")))(TutorialModel(net, data), start, times)]
    shown: Sequence[int] = [0, 999] if frames else [*range(0, 999, 25), *[999] * 10]
    figures.animate_potential(out / "evolution.gif", net, [path[i] for i in shown], times[shown].tolist(), 2.0)
    results: Results = {}
    for t in (0.01, 0.1, 0.3, 1.0):
        off = training.potential_error(net, TARGET, t, 4.0)
        results |= row(f"one Gaussian, evolution: total variation at t = {t:g}", None, [off], 0.0)
    return results
