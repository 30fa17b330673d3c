"""Images however they are stored: their size, digest, limit and memory, and damage to their files."""

import gzip
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import scipy.stats
from image_files import array, message
from PIL import Image

from scorefield.data import as_images, is_images, read_images
from scorefield.data.images import arrays, folders
from scorefield.selftest.inputs.makers import IMAGES, idx, write_folder, write_png

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
