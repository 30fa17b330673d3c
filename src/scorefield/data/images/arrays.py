"""Arrays of images: which direction is what, read in blocks, drawn, checked, brought to a size."""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from scorefield.data.images.labels import check_end
from scorefield.data.messages import cut, mistake
from scorefield.data.sources import LARGEST, rows_at_once
from scorefield.data.stored import Stored, numbers

LIMIT = 2**30
"""The most bytes of pixels that are kept in memory; of more images some are drawn."""

CHANNELS = (1, 3)
LAYOUTS = {"HW": "(n, height, width)", "HWC": "(n, height, width, channels)", "CHW": "(n, channels, height, width)"}
"""The order of the directions of an image in an array, and the shape of the array."""


class Shape(NamedTuple):
    """The size that is asked for: resize covers a size and cuts what is beyond it, crop cuts without scaling."""

    resize: tuple[int, int] | None
    crop: tuple[int, int] | None

    def of(self, height: int, width: int, where: str) -> tuple[int, int]:
        """Return the size that an image of height x width gets. Raises ValueError if it is smaller than its crop."""
        height, width = self.resize or (height, width)
        if self.crop is not None and (height < self.crop[0] or width < self.crop[1]):
            expected = f"at least {pixels(*self.crop)}, the size to cut to"
            raise mistake(where, expected, pixels(height, width), "scale the images with --resize")
        return self.crop or (height, width)

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Return an image (channels, height, width) in the size asked for."""
        if self.resize is not None and image.shape[1:] != self.resize:
            image = np.stack([_scaled(channel, *self.resize) for channel in image])
        if self.crop is not None:
            top, left = (image.shape[1] - self.crop[0]) // 2, (image.shape[2] - self.crop[1]) // 2
            image = image[:, top : top + self.crop[0], left : left + self.crop[1]]
        return image


def pixels(height: int, width: int) -> str:
    """Return a size for a message."""
    return f"{height} x {width} pixels"


def drawn(n: int, size: int, where: str, seed: int) -> tuple[np.ndarray, list[str]]:
    """Return which of n images of so many bytes are kept, in order, and a note unless they are all.

    Each set of as many as LIMIT bytes hold is equally probable.
    """
    most = max(1, LIMIT // size)
    if n <= most:
        return np.arange(n), []
    rows = np.random.Generator(np.random.PCG64((seed, 1))).choice(n, most, replace=False)
    used = f"{most:,} of them, drawn at random, are used: more than {LIMIT:,} bytes of pixels are not kept in memory"
    return np.sort(rows), [f"{where} has {n:,} images; {used}"]


def find_layout(shape: tuple[int, ...], where: str, layout: str | None) -> str:
    """Return the layout of an array, as asked for or as its shape tells. Raises ValueError where it does not tell."""
    came = f"the shape {cut(str(shape))}"
    known = ", ".join(f"{name} {text}" for name, text in LAYOUTS.items())
    if layout is not None and layout not in LAYOUTS:
        raise mistake("layout", f"one of {known}", cut(layout))
    if len(shape) not in {3, 4}:
        raise mistake(where, f"images as {known}", came, "reshape the array")
    fits = ["HW"] if len(shape) == 3 else [name for name, at in (("HWC", 3), ("CHW", 1)) if shape[at] in CHANNELS]
    doubtful = len(fits) > 1 or (len(shape) == 3 and shape[2] in CHANNELS)
    if layout in fits:
        return layout
    if layout is not None or not fits:
        text = LAYOUTS[layout] if layout else f"{LAYOUTS['HWC']} or {LAYOUTS['CHW']}"
        remedy = "leave out channels of opacity; a single image needs a direction more, array[None]"
        raise mistake(where, f"{text} with 1 or 3 channels", came, remedy)
    if doubtful:
        several = " or ".join(fits) if len(fits) > 1 else "HW, or a single image with channels"
        remedy = f"say which with --layout {fits[0]}" + (f" or {fits[1]}" if len(fits) > 1 else "; or use array[None]")
        raise mistake(where, "a shape with one meaning", f"{came}, which may be {several}", remedy)
    return fits[0]


def read_array(stored: Stored, layout: str, rows: np.ndarray) -> np.ndarray:
    """Return images of an array, those at the positions rows, as (n, channels, height, width).

    Raises ValueError for numbers that are not finite or too large to be squared, with their place in the array.
    """
    n = len(rows)
    channels, height, width = event(stored.shape, layout)
    images = np.empty((n, channels, height, width), stored.dtype.newbyteorder("="))
    target = arranged(images, layout)
    (_fill_turned if stored.fortran else _fill)(stored, rows, target)
    check_finite(target, rows, stored.where)
    return images


def channels_first(array: np.ndarray, layout: str) -> np.ndarray:
    """Return images in a layout as (n, channels, height, width)."""
    if layout == "HW":
        return np.ascontiguousarray(array[:, None])
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2) if layout == "HWC" else array)


def event(shape: tuple[int, ...], layout: str) -> tuple[int, int, int]:
    """Return the channels, height and width of the images of an array."""
    if layout == "HW":
        return 1, shape[1], shape[2]
    return (shape[3], shape[1], shape[2]) if layout == "HWC" else (shape[1], shape[2], shape[3])


def arranged(images: np.ndarray, layout: str) -> np.ndarray:
    """Return images (n, channels, height, width) in a layout, as another view of the same numbers."""
    return {"HW": images[:, 0], "HWC": images.transpose(0, 2, 3, 1), "CHW": images}[layout]


def brought(images: np.ndarray, shape: Shape, where: str) -> np.ndarray:
    """Return images (n, channels, height, width) in the size asked for."""
    height, width = shape.of(images.shape[2], images.shape[3], where)
    if (height, width) == images.shape[2:]:
        return images
    result = np.empty((*images.shape[:2], height, width), images.dtype)
    for image, target in zip(images, result, strict=True):
        target[...] = shape.apply(image)
    return result


def _fill(stored: Stored, rows: np.ndarray, target: np.ndarray) -> None:
    n, step = stored.shape[0], rows_at_once(math.prod(stored.shape[1:]))
    with stored.opened() as file:
        file.read(stored.offset)
        for start in range(0, n, step):
            count = min(step, n - start)
            block = numbers(file, stored.dtype, count * math.prod(stored.shape[1:]))
            first, last = np.searchsorted(rows, [start, start + count])
            target[first:last] = block.reshape(count, *stored.shape[1:])[rows[first:last] - start]
        check_end(file.read(1), stored.where)  # there, archives and gzip compare checksums


def _fill_turned(stored: Stored, rows: np.ndarray, target: np.ndarray) -> None:
    """Read an array in Fortran's order, which is that of C with the directions turned round: the images come last."""
    turned = stored.shape[::-1]
    with stored.opened() as file:
        file.read(stored.offset)
        for part in target.T:
            slab = numbers(file, stored.dtype, math.prod(turned[1:])).reshape(turned[1:])
            part[...] = slab[..., rows]
        check_end(file.read(1), stored.where)


def check_finite(images: np.ndarray, rows: np.ndarray, where: str) -> None:
    """Refuse images with a number that is not finite or too large to be squared; rows are their places in the file."""
    if images.dtype.kind != "f":
        return
    step = rows_at_once(math.prod(images.shape[1:]))
    for start in range(0, len(images), step):
        block = images[start : start + step]
        bad = ~(np.abs(block, dtype=np.float64) <= LARGEST)
        if bad.any():
            place = np.unravel_index(int(bad.argmax()), bad.shape)
            index = ", ".join(str(int(i)) for i in (rows[start + place[0]], *place[1:]))
            came = str(block[place])
            remedy = "remove the image or mend it"
            raise mistake(f"{where}, at [{index}]", f"finite numbers up to {LARGEST:g}", came, remedy)


def _scaled(channel: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the centre of a channel, with the target's proportions, resampled with antialiasing (Lanczos)."""
    rows, columns = channel.shape
    scale = max(height / rows, width / columns)
    tall, wide = min(rows, height / scale), min(columns, width / scale)
    box = ((columns - wide) / 2, (rows - tall) / 2, (columns + wide) / 2, (rows + tall) / 2)
    dtype = channel.dtype
    source = np.ascontiguousarray(channel if dtype == np.uint8 else channel.astype(np.float32))
    result = np.asarray(Image.fromarray(source).resize((width, height), Image.Resampling.LANCZOS, box))
    if dtype.kind == "b":
        return result >= 0.5
    if dtype.kind in "iu" and dtype != np.uint8:
        result = np.clip(np.rint(result), float(channel.min()), float(channel.max()))
    return result.astype(dtype, copy=False)
