"""MNIST: from the user's folder, from our cache, or fetched once and checked."""

import gzip
import hashlib
import io
import os
from pathlib import Path

from scorefield.data.atomic import replacing
from scorefield.data.images.idx import spelled
from scorefield.data.images.reading import Images, read_images
from scorefield.data.messages import cut, mistake, show
from scorefield.data.sources import UNREADABLE

VARIABLE = "SCOREFIELD_DATA"
"""The environment variable that names a folder of data."""

PARTS = {"train": "train", "test": "t10k"}
"""The parts of MNIST, and how the names of their files begin."""

MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist")

DIGESTS = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
"""The SHA-256 of the files after unpacking, since mirrors pack them differently."""

LARGEST = 2**26
"""More bytes than any of the files has, packed or not."""

TIMEOUT = 30
"""Seconds that a mirror may be silent."""


def read_mnist(part: str = "train", folder: Path | None = None) -> Images:
    """Return MNIST's 60,000 images for training or its 10,000 for testing, with the digits as classes.

    The IDX files are those of the folder, else of the folder in the environment variable SCOREFIELD_DATA or its
    sub-folder mnist, else of ~/.cache/scorefield/mnist, to which they are fetched if they are not there; what is
    fetched is compared with the SHA-256 of the published files. Raises ValueError for another part, for a folder
    without the files, and if they cannot be fetched.
    """
    if part not in PARTS:
        raise mistake("the part of MNIST", f"one of {', '.join(PARTS)}", cut(part))
    images, labels = (f"{PARTS[part]}-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1"))
    given = os.environ.get(VARIABLE)
    places = [folder] if folder is not None else [Path(given), Path(given) / "mnist"] if given else []
    for place in places:
        found, beside = spelled(place, images), spelled(place, labels)
        if found is not None and beside is not None:
            return read_images(found, labels=beside)
    if folder is not None:
        raise mistake(show(folder), f"the files {images}.gz and {labels}.gz", "a folder without them", "name another")
    cache = Path.home() / ".cache" / "scorefield" / "mnist"
    return read_images(_cached(cache, images), labels=_cached(cache, labels))


def _cached(cache: Path, name: str) -> Path:
    """Return a file of the cache, fetched first if it is not there."""
    path = cache / f"{name}.gz"
    if path.exists():
        return path
    failures = []
    for mirror in MIRRORS:
        try:
            content = _fetched(f"{mirror}/{name}.gz", name)
        except (ValueError, *UNREADABLE) as error:
            failures.append(str(error))
            continue
        cache.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(content)
        return path
    remedy = f"put {name}.gz and the others of MNIST in a folder and name it in {VARIABLE}"
    came = f"an error: {cut('; '.join(dict.fromkeys(failures)), 200)}"
    raise mistake("mnist", f"{name}.gz in {show(cache)}, or a network to fetch it from", came, remedy)


def _fetched(url: str, name: str) -> bytes:
    """Return what is at an address. Raises ValueError if it is not the file that it should be."""
    import urllib.request

    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
        content = answer.read(LARGEST)
    with gzip.open(io.BytesIO(content)) as unpacked:
        digest = hashlib.sha256(unpacked.read(LARGEST)).hexdigest()
    if digest != DIGESTS[name]:
        raise mistake(url, f"the SHA-256 {DIGESTS[name]}", digest)
    return content
