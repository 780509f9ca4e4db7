"""SigLIP 2 NaFlex: the text tower of SigLIP, and a vision tower that takes pictures of any shape.

Module names are the weight names of Hugging Face checkpoints. Shapes as in `vision`.
"""

import torch
from torch import Tensor, nn

from siglip_model.classification import SiglipForImageClassification
from siglip_model.loss import sigmoid_loss
from siglip_model.modeling import SiglipTextModel, TextTransformer, Tuple, pair_logits, pooled, unit
from siglip_model.outputs import ImageClassifierOutput, SiglipOutput, TowerOutput, wanted
from siglip_model.pretrained import Pretrained
from siglip_model.siglip2.config import Siglip2Config, Siglip2TextConfig, Siglip2VisionConfig
from siglip_model.siglip2.vision import NaFlexTransformer


class Siglip2Model(Pretrained):
    config_class = Siglip2Config
    whole_type = "siglip2"
    config: Siglip2Config

    def __init__(self, config: Siglip2Config, attn_implementation: str | None = None) -> None:
        super().__init__(config, attn_implementation)
        self.text_model = TextTransformer(config.text_config, self.attn_implementation)
        self.vision_model = NaFlexTransformer(config.vision_config, self.attn_implementation)
        self.logit_scale = nn.Parameter(torch.zeros(1))
        self.logit_bias = nn.Parameter(torch.zeros(1))
        self.initialize()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.text_model.embeddings.token_embedding

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.text_model.embeddings.token_embedding = value

    def get_text_features(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        *,
        normalize: bool = False,
    ) -> Tensor:
        """Vectors [B, projection] of token ids; as in the reference of unit length only when asked."""
        features = pooled(self.text_model(input_ids, attention_mask, position_ids))
        return unit(features) if normalize else features

    def get_image_features(
        self,
        pixel_values: Tensor,
        pixel_attention_mask: Tensor | None = None,
        spatial_shapes: Tensor | None = None,
        *,
        normalize: bool = False,
    ) -> Tensor:
        """Vectors [B, D] of patches; as in the reference of unit length only when asked."""
        features = pooled(self.vision_model(pixel_values, pixel_attention_mask, spatial_shapes))
        return unit(features) if normalize else features

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        pixel_attention_mask: Tensor | None = None,
        spatial_shapes: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        return_loss: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> SiglipOutput | Tuple:
        """Every text against every image. `return_loss` takes text i and image i for a pair."""
        flags = wanted(self.config, output_attentions, output_hidden_states)
        vision = self.vision_model(pixel_values, pixel_attention_mask, spatial_shapes, *flags)
        text = self.text_model(input_ids, attention_mask, position_ids, *flags)
        image_embeds, text_embeds = unit(pooled(vision)), unit(pooled(text))
        logits_per_text = self.logits(text_embeds, image_embeds)
        loss = sigmoid_loss(logits_per_text) if return_loss else None
        output = SiglipOutput(
            loss, logits_per_text.t(), logits_per_text, text_embeds, image_embeds, text, vision
        )
        return output.in_form(self.config, return_dict)

    def logits(self, x: Tensor, y: Tensor) -> Tensor:
        return pair_logits(x, y, self.logit_scale, self.logit_bias)


class Siglip2TextModel(SiglipTextModel):
    config_class = Siglip2TextConfig
    whole_type = "siglip2"
    config: Siglip2TextConfig


class Siglip2VisionModel(Pretrained):
    """The vision tower alone; its weights keep the prefix `vision_model.`"""

    config_class = Siglip2VisionConfig
    whole_type = "siglip2"
    weight_prefixes = ("vision_model.",)
    config: Siglip2VisionConfig

    def __init__(self, config: Siglip2VisionConfig, attn_implementation: str | None = None) -> None:
        super().__init__(config, attn_implementation)
        self.vision_model = NaFlexTransformer(config, self.attn_implementation)
        self.initialize()

    def get_input_embeddings(self) -> nn.Linear:
        return self.vision_model.embeddings.patch_embedding

    def set_input_embeddings(self, value: nn.Linear) -> None:
        self.vision_model.embeddings.patch_embedding = value

    def forward(
        self,
        pixel_values: Tensor,
        pixel_attention_mask: Tensor | None = None,
        spatial_shapes: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> TowerOutput | Tuple:
        flags = wanted(self.config, output_attentions, output_hidden_states)
        output: TowerOutput = self.vision_model(pixel_values, pixel_attention_mask, spatial_shapes, *flags)
        return output.in_form(self.config, return_dict)


class Siglip2ForImageClassification(SiglipForImageClassification):
    """A linear layer on the mean of the real patches."""

    config_class = Siglip2Config
    whole_type = "siglip2"
    vision_class = NaFlexTransformer
    config: Siglip2Config

    def forward(  # type: ignore[override]
        self,
        pixel_values: Tensor | None = None,
        pixel_attention_mask: Tensor | None = None,
        spatial_shapes: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> ImageClassifierOutput | Tuple:
        """`labels`: classes [B], or numbers [B] with one label, or 0 and 1 for each label [B, num_labels]."""
        flags = wanted(self.config, output_attentions, output_hidden_states)
        patches = self.vision_model.patches(pixel_values, pixel_attention_mask, spatial_shapes, *flags)
        logits = self.classifier(mean_of_real(patches.last_hidden_state, pixel_attention_mask))
        loss = None if labels is None else self.loss(logits, labels.to(logits.device))
        output = ImageClassifierOutput(loss, logits, patches.hidden_states, patches.attentions)
        return output.in_form(self.config, return_dict)


def mean_of_real(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the patches [B, S, D] that the mask [B, S] has 1 for: [B, D]."""
    if mask is None:
        return x.mean(dim=1)
    real = mask[..., None].to(x.device)
    return (x * real).sum(dim=1) / real.sum(dim=1)
