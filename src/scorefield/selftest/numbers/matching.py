"""R07: every objective against the closed form of its mean, its gradient and its minimiser."""

import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager
from unittest.mock import patch

import torch
from torch import Generator, Tensor, nn

from scorefield.diffusion.prediction import PREDICTIONS
from scorefield.diffusion.process import Process
from scorefield.numerics.shapes import PerSample, Samples
from scorefield.numerics.tensors import dot
from scorefield.selftest.cases import DENSITIES, F64, Wavy, learned, middle_time, z_limit
from scorefield.selftest.numbers.affine import USUAL
from scorefield.selftest.numbers.closed_forms import CLOSED, deviate, from_closed_form, from_true_score
from scorefield.selftest.numbers.quadrature import EXACT, hyvarinen, vincent
from scorefield.selftest.report import Check, Entry, Failures, Plan, Worst
from scorefield.training.objectives import losses
from scorefield.training.objectives.losses import WEIGHTS
from scorefield.training.objectives.table import OBJECTIVES, Task


class WavyEnergy(nn.Module):
    """The gradient of a smooth random number, as `networks.Energy` makes it."""

    def __init__(self, dim: int, seed: int) -> None:
        super().__init__()
        self.net = Wavy(dim, seed)

    def potential(self, z: Samples, log_ratio: Tensor) -> PerSample:
        """Return the number."""
        return self.net(z, log_ratio)[:, 0]

    def forward(self, z: Samples, log_ratio: Tensor) -> Samples:
        """Return its gradient."""
        return torch.func.grad(lambda z: self.potential(z, log_ratio).sum())(z)


def gradients(name: str, process: Process) -> str | None:
    """Return what `gradcheck` finds wrong with an objective at atol 1e-6, in data and parameters, float64."""
    model = learned(process, "v", 2, net=WavyEnergy(2, 1))
    x = torch.randn(3, 2, dtype=F64, generator=Generator().manual_seed(0)).requires_grad_()
    t = torch.stack([middle_time(process, ratio) for ratio in (0.1, 1.0, 4.0)])
    task = Task(None, DENSITIES["mixture-2d"])
    loss = lambda x, *parameters: OBJECTIVES[name].loss(model, x, t, task, Generator().manual_seed(1))
    try:
        torch.autograd.gradcheck(loss, (x, *model.parameters()), atol=1e-6)
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return None


def matching(plan: Plan) -> Iterator[Check]:
    """Compare every objective with closed forms, by quadrature and by draws, and its gradient with differences."""
    usual = {"vp": USUAL["vp"], "ve": USUAL["ve"]} if plan.size == "smoke" else USUAL
    known = Failures("objectives without a closed form")
    for name in OBJECTIVES:
        known.add(name, None if name in CLOSED else "has none")
    yield known.check()
    closed = Worst("mean and gradient of objectives against closed forms", 1e-8)
    minimal = Worst("minimiser of objectives against the true score", 1e-8)
    for (label, process), name in itertools.product(usual.items(), CLOSED):
        for ratio in (0.05, 0.7, 3.0):
            closed.add(f"{name}, {label}, s/a={ratio}", from_closed_form(name, process, ratio), 2)
        minimal.add(f"{name}, {label}", from_true_score(name, process))
    yield closed.check()
    yield minimal.check()
    identity = Worst("denoising less explicit less its constant, and their gradients", 1e-8)
    for (label, process), predicts in itertools.product(usual.items(), PREDICTIONS):
        identity.add(f"{label}, {predicts}", vincent(process, predicts), 2 * (1 + len(WEIGHTS)))
    yield identity.check()
    forms = Worst("implicit forms less explicit less their constant, and their gradients", 1e-8)
    for kind, form in itertools.product(("mixture-1d", "mixture-2d"), EXACT):
        forms.add(f"{form}, {kind}", hyvarinen(DENSITIES[kind], form), 2)
    yield forms.check()
    checked = Failures("objectives whose gradient is not that of differences")
    for name in OBJECTIVES:
        if name != "second-order":  # its residual is not differentiated, see its closed form
            checked.add(name, gradients(name, usual["vp"]))
    yield checked.check()
    if plan.size == "smoke":
        return
    count = plan.of(smoke=0, quick=1_000_000, full=10_000_000)
    drawn = Worst("deviates of means over draws, false alarm 1e-6", z_limit(len(CLOSED)))
    for name in CLOSED:
        drawn.add(name, abs(deviate(name, usual["vp"], count, plan.seed)), count)
    yield drawn.check()


def no_half() -> AbstractContextManager:
    """Plant sliced score matching without its factor 1/2."""
    return patch.object(losses, "_slice", lambda value, derivative, v: dot(v, value).square() + derivative)


TESTS = {"R07": Entry("objectives", matching, no_half, smoke=True)}
