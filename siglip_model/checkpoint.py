"""Hugging Face folder -> model: nothing missing, nothing left over, nothing of another shape."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from siglip_model.attention import attention_function
from siglip_model.auto import MODELS
from siglip_model.files import CONFIG, CheckpointError, read_json, require
from siglip_model.modeling import SiglipModel, SiglipTextModel, SiglipVisionModel
from siglip_model.pretrained import Pretrained, head_dims
from siglip_model.weights import Place, opened, places

Model = TypeVar("Model", bound=Pretrained)

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
    ignore_mismatched_sizes: bool = False,
) -> Model:
    folder = Path(folder)
    stored = _stored_type(kind, folder)
    config = read_config(kind, folder) if config is None else config
    for width in head_dims(config):  # a wrong argument is not the checkpoint's fault
        attention_function(attn_implementation, width)
    try:
        with _ShapesOnly():
            model = kind(config, attn_implementation)
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:  # numbers that torch cannot take
        raise CheckpointError(f"{folder / CONFIG}: {' '.join(str(error).split())}") from None
    standalone = stored != kind.whole_type
    found = _of_this_model(places(folder, allow_pickle=allow_pickle), kind.weight_prefixes, standalone)
    if ignore_mismatched_sizes:
        found = _without_misfits(found, model.fresh_weights())
    fresh = _fresh(model, found, folder)
    expected = {name: tensor for name, tensor in model.state_dict().items() if name not in fresh}
    state = _read(found, expected, folder, dtype, device)
    state |= {name: tensor.to(device, dtype) for name, tensor in fresh.items()}
    model.load_state_dict(state, assign=True)
    return model.eval()


def read_config(kind: type[Pretrained], folder: Path, **overrides: Any) -> Any:
    return kind.config_class.from_pretrained(folder, **overrides)


class _ShapesOnly(TorchFunctionMode):
    """Neither memory nor random numbers are spent: tensors are made on the meta device, and stay as they are.

    torch.nn.init would do nothing to them, but it would load torch's compiler for that, for a second.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.empty, torch.zeros):
            kwargs["device"] = "meta"
        elif getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _stored_type(kind: type[Pretrained], folder: Path) -> str:
    require(folder, CONFIG)
    stored = str(read_json(folder / CONFIG).get("model_type", kind.whole_type))
    if stored not in MODELS:
        raise CheckpointError(f"{folder / CONFIG} has model_type {stored}; known are {', '.join(MODELS)}")
    wanted = kind.config_class.model_type
    if stored not in (wanted, kind.whole_type):
        raise CheckpointError(f"{folder} holds a {stored}, not a {wanted}")
    return stored


def _of_this_model(
    found: Mapping[str, Place], prefixes: tuple[str, ...], standalone: bool
) -> dict[str, Place]:
    """Those of the tensors that belong to this model, by its own names for them.

    A part in a whole model's files: the other parts are passed over. A standalone tower's names
    carry its prefix, or from Transformers 5.6 on they do not.
    """
    if standalone and not any(name.startswith(prefixes) for name in found):
        return {prefixes[0] + name: place for name, place in found.items()}
    if standalone:
        return dict(found)
    return {name: place for name, place in found.items() if name.startswith(prefixes)}


def _without_misfits(found: Mapping[str, Place], fresh: Mapping[str, Tensor]) -> dict[str, Place]:
    """Without the parts that may start at random, if any of them has another shape."""
    for name in fresh.keys() & found.keys():
        path, stored = found[name]
        with opened(path) as (shapes, _):
            if shapes[stored] != list(fresh[name].shape):
                return {name: place for name, place in found.items() if name not in fresh}
    return dict(found)


def _fresh(model: Pretrained, found: Mapping[str, Place], folder: Path) -> dict[str, Tensor]:
    """Starting weights of the parts that a checkpoint need not have, when it has none of them."""
    fresh = model.fresh_weights()
    if not fresh or any(name in found for name in fresh):
        return {}
    warnings.warn(
        f"{folder} has no {', '.join(sorted(fresh))}: they start at random and want training", stacklevel=5
    )
    return fresh


def _read(
    found: Mapping[str, Place],
    expected: Mapping[str, Tensor],
    folder: Path,
    dtype: torch.dtype | None,
    device: torch.device | str,
) -> dict[str, Tensor]:
    """Check names and shapes from the files' headers, then read the tensors one at a time."""
    complaints = [
        _complaint("missing", sorted(expected.keys() - found.keys())),
        _complaint("left over", sorted(found.keys() - expected.keys())),
    ]
    state: dict[str, Tensor] = {}
    wrong = []
    for path in sorted({path for path, _ in found.values()}):
        with opened(path, device) as (shapes, read):
            for key, (home, name) in found.items():
                if home != path or key not in expected:
                    continue
                needed = list(expected[key].shape)
                if shapes[name] != needed:
                    wrong.append(f"{key} is {shapes[name]} and must be {needed}")
                elif not any(complaints):
                    state[key] = read(name).to(dtype)
    complaints.append(_complaint("wrong shape", wrong))
    if any(complaints):
        raise CheckpointError(f"{folder}: " + "; ".join(filter(None, complaints)))
    return state


def _complaint(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f"{what}: {', '.join(names[:MAX_NAMES])}{more}"
