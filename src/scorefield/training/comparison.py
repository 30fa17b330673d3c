"""The objectives side by side: one network trained by each for the same time, judged at every noise level."""

import math
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from scorefield.diffusion.denoisers import Denoiser, ExactDenoiser, ScoreModel
from scorefield.diffusion.densities import GaussianMixture
from scorefield.inference.likelihood import EXACT_UP_TO, PROBES
from scorefield.numerics.tensors import dot, normal_like, signs_like, spawn
from scorefield.numerics.whitening import moments
from scorefield.training.budget import Budget, Falling
from scorefield.training.config import Config
from scorefield.training.objectives.table import OBJECTIVES
from scorefield.training.problem import Part, truth_for
from scorefield.training.trainer import Trainer, batches

RATIOS = tuple(10 ** (k / 4 - 2) for k in range(13))
"""The noise levels s/a at which models are judged: 0.01 to 10."""

ROWS = 2_000
"""At most so many held-out rows judge."""


@dataclass(frozen=True)
class Result:
    """What one objective reached: steps taken in so many seconds, and its error at each of RATIOS.

    megabytes: the largest resident memory of its process, of which PyTorch takes 300 to 400.
    errors: where the truth is known, E|noise_hat - noise|^2 / E|noise|^2 at x_t, the Fisher divergence relative to that
    of no score at all; otherwise the implicit loss of held-out rows less that of one Gaussian, in units of the
    noise, negative where the model is better. failure: why training stopped early, if it did.
    """

    objective: str
    steps: int
    seconds: float
    megabytes: float
    errors: tuple[float, ...]
    failure: str = ""

    @property
    def mean_error(self) -> float:
        """The mean of the errors over the levels."""
        return math.fsum(self.errors) / len(self.errors)


def compare(part: Part, names: Sequence[str], seconds: float, seed: int) -> Iterator[Result]:
    """Yield the result of each objective by name, each trained in a process of its own, for its memory.

    The network has no base but one Gaussian and no ensemble, so that what is seen is the objective.
    """
    context = multiprocessing.get_context("spawn")
    for name in names:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            yield pool.submit(train_one, part, name, seconds, seed).result()


def train_one(part: Part, name: str, seconds: float, seed: int) -> Result:
    """Train one network by one objective for so many seconds, and judge it on the part's held-out rows."""
    torch.set_num_threads(1)
    network = "energy" if OBJECTIVES[name].energy else "mlp"
    config = Config(steps=1, seed=seed, objective=name, network=network)
    model = config.model(*moments(part.data))
    truth = truth_for(config, part.truth, part.data)
    trainer, failure = Trainer(model, Falling(Budget(seconds))), ""
    began = time.perf_counter()
    try:
        for _ in trainer.run(_loss(config, model, truth, part)):
            pass
    except (RuntimeError, ValueError) as error:  # such as a loss that is not finite: the weights so far are judged
        failure = str(error)
    took = time.perf_counter() - began
    errors = judge(trainer.average, part.held_out[:ROWS].float(), part.truth, seed)
    return Result(name, trainer.step, took, _megabytes(), errors, failure)


def judge(model: ScoreModel, x: Tensor, truth: GaussianMixture | None, seed: int) -> tuple[float, ...]:
    """Return the error of a model at each of RATIOS, from held-out rows x in model units; see `Result`."""
    noise = normal_like(x, spawn(seed, "judge"))
    flat = ExactDenoiser(GaussianMixture.gaussian(model.mean, model.covariance), model.process)
    found = []
    for ratio in RATIOS:
        t = model.process.time(torch.tensor(ratio, dtype=torch.float64))
        a, s = model.process.kernel(t, x)
        noisy = a * x + s * noise
        if truth is not None:
            with torch.no_grad():
                true = ExactDenoiser(truth.like(x), model.process).decompose(noisy, t)[1]
                error = (model.decompose(noisy, t)[1] - true).square().sum() / true.square().sum()
            found.append(float(error))
        else:
            found.append(_implicit(model, noisy, t, float(s), seed) - _implicit(flat, noisy, t, float(s), seed))
    return tuple(found)


def table(results: Sequence[Result]) -> pd.DataFrame:
    """Return a row for each objective: steps, seconds, megabytes, the mean error and that at each level."""
    rows = [
        {
            "objective": r.objective,
            "steps": r.steps,
            "seconds": r.seconds,
            "megabytes": r.megabytes,
            "failure": r.failure,
            "mean": r.mean_error,
            **{f"{ratio:.3g}": error for ratio, error in zip(RATIOS, r.errors, strict=True)},
        }
        for r in results
    ]
    return pd.DataFrame(rows)


def _loss(config: Config, model: ScoreModel, truth: GaussianMixture | None, part: Part) -> Callable[[], Tensor]:
    loss, noise = config.loss(model, truth), config.generator("noise")
    rows = batches(part.data.float(), config.batch_size, config.generator("rows"))
    return lambda: loss(next(rows), noise).mean()


@torch.no_grad()
def _implicit(model: Denoiser, noisy: Tensor, t: Tensor, s: float, seed: int) -> float:
    """Return the mean of 1/2 |noise|^2 - s div noise, the implicit loss in units of the noise."""
    probes = None
    if noisy.shape[1] > EXACT_UP_TO:
        generator = spawn(seed, "judge probes")
        probes = torch.stack([signs_like(noisy, generator) for _ in range(PROBES)])
    noise, divergence = model.noise_and_divergence(noisy, t, probes)
    return float((dot(noise, noise) / 2 - s * divergence.reshape(-1, len(noisy)).mean(0)).mean())


def _megabytes() -> float:
    """Return the largest resident memory of this process so far; nan where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
