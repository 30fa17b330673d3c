"""Writing images: what is read again is what was written, to the bit; pictures show what they should; all or nothing."""

import csv
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from scorefield.data import check_image_output, read_images, write_images

TYPES = ["uint8", "uint16", "int64", "bool", "float16", "float32", "float64"]
SHAPES = {"HW": (11, 1, 6, 4), "HWC": (11, 3, 6, 4), "CHW": (11, 3, 6, 4)}


def images_of(shape, dtype="uint8", seed=0):
    draw = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return draw.normal(size=shape).astype(dtype)
    return draw.integers(0, 2 if dtype == "bool" else 256, shape).astype(dtype)


def blocks_of(images, sizes):
    return np.split(images, np.cumsum(sizes))


def message(action):
    with pytest.raises(ValueError, match=r": expected .*; got ") as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("layout", SHAPES)
@pytest.mark.parametrize("kind", ["a.npy", "a.npz"])
def test_an_array_comes_back_to_the_bit_in_every_layout_and_type(kind, layout, dtype, tmp_path):
    images = images_of(SHAPES[layout], dtype)
    assert write_images(tmp_path / kind, blocks_of(images, [4, 1]), layout) == 11
    found = read_images(tmp_path / kind)
    assert found.pixels.dtype == dtype
    assert found.pixels.tobytes() == images.tobytes()
    assert found.layout == layout
    loaded = np.load(tmp_path / kind)
    stored = loaded["X"] if kind == "a.npz" else loaded
    assert stored.shape == {"HW": (11, 6, 4), "HWC": (11, 6, 4, 3), "CHW": (11, 3, 6, 4)}[layout]


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.png", "folder"])
def test_blocks_do_not_show_in_what_is_written(name, tmp_path):
    images = images_of((11, 3, 6, 4))
    for i, sizes in enumerate([[], [1, 5], [1] * 10]):
        (tmp_path / str(i)).mkdir()
        write_images(
            tmp_path / str(i) / name, blocks_of(images, sizes), "HWC", labels=np.arange(11) % 2, classes=["a", "b"]
        )
    contents = [
        {str(p.relative_to(tmp_path / str(i))): p.read_bytes() for p in (tmp_path / str(i)).rglob("*") if p.is_file()}
        for i in range(3)
    ]
    assert contents[0] == contents[1] == contents[2]
    assert len(contents[0]) == (12 if name == "folder" else 1)


@pytest.mark.parametrize(
    ("shape", "dtype"), [((7, 1, 5, 3), "uint8"), ((7, 3, 5, 3), "uint8"), ((7, 1, 5, 3), "uint16")]
)
def test_single_pictures_come_back_to_the_bit_with_their_labels(shape, dtype, tmp_path):
    images = images_of(shape, dtype) * (257 if dtype == "uint16" else 1)
    labels, classes = np.array([2, 0, 1, 1, 2, 0, 3]), ["-5", "'quoted", "=SUM(A1)", "a,b"]
    (tmp_path / "f").mkdir()  # an empty folder may be there
    assert write_images(tmp_path / "f", [images], "HWC", labels=labels, classes=classes) == 7
    assert sorted(path.name for path in (tmp_path / "f").glob("*.png")) == [f"{i:05d}.png" for i in range(7)]
    found = read_images(tmp_path / "f", labels=tmp_path / "f" / "labels.csv")
    assert found.pixels.dtype == images.dtype
    assert found.pixels.tobytes() == images.tobytes()
    assert [found.classes[i] for i in found.labels] == [classes[i] for i in labels]
    assert found.notes == []
    with (tmp_path / "f" / "labels.csv").open() as file:
        cells = [row[1] for row in csv.reader(file)]
    assert "-5" in cells  # a number stays one
    assert not [cell for cell in cells if cell.startswith(("=", "+", "@"))]


@pytest.mark.parametrize("classes", [("0", "7", "10"), ("cat", "dog", "ox"), ("01", "7", "10")])
def test_labels_of_an_archive_are_integers_where_that_loses_nothing(classes, tmp_path):
    images, labels = images_of((5, 1, 4, 4)), np.array([0, 2, 1, 1, 0])
    write_images(tmp_path / "a.npz", [images], "HW", labels=labels, classes=classes)
    found = read_images(tmp_path / "a.npz")
    assert [found.classes[i] for i in found.labels] == [classes[i] for i in labels]
    assert np.load(tmp_path / "a.npz")["y"].dtype.kind == ("i" if classes[0] == "0" else "U")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("n", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (3, 2, 2), (5, 2, 3), (16, 4, 4), (17, 4, 5)])
def test_every_pixel_of_a_grid_is_where_it_should_be(n, rows, columns, channels, tmp_path):
    images = images_of((n, channels, 5, 3))
    write_images(tmp_path / "a.png", blocks_of(images, [1]), "HWC")
    grid = np.asarray(Image.open(tmp_path / "a.png"))
    grid = grid.reshape(*grid.shape[:2], channels).astype(int)
    assert grid.shape == (7 * rows + 2, 5 * columns + 2, channels)
    for i, image in enumerate(images):
        top, left = 2 + 7 * (i // columns), 2 + 5 * (i % columns)
        part = grid[top : top + 5, left : left + 3]
        assert (part == image.transpose(1, 2, 0)).all()
        part[...] = 128
    assert (grid == 128).all()


def test_a_grid_of_16_bits_keeps_them(tmp_path):
    images = np.array([0, 1, 65_535, 300], dtype="uint16").reshape(1, 1, 2, 2)
    write_images(tmp_path / "a.png", [images], "HW")
    grid = np.asarray(Image.open(tmp_path / "a.png"))
    assert grid.dtype == np.uint16
    assert grid[2:4, 2:4].tolist() == [[0, 1], [65_535, 300]]
    assert grid[0, 0] == 32_768


def test_limits_are_black_and_white_and_what_is_beyond_is_cut(tmp_path):
    images = np.array([-2.0, -1, -0.5, 0, 0.99, 1, 7, 1 / 255]).reshape(1, 1, 2, 4)
    write_images(tmp_path / "a.png", [images], "HW", limits=(-1.0, 1.0))
    found = np.asarray(Image.open(tmp_path / "a.png"))[2:4, 2:6].ravel().tolist()
    assert found == [0, 0, 64, 128, 254, 255, 255, 128]
    levels = np.arange(17).reshape(17, 1, 1, 1)
    write_images(tmp_path / "f", [levels], "HW", limits=(0.0, 16.0))
    shown = read_images(tmp_path / "f").pixels.ravel()
    assert (np.rint(shown / 255 * 16) == np.arange(17)).all()
    every = np.arange(256, dtype="uint8").reshape(1, 1, 16, 16)
    write_images(tmp_path / "b.png", [every], "HW", limits=(0.0, 255.0))
    assert (np.asarray(Image.open(tmp_path / "b.png"))[2:-2, 2:-2] == every[0, 0]).all()


GOOD = images_of((4, 1, 5, 3))
COLOUR = images_of((4, 3, 5, 3))
NAN = np.where(np.arange(60).reshape(4, 1, 5, 3) == 31, np.nan, 0)
REFUSED = {
    "another ending": ("a.jpg", [GOOD], {}, ["'.jpg'", "folder of single PNGs"]),
    "no block": ("a.npy", [], {}, ["at least one image", "none"]),
    "no image on a grid": ("a.png", [GOOD[:0]], {}, ["at least one image"]),
    "no image in a folder": ("f", [GOOD[:0]], {}, ["at least one image"]),
    "too many on a grid": ("a.png", [np.zeros((1025, 1, 2, 2), "uint8")], {}, ["at most 1,024 images", "array, .npy"]),
    "floats without limits": ("a.png", [GOOD + 0.5], {}, ["limits", "float64"]),
    "integers without limits": ("f", [GOOD.astype(int)], {}, ["limits", "int64"]),
    "16 bits in colour": ("f", [COLOUR.astype("uint16")], {}, ["limits", "uint16"]),
    "limits turned round": ("a.png", [GOOD], {"limits": (1.0, 0.0)}, ["black below white", "(1.0, 0.0)"]),
    "no limits at all": ("a.png", [GOOD], {"limits": (float("nan"), 1.0)}, ["black below white"]),
    "not finite": ("a.npy", [NAN[:1], NAN[1:]], {}, ["finite numbers", "image 3"]),
    "another size later": ("a.npy", [GOOD, GOOD[:, :, 1:]], {}, ["(n, 1, 5, 3)", "(4, 1, 4, 3)"]),
    "another type later": ("a.npz", [GOOD, GOOD.astype(int)], {}, ["uint8", "int64"]),
    "another size in a folder": ("f", [GOOD, GOOD[:, :, 1:]], {}, ["(n, 1, 5, 3)", "(4, 1, 4, 3)"]),
    "two channels": ("a.npy", [COLOUR[:, :2]], {}, ["1 or 3 channels", "(4, 2, 5, 3)"]),
    "no channels": ("a.npy", [GOOD[:, 0]], {}, ["1 or 3 channels", "(4, 5, 3)"]),
    "colour without channels": ("a.npy", [COLOUR], {"layout": "HW"}, ["HWC or CHW", "'HW'"]),
    "an unknown layout": ("a.npy", [COLOUR], {"layout": "WHC"}, ["HW, HWC, CHW", "'WHC'"]),
    "too few labels": ("a.npz", [GOOD], {"labels": np.zeros(3, int), "classes": ["a"]}, ["4 labels", "got 3"]),
    "too many labels": ("f", [GOOD], {"labels": np.zeros(5, int), "classes": ["a"]}, ["4 labels", "got 5"]),
    "a label of no class": ("f", [GOOD], {"labels": np.arange(4), "classes": ["a", "b"]}, ["in 2 classes", "0 to 3"]),
    "no folder to write in": ("none/a.npy", [GOOD], {}, ["a folder to write in"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_written_is_refused_and_nothing_is_left(case, tmp_path):
    name, blocks, options, fragments = REFUSED[case]
    layout = options.get("layout", "HWC")
    rest = {key: value for key, value in options.items() if key != "layout"}
    text = message(lambda: write_images(tmp_path / name, iter(blocks), layout, **rest))
    assert not [fragment for fragment in fragments if fragment not in text], text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.png", "f"])
def test_a_failure_midway_leaves_what_was_there(name, tmp_path):
    def failing():
        yield GOOD
        raise RuntimeError("power")

    (tmp_path / "f").mkdir()
    if name != "f":
        (tmp_path / name).write_bytes(b"before")
    with pytest.raises(RuntimeError, match="power"):
        write_images(tmp_path / name, failing(), "HW", force=True)
    assert {path.name for path in tmp_path.iterdir()} == {"f", name}
    assert name == "f" or (tmp_path / name).read_bytes() == b"before"
    assert list((tmp_path / "f").iterdir()) == []


def test_what_exists_is_replaced_only_by_force_and_a_full_folder_never(tmp_path):
    for name in ("a.npy", "a.png", "a.NPZ"):
        write_images(tmp_path / name, [GOOD], "HW")
        assert "--force" in message(lambda name=name: check_image_output(tmp_path / name, force=False))
        assert "--force" in message(lambda name=name: write_images(tmp_path / name, [GOOD], "HW"))
        write_images(tmp_path / name, [GOOD[:2]], "HW", force=True)
    assert len(np.load(tmp_path / "a.npy")) == 2
    write_images(tmp_path / "f", [GOOD], "HW")
    for force in (False, True):
        assert "holds something" in message(lambda force=force: check_image_output(tmp_path / "f", force))
    (tmp_path / "g").write_text("a file")
    assert "a new or an empty folder" in message(lambda: check_image_output(tmp_path / "g", True))
    (tmp_path / "h.npy").mkdir()
    assert "a file to write" in message(lambda: check_image_output(tmp_path / "h.npy", True))


def test_the_number_of_images_is_judged_before_the_work_begins(tmp_path):
    check_image_output(tmp_path / "a.png", False, 1_024)
    check_image_output(tmp_path / "f", False, 100_000)
    check_image_output(tmp_path / "a.npy", False, 10**9)
    assert "at most 1,024 images on a grid" in message(lambda: check_image_output(tmp_path / "a.png", False, 1_025))
    assert "at most 100,000 images in a folder" in message(lambda: check_image_output(tmp_path / "f", False, 100_001))


def test_a_folder_that_a_killed_process_left_is_removed_and_one_in_use_is_not(tmp_path):
    code = f"""
import os, numpy, sys
from scorefield.data import write_images
def blocks():
    yield numpy.zeros((2, 1, 3, 3), "uint8")
    print("begun", flush=True)
    sys.stdin.read(1)
write_images({str(tmp_path / "f")!r}, blocks(), "HW")
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()
    left = next(tmp_path.glob(".scorefield-*.tmp"))
    with pytest.raises(RuntimeError):
        write_images(tmp_path / "f", (_raise() for _ in "a"), "HW")
    assert left.is_dir()
    process.kill()
    process.communicate()
    assert write_images(tmp_path / "f", [GOOD], "HW") == 4
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def _raise():
    raise RuntimeError


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "f"])
def test_writing_takes_the_memory_of_a_block(name, tmp_path):
    block = images_of((20, 1, 32, 32))
    write_images(tmp_path / f"first{name}", [block], "HW")
    tracemalloc.start()
    count = write_images(tmp_path / name, (block for _ in range(10 if name == "f" else 200)), "HW")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == (200 if name == "f" else 4_000)
    assert peak < 4e5
