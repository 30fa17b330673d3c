"""Tables come back as they were written; a failure leaves nothing behind."""

import itertools
import os
import resource
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from table_files import FORMATS, message, table

from scorefield.data import check_output, read_table, sources, write_blocks
from scorefield.selftest.inputs.makers import npy

pytestmark = pytest.mark.usefixtures("small_groups")


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def cut(frame, sizes):
    places = [0, *np.cumsum(sizes, dtype=int), len(frame)]
    return [frame.iloc[a:b] for a, b in itertools.pairwise(places)]


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_written_is_read_back(suffix, tmp_path):
    frame = table(3000)
    if suffix in {".npy", ".npz"}:
        frame = frame[["x", "single", "half", "small", "yes"]]
    path = tmp_path / f"a{suffix}"
    write_blocks(path, [frame], force=False)
    back = read_table(path).frame
    if suffix == ".parquet":
        assert back.equals(frame)
    if suffix in {".csv", ".tsv"}:
        wide = {"single": "f8", "half": "f8", "small": "i8"}
        assert back.equals(frame.astype(wide))
        assert back["half"].to_numpy().astype("f2").tobytes() == frame["half"].to_numpy().tobytes()
    if suffix in {".npy", ".npz"}:
        assert list(back.columns) == ["x1", "x2", "x3", "x4", "x5"]
        assert back.to_numpy().tobytes() == frame.to_numpy(dtype=float).tobytes()


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("n", [0, 1, 700, 1024])
def test_blocks_leave_no_trace(suffix, n, tmp_path):
    frame = table(n)[["x", "single"]]
    files = []
    for i, sizes in enumerate([[], [0, min(n, 1)], [n // 3, 0, n // 3], [1] * min(n, 50)]):
        path = tmp_path / f"{i}{suffix}"
        write_blocks(path, iter(cut(frame, sizes)), force=False)
        files.append(path.read_bytes())
    assert len(set(files)) == 1
    if n:
        assert read_table(path).frame.to_numpy().tobytes() == frame.to_numpy(dtype=float).tobytes()


def test_numpy_and_pandas_read_what_is_written(tmp_path):
    frame = table(50)[["x", "single"]]
    for suffix in FORMATS:
        write_blocks(tmp_path / f"a{suffix}", cut(frame, [20]), force=False)
    expected = npy(np.ascontiguousarray(frame, dtype=float))
    assert (tmp_path / "a.npy").read_bytes() == expected
    with np.load(tmp_path / "a.npz") as archive:
        assert npy(archive["X"]) == expected
    assert pd.read_parquet(tmp_path / "a.parquet").equals(frame)
    assert pd.read_csv(tmp_path / "a.csv").equals(frame.astype(float))
    assert pd.read_csv(tmp_path / "a.tsv", sep="\t").equals(frame.astype(float))


@pytest.mark.parametrize(
    ("types", "common"),
    [
        (["f4", "f4"], "f4"),
        (["i4", "i2"], "i4"),
        (["?", "?"], "?"),
        (["?", "f4"], "f4"),
        (["i8", "f4"], "f8"),
    ],
)
def test_an_array_has_the_common_type(types, common, tmp_path):
    frame = pd.DataFrame({f"c{i}": np.arange(3).astype(kind) for i, kind in enumerate(types)})
    write_blocks(tmp_path / "a.npy", [frame], force=False)
    array = np.load(tmp_path / "a.npy")
    assert array.dtype == common
    assert (array == frame.to_numpy(dtype=float)).all()


def test_text_is_plain_and_holds_no_formula(tmp_path):
    names = ["=1+1", "+a", "-b", "@c", "\td", "e", "f=", "g,h", 'i"j', "'k"]
    frame = pd.DataFrame([[1, -2.5, True, 0.1, 1e-300, -7, 1e22, 0, 5e-324, False]], columns=names)
    write_blocks(tmp_path / "a.csv", [frame], force=False)
    header, row = (tmp_path / "a.csv").read_bytes().decode().removesuffix("\n").split("\n")
    assert header == "'=1+1,'+a,'-b,'@c,'\td,e,f=,\"g,h\",\"i\"\"j\",'k"
    assert row == "1,-2.5,True,0.1,1e-300,-7,1e+22,0,5e-324,False"
    write_blocks(tmp_path / "b.tsv", [frame[["e", "-b"]].set_axis(["\re", "f"], axis=1)], force=False)
    assert (tmp_path / "b.tsv").read_bytes() == b'"\'\re"\t"f"\n-7\tTrue\n'


def test_a_written_table_keeps_the_usual_permissions(tmp_path):
    write_blocks(tmp_path / "a.csv", [table(1)], force=False)
    (tmp_path / "b.csv").write_text("")
    assert (tmp_path / "a.csv").stat().st_mode == (tmp_path / "b.csv").stat().st_mode


def interrupted(frame):
    yield frame
    raise KeyboardInterrupt("enough")


BAD_BLOCKS = {
    "nan": (lambda f: [f, f.assign(x=np.nan)], ValueError, r"row 31, column 'x': .* finite .*got nan"),
    "inf": (
        lambda f: [f, f.assign(half=np.where(f.index == 4, np.inf, 1).astype("f2"))],
        ValueError,
        r"row 35, column 'half': expected a finite .*got inf",
    ),
    "other columns": (lambda f: [f, f.rename(columns={"x": "z"})], ValueError, "columns and types"),
    "other order": (lambda f: [f, f[f.columns[::-1]]], ValueError, "columns and types"),
    "other types": (lambda f: [f, f.astype({"small": float})], ValueError, "columns and types"),
    "text": (lambda f: [f, f.assign(x="a")], ValueError, r"column 'x': expected booleans, integers or"),
    "objects": (lambda f: [f.astype({"small": object})], ValueError, "column 'small': .*got object"),
    "no block": (lambda f: [], ValueError, "at least one block"),
    "no column": (lambda f: [f[[]]], ValueError, "columns of numbers"),
    "a name twice": (lambda f: [f.set_axis(["x"] * f.shape[1], axis=1)], ValueError, "'x' more than once"),
    "interrupt": (interrupted, KeyboardInterrupt, "^enough$"),
}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("case", BAD_BLOCKS)
def test_a_failure_leaves_nothing_behind(case, suffix, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "GROUP", 64)  # part of the first block is written before the second one fails
    blocks, kind, text = BAD_BLOCKS[case]
    frame = table(30).drop(columns="n")
    with pytest.raises(kind, match=text):
        write_blocks(tmp_path / f"new{suffix}", blocks(frame), force=False)
    write_blocks(tmp_path / f"old{suffix}", [frame], force=False)
    before = (tmp_path / f"old{suffix}").read_bytes()
    with pytest.raises(kind, match=text):
        write_blocks(tmp_path / f"old{suffix}", blocks(frame), force=True)
    assert files(tmp_path) == [f"old{suffix}"]
    assert (tmp_path / f"old{suffix}").read_bytes() == before


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_integers_that_an_array_of_floats_cannot_hold_are_refused(suffix, tmp_path):
    fits = pd.DataFrame({"x": [0.5], "n": [2**53]})
    write_blocks(tmp_path / f"a{suffix}", [fits], force=False)
    with pytest.raises(ValueError, match=r"'n': expected integers up to 2\^53.* \.csv or \.parquet"):
        write_blocks(tmp_path / f"b{suffix}", [fits + {"x": 0, "n": 1}], force=False)
    write_blocks(tmp_path / f"c{suffix}", [fits[["n"]] + 1], force=False)
    assert read_table(tmp_path / f"c{suffix}").frame["x1"].to_list() == [2**53 + 1]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_full_disk_is_reported_and_leaves_nothing(suffix, tmp_path):
    """A limit on the size of files stands for the full disk; it hits in the middle of the writing."""
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        with pytest.raises(OSError, match="File too large") as error:
            write_blocks(path, [table(50_000)[["x", "single"]]], force=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(path) in str(error.value)
    assert files(tmp_path) == [path.name]
    assert path.read_bytes() == b"before"


def test_a_failing_flush_is_reported_and_leaves_nothing(tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"a\.csv.*Input/output error"):
        write_blocks(tmp_path / "a.csv", [table(3)], force=False)
    assert files(tmp_path) == []


def test_an_output_is_checked_before_any_work(tmp_path):
    (tmp_path / "old.csv").write_text("before")
    (tmp_path / "folder.csv").mkdir()
    cases = {
        "old.csv": "--force",
        "folder.csv": "a folder",
        "none/a.csv": "make it first",
        "a": "one of",
        "a.xlsx": r"\.csv, \.tsv",
        "old.csv/a.csv": "make it first",
        "n" * 300 + ".csv": "File name too long",
    }

    def work():
        pytest.fail("the work began")
        yield

    for name, text in cases.items():
        for call in (lambda path: check_output(path, False), lambda path: write_blocks(path, work(), False)):
            with pytest.raises(ValueError, match=text) as error:
                call(tmp_path / name)
            assert str(tmp_path / name) in message(error)
    check_output(tmp_path / "new.csv", False)
    check_output(tmp_path / "old.csv", True)
    with pytest.raises(ValueError, match="a folder"):
        check_output(tmp_path / "folder.csv", True)
    assert files(tmp_path) == ["folder.csv", "old.csv"]
    assert (tmp_path / "old.csv").read_text() == "before"


def test_a_folder_that_does_not_allow_writing_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the superuser may write anywhere
    with pytest.raises(ValueError, match="may be written in"):
        check_output(tmp_path / "a.csv", False)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", FORMATS)
def test_writing_needs_memory_for_a_few_blocks_only(suffix, tmp_path, monkeypatch):
    """The 64 blocks take 1 MB together, a group of rows a 64th of that, and its text a few times as much."""
    monkeypatch.setattr(sources, "GROUP", 2048)
    block = pd.DataFrame(np.random.default_rng(0).normal(size=(256, 8))).add_prefix("c")
    write_blocks(tmp_path / f"first{suffix}", [block], force=False)  # whatever is made once only
    tracemalloc.start()
    try:
        write_blocks(tmp_path / f"a{suffix}", (block + i for i in range(64)), force=False)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / f"a{suffix}").stat().st_size > 1e6
    assert peak < 6e5
