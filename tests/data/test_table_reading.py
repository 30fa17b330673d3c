"""Tables: what is no table of finite numbers is refused in one line that says where; the rest is exact."""

import os

import numpy as np
import pandas as pd
import pytest
from table_files import X, message

from scorefield.data import digest, read_points, read_table, write_blocks
from scorefield.selftest.inputs.hostile import TABLES
from scorefield.selftest.inputs.makers import ONES, lying, npy, npz, parquet

pytestmark = pytest.mark.usefixtures("small_groups")


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


def write(folder, name, content):
    (folder / name).write_bytes(content)
    return folder / name


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
