"""Configurations of NaFlex models, `model_type` siglip2."""

from dataclasses import dataclass
from typing import ClassVar

from siglip_model.config import BaseConfig, SiglipConfig, SiglipTextConfig


@dataclass
class Siglip2TextConfig(SiglipTextConfig):
    model_type: ClassVar[str] = "siglip2_text_model"
    whole_type: ClassVar[str] = "siglip2"


@dataclass
class Siglip2VisionConfig(BaseConfig):
    """`num_patches` is the size of the learned grid of positions, a square; images may have other grids."""

    model_type: ClassVar[str] = "siglip2_vision_model"
    section: ClassVar[str] = "vision_config"
    whole_type: ClassVar[str] = "siglip2"

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    num_channels: int = 3
    num_patches: int = 256
    patch_size: int = 16
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6
    attention_dropout: float = 0.0
    vision_use_head: bool = True


@dataclass
class Siglip2Config(SiglipConfig):
    model_type: ClassVar[str] = "siglip2"
    whole_type: ClassVar[str] = "siglip2"
    text_class: ClassVar[type[SiglipTextConfig]] = Siglip2TextConfig
    vision_class: ClassVar[type[BaseConfig]] = Siglip2VisionConfig

    text_config: Siglip2TextConfig = None  # type: ignore[assignment]
    vision_config: Siglip2VisionConfig = None  # type: ignore[assignment]
