"""Bytes and folders as programs write them, as an accident leaves them, or as an attacker makes them."""

import io
import json
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from scorefield.runs.checkpoint import seal, sha256

ONES = np.ones((3, 2))


def npy(array: np.ndarray) -> bytes:
    """Return an array as numpy.save writes it; one of objects is a pickle."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(compressed: bool = False, /, **arrays: np.ndarray) -> bytes:
    """Return arrays as numpy.savez writes them."""
    file = io.BytesIO()
    save: Callable[..., None] = np.savez_compressed if compressed else np.savez
    save(file, **arrays)
    return file.getvalue()


def parquet(*columns: object, names: list[str] | None = None) -> bytes:
    """Return columns, called c0, c1, ... unless told, as a Parquet file."""
    file = pa.BufferOutputStream()
    names = names or [f"c{i}" for i in range(len(columns))]
    pq.write_table(pa.Table.from_arrays([pa.array(column) for column in columns], names=names), file)
    return file.getvalue().to_pybytes()


def lying(shape: tuple[int, ...], dtype: str = "<f8", version: int = 1) -> bytes:
    """Return a .npy file whose header declares any shape, with 16 bytes behind it."""
    file = io.BytesIO()
    write = np.lib.format.write_array_header_1_0 if version == 1 else np.lib.format.write_array_header_2_0
    write(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue() + bytes(16)


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip archive of members by name."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def zipped_arrays(**arrays: bytes) -> bytes:
    """Return .npy files as a compressed .npz archive."""
    return zipped({f"{name}.npy": content for name, content in arrays.items()}, zipfile.ZIP_DEFLATED)


def encrypted_npz() -> bytes:
    """Return a zip archive that says that its member is encrypted."""
    content = bytearray(zipped({"X.npy": npy(ONES)}))
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


def npz_with_a_name_twice() -> bytes:
    """Return an archive with two different arrays of one name."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("X.npy", npy(np.ones((2, 2))))
        archive.writestr("X.npy", npy(np.zeros((2, 2))))
    return file.getvalue()


def idx(values: np.ndarray, kind: int = 8) -> bytes:
    """Return an array as an IDX file of a type, 8 being bytes."""
    sizes = struct.pack(f">{values.ndim}I", *values.shape)
    return bytes([0, 0, kind, values.ndim]) + sizes + values.astype(values.dtype.newbyteorder(">")).tobytes()


def png_of_size(width: int, height: int, bits: int, colour: int, pixels: bytes = bytes(99)) -> bytes:
    """Return a PNG that declares a size and holds any pixels."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(pixels)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in parts)
    return b"\x89PNG\r\n\x1a\n" + body


def levels(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Return random pixels of bytes."""
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def write_png(path: Path, pixels: np.ndarray, **options: Any) -> Path:  # noqa: ANN401
    """Write a picture, and the folder that it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def write_folder(folder: Path, images: np.ndarray, start: int = 0) -> Path:
    """Write single pictures whose names have the order of the images."""
    for i, image in enumerate(images):
        write_png(folder / f"{start + i:03d}.png", image)
    return folder


IMAGES = levels((4, 6, 5))


def animated(path: Path) -> None:
    """Write a PNG of three frames."""
    frames = [Image.fromarray(levels((6, 5), seed=i)) for i in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def deep_colour() -> bytes:
    """Return a PNG of 16 bits in colour, which Pillow would cut to 8."""
    return png_of_size(5, 6, 16, 2, (b"\0" + bytes(5 * 3 * 2)) * 6)


def truncated(path: Path, shape: tuple[int, ...] = (6, 5)) -> None:
    """Write a PNG that is cut off."""
    write_png(path, levels(shape, seed=8))
    path.write_bytes(path.read_bytes()[:60])


def reseal(folder: Path, **changes: object) -> None:
    """Write the manifest of a checkpoint again with changes and with sums that fit, as an attacker could."""
    path = folder / "manifest.json"
    manifest = {key: value for key, value in json.loads(path.read_bytes()).items() if key != "digest"}
    manifest["files"] = {name: sha256((folder / name).read_bytes()) for name in manifest["files"]}
    path.write_bytes(seal(manifest | changes))
