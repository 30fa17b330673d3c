"""Files as an accident or an attacker leaves them, and what must be said of each: tables, arrays, pictures, labels."""

import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image

from scorefield.selftest.inputs.makers import (
    IMAGES,
    ONES,
    animated,
    deep_colour,
    encrypted_npz,
    idx,
    levels,
    lying,
    npy,
    npz,
    npz_with_a_name_twice,
    parquet,
    png_of_size,
    truncated,
    write_folder,
    write_png,
    zipped,
    zipped_arrays,
)

_TALL = "x,y\n" + "1,2\n" * 5000  # more than one group of the size that the tests set

TABLES: dict[str, tuple[str, bytes, list[str]]] = {
    "empty file": ("a.csv", b"", ["a.csv", "empty"]),
    "empty parquet": ("a.parquet", b"", ["a.parquet", "empty"]),
    "blank lines only": ("a.csv", b"\n\n", ["a.csv", "blank lines only"]),
    "header only": ("a.csv", b"x,y\n", ["a.csv", "rows", "none"]),
    "unknown extension": ("a.xlsx", b"x,y\n1,2\n", ["a.xlsx", ".csv, .tsv, .parquet, .npy, .npz", "'.xlsx'"]),
    "no extension": ("a", b"x,y\n1,2\n", ["''"]),
    "ragged, short": ("a.csv", b"x,y\n1,2\n3\n", ["line 3", "2 cells", "got 1", "give every row"]),
    "ragged, long": ("a.csv", b"x,y\n1,2\n3,4,5\n", ["line 3", "2 cells", "got 3", "give every row"]),
    "ragged without header": ("a.csv", b"1,2\n3\n", ["line 2", "2 cells", "got 1"]),
    "comma at the end of a row": ("a.csv", b"x,y\n1,2,\n", ["line 2", "got 3", "separator at its end"]),
    "comma at the end of the header": ("a.csv", b"x,y,\n1,2,3\n", ["line 1", "column 3", "name"]),
    "index without a name": ("a.csv", b",x\n0,1\n1,2\n", ["line 1", "column 1", "index"]),
    "cell left empty": ("a.csv", b"x,y\n1,2\n3,\n", ["line 3", "'y'", "''", "missing", "or fill it"]),
    "NaN cell": ("a.csv", b"x,y\n1,2\nNaN,4\n", ["line 3", "'x'", "'NaN'", "missing", "or fill it"]),
    "NA cell": ("a.csv", b"x,y\n1,2\n3,NA\n", ["line 3", "'y'", "'NA'", "missing"]),
    "only missing cells": ("a.csv", b"x,y\n1,\n3,\n", ["line 2", "'y'", "missing", "--drop y"]),
    "Inf cell": ("a.csv", b"x,y\n1,2\n3,inf\n", ["line 3", "'y'", "finite", "'inf'"]),
    "-Inf cell": ("a.csv", b"x,y\n1,2\n-Infinity,4\n", ["line 3", "'x'", "finite", "'-Infinity'"]),
    "1e400": ("a.csv", b"x,y\n1,2\n3,1e400\n", ["line 3", "'y'", "finite", "'1e400'"]),
    "too large": ("a.csv", b"x,y\n1,2\n3,-2e150\n", ["line 3", "'y'", "1e+150", "'-2e150'", "rescale"]),
    "text cell": ("a.csv", b"x,y\n1,2\n3,four\n", ["line 3", "'y'", "text, 'four'", "remove the row"]),
    "text in a late row": ("a.csv", (_TALL + "1,z\n").encode(), ["line 5002", "'y'", "'z'", "remove the row"]),
    "NaN in a late row": ("a.csv", (_TALL + "nan,1\n").encode(), ["line 5002", "'x'", "missing"]),
    "ragged in a late row": ("a.csv", (_TALL + "1,2,3\n").encode(), ["line 5002", "2 cells", "got 3"]),
    "text column": ("a.csv", b"x,my y\n1,two\n3,four\n", ["line 2", "'my y'", "'two'", "--drop 'my y'"]),
    "date column": ("a.csv", b"x,day\n1,2024-01-31\n2,2024-02-01\n", ["'day'", "a date", "--drop day"]),
    "date and time": ("a.csv", b"x,day\n1,2024-01-31 10:00:00\n", ["'day'", "a date", "--drop day"]),
    "number among booleans": ("a.csv", b"x,b\n1,True\n2,0\n", ["line 3", "'b'", "True or False", "'0'"]),
    "boolean among numbers": ("a.csv", b"x,b\n1,0\n2,True\n", ["line 3", "'b'", "'True'"]),
    "Python's underscore": ("a.csv", b"x,y\n1,2\n3,1_000\n", ["line 3", "'y'", "'1_000'"]),
    "foreign digits": ("a.csv", "x,y\n1,2\n3,\u0664\n".encode(), ["line 3", "'y'", "text"]),
    "blank line in the middle": ("a.csv", b"x,y\n1,2\n\n3,4\n", ["line 3", "blank line"]),
    "blank line first": ("a.csv", b"\nx,y\n1,2\n", ["line 1", "blank line"]),
    "blank line in one column": ("a.csv", b"x\n1\n  \n3\n", ["line 3", "blank line"]),
    "duplicate header": ("a.csv", b"x,y,x\n1,2,3\n", ["a.csv", "'x' more than once"]),
    "UTF-16": ("a.csv", "x,y\n1,2\n".encode("utf-16"), ["UTF-8", "UTF-16"]),
    "UTF-16 without a mark": ("a.csv", "x,y\n1,2\n".encode("utf-16-le"), ["line 1", "NUL byte", "UTF-16"]),
    "Latin-1": ("a.csv", "x,y\n1,2\ngr\u00f6\u00dfe,2\n".encode("latin-1"), ["line 3", "UTF-8", "0xf6"]),
    "Latin-1 in a late row": ("a.csv", (_TALL + "\u00e9,2\n").encode("latin-1"), ["line 5002", "0xe9"]),
    "NUL byte": ("a.csv", b"x,y\n1,2\n3,\x004\n", ["line 3", "NUL byte"]),
    "NUL byte in a late row": ("a.csv", (_TALL + "1,2\x00\n").encode(), ["line 5002", "'y'", "NUL byte"]),
    "semicolons": ("a.csv", b"x;y\n1;2\n", ["semicolons", "save it with commas"]),
    "tabs": ("a.csv", b"x\ty\n1\t2\n", ["tabs", "save it with commas"]),
    "spaces": ("a.csv", b"x y\n1  2\n", ["spaces", "save it with commas"]),
    "commas in a tsv": ("a.tsv", b"x,y\n1,2\n", ["commas", "save it with tabs"]),
    "semicolons and decimal comma": ("a.csv", b"x;y\n1,5;2,5\n", ["line 2", "semicolons", "decimal points"]),
    "the same without header": ("a.csv", b"1,5;2,5\n3,5;4,5\n", ["semicolons", "decimal points"]),
    "decimal comma": ("a.csv", b'x,y\n"1,5","2,5"\n', ["line 2", "'1,5'", "decimal", "write 1.5"]),
    "decimal comma in a tsv": ("a.tsv", b"x\ty\n1,5\t2,5\n", ["line 2", "'1,5'", "decimal", "write 1.5"]),
    "quoted newline": ("a.csv", b'x,y\n1,2\n3,"4\n"\n5,6\n', ["line 3", "line break", "quotes"]),
    "newline in a name": ("a.csv", b'x,"y\nz"\n1,2\n', ["line 1", "line break", "quotes"]),
    "open quote": ("a.csv", b'x,y\n1,2\n3,"4\n5,6\n', ["line 3", "quotes"]),
    "text behind a quote": ("a.csv", b'x,y\n1,2\n3,"4"5\n', ["line 3", "quotes"]),
    "integer of 2^63": ("a.csv", b"x,y\n1,2\n3,9223372036854775808\n", ["line 3", "'y'", "2^63", "rescale"]),
    "the same among floats": ("a.csv", b"x\n1.5\n9223372036854775808\n", ["line 3", "'x'", "2^63"]),
    "complex cells": ("a.csv", b"x,z\n1,1+2j\n2,1j\n", ["'z'", "text", "'1+2j'"]),
    "too many columns": ("a.csv", b",".join([b"1"] * 10_001), ["line 1", "10,000", "10,001", "transpose"]),
    "gz renamed to csv": ("a.csv", b"\x1f\x8b\x08\x00rest", ["UTF-8", "gzip", "unpack"]),
    "xlsx renamed to csv": ("a.csv", b"PK\x03\x04rest", ["UTF-8", "zip archive or a spreadsheet"]),
    "parquet renamed to csv": ("a.csv", parquet([1, 2]), ["UTF-8", "Parquet"]),
    "npy renamed to tsv": ("a.tsv", npy(ONES), ["UTF-8", "numpy"]),
    "0-d": ("a.npy", npy(np.array(1.0)), ["a.npy", "2-d", "()"]),
    "3-d": ("a.npy", npy(np.ones((2, 3, 4))), ["2-d", "(2, 3, 4)", "reshape"]),
    "(0, d)": ("a.npy", npy(np.ones((0, 2))), ["at least one row", "(0, 2)"]),
    "(n, 0)": ("a.npy", npy(np.ones((2, 0))), ["one column", "(2, 0)"]),
    "NaN in an array": ("a.npy", npy(np.array([[1, 2], [3, np.nan]])), ["row 2", "'x2'", "missing"]),
    "Inf in float16": ("a.npy", npy(np.array([[1, 2], [-np.inf, 3]], "f2")), ["row 2", "'x1'", "-inf"]),
    "too large in an array": ("a.npy", npy(np.array([[1.0], [1e300]])), ["row 2", "'x1'", "1e+300"]),
    "complex array": ("a.npy", npy(np.ones((2, 2), complex)), ["complex128", "real and imaginary parts"]),
    "object array": ("a.npy", npy(np.array([[1, "a"]], object)), ["object"]),
    "string array": ("a.npy", npy(np.array([["1", "2"]])), ["'<U1'", "astype(float)"]),
    "date array": ("a.npy", npy(np.zeros((2, 2), "M8[D]")), ["datetime64[D]"]),
    "long doubles": ("a.npy", npy(np.ones((2, 2), np.longdouble)), ["64 bits", "astype(float)"]),
    "structured array": ("a.npy", npy(np.zeros(2, [("a", float), ("b", int)])), ["fields as columns"]),
    "uint64 of 2^63": ("a.npy", npy(np.array([[1], [2**63]], np.uint64)), ["row 2", "'x1'", "2^63"]),
    "truncated npy": ("a.npy", npy(ONES)[:-8], ["48 bytes", "got 40", "cut short"]),
    "npy cut in its header": ("a.npy", npy(ONES)[:40], ["header", "numpy.save"]),
    "bytes behind an npy": ("a.npy", npy(ONES) + b"12345678", ["48 bytes", "got 56"]),
    "header declares 4 TB": ("a.npy", lying((2**39, 1)), ["4,398,046,511,104 bytes", "got 16"]),
    "header declares 2^80 rows": ("a.npy", lying((2**80, 1)), ["bytes", "got 16"]),
    "header declares 10^8000 numbers": ("a.npy", lying((10**4000, 10**4000)), ["over 2^63 bytes", "got 16"]),
    "header in version 2 lies": ("a.npy", lying((10**6, 2), version=2), ["16,000,000 bytes", "got 16"]),
    "header declares fewer": ("a.npy", lying((1, 1)), ["8 bytes", "got 16"]),
    "header declares -1 rows": ("a.npy", lying((-1, 2)), ["at least one row", "(-1, 2)"]),
    "text renamed to npy": ("a.npy", b"x,y\n1,2\n", ["header", "numpy.save"]),
    "npz with other keys": ("a.npz", npz(train=ONES, test=ONES), ["train, test", "X, x or data"]),
    "npz with X and data": ("a.npz", npz(X=ONES, data=ONES), ["X, data"]),
    "npz of two sizes": ("a.npz", npz(a=ONES, b=np.ones((4, 2))), ["a, b"]),
    "npz without arrays": ("a.npz", npz(), ["none"]),
    "npz with an array twice": ("a.npz", npz_with_a_name_twice(), ["'X' more than once"]),
    "npz with objects": ("a.npz", npz(X=np.array([[1, "a"]], object)), ["object"]),
    "npz with a lying member": ("a.npz", zipped({"X.npy": lying((9, 2))}), ["144 bytes", "got 16"]),
    "npz bomb": ("a.npz", npz(True, X=np.zeros((10**5, 2))), ["100 times", "1,600,128", "numpy.savez"]),
    "npz, encrypted": ("a.npz", encrypted_npz(), ["as numpy writes it", "encrypted"]),
    "npz compressed otherwise": ("a.npz", zipped({"X.npy": npy(ONES)}, zipfile.ZIP_BZIP2), ["as numpy writes it"]),
    "damaged npz": ("a.npz", npz(X=ONES).replace(ONES.tobytes(), bytes(48)), ["CRC", "damaged"]),
    "truncated npz": ("a.npz", npz(X=ONES)[:-30], ["zip", "damaged"]),
    "null in parquet": ("a.parquet", parquet([1, 2], [1, None]), ["row 2", "'c1'", "null", "missing"]),
    "NaN in parquet": ("a.parquet", parquet([1.0, float("nan")]), ["row 2", "'c0'", "missing"]),
    "text in parquet": ("a.parquet", parquet([1], ["a"], names=["x", "s t"]), ["string", "--drop 's t'"]),
    "dates in parquet": ("a.parquet", parquet([1], [pd.Timestamp("2024-01-31")]), ["timestamp", "--drop c1"]),
    "lists in parquet": ("a.parquet", parquet([1], [[1, 2]]), ["'c1'", "list", "--drop c1"]),
    "structs in parquet": ("a.parquet", parquet([1], [{"a": 1}]), ["'c1'", "struct", "--drop c1"]),
    "only nulls in parquet": ("a.parquet", parquet([1], [None]), ["'c1'", "null", "--drop c1"]),
    "parquet without rows": ("a.parquet", parquet(pa.array([], pa.int64())), ["rows", "none"]),
    "parquet without columns": ("a.parquet", parquet(), ["columns", "none"]),
    "parquet with a name twice": ("a.parquet", parquet([1], [2], names=["x", "x"]), ["'x' more than once"]),
    "uint64 in parquet": ("a.parquet", parquet(pa.array([2**63], pa.uint64())), ["row 1", "'c0'", "2^63"]),
    "truncated parquet": ("a.parquet", parquet([1, 2])[:-10], ["a.parquet", "damaged"]),
    "text renamed to parquet": ("a.parquet", b"x,y\n1,2\n", ["a.parquet", "damaged"]),
}
"""Bad tables: the name of the file, its bytes, and what the refusal must say."""

SHAPES: dict[str, tuple[tuple[int, ...], list[str]]] = {
    "3 by 3 pixels, or a picture with channels": ((7, 3, 3), ["(7, 3, 3)", "--layout HW"]),
    "a single picture": ((28, 28, 3), ["(28, 28, 3)", "--layout HW", "array[None]"]),
    "three first and last": ((7, 3, 9, 3), ["HWC or CHW", "--layout HWC or CHW"]),
    "one first, three last": ((7, 1, 9, 3), ["HWC or CHW"]),
    "two channels": ((7, 9, 9, 2), ["1 or 3 channels", "opacity"]),
    "four channels": ((7, 4, 9, 9), ["1 or 3 channels", "opacity"]),
    "a table": ((7, 9), ["(n, height, width)", "reshape"]),
    "five directions": ((2, 3, 4, 4, 3), ["(n, height, width)", "reshape"]),
}
"""Shapes of arrays of images without one meaning, and what the refusal must say."""

ARRAYS: dict[str, tuple[str, bytes, list[str]]] = {
    "4 TB declared": ("a.npy", lying((10**6, 1000, 1000, 3), "|u1"), ["3,000,000,000,000 bytes", "cut short"]),
    "more digits than can be printed": ("a.npy", lying((10**400, 9, 9), "|u1"), ["over 2^63"]),
    "negative": ("a.npy", lying((-1, 4, 4), "|u1"), ["at least one row"]),
    "no image": ("a.npy", npy(np.zeros((0, 4, 4))), ["at least one row"]),
    "no pixel": ("a.npy", npy(np.zeros((4, 0, 4))), ["at least one row"]),
    "trailing bytes": ("a.npy", npy(IMAGES) + b"more", ["120 bytes", "124"]),
    "cut short": ("a.npy", npy(IMAGES)[:-3], ["120 bytes", "117"]),
    "no numpy file": ("a.npy", b"PNG or so", ["header of a numpy array"]),
    "empty file": ("a.npy", b"", ["header of a numpy array"]),
    "objects": ("a.npy", npy(np.array([[[None]]])), ["dtype 'object'"]),
    "complex": ("a.npy", npy(IMAGES + 1j), ["complex128"]),
    "text": ("a.npy", npy(IMAGES.astype(str)), ["booleans, integers or floats"]),
    "fields": ("a.npy", npy(np.zeros((2, 4, 4), [("a", int)])), ["booleans, integers or floats"]),
    "bomb": ("a.npz", zipped_arrays(X=npy(np.zeros((1000, 50, 50)))), ["at most 100 times"]),
    "two arrays of images": ("a.npz", zipped_arrays(a=npy(IMAGES), b=npy(IMAGES)), ["X, x or images", "a, b"]),
    "both X and x": ("a.npz", zipped_arrays(X=npy(IMAGES), x=npy(IMAGES)), ["one array of images"]),
    "no array": ("a.npz", zipped_arrays(), ["one array of images"]),
    "too few labels": ("a.npz", zipped_arrays(X=npy(IMAGES), y=npy(np.arange(3))), ["4 labels", "got 3"]),
    "labels as a table": ("a.npz", zipped_arrays(X=npy(IMAGES), y=npy(np.eye(4))), ["one direction", "(4, 4)"]),
    "measurements as labels": (
        "a.npz",
        zipped_arrays(X=npy(IMAGES), y=npy(np.array([1, 2, 0.5, 3]))),
        ["integers or names", "0.5 for image 3"],
    ),
    "objects as labels": (
        "a.npz",
        zipped_arrays(X=npy(IMAGES), y=npy(np.array(["a", None, "b", "c"], dtype=object))),
        ["dtype 'object'"],
    ),
    "no archive": ("a.npz", b"PK nothing", ["readable images"]),
    "a table": ("a.csv", b"x,y\n1,2\n", ["expected images", "'.csv'"]),
    "one picture": ("a.png", b"", ["a folder of pictures", "name its folder"]),
    "another kind": ("a.tiff", b"II*\0 and more", ["an IDX file", "49 49 2a 00"]),
}
"""Bad arrays of images: the name of the file, its bytes, and what the refusal must say."""

_IDX = idx(IMAGES)

IDX: dict[str, tuple[bytes, list[str]]] = {
    "wrong magic": (b"\1" + _IDX[1:], ["an IDX file", "01 00 08 03"]),
    "unknown type": (b"\0\0\7\3" + _IDX[4:], ["an IDX file", "00 00 07 03"]),
    "no direction": (b"\0\0\x08\0", ["an IDX file"]),
    "empty": (b"", ["an IDX file", "none"]),
    "cut in the sizes": (_IDX[:10], ["3 sizes of 4 bytes", "6 bytes"]),
    "claims more": (_IDX[:4] + b"\xff" * 4 + _IDX[8:], ["128,849,018,866 bytes", "got 136"]),
    "claims nothing": (_IDX[:4] + bytes(4) + _IDX[8:], ["at least one number"]),
    "trailing bytes": (_IDX + b"x", ["136 bytes", "137"]),
    "labels as images": (idx(np.zeros(9, "u1")), ["(n, height, width)", "(9,)"]),
    "packed, claims more": (gzip.compress(_IDX[:4] + b"\xff" * 4 + _IDX[8:]), ["at most 16,777,216 bytes"]),
    "packed, ends early": (gzip.compress(_IDX[:-1]), ["ends early"]),
    "packed, trailing bytes": (gzip.compress(_IDX + b"x"), ["no more bytes than its header declares"]),
    "packed, cut short": (gzip.compress(_IDX)[:-9], ["end-of-stream"]),
    "packed, damaged": (gzip.compress(_IDX)[:-8] + bytes(8), ["CRC"]),
}
"""Bad IDX files and what the refusal must say."""


def _flat_and_nested(folder: Path) -> None:
    write_folder(folder / "a", IMAGES)
    write_png(folder / "x.png", IMAGES[0])


def _size_differs(folder: Path) -> None:
    write_folder(folder, IMAGES)
    write_png(folder / "002x.png", np.ascontiguousarray(IMAGES[0].T))


def _depth_differs(folder: Path) -> None:
    write_folder(folder, IMAGES)
    write_png(folder / "002x.png", IMAGES[0].astype(np.uint16))


PICTURES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "truncated": (truncated, ["readable PNG or JPEG", "--skip-bad"]),
    "zero bytes": (lambda path: path.write_bytes(b""), ["readable PNG or JPEG", "cannot identify"]),
    "another kind": (lambda path: path.write_bytes(b"GIF89a and so on"), ["readable PNG or JPEG"]),
    "a TIFF": (lambda path: Image.fromarray(levels((6, 5))).save(path, "TIFF"), ["readable PNG or JPEG"]),
    "animated": (animated, ["one picture", "an animation", "one frame"]),
    "CMYK": (lambda path: Image.new("CMYK", (5, 6)).save(path, "JPEG"), ["'CMYK'", "convert it to RGB"]),
    "16 bits in colour": (lambda path: path.write_bytes(deep_colour()), ["16 bits", "uint16"]),
    "200 million pixels": (
        lambda path: path.write_bytes(png_of_size(20_000, 10_000, 8, 0)),
        ["at most 89,478,485 pixels"],
    ),
    "100 million pixels": (
        lambda path: path.write_bytes(png_of_size(10_000, 10_000, 8, 2)),
        ["at most 89,478,485 pixels"],
    ),
    "a link out": (lambda path: path.symlink_to(path.parent.parent / "outside.png"), ["inside the folder", "copy"]),
    "a link nowhere": (lambda path: path.symlink_to(path.parent / "nothing.png"), ["inside the folder"]),
    "a link to itself": (lambda path: path.symlink_to(path), ["inside the folder"]),
}
"""Pictures that are refused among good ones: what writes one, and what the refusal must say."""

FOLDERS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "empty": (lambda folder: None, ["PNG, JPEG or IDX", "an empty folder"]),
    "no picture": (lambda folder: (folder / "a.txt").write_text("a"), ["none among 1 other"]),
    "tables": (lambda folder: (folder / "a.csv").write_text("a"), ["name one of its files: a.csv"]),
    "flat and nested": (_flat_and_nested, ["both, 'x.png' and 'a/000.png'"]),
    "deeper": (lambda folder: write_folder(folder / "a" / "b", IMAGES), ["one level", "'a/b'", "name a sub-folder"]),
    "another size": (
        _size_differs,
        ["002x.png", "6 x 5 pixels (height x width), as '000.png'", "5 x 6 pixels", "--resize or --crop"],
    ),
    "another depth": (_depth_differs, ["002x.png", "8 bits, as '000.png'", "16 bits"]),
    "a name in two lines": (lambda folder: write_folder(folder / "a\nb", IMAGES), ["printable", r"'a\nb'"]),
}
"""Folders that are no set of images: what fills one, and what the refusal must say."""

LABELS: dict[str, tuple[str, str | bytes, list[str]]] = {
    "one missing": ("a.csv", "file,label\n000.png,1\n", ["a label for every image", "none for '001.png'"]),
    "one twice": ("a.csv", "file,label\n000.png,1\n000.png,2\n", ["line 3", "each file once"]),
    "no header": ("a.csv", "000.png,1\n", ["the columns file and label", "000.png, 1"]),
    "nothing": ("a.csv", "", ["the columns file and label", "none"]),
    "ragged": ("a.csv", "file,label\n000.png\n", ["line 2", "2 cells"]),
    "an empty label": ("a.csv", "file,label\n000.png,\n001.png,1\n", ["1 to 255 printable", "''"]),
    "a long label": ("a.csv", f"file,label\n000.png,{'x' * 300}\n001.png,1\n", ["1 to 255 printable"]),
    "an open quote": ("a.csv", 'file,label\n000.png,"1\n', ["a readable row"]),
    "no text": ("a.csv", b"\xff\xfe\0a", ["readable labels"]),
    "an array": ("a.npy", npy(np.arange(2)), [".csv or .tsv file with the columns file and label"]),
}
"""Labels that do not fit pictures 000.png and 001.png: file, content, and what the refusal must say."""
