"""The tutorial on score fields: what its pictures show."""

import math

import numpy as np
import pytest
import torch
from cases import F64

from scorefield.gallery.drawing import planes
from scorefield.gallery.score_fields import tutorial


def test_the_panels_show_what_their_titles_say():
    """State i is after i updates: without a score its variance is 0.02 i; 5 standard errors, below 3e-6 in all."""
    path = tutorial.follow(torch.zeros_like, 501, 0)
    for step in (*tutorial.SHOWN, 100, 200, 500):
        square = float((path[step] - path[0]).square().mean())
        assert square == pytest.approx(0.02 * step, rel=5 * math.sqrt(2 / path[0].numel()), abs=1e-15)
    assert len(path) == 502
    assert tutorial.SHOWN == (0, 1, 101, 201, 301, 401)


def test_colours_go_by_angle():
    x = torch.tensor([[1.0, 0.0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]], dtype=F64)
    np.testing.assert_allclose(planes.angle_colours(x), 0.9 * np.eye(3), atol=1e-6)


def test_arrows_are_the_score_at_their_points():
    _, (axes,) = planes.panels()
    score = lambda x: torch.stack([x[:, 0], 2 * x[:, 0] - x[:, 1]], 1)
    planes.draw_arrows(axes, score, planes.mesh(1.0, 3)[1], 10.0)
    quiver = axes.collections[0]
    np.testing.assert_allclose(quiver.U, quiver.X)
    np.testing.assert_allclose(quiver.V, 2 * quiver.X - quiver.Y)
    assert quiver.scale == 10.0


def test_streams_images_and_points_have_x_across_and_y_up():
    """A score along y only draws upright lines, a density that grows with x is darkest on the right."""
    _, (left, middle, right) = planes.panels(3)
    planes.draw_streams(left, lambda x: torch.stack([0 * x[:, 0], 1 + 0 * x[:, 1]], 1), 1.0)
    lines = np.concatenate(left.collections[0].get_segments())
    assert np.ptp(lines[:, 1]) > 1
    assert max(np.ptp(line[:, 0]) for line in left.collections[0].get_segments()) < 1e-9
    _, rows = planes.mesh(1.0)
    planes.draw_density(middle, (3 * rows[:, 0] + rows[:, 1]).numpy(), 1.0)
    image = middle.images[0].get_array()
    assert np.unravel_index(image.argmax(), image.shape) == (planes.MESH - 1, planes.MESH - 1)
    assert image[0, -1] > image[-1, 0]
    planes.draw_points(right, torch.tensor([[0.3, -0.7]], dtype=F64))
    np.testing.assert_allclose(right.collections[0].get_offsets(), [[0.3, -0.7]])


def test_contours_lie_where_the_density_has_their_level():
    _, (axes,) = planes.panels()
    density = lambda x: 1 + x[:, 0] + 0.1 * x[:, 1]
    planes.draw_contours(axes, density, 1.0, 5)
    contours = axes.collections[0]
    for level, segments in zip(contours.levels, contours.allsegs, strict=True):
        for segment in segments:
            np.testing.assert_allclose(density(torch.from_numpy(segment)), level, atol=1e-9)
