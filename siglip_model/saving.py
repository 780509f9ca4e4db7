"""Model -> Hugging Face folder: config.json and safetensors, one file or shards.

Every file is written beside its place and then moved there, the one that makes the folder a
checkpoint last: a crash leaves the old checkpoint or the new one, never a mixture that loads.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from siglip_model.files import CONFIG, WEIGHTS, WEIGHTS_INDEX, write_json
from siglip_model.pretrained import Pretrained

MAX_SHARD_BYTES = 5_000_000_000  # as Transformers 4 does
UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def save(model: Pretrained, folder: str | Path, *, max_shard_bytes: int = MAX_SHARD_BYTES) -> None:
    """Write config.json and the weights, readable by Transformers 4 and 5.

    Weights above `max_shard_bytes` are split over several files. Weights that the folder held
    before are removed.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().contiguous().cpu() for name, tensor in model.state_dict().items()}
    shards = _shards(state, max_shard_bytes)
    names = [_shard_name(index, len(shards)) for index in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        save_file(shard, folder / _unfinished(name), metadata={"format": "pt"})
    for old in [*folder.glob("model*.safetensors"), folder / WEIGHTS_INDEX]:
        old.unlink(missing_ok=True)
    _write_config(model, folder)
    for name in names:
        path = folder / _unfinished(name)
        path.chmod(0o644)  # safetensors leaves it readable by its owner alone
        path.replace(folder / name)
    if len(shards) > 1:
        weight_map = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
        total = sum(tensor.nbytes for tensor in state.values())
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        write_json(folder / WEIGHTS_INDEX, index)


def size_in_bytes(size: int | str) -> int:
    """5000000000, "5GB" or "512MiB". Raises ValueError."""
    if isinstance(size, int):
        return size
    match = re.fullmatch(r"\s*(\d+)\s*([A-Za-z]+)\s*", size)
    if match is None or match[2].upper() not in UNITS:
        raise ValueError(f'max_shard_size must be bytes or a size like "5GB" or "512MiB", not {size!r}')
    return int(match[1]) * UNITS[match[2].upper()]


def _shard_name(index: int, count: int) -> str:
    return WEIGHTS if count == 1 else f"model-{index:05d}-of-{count:05d}.safetensors"


def _unfinished(name: str) -> str:
    return f".{name}.unfinished"  # what no reader takes for weights


def _write_config(model: Pretrained, folder: Path) -> None:
    dtype = str(model.dtype).removeprefix("torch.")
    extra: dict[str, Any] = {"architectures": [type(model).__name__], "torch_dtype": dtype}
    write_json(folder / CONFIG, model.config.to_diff_dict() | extra)


def _shards(state: Mapping[str, Tensor], max_bytes: int) -> list[dict[str, Tensor]]:
    """In order, each as full as the limit allows; a tensor above the limit has a shard of its own."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in state.items():
        if shards[-1] and size + tensor.nbytes > max_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    return shards
