"""base-patch16-224 with random weights as a folder that can be served."""

import json
import shutil
from pathlib import Path

from benchmarks.model_sizes import SIZES, write_random

SIZE = "base-patch16-224"
TOKENIZER = ("spiece.model", "tokenizer_config.json", "special_tokens_map.json")
PROCESSOR = "preprocessor_config.json"


def write_large(folder: Path, like: Path) -> Path:
    """With the tokenizer of the checkpoint `like`, whose ids are within the vocabulary."""
    write_random(SIZE, folder)
    for name in TOKENIZER:
        shutil.copy(like / name, folder)
    processor = json.loads((like / PROCESSOR).read_text())
    side = SIZES[SIZE][1]["image_size"]
    (folder / PROCESSOR).write_text(json.dumps(processor | {"size": {"height": side, "width": side}}))
    return folder
