"""R08: hostile fields. The solver and every sampler give a right answer or a reason, soon, and never a wrong answer."""

import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from unittest.mock import patch

import torch
from torch import Generator, Tensor, nn

from scorefield.diffusion import times
from scorefield.diffusion.denoisers import ScoreModel
from scorefield.diffusion.published import VP
from scorefield.inference import exponential, samplers
from scorefield.inference.likelihood import log_prob
from scorefield.inference.probability_flow import encode
from scorefield.inference.samplers import SAMPLERS
from scorefield.numerics import ode
from scorefield.numerics.ode import dormand_prince
from scorefield.numerics.shapes import Grid, Samples
from scorefield.selftest.cases import F64, f64, learned
from scorefield.selftest.report import Check, Entry, Failures, Plan, Worst

ROWS, BAD = 64, 63
"""A batch and the place of its bad row."""

NAMED = r"(row|sample) \d"
"""How an error names the row that it is about."""


class Own(Exception):
    """What a field of the user's raises."""


def reason(
    solve: Callable[[], Tensor], truth: Tensor | float | None, refused: type[Exception] | None, told: str
) -> str:
    """Return what is wrong with what a solver did, or "": an answer must be within 1e-3 of the truth.

    refused: the error that is expected, or allowed where there is a truth too, with what its message must say.
    """
    try:
        found = solve().detach()
    except Exception as error:  # what else is raised is what is looked for
        if refused is None or not isinstance(error, refused):
            return f"{type(error).__name__}: {error}"
        return "" if re.search(told, str(error)) else f"does not say {told!r}: {error}"
    if truth is None:
        return f"an answer, {found.flatten()[:3].tolist()}"
    far = float((found - truth).abs().max()) if found.numel() else 0.0
    return "" if far <= 1e-3 else f"an answer that is {far:g} from the truth"


# ----------------------------------------------------------------------------------------------- the solver


def solved(
    field: Callable[[Tensor, Tensor], Tensor],
    y: Tensor | None = None,
    start: float = 0.0,
    stop: float = 1.0,
    rtol: float = 1e-6,
    atol: float = 1e-6,
) -> Callable[[], Tensor]:
    """Return a call of the solver, with a field that is the same for every row."""
    y = torch.ones(3, 1, dtype=F64) if y is None else y
    alone = lambda t, y, rows: field(t, y)
    return lambda: dormand_prince(alone, y, start, stop, rtol=rtol, atol=atol, max_steps=3_000).y


def raising(*_: object) -> Tensor:
    """Raise, as a field of the user's may."""
    raise Own


def decay(t: Tensor, y: Tensor) -> Tensor:
    """Return -y."""
    return -y


Case = tuple[Callable[[], Tensor], Tensor | float | None, type[Exception] | None, str]
"""A call, the truth, the error that is expected or allowed, what it must say."""


def solver_cases() -> dict[str, list[Case]]:
    """Return the hostile fields of the solver."""
    down, late = math.exp(-1), lambda t: t[:, None] > 0.5
    wide = torch.ones(2, 3, dtype=F64).T[:, :1]
    one_row = lambda value: lambda t, y, rows: torch.where((rows == BAD)[:, None] & late(t), value, -y)
    batch = torch.linspace(0.5, 2.0, ROWS, dtype=F64)[:, None]
    return {
        "NaN after a while": [(solved(lambda t, y: torch.where(late(t), math.nan, -y)), None, RuntimeError, "row 0")],
        "infinite": [(solved(lambda t, y: torch.full_like(y, math.inf)), None, RuntimeError, "row 0")],
        "blow-up": [
            (solved(lambda t, y: y**2, torch.full((3, 1), 2.0, dtype=F64)), None, RuntimeError, "row 0"),
            (solved(lambda t, y: 1 / (t[:, None] - 0.3) ** 2), None, RuntimeError, "row 0"),
        ],
        "discontinuity": [
            (solved(lambda t, y: torch.where(late(t), -2.0, 1.0).expand(y.shape)), 0.5, None, ""),
            (solved(lambda t, y: torch.where(y < 1.25, 1.0, 0.5)), 1.625, None, ""),
        ],
        "stiff": [(solved(lambda t, y: -1e8 * (y - t.cos()[:, None])), math.cos(1.0), RuntimeError, r"of \[0, 1\]")],
        "zero": [(solved(lambda t, y: 0 * y), 1.0, None, "")],
        "no interval, or backward": [
            (solved(decay, start=0.7, stop=0.7), 1.0, None, ""),
            (solved(decay, start=1.0, stop=0.0), math.exp(1), None, ""),
        ],
        "no tolerance": [
            (solved(decay, rtol=0.0, atol=0.0), None, ValueError, "tolerances"),
            (solved(decay, rtol=math.nan), None, ValueError, "tolerances"),
        ],
        "one bad row in 64": [
            (lambda: dormand_prince(one_row(math.nan), batch, 0.0, 1.0).y, None, RuntimeError, f"row {BAD}"),
        ],
        "not contiguous": [(solved(lambda t, y: -y.T.contiguous().T, wide), down, None, "")],
        "asks for gradients": [(solved(decay, torch.ones(3, 1, dtype=F64, requires_grad=True)), down, None, "")],
        "another shape": [(solved(lambda t, y: y[:, 0]), None, ValueError, r"shape of its state, \(3, 1\)")],
        "raises": [(solved(raising), None, Own, "")],
    }


# --------------------------------------------------------------------------------------------- the samplers


class Gaussian(nn.Module):
    """The network of N(0, 1) data for the prediction 'v', zero, so that each number is alone; with a fault."""

    def __init__(self, fault: Callable[[Tensor, Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.fault = fault

    def forward(self, z: Tensor, log_ratio: Tensor) -> Tensor:
        """Return zeros, or what the fault makes of them."""
        zeros = 0.3 * z.sin()
        return zeros if self.fault is None else self.fault(zeros, log_ratio)


def model_of(fault: Callable[[Tensor, Tensor], Tensor] | None = None) -> ScoreModel:
    """Return the model of such a network in two dimensions."""
    return learned(VP(), "v", 2, net=Gaussian(fault))


def ends(name: str, model: ScoreModel, x: Samples, grid: Grid) -> Tensor:
    """Return where a sampler ends, with normals that are a function of the draw and the row alone."""
    table = torch.randn(400, ROWS, 2, dtype=F64, generator=Generator().manual_seed(5))
    drawn = iter(table)
    with ExitStack() as stack:
        for module in (samplers, exponential):
            stack.enter_context(patch.object(module, "normal_like", lambda x, generator=None: next(drawn)[: len(x)]))
        *_, end = SAMPLERS[name].make(Generator().manual_seed(0))(model, x, grid)
    return end


def sampler_cases(name: str) -> dict[str, list[Case]]:
    """Return the hostile models, times and starts of a sampler."""
    grid = times.grid(VP(), 1 if SAMPLERS[name].adapts else 9)
    x, good = torch.randn(ROWS, 2, dtype=F64, generator=Generator().manual_seed(1)), model_of()
    truth = ends(name, good, x, grid)
    late = lambda log_ratio: (log_ratio < 0)[:, None]
    run = lambda fault, start=x: lambda: ends(name, model_of(fault), start, grid)
    on = lambda grid: lambda: ends(name, good, x, grid)
    bad = x.clone()
    bad[BAD] = math.nan
    asking = x.clone().requires_grad_()
    return {
        "NaN after a while": [(run(lambda v, level: torch.where(late(level), math.nan, v)), None, RuntimeError, NAMED)],
        "infinite": [(run(lambda v, level: torch.full_like(v, math.inf)), None, RuntimeError, NAMED)],
        "no interval, or backward": [
            (on(grid[:1]), None, ValueError, "times that decrease"),
            (on(grid.flip(0)), None, ValueError, "times that decrease"),
        ],
        "duplicate times": [(on(grid[[0, 0, -1]]), None, ValueError, "times that decrease")],
        "one bad row in 64": [(run(None, bad), None, RuntimeError, rf"(row|sample) {BAD}\b")],
        "not contiguous": [(run(lambda v, level: v.T.contiguous().T, x.T.contiguous().T), truth, None, "")],
        "asks for gradients": [(run(None, asking), truth, None, "")],
        "another shape": [
            (run(lambda v, level: v[:, :1]), None, ValueError, "shape"),
            (run(lambda v, level: v[:1]), None, ValueError, "shape"),
        ],
        "raises": [(run(raising), None, Own, "")],
    }


def unaffected(name: str | None) -> str:
    """Return how the 63 other rows of a batch with a hard row differ from those without it, "" for not at all.

    The hard row is stiff for the solver, name None, and lies far out for a sampler.
    """
    if name is None:
        y = torch.linspace(0.5, 2.0, ROWS, dtype=F64)[:, None]
        rate = torch.where(torch.arange(ROWS) == BAD, 1000.0, 1.0).double()
        field = lambda t, y, rows: -rate[rows][:, None] * (y - t.sin()[:, None])
        whole, part = (dormand_prince(field, start, 0.0, 1.0).y for start in (y, y[:BAD]))
    else:
        x = torch.randn(ROWS, 2, dtype=F64, generator=Generator().manual_seed(1))
        x[BAD] = f64(1e6, -1e6)
        grid = times.grid(VP(), 1 if SAMPLERS[name].adapts else 9)
        whole, part = (ends(name, model_of(), start, grid) for start in (x, x[:BAD]))
    return "" if torch.equal(whole[:BAD], part) else f"by {float((whole[:BAD] - part).abs().max()):g}"


def flow_cases() -> dict[str, list[Case]]:
    """Return hostile models of likelihoods and latents."""
    x = torch.randn(5, 2, dtype=F64, generator=Generator().manual_seed(1))
    late = lambda log_ratio: (log_ratio > 0)[:, None]
    kinds: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], type[Exception], str]] = {
        "NaN after a while": (lambda v, level: torch.where(late(level), math.nan, v), RuntimeError, NAMED),
        "infinite": (lambda v, level: torch.full_like(v, math.inf), RuntimeError, NAMED),
        "another shape": (lambda v, level: v[:, :1], ValueError, "shape"),
        "raises": (raising, Own, ""),
    }
    table: dict[str, list[Case]] = {}
    for kind, (fault, error, told) in kinds.items():
        model = model_of(fault)
        likely = lambda model=model: log_prob(model, x, errors=False).value
        latent = lambda model=model: encode(model, x)
        table[kind] = [(likely, None, error, told), (latent, None, error, told)]
    return table


def truthfulness(plan: Plan) -> Iterator[Check]:
    """Give hostile fields to the solver, to every sampler, to likelihoods and latents; each case is timed."""
    failures = Failures("answers that are wrong or not refused as they should be")
    alone = Failures("good rows that a hard row beside them changes")
    slowest = Worst("processor seconds of a case", 5.0)
    tables = {"solver": solver_cases(), "flow": flow_cases()} | {name: sampler_cases(name) for name in SAMPLERS}
    for who, table in tables.items():
        for kind, cases in table.items():
            for case in cases:
                began = time.process_time()
                with torch.no_grad():
                    wrong = reason(*case)
                slowest.add(f"{who}, {kind}", time.process_time() - began)
                failures.add(f"{who}, {kind}", wrong or None)
    yield failures.check()
    for name in (None, *SAMPLERS):
        alone.add(name or "solver", unaffected(name) or None)
    yield alone.check()
    yield slowest.check()
    kinds = {kind for table in tables.values() for kind in table}
    yield Check("kinds of hostile fields missing of 14", float(14 - len(kinds)), 0.0, len(kinds))


def no_error_estimate() -> AbstractContextManager:
    """Plant a solver whose estimate of its error is lost, so that every step is accepted."""
    return patch.object(ode, "ERROR", (0.0,) * 7)


TESTS = {"R08": Entry("solver truthfulness", truthfulness, no_error_estimate, smoke=True)}
