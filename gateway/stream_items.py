"""The items of a stream as they come: which tower takes them, and what is wrong with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import grpc
import numpy as np
from siglip.v1 import embedding_pb2

from gateway.errors import ItemFailure
from gateway.served import ServedModel
from siglip_settings import Tower

Kind = Literal["text", "image", "token_ids", "pixels"]
Content: TypeAlias = str | bytes

TOWER_OF: dict[Kind, Tower] = {"text": "text", "token_ids": "text", "image": "vision", "pixels": "vision"}
_TOKEN_BYTES = 4
_CONTENTS = ", ".join(TOWER_OF)


@dataclass(frozen=True, slots=True)
class Item:
    """`sequence`: its place among all items of the stream; `position`: within its message."""

    sequence: int
    id: int
    position: int
    size: int


class ItemReader:
    def __init__(self, model: ServedModel, served: tuple[Tower, ...]) -> None:
        self._model, self._served = model, served
        self._pixel_bytes = 3 * model.image_size**2

    def read(self, item: embedding_pb2.EmbedStreamItem) -> tuple[Kind | None, Content | ItemFailure, int]:
        """Its kind, its text, file or row, or why it has none; and how many bytes of credit it takes."""
        kind: Kind | None = item.WhichOneof("content")
        match kind:
            case "text":
                text = item.text
                # Most texts are ASCII, and need not be encoded to be measured.
                return self._unless_refused(kind, text, len(text) if text.isascii() else len(text.encode()))
            case "image":
                return self._unless_refused(kind, item.image, len(item.image))
            case "token_ids":
                ids = item.token_ids.ids
                return self._unless_refused(kind, self._token_row(ids), len(ids) * _TOKEN_BYTES)
            case "pixels":
                return self._unless_refused(kind, self._pixel_row(item.pixels), len(item.pixels))
        return None, _invalid("CONTENT_MISSING", f"exactly one of {_CONTENTS} must be set, and none is"), 0

    def _unless_refused(
        self, kind: Kind, content: Content | ItemFailure, size: int
    ) -> tuple[Kind, Content | ItemFailure, int]:
        tower = TOWER_OF[kind]
        if tower in self._served:
            return kind, content, size
        message = f"{kind} needs the {tower} tower; this deployment serves only: {','.join(self._served)}"
        return kind, ItemFailure(grpc.StatusCode.UNIMPLEMENTED, "TOWER_NOT_SERVED", message), size

    def _token_row(self, given: Sequence[int]) -> bytes | ItemFailure:
        length, vocabulary = self._model.text_length, self._model.vocab_size
        if len(given) != length:
            return _invalid("TOKEN_IDS_LENGTH", f"{len(given)} token_ids given, exactly {length} needed")
        ids = np.array(given, np.int32)
        wrong = ids[(ids < 0) | (ids >= vocabulary)]
        if len(wrong):
            return _invalid("TOKEN_ID_UNKNOWN", f"token id {wrong[0]} is not within 0 to {vocabulary - 1}")
        return ids.astype("<i4", copy=False).tobytes()

    def _pixel_row(self, pixels: bytes) -> bytes | ItemFailure:
        side = self._model.image_size
        if len(pixels) == self._pixel_bytes:
            return pixels
        needed = f"exactly {self._pixel_bytes} needed: uint8 [3, {side}, {side}]"
        return _invalid("PIXELS_LENGTH", f"{len(pixels)} bytes of pixels given, {needed}")


def duplicate(item_id: int) -> ItemFailure:
    return _invalid("ID_DUPLICATE", f"another item with id {item_id} is not answered yet")


def _invalid(reason: str, message: str) -> ItemFailure:
    return ItemFailure(grpc.StatusCode.INVALID_ARGUMENT, reason, message)
