"""What the tests of pictures share: axes, laws and rows to draw."""

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from scorefield.diffusion.densities import GaussianMixture


def one(kind, axes):
    """The one artist of a kind in an Axes."""
    (artist,) = [child for child in axes.get_children() if isinstance(child, kind)]
    return artist


def axes():
    return Figure(figsize=(5, 5)).subplots()


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def functions(density):
    """The log-density and the score of an exact density as functions of arrays."""
    return (
        lambda points: density.log_prob(torch.tensor(points)).numpy(),
        lambda points: density.score(torch.tensor(points)).numpy(),
    )


def mixture(*scales):
    """A mixture of two Gaussians in units given by scales."""
    means = torch.tensor([[-1.0, 0.5], [1.5, -0.5]], dtype=torch.float64)[:, : len(scales)]
    covariance = torch.tensor([[0.5, 0.2], [0.2, 0.3]], dtype=torch.float64)[: len(scales), : len(scales)]
    units = torch.tensor(scales, dtype=torch.float64)
    spread = (covariance * units * units[:, None])[None].expand(2, -1, -1)
    return GaussianMixture(torch.tensor([1.0, 2.0], dtype=torch.float64), means * units, spread)


def draws(density, n, generator, names):
    return pd.DataFrame(density.sample(n, generator).numpy(), columns=names)
