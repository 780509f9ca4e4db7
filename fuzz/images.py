"""Encoded pictures: pixels of the asked size, or an ImageError."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from siglip_model.image_processing import ImageError, ImageLimits, decode

SIZE = (16, 24)
LIMITS = ImageLimits(max_bytes=1 << 20, max_pixels=1_000_000)
KINDS: list[tuple[str, str, dict[str, Any]]] = [
    ("JPEG", "RGB", {}),
    ("JPEG", "CMYK", {}),
    ("JPEG", "L", {"progressive": True}),
    ("PNG", "RGBA", {}),
    ("PNG", "P", {}),
    ("PNG", "1", {}),
    ("WebP", "RGBA", {}),
    ("GIF", "P", {}),
    ("BMP", "RGB", {}),
    ("TIFF", "RGB", {}),
    ("TIFF", "1", {"compression": "group4"}),
    ("TIFF", "RGB", {"compression": "tiff_lzw"}),
]


def seeds() -> Iterator[bytes]:
    draw = np.random.default_rng(0)
    picture = Image.fromarray(draw.integers(0, 256, (9, 13, 3), dtype=np.uint8))
    for kind, mode, options in KINDS:
        file = io.BytesIO()
        picture.convert(mode).save(file, kind, **options)
        yield file.getvalue()


def check(data: bytes) -> None:
    try:
        pixels = decode(data, LIMITS, SIZE)
    except ImageError as error:
        assert error.message and error.reason.startswith("IMAGE_")
    else:
        assert pixels.shape == (3, *SIZE) and pixels.dtype == np.uint8
