"""Tables read in blocks: the blocks show nowhere, rows are drawn evenly, text means the same to both readers."""

from collections import Counter

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.stats
from streamed import save

from scorefield.data import digest, point_blocks, read_points, read_table, sources, write_blocks
from scorefield.data.tables import reading
from scorefield.data.tables.text import Text

GROUPS = [1, 7, 512, 2**18]
"""Numbers in a block, from a row a block to all rows in one."""


KINDS = ["csv", "tsv", "parquet", "groups.parquet", "npy", "columns.npy", "npz", "compressed.npz", "columns.npz"]


def numbers(n, d=3):
    draw = np.random.default_rng(1)
    values = draw.normal(size=(n, d)) * 10.0 ** draw.integers(-20, 20, (n, d))
    return pd.DataFrame(values, columns=[f"x{i + 1}" for i in range(d)])


def same(frame, other):
    """Equal names, types and bits."""
    assert list(frame.columns) == list(other.columns)
    assert frame.dtypes.tolist() == other.dtypes.tolist()
    for name in frame:
        assert frame[name].to_numpy().tobytes() == other[name].to_numpy().tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_change_neither_table_nor_digest(kind, tmp_path, monkeypatch):
    frame = numbers(53)
    path = save(frame, tmp_path, kind)
    for group in GROUPS:
        monkeypatch.setattr(sources, "GROUP", group)
        table = read_table(path)
        same(table.frame, frame)
        assert table.digest == digest(frame)
        assert not [note for note in table.notes if "drawn" in note]


MIXED = {
    "integers, then floats": ["1", "9007199254740993", "-3", "2.5", "7"],
    "floats, then integers": ["0.1", "-9223372036854775808", "9223372036854775807"],
    "a zero with a sign among integers": ["-0", "1", "2"],
    "a zero with a sign, then floats": ["-0", "1", "0.5", "-0", "-0.0"],
    "a spelling that only Python knows": ["1", "2.5", " +3 ", "-0", "1e5", "1e-400"],
    "booleans": ["True", "false", "TRUE"],
}


@pytest.mark.parametrize("case", MIXED)
def test_blocks_do_not_change_what_a_column_of_text_is(case, tmp_path, monkeypatch):
    """Integers up to a row and floats from there on are floats, to the bit, wherever the blocks end."""
    (tmp_path / "a.csv").write_text("\n".join(["x", *MIXED[case]]) + "\n")
    whole = read_table(tmp_path / "a.csv")
    assert whole.digest == digest(whole.frame)
    for group in GROUPS:
        monkeypatch.setattr(sources, "GROUP", group)
        table = read_table(tmp_path / "a.csv")
        same(table.frame, whole.frame)
        assert table.digest == whole.digest


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_number_in_the_last_row_is_reported_with_its_row(kind, group, tmp_path, monkeypatch):
    frame = numbers(53)
    path = save(frame, tmp_path, kind)
    if kind in {"csv", "tsv"}:
        path.write_text(path.read_text().rpartition("\n")[0].rpartition(".")[0] + ".5e999\n")
        place = "line 54, column 'x3': expected a finite number"
    else:
        frame.iloc[52, 2] = np.nan
        path, place = save(frame, tmp_path, kind), "row 53, column 'x3': expected a number"
    monkeypatch.setattr(sources, "GROUP", group)
    for read in (read_table, lambda path: point_blocks(path, ["x1", "x2", "x3"], 10)):
        with pytest.raises(ValueError, match=place):
            read(path)


def test_a_null_in_the_last_block_is_reported_with_its_row(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "GROUP", 8)
    pq.write_table(pa.table({"x": [1] * 30 + [None, 2]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="row 31, column 'x': expected a number; got null"):
        read_table(tmp_path / "a.parquet")


@pytest.mark.parametrize("kind", KINDS)
def test_drawn_rows_depend_on_the_table_and_the_seed_only(kind, tmp_path, monkeypatch):
    frame = numbers(53)
    path = save(frame, tmp_path, kind)
    monkeypatch.setattr(reading, "LIMIT", 3 * 20 + 2)
    places = reading._drawn([[np.arange(53)]], 20, 4)[0]
    assert len(set(places.tolist())) == 20
    expected = frame.iloc[places].reset_index(drop=True)
    for group in GROUPS:
        monkeypatch.setattr(sources, "GROUP", group)
        table = read_table(path, seed=4)
        same(table.frame, expected)
        same(read_points(path, ["x1", "x2", "x3"], seed=4).frame, expected)
        assert table.digest == digest(frame)
        note = table.notes[-1]
        assert all(part in note for part in [str(path), "53 rows", "20 of them, drawn at random", "62 numbers"])
    assert not read_table(path, seed=5).frame.equals(expected)


def test_a_drawn_column_that_becomes_one_of_floats_late_is_exact(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "GROUP", 2)
    monkeypatch.setattr(reading, "LIMIT", 5)
    values = [*range(1, 50), 0.5]
    (tmp_path / "a.csv").write_text("\n".join(["x", *map(str, values)]))
    found = read_table(tmp_path / "a.csv").frame["x"].to_numpy()
    expected = reading._drawn([[np.array(values)]], 5, 0)[0]
    assert found.dtype == float
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("sizes", [[7], [1] * 7, [3, 4], [2, 5]])
def test_every_set_of_rows_is_drawn_equally_often(sizes):
    """Chi-square over the 35 sets of 3 rows out of 7, false-alarm rate 1e-6."""
    draws, ends = 3500, np.cumsum(sizes)
    blocks = [[np.arange(end - size, end)] for size, end in zip(sizes, ends, strict=True)]
    found = Counter(frozenset(reading._drawn(blocks, 3, seed)[0].tolist()) for seed in range(draws))
    counts = np.array([*found.values(), *[0] * (35 - len(found))])
    assert all(len(chosen) == 3 for chosen in found)
    assert ((counts - draws / 35) ** 2 / (draws / 35)).sum() < scipy.stats.chi2.ppf(1 - 1e-6, 34)


def cell(draw):
    """A number as programs and people write it, now and then something else."""
    value = draw.normal() * 10.0 ** draw.integers(-320, 160)
    whole = int(draw.integers(-(2**63), 2**63))
    forms = [repr(float(value)), f"{value:.3e}", f"{value:.17G}", str(whole), str(whole // 10**15), "-0", "-0.0", "007"]
    odd = ["", "+1", ".5", "5.", "1e5", "1E400", "1e-400", "nan", " 1", "1,2", '"1"', "2024-01-31", "1_0", str(2**63)]
    return str(draw.choice(odd) if draw.random() < 0.05 else draw.choice(forms))


def outcome(path):
    try:
        table = read_table(path)
    except ValueError as error:
        return str(error)
    return table.digest, [table.frame[name].to_numpy().tobytes() for name in table.frame]


@pytest.mark.slow
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_arrow_and_python_read_the_same_from_text(end, tmp_path, monkeypatch):
    """300 files of numbers in many spellings: the same bits, or the same error."""
    draw, read = np.random.default_rng(3), 0
    path = tmp_path / "a.csv"
    for i in range(300):
        monkeypatch.setattr(sources, "GROUP", int(draw.integers(1, 40)))
        rows = [",".join(cell(draw) for _ in range(2)) for _ in range(draw.integers(1, 12))]
        rows = [*(["x,y"] if i % 2 else []), *rows, *([""] if i % 3 else [])]
        path.write_bytes(end.join(rows).encode())
        found = outcome(path)
        with monkeypatch.context() as slow:
            slow.setattr(Text, "_plain", lambda self, lines: None)
            assert outcome(path) == found
        read += isinstance(found, tuple)
    assert 50 < read < 250


def test_plain_text_is_read_by_arrow_alone(tmp_path, monkeypatch):
    frame = numbers(1000).assign(n=range(1000))
    write_blocks(tmp_path / "a.csv", [frame], force=False)
    monkeypatch.setattr(sources, "GROUP", 512)
    monkeypatch.setattr(Text, "_parse_numbers", lambda *_: pytest.fail("Python parsed a cell"))
    same(read_table(tmp_path / "a.csv").frame, frame)


@pytest.mark.parametrize("kind", ["csv", "parquet", "columns.npz"])
def test_points_come_in_blocks_of_the_size_asked_for(kind, tmp_path, monkeypatch):
    frame = numbers(53)
    path = save(frame, tmp_path, kind)
    names = ["x1", "x2", "x3"]
    for group in GROUPS:
        monkeypatch.setattr(sources, "GROUP", group)
        for size in (1, 10, 53, 100):
            blocks = list(point_blocks(path, names, size))
            assert [len(block) for block in blocks] == [size] * (53 // size) + [53 % size] * (53 % size > 0)
            same(pd.concat(blocks), frame)
