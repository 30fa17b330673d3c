"""What happens to the bytes of a run: damage, pieces of other files, and headers that lie."""

import json
import re

import numpy as np

Draw = np.random.Generator


def flipped(content: bytes, other: bytes, draw: Draw) -> bytes:
    """Flip up to eight bits."""
    changed = bytearray(content)
    for place in draw.integers(len(changed), size=draw.integers(1, 9)):
        changed[place] ^= 1 << int(draw.integers(8))
    return bytes(changed)


def cut(content: bytes, other: bytes, draw: Draw) -> bytes:
    """Cut the end off."""
    return content[: draw.integers(len(content))]


def zero_tail(content: bytes, other: bytes, draw: Draw) -> bytes:
    """Fill the end with zeros, as a power cut does."""
    place = int(draw.integers(len(content)))
    return content[:place] + bytes(len(content) - place)


def more(content: bytes, other: bytes, draw: Draw) -> bytes:
    """Put bytes in, or behind."""
    place = int(draw.integers(len(content) + 1)) if draw.random() < 0.7 else len(content)
    return content[:place] + draw.bytes(int(draw.integers(1, 17))) + content[place:]


def spliced(content: bytes, other: bytes, draw: Draw) -> bytes:
    """Write a piece of the same file, or of that of another run, over a place."""
    source = other if draw.random() < 0.5 else content
    size = int(draw.integers(1, max(2, len(source) // 2)))
    here, there = int(draw.integers(len(content))), int(draw.integers(max(1, len(source) - size)))
    return content[:here] + source[there : there + size] + content[here + size :]


def exchanged(content: bytes, other: bytes, draw: Draw) -> bytes:
    """Take the file of another run."""
    return other


def repeated(content: bytes, other: bytes, draw: Draw) -> bytes:
    """Repeat a line, and with it a key of JSON or TOML."""
    lines = content.splitlines(keepends=True)
    place = int(draw.integers(len(lines)))
    return b"".join([*lines[: place + 1], *lines[place:]])


def deep(content: bytes, other: bytes, draw: Draw) -> bytes:
    """Put brackets within brackets into the text."""
    opening, place = [b"[", b'{"a":'][draw.integers(2)], int(draw.integers(len(content)))
    return content[:place] + opening * int(draw.integers(100, 100_000)) + content[place:]


HUGE = [b"1e400", b"-1e400", b"9" * 400, b"9" * 5000, b"18446744073709551616", b"-1", b"0", b"1e-400", b"nan"]


def huge(content: bytes, other: bytes, draw: Draw) -> bytes:
    """Write a huge or an impossible number for one of the text, or put one in where there is none."""
    places = [match.span() for match in re.finditer(rb"\d+", content[:4096])] or [(0, 0)]
    first, last = places[draw.integers(len(places))]
    return content[:first] + HUGE[draw.integers(len(HUGE))] + content[last:]


CHANGES = [flipped, cut, zero_tail, more, spliced, exchanged, repeated, deep, huge]
"""What happens to bytes: each returns them changed; other are those of the same file in another run."""

LIES = 16
"""Kinds of lies; what the last says may be true by chance."""


def lying_entry(entry: dict, kind: int, other: list[int], far: int, draw: Draw) -> dict:
    """Return the entry of a tensor with a lie of kind 2 to 7; other: the place of another tensor."""
    first, last = entry["data_offsets"]
    if kind == 2:
        shapes = [[2**62, 2**62], [-1, 4], [2**40], [1.5], ["4"], [[4]], None, [0, 7]]
        return entry | {"shape": shapes[draw.integers(8)]}
    if kind == 3:
        return entry | {"shape": [*entry["shape"], 2]}
    if kind == 4:
        return entry | {"dtype": ["I128", "os.system", None, 4, "F4", ["F32"]][draw.integers(6)]}
    if kind == 5:
        return entry | {"data_offsets": [first, far]}
    if kind == 6:
        places = [[last + 1, first], [-1, last], [first, last, last], [first], None]
        return entry | {"data_offsets": places[draw.integers(5)]}
    return entry | {"data_offsets": other if other != [first, last] else [far, far + 4]}


def lying_header(header: dict, kind: int, name: str, end: int, draw: Draw) -> dict:
    """Return a header with a lie of kind 8 to 11 about the tensor of a name, or about a hole before the end."""
    if kind == 8:
        return header | {"hole": {"dtype": "F32", "shape": [1], "data_offsets": [end - 4, end]}}
    if kind == 11:
        return header | {"__metadata__": [{"a": {"b": 1}}, ["a"], 1, {"a": 1}][draw.integers(4)]}
    rest = {key: value for key, value in header.items() if key != name}
    return rest if kind == 9 else rest | {f"{name}_": header[name]}


def lying_text(text: str, kind: int, name: str, entry: dict, far: int, draw: Draw) -> str:
    """Return the text of a header with a lie of kind 12 to 15, which is no longer the JSON of a header."""
    if kind == 12:
        return text.rstrip()[:-1] + f',"{name}":{json.dumps(entry | {"data_offsets": [0, far]})}' + "}"
    if kind == 13:
        return '{"a":' * int(draw.integers(200, 50_000)) + "1" + "}"
    if kind == 14:
        return text.replace(str(entry["data_offsets"][1]), "9" * int(draw.integers(20, 5000)))
    return flipped(text.encode(), b"", draw).decode("latin-1")


def framed(text: str, payload: bytes) -> bytes:
    """Return a safetensors file of a header's text and what it tells of."""
    written = text.encode()
    return len(written).to_bytes(8, "little") + written + payload


def lie(content: bytes, kind: int, draw: Draw) -> bytes:
    """Return a safetensors file whose header lies about itself, its tensors or where they are."""
    size = int.from_bytes(content[:8], "little")
    text, payload = content[8 : 8 + size].decode(), content[8 + size :]
    header = json.loads(text)
    names = [name for name in header if name != "__metadata__"]
    name = names[draw.integers(len(names))]
    far = len(payload) + int(draw.integers(1, 2**40))
    if kind == 0:
        wrong = [size - 1, size + int(draw.integers(1, 99)), 0, 2**32, 2**63, 2**64 - 1][draw.integers(6)]
        return wrong.to_bytes(8, "little") + content[8:]
    if kind == 1:
        return content + draw.bytes(int(draw.integers(1, 99)))
    if kind >= 12:
        return framed(lying_text(text, kind, name, header[name], far, draw), payload)
    if kind < 8:
        header[name] = lying_entry(header[name], kind, header[names[0]]["data_offsets"], far, draw)
    else:
        payload += bytes(8) if kind == 8 else b""
        header = lying_header(header, kind, name, len(payload), draw)
    return framed(json.dumps(header), payload)
