"""Encoded pictures of every kind that strangers send, made on the spot."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def scene(width: int = 160, height: int = 120, seed: int = 0) -> Image.Image:
    """Smooth colours with edges and some noise: no two corners alike, so that turns are seen."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    red, green = 255 * x / max(width - 1, 1), 255 * y / max(height - 1, 1)
    blue = np.where((x // 16 + y // 16) % 2 == 0, 220, 30)
    noisy = np.stack([red, green, blue], axis=-1) + draw.normal(0, 8, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A whole PNG in form, whose header claims any size, and which holds almost no pixels."""
    return _png(width, height, 8, b"\0")


def png_16_bit(pixels: np.ndarray) -> bytes:
    """uint16 [H, W, 3] as a colour PNG, which Pillow cannot write."""
    rows = b"".join(b"\0" + row.tobytes() for row in pixels.astype(">u2"))
    return _png(pixels.shape[1], pixels.shape[0], 16, rows)


def _png(width: int, height: int, bits: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def with_orientation(image: Image.Image, format: str, orientation: int, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, format, exif=exif, **options)
