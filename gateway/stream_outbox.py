"""Results of a stream on their way out: as they finish, or in the order of the items."""

from collections import deque

from siglip.v1 import embedding_pb2

from gateway.stream_items import Item

Result = tuple[Item, embedding_pb2.EmbedStreamResult]

# Of one message: stock clients accept 4 MiB.
CHUNK_RESULTS = 128
CHUNK_BYTES = 1024 * 1024


class Outbox:
    def __init__(self, ordered: bool) -> None:
        self._ordered = ordered
        self._ready: deque[Result] = deque()
        self._early: dict[int, Result] = {}
        self._next = 0

    def __len__(self) -> int:
        """How many may be sent now."""
        return len(self._ready)

    def put(self, results: list[Result]) -> None:
        if not self._ordered:
            self._ready.extend(results)
            return
        self._early.update((result[0].sequence, result) for result in results)
        while found := self._early.pop(self._next, None):
            self._ready.append(found)
            self._next += 1

    def take(self) -> list[Result]:
        """One message's; none when there are none."""
        chunk: list[Result] = []
        size = 0
        while self._ready and len(chunk) < CHUNK_RESULTS and size < CHUNK_BYTES:
            chunk.append(self._ready.popleft())
            size += len(chunk[-1][1].embedding.data)
        return chunk
