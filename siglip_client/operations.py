"""What each call sends and how its answers are read, free of any transport.

An Operation is a method's name, the requests to send (in order, one or more),
and a function that turns all answers into the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message
from siglip.v1 import embedding_pb2, model_pb2, zero_shot_pb2

from siglip_client import replies
from siglip_client.chunks import Chunk, byte_size, fitting, split
from siglip_client.errors import FieldViolation, InvalidRequest, ItemError
from siglip_client.images import ImageLike, to_bytes
from siglip_client.results import (
    Activation,
    Classification,
    Embeddings,
    LabelSet,
    ModelDescription,
    OnError,
    Scores,
    Tokens,
)
from siglip_client.vectors import WIRE_DTYPES, WireDtype

Result = TypeVar("Result")

_ACTIVATIONS = {
    "sigmoid": zero_shot_pb2.ACTIVATION_SIGMOID,
    "softmax": zero_shot_pb2.ACTIVATION_SOFTMAX,
}

# The numbers of one label's score, and what protobuf puts around them.
_SCORE_BYTES = 32


@dataclass(frozen=True, slots=True)
class Operation(Generic[Result]):
    """`builds_slowly`: making the next request may read files or encode pixels.

    `label_set`: what creates the label set again that the requests name.
    """

    method: str
    chunks: Iterator[Chunk[Any]]
    read: Callable[[list[tuple[Chunk[Any], Any]]], Result]
    builds_slowly: bool = False
    label_set: zero_shot_pb2.CreateLabelSetRequest | None = None


def spelled_out(chunk: Chunk[Any], labels: zero_shot_pb2.CreateLabelSetRequest) -> Chunk[Any]:
    """The same classification, with the labels and templates themselves in place of their set."""
    chunk.request.ClearField("label_set")
    chunk.request.labels.extend(labels.labels)
    chunk.request.templates.extend(labels.templates)
    return chunk


def get_model(model: str) -> Operation[ModelDescription]:
    request = model_pb2.GetModelRequest(model=model)
    return Operation("GetModel", iter([Chunk([], request)]), replies.description)


def embed_texts(
    texts: Iterable[str],
    served: ModelDescription,
    model: str,
    *,
    normalize: bool,
    dtype: WireDtype,
    on_error: OnError,
) -> Operation[Embeddings]:
    texts = _strings(texts, "texts")
    blank = embedding_pb2.EmbedTextsRequest(model=model, options=_options(normalize, dtype))
    refused: list[ItemError] = []
    limits = served.limits
    items = fitting(texts, "texts", limits.max_text_bytes, refused)
    chunks = _fill(blank, "texts", items, limits.max_texts, limits.max_message_bytes, len(texts))
    read = partial(
        replies.embeddings,
        field="texts",
        refused=refused,
        count=len(texts),
        served=served,
        on_error=on_error,
    )
    return Operation("EmbedTexts", chunks, read)


def embed_images(
    images: Iterable[ImageLike],
    served: ModelDescription,
    model: str,
    *,
    normalize: bool,
    dtype: WireDtype,
    on_error: OnError,
) -> Operation[Embeddings]:
    images = _items(images, "images")
    blank = embedding_pb2.EmbedImagesRequest(model=model, options=_options(normalize, dtype))
    refused: list[ItemError] = []
    chunks = _image_chunks(blank, images, served, served.limits.max_images, refused)
    read = partial(
        replies.embeddings,
        field="images",
        refused=refused,
        count=len(images),
        served=served,
        on_error=on_error,
    )
    return Operation("EmbedImages", chunks, read, builds_slowly=True)


def classify(
    images: Iterable[ImageLike],
    labels: Iterable[str] | LabelSet,
    served: ModelDescription,
    model: str,
    *,
    templates: Iterable[str] | None,
    activation: Activation,
    top_k: int,
    threshold: float,
    on_error: OnError,
) -> Operation[Classification]:
    images = _items(images, "images")
    blank = zero_shot_pb2.ClassifyRequest(
        model=model,
        activation=_choice(_ACTIVATIONS, "activation", activation),
        top_k=top_k,
        threshold=threshold,
    )
    again = None
    if isinstance(labels, LabelSet):
        if templates is not None:
            raise ValueError("templates belong to the label set: give them to create_label_set")
        blank.label_set, again = labels.handle, _label_set(labels.labels, labels.templates, model)
        labels = labels.labels
    else:
        labels = _strings(labels, "labels")
        blank.labels.extend(labels)
        blank.templates.extend(_strings(templates or (), "templates"))
    refused: list[ItemError] = []
    max_items = _rows_of(len(labels), served, _reply_bytes(labels, top_k))
    chunks = _image_chunks(blank, images, served, max_items, refused)
    read = partial(
        replies.classification,
        refused=refused,
        count=len(images),
        served=served,
        on_error=on_error,
    )
    return Operation("Classify", chunks, read, builds_slowly=True, label_set=again)


def create_label_set(
    labels: Iterable[str],
    served: ModelDescription,
    model: str,
    *,
    templates: Iterable[str] | None,
) -> Operation[LabelSet]:
    labels, templates = _strings(labels, "labels"), _strings(templates or (), "templates")
    request = _label_set(labels, templates, model)
    read = partial(replies.label_set, labels=labels, templates=templates)
    return Operation("CreateLabelSet", iter([Chunk([], request)]), read)


def _label_set(
    labels: Sequence[str], templates: Sequence[str], model: str
) -> zero_shot_pb2.CreateLabelSetRequest:
    return zero_shot_pb2.CreateLabelSetRequest(model=model, labels=labels, templates=templates)


def score(
    images: Iterable[ImageLike],
    texts: Iterable[str],
    served: ModelDescription,
    model: str,
    *,
    on_error: OnError,
) -> Operation[Scores]:
    images, texts = _items(images, "images"), _strings(texts, "texts")
    blank = zero_shot_pb2.ScoreRequest(model=model, texts=texts)
    refused: list[ItemError] = []
    chunks = _image_chunks(blank, images, served, _rows_of(len(texts), served), refused)
    read = partial(
        replies.scores,
        refused=refused,
        shape=(len(images), len(texts)),
        served=served,
        on_error=on_error,
    )
    return Operation("Score", chunks, read, builds_slowly=True)


def tokenize(texts: Iterable[str], served: ModelDescription, model: str) -> Operation[Tokens]:
    texts = _strings(texts, "texts")
    blank = model_pb2.TokenizeRequest(model=model)
    limits = served.limits
    chunks = _fill(blank, "texts", enumerate(texts), limits.max_texts, limits.max_message_bytes, len(texts))
    return Operation("Tokenize", chunks, replies.tokens)


def _image_chunks(
    blank: Message,
    images: list[ImageLike],
    served: ModelDescription,
    max_items: int,
    refused: list[ItemError],
) -> Iterator[Chunk[Any]]:
    items = fitting(map(to_bytes, images), "images", served.limits.max_image_bytes, refused)
    return _fill(blank, "images", items, max_items, served.limits.max_message_bytes, len(images))


def _rows_of(columns: int, served: ModelDescription, bytes_per_row: int = 0) -> int:
    """How many images fit in one call that compares each with `columns` texts."""
    limits = served.limits
    by_scores = limits.max_scores // max(1, columns)
    by_reply = limits.max_reply_bytes // max(1, bytes_per_row)
    return max(1, min(limits.max_images, by_scores, by_reply))


def _reply_bytes(labels: Sequence[str], top_k: int) -> int:
    """The most that the scores of one image take in a reply, in which they repeat the labels."""
    sizes = sorted((byte_size(label) + _SCORE_BYTES for label in labels), reverse=True)
    return sum(sizes[: top_k or None])


def _fill(
    blank: Message,
    field: str,
    items: Iterable[tuple[int, Any]],
    max_items: int,
    max_message_bytes: int,
    count: int,
) -> Iterator[Chunk[Any]]:
    """Copies of `blank` with the items in `field`. An empty list is sent as it is:
    the service then says what it thinks of that."""
    if count == 0:
        yield Chunk([], blank)
    for piece in split(items, max_items, max_message_bytes - blank.ByteSize()):
        request = type(blank)()
        request.CopyFrom(blank)
        getattr(request, field).extend(item for _, item in piece)
        yield Chunk([index for index, _ in piece], request)


def _options(normalize: bool, dtype: WireDtype) -> embedding_pb2.EmbeddingOptions:
    return embedding_pb2.EmbeddingOptions(normalize=normalize, dtype=_choice(WIRE_DTYPES, "dtype", dtype))


def _choice(table: dict[str, Any], name: str, value: str) -> Any:
    if value not in table:
        raise ValueError(f"{name} must be one of {', '.join(table)}, not {value!r}")
    return table[value]


def _items(items: Iterable[Any], name: str) -> list[Any]:
    """A list of the items; a lone one is refused, as it would be taken apart."""
    if isinstance(items, str | bytes | bytearray):
        raise TypeError(f"{name} must be a list, not a single {type(items).__name__}")
    return list(items)


def _strings(items: Iterable[str], name: str) -> Sequence[str]:
    strings = _items(items, name)
    for position, item in enumerate(strings):
        if not isinstance(item, str):
            raise TypeError(f"{name}[{position}] must be a str, not {type(item).__name__}")
        _require_unicode(item, f"{name}[{position}]")
    return strings


def _require_unicode(text: str, field: str) -> None:
    """A str can hold what no UTF-8 can: half a surrogate pair, which is how Python keeps stray bytes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        what = f"character {error.start} is a lone surrogate, which UTF-8 cannot hold"
        violation = FieldViolation(field, what)
        raise InvalidRequest(f"{field}: {what}", reason="TEXT_NOT_UNICODE", violations=[violation]) from None
