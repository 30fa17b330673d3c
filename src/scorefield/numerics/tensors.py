"""The one place that matches a time to samples, reduces over an event and draws random numbers."""

import hashlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Generator, Tensor, nn

from scorefield.numerics.shapes import PerSample, Samples

Layer = TypeVar("Layer", bound=nn.Module)


def unfilled(kind: Callable[..., Layer], *sizes: int, **options: object) -> Layer:
    """Return a layer of some kind whose weights are yet to be filled; the global generator stays as it is.

    `torch.nn.utils.skip_init` makes tensors without content first, for which PyTorch loads sympy, 0.4 s of a command.
    """
    with torch.random.fork_rng([]):
        return kind(*sizes, **options)


def match(coefficient: Tensor, x: Tensor) -> Tensor:
    """Return a coefficient in the type and on the device of x, shaped so that it multiplies x row by row.

    Shape () stays (), shape (n,) becomes (n, 1, ..., 1). Raises ValueError for any other shape.
    """
    coefficient = coefficient.to(x)
    if coefficient.ndim == 0:
        return coefficient
    if coefficient.shape != x.shape[:1]:
        raise ValueError(
            f"expected one time for the batch or one per sample, shape () or ({len(x)},); "
            f"got {tuple(coefficient.shape)} for samples of shape {tuple(x.shape)}"
        )
    return coefficient.reshape(-1, *[1] * (x.ndim - 1))


def dot(x: Samples, y: Samples) -> PerSample:
    """Return the inner product of each row of x with the same row of y."""
    return (x * y).flatten(1).sum(1)


def power(x: Tensor, exponent: float) -> Tensor:
    """Return x^exponent for x > 0 as exp(exponent log x).

    `**` has other last bits in the remainder of a vector loop, so a row's would depend on how many rows there are.
    """
    return (exponent * x.log()).exp()


def shares(logits: Tensor) -> Tensor:
    """Return the softmax of logits (n, k) over k, where shares below the square of the type's rounding are 0.

    They would add nothing to a mean, but some are too small for a full mantissa, and a processor takes up to ten times
    as long for a product with such numbers.
    """
    found = logits.softmax(1)
    return found.masked_fill(found <= torch.finfo(found.dtype).eps ** 2, 0)  # NaN stays


def in_blocks(function: Callable[..., tuple[Tensor, ...]], *rows: Tensor, size: int) -> tuple[Tensor, ...]:
    """Return what a function makes of tensors of n rows each, called with `size` of them at a time.

    The last block is filled up with its last row. A matrix product takes another way, with other last bits, for another
    number of rows, so only blocks of one shape keep a row's bits the same whatever rows stand beside it.
    """
    n = len(rows[0])
    blocks = zip(*(_filled(part, size) for part in rows), strict=True)
    return tuple(torch.cat(parts)[:n] for parts in zip(*(function(*block) for block in blocks), strict=True))


def _filled(rows: Tensor, size: int) -> list[Tensor]:
    blocks = list(rows.split(size))
    if missing := -len(rows) % size:
        blocks[-1] = torch.cat([blocks[-1], blocks[-1][-1:].expand(missing, *rows.shape[1:])])
    return blocks


def normal(shape: Sequence[int], like: Tensor, generator: Generator | None = None) -> Tensor:
    """Draw standard normals in the type and on the device of `like`.

    They are drawn in float64 on the generator's device (the CPU without one) and converted, so the noise is
    the same for every type and device.
    """
    device = generator.device if generator is not None else "cpu"
    draw = torch.randn(*shape, generator=generator, dtype=torch.float64, device=device)
    return draw.to(like)


def normal_like(x: Tensor, generator: Generator | None = None) -> Tensor:
    """Draw standard normals of the shape, type and device of x."""
    return normal(x.shape, x, generator)


def signs_like(x: Tensor, generator: Generator | None = None) -> Tensor:
    """Draw independent random signs, +1 or -1 (Rademacher), of the shape, type and device of x."""
    device = generator.device if generator is not None else "cpu"
    return (2 * torch.randint(2, x.shape, generator=generator, device=device) - 1).to(x)


def uniform(n: int, generator: Generator | None = None) -> Tensor:
    """Draw n independent uniform numbers in [0, 1), float64, on the generator's device."""
    device = generator.device if generator is not None else "cpu"
    return torch.rand(n, generator=generator, dtype=torch.float64, device=device)


def integer(generator: Generator | None = None) -> int:
    """Draw one integer in [0, 2^63), for example as the seed of other generators."""
    device = generator.device if generator is not None else "cpu"
    return int(torch.randint(2**63 - 1, (), generator=generator, device=device))


def spawn(seed: int, *path: int | str) -> Generator:
    """Return the CPU generator that belongs to a seed and a path of names or numbers below it.

    Different paths give unrelated streams; the same path always gives the same one.
    """
    digest = hashlib.sha256(repr((seed, *path)).encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
