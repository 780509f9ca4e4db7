from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetModelRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("name", "revision", "fingerprint", "embedding_dim", "image_size", "text_length", "logit_scale", "logit_bias", "dtype", "attention", "templates", "limits", "text_tower", "vision_tower", "image_resample", "served_models")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_DIM_FIELD_NUMBER: _ClassVar[int]
    IMAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    TEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    LOGIT_SCALE_FIELD_NUMBER: _ClassVar[int]
    LOGIT_BIAS_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    ATTENTION_FIELD_NUMBER: _ClassVar[int]
    TEMPLATES_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    TEXT_TOWER_FIELD_NUMBER: _ClassVar[int]
    VISION_TOWER_FIELD_NUMBER: _ClassVar[int]
    IMAGE_RESAMPLE_FIELD_NUMBER: _ClassVar[int]
    SERVED_MODELS_FIELD_NUMBER: _ClassVar[int]
    name: str
    revision: str
    fingerprint: str
    embedding_dim: int
    image_size: int
    text_length: int
    logit_scale: float
    logit_bias: float
    dtype: str
    attention: str
    templates: _containers.RepeatedScalarFieldContainer[str]
    limits: Limits
    text_tower: TowerStatus
    vision_tower: TowerStatus
    image_resample: int
    served_models: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., revision: _Optional[str] = ..., fingerprint: _Optional[str] = ..., embedding_dim: _Optional[int] = ..., image_size: _Optional[int] = ..., text_length: _Optional[int] = ..., logit_scale: _Optional[float] = ..., logit_bias: _Optional[float] = ..., dtype: _Optional[str] = ..., attention: _Optional[str] = ..., templates: _Optional[_Iterable[str]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., text_tower: _Optional[_Union[TowerStatus, _Mapping]] = ..., vision_tower: _Optional[_Union[TowerStatus, _Mapping]] = ..., image_resample: _Optional[int] = ..., served_models: _Optional[_Iterable[str]] = ...) -> None: ...

class TowerStatus(_message.Message):
    __slots__ = ("served", "live_workers", "devices")
    SERVED_FIELD_NUMBER: _ClassVar[int]
    LIVE_WORKERS_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    served: bool
    live_workers: int
    devices: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, served: bool = ..., live_workers: _Optional[int] = ..., devices: _Optional[_Iterable[str]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_texts", "max_images", "max_labels", "max_templates", "max_prompts", "max_scores", "max_text_bytes", "max_image_bytes", "max_image_pixels", "max_message_bytes", "max_deadline_ms", "max_reply_bytes")
    MAX_TEXTS_FIELD_NUMBER: _ClassVar[int]
    MAX_IMAGES_FIELD_NUMBER: _ClassVar[int]
    MAX_LABELS_FIELD_NUMBER: _ClassVar[int]
    MAX_TEMPLATES_FIELD_NUMBER: _ClassVar[int]
    MAX_PROMPTS_FIELD_NUMBER: _ClassVar[int]
    MAX_SCORES_FIELD_NUMBER: _ClassVar[int]
    MAX_TEXT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_IMAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_IMAGE_PIXELS_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_REPLY_BYTES_FIELD_NUMBER: _ClassVar[int]
    max_texts: int
    max_images: int
    max_labels: int
    max_templates: int
    max_prompts: int
    max_scores: int
    max_text_bytes: int
    max_image_bytes: int
    max_image_pixels: int
    max_message_bytes: int
    max_deadline_ms: int
    max_reply_bytes: int
    def __init__(self, max_texts: _Optional[int] = ..., max_images: _Optional[int] = ..., max_labels: _Optional[int] = ..., max_templates: _Optional[int] = ..., max_prompts: _Optional[int] = ..., max_scores: _Optional[int] = ..., max_text_bytes: _Optional[int] = ..., max_image_bytes: _Optional[int] = ..., max_image_pixels: _Optional[int] = ..., max_message_bytes: _Optional[int] = ..., max_deadline_ms: _Optional[int] = ..., max_reply_bytes: _Optional[int] = ...) -> None: ...

class TokenizeRequest(_message.Message):
    __slots__ = ("model", "texts")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    model: str
    texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model: _Optional[str] = ..., texts: _Optional[_Iterable[str]] = ...) -> None: ...

class TokenizeResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[Tokens]
    def __init__(self, results: _Optional[_Iterable[_Union[Tokens, _Mapping]]] = ...) -> None: ...

class Tokens(_message.Message):
    __slots__ = ("ids", "pieces", "truncated")
    IDS_FIELD_NUMBER: _ClassVar[int]
    PIECES_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    pieces: _containers.RepeatedScalarFieldContainer[str]
    truncated: bool
    def __init__(self, ids: _Optional[_Iterable[int]] = ..., pieces: _Optional[_Iterable[str]] = ..., truncated: bool = ...) -> None: ...
