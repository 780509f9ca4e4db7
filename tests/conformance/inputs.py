"""The folder of files that the cases send as images."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.pictures import png_header

SAMPLES = Path(__file__).parents[2] / "samples"
# Above what languages keep for a retry unless told otherwise (1 MiB at most), below MAX_IMAGE_BYTES.
LARGE_SIDE = 800
MAX_IMAGE_BYTES = 2_500_000


def write_inputs(folder: Path) -> Path:
    """The samples, and files that are hard to take."""
    folder.mkdir(parents=True, exist_ok=True)
    for sample in SAMPLES.glob("*.jpg"):
        shutil.copy(sample, folder)
    whole = (SAMPLES / "red-circle.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_bytes(b"this is a text, not a picture\n")
    (folder / "empty.jpg").write_bytes(b"")
    # 10 gigapixels by its header.
    (folder / "bomb.png").write_bytes(png_header(100_000, 100_000))
    (folder / "too-large.jpg").write_bytes(whole + bytes(MAX_IMAGE_BYTES))
    _noise(LARGE_SIDE).save(folder / "large.png")
    return folder


def _noise(side: int) -> Image.Image:
    """What no encoding makes smaller."""
    draw = np.random.default_rng(0)
    return Image.fromarray(draw.integers(0, 256, (side, side, 3), dtype=np.uint8))
