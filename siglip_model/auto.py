"""The class that fits a checkpoint: found in its files, so that one import serves all of them.

Nothing here imports torch; the classes are imported when they are asked for.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

from siglip_model.files import (
    CONFIG,
    PROCESSING_FILES,
    TOKENIZER_JSON,
    VOCABULARY,
    CheckpointError,
    hub_options,
    read_image_config,
    read_json,
    resolve,
)

CONFIGS = {
    "siglip": "SiglipConfig",
    "siglip_text_model": "SiglipTextConfig",
    "siglip_vision_model": "SiglipVisionConfig",
    "siglip2": "Siglip2Config",
    "siglip2_text_model": "Siglip2TextConfig",
    "siglip2_vision_model": "Siglip2VisionConfig",
}
MODELS = {model_type: name.replace("Config", "Model") for model_type, name in CONFIGS.items()}
CLASSIFIERS = {"siglip": "SiglipForImageClassification", "siglip2": "Siglip2ForImageClassification"}
PROCESSORS = {"siglip": "SiglipProcessor", "siglip2": "Siglip2Processor"}


class AutoConfig:
    @classmethod
    def from_pretrained(cls, model: str | Path, **options: Any) -> Any:
        folder = _folder(model, hub_options(options))
        return _class_for(folder, CONFIGS).from_pretrained(folder, **options)


class AutoModel:
    @classmethod
    def from_pretrained(cls, model: str | Path, **options: Any) -> Any:
        """Options are those of `SiglipModel.from_pretrained`."""
        return _model(model, options, MODELS)

    @classmethod
    def from_config(cls, config: Any, **options: Any) -> Any:
        """A model with starting weights."""
        return _class(MODELS[config.model_type])(config, **options)


class AutoModelForZeroShotImageClassification(AutoModel):
    pass


class AutoModelForImageClassification:
    @classmethod
    def from_pretrained(cls, model: str | Path, **options: Any) -> Any:
        return _model(model, options, CLASSIFIERS)


class AutoTokenizer:
    @classmethod
    def from_pretrained(cls, model: str | Path, *, use_fast: bool | None = None, **overrides: Any) -> Any:
        """SigLIP's SentencePiece tokenizer, or where the folder has only `tokenizer.json`, SigLIP 2's.

        use_fast: accepted; there is one tokenizer of each kind.
        """
        folder = _folder(model, hub_options(overrides))
        gemma = (folder / TOKENIZER_JSON).is_file() and not (folder / VOCABULARY).is_file()
        return _class("Siglip2Tokenizer" if gemma else "SiglipTokenizer").from_pretrained(folder, **overrides)


class AutoImageProcessor:
    @classmethod
    def from_pretrained(cls, model: str | Path, *, use_fast: bool | None = None, **overrides: Any) -> Any:
        """`use_fast` None takes the kind that was saved; files that name none get Pillow's."""
        folder = _folder(model, hub_options(overrides))
        saved = str(read_image_config(folder).get("image_processor_type", ""))
        name = saved.removesuffix("Fast")
        if name != "Siglip2ImageProcessor":
            fast = saved.endswith("Fast") if use_fast is None else use_fast
            name = "SiglipImageProcessorFast" if fast else "SiglipImageProcessor"
        return _class(name).from_pretrained(folder, **overrides)


class AutoProcessor:
    @classmethod
    def from_pretrained(cls, model: str | Path, **options: Any) -> Any:
        folder = _folder(model, hub_options(options))
        return _class_for(folder, PROCESSORS).from_pretrained(folder, **options)


def _model(model: str | Path, options: dict[str, Any], names: dict[str, str]) -> Any:
    hub = hub_options(options)
    return _class_for(_folder(model, hub), names).from_pretrained(model, **hub, **options)


def _folder(model: str | Path, hub: dict[str, Any]) -> Path:
    return resolve(model, only=PROCESSING_FILES, **hub).folder


def _class_for(folder: Path, names: dict[str, str]) -> Any:
    # Files without a model_type are met in the wild; they hold the first kind of model.
    model_type = str(read_json(folder / CONFIG).get("model_type", "siglip"))
    if model_type not in names:
        raise CheckpointError(f"{folder / CONFIG} has model_type {model_type}; known are {', '.join(names)}")
    return _class(names[model_type])


def _class(name: str) -> Any:
    return getattr(import_module("siglip_model"), name)
