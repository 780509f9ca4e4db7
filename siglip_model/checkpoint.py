"""Hugging Face folder <-> model: safetensors, one file or shards; nothing missing, nothing left over."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from siglip_model.attention import attention_function
from siglip_model.config import SiglipConfig
from siglip_model.files import (
    CONFIG,
    WEIGHTS,
    WEIGHTS_INDEX,
    CheckpointError,
    read_json,
    require,
    weight_files,
    write_json,
)
from siglip_model.modeling import SiglipModel, SiglipTextModel, SiglipVisionModel
from siglip_model.pretrained import Pretrained, head_dims

Model = TypeVar("Model", bound=Pretrained)

PREFIXES = {"siglip": "", "siglip_text_model": "text_model.", "siglip_vision_model": "vision_model."}
MAX_SHARD_BYTES = 5_000_000_000  # as Transformers 4 does
MAX_NAMES = 8  # in one error message


def load_model(
    folder: str | Path,
    *,
    dtype: torch.dtype | None = torch.float32,
    device: torch.device | str = "cpu",
    attn_implementation: str = "sdpa",
) -> SiglipModel:
    """The whole model of a folder, in evaluation mode. `dtype` None keeps the stored one.

    Raises CheckpointError for any tensor that is missing, left over or of another shape.
    """
    return load(SiglipModel, folder, dtype=dtype, device=device, attn_implementation=attn_implementation)


def load_tower(
    folder: str | Path,
    tower: Literal["text", "vision"],
    *,
    dtype: torch.dtype | None = torch.float32,
    device: torch.device | str = "cpu",
    attn_implementation: str = "sdpa",
) -> SiglipTextModel | SiglipVisionModel:
    """One tower, reading only its tensors, from a whole model's folder or a standalone tower's."""
    kinds: dict[str, type[SiglipTextModel | SiglipVisionModel]]
    kinds = {"text": SiglipTextModel, "vision": SiglipVisionModel}
    return load(kinds[tower], folder, dtype=dtype, device=device, attn_implementation=attn_implementation)


def load(
    kind: type[Model],
    folder: str | Path,
    *,
    dtype: torch.dtype | None,
    device: torch.device | str,
    attn_implementation: str,
    config: Any = None,
    allow_pickle: bool = False,
) -> Model:
    folder = Path(folder)
    wanted, stored = kind.config_class.model_type, _stored_type(folder)
    if stored not in (wanted, SiglipConfig.model_type):
        raise CheckpointError(f"{folder} holds a {stored}, not a {wanted}")
    config = read_config(kind, folder) if config is None else config
    for width in head_dims(config):  # a wrong argument is not the checkpoint's fault
        attention_function(attn_implementation, width)
    try:
        with torch.device("meta"), _WithoutInit():  # shapes only: neither memory nor random numbers are spent
            model = kind(config, attn_implementation)
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:  # numbers that torch cannot take
        raise CheckpointError(f"{folder / CONFIG}: {' '.join(str(error).split())}") from None
    names = _names_by_key(weight_files(folder), PREFIXES[wanted], standalone=stored == wanted)
    state = _read(names, model.state_dict(), folder, dtype, device)
    model.load_state_dict(state, assign=True)
    return model.eval()


def read_config(kind: type[Pretrained], folder: Path, **overrides: Any) -> Any:
    return kind.config_class.from_pretrained(folder, **overrides)


def size_in_bytes(size: int | str) -> int:
    return size if isinstance(size, int) else int(size.removesuffix("GB")) * 10**9


class _WithoutInit(TorchFunctionMode):
    """Skips torch.nn.init: without memory it does nothing, but it loads torch's compiler, for a second."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def _stored_type(folder: Path) -> str:
    require(folder, CONFIG)
    config = read_json(folder / CONFIG)
    stored = str(config.get("model_type", SiglipConfig.model_type))
    if stored not in PREFIXES:
        known = ", ".join(PREFIXES)
        raise CheckpointError(f"{folder / CONFIG} has model_type {stored}; known are {known}")
    return stored


Place = tuple[Path, str]  # a file, and the name of a tensor in it


def _names_by_key(files: Iterable[Path], prefix: str, *, standalone: bool) -> dict[str, Place]:
    """Where each tensor of this model lies, by its name in the model.

    A tower in a whole model's files: the other tower and the two scalars are passed over. A
    standalone tower's names carry the prefix, or from Transformers 5.6 on they do not.
    """
    places = {name: (path, name) for path in files for name in _names(path)}
    if standalone and not any(name.startswith(prefix) for name in places):
        return {prefix + name: place for name, place in places.items()}
    if standalone:
        return places
    return {name: place for name, place in places.items() if name.startswith(prefix)}


def _names(path: Path) -> list[str]:
    try:
        with safe_open(path, framework="pt") as file:
            # Old files hold the buffer 0, 1, 2, ... of positions; it is no weight.
            return [name for name in file.keys() if not name.endswith(".position_ids")]  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from None


def _read(
    places: Mapping[str, Place],
    expected: Mapping[str, Tensor],
    folder: Path,
    dtype: torch.dtype | None,
    device: torch.device | str,
) -> dict[str, Tensor]:
    """Check names and shapes from the files' headers, then read the tensors one at a time."""
    complaints = [
        _complaint("missing", sorted(expected.keys() - places.keys())),
        _complaint("left over", sorted(places.keys() - expected.keys())),
    ]
    state: dict[str, Tensor] = {}
    wrong = []
    for path in sorted({path for path, _ in places.values()}):
        with safe_open(path, framework="pt", device=str(device)) as file:
            for key, (home, name) in places.items():
                if home != path or key not in expected:
                    continue
                shape, needed = list(file.get_slice(name).get_shape()), list(expected[key].shape)
                if shape != needed:
                    wrong.append(f"{key} is {shape} and must be {needed}")
                elif not any(complaints):
                    state[key] = file.get_tensor(name).to(dtype)
    complaints.append(_complaint("wrong shape", wrong))
    if any(complaints):
        raise CheckpointError(f"{folder}: " + "; ".join(filter(None, complaints)))
    return state


def _complaint(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f"{what}: {', '.join(names[:MAX_NAMES])}{more}"


def save(model: Pretrained, folder: str | Path, *, max_shard_bytes: int = MAX_SHARD_BYTES) -> None:
    """Write config.json and the weights, readable by Transformers 4 and 5.

    Weights above `max_shard_bytes` are split over several files. Weights that the folder held
    before are removed.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().contiguous().cpu() for name, tensor in model.state_dict().items()}
    _write_config(model, folder)
    for old in [*folder.glob("model*.safetensors"), folder / WEIGHTS_INDEX]:
        old.unlink(missing_ok=True)
    shards = _shards(state, max_shard_bytes)
    if len(shards) == 1:
        _write(state, folder / WEIGHTS)
        return
    weight_map: dict[str, str] = {}
    for index, shard in enumerate(shards, start=1):
        name = f"model-{index:05d}-of-{len(shards):05d}.safetensors"
        _write(shard, folder / name)
        weight_map |= dict.fromkeys(shard, name)
    total = sum(tensor.nbytes for tensor in state.values())
    index_file = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    write_json(folder / WEIGHTS_INDEX, index_file)


def _write(state: dict[str, Tensor], path: Path) -> None:
    save_file(state, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors leaves it readable by its owner alone


def _write_config(model: Pretrained, folder: Path) -> None:
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    extra: dict[str, Any] = {"architectures": [type(model).__name__], "torch_dtype": dtype}
    write_json(folder / CONFIG, model.config.to_dict() | extra)


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
