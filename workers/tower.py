"""One tower of a checkpoint on its device: rows in, unit vectors and their former lengths out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from siglip_model.checkpoint import load_tower
from siglip_model.image_processing import SiglipImageProcessor
from siglip_model.modeling import SiglipTextModel, SiglipVisionModel, pooled
from workers.batch import RowDtype, Rows, Vectors
from workers.device import Compute
from workers.errors import SetupError


@dataclass
class ModelTower:
    model: SiglipTextModel | SiglipVisionModel
    prepare: Callable[[Tensor], Tensor]
    """Rows as they travel, on the host, to the model's input on its device."""
    row_shape: tuple[int, ...]
    dtype: RowDtype
    dim: int

    @torch.inference_mode()
    def run(self, rows: Rows) -> Vectors:
        """Raises MemoryError when the device has too little memory for this many rows."""
        try:
            return unit_vectors(pooled(self.model(self.prepare(torch.from_numpy(rows)))))
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise MemoryError(str(error)) from error


def load(folder: Path, tower: Literal["text", "vision"], compute: Compute) -> ModelTower:
    """Reads that tower's tensors only. Raises CheckpointError, or SetupError for a tower without vectors."""
    model = load_tower(
        folder, tower, dtype=compute.dtype, device=compute.device, attn_implementation=compute.attention
    )
    if isinstance(model, SiglipTextModel):
        return _text_tower(model, compute)
    return _vision_tower(model, compute, SiglipImageProcessor.from_pretrained(folder))


def _text_tower(model: SiglipTextModel, compute: Compute) -> ModelTower:
    config = model.config
    return ModelTower(
        model=model,
        prepare=TokenIds(config.vocab_size, compute.device),
        row_shape=(config.max_position_embeddings,),
        dtype="int32",
        dim=config.projection_size,
    )


def _vision_tower(model: SiglipVisionModel, compute: Compute, processor: SiglipImageProcessor) -> ModelTower:
    config = model.config
    if model.vision_model.head is None:
        raise SetupError("vision_use_head is off in config.json: this model has no image vectors to serve")
    return ModelTower(
        model=model,
        prepare=Normalize(processor, compute.device),
        row_shape=(config.num_channels, config.image_size, config.image_size),
        dtype="uint8",
        dim=config.hidden_size,
    )


class TokenIds:
    """int32 ids [n, text_length], none outside the table: on a GPU such a one would end the process."""

    def __init__(self, vocab_size: int, device: torch.device) -> None:
        self.last = vocab_size - 1
        self.device = device

    def __call__(self, ids: Tensor) -> Tensor:
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high > self.last:
            raise ValueError(f"token ids {low} to {high}; allowed: 0 to {self.last}")
        return ids.to(self.device)


class Normalize:
    """uint8 pixels [n, 3, H, W] -> the model's float32 input, (pixel * rescale - mean) / std per channel."""

    def __init__(self, processor: SiglipImageProcessor, device: torch.device) -> None:
        self.device = device
        self.rescale = processor.rescale_factor if processor.do_rescale else 1.0
        mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else (0.0, 1.0)
        self.mean, self.std = _by_channel(mean, device), _by_channel(std, device)
        # With SigLIP's own numbers pixel / 127.5 - 1 gives the reference's floats for all 256 values.
        self.usual = self.rescale == 1 / 255 and bool((self.mean == 0.5).all() and (self.std == 0.5).all())

    def __call__(self, pixels: Tensor) -> Tensor:
        # A quarter of the bytes travels to the device.
        values = pixels.to(self.device).float()
        if self.usual:
            return values.div_(127.5).sub_(1)
        return values.mul_(self.rescale).sub_(self.mean).div_(self.std)


def _by_channel(values: Sequence[float] | float, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device).reshape(-1, 1, 1)


def unit_vectors(features: Tensor) -> Vectors:
    """[n, dim] of any float dtype on any device to host float32; divided before it leaves the device."""
    features = features.float()
    norms = torch.linalg.vector_norm(features, dim=-1)
    units = features / norms[:, None]
    return Vectors(units.cpu().numpy(), norms.cpu().numpy())
