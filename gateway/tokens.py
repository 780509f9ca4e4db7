"""Turns texts into rows of token ids: small calls at once, large ones in a thread."""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import grpc
import numpy as np
import numpy.typing as npt

from gateway.errors import ItemFailure

Tokenized = tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]

# About a millisecond of tokenizing: less than a hop to a thread and back is worth.
INLINE_CHARACTERS = 8 * 1024
# The tokenizer keeps the interpreter to itself during one batch; between batches others run.
BATCH_CHARACTERS = 32 * 1024


class Tokenizer(Protocol):
    """SigLIP's or SigLIP 2's: neither reads control tokens in a text."""

    def encode_batch(self, texts: Sequence[str], length: int) -> Tokenized: ...
    def pieces(self, ids: Sequence[int]) -> list[str]: ...


class TokenPool:
    def __init__(self, tokenizer: Tokenizer, length: int, max_text_bytes: int) -> None:
        self._tokenizer = tokenizer
        self._length = length
        self._max_text_bytes = max_text_bytes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tokenize")

    async def encode(self, texts: Sequence[str]) -> Tokenized:
        """Ids, int32 [n, text_length], and which texts had more tokens than fit."""
        if sum(map(len, texts)) <= INLINE_CHARACTERS:
            return self._tokenizer.encode_batch(texts, self._length)
        batches = []
        for batch in _batches(texts):
            loop = asyncio.get_running_loop()
            batches.append(
                await loop.run_in_executor(self._thread, self._tokenizer.encode_batch, batch, self._length)
            )
        ids, truncated = zip(*batches, strict=True)
        return np.concatenate(ids), np.concatenate(truncated)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The vocabulary piece of each id."""
        return self._tokenizer.pieces(ids)

    async def rows(self, texts: Sequence[str]) -> list[bytes | ItemFailure]:
        """One row of little-endian ids for each text; a text above the limit fails alone."""
        failures = {i: failure for i, text in enumerate(texts) if (failure := self._too_long(text))}
        good = [text for i, text in enumerate(texts) if i not in failures] if failures else texts
        ids = (await self.encode(good))[0].astype("<i4", copy=False) if good else ()
        rows = iter([row.tobytes() for row in ids])
        return [failures[i] if i in failures else next(rows) for i in range(len(texts))]

    def _too_long(self, text: str) -> ItemFailure | None:
        limit = self._max_text_bytes
        # No character takes more than four bytes, so most texts need not be encoded to be measured.
        if len(text) * 4 <= limit or (size := len(text.encode())) <= limit:
            return None
        message = f"{size} bytes given, at most {limit} allowed (max_text_bytes)"
        return ItemFailure(grpc.StatusCode.INVALID_ARGUMENT, "TEXT_TOO_LONG", message)

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and size + len(text) > BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    yield batch
