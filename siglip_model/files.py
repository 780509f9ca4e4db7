"""Finds the files of a checkpoint: a local folder, or a model on the Hugging Face hub.

Nothing here imports torch: the gateway uses it too.
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
VOCABULARY = "spiece.model"
TOKENIZER_JSON = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS = "special_tokens_map.json"
IMAGE_PROCESSOR_CONFIG = "preprocessor_config.json"
PROCESSOR_CONFIG = "processor_config.json"
PROCESSING_FILES = (
    CONFIG,
    VOCABULARY,
    TOKENIZER_JSON,
    TOKENIZER_CONFIG,
    SPECIAL_TOKENS,
    IMAGE_PROCESSOR_CONFIG,
    PROCESSOR_CONFIG,
)
WEIGHT_FILES = (CONFIG, "*.safetensors", WEIGHTS_INDEX)
PICKLED_WEIGHTS = "pytorch_model.bin"
PICKLED_WEIGHT_FILES = (*WEIGHT_FILES, "pytorch_model*.bin", PICKLED_WEIGHTS + ".index.json")
ALL_FILES = (*PROCESSING_FILES, *WEIGHT_FILES)
# The two scalars of the logits and how far from zero each may be: exp(80) and all that is multiplied
# with it are still float32.
SCALARS = {"logit_scale": 80.0, "logit_bias": 1e30}


class CheckpointError(Exception):
    """The files of a model are missing, incomplete or damaged. One line, with what to do."""


@dataclass(frozen=True, slots=True)
class CheckpointFiles:
    folder: Path
    revision: str
    """Commit on the hub; empty for a local folder."""


@contextmanager
def damage_told(folder: Path) -> Iterator[None]:
    """Turns whatever a damaged file makes its readers raise into a CheckpointError.

    The readers check what they foresee and say it better; this is for the rest.
    """
    try:
        yield
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        text = " ".join(str(error).split())
        raise CheckpointError(f"{folder} holds no usable model: {type(error).__name__}: {text}") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; {} when the file does not exist."""
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds {type(values).__name__}, not an object")
    return values


def read_image_config(folder: Path) -> dict[str, Any]:
    """Settings of the image processor, from the file of Transformers 4 or else of Transformers 5."""
    values = read_json(folder / IMAGE_PROCESSOR_CONFIG)
    if not values:
        values = read_json(folder / PROCESSOR_CONFIG).get("image_processor") or {}
    if not isinstance(values, dict):
        raise CheckpointError(f"{folder / PROCESSOR_CONFIG}: image_processor must be an object")
    return values


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def resolve(
    model: str | Path,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | None = None,
    local_files_only: bool = False,
    only: tuple[str, ...] = ALL_FILES,
    progress: type | None = None,
) -> CheckpointFiles:
    """A folder is taken as it is; anything else is a hub id, `owner/name`.

    From the hub only the files matching `only` are fetched, into the usual cache; HF_ENDPOINT,
    HF_HUB_OFFLINE, HF_HOME and HF_TOKEN are honoured. `progress` is a class like tqdm; without
    it nothing is drawn. Raises CheckpointError.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return CheckpointFiles(folder, "")
    if folder.exists():
        raise CheckpointError(f"{model} is a file; give the folder that holds {CONFIG}, or a hub id")
    from siglip_model.hub import download

    return download(
        str(model),
        revision=revision,
        cache_dir=cache_dir,
        token=token,
        local_files_only=local_files_only,
        only=only,
        progress=progress,
    )


def hub_options(options: dict[str, Any]) -> dict[str, Any]:
    """Takes `resolve`'s options out of those of a `from_pretrained`.

    `trust_remote_code` goes too: no code of a checkpoint is ever run.
    """
    options.pop("trust_remote_code", None)
    names = ("revision", "cache_dir", "token", "local_files_only")
    return {name: options.pop(name) for name in names if name in options}


def require(folder: Path, *names: str) -> None:
    """Raise CheckpointError naming those of `names` that `folder` lacks, or that are empty."""
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(f"{folder} lacks {', '.join(missing)}")
    empty = [name for name in names if not (folder / name).stat().st_size]
    if empty:
        raise CheckpointError(f"{folder} has empty files: {', '.join(empty)}")


def weight_files(folder: Path, *, allow_pickle: bool = False) -> list[Path]:
    """The weights of a checkpoint: one file, or the shards that its index names.

    Safetensors where there are any. `allow_pickle` takes PyTorch's own files where there are not.
    """
    if found := _whole_or_shards(folder, WEIGHTS, WEIGHTS_INDEX):
        return found
    if allow_pickle and (found := _whole_or_shards(folder, PICKLED_WEIGHTS, PICKLED_WEIGHTS + ".index.json")):
        return found
    others = sorted(path.name for path in folder.glob("*.bin"))
    if others and not allow_pickle:
        raise CheckpointError(
            f"{folder} lacks {WEIGHTS}; {others[0]} is a pickle and is read only when asked for, with "
            "from_pretrained(..., use_safetensors=False); `siglip convert` makes safetensors of it"
        )
    raise CheckpointError(f"{folder} lacks {WEIGHTS}")


def _whole_or_shards(folder: Path, name: str, index: str) -> list[Path]:
    if (folder / index).is_file():
        weight_map = read_json(folder / index).get("weight_map")
        if not isinstance(weight_map, dict):
            raise CheckpointError(f"{folder / index} has no weight_map")
        shards = sorted(set(map(str, weight_map.values())))
        if any(Path(shard).name != shard for shard in shards):
            raise CheckpointError(f"{folder / index} names files outside its folder")
        require(folder, *shards)
        return [folder / shard for shard in shards]
    return [folder / name] if (folder / name).is_file() else []


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where one tensor lies in a safetensors file."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int

    def chunks(self, max_bytes: int = 1 << 20) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            file.seek(self.start)
            for done in range(0, self.size, max_bytes):
                yield file.read(min(max_bytes, self.size - done))


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """All tensors of a checkpoint by name, from the files' headers only."""
    found: dict[str, StoredTensor] = {}
    for path in weight_files(folder):
        for name, tensor in _read_header(path):
            if name in found:
                raise CheckpointError(f"{name} is in {found[name].path.name} and in {path.name}")
            found[name] = tensor
    return found


def _read_header(path: Path) -> Iterator[tuple[str, StoredTensor]]:
    """A safetensors file is: length of the header (u64, little-endian), header (JSON), data."""
    try:
        file_size = path.stat().st_size
        with path.open("rb") as file:
            header_size = int.from_bytes(file.read(8), "little")
            if not 2 <= header_size <= file_size - 8:
                raise ValueError(f"header of {header_size} bytes in a file of {file_size}")
            header = json.loads(file.read(header_size))
        for name, entry in header.items():
            if name != "__metadata__":
                start, end = (8 + header_size + int(offset) for offset in entry["data_offsets"])
                if not start <= end <= file_size:
                    raise ValueError(f"{name} ends at byte {end} of {file_size}: the file is truncated")
                yield name, StoredTensor(path, entry["dtype"], _shape(name, entry), start, end - start)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from None


def _shape(name: str, entry: Mapping[str, Any]) -> tuple[int, ...]:
    shape = entry["shape"]
    if not isinstance(shape, list) or not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError(f"{name} has the shape {shape!r}")
    return tuple(shape)


def check_names(folder: str | Path) -> None:
    """Raise CheckpointError for tensors of a whole model that belong to neither tower nor to the logits."""
    ours = ("text_model.", "vision_model.", *SCALARS)
    foreign = sorted(name for name in stored_tensors(Path(folder)) if not name.startswith(ours))
    if foreign:
        raise CheckpointError(f"{folder} has tensors of another model, {len(foreign)}: {foreign[0]}, ...")


def read_scalars(folder: str | Path) -> tuple[float, float]:
    """(exp(logit_scale), logit_bias): the multiplier and the offset of every logit."""
    tensors = stored_tensors(Path(folder))
    missing = [name for name in SCALARS if name not in tensors]
    if missing:
        raise CheckpointError(f"{folder} has no {' and no '.join(missing)}: it is not a whole SigLIP model")
    scale, bias = (_scalar(name, tensors[name], limit) for name, limit in SCALARS.items())
    return math.exp(scale), bias


def _scalar(name: str, tensor: StoredTensor, limit: float) -> float:
    """Its value, at most `limit` from zero; NaN is not."""
    value = _only_number(tensor)
    if not abs(value) <= limit:
        raise CheckpointError(f"{tensor.path}: {name} is {value:g}, allowed are -{limit:g} to {limit:g}")
    return value


def _only_number(tensor: StoredTensor) -> float:
    data = b"".join(tensor.chunks())
    if math.prod(tensor.shape) != 1:
        raise CheckpointError(f"{tensor.path} holds a scalar of shape {list(tensor.shape)}")
    if tensor.dtype == "BF16":  # the upper half of a float32, which numpy has no name for
        data, dtype = b"\0\0" + data, "F32"
    else:
        dtype = tensor.dtype
    kinds: dict[str, npt.DTypeLike] = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
    if dtype not in kinds:
        raise CheckpointError(f"{tensor.path} holds a scalar of type {tensor.dtype}")
    if len(data) != np.dtype(kinds[dtype]).itemsize:
        raise CheckpointError(f"{tensor.path} holds a scalar of type {tensor.dtype} in {tensor.size} bytes")
    return float(np.frombuffer(data, kinds[dtype])[0])
