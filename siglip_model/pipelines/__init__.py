"""`pipeline(task, model)`: a checkpoint with all that its task needs, ready to be called with pictures."""

import warnings
from pathlib import Path
from typing import Any

import torch

from siglip_model.auto import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    AutoProcessor,
    AutoTokenizer,
)
from siglip_model.files import resolve
from siglip_model.pipelines.image_classification import ImageClassificationPipeline
from siglip_model.pipelines.zero_shot import ZeroShotImageClassificationPipeline
from siglip_model.pretrained import Device, device_of, dtype_of

ZERO_SHOT = "zero-shot-image-classification"
CLASSIFICATION = "image-classification"


def pipeline(
    task: str = ZERO_SHOT,
    model: Any = None,
    *,
    image_processor: Any = None,
    tokenizer: Any = None,
    processor: Any = None,
    framework: str = "pt",
    revision: str | None = None,
    token: str | None = None,
    use_fast: bool | None = None,
    device: Device | None = None,
    device_map: Any = None,
    torch_dtype: torch.dtype | str | None = None,
    dtype: torch.dtype | str | None = None,
    model_kwargs: dict[str, Any] | None = None,
    **defaults: Any,
) -> Any:
    """A callable: see ZeroShotImageClassificationPipeline and ImageClassificationPipeline.

    task: "zero-shot-image-classification" or "image-classification".
    model: a folder, a hub id, or a model, which needs a processor beside it.
    image_processor, tokenizer, processor: objects, or where to load them from; by default where
        the model is. A processor holds the other two.
    use_fast: which image processor is taken; None takes the kind that was saved.
    device: "cuda:1", 1, "cpu", -1 (the CPU, or where a given model is), or None and "auto": the
        first accelerator there is, and the CPU without any. `device_map` names one as well.
    torch_dtype, dtype: float32 when not given; "auto" keeps the stored one.
    model_kwargs: what else the model's `from_pretrained` takes, such as attn_implementation.
    defaults: options of the call, given once: candidate_labels, batch_size, allow_urls, ...
    """
    if task not in (ZERO_SHOT, CLASSIFICATION):
        raise ValueError(f"task must be {ZERO_SHOT!r} or {CLASSIFICATION!r}, not {task!r}")
    if framework != "pt":
        raise ValueError(f"framework must be 'pt', PyTorch, not {framework!r}")
    if model is None:
        raise ValueError("model must be a folder, a hub id or a model: there is no default checkpoint")
    if device is not None and device_map is not None:
        raise ValueError("give device or device_map, not both")
    place = choose_device(device, model) if device_map is None else device_of(device_map)
    number_type = dtype if torch_dtype is None else torch_dtype
    folder = resolve(model, revision=revision, token=token).folder if _is_place(model) else None
    if folder is None:
        _check_dtype(model, number_type)
        model = model.to(place)
    else:
        auto = AutoModelForImageClassification if task == CLASSIFICATION else AutoModel
        model = auto.from_pretrained(folder, device=place, torch_dtype=number_type, **(model_kwargs or {}))
    if _is_place(processor):
        processor = AutoProcessor.from_pretrained(processor)
    pictures = image_processor or getattr(processor, "image_processor", None) or folder
    pictures = _loaded("image_processor", pictures, AutoImageProcessor, use_fast=use_fast)
    if task == CLASSIFICATION:
        return ImageClassificationPipeline(model, pictures, **defaults)
    texts = tokenizer or getattr(processor, "tokenizer", None) or folder
    texts = _loaded("tokenizer", texts, AutoTokenizer)
    return ZeroShotImageClassificationPipeline(model, pictures, texts, **defaults)


def _loaded(name: str, part: Any, auto: Any, **options: Any) -> Any:
    """The part itself, or what lies in the place that is given for it."""
    if part is None:
        raise ValueError(f"with a model that is not loaded here, give {name}= or processor= too")
    return auto.from_pretrained(part, **options) if _is_place(part) else part


def choose_device(device: Device | None, model: Any = None) -> torch.device:
    """As the reference: an accelerator where there is one; a model given on one stays where it is."""
    here = getattr(model, "device", torch.device("cpu"))
    if device is None or device == -1:
        return here if device == -1 or here.type != "cpu" else device_of("auto")
    if isinstance(device, int) and not torch.cuda.is_available():
        best = device_of("auto")
        if best.type == "cpu":
            warnings.warn(
                f"device {device} is asked for, this machine has no GPU: the CPU is used", stacklevel=3
            )
        return best
    return device_of(device)


def _is_place(value: Any) -> bool:
    return isinstance(value, str | Path)


def _check_dtype(model: Any, number_type: torch.dtype | str | None) -> None:
    if number_type not in (None, "auto") and dtype_of(number_type) != model.dtype:
        raise ValueError(f"the model is in {model.dtype}: call model.to({number_type}) to change it")
