"""SigLIP in plain PyTorch, Pillow and SentencePiece, compatible with Hugging Face checkpoints.

Names are imported on first use, so that a program which only tokenizes or decodes images never
loads torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from siglip_model.auto import (
        AutoConfig,
        AutoImageProcessor,
        AutoModel,
        AutoModelForImageClassification,
        AutoModelForZeroShotImageClassification,
        AutoProcessor,
        AutoTokenizer,
    )
    from siglip_model.checkpoint import load_model, load_tower
    from siglip_model.classification import SiglipForImageClassification
    from siglip_model.config import SiglipConfig, SiglipTextConfig, SiglipVisionConfig
    from siglip_model.files import CheckpointError
    from siglip_model.image_loading import load_image
    from siglip_model.image_processing import ImageError, ImageLimits, SiglipImageProcessor
    from siglip_model.image_processing_fast import SiglipImageProcessorFast
    from siglip_model.modeling import SiglipModel, SiglipTextModel, SiglipVisionModel
    from siglip_model.open_clip import import_open_clip
    from siglip_model.pipelines import pipeline
    from siglip_model.processor import SiglipProcessor
    from siglip_model.siglip2.config import Siglip2Config, Siglip2TextConfig, Siglip2VisionConfig
    from siglip_model.siglip2.image_processor import Siglip2ImageProcessor
    from siglip_model.siglip2.modeling import (
        Siglip2ForImageClassification,
        Siglip2Model,
        Siglip2TextModel,
        Siglip2VisionModel,
    )
    from siglip_model.siglip2.processor import Siglip2Processor
    from siglip_model.siglip2.tokenizer import Siglip2Tokenizer
    from siglip_model.tokenizer import SiglipTokenizer

_HOMES = {
    "import_open_clip": "open_clip",
    "SiglipImageProcessorFast": "image_processing_fast",
    "SiglipForImageClassification": "classification",
    "AutoProcessor": "auto",
    "AutoImageProcessor": "auto",
    "AutoTokenizer": "auto",
    "AutoModelForZeroShotImageClassification": "auto",
    "AutoModelForImageClassification": "auto",
    "AutoModel": "auto",
    "AutoConfig": "auto",
    "CheckpointError": "files",
    "ImageError": "image_processing",
    "ImageLimits": "image_processing",
    "Siglip2Config": "siglip2.config",
    "Siglip2ForImageClassification": "siglip2.modeling",
    "Siglip2ImageProcessor": "siglip2.image_processor",
    "Siglip2Model": "siglip2.modeling",
    "Siglip2Processor": "siglip2.processor",
    "Siglip2TextConfig": "siglip2.config",
    "Siglip2TextModel": "siglip2.modeling",
    "Siglip2Tokenizer": "siglip2.tokenizer",
    "Siglip2VisionConfig": "siglip2.config",
    "Siglip2VisionModel": "siglip2.modeling",
    "SiglipConfig": "config",
    "SiglipImageProcessor": "image_processing",
    "SiglipModel": "modeling",
    "SiglipProcessor": "processor",
    "SiglipTextConfig": "config",
    "SiglipTextModel": "modeling",
    "SiglipTokenizer": "tokenizer",
    "SiglipVisionConfig": "config",
    "SiglipVisionModel": "modeling",
    "load_image": "image_loading",
    "load_model": "checkpoint",
    "load_tower": "checkpoint",
    "pipeline": "pipelines",
}

__all__ = [
    "AutoConfig",
    "AutoImageProcessor",
    "AutoModel",
    "AutoModelForImageClassification",
    "AutoModelForZeroShotImageClassification",
    "AutoProcessor",
    "AutoTokenizer",
    "CheckpointError",
    "ImageError",
    "ImageLimits",
    "Siglip2Config",
    "Siglip2ForImageClassification",
    "Siglip2ImageProcessor",
    "Siglip2Model",
    "Siglip2Processor",
    "Siglip2TextConfig",
    "Siglip2TextModel",
    "Siglip2Tokenizer",
    "Siglip2VisionConfig",
    "Siglip2VisionModel",
    "SiglipConfig",
    "SiglipForImageClassification",
    "SiglipImageProcessor",
    "SiglipImageProcessorFast",
    "SiglipModel",
    "SiglipProcessor",
    "SiglipTextConfig",
    "SiglipTextModel",
    "SiglipTokenizer",
    "SiglipVisionConfig",
    "SiglipVisionModel",
    "import_open_clip",
    "load_image",
    "load_model",
    "load_tower",
    "pipeline",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
