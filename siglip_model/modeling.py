"""SigLIP in plain PyTorch: two transformer towers and the sigmoid of their scaled dot product.

    z_ij = exp(logit_scale) * x_i . y_j + logit_bias,    p_ij = sigmoid(z_ij)

with x_i and y_j the unit vectors of image i and text j. Module names are the weight names of
Hugging Face checkpoints, so loading needs no table. Shapes: B batch, S tokens or patches, D width.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from siglip_model.attention import prepare_mask
from siglip_model.config import SiglipConfig, SiglipTextConfig, SiglipVisionConfig
from siglip_model.layers import Encoder, PoolingHead
from siglip_model.loss import sigmoid_loss
from siglip_model.outputs import SiglipOutput, TowerOutput, wanted
from siglip_model.pretrained import Pretrained

Tuple = tuple[Any, ...]  # what `return_dict=False` gives


class SiglipModel(Pretrained):
    config_class = SiglipConfig
    config: SiglipConfig

    def __init__(self, config: SiglipConfig, attn_implementation: str | None = None) -> None:
        super().__init__(config, attn_implementation)
        self.text_model = TextTransformer(config.text_config, self.attn_implementation)
        self.vision_model = VisionTransformer(config.vision_config, self.attn_implementation)
        self.logit_scale = nn.Parameter(torch.zeros(1))
        self.logit_bias = nn.Parameter(torch.zeros(1))
        self.initialize()

    def get_text_features(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        *,
        normalize: bool = False,
    ) -> Tensor:
        """Vectors [B, projection] of token ids [B, S]; as in the reference of unit length only when asked."""
        features = pooled(self.text_model(input_ids, attention_mask, position_ids))
        return unit(features) if normalize else features

    def get_image_features(
        self,
        pixel_values: Tensor,
        *,
        interpolate_pos_encoding: bool = False,
        normalize: bool = False,
    ) -> Tensor:
        """Vectors [B, D] of pixels [B, 3, H, W]; as in the reference of unit length only when asked."""
        features = pooled(self.vision_model(pixel_values, interpolate_pos_encoding=interpolate_pos_encoding))
        return unit(features) if normalize else features

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        return_loss: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool = False,
    ) -> SiglipOutput | Tuple:
        """Every text against every image. `return_loss` takes text i and image i for a pair."""
        attentions, states = wanted(self.config, output_attentions, output_hidden_states)
        vision = self.vision_model(pixel_values, attentions, states, interpolate_pos_encoding)
        text = self.text_model(input_ids, attention_mask, position_ids, attentions, states)
        image_embeds, text_embeds = unit(pooled(vision)), unit(pooled(text))
        logits_per_text = self.logits(text_embeds, image_embeds)
        loss = sigmoid_loss(logits_per_text) if return_loss else None
        output = SiglipOutput(
            loss, logits_per_text.t(), logits_per_text, text_embeds, image_embeds, text, vision
        )
        return output.in_form(self.config, return_dict)

    def logits(self, x: Tensor, y: Tensor) -> Tensor:
        return pair_logits(x, y, self.logit_scale, self.logit_bias)


class SiglipTextModel(Pretrained):
    """The text tower alone; its weights keep the prefix `text_model.`"""

    config_class = SiglipTextConfig
    weight_prefixes = ("text_model.",)
    config: SiglipTextConfig

    def __init__(self, config: SiglipTextConfig, attn_implementation: str | None = None) -> None:
        super().__init__(config, attn_implementation)
        self.text_model = TextTransformer(config, self.attn_implementation)
        self.initialize()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.text_model.embeddings.token_embedding

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.text_model.embeddings.token_embedding = value

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> TowerOutput | Tuple:
        flags = wanted(self.config, output_attentions, output_hidden_states)
        output: TowerOutput = self.text_model(input_ids, attention_mask, position_ids, *flags)
        return output.in_form(self.config, return_dict)


class SiglipVisionModel(Pretrained):
    """The vision tower alone; its weights keep the prefix `vision_model.`"""

    config_class = SiglipVisionConfig
    weight_prefixes = ("vision_model.",)
    config: SiglipVisionConfig

    def __init__(self, config: SiglipVisionConfig, attn_implementation: str | None = None) -> None:
        super().__init__(config, attn_implementation)
        self.vision_model = VisionTransformer(config, self.attn_implementation)
        self.initialize()

    def get_input_embeddings(self) -> nn.Conv2d:
        return self.vision_model.embeddings.patch_embedding

    def set_input_embeddings(self, value: nn.Conv2d) -> None:
        self.vision_model.embeddings.patch_embedding = value

    def forward(
        self,
        pixel_values: Tensor,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool = False,
    ) -> TowerOutput | Tuple:
        flags = wanted(self.config, output_attentions, output_hidden_states)
        output: TowerOutput = self.vision_model(pixel_values, *flags, interpolate_pos_encoding)
        return output.in_form(self.config, return_dict)


class TextTransformer(nn.Module):
    def __init__(self, config: SiglipTextConfig, attn_implementation: str) -> None:
        super().__init__()
        self.embeddings = TextEmbeddings(config)
        self.encoder = Encoder(config, attn_implementation)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.head = nn.Linear(config.hidden_size, config.projection_size)

    def forward(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> TowerOutput:
        if input_ids is None:
            raise ValueError("You have to specify input_ids")
        x = self.embeddings(input_ids.view(-1, input_ids.shape[-1]), position_ids)  # [B, S, D]
        mask = prepare_mask(attention_mask, x.dtype, self.encoder.implementation)
        x, states, attentions = self.encoder(x, mask, output_attentions, output_hidden_states)
        x = self.final_layer_norm(x)
        pooler_output = self.head(x[:, -1])  # the last position, padding or not
        return TowerOutput(x, pooler_output, states, attentions)


class VisionTransformer(nn.Module):
    def __init__(self, config: SiglipVisionConfig, attn_implementation: str) -> None:
        super().__init__()
        self.embeddings = VisionEmbeddings(config)
        self.encoder = Encoder(config, attn_implementation)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.head = PoolingHead(config) if config.vision_use_head else None

    def forward(
        self,
        pixel_values: Tensor | None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        interpolate_pos_encoding: bool = False,
    ) -> TowerOutput:
        output = self.patches(pixel_values, output_attentions, output_hidden_states, interpolate_pos_encoding)
        output.pooler_output = None if self.head is None else self.head(output.last_hidden_state)
        return output

    def patches(
        self,
        pixel_values: Tensor | None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        interpolate_pos_encoding: bool = False,
    ) -> TowerOutput:
        """All but the pooled vector: what a classifier of its own needs."""
        if pixel_values is None:
            raise ValueError("You have to specify pixel_values")
        x = self.embeddings(pixel_values, interpolate_pos_encoding)
        x, states, attentions = self.encoder(x, None, output_attentions, output_hidden_states)
        return TowerOutput(self.post_layernorm(x), None, states, attentions)


class TextEmbeddings(nn.Module):
    def __init__(self, config: SiglipTextConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)

    def forward(self, input_ids: Tensor, position_ids: Tensor | None) -> Tensor:
        length, longest = input_ids.shape[-1], self.position_embedding.num_embeddings
        if length > longest:
            raise ValueError(f"{length} tokens given, the model has {longest} text positions")
        if position_ids is None:
            position_ids = torch.arange(length, device=input_ids.device)[None]
        x: Tensor = self.token_embedding(input_ids) + self.position_embedding(position_ids)
        return x


class VisionEmbeddings(nn.Module):
    def __init__(self, config: SiglipVisionConfig) -> None:
        super().__init__()
        size, width, self.image_size = config.patch_size, config.hidden_size, config.image_size
        self.side = config.image_size // size
        self.patch_embedding = nn.Conv2d(config.num_channels, width, size, stride=size)
        self.position_embedding = nn.Embedding(self.side**2, width)

    def forward(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> Tensor:
        patches: Tensor = self.patch_embedding(pixel_values.to(self.patch_embedding.weight.dtype))
        rows, columns = patches.shape[-2:]
        x = patches.flatten(2).transpose(1, 2)  # [B, D, rows, columns] -> [B, S, D]
        if interpolate_pos_encoding:
            return x + self.positions(rows, columns)
        if (rows, columns) != (self.side, self.side):
            height, width = pixel_values.shape[-2:]
            raise ValueError(
                f"pixel_values are {height} x {width}, the model takes {self.image_size} x {self.image_size}"
                ": resize them, or set interpolate_pos_encoding=True"
            )
        return x + self.position_embedding.weight

    def positions(self, rows: int, columns: int) -> Tensor:
        """The square grid of learned positions stretched to [rows * columns, D], without antialiasing."""
        learned = self.position_embedding.weight
        if (rows, columns) == (self.side, self.side):
            return learned
        grid = learned.view(1, self.side, self.side, -1).permute(0, 3, 1, 2)  # [1, D, side, side]
        stretched = F.interpolate(grid.float(), (rows, columns), mode="bicubic", align_corners=False)
        return stretched.flatten(2)[0].t().to(learned.dtype)


def pooled(output: TowerOutput) -> Tensor:
    if output.pooler_output is None:
        raise ValueError("vision_use_head is off: this model has no pooled image vector")
    return output.pooler_output


def unit(x: Tensor) -> Tensor:
    x = x.float()
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / length


def pair_logits(x: Tensor, y: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """exp(scale) x y^T + bias in float32: a bfloat16 scale of 112.33 would become 112.0."""
    with torch.autocast(x.device.type, enabled=False):
        return x @ y.t() * scale.float().exp() + bias.float()
