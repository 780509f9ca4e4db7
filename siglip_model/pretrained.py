"""What all models share: read from and written to a folder, attention, gradient checkpointing."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from siglip_model.attention import AUTO, choose_attention
from siglip_model.initialization import init_weights
from siglip_model.layers import Encoder

log = logging.getLogger(__name__)

Device = torch.device | str | int


class Pretrained(nn.Module):
    """A model that is read from and written to a folder in the Hugging Face layout."""

    config_class: ClassVar[Any]
    config: Any
    whole_type: ClassVar[str] = "siglip"
    """`model_type` of the files in which this model lies whole or is a part."""
    weight_prefixes: ClassVar[tuple[str, ...]] = ("",)
    """What its names begin with there."""
    supports_gradient_checkpointing: ClassVar[bool] = True

    def __init__(self, config: Any, attn_implementation: str | None = None) -> None:
        super().__init__()
        self.config = config
        dtype, device = torch.get_default_dtype(), torch.get_default_device()
        self.attn_implementation = choose_attention(attn_implementation, dtype, device, head_dims(config))

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        config: Any = None,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | None = None,
        local_files_only: bool = False,
        torch_dtype: torch.dtype | str | None = None,
        dtype: torch.dtype | str | None = None,
        device: Device | None = None,
        device_map: Device | Mapping[str, Device] | None = None,
        attn_implementation: str | None = None,
        low_cpu_mem_usage: bool | None = None,
        use_safetensors: bool = True,
        ignore_mismatched_sizes: bool = False,
        trust_remote_code: bool | None = None,
        **config_overrides: Any,
    ) -> Self:
        """`model` is a folder or a hub id. In evaluation mode.

        torch_dtype (or dtype): float32 when not given; "auto" keeps the stored one; a name is
            understood too, "bfloat16".
        device (or device_map): one device, "auto" for the first GPU there is. Splitting a model
            over several is not supported: no SigLIP is too large for one.
        attn_implementation: "eager", "sdpa" (the default), "flash_attention_2", or "auto".
        low_cpu_mem_usage: accepted; memory is always mapped.
        use_safetensors: False also allows a pickled `pytorch_model.bin`, read with `weights_only`.
        ignore_mismatched_sizes: a classifier of another size starts at random, as a missing one does.
        trust_remote_code: accepted; no code of a checkpoint is ever run.
        config_overrides: fields of the configuration, for example num_labels.

        Raises CheckpointError: no weight may be missing, left over or of another shape.
        """
        from siglip_model import checkpoint, files

        only = files.WEIGHT_FILES if use_safetensors else files.PICKLED_WEIGHT_FILES
        folder = files.resolve(
            model,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
            only=only,
        ).folder
        if config is None:
            config = checkpoint.read_config(cls, folder, **config_overrides)
        elif config_overrides:
            raise TypeError(f"with config= the overrides {', '.join(config_overrides)} go into it")
        place = device_of(device_map if device is None else device)
        number = dtype_of(dtype if torch_dtype is None else torch_dtype)
        attention = choose_attention(attn_implementation, number or torch.float32, place, head_dims(config))
        if attn_implementation == AUTO:
            log.info("attn_implementation auto is %s for %s on %s", attention, number or "any dtype", place)
        return checkpoint.load(
            cls,
            folder,
            config=config,
            dtype=number,
            device=place,
            attn_implementation=attention,
            allow_pickle=not use_safetensors,
            ignore_mismatched_sizes=ignore_mismatched_sizes,
        )

    def save_pretrained(
        self, folder: str | Path, *, max_shard_size: int | str = "5GB", safe_serialization: bool = True
    ) -> None:
        """Write `config.json` and the weights as safetensors, above `max_shard_size` in several files."""
        from siglip_model import saving

        if not safe_serialization:
            raise ValueError("safe_serialization=False would write a pickle; only safetensors are written")
        saving.save(self, folder, max_shard_bytes=saving.size_in_bytes(max_shard_size))

    def initialize(self) -> None:
        """Starting weights; on the meta device there are none."""
        if not next(self.parameters()).is_meta:
            self.apply(init_weights)

    def fresh_weights(self) -> dict[str, Tensor]:
        """Starting values of the weights that a checkpoint need not have."""
        return {}

    def num_parameters(self, only_trainable: bool = False) -> int:
        return sum(p.numel() for p in self.parameters() if p.requires_grad or not only_trainable)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def set_attn_implementation(self, attn_implementation: str) -> None:
        chosen = choose_attention(attn_implementation, self.dtype, self.device, head_dims(self.config))
        for encoder in self._encoders():
            encoder.use(chosen)
        self.attn_implementation = chosen

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: Mapping[str, bool] | None = None
    ) -> None:
        """In training keep only each layer's input, and compute the rest again for the gradients."""
        for encoder in self._encoders():
            encoder.set_recompute(True, **(gradient_checkpointing_kwargs or {}))

    def gradient_checkpointing_disable(self) -> None:
        for encoder in self._encoders():
            encoder.set_recompute(False)

    @property
    def is_gradient_checkpointing(self) -> bool:
        return any(encoder.recompute is not None for encoder in self._encoders())

    def _encoders(self) -> list[Encoder]:
        return [module for module in self.modules() if isinstance(module, Encoder)]


def head_dims(config: Any) -> list[int]:
    """Width of an attention head in each tower of the configuration."""
    towers = [getattr(config, name, None) for name in ("text_config", "vision_config")]
    return [tower.hidden_size // tower.num_attention_heads for tower in towers if tower] or [
        config.hidden_size // config.num_attention_heads
    ]


def dtype_of(name: torch.dtype | str | None) -> torch.dtype | None:
    """None, for the stored one, of "auto"."""
    if name is None:
        return torch.float32
    if name == "auto" or isinstance(name, torch.dtype):
        return name if isinstance(name, torch.dtype) else None
    found = getattr(torch, name.removeprefix("torch."), None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f'torch_dtype must be a floating point type, its name or "auto", not {name!r}')
    return found


def device_of(device: Device | Mapping[str, Device] | None) -> torch.device:
    if isinstance(device, Mapping):
        if set(device) != {""}:
            raise ValueError(f"device_map must name one device for the whole model, not {device}")
        device = device[""]
    if device == "auto":
        device = next((name for name in ("cuda", "mps") if getattr(torch, name).is_available()), "cpu")
    if isinstance(device, int):
        device = f"cuda:{device}" if device >= 0 else "cpu"
    return torch.device(device or "cpu")
