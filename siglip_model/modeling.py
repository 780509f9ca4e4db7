"""SigLIP in plain PyTorch: two transformer towers and the sigmoid of their scaled dot product.

    z_ij = exp(logit_scale) * x_i . y_j + logit_bias,    p_ij = sigmoid(z_ij)

with x_i and y_j the unit vectors of image i and text j. Module names are the weight names of
Hugging Face checkpoints, so loading needs no table. Shapes: B batch, S tokens or patches, D width.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import init

from siglip_model.attention import additive_mask, attention_function, eager_attention
from siglip_model.config import SiglipConfig, SiglipTextConfig, SiglipVisionConfig

TowerConfig = SiglipTextConfig | SiglipVisionConfig


@dataclass
class TowerOutput:
    last_hidden_state: Tensor  # [B, S, D], after the last layer norm
    pooler_output: Tensor | None  # [B, projection], not normalised


@dataclass
class SiglipOutput:
    logits_per_image: Tensor  # [images, texts]
    logits_per_text: Tensor  # [texts, images]
    text_embeds: Tensor  # unit vectors
    image_embeds: Tensor
    text_model_output: TowerOutput
    vision_model_output: TowerOutput


class Pretrained(nn.Module):
    """A model that is read from and written to a folder in the Hugging Face layout."""

    config_class: ClassVar[Any]
    config: SiglipConfig | SiglipTextConfig | SiglipVisionConfig

    def __init__(self, config: Any, attn_implementation: str = "sdpa") -> None:
        super().__init__()
        self.config = config

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        revision: str | None = None,
        dtype: torch.dtype | None = torch.float32,
        device: torch.device | str = "cpu",
        attn_implementation: str = "sdpa",
    ) -> Self:
        """`model` is a folder or a hub id; `dtype` None keeps the stored one. Evaluation mode.

        Raises CheckpointError: no weight may be missing, left over or of another shape.
        """
        from siglip_model import checkpoint, files

        folder = files.resolve(model, revision=revision, only=files.WEIGHT_FILES).folder
        return checkpoint.load(
            cls, folder, dtype=dtype, device=device, attn_implementation=attn_implementation
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` and the weights as safetensors."""
        from siglip_model import checkpoint

        checkpoint.save(self, folder)


class SiglipModel(Pretrained):
    config_class = SiglipConfig
    config: SiglipConfig

    def __init__(self, config: SiglipConfig, attn_implementation: str = "sdpa") -> None:
        super().__init__(config)
        self.text_model = TextTransformer(config.text_config, attn_implementation)
        self.vision_model = VisionTransformer(config.vision_config, attn_implementation)
        self.logit_scale = nn.Parameter(torch.zeros(1))
        self.logit_bias = nn.Parameter(torch.zeros(1))
        self.apply(init_weights)

    def get_text_features(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> Tensor:
        return pooled(self.text_model(input_ids, attention_mask, position_ids))

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        return pooled(self.vision_model(pixel_values))

    def forward(
        self,
        input_ids: Tensor,
        pixel_values: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> SiglipOutput:
        vision = self.vision_model(pixel_values)
        text = self.text_model(input_ids, attention_mask, position_ids)
        image_embeds, text_embeds = unit(pooled(vision)), unit(pooled(text))
        logits_per_text = self.logits(text_embeds, image_embeds)
        return SiglipOutput(logits_per_text.t(), logits_per_text, text_embeds, image_embeds, text, vision)

    def logits(self, x: Tensor, y: Tensor) -> Tensor:
        """exp(scale) x y^T + bias in float32: a bfloat16 scale of 112.33 would become 112.0."""
        with torch.autocast(x.device.type, enabled=False):
            return x @ y.t() * self.logit_scale.float().exp() + self.logit_bias.float()


class SiglipTextModel(Pretrained):
    """The text tower alone; its weights keep the prefix `text_model.`"""

    config_class = SiglipTextConfig
    config: SiglipTextConfig

    def __init__(self, config: SiglipTextConfig, attn_implementation: str = "sdpa") -> None:
        super().__init__(config)
        self.text_model = TextTransformer(config, attn_implementation)
        self.apply(init_weights)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> TowerOutput:
        return cast(TowerOutput, self.text_model(input_ids, attention_mask, position_ids))


class SiglipVisionModel(Pretrained):
    """The vision tower alone; its weights keep the prefix `vision_model.`"""

    config_class = SiglipVisionConfig
    config: SiglipVisionConfig

    def __init__(self, config: SiglipVisionConfig, attn_implementation: str = "sdpa") -> None:
        super().__init__(config)
        self.vision_model = VisionTransformer(config, attn_implementation)
        self.apply(init_weights)

    def forward(self, pixel_values: Tensor) -> TowerOutput:
        return cast(TowerOutput, self.vision_model(pixel_values))


class TextTransformer(nn.Module):
    def __init__(self, config: SiglipTextConfig, attn_implementation: str) -> None:
        super().__init__()
        self.embeddings = TextEmbeddings(config)
        self.encoder = Encoder(config, attn_implementation)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.head = nn.Linear(config.hidden_size, config.projection_size)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None, position_ids: Tensor | None
    ) -> TowerOutput:
        if input_ids is None:
            raise ValueError("You have to specify input_ids")
        x = self.embeddings(input_ids.view(-1, input_ids.shape[-1]), position_ids)  # [B, S, D]
        mask = None if attention_mask is None else additive_mask(attention_mask, x.dtype)
        x = self.final_layer_norm(self.encoder(x, mask))
        return TowerOutput(x, self.head(x[:, -1]))  # the last position, padding or not


class VisionTransformer(nn.Module):
    def __init__(self, config: SiglipVisionConfig, attn_implementation: str) -> None:
        super().__init__()
        self.embeddings = VisionEmbeddings(config)
        self.encoder = Encoder(config, attn_implementation)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.head = PoolingHead(config) if getattr(config, "vision_use_head", True) else None

    def forward(self, pixel_values: Tensor) -> TowerOutput:
        x = self.post_layernorm(self.encoder(self.embeddings(pixel_values), None))
        return TowerOutput(x, None if self.head is None else self.head(x))


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
        size, width, self.side = config.patch_size, config.hidden_size, config.image_size
        patches = (config.image_size // size) ** 2
        self.patch_embedding = nn.Conv2d(config.num_channels, width, size, stride=size)
        self.position_embedding = nn.Embedding(patches, width)

    def forward(self, pixel_values: Tensor) -> Tensor:
        patches: Tensor = self.patch_embedding(pixel_values.to(self.patch_embedding.weight.dtype))
        x = patches.flatten(2).transpose(1, 2)  # [B, D, rows, columns] -> [B, S, D]
        if x.shape[1] != self.position_embedding.num_embeddings:
            height, width = pixel_values.shape[-2:]
            raise ValueError(
                f"pixel_values are {height} x {width}, the model takes {self.side} x {self.side}"
            )
        return x + self.position_embedding.weight


class Encoder(nn.Module):
    def __init__(self, config: TowerConfig, attn_implementation: str) -> None:
        super().__init__()
        layers = [EncoderLayer(config, attn_implementation) for _ in range(config.num_hidden_layers)]
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        for layer in self.layers:
            x = layer(x, mask)
        return x


class EncoderLayer(nn.Module):
    def __init__(self, config: TowerConfig, attn_implementation: str) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.self_attn = Attention(config, attn_implementation)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x), mask)
        x = x + self.mlp(self.layer_norm2(x))
        return x  # noqa: RET504  # the two lines are the two equations


class Attention(nn.Module):
    def __init__(self, config: TowerConfig, attn_implementation: str) -> None:
        super().__init__()
        width, self.heads = config.hidden_size, config.num_attention_heads
        check_heads(width, self.heads)
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        self.dropout = config.attention_dropout
        self.attend = attention_function(attn_implementation)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = (split_heads(p(x), self.heads) for p in (self.q_proj, self.k_proj, self.v_proj))
        y = self.attend(q, k, v, mask, self.dropout if self.training else 0.0)
        return cast(Tensor, self.out_proj(join_heads(y)))


class MLP(nn.Module):
    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.act = activation(config.hidden_act)
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.fc2(self.act(self.fc1(x))))


class PoolingHead(nn.Module):
    """A learned probe looks at all patches once: multi-head attention pooling."""

    def __init__(self, config: SiglipVisionConfig) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.empty(1, 1, config.hidden_size))
        self.attention = ProbeAttention(config)
        self.layernorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        y = self.attention(self.probe.expand(x.shape[0], -1, -1), x)  # [B, 1, D]
        y = y + self.mlp(self.layernorm(y))
        return cast(Tensor, y[:, 0])


class ProbeAttention(nn.Module):
    """Cross-attention with q, k and v packed as in nn.MultiheadAttention, whose names it keeps.

    Always eager: that is what the reference's nn.MultiheadAttention does when it returns weights.
    """

    def __init__(self, config: SiglipVisionConfig) -> None:
        super().__init__()
        width, self.heads = config.hidden_size, config.num_attention_heads
        check_heads(width, self.heads)
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, probe: Tensor, x: Tensor) -> Tensor:
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        inputs = (probe, x, x)  # [B, 1, D], [B, S, D], [B, S, D]
        projected = map(F.linear, inputs, weights, biases)
        q, k, v = (split_heads(t, self.heads) for t in projected)
        return cast(Tensor, self.out_proj(join_heads(eager_attention(q, k, v, None, 0.0))))


def check_heads(width: int, heads: int) -> None:
    if width % heads:
        raise ValueError(f"hidden_size {width} is not divisible by num_attention_heads {heads}")


def split_heads(x: Tensor, heads: int) -> Tensor:
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)  # [B, S, D] -> [B, heads, S, D / heads]


def join_heads(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)  # [B, heads, S, D / heads] -> [B, S, D]


def pooled(output: TowerOutput) -> Tensor:
    if output.pooler_output is None:
        raise ValueError("vision_use_head is off: this model has no pooled image vector")
    return output.pooler_output


def unit(x: Tensor) -> Tensor:
    x = x.float()
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / length


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


gelu_tanh = partial(F.gelu, approximate="tanh")

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_pytorch_tanh": gelu_tanh,
    "gelu_new": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu": F.gelu,
    "quick_gelu": quick_gelu,
    "relu": F.relu,
    "selu": F.selu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    if name not in ACTIVATIONS:
        raise ValueError(f"hidden_act must be one of {', '.join(ACTIVATIONS)}, not {name!r}")
    return ACTIVATIONS[name]


@torch.no_grad()
def init_weights(module: nn.Module) -> None:
    """The reference's starting weights; `apply` visits children first, so parents may overrule."""
    match module:
        case Attention():
            for projection in (module.q_proj, module.k_proj, module.v_proj, module.out_proj):
                init.xavier_uniform_(projection.weight)
        case MLP():
            for layer in (module.fc1, module.fc2):
                init.xavier_uniform_(layer.weight)
                init.normal_(layer.bias, std=1e-6)
        case PoolingHead():
            init.xavier_uniform_(module.probe)
        case ProbeAttention():
            init.xavier_uniform_(module.in_proj_weight)
            init.zeros_(module.in_proj_bias)
        case nn.Embedding():
            init.normal_(module.weight, std=module.embedding_dim**-0.5)
        case nn.Linear() | nn.Conv2d():
            lecun_normal_(module.weight)
            init.zeros_(cast(Tensor, module.bias))


def lecun_normal_(weight: Tensor) -> None:
    """The reference divides by .8796 for a cut at two deviations, yet cuts at 2: std is kept."""
    std = math.sqrt(1 / weight[0].numel()) / 0.87962566103423978
    init.trunc_normal_(weight, std=std, a=-2.0, b=2.0)
