"""A stream of the blocking client: a thread feeds it, and one for each connection listens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from weakref import WeakSet

import grpc
from siglip.v1 import embedding_pb2

from siglip_client.channel import CLOSED
from siglip_client.errors import Unavailable
from siglip_client.stream_flow import Flow, Link
from siglip_client.stream_items import StreamItem, StreamResult, prepare
from siglip_client.stream_patience import Patience, backoff_s, failures_after

# A feeder that is inside the caller's iterable cannot be ended: it is left to itself.
_JOIN_S = 1.0
_END = object()


class Stream:
    """`methods`: EmbedStream of each connection; `metadata` makes that of a call, given its request id."""

    def __init__(
        self,
        flow: Flow,
        patience: Patience,
        methods: Sequence[Callable[..., Any]],
        metadata: Callable[[], tuple[str, Any]],
    ) -> None:
        self._flow, self._patience = flow, patience
        self._methods, self._metadata = methods, metadata
        lock = threading.Lock()
        self._room, self._work, self._news = (threading.Condition(lock) for _ in range(3))
        self._lock = lock
        self._error: BaseException | None = None
        self._closed = threading.Event()
        self._senders = WeakSet[threading.Thread]()  # a stream may have thousands, one after the other

    def results(self, items: Iterable[StreamItem]) -> Iterator[StreamResult]:
        """Exactly one for each item. Raises SiglipError, and whatever `items` raises."""
        targets: list[tuple[Callable[[Any], None], Any]] = [
            (self._feed, items),
            *((self._keep, method) for method in self._methods),
        ]
        threads = [
            threading.Thread(target=target, args=(given,), name="siglip-stream", daemon=True)
            for target, given in targets
        ]
        for thread in threads:
            thread.start()
        try:
            while ready := self._ready():
                yield from ready
        finally:
            self._close()
            # gRPC's senders, too: one that dies as the program ends may hold a lock that its end waits for.
            for thread in [*threads, *self._senders]:
                thread.join(_JOIN_S)

    def _ready(self) -> list[StreamResult]:
        """None are left when it gives none."""
        since_s = time.monotonic()
        with self._lock:
            while True:
                if ready := self._flow.take():
                    self._room.notify()
                    return ready
                if self._error:
                    raise self._error
                if self._flow.finished:
                    return []
                self._news.wait(self._patience.wait_s(since_s))

    def _close(self) -> None:
        with self._lock:
            self._closed.set()
            calls = list(self._patience.calls.values())
            self._wake()
        for call in calls:
            call.cancel()

    def _wake(self) -> None:
        for condition in (self._room, self._work, self._news):
            condition.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._error = self._error or error
            self._wake()

    def _feed(self, items: Iterable[StreamItem]) -> None:
        try:
            iterator = iter(items)
            while self._has_room() and (item := next(iterator, _END)) is not _END:
                assert self._flow.opened
                entry = prepare(self._flow.accepted, item, self._flow.opened)  # type: ignore[arg-type]
                with self._lock:
                    self._flow.add(entry)
                    (self._news if isinstance(entry, StreamResult) else self._work).notify_all()
        except BaseException as error:
            self._fail(error)
        with self._lock:
            self._flow.exhausted = True
            self._wake()

    def _has_room(self) -> bool:
        """Waits for it; False when the stream has ended."""
        with self._lock:
            while not (self._flow.room or self._ended):
                self._room.wait()
            return not self._ended

    @property
    def _ended(self) -> bool:
        return self._closed.is_set() or self._error is not None

    def _keep(self, method: Callable[..., Any]) -> None:
        """Has a stream over one connection, and another one when that ends, until all is answered."""
        failures = 0
        try:
            while not (self._ended or self._flow.all_answered):
                link = Link()
                request_id, metadata = self._metadata()
                try:
                    self._converse(link, self._open(method, link, metadata))
                    failures = failures_after(link, failures)
                    wait_s = backoff_s(failures)
                except grpc.RpcError as error:
                    failures = failures_after(link, failures)
                    wait_s = self._patience.failed(error, failures, request_id)
                self._closed.wait(wait_s)
        except BaseException as error:
            self._fail(error)

    def _open(self, method: Callable[..., Any], link: Link, metadata: Any) -> Any:
        try:
            return method(self._messages(link), metadata=metadata)
        except ValueError:  # gRPC's word for a channel that is closed
            raise Unavailable(CLOSED) from None

    def _converse(self, link: Link, call: Any) -> None:
        with self._lock:
            self._patience.calls[link] = call
            if self._ended:
                call.cancel()
        try:
            for response in call:
                with self._lock:
                    self._flow.hear(link, response)
                    self._patience.heard()
                    self._wake()
        finally:
            call.cancel()
            with self._lock:
                del self._patience.calls[link]
                self._flow.lose(link)
                self._wake()

    def _messages(self, link: Link) -> Iterator[embedding_pb2.EmbedStreamRequest]:
        """What gRPC's own thread sends; its end closes our side."""
        self._senders.add(threading.current_thread())
        yield self._flow.first
        while True:
            with self._lock:
                while (message := self._flow.next_message(link)) is None:
                    if self._ended or link.ended or link.draining or self._flow.all_answered:
                        return
                    self._work.wait()
            yield message
