"""What a picture would cost to decode, counted in its bytes without decoding or unpacking anything.

Where a file is made to be counted for ever, ValueError says what it has too much of.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Final

_MAX_SEGMENTS: Final = 10_000
_MAX_TAGS: Final = 4096

# Markers that a segment follows, and the end. Without a segment are 00 (an escaped ff), 01, the
# restarts d0 to d7 and the start d8; ff before a marker is filling.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]", re.DOTALL)
_SCAN, _END = 0xDA, 0xD9


class CountedReader(BytesIO):
    """A file of bytes that can be read a bounded number of times.

    Pillow's readers are Python: a file of very many tiny chunks, blocks or segments would keep the
    interpreter to itself for seconds.
    """

    def __init__(self, data: bytes, reads: int) -> None:
        super().__init__(data)
        self.reads_left = reads

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads_left -= 1
        if self.reads_left < 0:
            raise ValueError("it is cut into too many small parts")
        return super().read(size)


def jpeg_scans(data: bytes) -> int:
    """Scans up to the end marker: phones put films behind it, which hold any bytes."""
    scans, at = 0, 0
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(data, at)
        if found is None or found[0][1] == _END:
            return scans
        scans += found[0][1] == _SCAN
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    raise ValueError(f"it has more than {_MAX_SEGMENTS} segments")


_WIDTH, _HEIGHT, _COMPRESSION, _ROWS_PER_STRIP, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 259, 278, 322, 323
_JPEG_COMPRESSIONS = (6, 7)
# Of one tag, unless its values are single bytes: positions of strips, a colour table, a transfer curve.
_MAX_VALUES: Final = 200_000
_STRIP_OFFSETS, _TILE_OFFSETS = 273, 324
_BYTE_KINDS = (1, 2, 6, 7)
_UNSIGNED_SIZES = {1: 1, 3: 2, 4: 4, 16: 8}


@dataclass(frozen=True, slots=True)
class TiffShape:
    piece_pixels: int
    """Of one tile or strip, as declared: memory for a whole one is taken, however small the picture."""
    jpeg_scans: int
    """Of all pieces together; 0 where they are not JPEG."""


def tiff_shape(data: bytes) -> TiffShape:
    """How the first picture of a TIFF is cut up. A tag given twice counts with its larger value."""
    single: dict[int, int] = {}
    for tag, kind, count, value in _tiff_entries(data):
        wide = kind not in _BYTE_KINDS or tag in (_STRIP_OFFSETS, _TILE_OFFSETS)
        if wide and count > _MAX_VALUES:
            raise ValueError(f"tag {tag} has {count} values, at most {_MAX_VALUES} are read")
        if tag in (_TILE_WIDTH, _TILE_HEIGHT) and (count != 1 or kind not in _UNSIGNED_SIZES):
            raise ValueError(f"tag {tag}, a side of its tiles, is not one whole number")
        single[tag] = max(value, single.get(tag, 0))
    height = single.get(_HEIGHT, 0)
    strip = single.get(_WIDTH, 0) * min(single.get(_ROWS_PER_STRIP, height), height)
    tile = single.get(_TILE_WIDTH, 0) * single.get(_TILE_HEIGHT, 0)
    is_jpeg = single.get(_COMPRESSION) in _JPEG_COMPRESSIONS
    return TiffShape(max(strip, tile), data.count(b"\xff\xda") if is_jpeg else 0)


def _tiff_entries(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Tag, kind, count and first value, where it is unsigned and stored in the entry itself.

    The directory may lie anywhere; entries that the file lacks are left to the decoder to miss.
    """
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] == b"+\0"
    first, count, entry = ("Q", "Q", "HHQ8s") if big else ("L", "H", "HHL4s")
    (at,) = struct.unpack_from(order + first, data, 8 if big else 4)
    (entries,) = struct.unpack_from(order + count, data, at)
    if entries > _MAX_TAGS:
        raise ValueError(f"it has {entries} tags, at most {_MAX_TAGS} are read")
    at += struct.calcsize(order + count)
    size = struct.calcsize(order + entry)
    for start in range(at, min(at + entries * size, len(data) - size + 1), size):
        tag, kind, values, field = struct.unpack_from(order + entry, data, start)
        yield (
            tag,
            kind,
            values,
            int.from_bytes(field[: _UNSIGNED_SIZES.get(kind, 0)], "little" if order == "<" else "big"),
        )
