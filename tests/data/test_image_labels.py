"""The labels of images, from names of folders, tables and arrays."""

import gzip

import numpy as np
import pytest
from image_files import array, message

from scorefield.data import read_images
from scorefield.selftest.inputs.makers import IMAGES, idx, npy, write_folder

# Labels


def test_names_of_sub_folders_are_labels_sorted_as_numbers_where_all_are(tmp_path):
    for i, name in enumerate(["10", "9", "-1"]):
        write_folder(tmp_path / "numbers" / name, np.full((1, 4, 4), i, "uint8"))
    found = read_images(tmp_path / "numbers")
    assert found.classes == ("-1", "9", "10")
    assert [found.classes[i] for i in found.labels] == ["-1", "10", "9"]  # in the order of the paths
    assert found.pixels[:, 0, 0, 0].tolist() == [2, 0, 1]
    write_folder(tmp_path / "numbers" / "a", np.zeros((1, 4, 4), "uint8"))
    assert read_images(tmp_path / "numbers").classes == ("-1", "10", "9", "a")


@pytest.mark.parametrize(("name", "mark"), [("labels.csv", ","), ("labels.tsv", "\t")])
def test_a_table_gives_the_labels_of_files(name, mark, tmp_path):
    write_folder(tmp_path / "f", array((3, 4, 4)))
    rows = [("who", "label", "file"), ("x", "cat", "002.png"), ("y", "'=dog", "000.png"), ("", "cat", "001.png")]
    (tmp_path / name).write_text("\ufeff" + "\r\n".join(mark.join(row) for row in rows) + "\n\n", encoding="utf-8")
    found = read_images(tmp_path / "f", labels=tmp_path / name)
    assert [found.classes[i] for i in found.labels] == ["=dog", "cat", "cat"]
    with (tmp_path / name).open("a") as file:
        file.write(mark.join(("z", "bird", "../other.png")))
    found = read_images(tmp_path / "f", labels=tmp_path / name)
    assert found.classes == ("=dog", "cat")
    assert "1 labels are of no image" in found.notes[0]


LABELS = {
    "integers": ("a.npy", npy(np.array([3, 10, 3, -1]))),
    "whole floats": ("a.npy", npy(np.array([3.0, 10.0, 3.0, -1.0]))),
    "names": ("a.npy", npy(np.array(["3", "10", "3", "-1"]))),
    "a column": ("a.csv", b"3\n10\n3\n-1\n"),
    "a column with a name": ("a.csv", b"\xef\xbb\xbfLabel\r\n3\r\n10\r\n3\r\n'-1"),
    "IDX": ("a-idx1-ubyte", idx(np.array([3, 10, 3, -1], "i2"), 11)),
    "IDX, packed": ("a.gz", gzip.compress(idx(np.array([3, 10, 3, -1], "i1"), 9))),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels_of_an_array_come_from_every_kind_of_file_and_win_over_its_own(case, tmp_path):
    name, content = LABELS[case]
    np.savez(tmp_path / "x.npz", X=IMAGES, y=np.array(["a", "b", "c", "d"]))
    (tmp_path / name).write_bytes(content)
    assert read_images(tmp_path / "x.npz").classes == ("a", "b", "c", "d")
    found = read_images(tmp_path / "x.npz", labels=tmp_path / name)
    assert found.classes == ("-1", "3", "10")
    assert found.labels.tolist() == [1, 2, 1, 0]


@pytest.mark.parametrize(
    ("content", "fragment"), [(b"1\n2\n3\n", "4 labels"), (b"1,2\n" * 4, "one column"), (b"a\n1\n2\n3\n4", "got 5")]
)
def test_a_column_that_does_not_fit_the_array_is_refused(content, fragment, tmp_path):
    np.save(tmp_path / "x.npy", IMAGES)
    (tmp_path / "a.csv").write_bytes(content)
    assert fragment in message(lambda: read_images(tmp_path / "x.npy", labels=tmp_path / "a.csv"))
