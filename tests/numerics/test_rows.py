"""That the bits of a row do not depend on how many rows stand beside it: of each form that this rests on, by name.

Where a form fails on some processor, the others tell whether it is the only one. Left out because they do fail on some:
`**` with other exponents than 2, hypot, atan2, sigmoid, silu, softplus, sinh, and products of whole batches.
"""

from collections.abc import Callable

import pytest
import torch
from cases import DENSITIES, F64
from torch import Generator, Tensor

from scorefield.diffusion import densities
from scorefield.diffusion.by_name import PROCESSES
from scorefield.diffusion.densities import ROWS, GaussianMixture, posterior_of_rows
from scorefield.numerics.tensors import in_blocks, power, shares

N, COUNTS = 1001, (1, 2, 3, 4, 5, 7, 8, 15, 17, 31, 33, 63, 100, 129, 255, 257, 1000)

in_both_types = pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)


def normals(*shape: int, dtype: torch.dtype = F64, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=F64).to(dtype)


def require_own_bits(function: Callable[..., Tensor], *rows: Tensor) -> None:
    """Compare the first k rows, and k rows from the third on, asked alone, with the same rows among all."""
    whole = function(*rows)
    for k in COUNTS:
        for first in (0, 3):
            alone = function(*(part[first : first + k] for part in rows))
            assert torch.equal(alone, whole[first : first + k]), (k, first)


ELEMENTWISE = {
    "power -1/5": lambda x: power(x.abs(), -0.2),
    "power -2/3": lambda x: power(x.abs(), -2 / 3),
    "square": lambda x: x**2,
    "square root": lambda x: x.abs().sqrt(),
    "root of squares": lambda x: (x**2 + 1.3**2).sqrt(),
    "quotient": lambda x: x / (1 + x.abs()),
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": lambda x: x.abs().log(),
    "log1p": lambda x: x.abs().log1p(),
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "atan": torch.atan,
    "asinh": torch.asinh,
    "inverse normal": lambda x: torch.special.ndtri(x.abs() / (1 + x.abs())),
    "clamp": lambda x: x.clamp(-0.5, 0.5),
}

OVER_A_ROW = {
    "sum": lambda x: x.sum(1),
    "mean": lambda x: x.mean(1),
    "largest": lambda x: x.amax(1),
    "softmax": lambda x: x.softmax(1),
    "logsumexp": lambda x: x.logsumexp(1),
}


@in_both_types
@pytest.mark.parametrize("columns", [1, 2, 5])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_functions_of_a_number(name, columns, dtype):
    require_own_bits(ELEMENTWISE[name], normals(N, columns, dtype=dtype))
    require_own_bits(ELEMENTWISE[name], normals(N, dtype=dtype))


@in_both_types
@pytest.mark.parametrize("columns", [1, 2, 7, 64, 300])
@pytest.mark.parametrize("name", OVER_A_ROW)
def test_functions_of_a_row(name, columns, dtype):
    require_own_bits(OVER_A_ROW[name], normals(N, columns, dtype=dtype))


@in_both_types
@pytest.mark.parametrize("inner", [1, 2, 8, 64, 3000])
@pytest.mark.parametrize("columns", [1, 2, 7, 300])
def test_products_in_blocks(inner, columns, dtype):
    """With a matrix in either order of its numbers."""
    x, matrix = normals(N, inner, dtype=dtype), normals(inner, columns, dtype=dtype, seed=1)
    for order in (matrix, matrix.mT.contiguous().mT):
        require_own_bits(lambda x, order=order: in_blocks(lambda part: (part @ order,), x, size=ROWS)[0], x)


MIXTURES = {
    "full": DENSITIES["mixture-2d"],
    "full, 3-d": DENSITIES["mixture-3d"],
    "shared": GaussianMixture(
        torch.ones(5, dtype=F64), normals(5, 2), torch.tensor([[[2.0, 0.3], [0.3, 0.5]]], dtype=F64)
    ),
    "isotropic": GaussianMixture.isotropic(torch.ones(50, dtype=F64), normals(50, 2), 0.3),
}


@pytest.mark.slow
@in_both_types
@pytest.mark.parametrize("name", MIXTURES)
def test_densities(name, dtype, monkeypatch):
    """Every answer of a mixture at a noise level of each row, also where blocks are small."""
    d = MIXTURES[name].dim
    x, a, s = (
        2 * normals(N, d, dtype=dtype),
        power(normals(N, dtype=dtype).abs(), 0.5),
        normals(N, dtype=dtype, seed=2).abs(),
    )
    density = MIXTURES[name].like(x)
    for numbers in (densities.BLOCK, 3 * density.means.numel()):
        monkeypatch.setattr(densities, "BLOCK", numbers)
        monkeypatch.setattr(densities, "CACHED", min(numbers, densities.CACHED))
        require_own_bits(lambda x, a, s: torch.cat(density.posterior(x, a, s), 1), x, a, s)
        require_own_bits(lambda x, a, s: density.noise_and_divergence(x, a, s)[0], x, a, s)
        require_own_bits(lambda x, a, s: density.noise_and_divergence(x, a, s)[1], x, a, s)
        require_own_bits(density.log_prob, x, a, s)
        require_own_bits(density.score, x)


@in_both_types
def test_the_posterior_of_many_rows_of_few_columns(dtype):
    x, rows, s = (
        normals(N, 2, dtype=dtype),
        normals(3000, 2, dtype=dtype, seed=1),
        normals(N, 1, seed=2).abs().to(dtype),
    )
    require_own_bits(lambda x, s: torch.cat(posterior_of_rows(x, rows, torch.ones_like(s), s), 1), x, s)


@pytest.mark.parametrize("name", PROCESSES)
def test_processes(name):
    """Coefficients of many times, and the times of many ratios."""
    process = PROCESSES[name]()
    t = process.t_max * torch.rand(N, generator=Generator().manual_seed(0), dtype=F64)
    for coefficient in ("mean_coef", "std", "ratio", "drift", "diffusion", "mean_rate", "std_rate"):
        require_own_bits(getattr(process, coefficient), t)
    require_own_bits(process.time, process.ratio(t))


@pytest.mark.parametrize("size", [1, 3, 10, 11, 256])
@pytest.mark.parametrize("n", [0, 1, 10, 11, 29])
def test_blocks_have_one_shape_and_give_every_row_once(n, size):
    x, shapes = torch.arange(3.0 * n).reshape(n, 3), []

    def function(part: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        shapes.append((part.shape, number.shape))
        return part + number[:, None], number

    both, number = in_blocks(function, x, x[:, 0], size=size)
    assert torch.equal(both, x + x[:, :1])
    assert torch.equal(number, x[:, 0])
    assert n == 0 or set(shapes) == {((size, 3), (size,))}


@in_both_types
def test_shares_are_the_softmax_without_what_is_too_small_to_add_anything(dtype):
    """Logits down to where the softmax is 0 by itself; with their own bits, and none below the square of rounding."""
    logits, least = 300 * normals(N, 40, dtype=dtype), torch.finfo(dtype).eps ** 2
    found, exact = shares(logits), logits.softmax(1)
    assert torch.equal(found[exact > least], exact[exact > least])
    assert bool(((exact > 0) & (exact <= least)).any())
    assert not found[exact <= least].any()
    require_own_bits(shares, logits)
    assert shares(logits.where(logits < 500, torch.nan))[logits.amax(1) >= 500].isnan().all(), "never a silent NaN"


def test_the_power_is_that_of_its_name():
    x = torch.logspace(-10, 10, 101, dtype=F64)
    for exponent in (-0.2, -2 / 3, 1 / 6, 3.0):
        assert float((power(x, exponent) / x**exponent - 1).abs().max()) < 64 * torch.finfo(F64).eps
