"""Tables: what is no table of finite numbers is refused in one line that says where; the rest is exact."""

import itertools
import os
import resource
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from scorefield.data import check_output, digest, read_points, read_table, sources, split, write_blocks
from scorefield.selftest.inputs.hostile import TABLES
from scorefield.selftest.inputs.makers import ONES, lying, npy, npz, parquet

FORMATS = [".csv", ".tsv", ".parquet", ".npy", ".npz"]


X = [[1.0, 2.0], [3.0, 4.5]]
BIG = np.random.default_rng(0).normal(size=(4000, 3))

# id: (file name, content, names, columns)
READ = {
    "floats": ("a.csv", b"x,y\n1,2\n3,4.5\n", "xy", [np.array([1, 3]), np.array([2, 4.5])]),
    "no newline at the end": ("a.csv", b"x,y\n1,2\n3,4", "xy", [np.array([1, 3]), np.array([2, 4])]),
    "blank lines at the end": ("a.csv", b"x,y\n1,2\n\n  \n\n", "xy", [np.array([1]), np.array([2])]),
    "CRLF": ("a.csv", b"x,y\r\n1,2\r\n3,4\r\n", "xy", [np.array([1, 3]), np.array([2, 4])]),
    "CR": ("a.csv", b"x,y\r1,2\r3,4\r", "xy", [np.array([1, 3]), np.array([2, 4])]),
    "BOM": ("a.csv", b"\xef\xbb\xbfx,y\n1,2\n", "xy", [np.array([1]), np.array([2])]),
    "BOM without header": ("a.csv", b"\xef\xbb\xbf1,2\n", ["x1", "x2"], [np.array([1]), np.array([2])]),
    "capital extension": ("A.CSV", b"x\n1\n", "x", [np.array([1])]),
    "tsv": ("a.tsv", b"x\ty\n1\t2\n", "xy", [np.array([1]), np.array([2])]),
    "quotes": ("a.csv", b'"x","y, z"\n"1",2\n', ["x", "y, z"], [np.array([1]), np.array([2])]),
    "spaces around": ("a.csv", b"x, y\n 1, 2.5 \n", "xy", [np.array([1]), np.array([2.5])]),
    "one row": ("a.csv", b"x,y\n1,2\n", "xy", [np.array([1]), np.array([2])]),
    "one number": ("a.csv", b"7\n", ["x1"], [np.array([7])]),
    "one column": ("a.csv", b"x\n1\n2\n", "x", [np.array([1, 2])]),
    "booleans": ("a.csv", b"b\nTrue\nfalse\nTRUE\n", "b", [np.array([True, False, True])]),
    "largest integers": (
        "a.csv",
        b"x\n9223372036854775807\n-9223372036854775808\n",
        "x",
        [np.array([2**63 - 1, -(2**63)])],
    ),
    "integers past 2^53": ("a.csv", b"x\n9007199254740993\n1\n", "x", [np.array([2**53 + 1, 1])]),
    "largest floats": ("a.csv", b"x\n1e150\n-1e150\n", "x", [np.array([1e150, -1e150])]),
    "smallest floats": ("a.csv", b"x\n1e-300\n5e-324\n", "x", [np.array([1e-300, 5e-324])]),
    "equal rows": ("a.csv", b"x,y\n1,2\n1,2\n", "xy", [np.array([1, 1]), np.array([2, 2])]),
    "float late in a column": (
        "a.csv",
        ("x\n" + "1\n" * 5000 + "1.5\n").encode(),
        "x",
        [np.append(np.ones(5000), 1.5)],
    ),
    "ten thousand columns": (
        "a.csv",
        b",".join([b"1"] * 10_000),
        [f"x{i}" for i in range(1, 10_001)],
        [np.array([1])] * 10_000,
    ),
    "npy": ("a.npy", npy(np.array(X)), ["x1", "x2"], list(np.array(X).T)),
    "1-d npy": ("a.npy", npy(np.array([1.0, 2.0])), ["x1"], [np.array([1.0, 2.0])]),
    "npy in version 2": ("a.npy", lying((1, 2), version=2), ["x1", "x2"], [np.zeros(1), np.zeros(1)]),
    "float16": ("a.npy", npy(np.array(X, "f2")), ["x1", "x2"], list(np.array(X, "f2").T)),
    "big-endian": ("a.npy", npy(np.array(X, ">f8")), ["x1", "x2"], list(np.array(X).T)),
    "Fortran order": ("a.npy", npy(np.asfortranarray(X)), ["x1", "x2"], list(np.array(X).T)),
    "not contiguous": ("a.npy", npy(np.array(X)[::-1, ::-1]), ["x1", "x2"], list(np.array(X)[::-1, ::-1].T)),
    "int8": ("a.npy", npy(np.array([[1], [-2]], "i1")), ["x1"], [np.array([1, -2], "i1")]),
    "uint64": ("a.npy", npy(np.array([[2**63 - 1]], "u8")), ["x1"], [np.array([2**63 - 1], "u8")]),
    "boolean array": ("a.npy", npy(np.array([[True], [False]])), ["x1"], [np.array([True, False])]),
    "npz, one array": ("a.npz", npz(points=np.array(X)), ["x1", "x2"], list(np.array(X).T)),
    "npz, X of several": ("a.npz", npz(y=np.ones(2), X=np.array(X)), ["x1", "x2"], list(np.array(X).T)),
    "npz, compressed": ("a.npz", npz(True, X=BIG), ["x1", "x2", "x3"], list(BIG.T)),
    "parquet": (
        "a.parquet",
        parquet([1, 2], [0.5, 1.5], [True, False]),
        ["c0", "c1", "c2"],
        [np.array([1, 2]), np.array([0.5, 1.5]), np.array([True, False])],
    ),
    "parquet, float16": (
        "a.parquet",
        parquet(np.array([1.5], "f2"), np.array([3], "u1")),
        ["c0", "c1"],
        [np.array([1.5], "f2"), np.array([3], "u1")],
    ),
    "parquet, dots in names": (
        "a.parquet",
        parquet([1], [2], names=["a", "a.b"]),
        ["a", "a.b"],
        [np.array([1]), np.array([2])],
    ),
}


@pytest.fixture(autouse=True)
def small_groups(monkeypatch):
    monkeypatch.setattr(sources, "GROUP", 512)


def write(folder, name, content):
    (folder / name).write_bytes(content)
    return folder / name


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def message(error):
    text = str(error.value)
    assert "\n" not in text
    assert "\r" not in text
    return text


@pytest.mark.parametrize("case", TABLES)
def test_bad_input_is_refused_in_one_line(case, tmp_path):
    name, content, fragments = TABLES[case]
    path = write(tmp_path, name, content)
    with pytest.raises(ValueError, match=r"expected .*got ") as error:
        read_table(path)
    text = message(error)
    assert str(path) in text
    assert not [fragment for fragment in fragments if fragment not in text], text


@pytest.mark.parametrize("case", READ)
def test_good_input_is_read_exactly(case, tmp_path):
    name, content, names, columns = READ[case]
    frame = read_table(write(tmp_path, name, content)).frame
    assert list(frame.columns) == list(names)
    for (_, column), expected in zip(frame.items(), columns, strict=True):
        assert column.dtype == expected.dtype
        assert column.to_numpy().tobytes() == expected.tobytes()


def test_a_message_about_an_evil_cell_or_name_stays_on_one_line(tmp_path):
    path = write(tmp_path, "a\nb.csv", b"x,y\n1,2\n3," + b"z\x1b[31m" * 1000 + b"\n")
    with pytest.raises(ValueError, match=r"line 3, column 'y'") as error:
        read_table(path)
    assert message(error).isprintable()
    assert len(message(error)) < 300
    assert repr(("z\x1b[31m" * 8)[:37] + "...") in message(error)


@pytest.mark.parametrize("kind", ["missing", "folder", "empty folder", "pipe"])
def test_what_is_no_file_is_refused(kind, tmp_path):
    path = tmp_path / "table.csv"
    expected = {"missing": "none", "folder": "b.npy", "empty folder": "no table", "pipe": "pipe"}[kind]
    if kind.endswith("folder"):
        path.mkdir()
    if kind == "folder":
        write(path, "b.npy", npy(ONES))
        write(path, "c.txt", b"")
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(ValueError, match=expected) as error:
        read_table(path)
    assert str(path) in message(error)
    assert "c.txt" not in message(error)


def test_a_read_only_memory_map_can_be_read_and_written(tmp_path):
    mapped = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", shape=(3, 2))
    mapped[:] = [[1, 2], [3, 4], [5, 6]]
    mapped.flush()
    (tmp_path / "a.npy").chmod(0o444)
    frame = pd.DataFrame(np.load(tmp_path / "a.npy", mmap_mode="r"), columns=["x1", "x2"])
    write_blocks(tmp_path / "b.csv", [frame], force=False)
    assert read_table(tmp_path / "a.npy").frame.equals(frame)
    assert digest(read_table(tmp_path / "a.npy").frame) == digest(frame)
    assert (tmp_path / "b.csv").read_text() == "x1,x2\n1.0,2.0\n3.0,4.0\n5.0,6.0\n"


def test_columns_and_drop(tmp_path):
    path = write(tmp_path, "a.csv", b"x,y,text,z\n1,2,a,3\n4,5,b,6\n")
    assert read_table(path, drop=["text"]).frame.to_dict("list") == {"x": [1, 4], "y": [2, 5], "z": [3, 6]}
    chosen = read_table(path, columns=["z", "x", "y"], drop=["y"]).frame
    assert list(chosen.columns) == ["z", "x"]
    assert chosen.to_numpy().tolist() == [[3, 1], [6, 4]]
    for keywords in ({"columns": ["w"]}, {"drop": ["w"]}):
        with pytest.raises(ValueError, match=r"a column 'w'; got the columns x, y, text, z"):
            read_table(path, **keywords)
    for keywords in ({"columns": []}, {"drop": ["x", "y", "text", "z"]}, {"columns": ["x"], "drop": ["x"]}):
        with pytest.raises(ValueError, match="keep at least one"):
            read_table(path, **keywords)


def test_columns_of_a_parquet_file_that_is_partly_text(tmp_path):
    frame = pd.DataFrame({"s": ["a", "b"], "x": [1.5, 2.5]}, index=[7, 8])
    frame.to_parquet(tmp_path / "a.parquet")
    table = read_table(tmp_path / "a.parquet", drop=["s"])
    assert table.frame.to_dict("list") == {"x": [1.5, 2.5]}


def test_notes_say_what_was_decided(tmp_path):
    assert read_table(write(tmp_path, "a.csv", b"x,y\n1,2\n")).notes == []
    (note,) = read_table(write(tmp_path, "b.csv", b"1,2,3\n4,5,6\n")).notes
    assert all(part in note for part in ["b.csv", "no header", "x1, x2, x3"])
    (note,) = read_table(write(tmp_path, "c.csv", b"id,2019,2020\n4,5,6\n")).notes
    assert "'2019'" in note
    (note,) = read_table(write(tmp_path, "d.npz", npz(y=ONES, data=ONES))).notes
    assert all(part in note for part in ["d.npz", "y, data", "data is read"])


def test_a_long_list_of_names_is_cut(tmp_path):
    path = write(tmp_path, "a.npy", npy(np.ones((2, 5000))))
    with pytest.raises(ValueError, match="x10 and 4,990 more"):
        read_table(path, columns=["w"])
    with pytest.raises(ValueError, match=r"x9, x10$"):
        read_table(write(tmp_path, "b.npy", npy(np.ones((2, 10)))), columns=["w"])


def test_points_are_found_by_name_or_by_place(tmp_path):
    named = write(tmp_path, "a.csv", b"b,c,a\n1,2,3\n4,5,6\n")
    assert read_points(named, ["a", "b"]).frame.to_dict("list") == {"a": [3, 6], "b": [1, 4]}
    with pytest.raises(ValueError, match=r"a column 'd'; got the columns b, c, a"):
        read_points(named, ["a", "d"])
    write(tmp_path, "b.csv", b"1,2\n3,4\n")
    write(tmp_path, "b.npy", npy(np.array([[1, 2], [3, 4]])))
    for path in (tmp_path / "b.csv", tmp_path / "b.npy"):
        assert read_points(path, ["a", "b"]).frame.to_dict("list") == {"a": [1, 3], "b": [2, 4]}
        with pytest.raises(ValueError, match=r"expected 3 columns, a, b, c; got 2 columns without names"):
            read_points(path, ["a", "b", "c"])
        with pytest.raises(ValueError, match=r"expected 1 columns, a; got 2 columns without names"):
            read_points(path, ["a"])


MUTATED = {
    "a.csv": b"x,y,z\n" + b"".join(b"%d,%d.5,True\n" % (i, i) for i in range(9)),
    "a.npy": npy(np.arange(12.0).reshape(6, 2)),
    "a.npz": npz(True, X=BIG[:20]),
}


@pytest.mark.parametrize("name", MUTATED)
def test_damage_is_read_as_finite_numbers_or_refused(name, tmp_path):
    """300 files with up to three bytes changed, inserted or cut off: nothing but ValueError comes out."""
    draw = np.random.default_rng(5)
    refused = []
    for _ in range(300):
        content = bytearray(MUTATED[name])
        for _ in range(draw.integers(1, 4)):
            place = int(draw.integers(len(content)))
            kind = draw.integers(4)
            if kind < 2:
                content[place] = draw.integers(256)
            elif kind == 2:
                content.insert(place, draw.integers(256))
            elif draw.random() < 0.2:
                del content[max(1, place) :]
        try:
            frame = read_table(write(tmp_path, name, bytes(content))).frame
        except ValueError as error:
            refused.append(str(error))
        else:
            assert np.isfinite(frame.to_numpy(dtype=float)).all()
            assert frame.shape[0] > 0
    assert 50 < len(refused) < 300
    assert all(text.startswith(str(tmp_path / name)) and text.isprintable() for text in refused)


def table(n, seed=0):
    """All kinds of columns, with floats over the whole range that a table may have."""
    draw = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "x": draw.normal(size=n) * 10.0 ** draw.integers(-300, 149, n),
            "single": draw.normal(size=n).astype("f4"),
            "half": draw.normal(size=n).astype("f2"),
            "n": draw.integers(-(2**63), 2**63, n),
            "small": draw.integers(0, 200, n).astype("u1"),
            "yes": draw.random(n) < 0.5,
        }
    )


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
