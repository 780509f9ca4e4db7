"""Stands in for the flash-attn package where there is no GPU: its call's contract, computed slowly."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
import torch
from torch import Tensor

Shape = tuple[int, ...]


def install(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Shape, torch.dtype]]:
    """Shape and dtype of q of every call to come are appended to the list that is returned."""
    calls = list[tuple[Shape, torch.dtype]]()

    def flash_attn_func(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        dropout_p: float = 0.0,
        softmax_scale: float | None = None,
        causal: bool = False,
    ) -> Tensor:
        """[batch, length, heads, head_dim] in half precision, as the real one takes them."""
        assert q.dtype in (torch.float16, torch.bfloat16) and q.dtype == k.dtype == v.dtype
        assert q.ndim == 4 and q.shape == k.shape == v.shape
        assert q.shape[-1] <= 256
        assert not causal
        calls.append((tuple(q.shape), q.dtype))
        scale = q.shape[-1] ** -0.5 if softmax_scale is None else softmax_scale
        weights = torch.einsum("bqhd,bkhd->bhqk", q.float(), k.float()).mul(scale).softmax(-1)
        return torch.einsum("bhqk,bkhd->bqhd", weights, v.float()).to(q.dtype)

    module = ModuleType("flash_attn")
    module.__spec__ = ModuleSpec("flash_attn", loader=None)
    module.flash_attn_func = flash_attn_func  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flash_attn", module)
    return calls
