"""Configurations of both towers and of the pair, as `config.json` stores them.

Names and defaults are those of Hugging Face Transformers v4.50. The dataclasses are mutable, and
keys they do not know are kept as attributes, so that a file written by another tool survives a
round trip. This module never imports torch: the gateway reads configurations too.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from siglip_model.files import CONFIG, CheckpointError, read_json, require, resolve, write_json


class BaseConfig:
    model_type: ClassVar[str]
    # Where this configuration sits inside the file of a whole model, "" for the whole model itself.
    section: ClassVar[str] = ""
    whole_type: ClassVar[str] = "siglip"

    # What a call of the model gives unless it says otherwise.
    output_attentions = False
    output_hidden_states = False
    return_dict = True

    @property
    def use_return_dict(self) -> bool:
        return self.return_dict

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], **overrides: Any) -> Self:
        """Keys that are unknown are kept as attributes. `overrides` are set afterwards, as attributes.

        Raises ValueError for a number that no model can have, TypeError for an unknown override.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"{cls.section or 'the configuration'} must be an object, not {values!r}")
        values = {key: value for key, value in values.items() if key != "model_type"}
        known = cls.field_names()
        config = cls(**{key: value for key, value in values.items() if key in known})
        config._keep({key: value for key, value in values.items() if key not in known})
        for name, value in overrides.items():
            if not hasattr(config, name):
                raise TypeError(f"{cls.__name__} has no {name}")
            tower = getattr(config, name)
            whole = isinstance(tower, BaseConfig) and isinstance(value, Mapping)
            setattr(config, name, tower.from_dict(value) if whole else value)
        config._check()
        return config

    @classmethod
    def field_names(cls) -> list[str]:
        assert is_dataclass(cls)
        return [item.name for item in fields(cls)]

    def _keep(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            if callable(getattr(type(self), name, None)):
                raise ValueError(f"{name} is no setting, and no name for one of your own")
            setattr(self, name, value)

    def _check(self) -> None:
        assert is_dataclass(self)
        for item in fields(self):
            value = getattr(self, item.name)
            # Token ids are left over from CLIP and may be anything.
            if item.type is int and not item.name.endswith("_token_id"):
                fits, wanted = type(value) is int and value > 0, "a whole number above 0"
            elif item.type is float:
                fits, wanted = _is_number(value), "a number"
            else:
                continue
            if not fits:
                raise ValueError(f"{item.name} is {value!r} and must be {wanted}")

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | None = None,
        local_files_only: bool = False,
        **overrides: Any,
    ) -> Self:
        """Read `config.json` of a folder or a hub id; a tower finds its section in a whole model's.

        `overrides` replace what the file says: any field, num_labels, output_hidden_states, ...
        """
        folder = resolve(
            model,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
            only=(CONFIG,),
        ).folder
        require(folder, CONFIG)
        values = read_json(folder / CONFIG)
        if cls.section and values.get("model_type") == cls.whole_type:
            values = values.get(cls.section) or {}
        try:
            return cls.from_dict(values, **overrides)
        except (AttributeError, ValueError) as error:  # a property where a value should be, say
            raise CheckpointError(f"{folder / CONFIG}: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        values = {key: _plain(value) for key, value in vars(self).items()}
        return {"model_type": self.model_type, **values}

    def to_diff_dict(self) -> dict[str, Any]:
        """What differs from the defaults: the form of published files."""
        defaults = vars(type(self)())
        values = {
            key: value.to_diff_dict() if isinstance(value, BaseConfig) else value
            for key, value in vars(self).items()
            if isinstance(value, BaseConfig) or key not in defaults or value != defaults[key]
        }
        return {"model_type": self.model_type, **values}

    def to_json_string(self, use_diff: bool = True) -> str:
        values = self.to_diff_dict() if use_diff else self.to_dict()
        return json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    def save_pretrained(self, folder: str | Path) -> None:
        write_json(Path(folder) / CONFIG, self.to_diff_dict())


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -math.inf < value < math.inf


def _plain(value: Any) -> Any:
    return value.to_dict() if isinstance(value, BaseConfig) else value


@dataclass
class SiglipTextConfig(BaseConfig):
    model_type: ClassVar[str] = "siglip_text_model"
    section: ClassVar[str] = "text_config"

    vocab_size: int = 32000
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    max_position_embeddings: int = 64
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6
    attention_dropout: float = 0.0
    # Left over from CLIP and used nowhere: the tokenizer's padding and end are both 1.
    pad_token_id: int = 1
    bos_token_id: int = 49406
    eos_token_id: int = 49407
    projection_size: int = None  # type: ignore[assignment]  # hidden_size when not given

    def __post_init__(self) -> None:
        if self.projection_size is None:
            self.projection_size = self.hidden_size

    def to_diff_dict(self) -> dict[str, Any]:
        # A reader fills a missing projection in with the width, not with the default of 768.
        values = super().to_diff_dict() | {"projection_size": self.projection_size}
        if self.projection_size == self.hidden_size:
            del values["projection_size"]
        return values


@dataclass
class SiglipVisionConfig(BaseConfig):
    model_type: ClassVar[str] = "siglip_vision_model"
    section: ClassVar[str] = "vision_config"

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    num_channels: int = 3
    image_size: int = 224
    patch_size: int = 16
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6
    attention_dropout: float = 0.0
    vision_use_head: bool = True


@dataclass
class SiglipConfig(BaseConfig):
    """The pair of towers; a tower may be given as a dict, or left out for the defaults.

    The labels are those of SiglipForImageClassification.
    """

    model_type: ClassVar[str] = "siglip"
    text_class: ClassVar[type[SiglipTextConfig]] = SiglipTextConfig
    vision_class: ClassVar[type[BaseConfig]] = SiglipVisionConfig

    text_config: SiglipTextConfig = None  # type: ignore[assignment]
    vision_config: SiglipVisionConfig = None  # type: ignore[assignment]
    initializer_factor: float = 1.0
    id2label: dict[int, str] = field(default_factory=lambda: _numbered_labels(DEFAULT_LABELS))
    label2id: dict[str, int] = None  # type: ignore[assignment]  # follows from id2label when not given
    problem_type: str | None = None

    def __post_init__(self) -> None:
        text: Any = self.text_config or {}
        vision: Any = self.vision_config or {}
        self.text_config = text if isinstance(text, self.text_class) else self.text_class.from_dict(text)
        if not isinstance(vision, self.vision_class):
            vision = self.vision_class.from_dict(vision)
        self.vision_config = vision
        self.id2label = {int(number): label for number, label in self.id2label.items()}
        if self.label2id is None:
            self.label2id = {label: number for number, label in self.id2label.items()}

    @classmethod
    def from_text_vision_configs(
        cls, text_config: SiglipTextConfig, vision_config: SiglipVisionConfig, **values: Any
    ) -> Self:
        """`values` are fields, num_labels, or keys of your own, which are kept as attributes."""
        return cls.from_dict({"text_config": text_config, "vision_config": vision_config, **values})

    @property
    def num_labels(self) -> int:
        """How many labels there are; setting it names them LABEL_0, LABEL_1 and so on."""
        return len(self.id2label)

    @num_labels.setter
    def num_labels(self, count: int) -> None:
        if count != len(self.id2label):
            self.id2label = _numbered_labels(count)
            self.label2id = {label: number for number, label in self.id2label.items()}


DEFAULT_LABELS = 2


def _numbered_labels(count: int) -> dict[int, str]:
    return {number: f"LABEL_{number}" for number in range(count)}
