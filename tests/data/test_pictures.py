"""Folders of pictures: PNG and JPEG read to the bit, turned as held, bad ones named or left out and counted."""

import os

import numpy as np
import pytest
from image_files import array, channels_first, message
from PIL import Image

from scorefield.data import read_images
from scorefield.selftest.inputs.hostile import FOLDERS, PICTURES
from scorefield.selftest.inputs.makers import truncated, write_folder, write_png

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
