"""Reading images: what comes back is what was stored, to the bit, whatever it was stored in; the rest is refused."""

import gzip
import io
import os
import struct
import subprocess
import sys
import tracemalloc
import urllib.request
import zlib

import numpy as np
import pytest
import scipy.stats
from PIL import Image

from scorefield.data import as_images, is_images, read_images, read_mnist, sources
from scorefield.data.images import arrays, folders, mnist
from scorefield.selftest.inputs import hostile
from scorefield.selftest.inputs.hostile import ARRAYS, FOLDERS, PICTURES, SHAPES
from scorefield.selftest.inputs.makers import IMAGES, idx, npy, truncated, write_folder, write_png

LAYOUTS = {"HW": (5, 6, 4), "HWC": (5, 6, 4, 3), "CHW": (5, 3, 6, 4)}
TYPES = ["uint8", "uint16", "int64", "bool", "float16", "float32", "float64"]


def array(shape, dtype="uint8", seed=0):
    draw = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return draw.normal(size=shape).astype(dtype)
    return draw.integers(0, 2 if dtype == "bool" else 256, shape).astype(dtype)


def channels_first(images, layout):
    return {"HW": lambda x: x[:, None], "HWC": lambda x: np.moveaxis(x, -1, 1), "CHW": lambda x: x}[layout](images)


def message(action):
    """What a ValueError says, which must be one line."""
    with pytest.raises(ValueError, match=r": expected .*; got ") as caught:
        action()
    text = str(caught.value)
    assert "\n" not in text
    assert text.isprintable()
    return text


# Arrays


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("order", "CF")
def test_an_array_is_read_to_the_bit_in_every_layout_type_order_and_kind_of_file(layout, dtype, order, tmp_path):
    images = np.asarray(array(LAYOUTS[layout], dtype), order=order)
    np.save(tmp_path / "a.npy", images)
    np.savez(tmp_path / "b.npz", X=images)
    np.savez_compressed(tmp_path / "c.npz", images=images)
    np.save(tmp_path / "d.npy", images.astype(images.dtype.newbyteorder(">")))
    found = [read_images(tmp_path / name) for name in ("a.npy", "b.npz", "c.npz", "d.npy")]
    for one in found:
        assert one.pixels.dtype == dtype
        assert one.pixels.flags.c_contiguous
        assert one.pixels.tobytes() == np.ascontiguousarray(channels_first(images, layout)).tobytes()
        assert (one.layout, one.labels, one.classes) == (layout, None, ())
    assert len({one.digest for one in found}) == 1


@pytest.mark.parametrize("group", [1, 100, 2**18])
@pytest.mark.parametrize("order", "CF")
def test_blocks_show_nowhere(group, order, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "GROUP", group)
    images = array((17, 5, 4, 3))
    np.save(tmp_path / "a.npy", np.asarray(images, order=order))
    assert (read_images(tmp_path / "a.npy").pixels == channels_first(images, "HWC")).all()


@pytest.mark.parametrize("case", SHAPES)
def test_a_shape_without_one_meaning_is_refused_with_the_remedy(case, tmp_path):
    shape, fragments = SHAPES[case]
    np.save(tmp_path / "a.npy", np.zeros(shape, "uint8"))
    text = message(lambda: read_images(tmp_path / "a.npy"))
    assert not [fragment for fragment in [str(tmp_path), *fragments] if fragment not in text], text


def test_the_remedy_resolves_the_ambiguity(tmp_path):
    images = array((7, 3, 9, 3))
    np.save(tmp_path / "a.npy", images)
    np.save(tmp_path / "b.npy", images[..., 0])
    for layout in ("HWC", "CHW"):
        found = read_images(tmp_path / "a.npy", layout=layout)
        assert (found.pixels == channels_first(images, layout)).all()
        assert found.layout == layout
    assert (read_images(tmp_path / "b.npy", layout="HW").pixels[:, 0] == images[..., 0]).all()
    assert "(n, height, width)" in message(lambda: read_images(tmp_path / "a.npy", layout="HW"))
    assert "CHW (n, channels, height, width)" in message(lambda: read_images(tmp_path / "a.npy", layout="NCHW"))
    write_folder(tmp_path / "f", images[..., 0])
    assert "leave the option out" in message(lambda: read_images(tmp_path / "f", layout="HW"))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e200])
def test_a_number_that_is_not_finite_is_named_by_its_place_in_the_array(bad, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "GROUP", 30)
    images = array((9, 4, 5, 3), "float64")
    images[6, 1, 4, 2] = bad
    np.save(tmp_path / "a.npy", images)
    assert "at [6, 1, 4, 2]: expected finite numbers" in message(lambda: read_images(tmp_path / "a.npy"))


@pytest.mark.parametrize("case", ARRAYS)
def test_a_hostile_array_is_refused_in_one_line(case, tmp_path):
    name, content, fragments = ARRAYS[case]
    (tmp_path / name).write_bytes(content)
    tracemalloc.start()
    text = message(lambda: read_images(tmp_path / name))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not [fragment for fragment in [name, *fragments] if fragment not in text], text
    assert peak < 4e6


def test_a_damaged_member_of_an_archive_is_noticed_by_its_checksum(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, X=IMAGES)
    content = bytearray(path.read_bytes())
    content[content.index(IMAGES.tobytes()) + 7] ^= 1
    path.write_bytes(content)
    assert "CRC" in message(lambda: read_images(path))


# IDX


@pytest.mark.parametrize(
    ("kind", "dtype"), [(8, "u1"), (9, "i1"), (11, "i2"), (12, "i4"), (13, "f4"), (14, "f8")], ids=str
)
def test_idx_files_of_every_type_are_read_packed_or_not(kind, dtype, tmp_path):
    images = array((4, 6, 5), "int64", 3).astype(dtype)
    (tmp_path / "a").write_bytes(idx(images, kind))
    (tmp_path / "b.gz").write_bytes(gzip.compress(idx(images, kind)))
    for name in ("a", "b.gz"):
        found = read_images(tmp_path / name)
        assert found.pixels.dtype == images.dtype
        assert (found.pixels[:, 0] == images).all()
        assert is_images(tmp_path / name)


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("mark", ["-", "."])
def test_a_folder_of_idx_files_is_its_training_part_with_labels_in_every_spelling(mark, end, tmp_path):
    pack = gzip.compress if end else bytes
    for part, seed in (("train", 0), ("t10k", 1)):
        images, labels = array((5, 4, 4), seed=seed), np.array([7, 10, 2, 2, 7], "u1")
        (tmp_path / f"{part}-images{mark}idx3-ubyte{end}").write_bytes(pack(idx(images)))
        (tmp_path / f"{part}-labels{mark}idx1-ubyte{end}").write_bytes(pack(idx(labels)))
    found = read_images(tmp_path)
    assert (found.pixels[:, 0] == array((5, 4, 4))).all()
    assert found.classes == ("2", "7", "10")
    assert found.labels.tolist() == [1, 2, 0, 0, 1]
    assert found.labels.dtype == np.int64
    test = read_images(tmp_path / f"t10k-images{mark}idx3-ubyte{end}")
    assert (test.pixels[:, 0] == array((5, 4, 4), seed=1)).all()
    assert test.labels.tolist() == found.labels.tolist()


@pytest.mark.parametrize("case", hostile.IDX)
def test_a_hostile_idx_file_is_refused_before_memory_is_taken(case, tmp_path):
    content, fragments = hostile.IDX[case]
    (tmp_path / "images-idx3-ubyte").write_bytes(content)
    tracemalloc.start()
    text = message(lambda: read_images(tmp_path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not [fragment for fragment in ["images-idx3-ubyte", *fragments] if fragment not in text], text
    assert peak < 4e6


def test_labels_in_order_are_no_bomb_and_zeros_are(tmp_path):
    """60,000 labels in order are packed 400-fold; a gigabyte of zeros is not read."""
    labels = np.repeat(np.arange(10, dtype="u1"), 6_000)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((60_000, 1, 2), "u1")))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    assert (read_images(tmp_path).labels == labels).all()
    pack = zlib.compressobj(wbits=31)
    bomb = pack.compress(b"\0\0\x08\3" + struct.pack(">3I", 1 << 7, 1 << 9, 1 << 9))
    bomb += b"".join(pack.compress(bytes(1 << 18)) for _ in range(1 << 7)) + pack.flush()
    (tmp_path / "bomb").write_bytes(bomb)
    assert "33,554,448; unpack it" in message(lambda: read_images(tmp_path / "bomb"))


def test_of_a_file_and_its_packed_copy_the_file_is_read(tmp_path):
    (tmp_path / "images-idx3-ubyte").write_bytes(idx(IMAGES))
    (tmp_path / "images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(IMAGES[:2])))
    assert len(read_images(tmp_path).pixels) == 4


def test_several_files_of_images_must_be_told_apart(tmp_path):
    for name in ("a-images-idx3-ubyte", "b-images-idx3-ubyte"):
        (tmp_path / name).write_bytes(idx(IMAGES))
    assert "a-images-idx3-ubyte, b-images-idx3-ubyte; name the file" in message(lambda: read_images(tmp_path))


# MNIST


@pytest.fixture
def no_mnist(tmp_path, monkeypatch):
    """A home without a cache, no variable, and small files in place of the published ones."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv(mnist.VARIABLE, raising=False)
    files = {}
    for part, seed in (("train", 0), ("t10k", 1)):
        files[f"{part}-images-idx3-ubyte"] = idx(array((5, 28, 28), seed=seed))
        files[f"{part}-labels-idx1-ubyte"] = idx(np.array([4, 0, 1, 9, 4], "u1"))
    digests = {name: mnist.hashlib.sha256(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(mnist, "DIGESTS", digests)
    return files


def test_mnist_comes_from_a_folder_or_the_variable(no_mnist, tmp_path, monkeypatch):
    for name, content in no_mnist.items():
        (tmp_path / "data" / "mnist").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / "mnist" / f"{name}.gz").write_bytes(gzip.compress(content))
    named = read_mnist("test", tmp_path / "data" / "mnist")
    assert (named.pixels[:, 0] == array((5, 28, 28), seed=1)).all()
    assert named.classes == ("0", "1", "4", "9")
    for value in ("data", "data/mnist"):
        monkeypatch.setenv(mnist.VARIABLE, str(tmp_path / value))
        assert read_mnist("test").digest == named.digest
        assert (read_mnist().pixels[:, 0] == array((5, 28, 28))).all()
    assert "train-images-idx3-ubyte.gz" in message(lambda: read_mnist(folder=tmp_path))
    assert "one of train, test" in message(lambda: read_mnist("validation"))


def test_mnist_is_fetched_once_and_only_if_it_is_the_published_one(no_mnist, tmp_path, monkeypatch):
    asked = []

    def mirror(url, timeout):
        asked.append(url)
        if "ossci" in url:
            return io.BytesIO(gzip.compress(b"something else"))
        return io.BytesIO(gzip.compress(no_mnist[url.split("/")[-1].removesuffix(".gz")]))

    monkeypatch.setattr(urllib.request, "urlopen", mirror)
    first = read_mnist()
    assert (first.pixels[:, 0] == array((5, 28, 28))).all()
    assert len(asked) == 4
    assert read_mnist().digest == first.digest
    assert len(asked) == 4
    cache = tmp_path / "home" / ".cache" / "scorefield" / "mnist"
    assert sorted(path.name for path in cache.iterdir()) == ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"]


def test_without_a_network_the_message_says_where_files_go(no_mnist, monkeypatch):
    def down(url, timeout):
        raise OSError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", down)
    text = message(read_mnist)
    for fragment in ("train-images-idx3-ubyte.gz", "Name or service not known", "SCOREFIELD_DATA", ".cache/scorefield"):
        assert fragment in text


@pytest.mark.skipif(mnist.VARIABLE not in os.environ, reason="needs MNIST in a folder")
def test_the_published_files_have_the_digests_that_we_know():
    for name, digest in mnist.DIGESTS.items():
        place = os.environ[mnist.VARIABLE]
        path = mnist.spelled(mnist.Path(place), name) or mnist.spelled(mnist.Path(place) / "mnist", name)
        assert mnist.hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest() == digest
    train = read_mnist()
    assert train.pixels.shape == (60_000, 1, 28, 28)
    assert np.bincount(train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


# Folders of pictures


def test_png_is_read_to_the_bit(tmp_path):
    grey, colour = array((3, 6, 5)), array((3, 6, 5, 3))
    found = read_images(write_folder(tmp_path / "grey", grey))
    assert (found.pixels[:, 0] == grey).all()
    assert (found.layout, found.labels, found.notes) == ("HW", None, [])
    found = read_images(write_folder(tmp_path / "colour", colour))
    assert (found.pixels == channels_first(colour, "HWC")).all()
    assert found.layout == "HWC"
    assert found.pixels.flags.c_contiguous


def test_all_65536_levels_of_a_16_bit_picture_are_kept(tmp_path):
    levels = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    write_png(tmp_path / "f" / "a.png", levels)
    found = read_images(tmp_path / "f").pixels
    assert found.dtype == np.uint16
    assert (found[0, 0] == levels).all()


def test_jpeg_and_every_spelling_of_the_ending(tmp_path):
    levels = np.full((8, 8), 77, "uint8")
    for name in ("a.jpg", "b.jpeg", "c.JPG", "d.PNG", "e.Jpeg"):
        write_png(tmp_path / "f" / name, levels, format="PNG" if name.endswith("PNG") else "JPEG", quality=95)
    (tmp_path / "f" / "g.jpg").write_bytes((tmp_path / "f" / "d.PNG").read_bytes())  # content decides
    assert (read_images(tmp_path / "f").pixels == 77).all()
    assert len(read_images(tmp_path / "f").pixels) == 6


def test_palettes_bits_and_opacity_are_read_exactly(tmp_path):
    grey, colour = array((6, 5)), array((6, 5, 3))
    few = np.array([[10, 20, 30], [200, 0, 7], [9, 9, 9]], "uint8")[array((6, 5)) % 3]
    opaque = np.concatenate([colour, array((6, 5, 1), seed=4)], axis=2)
    made = {
        "bits": (Image.fromarray(grey > 99), np.where(grey > 99, 255, 0)[None]),
        "grey and opacity": (Image.fromarray(np.stack([grey, 255 - grey], 2), "LA"), grey[None]),
        "grey palette": (Image.fromarray(grey).convert("P"), grey[None]),
        "colour palette": (Image.fromarray(few).quantize(3), few.transpose(2, 0, 1)),
        "opacity": (Image.fromarray(opaque), colour.transpose(2, 0, 1)),
    }
    for name, (image, levels) in made.items():
        (tmp_path / name).mkdir()
        image.save(tmp_path / name / "a.png")
        found = read_images(tmp_path / name)
        assert found.pixels[0].tolist() == levels.tolist(), name
        assert ("1 pictures have a channel of opacity, which is left out" in "".join(found.notes)) == (
            "opacity" in name
        )


@pytest.mark.parametrize("kind", ["png", "jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_data_turn_a_picture_as_the_camera_was_held(orientation, kind, tmp_path):
    """Stored turned, with the tag that turns it back, a picture is the upright one (EXIF 2.3, table of orientations)."""
    upright = np.kron(np.array([[0, 80, 160], [240, 120, 40]], "uint8"), np.ones((8, 8), "uint8"))
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    write_png(tmp_path / "f" / f"a.{kind}", np.ascontiguousarray(stored), exif=exif, **{"quality": 95}.copy())
    write_png(tmp_path / "f" / f"b.{kind}", upright)
    found = read_images(tmp_path / "f").pixels
    assert found.shape == (2, 1, 16, 24)
    assert np.abs(found[0, 0].astype(int) - upright).max() <= (0 if kind == "png" else 6)


def test_of_a_file_with_several_pictures_the_first_is_read_and_noted(tmp_path):
    views = [Image.new("RGB", (8, 8), (level,) * 3) for level in (40, 200)]
    (tmp_path / "f").mkdir()
    views[0].save(tmp_path / "f" / "a.jpg", "MPO", save_all=True, append_images=views[1:])
    found = read_images(tmp_path / "f")
    assert (found.pixels == 40).all()
    assert "of 1 files with several pictures the first is read" in found.notes[0]


def test_grey_among_colour_becomes_colour_without_loss_and_is_noted(tmp_path):
    grey, colour = array((2, 6, 5)), array((3, 6, 5, 3))
    write_folder(tmp_path / "f", grey)
    write_folder(tmp_path / "f", colour, start=2)
    found = read_images(tmp_path / "f")
    assert (found.pixels[:2] == grey[:, None].repeat(3, axis=1)).all()
    assert (found.pixels[2:] == channels_first(colour, "HWC")).all()
    assert "2 grey pictures are read as colour, as 3 others have it" in found.notes[0]


@pytest.mark.parametrize("case", PICTURES)
def test_one_bad_picture_among_many_is_named_or_left_out_and_counted(case, tmp_path):
    make, fragments = PICTURES[case]
    images = array((5, 6, 5))
    write_png(tmp_path / "outside.png", images[0])
    write_folder(tmp_path / "f", images)
    bad = tmp_path / "f" / "002b.png"
    make(bad)
    text = message(lambda: read_images(tmp_path / "f"))
    assert not [fragment for fragment in [str(bad), *fragments] if fragment not in text], text
    found = read_images(tmp_path / "f", skip_bad=True)
    assert (found.pixels[:, 0] == images).all()
    assert "1 bad pictures are left out: 002b.png" in found.notes[0]
    for path in (tmp_path / "f").glob("00?.png"):
        path.unlink()
    message(lambda: read_images(tmp_path / "f", skip_bad=True))


def test_labels_stay_with_their_pictures_where_bad_ones_are_left_out(tmp_path):
    for i, name in enumerate(["b", "a", "b", "c", "a"]):
        write_png(tmp_path / "f" / name / f"{i}.png", np.full((4, 4), i, "uint8"))
    truncated(tmp_path / "f" / "b" / "00.png", (4, 4))
    truncated(tmp_path / "f" / "a" / "3.png", (4, 4))
    found = read_images(tmp_path / "f", skip_bad=True)
    assert found.pixels[:, 0, 0, 0].tolist() == [1, 4, 0, 2, 3]
    assert [found.classes[i] for i in found.labels] == ["a", "a", "b", "b", "c"]


def test_other_files_and_hidden_ones_are_counted_and_links_inside_are_read(tmp_path):
    images = array((3, 6, 5))
    folder = write_folder(tmp_path / "f", images)
    for name in ("notes.txt", ".hidden.png", "._001.png", "Thumbs.db", "a.gif"):
        (folder / name).write_bytes(b"no picture")
    (folder / ".git").mkdir()
    (folder / "empty.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "003.png").symlink_to(folder / "000.png")
    found = read_images(folder)
    assert (found.pixels[:, 0] == images[[0, 1, 2, 0]]).all()
    assert found.notes == [f"{folder}: 7 other files are not read: hidden, or neither .png nor .jpg"]


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_that_is_no_set_of_images_is_refused_even_if_bad_pictures_may_be_skipped(case, tmp_path):
    make, fragments = FOLDERS[case]
    make(tmp_path)
    for skip in (False, True):
        text = message(lambda skip=skip: read_images(tmp_path, skip_bad=skip))
        assert not [fragment for fragment in fragments if fragment not in text], text


def test_a_path_where_there_is_nothing_is_refused(tmp_path):
    assert "nothing" in message(lambda: read_images(tmp_path / "none"))


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


# Sizes


def test_crop_cuts_the_centre_of_files_and_arrays_alike(tmp_path):
    images = array((3, 7, 10))
    np.save(tmp_path / "a.npy", images)
    for source in (tmp_path / "a.npy", write_folder(tmp_path / "f", images)):
        assert (read_images(source, crop=(4, 5)).pixels[:, 0] == images[:, 1:5, 2:7]).all()
        assert (read_images(source, crop=(7, 10)).pixels[:, 0] == images).all()
        assert "at least 8 x 5 pixels" in message(lambda source=source: read_images(source, crop=(8, 5)))
    write_png(tmp_path / "f" / "9.png", array((6, 6)))
    assert read_images(tmp_path / "f", crop=(4, 5)).pixels.shape == (4, 1, 4, 5)
    assert "000.png" in message(lambda: read_images(tmp_path / "f", crop=(8, 5)))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int64", "float32", "float64"])
def test_resize_keeps_constants_and_its_own_size_and_averages_where_it_shrinks(dtype, tmp_path):
    images = np.stack([np.full((24, 24), 200), np.indices((24, 24)).sum(0) % 2 * 200, array((24, 24))]).astype(dtype)
    np.save(tmp_path / "a.npy", images)
    assert read_images(tmp_path / "a.npy", resize=(24, 24)).pixels.tobytes() == images.tobytes()
    small = read_images(tmp_path / "a.npy", resize=(6, 6)).pixels
    assert small.dtype == dtype
    assert np.allclose(small[0], 200, atol=1e-3)
    assert np.abs(small[1].astype(float) - 100).max() < 10  # without antialiasing 0 or 200
    assert abs(small[2].mean() - images[2].mean()) < 5
    assert small.astype(float).max() <= 256
    if dtype in {"uint16", "int64"}:
        np.save(tmp_path / "b.npy", images.astype("float32"))
        exact = read_images(tmp_path / "b.npy", resize=(6, 6)).pixels
        low, high = images.min((1, 2)), images.max((1, 2))
        assert (small == np.clip(np.rint(exact), low[:, None, None, None], high[:, None, None, None])).all()


def test_resize_covers_the_size_and_cuts_what_is_beyond_on_both_sides(tmp_path):
    wide = np.repeat(np.array([[0] * 10 + [50] * 10 + [100] * 10 + [0] * 10], "uint8"), 20, axis=0)
    write_png(tmp_path / "f" / "a.png", wide)
    write_png(tmp_path / "f" / "b.png", np.ascontiguousarray(wide.T))
    found = read_images(tmp_path / "f", resize=(10, 10)).pixels[:, 0]
    whole = np.asarray(Image.fromarray(wide).resize((20, 10), Image.Resampling.LANCZOS))
    assert found.shape == (2, 10, 10)
    assert (found[0] == whole[:, 5:15]).all()
    assert (found[1] == whole[:, 5:15].T).all()
    assert found[0, 5, [2, 7]].tolist() == [50, 99]
    both = read_images(tmp_path / "f", resize=(10, 10), crop=(4, 6)).pixels[:, 0]
    assert (both == found[:, 3:7, 2:8]).all()
    assert "height and a width" in message(lambda: read_images(tmp_path / "f", resize=(0, 3)))


# Digest, drawing, memory, fuzz


def test_the_digest_is_of_the_content_whatever_holds_it(tmp_path, monkeypatch):
    images, labels = array((12, 4, 4)), [str(i % 3) for i in range(12)]
    write_folder(tmp_path / "f", images)
    rows = "".join(f"{i:03d}.png,{label}\n" for i, label in enumerate(labels))
    (tmp_path / "l.csv").write_text("file,label\n" + rows)
    np.savez(tmp_path / "a.npz", X=images, y=np.array(labels))
    first = read_images(tmp_path / "f", labels=tmp_path / "l.csv")
    digests = [first.digest, read_images(tmp_path / "a.npz").digest, as_images(images[:, None], labels).digest]
    for path in (tmp_path / "f").iterdir():
        os.utime(path, (1, 1))
    scan = os.scandir

    class Backwards(list):
        __enter__, __exit__ = (lambda self: self), (lambda self, *_: None)

    monkeypatch.setattr(folders.os, "scandir", lambda path: Backwards(sorted(scan(path), key=lambda e: e.name)[::-1]))
    again = read_images(tmp_path / "f", labels=tmp_path / "l.csv")
    digests.append(again.digest)
    assert (again.pixels == first.pixels).all()
    assert len(set(digests)) == 1
    other = images.copy()
    other[3, 2, 1] ^= 1
    changed = [
        as_images(other[:, None], labels),
        as_images(images[:, None], labels[::-1]),
        as_images(images[:, None]),
        as_images(images[:, None].astype("uint16"), labels),
        as_images(images.reshape(12, 1, 2, 8), labels),
        as_images(images[:, None], [f"{label}x" for label in labels]),
    ]
    assert len({image.digest for image in changed} | set(digests)) == 7


@pytest.mark.parametrize("order", "CF")
def test_beyond_the_limit_images_are_drawn_evenly_in_order_with_their_labels(order, tmp_path, monkeypatch):
    """10 of 40 images, 200 times: each is kept 50 times of 200; chi-square, false alarm 1e-6, seeds fixed."""
    monkeypatch.setattr(arrays, "LIMIT", 10 * 12 + 11)
    images = np.broadcast_to(np.arange(40, dtype="uint8")[:, None, None], (40, 3, 4))
    np.savez(tmp_path / "a.npz", X=np.array(images, order=order), y=np.arange(40))
    counts = np.zeros(40)
    for seed in range(200):
        found = read_images(tmp_path / "a.npz", seed=seed)
        kept = found.pixels[:, 0, 0, 0]
        assert len(kept) == 10
        assert (np.diff(kept.astype(int)) > 0).all()
        assert (found.labels == kept).all()
        counts[kept] += 1
    assert "has 40 images; 10 of them, drawn at random" in found.notes[-1]
    # drawn without replacement the sum of squares is 30/39 of a chi-square's
    assert scipy.stats.chi2.sf(((counts - 50) ** 2 / 50).sum() * 40 / 30 * 39 / 40, 39) > 1e-6
    assert len(found.classes) == 40


def test_of_a_folder_names_are_drawn_and_only_those_read(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "LIMIT", 5 * 12)
    for i in range(20):
        write_png(tmp_path / "f" / "ab"[i % 2] / f"{i:02d}.png", np.full((3, 4), i, "uint8"))
    read = []
    decoded = folders._decoded
    monkeypatch.setattr(
        folders, "_decoded", lambda folder, name, *rest: (read.append(name), decoded(folder, name, *rest))[1]
    )
    found = read_images(tmp_path / "f", seed=3)
    kept = found.pixels[:, 0, 0, 0]
    assert len(read) == len(kept) == 5
    assert [f"{'ab'[i % 2]}/{i:02d}.png" for i in kept] == read == sorted(read)
    assert (found.labels == kept % 2).all()
    assert (read_images(tmp_path / "f", seed=3).pixels == found.pixels).all()
    assert (read_images(tmp_path / "f", seed=4).pixels != found.pixels).any()


def peak_of(action):
    tracemalloc.start()
    result = action()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return result, peak


def test_a_folder_takes_little_more_memory_than_its_pixels(tmp_path):
    image = array((64, 64, 3))
    write_png(tmp_path / "f" / "0000.png", image)
    for i in range(1, 600):
        os.link(tmp_path / "f" / "0000.png", tmp_path / "f" / f"{i:04d}.png")
    read_images(tmp_path / "f", crop=(1, 1))  # what is loaded once
    found, peak = peak_of(lambda: read_images(tmp_path / "f"))
    assert found.pixels.nbytes == 600 * 64 * 64 * 3
    assert peak < found.pixels.nbytes + 6e5


@pytest.mark.parametrize(("order", "blocks"), [("C", 3), ("F", 3)])
def test_an_array_takes_little_more_memory_than_its_pixels(order, blocks, tmp_path):
    images = np.asarray(array((1500, 32, 32, 3)), order=order)
    np.savez(tmp_path / "a.npz", X=images)
    found, peak = peak_of(lambda: read_images(tmp_path / "a.npz"))
    assert peak < found.pixels.nbytes + blocks * 2**20


@pytest.mark.parametrize("kind", ["a.png", "a.jpg", "a.npy", "a.npz", "images-idx3-ubyte", "images-idx3-ubyte.gz"])
def test_flipped_bits_and_cut_files_are_read_or_refused_and_nothing_else(kind, tmp_path):
    """150 damaged copies of a file each: a ValueError in one line, or images."""
    draw = np.random.default_rng(5)
    path = tmp_path / kind
    if kind == "a.npz":
        np.savez_compressed(path, X=IMAGES, y=np.arange(4))
    elif kind == "a.npy":
        np.save(path, IMAGES)
    elif "idx" in kind:
        path.write_bytes(gzip.compress(idx(IMAGES)) if kind.endswith("gz") else idx(IMAGES))
    else:
        write_png(path, array((9, 9, 3)))
    good = path.read_bytes()
    source = tmp_path if kind.endswith(("png", "jpg")) else path
    for _ in range(150):
        content = bytearray(good)
        for place in draw.integers(len(good), size=draw.integers(1, 5)):
            content[place] = draw.integers(256)
        path.write_bytes(content[: draw.integers(len(good)) if draw.random() < 0.2 else None])
        is_images(path)
        try:
            read_images(source)
        except ValueError as error:
            assert ": expected " in str(error), error  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017


def test_what_holds_images_is_told_from_tables_without_raising(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    np.save(tmp_path / "table.npy", np.eye(3))
    np.savez(tmp_path / "images.npz", X=IMAGES, y=np.arange(4))
    np.savez(tmp_path / "keras.npz", x_train=IMAGES, y_train=np.arange(4))
    np.savez(tmp_path / "table.npz", X=np.eye(3))
    np.savez(tmp_path / "two.npz", a=IMAGES, b=IMAGES)
    for name in ("a.csv", "a.txt", "broken.npy", "broken.npz", "a.parquet", "empty"):
        (tmp_path / name).write_bytes(b"\0\0\x08" if name == "a.txt" else b"")
    write_png(tmp_path / "a.PNG", IMAGES[0])
    (tmp_path / "x").write_bytes(idx(IMAGES))
    os.mkfifo(tmp_path / "pipe")
    held = {path.name for path in tmp_path.iterdir() if is_images(path)}
    assert held == {"images.npy", "images.npz", "keras.npz", "a.PNG", "x"}
    assert is_images(str(tmp_path))
    assert not is_images(tmp_path / "nothing")
    assert not is_images("digits")


def test_reading_images_loads_no_pytorch():
    code = "import sys, scorefield.data; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
