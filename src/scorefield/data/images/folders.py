"""Folders of PNG and JPEG files: listed, judged by their headers, then read one after another into one array."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps

from scorefield.data.images.arrays import Shape, drawn, pixels
from scorefield.data.messages import cut, listed, mistake, show

SUFFIXES = (".png", ".jpg", ".jpeg")
DEEP = {"I", "I;16", "I;16B", "I;16L"}
"""The modes in which Pillow gives grey levels of 16 bits."""

MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", *DEEP}


class Listing(NamedTuple):
    """The pictures of a folder as sorted relative paths, those that are links out of it, and how much else there is."""

    names: list[str]
    outside: list[str]
    others: list[str]


class Pictures(NamedTuple):
    """Images (n, channels, height, width), which of the listed names they are, and what the user should know."""

    images: np.ndarray
    rows: np.ndarray
    notes: list[str]


class _Head(NamedTuple):
    """What the header of a picture says, after it is turned as its EXIF data ask."""

    height: int
    width: int
    colour: bool
    deep: bool
    alpha: bool
    several: bool


def list_pictures(folder: Path) -> Listing:
    """Return the pictures of a folder, either in it or in its sub-folders.

    Raises ValueError for both, for deeper folders, and if there are none.
    """
    listing, where = Listing([], [], []), show(folder)
    for entry in _entries(folder, folder, "", listing):
        for deeper in _entries(folder, Path(entry.path), f"{entry.name}/", listing):
            expected = "pictures, or one level of sub-folders with pictures"
            raise mistake(where, expected, f"the folder {cut(f'{entry.name}/{deeper.name}', 200)}", "name a sub-folder")
    for names in listing:
        names.sort()
    if not listing.names and not listing.outside:
        tables = [name for name in listing.others if name.endswith((".csv", ".tsv", ".parquet", ".npy", ".npz"))]
        came = f"none among {len(listing.others):,} other files" if listing.others else "an empty folder"
        remedy = f"name one of its files: {listed(tables)}" if tables else "name another folder"
        raise mistake(where, "PNG, JPEG or IDX files", came, remedy)
    nested = [name for name in listing.names if "/" in name]
    flat = [name for name in listing.names if "/" not in name]
    if nested and flat:
        came = f"both, {cut(flat[0], 200)} and {cut(nested[0], 200)}"
        raise mistake(where, "pictures or sub-folders of pictures", came, "move either away")
    return listing


def read_pictures(folder: Path, listing: Listing, shape: Shape, skip_bad: bool, seed: int) -> Pictures:
    """Return the pictures of a folder in one array; of more than LIMIT bytes, some are drawn before they are read.

    Every header is read first, so that most mistakes are found before the work begins. With skip_bad, pictures that
    cannot be read or are of a kind that is refused are left out and counted. Raises ValueError as `read_images`.
    """
    bad: dict[str, ValueError] = {name: _link_error(folder, name) for name in listing.outside}
    if bad and not skip_bad:
        raise next(iter(bad.values()))
    names, (channels, height, width), dtype, notes = _judged(folder, listing.names, shape, bad if skip_bad else None)
    rows, more = drawn(len(names), channels * height * width * dtype.itemsize, show(folder), seed)
    images = np.empty((len(rows), channels, height, width), dtype)
    kept: list[int] = []
    for row in rows.tolist():
        try:
            images[len(kept)] = _decoded(folder, names[row], images.shape[1:], shape)
            kept.append(row)
        except ValueError as error:
            if not skip_bad:
                raise
            bad[names[row]] = error
    if bad:
        notes.append(f"{show(folder)}: {len(bad):,} bad pictures are left out: {listed(sorted(bad))}")
    if not kept:
        raise next(iter(bad.values()))
    place = {name: i for i, name in enumerate(listing.names)}
    found = np.array([place[names[row]] for row in kept], np.int64)
    return Pictures(images[: len(kept)], found, notes + more)


def _entries(root: Path, folder: Path, prefix: str, listing: Listing) -> Iterator[os.DirEntry[str]]:
    """Put the files of a folder into the listing, and yield its folders. Hidden ones are not pictures."""
    with os.scandir(folder) as entries:
        for entry in entries:
            name = prefix + entry.name
            hidden, picture = entry.name.startswith("."), entry.name.lower().endswith(SUFFIXES)
            if entry.is_symlink() and not hidden and not _stays(root, Path(entry.path)):
                (listing.outside if picture or Path(entry.path).is_dir() else listing.others).append(name)
            elif hidden or not entry.is_dir():
                (listing.names if picture and not hidden and entry.is_file() else listing.others).append(name)
            else:
                yield entry


def _stays(root: Path, link: Path) -> bool:
    """Return whether a link leads to something inside the folder root."""
    return link.exists() and Path(os.path.realpath(link)).is_relative_to(root.resolve())


def _judged(
    folder: Path, names: Sequence[str], shape: Shape, bad: dict[str, ValueError] | None
) -> tuple[list[str], tuple[int, int, int], np.dtype, list[str]]:
    """Return the pictures that can be used, their channels, height and width together, their type, and notes."""
    good: list[str] = []
    first, alphas, several, colours, size = None, 0, 0, 0, (0, 0)
    for name in names:
        try:
            head = _head(folder, name)
        except ValueError as error:
            if bad is None:
                raise
            bad[name] = error
            continue
        own = shape.of(head.height, head.width, show(folder / name))
        if first is None:
            first, size = head, own
        _check_same(show(folder / name), good[0] if good else name, (own, head.deep), (size, first.deep))
        good.append(name)
        alphas, several, colours = alphas + head.alpha, several + head.several, colours + head.colour
    if first is None:
        raise next(iter((bad or {}).values()))
    where, notes = show(folder), []
    if 0 < colours < len(good):
        notes.append(
            f"{where}: {len(good) - colours:,} grey pictures are read as colour, as {colours:,} others have it"
        )
    if alphas:
        notes.append(f"{where}: {alphas:,} pictures have a channel of opacity, which is left out")
    if several:
        notes.append(f"{where}: of {several:,} files with several pictures the first is read")
    return good, (3 if colours else 1, *size), np.dtype(np.uint16 if first.deep else np.uint8), notes


def _check_same(where: str, model: str, own: tuple[tuple[int, int], bool], first: tuple[tuple[int, int], bool]) -> None:
    (size, deep), (wanted, wanted_deep) = own, first
    if size != wanted:
        remedy = "bring all to one size with --resize or --crop"
        raise mistake(where, f"{pixels(*wanted)} (height x width), as {cut(model, 200)}", pixels(*size), remedy)
    if deep != wanted_deep:
        kind = {False: "8 bits", True: "16 bits"}
        expected = f"levels of {kind[wanted_deep]}, as {cut(model, 200)}"
        raise mistake(where, expected, kind[deep], "save all with the same number of bits")


def _head(folder: Path, name: str) -> _Head:
    """Return what the header of a picture says. Raises ValueError for a kind that is refused."""
    path = folder / name
    where = show(path)
    with _guarded(where), path.open("rb") as file:
        start = file.read(26)
        with Image.open(file, formats=("PNG", "JPEG")) as image:
            mode, (width, height) = image.mode, image.size
            animated = image.format == "PNG" and getattr(image, "is_animated", False)
            several = image.format == "MPO"
            turned = "exif" in image.info and image.getexif().get(ExifTags.Base.Orientation, 1) in {5, 6, 7, 8}
            alpha = mode in {"LA", "PA", "RGBA"} or "transparency" in image.info
            colour = mode in {"RGB", "RGBA"} or (mode in {"P", "PA"} and _is_coloured(image.getpalette() or []))
    if animated:
        raise mistake(where, "one picture", "an animation", "save one frame")
    if start[:4] == b"\x89PNG" and start[24] == 16 and mode not in DEEP:
        expected = "16 bits in grey without opacity only"
        remedy = "save it with 8 bits, or all images as an array (.npy) of uint16"
        raise mistake(where, expected, "16 bits with colour or opacity", remedy)
    if mode not in MODES:
        remedy = "convert it to RGB with a program that knows its colours" if mode == "CMYK" else "convert it to RGB"
        raise mistake(where, "a picture in grey, RGB or a palette", cut(mode), remedy)
    height, width = (width, height) if turned else (height, width)
    return _Head(height, width, colour, mode in DEEP, alpha, several)


def _decoded(folder: Path, name: str, expected: tuple[int, ...], shape: Shape) -> np.ndarray:
    """Return a picture as (channels, height, width), turned as its EXIF data ask and brought to the size asked for."""
    where = show(folder / name)
    with _guarded(where), Image.open(folder / name, formats=("PNG", "JPEG")) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright.mode in DEEP:
            levels = np.asarray(upright).astype(np.uint16)[None]
        elif expected[0] == 1:
            levels = np.asarray(upright.convert("L"))[None]
        else:
            levels = np.asarray(upright.convert("RGB")).transpose(2, 0, 1)
    found = shape.apply(levels)
    if found.shape != expected:
        raise mistake(where, pixels(*expected[1:]), pixels(*found.shape[1:]), "its EXIF data turn it; save it upright")
    return found


@contextmanager
def _guarded(where: str) -> Iterator[None]:
    """Make a ValueError of whatever Pillow raises for a picture that is damaged, hostile or of another kind."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        came, remedy = "more, which may be meant to fill memory", "scale the picture down first"
        raise mistake(where, f"at most {Image.MAX_IMAGE_PIXELS:,} pixels in a picture", came, remedy) from error
    except Exception as error:  # the parsers of Pillow raise almost anything for a hostile file
        came, remedy = f"an error: {cut(str(error), 200)}", "remove it, or leave such files out with --skip-bad"
        raise mistake(where, "a readable PNG or JPEG", came, remedy) from error


def _is_coloured(palette: list[int]) -> bool:
    """Return whether a palette (red, green, blue, red, ...) has a colour that is not grey."""
    return palette[::3] != palette[1::3] or palette[::3] != palette[2::3]


def _link_error(folder: Path, name: str) -> ValueError:
    came = "a link that leads out of it or nowhere"
    return mistake(show(folder / name), "a file inside the folder", came, "copy the file into the folder")
