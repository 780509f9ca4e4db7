"""Image classification: a linear layer on the mean of the vision tower's patches."""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import init

from siglip_model.config import SiglipConfig
from siglip_model.modeling import Tuple, VisionTransformer
from siglip_model.outputs import ImageClassifierOutput, wanted
from siglip_model.pretrained import Pretrained

REGRESSION, SINGLE_LABEL, MULTI_LABEL = (
    "regression",
    "single_label_classification",
    "multi_label_classification",
)


class SiglipForImageClassification(Pretrained):
    """As in the reference the pooling head is part of the checkpoint and not of the result.

    Its weights are not trained here, so they ask for no gradient: distributed training would wait
    for gradients that never come.
    """

    config_class: ClassVar[type[SiglipConfig]] = SiglipConfig
    weight_prefixes = ("vision_model.", "classifier.")
    vision_class: ClassVar[Any] = VisionTransformer
    config: SiglipConfig

    def __init__(self, config: SiglipConfig, attn_implementation: str | None = None) -> None:
        super().__init__(config, attn_implementation)
        self.num_labels = config.num_labels
        self.vision_model = self.vision_class(config.vision_config, self.attn_implementation)
        self.initialize()
        self.classifier = new_classifier(config)
        if self.vision_model.head is not None:
            self.vision_model.head.requires_grad_(False)

    def fresh_weights(self) -> dict[str, Tensor]:
        return new_classifier(self.config).state_dict(prefix="classifier.")

    def get_input_embeddings(self) -> nn.Conv2d | nn.Linear:
        patches: nn.Conv2d | nn.Linear = self.vision_model.embeddings.patch_embedding
        return patches

    def forward(
        self,
        pixel_values: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool = False,
    ) -> ImageClassifierOutput | Tuple:
        """`labels`: classes [B], or numbers [B] with one label, or 0 and 1 for each label [B, num_labels]."""
        flags = wanted(self.config, output_attentions, output_hidden_states)
        patches = self.vision_model.patches(pixel_values, *flags, interpolate_pos_encoding)
        logits = self.classifier(patches.last_hidden_state.mean(dim=1))  # [B, num_labels]
        loss = None if labels is None else self.loss(logits, labels.to(logits.device))
        output = ImageClassifierOutput(loss, logits, patches.hidden_states, patches.attentions)
        return output.in_form(self.config, return_dict)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        kind = self.config.problem_type or problem_type(self.num_labels, labels)
        if kind == REGRESSION:
            return F.mse_loss(logits.squeeze(), labels.squeeze().to(logits.dtype))
        if kind == SINGLE_LABEL:
            return F.cross_entropy(logits.view(-1, self.num_labels), labels.view(-1))
        if kind == MULTI_LABEL:
            return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
        known = f"{REGRESSION}, {SINGLE_LABEL}, {MULTI_LABEL}"
        raise ValueError(f"problem_type must be one of {known}, not {kind!r}")


def new_classifier(config: SiglipConfig) -> nn.Linear | nn.Identity:
    """Weights N(0, initializer_factor / sqrt(D)), biases 0."""
    if not config.num_labels:
        return nn.Identity()
    layer = nn.Linear(width := config.vision_config.hidden_size, config.num_labels)
    init.normal_(layer.weight, std=width**-0.5 * config.initializer_factor)
    init.zeros_(layer.bias)
    return layer


def problem_type(num_labels: int, labels: Tensor) -> str:
    """Told by the labels; never written to the configuration, where it would bind the next batch."""
    if num_labels == 1:
        return REGRESSION
    per_label = torch.is_floating_point(labels) or labels.dtype == torch.bool
    return MULTI_LABEL if per_label else SINGLE_LABEL
