"""One digest of all that decides a vector: weights, configuration, tokenizer, preprocessing."""

import hashlib
import json
from pathlib import Path
from typing import Any

from siglip_model.files import (
    CONFIG,
    TOKENIZER_CONFIG,
    TOKENIZER_JSON,
    VOCABULARY,
    damage_told,
    read_image_config,
    read_json,
    stored_tensors,
)

# Raise it whenever `decode` or `encode_batch` may give other numbers for the same input.
PREPROCESSING_VERSION = 1

# Written by tools, without effect on any number.
BOOKKEEPING = {
    "_name_or_path",
    "added_tokens_decoder",
    "architectures",
    "auto_map",
    "backend",
    "dtype",
    "image_processor_type",
    "processor_class",
    "tokenizer_class",
    "torch_dtype",
    "transformers_version",
}


def fingerprint(folder: str | Path) -> str:
    """Hexadecimal SHA-256, the same for one file or shards, and for any layout of the JSON.

    Reads every byte of the weights. Raises CheckpointError.
    """
    folder = Path(folder)
    with damage_told(folder):
        parts = {
            "preprocessing": PREPROCESSING_VERSION,
            "config": _without_bookkeeping(read_json(folder / CONFIG)),
            "tokenizer": _without_bookkeeping(read_json(folder / TOKENIZER_CONFIG)),
            "images": _without_bookkeeping(read_image_config(folder)),
            "vocabulary": _file_digest(folder / VOCABULARY),
            "weights": _weights_digest(folder),
        }
        if not parts["vocabulary"]:
            parts["tokenizer_json"] = _file_digest(folder / TOKENIZER_JSON)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _without_bookkeeping(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _without_bookkeeping(value) for key, value in values.items() if key not in BOOKKEEPING}
    return values


def _file_digest(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _weights_digest(folder: Path) -> str:
    """Names, types, shapes and bytes of all tensors in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(stored_tensors(folder).items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        for chunk in tensor.chunks():
            digest.update(chunk)
    return digest.hexdigest()
