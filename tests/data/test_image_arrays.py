"""Arrays of images in files: read to the bit in every layout and type, hostile ones refused in one line."""

import tracemalloc

import numpy as np
import pytest
from image_files import array, channels_first, message

from scorefield.data import read_images, sources
from scorefield.selftest.inputs.hostile import ARRAYS, SHAPES
from scorefield.selftest.inputs.makers import IMAGES, write_folder

LAYOUTS = {"HW": (5, 6, 4), "HWC": (5, 6, 4, 3), "CHW": (5, 3, 6, 4)}


TYPES = ["uint8", "uint16", "int64", "bool", "float16", "float32", "float64"]


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
