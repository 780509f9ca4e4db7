"""One item of a source, and how its content is read once it is needed."""

import json
import os
import stat
from dataclasses import dataclass
from typing import Any

from siglip_jobs import names
from siglip_jobs.errors import Problem


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Encoded:
    """An encoded image that its row itself holds."""

    data: bytes


@dataclass(frozen=True, slots=True)
class File:
    """An image file, or `size` bytes of an archive from `offset` on."""

    path: str
    offset: int = 0
    size: int | None = None


Content = Text | Encoded | File | Problem


@dataclass(frozen=True, slots=True)
class Row:
    """`id` is text that UTF-8 can hold; `columns` are the metadata that were asked for, in that order."""

    id: str
    content: Content
    columns: tuple[Any, ...] = ()
    position: int = 0
    """Counted from 0 in the whole source."""
    check: bytes = b""
    """Of a source that can be read only once: a digest of all up to this row."""


def as_text(value: Any) -> str | None:
    """Metadata of JSON in one type: text as it is, other values as JSON."""
    if value is None or isinstance(value, str):
        return None if value is None else names.storable(value)
    return json.dumps(value)


def loaded(content: Content, max_bytes: int) -> str | bytes | Problem:
    """A text, or the bytes of an encoded image; at most `max_bytes` of a file are read."""
    if isinstance(content, Text):
        return content.text
    if isinstance(content, Encoded):
        return content.data if len(content.data) <= max_bytes else _too_large(max_bytes)
    if isinstance(content, Problem):
        return content
    try:
        return _read(content, max_bytes)
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        return Problem("IMAGE_NOT_READ", getattr(error, "strerror", None) or str(error))


def _read(file: File, max_bytes: int) -> bytes | Problem:
    # Not blocking: a pipe without a writer would hold up everything.
    number = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(number, "rb") as opened:  # noqa: PTH123  # a number, not a path
        if not stat.S_ISREG(os.fstat(number).st_mode):
            return Problem("IMAGE_NOT_READ", "not a regular file")
        opened.seek(file.offset)
        size = max_bytes + 1 if file.size is None else file.size
        data = opened.read(min(size, max_bytes + 1))
    if len(data) > max_bytes:
        return _too_large(max_bytes)
    if file.size is not None and len(data) < file.size:
        return Problem("IMAGE_NOT_READ", "the archive ends within it")
    return data


def _too_large(max_bytes: int) -> Problem:
    return Problem("IMAGE_TOO_LARGE", f"it has more bytes than the limit, {max_bytes}")
