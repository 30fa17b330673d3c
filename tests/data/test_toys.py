"""Built-in data: rows follow the stated density, densities are exact, global seeds do not matter."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from sklearn import datasets

from scorefield.data import toys
from scorefield.data.toys import TOYS, BlurredSquares, Density, load

# name: (half the side of a square around the origin, distance of the points of a grid in it): the density is
# below 1e-9 outside, and the distance is so small for the width of the noise that the sum is the integral.
GRIDS = {
    "swissroll": (2.0, 0.1),
    "moons": (5.1, 0.2),
    "circles": (4.8, 0.24),
    "checkerboard": (4.0, 0.25),
    "8gaussians": (5.25, 0.25),
    "rings": (3.6, 0.09),
    "2spirals": (4.0, 0.14),
    "mixture-2d": (6.5, 0.25),
}
LINES = {"mixture-1d": (3.0, 0.05), "mixture-1d-wide": (10.0, 0.25)}

# Entropies in nats: checkerboard is exact; the others were measured on samples, with this standard error.
ENTROPIES = {
    "checkerboard": (math.log(32), 1e-12),
    "8gaussians": (2.8310, 6e-4),
    "rings": (2.6237, 4e-4),
    "moons": (2.392, 3e-3),
}
N = 3000


@pytest.fixture(scope="module", params=[*GRIDS, *LINES])
def case(request):
    """A name, its grid, log p there, the mass of each cell of the grid; N rows, and log p there."""
    name = request.param
    half, step = {**GRIDS, **LINES}[name]
    line = torch.arange(-half + step / 2, half, step, dtype=torch.float64)
    grid = line[:, None] if name in LINES else torch.cartesian_prod(line, line)
    rows = torch.tensor(load(name, N, seed=1).to_numpy())
    log_prob = TOYS[name].density.log_prob
    on_grid = log_prob(grid)
    return name, grid, on_grid, on_grid.exp() * step ** grid.shape[1], rows, log_prob(rows)


@pytest.mark.slow
def test_the_density_integrates_to_one(case):
    _, _, _, mass, _, _ = case
    assert float(mass.sum()) == pytest.approx(1, abs=1e-6)


def test_the_rows_have_the_entropy_of_the_density(case):
    """E log p within 5 standard errors: 12 tests, false-alarm rate 6e-7 each."""
    name, _, on_grid, mass, _, on_rows = case
    entropy = -float((mass * on_grid.nan_to_num(neginf=0)).sum())
    error = float(on_rows.std()) / math.sqrt(N)
    assert abs(float(on_rows.mean()) + entropy) < 5 * error + 1e-9
    if name in ENTROPIES:
        known, known_error = ENTROPIES[name]
        assert abs(entropy - known) < 5 * known_error


def test_the_rows_have_the_moments_of_the_density(case):
    """Means, squares and products within 5 standard errors: at most 5 numbers for each set, 6e-7 each."""
    _, grid, _, mass, rows, _ = case
    products = lambda x: torch.cat([x, x**2, x.prod(1, keepdim=True)], dim=1)
    exact = mass @ products(grid)
    error = products(rows).std(0) / math.sqrt(N)
    assert bool(((products(rows).mean(0) - exact).abs() < 5 * error).all())


@pytest.mark.parametrize(
    ("name", "make"),
    {
        "moons": lambda: 2 * datasets.make_moons(N, noise=0.1, random_state=0)[0],
        "circles": lambda: 3 * datasets.make_circles(N, noise=0.08, factor=0.5, random_state=0)[0],
        "swissroll": lambda: datasets.make_swiss_roll(N, noise=1.0, random_state=0)[0][:, [0, 2]] / 10,
    }.items(),
)
def test_the_density_is_that_of_scikit_learn(name, make):
    """Mean log p of its rows and of ours agree within 5 standard errors, and so do the first two moments."""
    ours, theirs = torch.tensor(load(name, N, seed=2).to_numpy()), torch.tensor(make())
    numbers = lambda x: torch.cat([TOYS[name].density.log_prob(x)[:, None], x, x**2], dim=1)
    a, b = numbers(ours), numbers(theirs)
    error = ((a.var(0) + b.var(0)) / N).sqrt()
    assert bool(((a.mean(0) - b.mean(0)).abs() < 5 * error).all())


@pytest.mark.parametrize(
    ("name", "build"),
    {
        "moons": toys._moons,
        "swissroll": toys._swissroll,
        "2spirals": toys._spirals_2,
        "circles": lambda: toys._circles((3.0, 1.5), 0.24),
        "rings": lambda: toys._circles((3.0, 2.25, 1.5, 0.75), 0.08),
    }.items(),
)
def test_more_nodes_change_nothing(name, build, monkeypatch):
    nodes, rows = toys._nodes, torch.tensor(load(name, 100, seed=3).to_numpy())
    places = torch.cat([rows, rows + 0.35, rows - 0.35])
    before = TOYS[name].density.log_prob(places)
    monkeypatch.setattr(toys, "_nodes", lambda panels: nodes(2 * panels))
    monkeypatch.setattr(toys, "CENTRES", 2 * toys.CENTRES)
    after = build().density.log_prob(places)
    assert float(((after - before) / before.abs().clamp(min=1)).abs().max()) < 1e-12
    assert not torch.equal(after, before)


def along(curve, length, noise, x):
    """The density at x of a point curve(t), t uniform in [0, length], plus Gaussian noise, by quadrature."""
    squares = lambda t: sum((a - b) ** 2 for a, b in zip(x, curve(t), strict=True)) / noise**2
    value = lambda t: math.exp(-squares(t) / 2) / (2 * math.pi * noise**2 * length)
    return integrate.quad(value, 0, length, epsabs=0, epsrel=1e-11, limit=400)[0]


def test_the_curves_are_as_defined():
    """Against an integral along each curve, written down once more."""
    turn = 2 * math.pi
    ring = lambda radius: lambda t: (radius * math.cos(t), radius * math.sin(t))
    roll = lambda t: (t * math.cos(t) / 10, t * math.sin(t) / 10)
    upper = lambda t: (2 * math.cos(t), 2 * math.sin(t))
    lower = lambda t: (2 - 2 * math.cos(t), 1 - 2 * math.sin(t))
    definitions = {
        "swissroll": lambda x: along(lambda t: roll(t + turn * 0.75), turn * 1.5, 0.1, x),
        "moons": lambda x: sum(along(half, math.pi, 0.2, x) for half in (upper, lower)) / 2,
        "circles": lambda x: sum(along(ring(r), turn, 0.24, x) for r in (3, 1.5)) / 2,
        "rings": lambda x: sum(along(ring(r), turn, 0.08, x) for r in (3, 2.25, 1.5, 0.75)) / 4,
    }
    for name, density in definitions.items():
        rows = load(name, 3, seed=4).to_numpy()
        expected = [math.log(density(x)) for x in rows]
        assert TOYS[name].density.log_prob(torch.tensor(rows)).tolist() == pytest.approx(expected, rel=1e-9)


def test_the_spirals_are_as_defined():
    """Against a sum over the three uniform numbers of the definition, on a fine grid."""
    u, v = (np.arange(4000) + 0.5) / 4000, (np.arange(30) + 0.5) / 30
    t = 3 * math.pi * np.sqrt(u)
    rows = load("2spirals", 5, seed=4).to_numpy()
    for x, log_p in zip(rows, TOYS["2spirals"].density.log_prob(torch.tensor(rows)), strict=True):
        p = 0
        for sign in (1, -1):
            first = stats.norm.pdf(x[0], sign * (-t * np.cos(t) + v[:, None] / 2) / 3, 0.1).mean(0)
            second = stats.norm.pdf(x[1], sign * (t * np.sin(t) + v[:, None] / 2) / 3, 0.1).mean(0)
            p += (first * second).mean() / 2
        assert math.log(p) == pytest.approx(float(log_p), abs=1e-3)


@pytest.mark.parametrize(
    ("name", "weights", "means", "stds"),
    [
        ("mixture-1d", [0.5, 0.5], [[-1], [1]], [0.2, 0.2]),
        ("mixture-1d-wide", [0.1, 0.9], [[-3], [3]], [1, 1]),
        ("mixture-2d", [0.5, 0.5], [[0, 0], [3, 2]], [1, 0.5]),
        (
            "8gaussians",
            [1 / 8] * 8,
            [[4 / 1.414 * f(k * math.pi / 4) for f in (math.cos, math.sin)] for k in range(8)],
            [0.5 / 1.414] * 8,
        ),
    ],
)
def test_the_mixtures_are_as_defined(name, weights, means, stds):
    x = load(name, 50, seed=5).to_numpy()
    parts = [stats.norm.pdf(x, m, s).prod(1) for m, s in zip(means, stds, strict=True)]
    expected = torch.tensor(np.log(np.array(weights) @ np.array(parts)))
    torch.testing.assert_close(TOYS[name].density.log_prob(torch.tensor(x)), expected, rtol=1e-12, atol=1e-12)


def test_the_checkerboard_is_empty_on_the_other_colour():
    """The corner (0, 0) has a full square above and to the right of it, as in the definition of the set."""
    inside = torch.tensor([[0.1, 0.1], [-0.1, -0.1], [2.1, 2.1], [-4.0, -4.0], [3.9, 3.9]]).double()
    outside = torch.tensor([[0.1, -0.1], [-0.1, 0.1], [2.1, 0.1], [4.1, 4.1], [-4.1, -4.1]]).double()
    log_prob = TOYS["checkerboard"].density.log_prob
    assert log_prob(inside).tolist() == [-math.log(32)] * 5
    assert log_prob(outside).tolist() == [-math.inf] * 5
    assert bool((log_prob(torch.tensor(load("checkerboard", N, seed=1).to_numpy())) == -math.log(32)).all())


def test_squares_under_noise_are_exact_far_out():
    """One unit square: next to it against scipy, and 100 standard deviations away, on all sides the same."""
    weights, corner = torch.ones(1, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)
    square = BlurredSquares(weights, corner, side=1.0, noise=0.1)
    near, far = [[0.2, 0.7], [1.1, -0.15]], [[11.0, 0.5], [-10.0, 0.5], [0.5, 11.0], [0.5, -10.0]]
    x = torch.tensor(near + far, dtype=torch.float64)
    side = lambda z: stats.norm.cdf(z / 0.1) - stats.norm.cdf((z - 1) / 0.1)
    log_p = square.log_prob(x)
    assert log_p[:2].exp().tolist() == pytest.approx([side(a) * side(b) for a, b in near], rel=1e-9)
    assert log_p[2:].tolist() == pytest.approx([stats.norm.logcdf(-100) + math.log(side(0.5))] * 4, rel=1e-12)


def test_the_pinwheel_has_five_equal_arms():
    """Squared radius and the moments E z^k of z = x1 + i x2 against the definition, 5 standard errors each.

    E z^k = 0 for k = 1 to 4; E z^5 = 32 E (r + i h)^5 exp(5i exp(r) / 4) by Gauss-Hermite quadrature.
    """
    x = load("pinwheel", 20_000, seed=6).to_numpy()
    z = x[:, 0] + 1j * x[:, 1]
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    r, h = 1 + 0.3 * nodes[:, None], 0.1 * nodes
    mass = weights[:, None] * weights / weights.sum() ** 2
    bent = 2 * (r + 1j * h) * np.exp(0.25j * np.exp(r))
    for k in range(1, 6):
        exact = (mass * bent**5).sum() if k == 5 else 0
        for part in (np.real, np.imag):
            values = part(z**k)
            assert abs(values.mean() - part(exact)) < 5 * values.std() / math.sqrt(len(z))
    squares = abs(z) ** 2
    assert abs(squares.mean() - 4 * (1 + 0.3**2 + 0.1**2)) < 5 * squares.std() / math.sqrt(len(z))


def test_the_digits_are_all_of_them():
    known = datasets.load_digits().data.astype(int)
    frame = load("digits-table")
    assert frame.shape == (1797, 64)
    assert (frame.dtypes == np.int64).all()
    assert [*frame.columns[:2], frame.columns[8], frame.columns[-1]] == [
        "pixel_0_0",
        "pixel_0_1",
        "pixel_1_0",
        "pixel_7_7",
    ]
    assert sorted(map(tuple, frame.to_numpy())) == sorted(map(tuple, known))
    assert not np.array_equal(frame.to_numpy(), known)
    assert load("digits-table", 10).equals(frame.iloc[:10])
    with pytest.raises(ValueError, match=r"at most 1,797 rows.*got 1,798"):
        load("digits-table", 1798)


@pytest.mark.parametrize("name", TOYS)
def test_the_same_seed_gives_the_same_bytes_whatever_the_global_seed(name):
    states = lambda: (torch.get_rng_state().numpy().tobytes(), repr(np.random.get_state()))
    before = states()
    first = load(name, 50, seed=1)
    if TOYS[name].density is not None:
        TOYS[name].density.log_prob(torch.tensor(first.to_numpy()))
    assert states() == before
    with torch.random.fork_rng():
        torch.manual_seed(7)
        assert first.to_numpy().tobytes() == load(name, 50, seed=1).to_numpy().tobytes()
    assert not first.equals(load(name, 50, seed=2))
    assert list(first.columns) == list(TOYS[name].columns)
    assert first.shape == (50, len(TOYS[name].columns))


def test_what_is_known_of_each_set():
    names = "swissroll moons circles checkerboard 8gaussians rings pinwheel 2spirals digits-table "
    names += "mixture-1d mixture-1d-wide mixture-2d"
    assert list(TOYS) == names.split()
    for name, toy in TOYS.items():
        assert (toy.density is None) == (name in {"pinwheel", "digits-table"})
        assert toy.density is None or isinstance(toy.density, Density)
        assert len(load(name)) == toy.rows
        assert name == "digits-table" or load(name, 3).dtypes.eq(np.float64).all()


def test_a_bad_wish_is_refused():
    with pytest.raises(ValueError, match=r"swissroll, moons, .*; got 'spiral'"):
        load("spiral", 10)
    for n in (0, -1):
        with pytest.raises(ValueError, match=f"moons: expected at least one row.*got {n}"):
            load("moons", n)
