"""What goes into a stream and what comes out, and an item's way onto the wire."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from grpc import StatusCode
from siglip.v1 import embedding_pb2

from siglip_client.errors import ItemError
from siglip_client.images import ImageLike, to_bytes

Kind = Literal["text", "image", "token_ids", "pixels"]

# What protobuf puts around one item and its message.
_ENVELOPE_BYTES = 64
_TOKEN_BYTES = 4


@dataclass(frozen=True, slots=True)
class TextItem:
    """A text. `key` comes back with its result and may be anything hashable."""

    key: Hashable
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class ImageItem:
    """A picture; for what it may be see siglip_client.images.to_bytes."""

    key: Hashable
    image: ImageLike


@dataclass(frozen=True, slots=True, eq=False)
class PixelsItem:
    """A prepared picture, uint8 [3, size, size], as the image processor of the model makes it."""

    key: Hashable
    pixels: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class TokensItem:
    """A tokenized text: the ids, int [text_length], padded as the model wants it."""

    key: Hashable
    ids: npt.NDArray[np.integer[Any]]


StreamItem: TypeAlias = TextItem | ImageItem | PixelsItem | TokensItem


@dataclass(frozen=True, slots=True, eq=False)
class StreamResult:
    """`vector`: float32 [dim], or None where there is an `error`, whose index is the item's place."""

    key: Hashable
    vector: npt.NDArray[np.float32] | None
    error: ItemError | None = None


@dataclass(slots=True, eq=False)
class Entry:
    """An item on its way: `content` as the message takes it, `size` its bytes of credit."""

    sequence: int
    key: Hashable
    kind: Kind
    content: Any
    size: int
    tries: int = 1

    def message(self) -> embedding_pb2.EmbedStreamItem:
        if self.kind == "text":
            return embedding_pb2.EmbedStreamItem(id=self.sequence, text=self.content)
        if self.kind == "image":
            return embedding_pb2.EmbedStreamItem(id=self.sequence, image=self.content)
        if self.kind == "pixels":
            return embedding_pb2.EmbedStreamItem(id=self.sequence, pixels=self.content)
        ids = embedding_pb2.TokenIds(ids=self.content)
        return embedding_pb2.EmbedStreamItem(id=self.sequence, token_ids=ids)


def prepare(sequence: int, item: StreamItem, opened: embedding_pb2.StreamOpened) -> Entry | StreamResult:
    """The item as it travels, or its refusal; files are read here. Raises TypeError for what is no item."""
    match item:
        case TextItem():
            return _text(sequence, item, opened)
        case ImageItem():
            return _image(sequence, item, opened)
        case PixelsItem():
            return _pixels(sequence, item, opened.image_size)
        case TokensItem():
            return _tokens(sequence, item, opened.text_length)
    raise TypeError(
        f"items[{sequence}] must be a TextItem, ImageItem, PixelsItem or TokensItem, "
        f"not {type(item).__name__}"
    )


def _text(sequence: int, item: TextItem, opened: embedding_pb2.StreamOpened) -> Entry | StreamResult:
    text = item.text
    if not isinstance(text, str):
        raise TypeError(f"items[{sequence}].text must be a str, not {type(text).__name__}")
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError as error:
        what = f"character {error.start} is a lone surrogate, which UTF-8 cannot hold"
        return refusal(sequence, item.key, "TEXT_NOT_UNICODE", what)
    limit = min(opened.max_text_bytes, opened.max_message_bytes - _ENVELOPE_BYTES)
    if size > limit:
        what = f"{size} bytes given, at most {limit} allowed (max_text_bytes)"
        return refusal(sequence, item.key, "TEXT_TOO_LONG", what)
    return Entry(sequence, item.key, "text", text, size)


def _image(sequence: int, item: ImageItem, opened: embedding_pb2.StreamOpened) -> Entry | StreamResult:
    try:
        image = to_bytes(item.image)
    except OSError as error:
        return refusal(sequence, item.key, "IMAGE_FILE_UNREADABLE", str(error))
    except (TypeError, ValueError) as error:
        return refusal(sequence, item.key, "IMAGE_UNUSABLE", str(error))
    limit = min(opened.max_image_bytes, opened.max_message_bytes - _ENVELOPE_BYTES)
    if len(image) > limit:
        what = f"{len(image)} bytes given, at most {limit} allowed (max_image_bytes)"
        return refusal(sequence, item.key, "IMAGE_TOO_LARGE", what)
    return Entry(sequence, item.key, "image", image, len(image))


def _pixels(sequence: int, item: PixelsItem, side: int) -> Entry | StreamResult:
    pixels = np.asarray(item.pixels)
    if pixels.dtype != np.uint8 or pixels.shape != (3, side, side):
        what = f"pixels must be uint8 [3, {side}, {side}], not {pixels.dtype} {list(pixels.shape)}"
        return refusal(sequence, item.key, "PIXELS_UNUSABLE", what)
    data = pixels.tobytes()
    return Entry(sequence, item.key, "pixels", data, len(data))


def _tokens(sequence: int, item: TokensItem, length: int) -> Entry | StreamResult:
    ids = np.asarray(item.ids)
    if not np.issubdtype(ids.dtype, np.integer) or ids.shape != (length,):
        what = f"ids must be int [{length}], not {ids.dtype} {list(ids.shape)}"
        return refusal(sequence, item.key, "TOKEN_IDS_UNUSABLE", what)
    listed = ids.tolist()
    if not all(-(2**31) <= token < 2**31 for token in listed):
        return refusal(sequence, item.key, "TOKEN_ID_UNKNOWN", "a token id does not fit in 32 bits")
    return Entry(sequence, item.key, "token_ids", listed, length * _TOKEN_BYTES)


def refusal(sequence: int, key: Hashable, reason: str, message: str) -> StreamResult:
    """The result of an item that is not even sent."""
    field = f"items[{sequence}]"
    return StreamResult(key, None, ItemError(sequence, StatusCode.INVALID_ARGUMENT, reason, message, field))
