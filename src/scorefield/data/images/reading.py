"""Images: from a folder of pictures, an array or IDX files, read strictly and fingerprinted."""

import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from scorefield.data.images.arrays import (
    LIMIT,
    Shape,
    brought,
    channels_first,
    check_finite,
    drawn,
    event,
    find_layout,
    read_array,
)
from scorefield.data.images.folders import SUFFIXES, Listing, list_pictures, read_pictures
from scorefield.data.images.idx import idx, images_in, is_idx, labels_beside
from scorefield.data.images.labels import Labels, classified, file_labels, read_labels, stored_labels
from scorefield.data.messages import cut, listed, mistake, show
from scorefield.data.sources import UNREADABLE, readable
from scorefield.data.stored import Stored, members, npy
from scorefield.data.tables.reading import READERS

__all__ = ["LIMIT", "Images", "as_images", "is_images", "read_images"]


@dataclass(frozen=True)
class Images:
    """Images of one size, their labels if they have any, and how they were stored.

    pixels (n, channels, height, width), in the type of the source; labels (n,), positions in classes; classes sorted,
    as numbers where all are integers; layout HW, HWC or CHW, in which an array of them is written; notes, one
    sentence each, what the reader had to decide; digest, SHA-256 of pixels and labels whatever files they came from.
    """

    pixels: np.ndarray
    labels: np.ndarray | None
    classes: tuple[str, ...]
    layout: str
    notes: list[str]
    digest: str

    def at(self, rows: np.ndarray) -> "Images":
        """Return the images at these positions, with their labels; the digest stays that of all."""
        labels = None if self.labels is None else self.labels[rows]
        return replace(self, pixels=self.pixels[rows], labels=labels)


def read_images(
    source: str | Path,
    *,
    labels: str | Path | None = None,
    layout: str | None = None,
    resize: tuple[int, int] | None = None,
    crop: tuple[int, int] | None = None,
    skip_bad: bool = False,
    seed: int = 0,
) -> Images:
    """Return the images of a folder of PNG and JPEG files, a .npy or .npz array, or an IDX file or folder.

    labels is a file: for a folder of pictures a table with the columns file and label, else .npy, a table of one
    column or IDX; without it labels are the names of sub-folders, y or labels of an .npz file, or the IDX file beside
    the images. layout says what the directions of an array are, where its shape is ambiguous. resize scales (height,
    width) so that an image covers the size and cuts what is beyond it on both sides; crop cuts the centre without
    scaling; both are done in this order. skip_bad leaves pictures out that cannot be read, and counts them.
    Of more than LIMIT bytes of pixels, images are drawn without replacement; which ones depends on their number and
    the seed. Raises ValueError, in one line that names the file, for whatever is not images of one size.
    """
    path, where, shape = Path(source), show(source), Shape(resize, crop)
    for name, size in (("resize", resize), ("crop", crop)):
        if size is not None and min(size) < 1:
            raise mistake(name, "a height and a width of at least 1", f"{size}")
    with readable(where, "readable images"):
        if not path.exists():
            raise mistake(where, "a folder, an array or an IDX file", "a path where there is nothing", "check the name")
        inside = images_in(path) if path.is_dir() else None
        if path.is_dir() and inside is None:
            if layout is not None:
                raise mistake("layout", "an array", f"{where}, a folder", "leave the option out")
            return _from_pictures(path, labels, shape, skip_bad, seed)
    path = inside or path
    with readable(show(path), "readable images"):
        return _from_array(path, labels, layout, shape, seed)


def as_images(
    images: np.ndarray, labels: Sequence[str] | np.ndarray | None = None, layout: str | None = None
) -> Images:
    """Return an array (n, H, W), (n, H, W, C) or (n, C, H, W), and labels that are names or integers, as Images.

    Raises ValueError as `read_images`, and for labels of another number.
    """
    if images.dtype.kind not in "buif":
        raise mistake("images", "numbers", f"the type {images.dtype}")
    layout = find_layout(images.shape, "images", layout)
    check_finite(images, np.arange(len(images)), "images")
    if labels is not None and len(labels) != len(images):
        raise mistake("labels", f"one for each of {len(images):,} images", f"{len(labels):,}")
    return _made(channels_first(images, layout), None if labels is None else classified(labels, "labels"), layout, [])


def is_images(source: str | Path) -> bool:
    """Return whether a path holds images rather than a table; what cannot be read, or is not there, does not.

    A folder, a picture and an IDX file do, and an array of three or four directions.
    """
    path = Path(source)
    try:
        if path.is_dir():
            return True
        suffix = path.suffix.lower()
        if not path.is_file() or suffix in SUFFIXES:
            return path.is_file()
        if suffix == ".npy":
            return len(npy(path).shape) in {3, 4}
        if suffix == ".npz":
            return len(_member(path, own=False)[0].shape) in {3, 4}
        return suffix not in READERS and is_idx(path)
    except (ValueError, *UNREADABLE):
        return False


def _from_pictures(folder: Path, labels: str | Path | None, shape: Shape, skip_bad: bool, seed: int) -> Images:
    where, listing = show(folder), list_pictures(folder)
    found, notes = _picture_labels(folder, listing, labels)
    images, rows, more = read_pictures(folder, listing, shape, skip_bad, seed)
    others = len(listing.others)
    if labels is not None and Path(labels).resolve().is_relative_to(folder.resolve()):
        others -= 1
    if others:
        notes.append(f"{where}: {others:,} other files are not read: hidden, or neither .png nor .jpg")
    kept = None if found is None else found._replace(positions=found.positions[rows])
    return _made(images, kept, "HW" if images.shape[1] == 1 else "HWC", notes + more)


def _picture_labels(folder: Path, listing: Listing, labels: str | Path | None) -> tuple[Labels | None, list[str]]:
    if labels is not None:
        names, notes = file_labels(Path(labels), listing.names)
        return classified(names, show(labels)), notes
    if not any("/" in name for name in listing.names):
        return None, []
    return classified([name.split("/")[0] for name in listing.names], show(folder)), []


def _from_array(path: Path, labels: str | Path | None, layout: str | None, shape: Shape, seed: int) -> Images:
    stored, beside, notes = _stored(path, own=labels is None)
    layout = find_layout(stored.shape, stored.where, layout)
    n, where = stored.shape[0], show(path)
    found = None
    if labels is not None:
        found = read_labels(Path(labels), n)
    elif beside is not None:
        found = classified(stored_labels(beside), beside.where)
        if len(found.positions) != n:
            raise mistake(beside.where, f"{n:,} labels, one for each image", f"{len(found.positions):,}")
    channels, height, width = event(stored.shape, layout)
    shape.of(height, width, where)
    rows, more = drawn(n, channels * height * width * stored.dtype.itemsize, where, seed)
    images = brought(read_array(stored, layout, rows), shape, where)
    kept = None if found is None else found._replace(positions=found.positions[rows])
    return _made(images, kept, layout, notes + more)


def _stored(path: Path, own: bool) -> tuple[Stored, Stored | None, list[str]]:
    """Return the array of images in a file, if asked for that of its own labels, in it or beside it, and notes."""
    suffix, where = path.suffix.lower(), show(path)
    if not path.is_file():
        raise mistake(where, "a regular file", "a device or a pipe", "save it to a file first")
    if suffix == ".npy":
        return npy(path), None, []
    if suffix == ".npz":
        return _member(path, own)
    if suffix in SUFFIXES:
        raise mistake(where, "a folder of pictures", "a single one", "name its folder")
    if suffix in READERS:
        raise mistake(where, "images", f"a table, {cut(suffix)}", "name a folder, an array or an IDX file")
    labels = labels_beside(path) if own else None
    notes = [] if labels is None else [f"{where}: the labels are those of {labels.name}"]
    return idx(path), None if labels is None else idx(labels), notes


def _member(path: Path, own: bool) -> tuple[Stored, Stored | None, list[str]]:
    """Return the images of an .npz file, X, x, images or the only ones, if asked for its y or labels, and notes."""
    found = members(path)
    images = [key for key in ("X", "x", "images") if key in found] or _of_images(path, found)
    labels = [key for key in ("y", "labels") if own and key in found]
    if len(images) != 1 or len(labels) > 1:
        expected = "one array of images, called X, x or images, and one of labels, called y or labels"
        raise mistake(
            show(path), expected, listed(list(found)) or "none", "save it again with numpy.savez(X=..., y=...)"
        )
    read = [*images, *labels]
    more = len(found) > len(read)
    notes = [f"{show(path)}: of the arrays {listed(list(found))}, {listed(read)} are read"] if more else []
    return npy(path, found[images[0]]), npy(path, found[labels[0]], "biufU") if labels else None, notes


def _of_images(path: Path, found: dict[str, zipfile.ZipInfo]) -> list[str]:
    """Return the arrays of an .npz file that have three or four directions; others may be of any type."""
    return [key for key, member in found.items() if len(npy(path, member, "biufUSMmcV").shape) in {3, 4}]


def _made(pixels: np.ndarray, labels: Labels | None, layout: str, notes: list[str]) -> Images:
    positions, classes = labels or (None, ())
    return Images(pixels, positions, classes, layout, notes, _digest(pixels, positions, classes))


def _digest(pixels: np.ndarray, labels: np.ndarray | None, classes: tuple[str, ...]) -> str:
    """Return the SHA-256 of images and labels, over their type, shape, classes and numbers."""
    dtype = pixels.dtype.newbyteorder("<")
    total = hashlib.sha256(json.dumps([dtype.str, pixels.shape, labels is not None, classes]).encode())
    total.update(np.ascontiguousarray(pixels, dtype).data)
    if labels is not None:
        total.update(np.ascontiguousarray(labels, "<i8").data)
    return total.hexdigest()
