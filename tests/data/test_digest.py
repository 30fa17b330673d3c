"""The digest of a table and its division into parts."""

import numpy as np
import pandas as pd
import pytest
from table_files import FORMATS, table

from scorefield.data import digest, read_table, split, write_blocks
from scorefield.selftest.inputs.makers import npy

pytestmark = pytest.mark.usefixtures("small_groups")


def test_the_digest_is_of_the_table_and_not_of_its_file(tmp_path):
    frame = table(100)[["x"]]
    wide = frame.rename(columns={"x": "x1"})
    digests = {digest(wide)}
    for suffix in FORMATS:
        write_blocks(tmp_path / f"a{suffix}", [wide], force=False)
        digests.add(digest(read_table(tmp_path / f"a{suffix}").frame))
    (tmp_path / "a.npy").write_bytes(npy(wide.to_numpy().astype(">f8")))
    digests.add(digest(read_table(tmp_path / "a.npy").frame))
    digests.add(digest(pd.DataFrame({"x1": wide["x1"].to_numpy().astype(">f8")})))
    assert len(digests) == 1


def test_the_digest_sees_every_change():
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    changed = [
        frame,
        frame[["b", "a"]],
        frame.rename(columns={"a": "c"}),
        frame.iloc[::-1],
        frame.iloc[:1],
        frame.astype("f4"),
        frame.astype("i8"),
        frame.assign(b=[3.0, np.nextafter(4, 5)]),
        frame[["a"]],
        frame.rename(columns={"a": "b", "b": "a"}),
    ]
    assert len({digest(other) for other in changed}) == len(changed)
    assert digest(frame) == "e551fa077a3ff7aa9cfb5f45958c84819368870dc81266a0315d00b12b8c761f"


def test_the_digest_refuses_what_has_no_bytes():
    for bad in (pd.DataFrame({"a": ["x"]}), pd.DataFrame({"a": [1, None]}, dtype="Int64")):
        with pytest.raises(ValueError, match="column 'a': expected booleans, integers or floats"):
            digest(bad)


@pytest.mark.parametrize(
    ("n", "sizes"),
    [
        (0, (0, 0, 0)),
        (1, (1, 0, 0)),
        (9, (9, 0, 0)),
        (10, (9, 1, 0)),
        (19, (18, 1, 0)),
        (199, (180, 19, 0)),
        (200, (180, 20, 0)),
        (999, (900, 99, 0)),
        (1000, (800, 100, 100)),
        (1797, (1439, 179, 179)),
        (250_000, (205_000, 25_000, 20_000)),
    ],
)
def test_every_row_is_in_one_part(n, sizes):
    parts = split(n, seed=3)
    assert tuple(map(len, parts)) == sizes
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(n))


def test_the_split_is_random_and_repeats():
    """The means of the parts are within 5 standard errors, a false-alarm rate of 6e-7 for each of them."""
    n = 10_000
    first, again, other = split(n, 1), split(n, 1), split(n, 2)
    for part, same, different in zip(first, again, other, strict=True):
        assert np.array_equal(part, same)
        assert not np.array_equal(part, different)
        error = n / np.sqrt(12 * len(part)) * np.sqrt(1 - len(part) / n)
        assert abs(part.mean() - (n - 1) / 2) < 5 * error


def test_reading_and_splitting_leave_global_randomness_alone(tmp_path):
    before = np.random.get_state()[1].tobytes()
    write_blocks(tmp_path / "a.npz", [table(10)[["x"]]], force=False)
    read_table(tmp_path / "a.npz")
    split(100, 0)
    assert np.random.get_state()[1].tobytes() == before
