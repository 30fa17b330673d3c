"""The names of the shapes: a batch of samples, times for it, one number for each of its rows."""

from collections.abc import Callable, Iterator

from jaxtyping import Float
from torch import Tensor

Samples = Float[Tensor, "n *event"]
"""A batch of n samples of any event shape: (n, d) for points, (n, c, h, w) for images."""

Rows = Float[Tensor, "rows *event"]
"""Other samples of the same events, in a number of their own."""

Times = Float[Tensor, ""] | Float[Tensor, "n"]
"""One time for a whole batch, shape (), or one for each sample, shape (n,)."""

PerSample = Float[Tensor, "n"]
"""One number for each sample."""

Grid = Float[Tensor, "steps"]
"""Times in the order in which a sampler visits them."""

Field = Callable[[Tensor], Tensor]
"""A vector field: x -> a tensor of the shape of x."""

Path = Iterator[Tensor]
"""The states that a sampler visits, one after another."""
