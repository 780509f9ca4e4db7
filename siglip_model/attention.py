"""Scaled dot-product attention, softmax(q k^T / sqrt(d) + mask) v: one function per implementation.

q, k, v and the result are [batch, heads, length, head_dim]; mask is additive and broadcastable to
[batch, heads, length, length], or None.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

AttentionFunction = Callable[[Tensor, Tensor, Tensor, Tensor | None, float], Tensor]


def eager_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores + mask
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype)
    return F.dropout(weights, dropout) @ v


def sdpa_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)


ATTENTION_FUNCTIONS: dict[str, AttentionFunction] = {
    "eager": eager_attention,
    "sdpa": sdpa_attention,
}


def attention_function(name: str) -> AttentionFunction:
    if name not in ATTENTION_FUNCTIONS:
        known = ", ".join(ATTENTION_FUNCTIONS)
        raise ValueError(f"attn_implementation must be one of {known}, not {name!r}")
    return ATTENTION_FUNCTIONS[name]


def additive_mask(attention_mask: Tensor, dtype: torch.dtype) -> Tensor:
    """1 = look, 0 = ignore, [batch, length] -> 0 or the lowest number, [batch, 1, 1, length]."""
    hidden = attention_mask[:, None, None, :] == 0
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill(
        hidden, torch.finfo(dtype).min
    )
