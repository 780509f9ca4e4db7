"""A list of any length -> pieces that fit into one call each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from grpc import StatusCode

from siglip_client.errors import ItemError

Data = TypeVar("Data", bytes, str)
Request = TypeVar("Request")

# Tag and length that protobuf puts before each item of a list: at most 1 + 5.
_ITEM_OVERHEAD_BYTES = 6

# Reason of the refusal, in the service's words, and the limit's name.
_TOO_LARGE = {
    "images": ("IMAGE_TOO_LARGE", "max_image_bytes"),
    "texts": ("TEXT_TOO_LONG", "max_text_bytes"),
}


@dataclass(frozen=True, slots=True)
class Chunk(Generic[Request]):
    """One request, and the positions of its items in the caller's list."""

    indices: list[int]
    request: Request


def split(
    items: Iterable[tuple[int, Data]], max_items: int, max_bytes: int
) -> Iterator[list[tuple[int, Data]]]:
    """Consecutive pieces of at most `max_items` items and `max_bytes` bytes; an item
    that is larger than that alone gets a piece of its own."""
    piece: list[tuple[int, Data]] = []
    used = 0
    for index, item in items:
        size = byte_size(item) + _ITEM_OVERHEAD_BYTES
        if piece and (len(piece) >= max_items or used + size > max_bytes):
            yield piece
            piece, used = [], 0
        piece.append((index, item))
        used += size
    if piece:
        yield piece


def fitting(
    items: Iterable[Data], field: str, max_bytes: int, refused: list[ItemError]
) -> Iterator[tuple[int, Data]]:
    """(index, item) of the items of at most `max_bytes`; the others go to `refused`.

    The service would refuse them too, but only if they reached it: a large enough
    one does not fit in a message, and would take its neighbours down.
    """
    for index, item in enumerate(items):
        size = byte_size(item)
        if size <= max_bytes:
            yield index, item
        else:
            refused.append(_too_large(index, field, size, max_bytes))


def byte_size(item: bytes | str) -> int:
    return len(item) if isinstance(item, bytes) else len(item.encode())


def _too_large(index: int, field: str, size: int, max_bytes: int) -> ItemError:
    reason, limit = _TOO_LARGE[field]
    return ItemError(
        index=index,
        code=StatusCode.INVALID_ARGUMENT,
        reason=reason,
        message=f"{size} bytes given, at most {max_bytes} allowed ({limit})",
        field=f"{field}[{index}]",
    )
