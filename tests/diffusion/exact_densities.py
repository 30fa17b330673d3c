"""What the tests of densities share."""

import numpy as np
import torch

from scorefield.diffusion.densities import GaussianMixture


def expanded(density: GaussianMixture) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, means and one covariance for each component, as NumPy arrays."""
    k, d = density.means.shape
    return density.weights.numpy(), density.means.numpy(), density.covariances.expand(k, d, d).numpy()


def row_error(answer: torch.Tensor, truth: torch.Tensor) -> float:
    """The largest error as a part of the largest entry of its row (of 1 at least): what rotations leave."""
    return float(((answer - truth).abs().amax(1) / truth.abs().amax(1).clamp(min=1)).max())
