"""Tables over the limit, several writers at once, and the memory that large files take."""

import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from streamed import save

from scorefield.cli import entry as cli
from scorefield.data import sources, write_blocks
from scorefield.data.tables import reading


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


@pytest.mark.slow
def test_a_table_over_the_limit_is_fitted_resumed_and_evaluated(command, tmp_path, monkeypatch):
    """The same rows are drawn again by every command, from every kind of file, with blocks of every size."""
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(3000, 1)), columns=["x1"])
    monkeypatch.setattr(reading, "LIMIT", 2500)  # so many rows that one network learns
    runs = {}
    for kind, group in (("npy", 100), ("csv", 2**18)):
        path, run = save(frame, tmp_path, kind), tmp_path / f"run-{kind}"
        monkeypatch.setattr(sources, "GROUP", group)
        fit = ("fit", path, "--out", run, "--steps", 22)
        said = command(*fit)
        assert f"{path} has 3,000 rows; 2,500 of them, drawn at random, are used" in said
        assert "2,000 to train, 250 to validate, 250 to test" in said
        runs[kind] = states(run)
        for file in (run / "checkpoints" / "22").iterdir():
            file.unlink()
        assert "from step 20" in command(*fit)
        assert states(run) == runs[kind]
        command("score", run, path, "-o", tmp_path / f"{kind}-score.csv")
    assert set(runs["npy"]) == {"20", "22"}
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
from scorefield.data import point_blocks, read_table
from scorefield.data.tables import reading
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
    """A file of 200 MB raises the peak by less than 80 MB, ten times what the rows that are kept take."""
    rows = 1_000_000 if kind == "csv" else 2_400_000
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
