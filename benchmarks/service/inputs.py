"""Texts and pictures of which no two are equal, so that no cache ever answers."""

import struct
from functools import cache

from benchmarks.pictures import photo

PICTURES = 32
THINGS = ("cat", "dog", "car", "tree", "house", "boat", "plate", "person")
LABELS = [f"a photo of a {thing}" for thing in THINGS]
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "white", "black")
SHAPES = ("circle", "square", "star", "triangle", "heart", "ring", "crescent", "cross")

_START, _COMMENT = b"\xff\xd8", b"\xff\xfe"


def text(number: int) -> str:
    """About ten words, as long as captions are."""
    colour, shape = COLOURS[number % 8], SHAPES[number // 8 % 8]
    return f"a photo of a {colour} {shape} next to another one, number {number}"


def picture(number: int) -> bytes:
    """A 640x480 JPEG of about 80 KB: one of a few, with a comment that nobody else has."""
    comment = str(number).encode()
    return _START + _COMMENT + struct.pack(">H", len(comment) + 2) + comment + _drawn(number % PICTURES)[2:]


@cache
def _drawn(seed: int) -> bytes:
    return photo(seed)


def draw_all() -> None:
    """Now, so that no measurement pays for it."""
    for seed in range(PICTURES):
        _drawn(seed)
