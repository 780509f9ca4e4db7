"""A stream of the asyncio client: a task feeds it, and two for each connection listen and send."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any

import grpc

from siglip_client.errors import Unavailable
from siglip_client.stream_flow import CHUNK_BYTES, CHUNK_ITEMS, Flow, Link
from siglip_client.stream_items import Entry, ImageItem, StreamItem, StreamResult, prepare
from siglip_client.stream_patience import Patience, backoff_s, failures_after

# An iterable that takes longer than this for an item gives them one by one.
_SLOW_S = 0.001
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
        methods: Sequence[Callable[..., Any]],
        metadata: Callable[[], tuple[str, Any]],
        timeout_s: float,
        address: str,
    ) -> None:
        self._flow, self._methods, self._metadata = flow, methods, metadata
        self._patience = Patience(flow, timeout_s, address)
        self._bell = Bell()
        self._error: BaseException | None = None

    async def results(
        self, items: Iterable[StreamItem] | AsyncIterable[StreamItem]
    ) -> AsyncIterator[StreamResult]:
        """Exactly one for each item. Raises SiglipError, and whatever `items` raises."""
        work = [self._feed(items), *map(self._keep, self._methods)]
        tasks = [asyncio.create_task(self._watched(each)) for each in work]
        try:
            while ready := await self._ready():
                for result in ready:
                    yield result
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watched(self, work: Any) -> None:
        try:
            await work
        except Exception as error:
            self._error = self._error or error
            self._bell.ring()

    async def _ready(self) -> list[StreamResult]:
        """None are left when it gives none."""
        while True:
            if ready := self._flow.take():
                self._bell.ring()
                return ready
            if self._error:
                raise self._error
            if self._flow.finished:
                return []
            try:
                await asyncio.wait_for(self._bell.wait(), self._patience.wait_s())
            except TimeoutError:
                continue

    async def _feed(self, items: Iterable[StreamItem] | AsyncIterable[StreamItem]) -> None:
        if isinstance(items, AsyncIterable):
            await self._room()
            async for item in items:
                self._add([await self._prepared(item)])
                await self._room()
        else:
            iterator, more = iter(items), True
            while more:
                await self._room()
                entries, more = await asyncio.to_thread(self._pull, iterator)
                self._add(entries)
        self._flow.exhausted = True
        self._bell.ring()

    async def _room(self) -> None:
        while not self._flow.has_room:
            await self._bell.wait()

    async def _prepared(self, item: StreamItem) -> Entry | StreamResult:
        opened = self._flow.opened
        assert opened
        if isinstance(item, ImageItem) and not isinstance(item.image, bytes):
            return await asyncio.to_thread(prepare, self._flow.accepted, item, opened)
        return prepare(self._flow.accepted, item, opened)

    def _pull(self, iterator: Iterator[StreamItem]) -> tuple[list[Entry | StreamResult], bool]:
        """The next few items, in a thread; whether there may be more."""
        entries: list[Entry | StreamResult] = []
        size, opened = 0, self._flow.opened
        assert opened
        while len(entries) < CHUNK_ITEMS and size < CHUNK_BYTES:
            begun_s = time.monotonic()
            item: Any = next(iterator, _END)
            if item is _END:
                return entries, False
            entries.append(entry := prepare(self._flow.accepted + len(entries), item, opened))
            size += entry.size if isinstance(entry, Entry) else 0
            if time.monotonic() - begun_s > _SLOW_S:
                break
        return entries, True

    def _add(self, entries: Iterable[Entry | StreamResult]) -> None:
        for entry in entries:
            self._flow.add(entry)
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
            if not call.cancelled() or _is_cancelled():
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
        raise Unavailable("the client is closed") from None


def _is_cancelled() -> bool:
    """Whether somebody wants this task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
