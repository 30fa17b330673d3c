"""The time of a training step beside the same arithmetic without a framework, and beside tutorial 002's plain loop.

All loops take turns in one process with one thread. Times are those of the processor; a ratio is the median over the
rounds of two loops' times in the same round, so that other work on the machine slows both. The loops:

    ours      the step as `fit` runs it on a table of two columns: default network, batch, averaged targets
    bare      its arithmetic as matrix products and element-wise functions on tensors made once: backward pass,
              Adam and average by hand, no autograd, no modules; its gradient is checked against ours first
    plain     tutorial 002's loop with our network and our batch: its law of times, loss, DataLoader and Adam
    tutorial  tutorial 002's own loop, its network and batch
    small     our step with tutorial 002's network and batch

    python benchmarks/step.py [--rounds 15] [--steps 40]
"""

import argparse
import itertools
import json
import math
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from swissroll import tutorial_steps
from torch import Generator, Tensor, nn

from scorefield.data import toys
from scorefield.diffusion.denoisers import ScoreModel
from scorefield.gallery.swiss_roll.training import network
from scorefield.numerics.tensors import spawn
from scorefield.training.config import Config
from scorefield.training.trainer import Trainer, batches

RESULTS = Path(__file__).parent / "results" / "step.json"
ROWS = 50_000
STEPS = 1_000_000
"""The length of the run that the steps are taken from; only the learning rate depends on it."""

PAIRS = [("ours", "bare"), ("plain", "ours"), ("tutorial", "small")]
"""Each ratio is the time of the first over the time of the second."""


def ours(data: Tensor, net: nn.Module | None = None) -> Iterator[object]:
    """Take steps as `fit` does; net None is the default network."""
    config = Config(steps=STEPS)
    model = config.model(data.mean(0), torch.cov(data.T))
    if net is not None:
        model = ScoreModel(net, model.process, model.mean, model.covariance)
    loss = config.loss(model)
    rows, noise = batches(data, config.batch_size, config.generator("rows")), config.generator("noise")
    return Trainer(model, STEPS, config.learning_rate).run(lambda: loss(next(rows), noise).mean())


class Bare:
    """The step's arithmetic on tensors that are made once, weights, moments and average each in one piece."""

    def __init__(self, data: Tensor) -> None:
        config = Config(steps=STEPS)
        net = config.model(data.mean(0), torch.cov(data.T)).net.members[0]
        self.data, self.n, self.rate = data, config.batch_size, config.learning_rate
        self.median, self.spread = config.noise_median, config.noise_spread
        self.frequencies, self.rates = net.frequencies, net.rates
        self.halves = -net.frequencies.square().sum(0) / 2
        sizes = [p.numel() for p in net.parameters()]
        self.flat = torch.cat([p.detach().flatten() for p in net.parameters()])
        self.gradient, self.first, self.second = (torch.zeros_like(self.flat) for _ in range(3))
        self.average, self.scratch = self.flat.clone(), torch.empty_like(self.flat)
        shapes = [p.shape for p in net.parameters()]
        views = lambda flat: [part.view(shape) for part, shape in zip(flat.split(sizes), shapes, strict=True)]
        self.weights, self.gradients = views(self.flat), views(self.gradient)
        self.generator, self.done = Generator().manual_seed(0), 0
        n, width, depth, features = self.n, config.width, config.depth, config.features
        make = lambda *shape: torch.empty(*shape)
        self.index, self.uniform = make(n).long(), make(n).double()
        self.x, self.noise, self.noisy, self.target = (make(n, 2) for _ in range(4))
        self.located, self.references = make(n, 3).double(), make(n, 3).double()
        self.logits, self.posterior = make(n, n).double(), make(n, n)
        self.angles, self.damping = make(n, features), make(n, features)
        self.inputs = [make(n, 2 + 2 * features), *(make(n, width) for _ in range(depth))]
        self.dense, self.moved, self.back = ([make(n, width) for _ in range(depth)] for _ in range(3))
        self.level = make(n, 1 + 2 * len(net.rates))
        self.embedded, self.silu, self.steering, self.steered = (
            make(n, 16),
            make(n, 16),
            make(n, 2 * depth * width),
            make(n, 2 * depth * width),
        )
        self.out, self.slope, self.narrow = make(n, 2), make(n, width), make(n, 16)

    def draw(self) -> tuple[Tensor, Tensor]:
        """Draw a batch, its times and noise; return the noisy unit-variance rows and log(s/a), and set the target."""
        n = self.n
        torch.randint(len(self.data), (n,), generator=self.generator, out=self.index)
        torch.index_select(self.data, 0, self.index, out=self.x)
        torch.rand(n, generator=self.generator, dtype=torch.float64, out=self.uniform)
        torch.randn(n, 2, generator=self.generator, out=self.noise)
        share = (torch.arange(n, dtype=torch.float64) + self.uniform) / n
        log_ratio = math.log(self.median) + self.spread * torch.special.ndtri(share)
        ratio = log_ratio.exp()[:, None]
        self.set_target(ratio)
        return self.noisy, log_ratio.float()

    def set_target(self, ratio: Tensor) -> None:
        """Average the targets over the batch; on a process that preserves variance a = 1 / sqrt(1 + r^2), s = r a."""
        a = (1 + ratio**2).rsqrt()
        a32, s32 = a.float(), (ratio * a).float()
        torch.addcmul(a32 * self.x, s32, self.noise, out=self.noisy)
        precision = ratio**-2
        torch.mul(self.noisy.double() / a, precision, out=self.located[:, :2])
        self.located[:, 2:] = precision
        self.references[:, :2] = self.x
        torch.sum(self.x.double().square(), 1, out=self.references[:, 2])
        self.references[:, 2] *= -0.5
        torch.mm(self.located, self.references.T, out=self.logits)
        self.logits -= self.logits.amax(1, keepdim=True)
        self.posterior.copy_(self.logits)
        torch.softmax(self.posterior, 1, out=self.posterior)
        clean = self.posterior @ self.x
        noise = (self.noisy - a32 * clean) / s32
        torch.sub(a32 * noise, s32 * clean, out=self.target)

    def forward(self, z: Tensor, log_ratio: Tensor) -> Tensor:
        """Return the network's answer, and keep what the way back needs."""
        embed, embed_bias, steer, steer_bias = self.weights[-4:]
        square = (2 * log_ratio).exp()[:, None]
        torch.mm(z * (1 + square).sqrt(), self.frequencies, out=self.angles)
        torch.mul(square, self.halves, out=self.damping).exp_()
        first, width = self.inputs[0], self.angles.shape[1]
        first[:, :2] = z
        torch.mul(self.angles.sin(), self.damping, out=first[:, 2 : 2 + width])
        torch.mul(self.angles.cos_(), self.damping, out=first[:, 2 + width :])
        phases = log_ratio[:, None] * self.rates
        torch.cat([log_ratio[:, None] / 4, phases.sin(), phases.cos()], 1, out=self.level)
        torch.addmm(embed_bias, self.level, embed.T, out=self.embedded)
        torch.sigmoid(self.embedded, out=self.silu).mul_(self.embedded)
        torch.addmm(steer_bias, self.silu, steer.T, out=self.steering)
        steering = self.steering.chunk(2 * len(self.dense), 1)
        for i, (scale, shift) in enumerate(zip(steering[::2], steering[1::2], strict=True)):
            torch.addmm(self.weights[2 * i + 1], self.inputs[i], self.weights[2 * i].T, out=self.dense[i])
            torch.addcmul(shift, self.dense[i], scale, out=self.moved[i])
            torch.sigmoid(self.moved[i], out=self.inputs[i + 1]).mul_(self.moved[i])
        depth = 2 * len(self.dense)
        return torch.addmm(self.weights[depth + 1], self.inputs[-1], self.weights[depth].T, out=self.out)

    def backward(self, error: Tensor) -> None:
        """Put the gradient of the mean of |error|^2 / 2 into its place."""
        depth = len(self.dense)
        weights, gradients = self.weights, self.gradients
        error /= self.n
        self.linear(error, self.inputs[-1], 2 * depth)
        torch.mm(error, weights[2 * depth], out=self.back[-1])
        steering, steered = self.steering.chunk(2 * depth, 1), self.steered.chunk(2 * depth, 1)
        for i in reversed(range(depth)):
            moved = torch.ops.aten.silu_backward.grad_input(self.back[i], self.moved[i], grad_input=steered[2 * i + 1])
            torch.mul(moved, self.dense[i], out=steered[2 * i])
            torch.mul(moved, steering[2 * i], out=self.slope)
            self.linear(self.slope, self.inputs[i], 2 * i)
            if i:
                torch.mm(self.slope, weights[2 * i], out=self.back[i - 1])
        self.linear(self.steered, self.silu, -2)
        torch.mm(self.steered, weights[-2], out=self.narrow)
        torch.ops.aten.silu_backward.grad_input(self.narrow, self.embedded, grad_input=self.narrow)
        torch.mm(self.narrow.T, self.level, out=gradients[-4])
        torch.sum(self.narrow, 0, out=gradients[-3])

    def linear(self, slope: Tensor, inputs: Tensor, i: int) -> None:
        """Put the gradients of a dense layer's weight and bias into their places."""
        torch.mm(slope.T, inputs, out=self.gradients[i])
        torch.sum(slope, 0, out=self.gradients[i + 1])

    def update(self) -> None:
        """Adam with its usual constants, and the running average."""
        self.done += 1
        rate = self.rate * min(1.0, self.done / 100) * (1 + math.cos(math.pi * self.done / STEPS)) / 2
        self.first.lerp_(self.gradient, 0.1)
        self.second.mul_(0.999).addcmul_(self.gradient, self.gradient, value=0.001)
        torch.sqrt(self.second, out=self.scratch).div_(math.sqrt(1 - 0.999**self.done)).add_(1e-8)
        self.flat.addcdiv_(self.first, self.scratch, value=-rate / (1 - 0.9**self.done))
        self.average.lerp_(self.flat, 1 - self.done / (self.done + 4))

    @torch.no_grad()
    def run(self) -> Iterator[object]:
        """Take steps without end."""
        while True:
            z, log_ratio = self.draw()
            error = self.forward(z, log_ratio) - self.target
            self.backward(error)
            self.update()
            yield None


def check(bare: Bare, data: Tensor) -> float:
    """Return how far the gradient by hand is from autograd's through our model, as a share of the largest entry."""
    config = Config(steps=STEPS)
    model = config.model(data.mean(0), torch.cov(data.T))
    generator = Generator().manual_seed(1)
    for flat, parameter in zip(bare.weights, model.parameters(), strict=True):
        flat += 0.1 * torch.randn(flat.shape, generator=generator)  # the last layer starts at zero
        parameter.data.copy_(flat)
    z, log_ratio = bare.draw()
    with torch.no_grad():
        bare.backward(bare.forward(z, log_ratio) - bare.target)
    loss = (model.net(z, log_ratio) - bare.target).square().sum(1).mean() / 2
    found = torch.autograd.grad(loss, list(model.parameters()))
    expected = torch.cat([part.flatten() for part in found])
    return float((bare.gradient - expected).abs().max() / expected.abs().max())


class InTutorial(nn.Module):
    """Our network with the tutorial's arguments, one table of rows and times, on its VP process."""

    def __init__(self, data: Tensor) -> None:
        super().__init__()
        self.model = Config(steps=STEPS).model(data.mean(0), torch.cov(data.T))

    def forward(self, rows: Tensor) -> Tensor:
        """Return the network's answer, read as a score."""
        t = rows[:, 2]
        variance = -torch.expm1(-(0.1 + 0.5 * 19.9 * t) * t)
        return self.model.net(rows[:, :2], (variance / (1 - variance)).log() / 2)


class InOurs(nn.Module):
    """The tutorial's network with our arguments, rows of unit variance and log(s/a)."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network(spawn(0, "init"))

    def forward(self, z: Tensor, log_ratio: Tensor) -> Tensor:
        """Return the network's answer."""
        return self.net(torch.cat([z, log_ratio[:, None]], 1))


def measure(rounds: int, steps: int) -> dict:
    """Return each loop's milliseconds a step, the median and the smallest of all rounds, and the ratios' medians."""
    data = torch.from_numpy(toys.load("moons", ROWS, 0).to_numpy(copy=True)).float()
    data = (data - data.mean(0)) / data.std(0)
    bare, batch = Bare(data), Config(steps=STEPS).batch_size
    wrong = check(bare, data)
    if wrong > 1e-4:
        raise RuntimeError(f"the gradient by hand differs from autograd's by {wrong:g} of its largest entry")
    loops = {
        "ours": ours(data),
        "bare": bare.run(),
        "plain": tutorial_steps(InTutorial(data), data, batch=batch),
        "tutorial": tutorial_steps(network(spawn(0, "init")), data),
        "small": ours(data, InOurs()),
    }
    times: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds + 1):
        for name, loop in loops.items():
            began = time.process_time()
            for _ in itertools.islice(loop, steps):
                pass
            times[name].append(1e3 * (time.process_time() - began) / steps)
    times = {name: found[1:] for name, found in times.items()}  # the first steps allocate memory
    ratios = {
        f"{one} / {other}": statistics.median(x / y for x, y in zip(times[one], times[other], strict=True))
        for one, other in PAIRS
    }
    found = {name: {"median": statistics.median(part), "least": min(part)} for name, part in times.items()}
    return {"milliseconds": found, "ratios": ratios, "gradient check": wrong}


def main() -> None:
    """Measure, keep the numbers and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(options.rounds, options.steps)
    RESULTS.write_text(json.dumps(found, indent=1))
    for name, part in found["milliseconds"].items():
        print(f"{name:10}{part['median']:7.2f} ms a step (least {part['least']:.2f})")
    for name, ratio in found["ratios"].items():
        print(f"{name:20}{ratio:6.2f}")


if __name__ == "__main__":
    main()
