"""How a sampler walks: from time to earlier time, one state after another."""

import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from scorefield.diffusion.denoisers import Denoiser
from scorefield.numerics.shapes import Grid, Path, Samples

Step = Callable[[Denoiser, Samples, Tensor, Tensor], Samples]
"""(model, x, t, u) -> x at u, for 0-dimensional times u < t."""

Sampler = Callable[[Denoiser, Samples, Grid], Path]
"""(model, x, times) -> the states at times[1:], for decreasing times; x is the state at times[0]."""


def pairs(times: Grid) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield each two neighbouring times, made as they are asked for.

    Iterating over the tensor would make all of them first: 64 MB for 100,000 steps.
    """
    return ((times[k], times[k + 1]) for k in range(len(times) - 1))


def walk(step: Step) -> Sampler:
    """Make a sampler from a step: apply it between each two neighbouring times, the last of which may be 0.

    Steps that ask the model at 0 as well need one that knows what to answer without noise.

    Args:
        step: (model, x, t, u) -> x at u.

    Raises:
        ValueError, RuntimeError: when the sampler walks, as in `checked`.

    Examples:
        >>> import torch
        >>> from scorefield import VP, ExactDenoiser, GaussianMixture, ddim, times
        >>> model = ExactDenoiser(GaussianMixture.gaussian(torch.ones(1), torch.eye(1)), VP())
        >>> path = list(walk(ddim())(model, torch.zeros(2, 1), times.grid(VP(), 10)))
        >>> len(path), path[-1].shape
        (10, torch.Size([2, 1]))
    """

    def path(model: Denoiser, x: Samples, times: Grid) -> Path:
        for t, u in pairs(times):
            yield (x := step(model, x, t, u))

    return checked(path, to_zero=True)


def then(predictor: Step, *correctors: Step) -> Step:
    """Make the step of a predictor from t to u, followed by correctors at u (Song et al., 2021, algorithm 1).

    Args:
        predictor: The step from t to u.
        *correctors: Steps that leave x at u.
    """

    def step(model: Denoiser, x: Samples, t: Tensor, u: Tensor) -> Samples:
        x = predictor(model, x, t, u)
        for corrector in correctors:
            x = corrector(model, x, t, u)
        return x

    return step


def checked(path: Sampler, to_zero: bool = False) -> Sampler:
    """Make a sampler that keeps no gradients and raises errors where it cannot go on.

    Args:
        path: The sampler.
        to_zero: Whether it can go to time 0, where s/a has no logarithm.

    Raises:
        ValueError: when it walks, unless there are at least two times, finite, decreasing and inside the process.
        RuntimeError: when it walks, naming the step, the time and the row, where a state is not finite.
    """

    @functools.wraps(path)
    def sampler(model: Denoiser, x: Samples, times: Grid) -> Path:
        if times.ndim != 1 or len(times) < 2 or not bool((times.diff() < 0).all()):
            raise ValueError(f"expected at least two sampling times that decrease; got {times.tolist()}")
        first, last = float(times[0]), float(times[-1])
        if not (last > 0 or (last == 0 and to_zero)) or first > model.process.t_max * (1 + 1e-12):
            raise ValueError(
                f"expected sampling times {'from' if to_zero else 'above'} 0 up to {model.process.t_max:g}, the range "
                f"of {model.process}; got {first:g} to {last:g}"
            )
        states, k = path(model, x, times), 0
        while True:
            with torch.no_grad():
                state = next(states, None)
            if state is None:
                return
            k += 1
            require_finite(state, k, times[k])
            yield state

    return sampler


def require_finite(x: Tensor, k: int, u: Tensor) -> None:
    """Raise RuntimeError, naming the row, where states at time u, after step k, are not finite."""
    finite = x.isfinite().flatten(1).all(1)
    if not bool(finite.all()):
        row = int((~finite).nonzero()[0])
        raise RuntimeError(
            f"the state of sample {row} is not finite after step {k}, at t={float(u):g}: the model's answer there "
            "is not a number; train it further, or use more or smaller steps"
        )
