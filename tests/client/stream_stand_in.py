"""A gateway's EmbedStream by script: each stream takes the next one, then all are honest."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from siglip.v1 import embedding_pb2, types_pb2

from tests.client.stand_in import DIM, TEXT_LENGTH, StandIn, serving, unit_vector

Response = embedding_pb2.EmbedStreamResponse
SIZE = 2


class Exchange:
    """One stream as a script sees it."""

    def __init__(self, service: "StreamStandIn", requests: Iterator[Any], context: Any) -> None:
        self.service, self.context = service, context
        self._requests = requests
        self.options = next(requests).options
        self.unanswered = 0

    def open(self, fingerprint: str = "f00d", heartbeat_ms: int = 5000) -> Response:
        limits = self.service
        return Response(
            opened=embedding_pb2.StreamOpened(
                model=types_pb2.ModelInfo(name="stand-in", fingerprint=fingerprint),
                max_unanswered_items=limits.max_items,
                max_unanswered_bytes=limits.max_bytes,
                heartbeat_interval_ms=heartbeat_ms,
                max_message_bytes=limits.max_message_bytes,
                max_text_bytes=100,
                max_image_bytes=50_000,
                text_length=TEXT_LENGTH,
                image_size=SIZE,
            )
        )

    def items(self) -> Iterator[Any]:
        for request in self._requests:
            service = self.service
            service.message_items.append(len(request.items))
            service.largest_message = max(service.largest_message, request.ByteSize())
            self.unanswered += len(request.items)
            service.most_unanswered = max(service.most_unanswered, self.unanswered)
            service.sent.update(item.id for item in request.items)
            service.peers.update([self.context.peer()] * len(request.items))
            yield from request.items

    def answer(self, *items: Any) -> Response:
        self.unanswered -= len(items)
        return Response(results=[_result(item) for item in items])

    def fail(self, code: grpc.StatusCode, pushback_ms: int | None = None) -> None:
        if pushback_ms is not None:
            self.context.set_trailing_metadata((("grpc-retry-pushback-ms", str(pushback_ms)),))
        self.context.abort(code, "told to fail")


Script = Callable[[Exchange], Iterator[Response]]


class StreamStandIn(StandIn):
    def __init__(self) -> None:
        super().__init__()
        self.scripts: deque[Script] = deque()
        self.opened_s: list[float] = []
        self.sent: Counter[int] = Counter()
        """How often each item came."""
        self.peers: Counter[str] = Counter()
        self.message_items: list[int] = []
        self.metadata: list[dict[str, Any]] = []
        self.largest_message = self.most_unanswered = 0
        self.max_items, self.max_bytes, self.max_message_bytes = 16, 1_000_000, 4_000_000
        self._lock = threading.Lock()

    def EmbedStream(self, requests: Any, context: Any) -> Any:
        with self._lock:
            script = self.scripts.popleft() if self.scripts else honest
            self.opened_s.append(time.monotonic())
            self.metadata.append(dict(context.invocation_metadata()))
        yield from script(Exchange(self, requests, context))


def honest(exchange: Exchange) -> Iterator[Response]:
    yield exchange.open()
    for item in exchange.items():
        yield exchange.answer(item)


def dies_after(count: int) -> Script:
    def script(exchange: Exchange) -> Iterator[Response]:
        yield exchange.open()
        for position, item in enumerate(exchange.items()):
            if position == count:
                exchange.fail(grpc.StatusCode.UNAVAILABLE)
            yield exchange.answer(item)

    return script


def drains_after(count: int) -> Script:
    """Answers what it has read of, out of order, and leaves the rest."""

    def script(exchange: Exchange) -> Iterator[Response]:
        yield exchange.open()
        read = []
        for item in exchange.items():
            read.append(item)
            if len(read) == count:
                break
        yield Response(draining=True)
        for item in reversed(read):
            yield exchange.answer(item)

    return script


def refuses(code: grpc.StatusCode, pushback_ms: int | None = None) -> Script:
    def script(exchange: Exchange) -> Iterator[Response]:
        exchange.fail(code, pushback_ms)
        yield Response()

    return script


def falls_silent(exchange: Exchange) -> Iterator[Response]:
    yield exchange.open(heartbeat_ms=50)
    while exchange.context.is_active():
        time.sleep(0.01)


def _result(item: Any) -> embedding_pb2.EmbedStreamResult:
    kind = item.WhichOneof("content")
    content = item.token_ids.ids if kind == "token_ids" else getattr(item, kind)
    content = bytes(content) if kind == "token_ids" else content
    if content in ("bad", b"bad"):
        error = types_pb2.ItemError(code=3, reason="ITEM_BAD", message="cannot be read", field="items[0]")
        return embedding_pb2.EmbedStreamResult(id=item.id, error=error)
    vector = types_pb2.Vector(
        data=unit_vector(content).astype("<f4").tobytes(), dtype=types_pb2.DTYPE_F32, dim=DIM, scale=1
    )
    return embedding_pb2.EmbedStreamResult(id=item.id, embedding=vector)


def busy(item: Any) -> Response:
    error = types_pb2.ItemError(code=14, reason="BUSY", message="later", field="items[0]", retryable=True)
    return Response(results=[embedding_pb2.EmbedStreamResult(id=item.id, error=error)])


@contextmanager
def streaming(service: StreamStandIn) -> Iterator[str]:
    with serving(service) as address:
        yield address
