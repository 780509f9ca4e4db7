"""Published sizes of SigLIP with random weights: a forward pass does not take longer with good ones."""

from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from siglip_model import SiglipConfig, SiglipModel, SiglipTextConfig, SiglipVisionConfig

BASE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
SO400M = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
SIZES: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    "base-patch16-224": (BASE, BASE | {"image_size": 224, "patch_size": 16}),
    "so400m-patch14-384": (SO400M, SO400M | {"image_size": 384, "patch_size": 14}),
}

Tower = SiglipTextConfig | SiglipVisionConfig


def config_of(size: str) -> SiglipConfig:
    text, vision = SIZES[size]
    return SiglipConfig(text_config=SiglipTextConfig(**text), vision_config=SiglipVisionConfig(**vision))  # type: ignore[arg-type]


def write_random(size: str, folder: Path, device: str = "cpu") -> Path:
    torch.manual_seed(0)
    with torch.device(device):
        SiglipModel(config_of(size)).save_pretrained(folder)
    return folder


def load_reference(folder: Path, attention: str, dtype: torch.dtype, device: str = "cpu") -> Any:
    transformers: Any = import_module("transformers")  # whose types are for its own tools
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model = transformers.SiglipModel.from_pretrained(folder, attn_implementation=attention, dtype=dtype)
    return model.to(device).eval()


def inputs(config: SiglipConfig, tower: str, batch: int) -> torch.Tensor:
    """Token ids [batch, S] or pixels [batch, 3, H, W]."""
    draw = torch.Generator().manual_seed(1)
    if tower == "text":
        text = config.text_config
        return torch.randint(3, text.vocab_size, (batch, text.max_position_embeddings), generator=draw)
    side = config.vision_config.image_size
    return torch.randn(batch, 3, side, side, generator=draw)


def flops(config: SiglipConfig, tower: str) -> float:
    """Of one row: twice the multiplications of the matrices, norms and activations left out."""
    part: Tower = config.vision_config if tower == "vision" else config.text_config
    width, hidden = part.hidden_size, part.intermediate_size
    if isinstance(part, SiglipVisionConfig):
        length = (part.image_size // part.patch_size) ** 2
        # The patches, and the pooling head's keys and values.
        ends = length * (3 * part.patch_size**2 * width + 2 * width**2)
    else:
        length, ends = part.max_position_embeddings, width**2
    layer = length * (4 * width**2 + 2 * width * hidden) + 2 * length**2 * width
    return 2.0 * (part.num_hidden_layers * layer + ends)
