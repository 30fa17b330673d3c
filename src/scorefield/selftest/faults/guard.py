"""R22: numbers that are not finite reach no checkpoint, no sample and no image."""

import itertools
import math
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import torch
from safetensors import torch as safetensors
from torch import Tensor

from scorefield.data.atomic import write
from scorefield.diffusion.denoisers import Denoiser, ScoreModel
from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.process import RATIO_MIN
from scorefield.kinds.images.problem import ImageProblem
from scorefield.kinds.images.units import PixelTransform
from scorefield.runs import checkpoint, resuming
from scorefield.runs import folder as runs
from scorefield.selftest.faults.forked import copy, run, scorefield, warm, within
from scorefield.selftest.report import Check, Entry, Failures, Plan
from scorefield.training import learner
from scorefield.training.config import Config
from scorefield.training.trainer import Trainer

STEPS, AT = 60, range(20, 23)
"""Steps of a fit, and those at which it meets what is not finite."""

Change = Callable[[Tensor, Tensor, int], Tensor]
"""(loss, rows, step) -> another loss."""


def _now(step: int) -> bool:
    return step in AT


def _later(step: int) -> bool:
    return step >= AT[0]


def _times(factor: float, when: Callable[[int], bool]) -> Change:
    return lambda loss, rows, step: loss * factor if when(step) else loss


def _half(loss: Tensor, rows: Tensor, step: int) -> Tensor:
    return (loss * 1e6).half().float() if _now(step) else loss


def _bad_rows(loss: Tensor, rows: Tensor, step: int) -> Tensor:
    return loss * (1 + 0 * (rows / (0 if _now(step) else 1)).sum(1))


CASES: dict[str, tuple[Change, int, str]] = {
    "rows that are not numbers": (_bad_rows, 0, "3 steps were skipped"),
    "an infinite loss": (_times(math.inf, _later), 1, r"steps 20 to 29 were skipped.* the parameter net\.\S+"),
    "a gradient that explodes": (_times(1e30, _later), 1, r"steps 20 to 29 were skipped.* the parameter net\.\S+"),
    "an overflow of half precision": (_half, 0, "3 steps were skipped"),
    "every second step": (_times(math.nan, lambda step: step % 2 == 0), 0, "30 steps were skipped"),
    "a loss a thousand times as large": (_times(1e3, _now), 0, "done"),
}
"""What happens to the loss of a fit, its exit code, and the words that tell of it."""


def keep_out(plan: Plan) -> Iterator[Check]:
    """Let training and sampling meet numbers that are not finite; see what is told and what is written."""
    warm()
    failures = Failures("numbers that are not finite, in training and in samples")
    with TemporaryDirectory() as folder:
        place = Path(folder)
        for name, (change, code, words) in CASES.items():
            failures.add(name, _fit(place / name, _loss(change), code, words))
            if plan.size == "smoke":
                yield failures.check()
                return
        fast = patch.object(learner, "Trainer", lambda model, steps, rate: Trainer(model, steps, 1e6))
        failures.add("a learning rate of 1e6", _fit(place / "fast", fast, None, ""))
        trained = place / next(iter(CASES))
        failures.add("weights that are not numbers", _load(copy(trained, place / "bad")))
        for what, made, suffix in (("a sample", trained, "csv"), ("a pixel", images(place / "images"), "png")):
            out = place / f"{what}.{suffix}"
            draw = scorefield("sample", made, "-n", 4, "--out", out, "--sampler", "ddim", "--steps", 4, "--quiet")
            ended = run(within(_nan_at_the_end(), draw))
            told = ended.code == 1 and re.search(r"sample 2 is not finite after step", ended.told)
            wrong = None if told else f"exit code {ended.code}, {ended.told[-300:]!r}"
            failures.add(f"{what} that is not a number", wrong or ("it was written" if out.exists() else None))
    yield failures.check()


def _fit(out: Path, cause: AbstractContextManager, code: int | None, words: str) -> str | None:
    """Return what is wrong with a fit that meets a cause, or with what it leaves."""
    ended = run(within(cause, scorefield("fit", "mixture-1d", "--rows", 8, "--out", out, "--steps", STEPS)))
    if ended.code not in ((0, 1) if code is None else (code,)) or not re.search(words, ended.told, re.DOTALL):
        return f"expected exit code {code} and {words!r}; got {ended.code} and {ended.told[-400:]!r}"
    written = sorted((out / "checkpoints").rglob("*.safetensors"))
    for path in written:
        for name, value in safetensors.load(path.read_bytes()).items():
            if not bool(value.isfinite().all()):
                return f"{path.relative_to(out)} holds {name} that is not finite"
    if not written:  # which is right where it ended before the first
        return None if code is None and ended.code == 1 else "no checkpoint was left"
    read = run(scorefield("sample", out, "-n", 5, "--out", out / "samples.csv", "--quiet"))
    if read.code:
        return f"its model gave no samples: {read.told}"
    return None if np.isfinite(np.loadtxt(out / "samples.csv", skiprows=1)).all() else "its samples are not finite"


@contextmanager
def _loss(change: Change) -> Iterator[None]:
    """Change the losses of a fit."""
    original = Config.loss

    def loss(self: Config, model: Denoiser, truth: GaussianMixture | None = None) -> Callable:
        ask, steps = original(self, model, truth), itertools.count(1)
        return lambda x, generator: change(ask(x, generator), x, next(steps))

    with patch.object(Config, "loss", loss):
        yield


def _load(out: Path) -> str | None:
    """Return what is wrong with how a model is read whose weights are not numbers, in files with valid digests."""
    run_ = runs.read(out)
    found = checkpoint.latest(out, run_.digest)
    if found is None:
        return "there is no checkpoint"
    for folder in (out / "checkpoints").iterdir():
        _spoil(folder)
    ended = run(scorefield("sample", out, "-n", 5, "--out", out / "new.csv", "--quiet"))
    if ended.code != 2 or "not finite, in" not in ended.told or (out / "new.csv").exists():
        return f"expected exit code 2 and the name of the weights; got {ended.code} and {ended.told!r}"
    return None


def _spoil(folder: Path) -> None:
    """Write not-a-number into the weights of a checkpoint, and the digests that belong to them."""
    weights = safetensors.load((folder / "model.safetensors").read_bytes())
    name = next(name for name in weights if name.startswith("net."))
    weights[name].view(-1)[0] = math.nan
    content = safetensors.save(weights)
    write(folder / "model.safetensors", content)
    manifest = checkpoint._manifest(folder)
    manifest["files"]["model.safetensors"] = checkpoint.sha256(content)
    write(folder / "manifest.json", checkpoint.seal(manifest))


@contextmanager
def _nan_at_the_end() -> Iterator[None]:
    """Let a model answer one number of the third row that is none, at the last time only."""
    original = ScoreModel.decompose

    def decompose(self: ScoreModel, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        clean, noise = original(self, x, t)
        if float(self.process.ratio(t).max()) < 1.01 * RATIO_MIN and len(x) > 2:
            clean[2, 0] = math.nan
        return clean, noise

    with patch.object(ScoreModel, "decompose", decompose):
        yield


def images(folder: Path) -> Path:
    """Make a run of images of 4 by 4 pixels, with a small network that has learned nothing."""
    draw = np.random.Generator(np.random.PCG64(0))
    pixels = draw.integers(0, 256, (40, 1, 4, 4), dtype=np.uint8)
    transform = PixelTransform.fit(pixels, "HW")
    rows = torch.from_numpy(pixels).reshape(40, -1)
    config = Config(steps=1, network="unet", width=8, depth=1, shape=transform.shape)
    prepared = ImageProblem(rows, rows[:4], transform).prepare(config)
    made = runs.create(folder, {"data": "x"}, {"digest": "d", "frequencies": []}, config, transform.content([]))
    resuming.save_final(made, prepared.model.eval(), 0.05)
    return folder


def unguarded() -> AbstractContextManager:
    """Take every step, whatever its loss and gradient."""
    return patch.object(Trainer, "_not_finite", lambda self, value: "")


TESTS = {"R22": Entry("numbers that are not finite", keep_out, unguarded, smoke=True)}
