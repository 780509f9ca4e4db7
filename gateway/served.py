"""What is served: the checkpoint's files read once at start, without torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from siglip.v1 import types_pb2

from broker import Dtype
from gateway.errors import StartError
from gateway.tokens import Tokenizer
from siglip_model.auto import AutoTokenizer
from siglip_model.config import SiglipConfig, SiglipTextConfig, SiglipVisionConfig
from siglip_model.files import (
    CONFIG,
    TOKENIZER_JSON,
    VOCABULARY,
    CheckpointError,
    check_names,
    damage_told,
    read_json,
    read_scalars,
    require,
    resolve,
)
from siglip_model.fingerprint import fingerprint
from siglip_model.golden import Vector, read_golden, text_row, vision_row
from siglip_model.image_processing import SiglipImageProcessor
from siglip_settings import ModelSettings, Tower

NAFLEX = "siglip2"


@dataclass(frozen=True, slots=True)
class ServedModel:
    name: str
    revision: str
    fingerprint: str
    tokenizer: Tokenizer
    resample: int
    """Pillow's number of the filter that resizes images."""
    embedding_dim: int
    image_size: int
    text_length: int
    vocab_size: int
    logit_scale: float
    """exp(t'): the multiplier of the cosine, not its logarithm."""
    logit_bias: float
    golden: dict[str, Vector]
    """Unit vectors of the canary rows by tower; empty when the checkpoint has none."""

    @classmethod
    def load(cls, settings: ModelSettings) -> Self:
        """Raises StartError when the checkpoint is missing, incomplete or damaged."""
        try:
            files = resolve(settings.model, revision=settings.revision, cache_dir=settings.cache_dir)
            with damage_told(files.folder):
                require(files.folder, CONFIG, tokenizer_file(files.folder))
                check_kind(files.folder)
                check_names(files.folder)
                scale, bias = read_scalars(files.folder)
                config = SiglipConfig.from_pretrained(files.folder)
                tokenizer = AutoTokenizer.from_pretrained(files.folder)
                tokenizer.encode_batch([""], 1)  # a large vocabulary is made ready on first use, for seconds
                processor = SiglipImageProcessor.from_pretrained(files.folder)
                digest = fingerprint(files.folder)
                golden = read_golden(files.folder)
        except CheckpointError as error:
            raise StartError(str(error)) from error
        side = config.vision_config.image_size
        if processor.height_width != (side, side):
            raise StartError(
                f"{files.folder}: preprocessor_config.json resizes images to {processor.height_width} "
                f"and the model takes {(side, side)}; correct its `size`"
            )
        return cls(
            name=settings.served_name,
            revision=files.revision,
            fingerprint=digest,
            tokenizer=tokenizer,
            resample=processor.resample,
            embedding_dim=config.vision_config.hidden_size,
            image_size=side,
            text_length=config.text_config.max_position_embeddings,
            vocab_size=config.text_config.vocab_size,
            logit_scale=scale,
            logit_bias=bias,
            golden=golden,
        )

    def canary_row(self, tower: Tower) -> tuple[bytes, tuple[int, ...], Dtype]:
        """A known input of a tower as it travels: bytes, shape and dtype."""
        if tower == "text":
            config = SiglipTextConfig(vocab_size=self.vocab_size, max_position_embeddings=self.text_length)
            ids = text_row(config)
            return ids.astype("<i4").tobytes(), ids.shape, "int32"
        pixels = vision_row(SiglipVisionConfig(image_size=self.image_size))
        return pixels.tobytes(), pixels.shape, "uint8"

    def info(self) -> types_pb2.ModelInfo:
        return types_pb2.ModelInfo(name=self.name, revision=self.revision, fingerprint=self.fingerprint)


def tokenizer_file(folder: Path) -> str:
    """SigLIP 2's where the folder has only that."""
    gemma = (folder / TOKENIZER_JSON).is_file() and not (folder / VOCABULARY).is_file()
    return TOKENIZER_JSON if gemma else VOCABULARY


def check_kind(folder: Path) -> None:
    """Raises CheckpointError for a model whose pictures have no one size."""
    if read_json(folder / CONFIG).get("model_type") == NAFLEX:
        raise CheckpointError(
            f"{folder} holds a NaFlex model (model_type {NAFLEX}); served are models of one resolution"
        )
