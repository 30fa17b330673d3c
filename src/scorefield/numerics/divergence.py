"""Divergences: a choice of directions times a choice of derivative."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from scorefield.numerics.shapes import Field, PerSample, Samples
from scorefield.numerics.tensors import dot


def along(field: Field, x: Samples, v: Samples, step: float | None = None) -> tuple[Samples, PerSample]:
    """Return the field at x and v . D field(x) v, its derivative along v projected on v.

    step None: v . (D field(x)' v), the same number by reverse-mode automatic differentiation, which costs half of
    forward mode. Otherwise central differences,
    (field(x + step v) + field(x - step v)) / 2 and v . (field(x + step v) - field(x - step v)) / (2 step),
    both with an error of order step^2 (Pang et al., 2020).
    Raises ValueError for a step that is not positive, or too small for the type of x: rounding would be a per cent of
    the derivative or more.
    """
    if step is None:
        value, pull = _pullback(field, x)
        return value, dot(v, pull(v[None])[0])
    if not step > 0:
        raise ValueError(f"a finite-difference step must be positive; got {step}")
    eps, size = torch.finfo(x.dtype).eps, max(1.0, float(x.detach().abs().max()) if x.numel() else 1.0)
    if step < 100 * eps * size:
        raise ValueError(
            f"a finite-difference step of {step:g} is lost in the rounding of {str(x.dtype)[6:]} numbers of size "
            f"{size:.3g}; use about {eps ** (1 / 3) * size:.1g}, or float64"
        )
    plus, minus = field(x + step * v), field(x - step * v)
    return (plus + minus) / 2, dot(v, plus - minus) / (2 * step)


def derivatives(field: Field, x: Samples, directions: Tensor, step: float | None = None) -> tuple[Samples, Tensor]:
    """Return the field at x and v . D field v for each direction v.

    Args:
        field: x -> the shape of x.
        x: Points (n, *event).
        directions: (m, n, *event).
        step: As in `along`; with a step the value is the mean of those of the directions.

    Returns:
        The field (n, *event), and one number for each direction and point, (m, n).
    """
    if step is None:
        value, pull = _pullback(field, x)
        return value, (directions * pull(directions)).flatten(2).sum(2)
    pairs = [along(field, x, v, step) for v in directions]
    return torch.stack([value for value, _ in pairs]).mean(0), torch.stack([term for _, term in pairs])


def value_and_divergence(
    field: Field, x: Samples, probes: Tensor | None = None, step: float | None = None, sketch: int = 0
) -> tuple[Samples, Tensor]:
    """Return the field at x and its divergence, exact or one estimate for each probe.

    Exact, it is the sum of v . D field v over all axes v; a random probe's v . D field v is unbiased where E v v' = I
    (Hutchinson, 1989). A sketch of k > 0: the first k probes span a subspace Q, the image of D field' - c on them, c
    about the mean eigenvalue; tr(Q' D Q) is exact, and each other probe v gives (d - k) w . D w / |w|^2 for the rest,
    w = v - Q Q' v. It is Hutch++ (Meyer et al., 2021) around c, with the probes' lengths divided out (Epperly et al.,
    2024), and pays where few eigenvalues differ from the others: few directions narrower than the noise, or few that
    are not.

    Args:
        field: x -> the shape of x.
        x: Points (n, *event).
        probes: Directions (m, n, *event), for example random signs; None for the exact divergence.
        step: Of finite differences, as in `along`; None for automatic differentiation.
        sketch: So many of the probes, normal ones, span Q, at the price of m + k derivatives.

    Returns:
        The field (n, *event), and the divergence: (n,) exact, else (m - sketch, n).

    Raises:
        ValueError: a sketch with a step, or without more probes than it takes.

    Examples:
        >>> import torch
        >>> matrix = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> value_and_divergence(lambda x: x @ matrix.T, torch.ones(1, 2))
        (tensor([[3., 7.]]), tensor([5.]))
    """
    if not sketch:
        value, terms = derivatives(field, x, axes(x) if probes is None else probes, step)
        return value, terms.sum(0) if probes is None else terms
    if step is not None or probes is None or not 0 < sketch < len(probes):
        found = "none" if probes is None else len(probes)
        raise ValueError(f"a sketch of {sketch} needs more probes than that, and no step; got {found} and step {step}")
    return _deflated(field, x, probes[:sketch], probes[sketch:])


def _pullback(field: Field, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return the field at x and what gives D field(x)' v for directions v (m, n, *event).

    Where no gradient is wanted of them, by a graph of their own: that spares torch.func loading PyTorch's compiler,
    1.3 s of a command. Otherwise both can be differentiated, and a vmap may stand around them.
    """
    if torch.is_grad_enabled():
        value, pull = torch.func.vjp(field, x)[:2]
        return value, torch.func.vmap(lambda v: pull(v)[0])
    with torch.enable_grad():
        y = x.detach().requires_grad_()
        value = field(y)
    if not value.requires_grad:  # a constant
        return value, torch.zeros_like
    options = {"retain_graph": True, "is_grads_batched": True, "materialize_grads": True}
    return value.detach(), lambda v: torch.autograd.grad(value, y, v, **options)[0]


def _deflated(field: Field, x: Tensor, sketch: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the field at x and Hutch++'s estimates of its divergence, one for each probe."""
    value, pull = _pullback(field, x)
    product = lambda v: pull(v.reshape(-1, *x.shape)).flatten(2)
    sketch, probes = sketch.flatten(2), probes.flatten(2)  # (k, n, d), (m, n, d)
    image = product(sketch)
    typical = (sketch * image).sum((0, 2)) / sketch.square().sum((0, 2))  # the mean eigenvalue, about
    basis = torch.linalg.qr((image - typical[:, None] * sketch).movedim(0, -1))[0].movedim(-1, 0)
    inside = (basis * product(basis)).sum((0, 2))
    rest = probes - torch.einsum("knd,kne,mne->mnd", basis, basis, probes)
    outside = (rest * product(rest)).sum(2) / rest.square().sum(2)  # the mean of D over the other directions
    return value, inside + (sketch.shape[2] - len(sketch)) * outside


def axes(x: Tensor) -> Tensor:
    """Return the unit vectors of the event space, one after another, each repeated for every row: (d, n, *event)."""
    d = math.prod(x.shape[1:])
    eye = torch.eye(d, dtype=x.dtype, device=x.device).reshape(d, 1, *x.shape[1:])
    return eye.expand(d, *x.shape)
