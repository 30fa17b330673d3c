"""The settings of a run of images."""

from scorefield.diffusion.by_name import named, span_for
from scorefield.diffusion.process import Process
from scorefield.kinds.images.problem import ImageProblem
from scorefield.kinds.kind import Settings
from scorefield.training.config import UNET, Config

WIDTH, DEPTH = 48, 2
"""Features of the network at its finest level, and residual blocks a level."""

BATCH, LEARNING_RATE = 64, 2e-3
"""Images a step, and the largest learning rate."""

NOISE_MEDIAN, NOISE_SPREAD = 1.0, 1.3
"""The law of the noise ratios in training."""


def choose_settings(problem: ImageProblem, process: str | Process, objective: str, seed: int) -> Settings:
    """Return the settings of a run of images, for one step. Raises ValueError for names that do not exist."""
    if objective in ("explicit", "parzen"):
        raise ValueError(
            f"the objective {objective!r} learns a density that is known, and that of images is not; try another"
        )
    farthest = float(problem.pixels.levels[-1] - problem.pixels.levels[0]) * problem.pixels.dim**0.5
    name, span, reason = (process, *span_for(process, farthest)) if isinstance(process, str) else (*named(process), "")
    return Settings(
        Config(
            steps=1,
            seed=seed,
            process=name,
            span=span,
            objective=objective,
            network=UNET,
            batch_size=BATCH,
            learning_rate=LEARNING_RATE,
            width=WIDTH,
            depth=DEPTH,
            noise_median=NOISE_MEDIAN,
            noise_spread=NOISE_SPREAD,
            shape=problem.pixels.shape,
            classes=problem.classes,
        ),
        reason,
    )


def automatic_steps(n: int) -> int:
    """Return how many steps to train on n images: 20 sqrt(n), from 500 to 5,000."""
    return int(min(5000, max(500, 20 * n**0.5)))
