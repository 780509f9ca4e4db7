"""Computes the golden vectors of a checkpoint."""

from pathlib import Path

import torch

from siglip_model.golden import Vector, text_row, vision_row
from siglip_model.image_processing import Pixels, SiglipImageProcessor, normalize, rescale
from siglip_model.modeling import SiglipModel


@torch.inference_mode()
def golden_vectors(folder: str | Path) -> dict[str, Vector]:
    """float32 unit vectors of both towers, computed on the CPU in float32. Raises CheckpointError."""
    model = SiglipModel.from_pretrained(folder).eval()
    ids = torch.from_numpy(text_row(model.config.text_config)).long()[None]
    pixels = _prepared(vision_row(model.config.vision_config), SiglipImageProcessor.from_pretrained(folder))
    return {
        "text": model.get_text_features(ids, normalize=True)[0].numpy(),
        "vision": model.get_image_features(pixels, normalize=True)[0].numpy(),
    }


def _prepared(row: Pixels, processor: SiglipImageProcessor) -> torch.Tensor:
    pixels = rescale(row, processor.rescale_factor if processor.do_rescale else 1.0)
    if processor.do_normalize:
        pixels = normalize(pixels, processor.image_mean, processor.image_std)
    return torch.from_numpy(pixels)[None]
