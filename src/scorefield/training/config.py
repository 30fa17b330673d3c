"""The choices of one run, flat: what config.toml holds, and the model and loss that they stand for."""

import dataclasses
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from scorefield.diffusion import times
from scorefield.diffusion.by_name import PROCESSES, make
from scorefield.diffusion.denoisers import Denoiser, ScoreModel
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.networks import NETS, Ensemble, UNet
from scorefield.diffusion.prediction import PREDICTIONS
from scorefield.diffusion.process import Process
from scorefield.numerics.tensors import spawn
from scorefield.training.objectives.losses import denoising
from scorefield.training.objectives.table import OBJECTIVES, Task

UNET = "unet"
"""The network of images."""

LINEAR = "linear"
"""The process of a run whose user gave a LinearSDE."""


@dataclass(frozen=True)
class Config:
    """Everything that decides a run beside its data and the number of threads.

    steps: how many are taken, 0 for as many as the clock allows. span: the range of the process (see `by_name.make`).
    level: the one noise ratio that is trained, 0 for all. shape: (channels, height, width) of images, for the network
    'unet'; classes: how many labels they have. The process "linear" is a LinearSDE, whose table lies beside the
    weights.
    Raises ValueError for a name that does not exist or a number outside its range.
    """

    steps: int
    seed: int = 0
    process: str = "vp"
    span: tuple[float, ...] = ()
    predicts: str = "v"
    objective: str = "denoising"
    network: str = "mlp"
    level: float = 0.0
    batch_size: int = 256
    learning_rate: float = 4e-3
    width: int = 128
    depth: int = 3
    features: int = 64
    members: int = 1
    noise_median: float = 0.2
    noise_spread: float = 1.6
    shape: tuple[int, ...] = ()
    classes: int = 0

    def __post_init__(self) -> None:
        if self.process != LINEAR:
            _require_one_of("process", self.process, PROCESSES)
            process = make(self.process, self.span)
        _require_one_of("predicts", self.predicts, PREDICTIONS)
        _require_one_of("objective", self.objective, OBJECTIVES)
        _require_one_of("network", self.network, [UNET] if self.shape else NETS)
        if OBJECTIVES[self.objective].energy and self.network != "energy":
            raise ValueError(f"the objective {self.objective!r} takes differences of an energy: add --network energy")
        if self.shape and self.predicts != "v":
            raise ValueError(f"the network of images predicts 'v'; got {self.predicts!r}; leave out --predicts")
        if self.level and OBJECTIVES[self.objective].law:
            raise ValueError(f"the objective {self.objective!r} is a law of all levels; leave out --level")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            whole, least = field.type is int, 0 if field.name in ("steps", "seed", "classes") else 1
            if whole and not (isinstance(value, int) and least <= value < 2**63):
                raise ValueError(f"{field.name} must be a whole number from {least}; got {value!r}")
            zero = field.name == "level" and value == 0
            if field.type is float and not zero and not (isinstance(value, float) and 0 < value < math.inf):
                raise ValueError(f"{field.name} must be a positive number; got {value!r}")

        if self.level and self.process != LINEAR:
            self.law(process)

    @classmethod
    def from_dict(cls, values: dict[str, object]) -> "Config":
        """Return the choices saved as a dictionary. Raises ValueError for a missing or an unknown name."""
        names = {field.name for field in dataclasses.fields(cls)}
        if set(values) != names:
            raise ValueError(f"expected the settings {sorted(names)}; got {sorted(values)}")
        return cls(**{**values, "span": tuple(values["span"]), "shape": tuple(values["shape"])})  # type: ignore

    def generator(self, purpose: str) -> Generator:
        """Return the generator of one purpose ('init', 'rows', 'noise', ...) of this run's seed."""
        return spawn(self.seed, purpose)

    def model(
        self, mean: Tensor, covariance: Tensor, base: GaussianMixture | None = None, process: Process | None = None
    ) -> ScoreModel:
        """Build the model, untrained, for data with these moments; its network is a mean of `members`.

        process: that of the run where it is LINEAR. Raises ValueError where that is missing.
        """
        if process is None and self.process == LINEAR:
            raise ValueError("the process 'linear' is made from functions, in Python: ScoreDensity(LinearSDE(f, g))")
        process = process or make(self.process, self.span)
        nets = Ensemble(self._networks(len(mean), self.generator("init")))
        return ScoreModel(nets, process, mean, covariance, self.predicts, base=base)

    def _networks(self, dim: int, generator: Generator) -> list[nn.Module]:
        if self.shape:
            make_net = lambda: UNet(self.shape, self.width, self.depth, self.classes, generator=generator)
        else:
            make_net = lambda: NETS[self.network](dim, self.width, self.depth, self.features, generator=generator)
        return [make_net() for _ in range(self.members)]

    def law(self, process: Process) -> times.Law:
        """Return the law of the training times: one level, the objective's own, or log-normal ratios.

        Raises ValueError for a level outside the range of the process.
        """
        if self.level:
            low, high = times.bounds(process)
            if not low <= self.level <= high:
                raise ValueError(f"expected a level between {low:g} and {high:g}, in data stds; got {self.level:g}")
            return times.level(float(process.time(torch.tensor(self.level, dtype=torch.float64))))
        own = OBJECTIVES[self.objective].law
        return own(process) if own else times.lognormal(process, self.noise_median, self.noise_spread)

    def loss(self, model: Denoiser, truth: GaussianMixture | None = None) -> Callable[[Tensor, Generator], Tensor]:
        """Return what training follows: (x, generator) -> the objective of each row of x, at times drawn from the law.

        The batch itself serves as references, for less variance, but not where rows have classes, since other rows
        may be of other classes. truth: see `table.Task`.
        """
        law, row = self.law(model.process), OBJECTIVES[self.objective]
        task = lambda x: Task(None if self.classes else x, truth)
        return lambda x, generator: row.loss(model, x, law(len(x), generator), task(x), generator)

    def validation_loss(self, model: Denoiser) -> Callable[[Tensor, Generator], Tensor]:
        """Return what decides: the denoising loss on single draws of noise, whatever the objective."""
        law = self.law(model.process)
        return lambda x, generator: denoising(model, x, law(len(x), generator), generator=generator)


def _require_one_of(option: str, value: str, choices: Collection[str]) -> None:
    if value not in choices:
        raise ValueError(f"{option} must be one of {list(choices)}; got {value!r}")
