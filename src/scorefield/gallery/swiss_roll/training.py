"""Tutorial 002's swiss roll: its 1,000 points, its networks and its loop, and how far a density is from the truth."""

import itertools
from collections.abc import Callable, Iterator
from typing import cast

import numpy as np
import torch
from sklearn.datasets import make_swiss_roll
from torch import Generator, Tensor, nn

from scorefield.data import toys
from scorefield.diffusion import prediction
from scorefield.diffusion.denoisers import Denoiser, ExactDenoiser
from scorefield.diffusion.densities import GaussianMixture, posterior_of_rows
from scorefield.diffusion.published import VP
from scorefield.diffusion.times import stratified
from scorefield.evaluation.metrics import Estimate, mean_log_likelihood
from scorefield.gallery.drawing.planes import mesh
from scorefield.gallery.networks import dense, descend, shuffled
from scorefield.inference.path_integral import normalise, total_variation
from scorefield.numerics.tensors import normal_like, spawn, uniform
from scorefield.numerics.whitening import moments

F64 = torch.float64
PROCESS = VP(0.1, 20.0)
DENSITY = cast(GaussianMixture, toys.TOYS["swissroll"].density)
"""The law of the points, exact: the noise along the spiral by quadrature."""

POINTS, BATCH, RATE, HIDDEN = 1_000, 256, 3e-4, (64, 64, 64)
EPOCH = -(-POINTS // BATCH)
"""Steps in an epoch."""

FULL = 150_000 * EPOCH
"""Steps of the published training."""

T_MIN = 1e-4
"""The smallest time of the tutorial's training."""

FLOOR = 0.197758
"""The published loss of the true score by quadrature: 1 - E |noise(x_t, t)|^2 / 2, noise the mean of z given x_t."""

Net = Callable[[Tensor], Tensor]
"""(x, t), (n, d + 1) -> the score, (n, d)."""


class Sine(nn.Module):
    """The activation sin(2x)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return sin(2x)."""
        return (2 * x).sin()


class Potential(nn.Module):
    """A network of (x, t) with one output, log p up to a constant of each t, that answers with its gradient in x."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, xt: Tensor) -> Tensor:
        """Return the gradient in x, (n, d), for (x, t) (n, d + 1)."""
        x, t = xt[:, :-1], xt[:, -1:]
        value, pull = torch.func.vjp(lambda x: self.net(torch.cat([x, t], 1))[:, 0], x)[:2]
        return pull(torch.ones_like(value))[0]


class TutorialModel(Denoiser):
    """A network of (x, t) as a denoiser: it answers the score of a VP process with beta from 0.1 to 20."""

    def __init__(self, net: nn.Module, data: Tensor) -> None:
        super().__init__(PROCESS, *moments(data))
        self.net = net

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return prediction.coefficients("score", self.process, t)

    def predict(self, x: Tensor, t: Tensor) -> Tensor:
        return self.net(torch.cat([x, t.to(x).expand(len(x))[:, None]], 1))

    def decompose(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        a, s = self.process.kernel(t, x)
        noise = -s * self.predict(x, t)
        return (x - s * noise) / a, noise


def points(seed: int) -> Tensor:
    """Return the tutorial's data set: columns 0 and 2 of a swiss roll under noise 1, over 10."""
    rows, _ = make_swiss_roll(POINTS, noise=1.0, random_state=seed)
    return torch.from_numpy(rows[:, [0, 2]] / 10).float()


def fresh(n: int, seed: int) -> Tensor:
    """Return n other points of the same law, float64."""
    return torch.from_numpy(toys.load("swissroll", n, 1000 + seed).to_numpy(copy=True))


def network(generator: Generator) -> nn.Sequential:
    """Return the tutorial's network, 3-64-64-64-2 with LogSigmoid: 8,706 weights."""
    return dense(3, *HIDDEN, 2, activations=nn.LogSigmoid(), generator=generator)


def loss(net: Net, x: Tensor, generator: Generator | None = None) -> Tensor:
    """Return the published loss: the mean over rows and columns of s^2 (score(x_t, t) + z/s)^2, t uniform.

    x_t = a x + s z, so the target -z/s is the gradient of log p(x_t | x) in x_t; the weight is s^2.
    """
    t = T_MIN + (1 - T_MIN) * uniform(len(x), generator).to(x)[:, None]
    a, s = PROCESS.mean_coef(t), PROCESS.std(t)
    z = normal_like(x, generator)
    score = net(torch.cat([a * x + s * z, t], 1))
    return (s**2 * (score + z / s) ** 2).mean()


def epochs(data: Tensor, batch: int, generator: Generator) -> Iterator[Tensor]:
    """Yield shuffled batches of all rows, epoch after epoch, for ever."""
    while True:
        yield from (data[rows] for rows in shuffled(len(data), batch, generator))


def steps(
    net: nn.Module,
    batches: Iterator[Tensor],
    loss: Callable[[nn.Module, Tensor], Tensor],
    *,
    rate: float = RATE,
    fused: bool = True,
) -> Iterator[float]:
    """Train as the tutorial does, as long as there are batches: Adam at a constant rate; yield the loss of each step.

    fused: Adam in one call, the same numbers up to rounding in less time.
    """
    optimizer = torch.optim.Adam(net.parameters(), lr=rate, fused=fused)
    for x in batches:
        yield descend(optimizer, loss(net, x))


def train(net: nn.Module, data: Tensor, count: int, seed: int, rate: float = RATE) -> list[float]:
    """Train a network on the published loss for so many steps; return the loss of each."""
    noise = spawn(seed, "noise")
    found = steps(net, epochs(data, BATCH, spawn(seed, "batches")), lambda net, x: loss(net, x, noise), rate=rate)
    return list(itertools.islice(found, count))


def gap(log_density: Callable[[Tensor], Tensor], n: int, seed: int) -> Estimate:
    """Return the mean of log p - log q on n fresh points of the population, nats, with its standard error."""
    x = fresh(n, seed)
    return mean_log_likelihood(DENSITY.log_prob(x) - log_density(x))


def memorised(data: Tensor, n: int, seed: int) -> float:
    """Return the published loss of the score that knows only the training points, from n draws.

    It is E of (z - noise)^2, noise the mean of z given x_t and the points; E z^2 = 1 is known and taken out.
    """
    generator, rows = spawn(seed, "memorised"), data.double()
    x = rows[torch.randint(len(rows), (n,), generator=generator)]
    a, s = PROCESS.kernel(T_MIN + (1 - T_MIN) * stratified(n, generator), x)
    z = normal_like(x, generator)
    noise = posterior_of_rows(a * x + s * z, rows, a, s)[1]
    return 1 + float(((z - noise).square() - z.square()).mean())


@torch.no_grad()
def excess(model: Denoiser, n: int, seed: int) -> float:
    """Return by how much the published loss of a model is above that of the true score, on n fresh points.

    Its mean over the law of t and of x_t is E |noise_hat - noise|^2 / 2: no noise is left in it but that of x_t.
    """
    generator, x = spawn(seed, "excess"), fresh(n, seed)
    t = T_MIN + (1 - T_MIN) * stratified(n, generator)
    a, s = PROCESS.kernel(t, x)
    noisy = a * x + s * normal_like(x, generator)
    learned = model.decompose(noisy.to(model.mean), t)[1]
    return float((learned - ExactDenoiser(DENSITY, PROCESS).predict(noisy, t)).square().mean())


def without_noise(density: GaussianMixture) -> GaussianMixture:
    """Return point masses where a mixture has its Gaussians: for DENSITY the spiral without its noise."""
    return GaussianMixture.isotropic(density.weights, density.means, 0.0)


def off_curve(x: Tensor) -> Tensor:
    """Return the distance of each row from the nearest place of the spiral, (n,)."""
    t = torch.linspace(1.5, 4.5, 20_001, dtype=F64) * torch.pi
    curve = torch.stack([t * t.cos(), t * t.sin()], 1) / 10
    return torch.cat([torch.cdist(part.double(), curve).amin(1) for part in x.split(500)])


@torch.no_grad()
def log_potential(net: Potential, x: Tensor, t: float) -> Tensor:
    """Return the output of a network with one output at rows x, float64: log p_t up to a constant."""
    return net.net(torch.cat([x, torch.full_like(x[:, :1], t)], 1).float())[:, 0].double()


def potential_error(net: Potential, density: GaussianMixture, t: float, limit: float) -> float:
    """Return the total variation of exp(output) at t, normalised on the square up to limit, to the noised density."""
    axis, rows = mesh(limit)
    a, s = (float(f(torch.tensor(t, dtype=F64))) for f in (PROCESS.mean_coef, PROCESS.std))
    square = lambda values: normalise(values.reshape(len(axis), len(axis)).numpy(), axis, axis)
    learned, exact = square(log_potential(net, rows, t)), square(density.noised(a, s).log_prob(rows))
    return total_variation(np.exp(learned), np.exp(exact), axis, axis)
