"""The installed transformers' models on the same files, and inputs for both."""

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from siglip_model import SiglipConfig

HIDDEN, EMBEDS, LOGITS = 2e-5, 1e-6, 5e-5  # float32, two implementations of the same arithmetic


def quiet_reference() -> None:
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def reference(folder: Path, attention: str = "eager", kind: str = "SiglipModel", **options: Any) -> Any:
    quiet_reference()
    found = getattr(transformers, kind)
    model = found.from_pretrained(folder, attn_implementation=attention, dtype=torch.float32, **options)
    return model.eval()


def inputs(config: SiglipConfig, texts: int = 3, images: int = 2, seed: int = 1) -> dict[str, Tensor]:
    """Token ids and pixels; the last text is half padding, which nobody masks."""
    draw = torch.Generator().manual_seed(seed)
    text, side = config.text_config, config.vision_config.image_size
    length = text.max_position_embeddings
    ids = torch.randint(3, text.vocab_size, (texts, length), generator=draw)
    ids[-1, length // 2 :] = 1
    return {"input_ids": ids, "pixel_values": torch.randn(images, 3, side, side, generator=draw)}
