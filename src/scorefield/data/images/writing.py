"""Images to files: one grid, single pictures or an array; written whole or not at all, with little memory."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from scorefield.data.atomic import check_place, replacing, replacing_folder
from scorefield.data.images.arrays import CHANNELS, LAYOUTS, arranged
from scorefield.data.images.labels import INTEGER, inert
from scorefield.data.messages import cut, mistake, show
from scorefield.data.sources import LARGEST
from scorefield.data.tables.writing import write_npy, write_npz

MOST = {".png": 1_024, "": 100_000}
"""The most images of a grid, which should still be seen, and of a folder, whose names have five digits."""

PADDING = 2
"""Pixels around each image of a grid, in a grey half-way between black and white."""

KINDS = "a name ending in .png (one grid), .npy or .npz (an array), or without an ending (a folder of single PNGs)"


def check_image_output(path: str | Path, force: bool, n: int = 1) -> None:
    """Raise ValueError if n images cannot be written to path, or if a file is there and force is not set."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in {"", ".png", ".npy", ".npz"}:
        raise mistake(show(path), KINDS, cut(path.suffix), "lossy kinds are not written")
    _check_number(n, suffix, show(path))
    check_place(path, force, folder=suffix == "")


def write_images(
    path: str | Path,
    blocks: Iterable[np.ndarray],
    layout: str,
    *,
    labels: np.ndarray | None = None,
    classes: Sequence[str] = (),
    limits: tuple[float, float] | None = None,
    force: bool = False,
) -> int:
    """Write blocks of images (n, channels, height, width) in the kind of the name, and return how many.

    A name ending in .png is one grid, row by row; one without an ending a new or empty folder of pictures 00000.png,
    ...; .npy and .npz an array in the layout, called X. labels, positions in classes, are written to labels.csv in the
    folder and as y in an .npz file; the others have no place for them. Pictures show limits, (black, white), in 8
    bits; without limits uint8, and uint16 in grey, are written as they are, and others refused. The output appears
    whole or not at all, and does not show how images were cut into blocks.
    Raises ValueError as `check_image_output`, and for blocks that do not fit together, numbers that are not finite
    and labels that do not fit; OSError, with the path and the reason, where the disk refuses.
    Long because four kinds of output share their checks and their count.
    """
    path = Path(path)
    where, suffix = show(path), path.suffix.lower()
    check_image_output(path, force)
    names = _names(labels, classes, where)
    if limits is not None and not limits[0] < limits[1]:
        raise mistake("limits", "black below white", f"{limits}")
    counter = _Counter()
    images = counter.passing(_checked(blocks, layout, suffix, where))
    if suffix == "":
        with replacing_folder(path) as folder:
            _write_pictures(folder, (_levels(block, limits, where) for block in images))
            _check_labels(names, counter.count, where)
            if names is not None:
                _write_labels(folder / "labels.csv", names)
        return counter.count
    with replacing(path) as file:
        if suffix == ".png":
            _save(file, _grid([_levels(block, limits, where) for block in images]))
        elif suffix == ".npy":
            write_npy(file, (arranged(block, layout) for block in images))
        else:
            others = {} if names is None else {"y": _stored_names(names, classes)}
            write_npz(file, (arranged(block, layout) for block in images), **others)
        _check_labels(names, counter.count, where)
    return counter.count


class _Counter:
    """How many images have passed."""

    def __init__(self) -> None:
        self.count = 0

    def passing(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for block in blocks:
            self.count += len(block)
            yield block


def _checked(blocks: Iterable[np.ndarray], layout: str, suffix: str, where: str) -> Iterator[np.ndarray]:
    """Yield blocks that fit together, hold finite numbers and are not too many."""
    first, count = None, 0
    for block in blocks:
        first = block if first is None else first
        if block.ndim != 4 or block.shape[1] not in CHANNELS or block.dtype.kind not in "biuf":
            came = f"{block.dtype} of shape {block.shape}"
            raise mistake(where, "blocks of numbers (n, channels, height, width) with 1 or 3 channels", came)
        if layout not in LAYOUTS or (layout == "HW" and block.shape[1] != 1):
            raise mistake(where, f"the layout {'HWC or CHW' if layout in LAYOUTS else ', '.join(LAYOUTS)}", cut(layout))
        if (block.shape[1:], block.dtype) != (first.shape[1:], first.dtype):
            expected = f"blocks of {first.dtype} and shape (n, {', '.join(map(str, first.shape[1:]))})"
            raise mistake(where, expected, f"{block.dtype} of shape {block.shape}")
        if block.dtype.kind == "f":
            finite = (np.abs(block, dtype=np.float64) <= LARGEST).all(axis=(1, 2, 3))
            if not finite.all():
                came = f"image {count + int(finite.argmin()) + 1} with others"
                raise mistake(where, f"finite numbers up to {LARGEST:g} to write", came)
        count += len(block)
        _check_number(count, suffix, where)
        yield block
    if first is None or (count == 0 and suffix in MOST):
        raise mistake(where, "at least one image", "none")


def _check_number(n: int, suffix: str, where: str) -> None:
    if suffix in MOST and n > MOST[suffix]:
        kind, other = ("on a grid", "a folder or an array, .npy") if suffix else ("in a folder", "an array, .npy")
        raise mistake(where, f"at most {MOST[suffix]:,} images {kind}", f"{n:,}", f"name {other}")


def _levels(block: np.ndarray, limits: tuple[float, float] | None, where: str) -> np.ndarray:
    """Return images (n, height, width, channels) in the levels of a picture."""
    block = block.transpose(0, 2, 3, 1)
    if limits is not None:
        black, white = limits
        return np.rint(np.clip((block.astype(np.float64) - black) * (255 / (white - black)), 0, 255)).astype(np.uint8)
    if block.dtype == np.uint8 or (block.dtype == np.uint16 and block.shape[3] == 1):
        return block
    remedy = "give limits, or name an array, .npy"
    raise mistake(where, "limits, the numbers of black and white", f"none for {block.dtype}", remedy)


def _grid(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """Return all images on one near-square grid, row by row."""
    images = np.concatenate(blocks)
    n, height, width, channels = images.shape
    columns = int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    tall, wide = height + PADDING, width + PADDING
    shape = (rows * tall + PADDING, columns * wide + PADDING, channels)
    canvas = np.full(shape, np.iinfo(images.dtype).max // 2 + 1, images.dtype)
    for i, image in enumerate(images):
        top, left = PADDING + i // columns * tall, PADDING + i % columns * wide
        canvas[top : top + height, left : left + width] = image
    return canvas


def _write_pictures(folder: Path, blocks: Iterable[np.ndarray]) -> None:
    number = 0
    for block in blocks:
        for image in block:
            with (folder / f"{number:05d}.png").open("xb") as file:
                _save(file, image)
            number += 1


def _save(file: IO[bytes], image: np.ndarray) -> None:
    """Write an image (height, width, channels) as PNG."""
    levels = image[:, :, 0] if image.shape[2] == 1 else image
    Image.fromarray(np.ascontiguousarray(levels)).save(file, "PNG")


def _names(labels: np.ndarray | None, classes: Sequence[str], where: str) -> list[str] | None:
    """Return the name of the class of each image."""
    if labels is None:
        return None
    if len(labels) and not (labels.min() >= 0 and labels.max() < len(classes)):
        came = f"{labels.min()} to {labels.max()}"
        raise mistake(where, f"labels that are positions in {len(classes)} classes", came)
    return [classes[i] for i in labels.tolist()]


def _check_labels(names: list[str] | None, count: int, where: str) -> None:
    if names is not None and len(names) != count:
        raise mistake(where, f"{count:,} labels, one for each image", f"{len(names):,}")


def _write_labels(path: Path, names: list[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", "label"])
        writer.writerows((f"{i:05d}.png", inert(name)) for i, name in enumerate(names))


def _stored_names(names: list[str], classes: Sequence[str]) -> np.ndarray:
    """Return names as an array of integers where all classes are, else of text."""
    whole = all(INTEGER.fullmatch(name) and str(int(name)) == name for name in classes)
    return np.array([int(name) for name in names], np.int64) if whole else np.array(names, dtype=str)
