"""Labels with their vectors: those of calls before, and those that are created to be named by a handle."""

import re
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from google.protobuf.message import DecodeError
from siglip.broker.v1 import job_pb2

from broker import BrokerError, LabelSetStore
from gateway import checks, scores
from gateway.cache import Cache
from gateway.call import Call
from gateway.content_keys import ContentKeys
from gateway.embed import Embedder
from gateway.embedded import Embedded
from gateway.errors import InvalidRequest, LabelSetNotFound, Violation, shown
from gateway.vectors import Floats
from siglip_settings import GatewaySettings

_HANDLE = re.compile(r"[0-9a-f]{64}")
# A set is renewed in Redis once in this part of its time, however often it is used.
RENEW_PART = 1 / 20
UNIT_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class LabelSet:
    """`vectors` are unit vectors [labels, dim], computed with `numerics`.

    `shared_s`: when it was last renewed in Redis, by `time.monotonic()`; None for what is only remembered.
    """

    handle: str
    labels: tuple[str, ...]
    templates: tuple[str, ...]
    vectors: Floats
    numerics: frozenset[str]
    shared_s: float | None = None

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        texts = [*self.labels, *self.templates]
        return self.vectors.nbytes + sum(map(len, texts)) + 60 * len(texts)

    def pack(self) -> bytes:
        stored = job_pb2.StoredLabelSet(
            labels=self.labels,
            templates=self.templates,
            vectors=self.vectors.astype("<f4").tobytes(),
            numerics=sorted(self.numerics),
        )
        return stored.SerializeToString()


class LabelSets:
    """`store` is shared with other gateways; what comes from it is not trusted."""

    def __init__(
        self,
        settings: GatewaySettings,
        keys: ContentKeys,
        dim: int,
        embedder: Embedder,
        store: LabelSetStore,
    ) -> None:
        self._settings, self._keys, self._dim = settings, keys, dim
        self._embedder, self._store = embedder, store
        self._known: Cache[LabelSet] = Cache(settings.label_sets_bytes)

    async def of(
        self, labels: Sequence[str], templates: Sequence[str], call: Call
    ) -> tuple[LabelSet, Embedded]:
        """The labels' vectors, and what of them was embedded for that. Raises LabelFailed."""
        handle = self._keys.of("label set", *_parts(labels, templates)).hex()
        known = self._known.get(bytes.fromhex(handle)) if self._settings.cache_bytes else None
        if known is not None and await self._fits(known):
            call.at["text"] = "reply"
            self._embedder.remembered("text", len(labels) * len(templates))
            return known, Embedded([])
        texts = await self._embedder.texts(checks.prompts(labels, templates), call)
        vectors = scores.label_vectors(texts, len(templates))
        numerics = frozenset(row.numerics for row in texts.rows())
        found = LabelSet(handle, tuple(labels), tuple(templates), vectors, numerics)
        if known is not None and known.shared_s is not None:
            found = replace(found, shared_s=known.shared_s)
        self._remember(found)
        return found, texts

    async def create(
        self, labels: Sequence[str], templates: Sequence[str], call: Call
    ) -> tuple[LabelSet, Embedded]:
        """As `of`, and from now on any gateway has it by its handle. Raises InvalidRequest, a BrokerError."""
        found, texts = await self.of(labels, templates, call)
        checks.label_set_bytes(found.size, self._settings)
        await self._store.put(found.handle, found.pack())
        self._remember(replace(found, shared_s=time.monotonic()))
        return found, texts

    async def get(self, handle: str) -> LabelSet:
        """Raises InvalidRequest, LabelSetNotFound, or BrokerUnavailable."""
        if not _HANDLE.fullmatch(handle):
            message = f"{shown(handle)} is no handle: 64 hexadecimal digits, as CreateLabelSet gives them"
            raise InvalidRequest([Violation("label_set", "LABEL_SET_INVALID", message)])
        known = self._known.get(bytes.fromhex(handle))
        now_s, ttl_s = time.monotonic(), self._settings.label_set_ttl_s
        if known is not None and known.shared_s is not None and now_s - known.shared_s < ttl_s:
            if now_s - known.shared_s > ttl_s * RENEW_PART:
                await self._renew(known)
            return known
        value = await self._store.get(handle)
        found = self._unpacked(handle, value) if value is not None else None
        if found is None:
            raise LabelSetNotFound(handle)
        self._remember(found)
        return found

    async def current(self, found: LabelSet, call: Call) -> tuple[LabelSet, Embedded]:
        """The same set; computed anew if no live worker computes as those did that made it."""
        if await self._fits(found) or "text" not in self._settings.served_towers:
            return found, Embedded([])
        return await self.create(found.labels, found.templates, call)

    async def _fits(self, found: LabelSet) -> bool:
        return found.numerics <= await self._embedder.numerics("text")

    async def _renew(self, known: LabelSet) -> None:
        """Others may find it a little longer. While Redis is away, this gateway knows it all the same."""
        self._remember(replace(known, shared_s=time.monotonic()))
        with suppress(BrokerError):
            await self._store.renew(known.handle, known.pack())

    def _remember(self, found: LabelSet) -> None:
        self._known.put(bytes.fromhex(found.handle), found, found.size)

    def _unpacked(self, handle: str, value: bytes) -> LabelSet | None:
        """None for what is not the set of this handle."""
        try:
            stored = job_pb2.StoredLabelSet.FromString(value)
        except DecodeError:
            return None
        if self._keys.of("label set", *_parts(stored.labels, stored.templates)).hex() != handle:
            return None
        if len(stored.vectors) != len(stored.labels) * self._dim * 4:
            return None
        vectors = np.frombuffer(stored.vectors, "<f4").reshape(-1, self._dim)
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        # Not a number, and infinite, are no length of about 1.
        if not (np.abs(lengths - 1) <= UNIT_TOLERANCE).all():
            return None
        numerics = frozenset(stored.numerics)
        return LabelSet(
            handle, tuple(stored.labels), tuple(stored.templates), vectors, numerics, time.monotonic()
        )


def _parts(labels: Iterable[str], templates: Iterable[str]) -> list[bytes]:
    """How many labels there are comes first: a label is no template."""
    given = [label.encode() for label in labels]
    return [str(len(given)).encode(), *given, *(template.encode() for template in templates)]
