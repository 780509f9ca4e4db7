"""A stream of the asyncio client: a task feeds it, and two for each connection listen and send."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any

import grpc
from siglip.v1 import embedding_pb2

from siglip_client.channel import CLOSED
from siglip_client.errors import Unavailable
from siglip_client.stream_flow import CHUNK_BYTES, CHUNK_ITEMS, Flow, Link
from siglip_client.stream_items import Entry, ImageItem, StreamItem, StreamResult, prepare
from siglip_client.stream_patience import Patience, backoff_s, failures_after

_END = object()


class Bell:
    """Wakes all that wait for it."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self) -> None:
        await self._event.wait()


class AsyncStream:
    """See stream.Stream; `items` may be asynchronous, too. Others are iterated in a thread."""

    def __init__(
        self,
        flow: Flow,
        patience: Patience,
        methods: Sequence[Callable[..., Any]],
        metadata: Callable[[], tuple[str, Any]],
    ) -> None:
        self._flow, self._patience = flow, patience
        self._methods, self._metadata = methods, metadata
        self._bell = Bell()
        # From the thread that iterates.
        self._pulled: deque[Entry | StreamResult] = deque()
        self._error: BaseException | None = None

    async def results(
        self, items: Iterable[StreamItem] | AsyncIterable[StreamItem]
    ) -> AsyncIterator[StreamResult]:
        """Exactly one for each item. Raises SiglipError, and whatever `items` raises."""
        work: list[tuple[Callable[[Any], Coroutine[Any, Any, None]], Any]] = [
            (self._feed, items),
            *((self._keep, method) for method in self._methods),
        ]
        tasks = [asyncio.create_task(self._watched(*each)) for each in work]
        try:
            while ready := await self._ready():
                for result in ready:
                    yield result
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def fail(self, error: Exception) -> None:
        """Ends it; what is ready is still given."""
        self._error = self._error or error
        self._bell.ring()

    async def _watched(self, work: Callable[[Any], Coroutine[Any, Any, None]], given: Any) -> None:
        try:
            await work(given)
        except Exception as error:
            self.fail(error)

    async def _ready(self) -> list[StreamResult]:
        """None are left when it gives none."""
        since_s = time.monotonic()
        while True:
            if ready := self._flow.take():
                self._bell.ring()
                return ready
            if self._error:
                raise self._error
            if self._flow.finished:
                return []
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._patience.wait_s(since_s)):
                    await self._bell.wait()

    async def _feed(self, items: Iterable[StreamItem] | AsyncIterable[StreamItem]) -> None:
        if isinstance(items, AsyncIterable):
            await self._room()
            async for item in items:
                self._flow.add(await self._prepared(item))
                self._bell.ring()
                await self._room()
        else:
            iterator, more = iter(items), True
            while more:
                await self._room()
                more = await self._in_thread(self._pull, iterator)
                self._hand_over()
        self._flow.exhausted = True
        self._bell.ring()

    async def _room(self) -> None:
        while not self._flow.room:
            await self._bell.wait()

    async def _prepared(self, item: StreamItem) -> Entry | StreamResult:
        assert self._flow.opened
        if isinstance(item, ImageItem) and not isinstance(item.image, bytes):
            return await asyncio.to_thread(prepare, self._flow.accepted, item, self._flow.opened)
        return prepare(self._flow.accepted, item, self._flow.opened)

    async def _in_thread(self, pull: Callable[..., bool], iterator: Iterator[StreamItem]) -> bool:
        loop, flow = asyncio.get_running_loop(), self._flow
        return await asyncio.to_thread(pull, iterator, flow.accepted, flow.room, flow.opened, loop)

    def _pull(
        self,
        iterator: Iterator[StreamItem],
        sequence: int,
        room: int,
        opened: embedding_pb2.StreamOpened,
        loop: asyncio.AbstractEventLoop,
    ) -> bool:
        """The next few items, in a thread; each is handed over at once. Whether there may be more."""
        size = 0
        for position in range(min(room, CHUNK_ITEMS)):
            item: Any = next(iterator, _END)
            if item is _END:
                return False
            entry = prepare(sequence + position, item, opened)
            self._pulled.append(entry)
            if len(self._pulled) == 1:
                loop.call_soon_threadsafe(self._hand_over)
            size += entry.size if isinstance(entry, Entry) else 0
            if size >= CHUNK_BYTES:
                break
        return True

    def _hand_over(self) -> None:
        while self._pulled:
            self._flow.add(self._pulled.popleft())
        self._bell.ring()

    async def _keep(self, method: Callable[..., Any]) -> None:
        """Has a stream over one connection, and another one when that ends, until all is answered."""
        failures = 0
        while not self._flow.all_answered:
            link = Link()
            request_id, metadata = self._metadata()
            try:
                await self._converse(link, _opened(method, metadata))
                failures = failures_after(link, failures)
                wait_s = backoff_s(failures)
            except grpc.aio.AioRpcError as error:
                failures = failures_after(link, failures)
                wait_s = self._patience.failed(error, failures, request_id)
            await asyncio.sleep(wait_s)

    async def _converse(self, link: Link, call: Any) -> None:
        self._patience.calls[link] = call
        sending = asyncio.create_task(self._send(link, call))
        try:
            while (response := await call.read()) is not grpc.aio.EOF:
                self._flow.hear(link, response)
                self._patience.heard()
                self._bell.ring()
        except asyncio.CancelledError:
            # So grpc.aio says, too, that the service has cancelled the call, or that we gave it up.
            if not call.cancelled() or is_cancelled():
                raise
        finally:
            call.cancel()
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            del self._patience.calls[link]
            self._flow.lose(link)
            self._bell.ring()

    async def _send(self, link: Link, call: Any) -> None:
        await call.write(self._flow.first)
        while not (link.ended or link.draining or self._flow.all_answered):
            if message := self._flow.next_message(link):
                await call.write(message)
            else:
                await self._bell.wait()
        await call.done_writing()


def _opened(method: Callable[..., Any], metadata: Any) -> Any:
    try:
        return method(metadata=metadata)
    except grpc.aio.UsageError:  # gRPC's word for a channel that is closed
        raise Unavailable(CLOSED) from None


def is_cancelled() -> bool:
    """Whether somebody wants this task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
