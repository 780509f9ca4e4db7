"""Damaged settings of a checkpoint: one line that names the file, whatever is wrong with it."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from siglip_model import (
    AutoModel,
    AutoProcessor,
    CheckpointError,
    SiglipImageProcessor,
    SiglipImageProcessorFast,
    SiglipTokenizer,
)

DAMAGE: list[tuple[str, dict[str, Any]]] = [
    ("config.json", {"text_config": 5}),
    ("config.json", {"id2label": {"a": "b"}}),
    ("config.json", {"initializer_factor": "x"}),
    ("config.json", {"_check": 1}),
    ("config.json", {"to_dict": 3}),
    ("preprocessor_config.json", {"size": {"height": 0, "width": 5}}),
    ("preprocessor_config.json", {"size": {"height": 10**7, "width": 10**7}}),
    ("preprocessor_config.json", {"image_mean": [1]}),
    ("preprocessor_config.json", {"alpha": "x"}),
    ("tokenizer_config.json", {"model_max_length": "x"}),
    ("tokenizer_config.json", {"model_max_length": -1}),
    ("tokenizer_config.json", {"sp_model_kwargs": 5}),
    ("tokenizer_config.json", {"sp_model_kwargs": {"bad": 1}}),
    ("tokenizer_config.json", {"model_input_names": 5}),
    ("tokenizer_config.json", {"additional_special_tokens": 5}),
    ("tokenizer_config.json", {"added_tokens_decoder": 5}),
    ("tokenizer_config.json", {"added_tokens_decoder": {"x": {"content": "y"}}}),
]


@pytest.mark.parametrize(("name", "values"), DAMAGE, ids=str)
def test_damage_is_one_line(tiny: Path, tmp_path: Path, name: str, values: dict[str, Any]) -> None:
    folder = shutil.copytree(tiny, tmp_path / "copy")
    written = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(written | values))
    with pytest.raises(CheckpointError) as told:
        (AutoModel if name == "config.json" else AutoProcessor).from_pretrained(folder)
    assert str(folder) in str(told.value) and "\n" not in str(told.value)


def test_a_length_that_is_not_told_is_the_trained_one(tiny: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny, tmp_path / "copy")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": 1e30}))
    assert len(SiglipTokenizer.from_pretrained(folder)("a cat", padding="max_length").input_ids) == 64


@pytest.mark.parametrize("kind", [SiglipImageProcessor, SiglipImageProcessorFast])
def test_images_without_pixels(kind: type[SiglipImageProcessor]) -> None:
    for image in (Image.new("RGB", (0, 5)), np.zeros((0, 5, 3), np.uint8)):
        with pytest.raises(ValueError, match="has no pixels"):
            kind(size=8)(image)
    assert kind(size=8)([]).pixel_values == []
