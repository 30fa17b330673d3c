"""Training as a generator of progress reports: the loop belongs to the caller."""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from scorefield.diffusion.denoisers import ScoreModel
from scorefield.training.budget import Falling, Schedule
from scorefield.training.optimizers import Adam, Muon, Optimizer, suits

SKIPS = 10
"""Training ends after so many steps in a row whose loss or gradient is not finite."""

MUON_RATE = 10.0
"""The learning rate of Muon over that of Adam."""

COUNTS = ("step", "skipped", "in_a_row")
"""What a trainer counts: all steps, those that were skipped, and those skipped since the last that was taken."""


@dataclass(frozen=True)
class Progress:
    """One finished step: its number, counted from 1, and the loss of its batch; nan if the step was skipped."""

    step: int
    loss: float


class Trainer:
    """A model in training: its weights, their running average, the optimizers' moments and the number of steps done.

    Adam takes the steps; where the network has convolutions, Muon takes those of its larger matrices.

    The schedule, for a number of steps `Falling`, decides the learning rate, the end, and how long weights stay in
    `average`, the model to use. A step whose loss or gradient is not finite changes neither weights nor moments: it is
    skipped and counted. Raises RuntimeError, naming the step and the parameter, where SKIPS are skipped in a row.
    """

    def __init__(self, model: ScoreModel, steps: int | Schedule, learning_rate: float = 4e-3) -> None:
        self.model, self.learning_rate, self.step = model, learning_rate, 0
        self.schedule = Falling(steps) if isinstance(steps, int) else steps
        self.skipped, self.in_a_row = 0, 0
        self.average = copy.deepcopy(model).requires_grad_(False)
        layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
        convolves = any(isinstance(layer, nn.Conv2d) for layer in layers)
        matrices = [layer.weight for layer in layers if convolves and suits(layer.weight)]
        others = [weight for weight in model.parameters() if all(weight is not matrix for matrix in matrices)]
        self.optimizers: dict[str, Optimizer] = {"optimizer": Adam(others, learning_rate)}
        if matrices:
            self.optimizers["muon"] = Muon(matrices, MUON_RATE * learning_rate)

    def run(self, loss: Callable[[], Tensor]) -> Iterator[Progress]:
        """Take steps on loss(), one number, until the schedule ends, and report each.

        The caller draws the batch and its noise inside loss(); stopping early is `break`. Raises TooShort for a budget
        that has no time for a model.
        """
        self.schedule.begin(self.step)
        while not self.schedule.ends(self.step):
            value = loss()
            self.model.zero_grad()
            value.backward()
            wrong = self._not_finite(value.detach())
            if wrong:
                self._skip(wrong, float(value.detach()))
            else:
                self._update()
            self.step += 1
            self.schedule.observe(self.step)
            yield Progress(self.step, math.nan if wrong else float(value.detach()))

    def _not_finite(self, value: Tensor) -> str:
        """Return what of a step is not finite, the first gradient whose squares are not or the loss; "" if all is."""
        named = [(name, p.grad) for name, p in self.model.named_parameters() if p.grad is not None]
        norms = torch.stack(torch._foreach_norm([gradient for _, gradient in named]))
        if bool((value + norms.sum()).isfinite()):
            return ""
        gradients = (
            f"the gradient of the parameter {name}"
            for (name, _), norm in zip(named, norms, strict=True)
            if not norm.isfinite()
        )
        return next(gradients, "the loss")

    def _skip(self, wrong: str, value: float) -> None:
        """Count a step that is not taken."""
        self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
        if self.in_a_row == SKIPS:
            first, last = self.step + 2 - SKIPS, self.step + 1
            raise RuntimeError(
                f"steps {first} to {last} were skipped: the loss, {value:g} at the last, or its gradient is not "
                f"finite, first {wrong}; lower the learning rate ({self.learning_rate:g}), or look for extreme rows"
            )

    @torch.no_grad()  # else the average would keep the graph of all steps
    def _update(self) -> None:
        self.in_a_row = 0
        for optimizer in self.optimizers.values():
            optimizer.lr = optimizer.highest * self.schedule.rate(self.step)
            optimizer.step()
        joining = 1 - self.schedule.decay(self.step)
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), joining)

    def state(self) -> dict[str, Tensor]:
        """Return everything that changes in training, as tensors by name: weights, average, moments, step."""
        state = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        state |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        for kind, optimizer in self.optimizers.items():
            for index, moments in enumerate(optimizer.moments):
                state |= {f"{kind}.{index}.{name}": value for name, value in moments.items()}
        state |= {name: torch.tensor(getattr(self, name)) for name in COUNTS}
        return {name: value.detach().cpu().clone().contiguous() for name, value in state.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from a state that `state` returned, to the bit. Raises ValueError where it does not fit."""
        expected = {f"model.{name}" for name in self.model.state_dict()}
        if expected != {name for name in state if name.startswith("model.")}:
            raise ValueError("the saved weights belong to another network; expected the names of this one")
        for name in COUNTS:
            setattr(self, name, int(state.get(name, 0)))
        self.model.load_state_dict(_part(state, "model."))
        self.average.load_state_dict(_part(state, "average."))
        for kind, optimizer in self.optimizers.items():
            moments: dict[int, dict[str, Tensor]] = {}
            for name, value in _part(state, f"{kind}.").items():
                index, key = name.split(".", 1)
                moments.setdefault(int(index), {})[key] = value
            self._check_moments(kind, moments)
            optimizer.load(moments)

    def _check_moments(self, kind: str, moments: dict[int, dict[str, Tensor]]) -> None:
        """Raise ValueError for moments that are not those of the weights: fused steps would write beyond them."""
        weights = self.optimizers[kind].weights
        kind_of = lambda value: (value.shape, value.dtype)
        for index, found in moments.items():
            rest = [kind_of(value) for name, value in found.items() if name != "step"]
            counts = [value.numel() for name, value in found.items() if name == "step"]
            if index >= len(weights) or {*rest} != {kind_of(weights[index])} or {*counts} - {1}:
                raise ValueError(f"the saved moments of {kind}, number {index}, are not of the shape of its weight")
        if self.step > self.skipped and not moments:
            raise ValueError(f"expected the moments of {kind} after {self.step} steps; got none")


def batches(data: Tensor, size: int, generator: Generator) -> Iterator[Tensor]:
    """Yield batches of rows of a tensor in memory for ever, each row drawn uniformly with replacement."""
    while True:
        yield data[torch.randint(len(data), (size,), generator=generator)]


def trivial_model(model: ScoreModel) -> ScoreModel:
    """Return the model to which losses are relative: no base, and a network that answers zero.

    A relative loss of 1 is no better than one Gaussian; the best value depends on the data and is never 0.
    """
    return model.with_network(_Zero(), None)


class _Zero(nn.Module):
    def forward(self, z: Tensor, log_ratio: Tensor, *label: Tensor) -> Tensor:
        return torch.zeros_like(z)


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
