"""Synthetic photographs: smooth colours, edges and grain, as hard to decode as real ones."""

import io

import numpy as np
from PIL import Image, ImageDraw


def photo(seed: int, width: int = 640, height: int = 480, quality: int = 90) -> bytes:
    """A JPEG of about 80 KB at the default size; other seeds give other pictures."""
    draw = np.random.default_rng(seed)
    coarse = Image.fromarray(draw.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    image = coarse.resize((width, height), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    for _ in range(12):
        x, y, radius = (int(draw.integers(low, high)) for low, high in ((0, width), (0, height), (10, 90)))
        colour = tuple(int(value) for value in draw.integers(0, 256, 3))
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), colour)
    grain = draw.normal(0, 6, (height, width, 1))
    pixels = np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=quality)
    return data.getvalue()
