"""The null laws of the tests: p-values are uniform, or larger, whatever the data; and each equals SciPy's or brute force.

A limit on a count of p-values is the binomial one with the false-alarm rate 1e-6. Seeds are fixed besides.
"""

import numpy as np
import pytest
import torch
from cases import F64, f64
from scipy import stats
from torch import Generator, Tensor

from scorefield.data import toys
from scorefield.diffusion.densities import GaussianMixture
from scorefield.evaluation.two_sample import column_tests, copying_test, find_modes, joint_test, mode_tests, ranks

RATE = 1e-6


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def normal(n: int, d: int, generator: Generator) -> Tensor:
    return torch.randn(n, d, generator=generator, dtype=F64)


LAWS = {
    "normal": lambda x: x,
    "rounded": lambda x: x.round(),
    "heavy tails": lambda x: x.exp() ** 3,
    "two values": lambda x: (x > 0.5).double(),
    "mostly zero": lambda x: x.clamp(min=0.5),
}
each_law = pytest.mark.parametrize("law", LAWS)


def assert_null(p_values, exact: bool) -> None:
    """No more p-values than a null law has are at or below any level and, if it is continuous, they are uniform."""
    p = np.asarray(p_values)
    for level in (0.5, 0.1, 0.01, 0.001):
        assert (p <= level).sum() <= stats.binom.isf(RATE, len(p), level)
    if exact:
        assert stats.kstest(p, "uniform").pvalue > RATE


@pytest.mark.slow
@each_law
@pytest.mark.parametrize(("n", "m"), [(10, 40), (200, 50)])
def test_column_tests_have_their_null_law_with_any_ties(law, n, m, generator):
    draw = lambda rows: LAWS[law](normal(rows, 1, generator)[:, 0])
    found = [column_tests(draw(n), draw(m), generator) for _ in range(500)]
    for name in found[0]:
        assert_null([one[name] for one in found], exact=m == 50 and name == "shift")


@pytest.mark.slow
@each_law
def test_the_copying_test_has_its_null_law(law, generator):
    train = LAWS[law](normal(300, 2, generator))
    if law == "two values":
        train = torch.cat([train, train + 0.5])
    draw = lambda rows: LAWS[law](normal(rows, 2, generator))
    assert_null([copying_test(draw(80), draw(40), train, generator)[0] for _ in range(200)], exact=True)


@pytest.mark.slow
@each_law
def test_the_joint_test_has_its_null_law(law, generator):
    draw = lambda rows: LAWS[law](normal(rows, 3, generator))
    assert_null([joint_test(draw(50), draw(40), draw(60), generator)[0] for _ in range(600)], exact=True)


@pytest.mark.slow
def test_the_mode_tests_have_their_null_law(generator):
    draw = lambda rows: torch.multinomial(f64(0.6, 0.3, 0.1), rows, replacement=True, generator=generator)
    found = [mode_tests(draw(100), draw(40), 3) for _ in range(500)]
    for k in range(3):
        assert_null([one[k] for one in found], exact=False)


def test_column_tests_are_scipys_without_ties(generator):
    x, y = normal(60, 1, generator)[:, 0], 0.3 + 1.2 * normal(80, 1, generator)[:, 0]
    found = column_tests(x, y, generator)
    assert found["shift"] == stats.mannwhitneyu(x, y).pvalue
    assert found["spread"] == stats.ansari(x, y).pvalue
    assert found["shape"] == stats.ks_2samp(x, y).pvalue


def test_ranks_are_a_permutation_and_equal_values_are_dealt_at_random(generator):
    x, y = f64(1, 1, 2, 1), f64(1, 3)
    dealt = torch.stack([torch.cat(ranks(x, y, generator)) for _ in range(4_000)])
    assert (dealt.sort(1).values == torch.arange(1.0, 7.0)).all()
    assert (dealt[:, [2, 5]] == f64(5, 6)).all()
    means = dealt[:, [0, 1, 3, 4]].mean(0)
    assert (means - 2.5).abs().max() < 5.1 * np.sqrt(1.25 / 4_000)  # 1e-6 for four normal means


@pytest.mark.parametrize("change", [lambda x: x.exp(), lambda x: 1e6 * x - 3, lambda x: x**3])
def test_column_tests_do_not_change_with_a_rising_map(change, generator):
    x, y = normal(60, 1, generator)[:, 0], 0.3 + normal(80, 1, generator)[:, 0]
    assert column_tests(x, y, seeded()) == column_tests(change(x), change(y), seeded())


def test_mode_tests_are_fishers():
    x, y = torch.tensor([0] * 7 + [1] * 3), torch.tensor([0] * 4 + [1] * 11)
    table = [[7, 3], [4, 11]]
    exact = stats.hypergeom(25, 11, 10)
    expected = sum(exact.pmf(k) for k in range(11) if exact.pmf(k) <= exact.pmf(7) * (1 + 1e-7))
    assert mode_tests(x, y, 2) == pytest.approx([expected, expected])
    assert stats.fisher_exact(table).pvalue == pytest.approx(expected)


@pytest.mark.parametrize(("shares", "d"), [(0.3, 1), (0.3, 5), (1.0, 2)])
def test_the_share_of_copies_is_found(shares, d, generator):
    train, held_out, samples = normal(2_000, d, generator), normal(1_000, d, generator), normal(2_000, d, generator)
    copies = int(shares * 2_000)
    samples[:copies] = train[:copies]
    p_value, found = copying_test(samples, held_out, train, generator)
    assert p_value < 1e-20
    assert abs(found - shares) < 0.11  # 4.9 standard errors 2 sqrt((1 / 1,000 + 1 / 2,000) / 12) at most


@pytest.mark.parametrize("fault", ["narrower", "shifted", "one half"])
def test_other_faults_are_not_taken_for_copies(fault, generator):
    train, held_out, samples = (normal(n, 2, generator) for n in (4_000, 2_000, 4_000))
    change = {"narrower": lambda x: 0.8 * x, "shifted": lambda x: x + 0.5, "one half": lambda x: x[x[:, 0] > 0]}
    assert copying_test(change[fault](samples), held_out, train, generator)[0] > 1e-4


MODES = {"8gaussians": 8, "mixture-1d": 2, "moons": 2, "rings": 1}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODES)
def test_modes_that_are_well_separated_are_found(name):
    for seed in range(3):
        x = torch.tensor(toys.load(name, 3_000, seed).to_numpy())
        x = (x - x.mean(0)) / x.std(0)
        label, count = find_modes(x, seeded(seed))
        assert count == MODES[name]
        assert label(x[:10]).shape == (10,)
        assert set(label(x).tolist()) == set(range(count))


@pytest.mark.parametrize("change", [lambda x: x, lambda x: x.sigmoid(), lambda x: x.relu(), lambda x: x**3])
def test_one_mode_is_one_though_it_is_not_normal(change, generator):
    assert find_modes(change(normal(2_000, 2, generator)), generator)[1] == 1


def test_the_joint_test_sees_what_no_column_shows(generator):
    pair = GaussianMixture.gaussian(torch.zeros(2, dtype=F64), f64([1.0, 0.6], [0.6, 1.0]))
    samples, held_out, reference = (
        normal(4_000, 2, generator),
        pair.sample(1_000, generator),
        pair.sample(1_000, generator),
    )
    assert min(min(column_tests(samples[:, j], held_out[:, j], generator).values()) for j in range(2)) > 1e-4
    assert joint_test(samples, held_out, reference, generator)[0] < 1e-6


@pytest.mark.slow
def test_the_generator_alone_decides():
    rows = [normal(n, 2, seeded(n)).round() for n in (100, 60, 80)]
    kept, state = [part.clone() for part in rows], np.random.get_state()[1].copy()
    for test in (copying_test, joint_test):
        assert test(*rows, seeded(1)) == test(*rows, seeded(1))
        assert test(*rows, seeded(1)) != test(*rows, seeded(2))
    assert find_modes(rows[0], seeded())[0](rows[1]).tolist() == find_modes(rows[0], seeded())[0](rows[1]).tolist()
    assert all(torch.equal(a, b) for a, b in zip(kept, rows, strict=True))
    assert np.array_equal(np.random.get_state()[1], state)
