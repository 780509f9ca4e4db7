"""A stream as the gateway's tests speak it: one message at a time, everything read by itself."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
from siglip.v1 import embedding_pb2

from tests.gateway.conftest import Served

Item = embedding_pb2.EmbedStreamItem
Options = embedding_pb2.EmbedStreamOptions
Request = embedding_pb2.EmbedStreamRequest


class Talk:
    def __init__(self, call: Any) -> None:
        self.call = call
        self.opened = embedding_pb2.StreamOpened()
        self.sizes: list[int] = []
        """Results of each message that had some."""
        self.heartbeats = 0
        self.draining = False

    async def open(self, **options: Any) -> "Talk":
        await self.call.write(Request(options=Options(**options)))
        first = await self.call.read()
        self.opened = first.opened
        return self

    async def send(self, items: Sequence[Item]) -> None:
        await self.call.write(Request(items=items))

    async def read(self) -> list[embedding_pb2.EmbedStreamResult] | None:
        """The results of the next message; None at the end."""
        reply = await self.call.read()
        if reply is grpc.aio.EOF:
            return None
        self.draining |= reply.draining
        self.heartbeats += not reply.ByteSize()
        if reply.results:
            self.sizes.append(len(reply.results))
        return list(reply.results)

    async def results(self, count: int) -> list[embedding_pb2.EmbedStreamResult]:
        """At least so many."""
        found: list[embedding_pb2.EmbedStreamResult] = []
        while len(found) < count:
            more = await self.read()
            assert more is not None, f"the stream ended after {len(found)} of {count} results"
            found += more
        return found

    async def rest(self) -> list[embedding_pb2.EmbedStreamResult]:
        """All that comes after our end."""
        await self.call.done_writing()
        return await self.to_its_end()

    async def to_its_end(self) -> list[embedding_pb2.EmbedStreamResult]:
        found: list[embedding_pb2.EmbedStreamResult] = []
        while (more := await self.read()) is not None:
            found += more
        return found


@asynccontextmanager
async def talking(served: Served, metadata: Any = None, **options: Any) -> AsyncIterator[Talk]:
    call = served.embedding.EmbedStream(metadata=metadata)
    try:
        yield await Talk(call).open(**options)
    finally:
        call.cancel()


def texts(count: int, start: int = 0) -> list[Item]:
    return [Item(id=i, text=f"text {i}") for i in range(start, start + count)]
