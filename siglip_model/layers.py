"""What both towers are built of. Module names are the weight names of Hugging Face checkpoints.

Shapes: B batch, S tokens or patches, D width.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from siglip_model.activations import activation
from siglip_model.attention import (
    EAGER,
    AttentionFunction,
    attention_function,
    attention_weights,
    eager_attention,
)

Tensors = tuple[Tensor, ...]


class TowerConfig(Protocol):
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    hidden_act: str
    layer_norm_eps: float
    attention_dropout: float


class Encoder(nn.Module):
    def __init__(self, config: TowerConfig, attn_implementation: str) -> None:
        super().__init__()
        layers = [EncoderLayer(config, attn_implementation) for _ in range(config.num_hidden_layers)]
        self.layers = nn.ModuleList(layers)
        self.implementation = attn_implementation
        self.recompute: Callable[..., tuple[Tensor, Tensor | None]] | None = None

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> tuple[Tensor, Tensors | None, Tensors | None]:
        """[B, S, D] -> the same, the layers + 1 states on the way, and each layer's attention weights."""
        states: list[Tensor] = [x]
        attentions: list[Tensor] = []
        for layer in self.layers:
            run = partial(self.recompute, layer) if self.recompute and self.training else layer
            x, weights = run(x, mask, output_attentions)
            if output_hidden_states:
                states.append(x)
            if weights is not None:
                attentions.append(weights)
        return x, tuple(states) if output_hidden_states else None, tuple(attentions) or None

    def use(self, attn_implementation: str) -> None:
        self.implementation = attn_implementation
        for layer in self.layers:
            cast(EncoderLayer, layer).self_attn.use(attn_implementation)

    def set_recompute(self, on: bool, **options: Any) -> None:
        """Gradient checkpointing: in training, a layer's inner values are computed again for gradients."""
        self.recompute = partial(checkpoint, **({"use_reentrant": False} | options)) if on else None


class EncoderLayer(nn.Module):
    def __init__(self, config: TowerConfig, attn_implementation: str) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.self_attn = Attention(config, attn_implementation)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.mlp = MLP(config)

    def forward(
        self, x: Tensor, mask: Tensor | None, output_attentions: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        y, weights = self.self_attn(self.layer_norm1(x), mask, output_attentions)
        x = x + y
        x = x + self.mlp(self.layer_norm2(x))
        return x, weights


class Attention(nn.Module):
    def __init__(self, config: TowerConfig, attn_implementation: str) -> None:
        super().__init__()
        width, self.heads = config.hidden_size, config.num_attention_heads
        check_heads(width, self.heads)
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        self.head_dim = width // self.heads
        self.dropout = config.attention_dropout
        self.use(attn_implementation)

    def use(self, attn_implementation: str) -> None:
        self.implementation = attn_implementation
        self.attend: AttentionFunction = attention_function(attn_implementation, self.head_dim)

    def forward(
        self, x: Tensor, mask: Tensor | None, output_attentions: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        q, k, v = (split_heads(p(x), self.heads) for p in (self.q_proj, self.k_proj, self.v_proj))
        dropout, weights = self.dropout if self.training else 0.0, None
        if output_attentions:  # the other implementations never hold the weights
            self._warn_of_eager()
            weights = attention_weights(q, k, mask, dropout)
            y = weights @ v
        else:
            y = self.attend(q, k, v, mask, dropout)
        return self.out_proj(join_heads(y)), weights

    def _warn_of_eager(self) -> None:
        if self.implementation != EAGER:
            warnings.warn(
                f"{self.implementation} gives no attention weights: with output_attentions=True this call "
                f'computes them as attn_implementation="{EAGER}" does',
                stacklevel=2,
            )


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

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.empty(1, 1, config.hidden_size))
        self.attention = ProbeAttention(config)
        self.layernorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """[B, S, D], and the additive mask of patches [B, 1, 1, S] or None -> [B, D]."""
        y = self.attention(self.probe.expand(x.shape[0], -1, -1), x, mask)  # [B, 1, D]
        y = y + self.mlp(self.layernorm(y))
        return cast(Tensor, y[:, 0])


class ProbeAttention(nn.Module):
    """Cross-attention with q, k and v packed as in nn.MultiheadAttention, whose names it keeps.

    Always eager: that is what the reference's nn.MultiheadAttention does when it returns weights.
    """

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        width, self.heads = config.hidden_size, config.num_attention_heads
        check_heads(width, self.heads)
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, probe: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        inputs = (probe, x, x)  # [B, 1, D], [B, S, D], [B, S, D]
        projected = map(F.linear, inputs, weights, biases)
        q, k, v = (split_heads(t, self.heads) for t in projected)
        return cast(Tensor, self.out_proj(join_heads(eager_attention(q, k, v, mask, 0.0))))


def check_heads(width: int, heads: int) -> None:
    if width % heads:
        raise ValueError(f"hidden_size {width} is not divisible by num_attention_heads {heads}")


def split_heads(x: Tensor, heads: int) -> Tensor:
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)  # [B, S, D] -> [B, heads, S, D / heads]


def join_heads(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)  # [B, heads, S, D / heads] -> [B, S, D]
