from siglip.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EmbeddingOptions(_message.Message):
    __slots__ = ("dtype", "normalize")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    NORMALIZE_FIELD_NUMBER: _ClassVar[int]
    dtype: _types_pb2.Dtype
    normalize: bool
    def __init__(self, dtype: _Optional[_Union[_types_pb2.Dtype, str]] = ..., normalize: bool = ...) -> None: ...

class EmbeddingResult(_message.Message):
    __slots__ = ("embedding", "error")
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    embedding: _types_pb2.Vector
    error: _types_pb2.ItemError
    def __init__(self, embedding: _Optional[_Union[_types_pb2.Vector, _Mapping]] = ..., error: _Optional[_Union[_types_pb2.ItemError, _Mapping]] = ...) -> None: ...

class EmbedTextsRequest(_message.Message):
    __slots__ = ("model", "texts", "options")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    model: str
    texts: _containers.RepeatedScalarFieldContainer[str]
    options: EmbeddingOptions
    def __init__(self, model: _Optional[str] = ..., texts: _Optional[_Iterable[str]] = ..., options: _Optional[_Union[EmbeddingOptions, _Mapping]] = ...) -> None: ...

class EmbedTextsResponse(_message.Message):
    __slots__ = ("results", "model", "timing")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[EmbeddingResult]
    model: _types_pb2.ModelInfo
    timing: _types_pb2.Timing
    def __init__(self, results: _Optional[_Iterable[_Union[EmbeddingResult, _Mapping]]] = ..., model: _Optional[_Union[_types_pb2.ModelInfo, _Mapping]] = ..., timing: _Optional[_Union[_types_pb2.Timing, _Mapping]] = ...) -> None: ...

class EmbedImagesRequest(_message.Message):
    __slots__ = ("model", "images", "options")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    model: str
    images: _containers.RepeatedScalarFieldContainer[bytes]
    options: EmbeddingOptions
    def __init__(self, model: _Optional[str] = ..., images: _Optional[_Iterable[bytes]] = ..., options: _Optional[_Union[EmbeddingOptions, _Mapping]] = ...) -> None: ...

class EmbedImagesResponse(_message.Message):
    __slots__ = ("results", "model", "timing")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[EmbeddingResult]
    model: _types_pb2.ModelInfo
    timing: _types_pb2.Timing
    def __init__(self, results: _Optional[_Iterable[_Union[EmbeddingResult, _Mapping]]] = ..., model: _Optional[_Union[_types_pb2.ModelInfo, _Mapping]] = ..., timing: _Optional[_Union[_types_pb2.Timing, _Mapping]] = ...) -> None: ...

class EmbedStreamRequest(_message.Message):
    __slots__ = ("options", "items")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    options: EmbedStreamOptions
    items: _containers.RepeatedCompositeFieldContainer[EmbedStreamItem]
    def __init__(self, options: _Optional[_Union[EmbedStreamOptions, _Mapping]] = ..., items: _Optional[_Iterable[_Union[EmbedStreamItem, _Mapping]]] = ...) -> None: ...

class EmbedStreamOptions(_message.Message):
    __slots__ = ("model", "embedding", "ordered")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    ORDERED_FIELD_NUMBER: _ClassVar[int]
    model: str
    embedding: EmbeddingOptions
    ordered: bool
    def __init__(self, model: _Optional[str] = ..., embedding: _Optional[_Union[EmbeddingOptions, _Mapping]] = ..., ordered: bool = ...) -> None: ...

class EmbedStreamItem(_message.Message):
    __slots__ = ("id", "text", "image", "token_ids", "pixels")
    ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    id: int
    text: str
    image: bytes
    token_ids: TokenIds
    pixels: bytes
    def __init__(self, id: _Optional[int] = ..., text: _Optional[str] = ..., image: _Optional[bytes] = ..., token_ids: _Optional[_Union[TokenIds, _Mapping]] = ..., pixels: _Optional[bytes] = ...) -> None: ...

class TokenIds(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ids: _Optional[_Iterable[int]] = ...) -> None: ...

class EmbedStreamResponse(_message.Message):
    __slots__ = ("opened", "results", "draining")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    opened: StreamOpened
    results: _containers.RepeatedCompositeFieldContainer[EmbedStreamResult]
    draining: bool
    def __init__(self, opened: _Optional[_Union[StreamOpened, _Mapping]] = ..., results: _Optional[_Iterable[_Union[EmbedStreamResult, _Mapping]]] = ..., draining: bool = ...) -> None: ...

class StreamOpened(_message.Message):
    __slots__ = ("model", "max_unanswered_items", "max_unanswered_bytes", "heartbeat_interval_ms", "max_message_bytes", "max_text_bytes", "max_image_bytes", "text_length", "image_size")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MAX_UNANSWERED_ITEMS_FIELD_NUMBER: _ClassVar[int]
    MAX_UNANSWERED_BYTES_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_TEXT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_IMAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    IMAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    model: _types_pb2.ModelInfo
    max_unanswered_items: int
    max_unanswered_bytes: int
    heartbeat_interval_ms: int
    max_message_bytes: int
    max_text_bytes: int
    max_image_bytes: int
    text_length: int
    image_size: int
    def __init__(self, model: _Optional[_Union[_types_pb2.ModelInfo, _Mapping]] = ..., max_unanswered_items: _Optional[int] = ..., max_unanswered_bytes: _Optional[int] = ..., heartbeat_interval_ms: _Optional[int] = ..., max_message_bytes: _Optional[int] = ..., max_text_bytes: _Optional[int] = ..., max_image_bytes: _Optional[int] = ..., text_length: _Optional[int] = ..., image_size: _Optional[int] = ...) -> None: ...

class EmbedStreamResult(_message.Message):
    __slots__ = ("id", "embedding", "error")
    ID_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: int
    embedding: _types_pb2.Vector
    error: _types_pb2.ItemError
    def __init__(self, id: _Optional[int] = ..., embedding: _Optional[_Union[_types_pb2.Vector, _Mapping]] = ..., error: _Optional[_Union[_types_pb2.ItemError, _Mapping]] = ...) -> None: ...
