"""Rewrites a checkpoint of another tool, or a pickled one, as a folder in the Hugging Face layout."""

import shutil
from pathlib import Path
from typing import Any

from siglip_model.auto import AutoModel
from siglip_model.files import (
    CONFIG,
    PROCESSING_FILES,
    CheckpointError,
    read_json,
)
from siglip_model.image_processing import SiglipImageProcessor
from siglip_model.open_clip import import_open_clip

OPEN_CLIP_CONFIG = "open_clip_config.json"
FILTERS = {"nearest": 0, "bilinear": 2, "bicubic": 3}


def convert(source: str | Path, target: str | Path) -> None:
    """`source` is a folder of open_clip's, or one in the Hugging Face layout whose weights are a pickle.

    Tokenizer files are copied as they are. Raises CheckpointError.
    """
    source, target = Path(source), Path(target)
    if target.exists() and any(target.iterdir()):
        raise CheckpointError(f"{target} is not empty")
    if (source / OPEN_CLIP_CONFIG).is_file():
        model: Any = import_open_clip(source)
        model.save_pretrained(target)
        image_processor(source, model.config.vision_config.image_size).save_pretrained(target)
    elif (source / CONFIG).is_file():
        AutoModel.from_pretrained(source, torch_dtype="auto", use_safetensors=False).save_pretrained(target)
    else:
        raise CheckpointError(f"{source} has neither {OPEN_CLIP_CONFIG} nor {CONFIG}")
    for name in PROCESSING_FILES:
        if (source / name).is_file() and not (target / name).exists():
            shutil.copyfile(source / name, target / name)


def image_processor(source: Path, image_size: int) -> SiglipImageProcessor:
    """What open_clip's configuration says of pixels; SigLIP squashes pictures, and so must it."""
    values = read_json(source / OPEN_CLIP_CONFIG).get("preprocess_cfg") or {}
    mode = values.get("resize_mode", "squash")
    if mode != "squash":
        raise CheckpointError(f"{source / OPEN_CLIP_CONFIG}: resize_mode is {mode} and must be squash")
    half = [0.5, 0.5, 0.5]
    processor = SiglipImageProcessor(
        size={"height": image_size, "width": image_size},
        resample=FILTERS.get(values.get("interpolation", "bicubic"), FILTERS["bicubic"]),
        image_mean=values.get("mean", half),
        image_std=values.get("std", half),
    )
    processor.check_numbers()
    return processor
