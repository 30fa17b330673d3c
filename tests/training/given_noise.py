"""What the tests of objectives share: noise that is given, and a model of it."""

import torch

from scorefield.training.objectives import losses


def given_noise(monkeypatch, noise: torch.Tensor) -> None:
    """Let the objectives draw this noise."""
    monkeypatch.setattr(losses, "normal_like", lambda x, generator=None: noise)
