"""The frontier of a run in its folder: what was measured, and the sampler that it recommends for this very model."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from scorefield.data import atomic
from scorefield.diffusion.denoisers import Denoiser
from scorefield.inference.frontier import Point
from scorefield.inference.samplers import SAMPLERS
from scorefield.runs.checkpoint import CheckpointError, seal, sha256, unseal


def fingerprint(model: Denoiser) -> str:
    """Return a digest of a model's weights, by which a frontier is known to be of this model."""
    tensors = [value.detach().cpu().contiguous().numpy().tobytes() for value in model.state_dict().values()]
    return sha256(b"".join(tensors))


def write(path: Path, model: Denoiser, tol: float, points: Sequence[Point], recommended: Point) -> None:
    """Write a frontier as JSON, whole or not at all."""
    content = {
        "model": fingerprint(model),
        "tol": tol,
        "recommended": dataclasses.asdict(recommended),
        "points": [dataclasses.asdict(point) for point in points],
    }
    atomic.write(path, seal(content))


def read(path: Path, model: Denoiser) -> tuple[float, Point, list[Point]] | None:
    """Return tol, recommendation and points of a frontier; None where there is none, or it is of another model.

    Raises CheckpointError where the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        content = unseal(path)
        if content["model"] != fingerprint(model):
            return None
        points = [Point(**point) for point in content["points"]]
        recommended = Point(**content["recommended"])
        if recommended.sampler not in SAMPLERS or not recommended.steps >= 1:
            raise ValueError(f"it recommends {recommended.steps} steps of {recommended.sampler!r}")
        return float(content["tol"]), recommended, points
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} is damaged: {error}; delete it, or make it again with scorefield frontier"
        ) from error
