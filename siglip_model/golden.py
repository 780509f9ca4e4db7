"""Vectors that a checkpoint must give for two known inputs, stored beside its weights.

Whoever serves it can tell at any time that what computes is this model, and computes it rightly. The
inputs follow from the configuration alone, so that no tokenizer and no picture is needed.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from siglip_model.config import SiglipTextConfig, SiglipVisionConfig
from siglip_model.files import CheckpointError, read_json, write_json

FILE = "golden_vectors.json"
# Of 1 - cosine. float32 differs by 1e-7 between machines; bfloat16 from float32 by 1e-4.
TOLERANCE = {"float32": 1e-5, "float16": 1e-3, "bfloat16": 1e-2}

Vector = npt.NDArray[np.float32]


def text_row(config: SiglipTextConfig) -> npt.NDArray[np.int32]:
    """int32 [text_length]: ids from all over the vocabulary."""
    places = np.arange(config.max_position_embeddings, dtype=np.int64)
    return ((places * 7919 + 11) % config.vocab_size).astype(np.int32)


def vision_row(config: SiglipVisionConfig) -> npt.NDArray[np.uint8]:
    """uint8 [3, H, W]: waves of other lengths and directions in each channel."""
    channels, size = config.num_channels, config.image_size
    channel, y, x = np.meshgrid(np.arange(channels), np.arange(size), np.arange(size), indexing="ij")
    waves = np.sin((x * (channel + 1) + y * (channels - channel)) * (8.0 / size))
    return np.round(127.5 + 127.5 * waves).astype(np.uint8)


def read_golden(folder: str | Path) -> dict[str, Vector]:
    """Unit vectors by tower, "text" and "vision"; none for a folder without. Raises CheckpointError."""
    path = Path(folder) / FILE
    if not path.is_file():
        return {}
    found = {}
    for tower in ("text", "vision"):
        vector = np.array(read_json(path).get(tower), dtype=object)
        if vector.ndim != 1 or not all(isinstance(number, float) for number in vector):
            raise CheckpointError(f"{path}: {tower} must be a list of numbers")
        found[tower] = vector.astype(np.float32)
    return found


def write_golden(folder: str | Path, vectors: Mapping[str, Vector]) -> None:
    numbers = {tower: [float(f"{number:.8g}") for number in vector] for tower, vector in vectors.items()}
    write_json(Path(folder) / FILE, numbers)


def distance(vector: Vector, golden: Vector) -> float:
    """1 - cosine of two unit vectors; 2 when they cannot be compared."""
    if vector.shape != golden.shape or not np.isfinite(vector).all():
        return 2.0
    return float(1 - vector.astype(np.float64) @ golden.astype(np.float64))
