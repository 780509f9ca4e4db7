"""Scaled dot-product attention, softmax(q k^T / sqrt(d) + mask) v: one function per implementation.

q, k, v and the result are [batch, heads, length, head_dim]; mask is additive and broadcastable to
[batch, heads, length, length], or None.
"""

from collections.abc import Callable
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor

AttentionFunction = Callable[[Tensor, Tensor, Tensor, Tensor | None, float], Tensor]

EAGER, SDPA, FLASH, AUTO = "eager", "sdpa", "flash_attention_2", "auto"
FLASH_DTYPES = (torch.float16, torch.bfloat16)
MAX_FLASH_HEAD_DIM = 256


def eager_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    return attention_weights(q, k, mask, dropout) @ v


def attention_weights(q: Tensor, k: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """[batch, heads, length, length]; the softmax is taken in float32."""
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores + mask
    return F.dropout(scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype), dropout)


def sdpa_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """PyTorch's own; on CUDA in half precision and without a mask it runs FlashAttention's kernels."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)


def flash_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """The flash-attn package's kernel, which takes [batch, length, heads, head_dim] and no mask."""
    from flash_attn import flash_attn_func

    if mask is not None:
        raise ValueError(f"{FLASH} takes no attention_mask")
    if q.dtype not in FLASH_DTYPES:
        raise ValueError(
            f"{FLASH} computes in float16 or bfloat16, not in {_name(q.dtype)}: "
            f"load the model with torch_dtype=torch.bfloat16, or call it under torch.autocast"
        )
    rows = (x.transpose(1, 2) for x in (q, k, v))
    y: Tensor = flash_attn_func(*rows, dropout_p=dropout, causal=False)
    return y.transpose(1, 2)


ATTENTION_FUNCTIONS: dict[str, AttentionFunction] = {
    EAGER: eager_attention,
    SDPA: sdpa_attention,
    FLASH: flash_attention,
}


def attention_function(name: str, head_dim: int) -> AttentionFunction:
    """Raises ValueError for an unknown name or an unfit width, ImportError for a package not there."""
    if name not in ATTENTION_FUNCTIONS:
        known = ", ".join([*ATTENTION_FUNCTIONS, AUTO])
        raise ValueError(f"attn_implementation must be one of {known}, not {name!r}")
    if name == FLASH and head_dim > MAX_FLASH_HEAD_DIM:
        raise ValueError(
            f"{FLASH} takes heads of at most {MAX_FLASH_HEAD_DIM} numbers, "
            f"this model's have {head_dim}: use {SDPA}"
        )
    if name == FLASH and find_spec("flash_attn") is None:
        raise ImportError(f"{FLASH} needs the flash-attn package: pip install 'siglip[flash]', or use {SDPA}")
    return ATTENTION_FUNCTIONS[name]


def choose_attention(name: str | None, dtype: torch.dtype, device: torch.device, head_dims: list[int]) -> str:
    """`name` itself, sdpa for None, and for `auto` the fastest that this machine has."""
    if name != AUTO:
        return name or SDPA
    flash = (
        device.type == "cuda"
        and dtype in FLASH_DTYPES
        and all(head_dim <= MAX_FLASH_HEAD_DIM for head_dim in head_dims)
        and find_spec("flash_attn") is not None
    )
    return FLASH if flash else SDPA


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def prepare_mask(attention_mask: Tensor | None, dtype: torch.dtype, implementation: str) -> Tensor | None:
    """1 = look, 0 = ignore, [batch, length] -> 0 or the lowest number, [batch, 1, 1, length].

    Under FlashAttention a mask of ones is dropped and any other refused: its kernel would have to
    drop the masked rows, and the text vector is read from the last one, padding or not.
    """
    if attention_mask is None:
        return None
    if implementation != FLASH:
        return additive_mask(attention_mask, dtype)
    if (attention_mask == 0).any():
        raise ValueError(
            f"attention_mask has zeros, which {FLASH} cannot follow: use {SDPA} or {EAGER}, or leave the "
            "mask out, as the published SigLIP models were trained"
        )
    return None


def additive_mask(attention_mask: Tensor, dtype: torch.dtype) -> Tensor:
    hidden = attention_mask[:, None, None, :] == 0
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill(
        hidden, torch.finfo(dtype).min
    )
