"""Digests that name contents: equal digests mean equal vectors."""

import hashlib
from collections.abc import Iterable
from importlib.metadata import version
from typing import Literal, get_args

# What a content is: the same bytes mean something else as token ids, as pixels, as a file, or as label sets.
Kind = Literal["token ids", "pixels", "image file", "label set"]


class ContentKeys:
    """Of one model: weights and preprocessing are part of each digest, and of a file's, who decodes it."""

    def __init__(self, fingerprint: str) -> None:
        makers = {"image file": f"pillow {version('pillow')}"}
        self._begun = {
            kind: hashlib.sha256(_framed(kind.encode(), fingerprint.encode(), makers.get(kind, "").encode()))
            for kind in get_args(Kind)
        }

    def of(self, kind: Kind, *parts: bytes) -> bytes:
        """32 bytes. Where one part ends and the next begins is part of the digest."""
        digest = self._begun[kind].copy()
        for part in parts:
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
        return digest.digest()

    def of_each(self, kind: Kind, contents: Iterable[bytes]) -> list[bytes]:
        return [self.of(kind, content) for content in contents]


def _framed(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(8, "little") + part for part in parts)
