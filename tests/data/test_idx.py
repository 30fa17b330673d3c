"""Files in the IDX format, those of MNIST among them, from a folder or fetched once."""

import gzip
import io
import os
import struct
import tracemalloc
import urllib.request
import zlib

import numpy as np
import pytest
from image_files import array, message

from scorefield.data import is_images, read_images, read_mnist
from scorefield.data.images import mnist
from scorefield.selftest.inputs import hostile
from scorefield.selftest.inputs.makers import IMAGES, idx

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
    for name in no_mnist:  # one of two files is as good as none
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.gz").write_bytes(gzip.compress(no_mnist[name]))
        part = "train" if "train" in name else "test"
        assert "a folder without them" in message(lambda part=part, name=name: read_mnist(part, tmp_path / name))
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
