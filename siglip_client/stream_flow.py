"""Who has which item of a stream: free of any transport, and of threads.

Items come in as the window has room, go out over the links that have credit, and come back as results. A
link that is lost gives back what it has not answered, so that each item has exactly one result.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable

from siglip.v1 import embedding_pb2, types_pb2

from siglip_client import vectors
from siglip_client.errors import InternalError, ModelChanged
from siglip_client.replies import item_error
from siglip_client.stream_items import Entry, StreamResult
from siglip_client.vectors import WIRE_DTYPES, WireDtype

# Of one message. More only delays the first of them.
CHUNK_ITEMS = 64
CHUNK_BYTES = 1024 * 1024
_ITEM_OVERHEAD_BYTES = 16
# Heartbeats that may fail to come.
_MISSED = 3

Response = embedding_pb2.EmbedStreamResponse


class Link:
    """One stream to a gateway: what it lets us send, and what it has not answered."""

    def __init__(self) -> None:
        self.opened: embedding_pb2.StreamOpened | None = None
        self.unanswered: dict[int, Entry] = {}
        self.used_bytes = 0
        self.draining = self.ended = self.answered = False
        self.heard_s = time.monotonic()

    @property
    def silent_s(self) -> float:
        """When its next heartbeat is overdue, by `time.monotonic()`."""
        interval_s = self.opened.heartbeat_interval_ms / 1000 if self.opened else 10.0
        return self.heard_s + _MISSED * max(0.1, interval_s)

    def has_room(self, size: int) -> bool:
        """For an item of so many bytes; one that is alone may have any size."""
        opened = self.opened
        if opened is None or self.draining or self.ended:
            return False
        if not self.unanswered:
            return True
        fits = self.used_bytes + size <= opened.max_unanswered_bytes
        return fits and len(self.unanswered) < opened.max_unanswered_items


class Flow:
    """All calls must come from one thread at a time."""

    def __init__(
        self,
        *,
        model: str,
        normalize: bool,
        dtype: WireDtype,
        ordered: bool,
        retries: int,
        connections: int,
        fingerprint: str | None,
    ) -> None:
        if dtype not in WIRE_DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(WIRE_DTYPES)}, not {dtype!r}")
        embedding = embedding_pb2.EmbeddingOptions(normalize=normalize, dtype=WIRE_DTYPES[dtype])
        self.first = embedding_pb2.EmbedStreamRequest(
            options=embedding_pb2.EmbedStreamOptions(model=model, embedding=embedding)
        )
        self._ordered, self._retries = ordered, retries
        self._connections = connections
        # Of the model whose vectors these are; None until the first stream says it.
        self._fingerprint = fingerprint
        self.opened: embedding_pb2.StreamOpened | None = None
        self._waiting: deque[Entry] = deque()
        self._ready: deque[StreamResult] = deque()
        self._early: dict[int, StreamResult] = {}
        self._next = 0
        self.accepted = 0
        self._taken = 0
        self._unfinished_bytes = 0
        self.exhausted = False
        self._progress_s = time.monotonic()

    @property
    def room(self) -> int:
        """How many items more may be taken from the iterable."""
        if self.opened is None:
            return 0
        links, held = self._connections, self.accepted - self._taken
        if held and self._unfinished_bytes >= links * self.opened.max_unanswered_bytes:
            return 0
        return max(0, links * self.opened.max_unanswered_items - held)

    def add(self, item: Entry | StreamResult) -> None:
        """The next item, whose place is `accepted`."""
        sequence = self.accepted
        self.accepted += 1
        if isinstance(item, StreamResult):
            self._finish(sequence, item)
            return
        if not self._unfinished:
            self._progress_s = time.monotonic()
        self._unfinished_bytes += item.size
        self._waiting.append(item)

    def next_message(self, link: Link) -> embedding_pb2.EmbedStreamRequest | None:
        """As much as waits, fits into one message and the link has credit for."""
        most_bytes = min(CHUNK_BYTES, link.opened.max_message_bytes if link.opened else 0)
        items: list[embedding_pb2.EmbedStreamItem] = []
        size = 0
        while self._waiting and len(items) < CHUNK_ITEMS and link.has_room(self._waiting[0].size):
            size += self._waiting[0].size + _ITEM_OVERHEAD_BYTES
            if items and size > most_bytes:
                break
            entry = self._waiting.popleft()
            link.unanswered[entry.sequence] = entry
            link.used_bytes += entry.size
            items.append(entry.message())
        return embedding_pb2.EmbedStreamRequest(items=items) if items else None

    def hear(self, link: Link, response: Response) -> None:
        """A message of the link. Raises InternalError."""
        link.heard_s = time.monotonic()
        if response.HasField("opened"):
            self._open(link, response.opened)
        link.draining |= response.draining
        if response.results:
            self._read(link, response.results)

    def lose(self, link: Link) -> None:
        """The link has ended; what it has not answered waits again, in its order."""
        self._waiting.extendleft(sorted(link.unanswered.values(), key=_sequence, reverse=True))
        link.unanswered = {}
        link.ended = True

    @property
    def finished(self) -> bool:
        """All is answered, and nothing more comes."""
        return self.all_answered and not self._ready

    @property
    def all_answered(self) -> bool:
        """Nothing needs to be sent any more."""
        return self.exhausted and not self._unfinished

    def take(self) -> list[StreamResult]:
        """What is ready."""
        taken = list(self._ready)
        self._ready.clear()
        self._taken += len(taken)
        return taken

    def stuck_at_s(self, timeout_s: float, since_s: float) -> float:
        """When somebody has waited since then and `timeout_s` without progress, by `time.monotonic()`."""
        if not self._unfinished and self.opened is not None:
            return float("inf")
        return max(self._progress_s, since_s) + timeout_s

    @property
    def _unfinished(self) -> int:
        return self.accepted - self._taken - len(self._ready) - len(self._early)

    def _open(self, link: Link, opened: embedding_pb2.StreamOpened) -> None:
        self._fingerprint = self._fingerprint or opened.model.fingerprint
        if opened.model.fingerprint != self._fingerprint:
            raise ModelChanged(self._fingerprint, opened.model.fingerprint)
        if self.opened is None:
            self._progress_s = time.monotonic()
        link.opened = self.opened = opened

    def _read(self, link: Link, results: Iterable[embedding_pb2.EmbedStreamResult]) -> None:
        link.answered = True
        answered: list[Entry] = []
        found = []
        for result in results:
            entry = link.unanswered.pop(result.id, None)
            if entry is None:
                raise InternalError(f"the stream has a result of item {result.id}, which is not unanswered")
            link.used_bytes -= entry.size
            if not result.HasField("embedding"):
                self._fail(entry, result.error)
            elif not vectors.known(result.embedding):
                self._cannot_read(entry, result.embedding)
            else:
                answered.append(entry)
                found.append(result.embedding)
        if found:
            for entry, row in zip(answered, vectors.decode(found), strict=True):
                self._unfinished_bytes -= entry.size
                self._finish(entry.sequence, StreamResult(entry.key, row))
        self._progress_s = time.monotonic()

    def _fail(self, entry: Entry, error: types_pb2.ItemError) -> None:
        told = item_error(error, entry.sequence)
        if told.retryable and entry.tries <= self._retries:
            entry.tries += 1
            self._waiting.append(entry)
            return
        self._unfinished_bytes -= entry.size
        self._finish(entry.sequence, StreamResult(entry.key, None, told))

    def _cannot_read(self, entry: Entry, vector: types_pb2.Vector) -> None:
        error = vectors.unknown_encoding(vector, entry.sequence, f"items[{entry.sequence}]")
        self._unfinished_bytes -= entry.size
        self._finish(entry.sequence, StreamResult(entry.key, None, error))

    def _finish(self, sequence: int, result: StreamResult) -> None:
        if not self._ordered:
            self._ready.append(result)
            return
        self._early[sequence] = result
        while found := self._early.pop(self._next, None):
            self._ready.append(found)
            self._next += 1


def _sequence(entry: Entry) -> int:
    return entry.sequence
