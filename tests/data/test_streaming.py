"""Files larger than memory: how rows are cut into blocks shows nowhere, drawn rows are uniform, memory does not grow."""

import signal
import subprocess
import sys
from collections import Counter

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.stats

from scorefield.cli import entry as cli
from scorefield.data import digest, point_blocks, read_points, read_table, sources, write_blocks
from scorefield.data.tables import reading
from scorefield.data.tables.text import Text

GROUPS = [1, 7, 512, 2**18]
"""Numbers in a block, from a row a block to all rows in one."""

KINDS = ["csv", "tsv", "parquet", "groups.parquet", "npy", "columns.npy", "npz", "compressed.npz", "columns.npz"]


def save(frame, folder, kind):
    """Write a table whose columns are x1, x2, ... in one of the ways that a file can hold it."""
    path, array = folder / f"table.{kind}", frame.to_numpy()
    if kind.endswith("parquet"):
        size = 5 if kind == "groups.parquet" else len(frame)
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path, row_group_size=size)
    elif kind in {"columns.npy", "npy"}:
        np.save(path, np.asfortranarray(array) if kind == "columns.npy" else array)
    elif kind.endswith("npz"):
        kept = np.asfortranarray(array) if kind == "columns.npz" else array
        (np.savez_compressed if kind == "compressed.npz" else np.savez)(path, X=kept)
    else:
        write_blocks(path, [frame], force=True)
    return path


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


@pytest.fixture
def command(monkeypatch, capsys):
    """Run a command in this process; it must succeed; return what it says."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["scorefield", *map(str, arguments)])
        monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr()
        assert stop.value.code == 0, printed.err
        return printed.out + printed.err

    return run


def states(run):
    return {path.parent.name: path.read_bytes() for path in run.glob("checkpoints/*/state.safetensors")}


def test_a_table_over_the_limit_is_fitted_resumed_and_evaluated(command, tmp_path, monkeypatch):
    """The same rows are drawn again by every command, from every kind of file, with blocks of every size."""
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(3000, 1)), columns=["x1"])
    monkeypatch.setattr(reading, "LIMIT", 2500)  # so many rows that one network learns
    runs = {}
    for kind, group in (("npy", 100), ("csv", 2**18)):
        path, run = save(frame, tmp_path, kind), tmp_path / f"run-{kind}"
        monkeypatch.setattr(sources, "GROUP", group)
        fit = ("fit", path, "--out", run, "--steps", 6)
        said = command(*fit)
        assert f"{path} has 3,000 rows; 2,500 of them, drawn at random, are used" in said
        assert "2,000 to train, 250 to validate, 250 to test" in said
        runs[kind] = states(run)
        for file in (run / "checkpoints" / "6").iterdir():
            file.unlink()
        assert "from step 5 of 6" in command(*fit)
        assert states(run) == runs[kind]
        command("score", run, path, "-o", tmp_path / f"{kind}-score.csv")
    assert set(runs["npy"]) == {"5", "6"}
    assert runs["npy"] == runs["csv"]
    assert (tmp_path / "npy-score.csv").read_bytes() == (tmp_path / "csv-score.csv").read_bytes()
    assert len(pd.read_csv(tmp_path / "npy-score.csv")) == 3000
    assert '"notes": []' in command("evaluate", run, "--json"), "the training rows were found again"
    monkeypatch.setattr(reading, "LIMIT", 200)
    assert "200 of them" in command("evaluate", run, "--against", save(frame, tmp_path, "parquet"))


def test_what_a_killed_writer_left_goes_with_the_next_write_of_that_path(tmp_path):
    code = """
import sys, time, pandas
from scorefield.data import write_blocks
def blocks():
    yield pandas.DataFrame({"x": [1.0]})
    print("writing", flush=True)
    time.sleep(60)
write_blocks(sys.argv[1], blocks(), force=False)
"""
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path / "a.csv"], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"writing\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (left,) = tmp_path.iterdir()
    frame = pd.DataFrame({"x": [2.0]})
    write_blocks(tmp_path / "b.csv", [frame], force=False)
    assert left.exists()

    def meanwhile():
        yield frame
        (own,) = [path for path in tmp_path.glob(".scorefield-*") if path != left]
        write_blocks(tmp_path / "a.csv", [frame + 1], force=False)
        assert own.exists(), "a living writer keeps its file"

    write_blocks(tmp_path / "b.csv", meanwhile(), force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "b.csv"]


def test_two_writers_of_one_path_do_not_disturb_each_other(tmp_path):
    path, frame = tmp_path / "a.csv", pd.DataFrame({"x": [2.0]})

    def meanwhile():
        yield frame
        write_blocks(path, [frame + 1], force=False)
        yield frame

    assert write_blocks(path, meanwhile(), force=False) == 2
    assert path.read_text() == "x\n2.0\n2.0\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


MEASURE = """
import re, sys
from pathlib import Path
from scorefield.data import point_blocks, read_table, tables
reading.LIMIT = 2**20
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1000
read_table(sys.argv[2]), list(point_blocks(sys.argv[2], ["x1"], 1024))
before = peak()
frame = read_table(sys.argv[1]).frame
rows = sum(len(block) for block in point_blocks(sys.argv[1], [f"x{i + 1}" for i in range(10)], 1024))
print(len(frame), rows, peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["npy", "columns.npy", "parquet", "one.parquet", "csv"])
def test_memory_does_not_grow_with_the_file(kind, tmp_path):
    """A file of 200 to 400 MB raises the peak by less than 80 MB, ten times what the rows that are kept take."""
    rows = 1_000_000 if kind == "csv" else 5_000_000
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(rows, 10))).rename(columns=lambda i: f"x{i + 1}")
    path, small = tmp_path / f"a.{kind}", tmp_path / f"b.{kind}"
    for table, place in ((frame, path), (frame[["x1"]][:10], small)):
        if kind == "one.parquet":
            pq.write_table(pa.Table.from_pandas(table, preserve_index=False), place, row_group_size=len(table))
        elif kind == "columns.npy":
            np.save(place, np.asfortranarray(table))
        else:
            write_blocks(place, [table], force=False)
    assert path.stat().st_size > 180e6
    done = subprocess.run([sys.executable, "-c", MEASURE, path, small], capture_output=True, text=True, check=True)
    kept, seen, growth = done.stdout.split()
    assert (int(kept), int(seen)) == (2**20 // 10, rows)
    assert float(growth) < 80
