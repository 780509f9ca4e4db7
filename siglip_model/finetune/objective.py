"""What is trained: the model under the loss, with frozen towers, and its parameters in groups."""

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from siglip_model.distributed_loss import ring_sigmoid_loss
from siglip_model.modeling import SiglipModel


class Objective(nn.Module):
    """Pixels, token ids and groups of this process -> its share of the loss."""

    def __init__(self, model: SiglipModel, frozen: tuple[str, ...], precision: str) -> None:
        super().__init__()
        self.model, self.frozen, self.precision = model, frozen, precision
        for tower in frozen:
            getattr(model, f"{tower}_model").requires_grad_(False)

    def train(self, mode: bool = True) -> "Objective":
        super().train(mode)
        for tower in self.frozen:
            getattr(self.model, f"{tower}_model").eval()
        return self

    def forward(self, pixel_values: Tensor, input_ids: Tensor, groups: Tensor) -> Tensor:
        images, texts = self.image_embeds(pixel_values), self.text_embeds(input_ids)
        return ring_sigmoid_loss(
            images,
            texts,
            self.model.logit_scale,
            self.model.logit_bias,
            image_groups=groups,
            text_groups=groups,
        )

    def image_embeds(self, pixel_values: Tensor) -> Tensor:
        """float32 unit vectors [n, D]; nothing is kept for the gradients of a frozen tower."""
        with self._gradients("vision"), self._cast(pixel_values):
            return self.model.get_image_features(pixel_values, normalize=True)

    def text_embeds(self, input_ids: Tensor) -> Tensor:
        with self._gradients("text"), self._cast(input_ids):
            return self.model.get_text_features(input_ids, normalize=True)

    def _gradients(self, tower: str) -> "torch.no_grad | nullcontext[None]":
        return torch.no_grad() if tower in self.frozen else nullcontext()

    def _cast(self, x: Tensor) -> torch.autocast:
        return torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bf16")


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; biases, norms, scale and bias of the logits, all of one dimension, do not."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def optimizer(model: nn.Module, weight_decay: float) -> torch.optim.AdamW:
    return torch.optim.AdamW(parameter_groups(model, weight_decay), lr=0.0, betas=(0.9, 0.95))
