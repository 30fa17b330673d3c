"""Pictures of two columns: points, densities, arrows, contours."""

import numpy as np
import pandas as pd
import pytest
from drawn import axes, draws, functions, mixture, normal, one
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.contour import QuadContourSet
from matplotlib.quiver import Quiver

from scorefield import reports as plots

# Two columns


def test_scatter_draws_the_first_rows_to_scale_and_says_how_many_there_are():
    names = ["x (m)", "y (m)"]
    data = pd.DataFrame(normal(500, 2) * [1, 2], columns=names)
    points = pd.DataFrame(normal(6_000, 2, seed=1), columns=names)
    picture = plots.scatter(axes(), points, data, "Samples", plots.SAMPLES)
    np.testing.assert_array_equal(one(PathCollection, picture).get_offsets(), points[:5_000])
    title = picture.get_title(loc="left")
    assert "Samples (6,000 rows)" in title
    assert "the first 5,000 rows" in title
    assert [picture.get_xlabel(), picture.get_ylabel()] == names
    same = plots.scatter(axes(), data, data)
    assert (picture.get_xlim(), picture.get_ylim()) == (same.get_xlim(), same.get_ylim())
    picture.figure.draw_without_rendering()
    corner, right, above = picture.transData.transform([(0, 0), (1, 0), (0, 1)])
    assert right[0] - corner[0] == pytest.approx(above[1] - corner[1])


def test_axes_of_different_units_make_a_square():
    data = normal(500, 2) * [1, 1e4]
    picture = plots.scatter(axes(), data, data)
    picture.figure.draw_without_rendering()
    assert picture.get_window_extent().width == pytest.approx(picture.get_window_extent().height)


def test_integers_are_spread_within_their_cell_and_that_is_told():
    data = np.random.default_rng(0).integers(0, 2, (400, 2))
    picture = plots.scatter(axes(), data, data)
    drawn = one(PathCollection, picture).get_offsets()
    np.testing.assert_array_equal(drawn.round(), data)
    assert 0.25 < np.abs(drawn - data).max() <= 0.3
    assert "spread by up to 0.3" in picture.get_title(loc="left")


def test_density_map_is_the_density_on_its_grid(generator):
    density = mixture(1.0, 1.0)
    picture = plots.density_map(axes(), draws(density, 500, generator, ["a", "b"]), functions(density)[0])
    image = one(QuadMesh, picture)
    points = image.get_coordinates().reshape(-1, 2)
    np.testing.assert_allclose(np.ravel(image.get_array()), np.exp(functions(density)[0](points)))
    (low, high), (bottom, top) = picture.get_xlim(), picture.get_ylim()
    np.testing.assert_allclose([points.min(0), points.max(0)], [(low, bottom), (high, top)])
    assert (picture.get_xlabel(), picture.get_ylabel()) == ("a", "b")


@pytest.mark.parametrize("scales", [(1.0, 1.0), (1e-3, 2e-3), (1.0, 500.0)])
def test_arrows_point_straight_uphill_on_the_page(generator, scales):
    density = mixture(*scales)
    log_density, score = functions(density)
    picture = plots.score_field(axes(), draws(density, 500, generator, ["a", "b"]), log_density, score)
    picture.figure.draw_without_rendering()
    quiver = one(Quiver, picture)
    points, arrows = np.stack([quiver.X, quiver.Y], -1), np.stack([quiver.U, quiver.V], -1)
    # The gradient per pixel, by central differences in pixels.
    pixels, back = picture.transData.transform(points), picture.transData.inverted()
    steps = 1e-4 * np.eye(2)
    rise = [log_density(back.transform(pixels + h)) - log_density(back.transform(pixels - h)) for h in steps]
    uphill = np.stack(rise, -1)
    cosine = (arrows * uphill).sum(1) / np.linalg.norm(arrows, axis=1) / np.linalg.norm(uphill, axis=1)
    np.testing.assert_allclose(cosine, 1, atol=1e-6)
    true = np.linalg.norm(uphill, axis=1) / 2e-4
    unit = np.asarray(quiver.get_array()) / true  # colours: the true length, in other units
    np.testing.assert_allclose(unit, unit[0], rtol=1e-5)
    ratio = true / np.quantile(true, 0.25)
    np.testing.assert_allclose(np.linalg.norm(arrows, axis=1), ratio / (1 + ratio), rtol=1e-5)
    # An arrow of length 1 would fill a cell, and arrows are in the middle of their cells.
    left, right = picture.get_xlim()
    cell = (right - left) / quiver.scale
    assert quiver.scale_units == "width"
    np.testing.assert_allclose(np.unique(quiver.X), left + cell * (np.arange(quiver.scale) + 0.5))
    if scales[1] < 4 * scales[0]:
        np.testing.assert_allclose(quiver.get_array(), np.linalg.norm(score(points), axis=1))


def test_contours_lie_where_the_log_density_is_so_many_nats_below_its_top():
    data = normal(2_000, 2)
    height = lambda points: 5 - 4 * (points**2).sum(1)
    picture = plots.score_field(axes(), data, height, lambda points: -8 * points)
    contours = one(QuadContourSet, picture)
    grid = np.linspace(*picture.get_xlim(), 100), np.linspace(*picture.get_ylim(), 100)
    top = height(np.stack(np.meshgrid(*grid), -1).reshape(-1, 2)).max()
    np.testing.assert_allclose(contours.levels[:6], top - np.array([32, 16, 8, 4, 2, 1]))
    vertices = np.concatenate([path.vertices for path in contours.get_paths() if len(path.vertices)])
    low, high = np.array([picture.get_xlim(), picture.get_ylim()]).T
    within = vertices[((vertices > low + 1e-6) & (vertices < high - 1e-6)).all(1)]
    away = np.abs(height(within)[:, None] - contours.levels).min(1)
    assert away.max() < 0.05


def test_a_gap_where_a_function_is_not_finite():
    data = normal(300, 2)
    half = lambda points: np.where(points[:, 0] > 0, -(points**2).sum(1), -np.inf)
    slope = lambda points: np.where(points[:, :1] > 0, -2 * points, np.nan)
    image = one(QuadMesh, plots.density_map(axes(), data, half))
    hidden = np.ma.getmaskarray(np.ma.masked_invalid(image.get_array()))
    np.testing.assert_array_equal(hidden, image.get_coordinates()[..., 0] <= 0)
    picture = plots.score_field(axes(), data, half, slope)
    picture.figure.draw_without_rendering()
    quiver = one(Quiver, picture)
    np.testing.assert_array_equal(quiver.Umask, quiver.X <= 0)


def test_a_flat_density_has_no_arrows():
    picture = plots.score_field(axes(), normal(100, 2), lambda x: np.zeros(len(x)), np.zeros_like)
    assert not one(Quiver, picture).U.any()
