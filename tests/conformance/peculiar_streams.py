"""Streams that real servers rarely have: the first one of each server goes wrong."""

from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

import grpc
from siglip.v1 import embedding_pb2, types_pb2

from tests.conformance.peculiar import Peculiar, fail, overloaded, vector_of

Requests = Iterator[bytes]

# Before the stream that breaks does so.
_ANSWERED_ITEMS = 100


class PeculiarStreams(Peculiar):
    """`requests` has an entry for each stream."""

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler:
        return grpc.stream_stream_rpc_method_handler(self._stream)

    @property
    def in_its_first(self) -> bool:
        return len(self.requests) == 1

    def _stream(self, requests: Requests, context: Any) -> Iterator[bytes]:
        self.requests.append(next(requests))
        yield from self._answer(self, requests, context)


def stream_breaks(server: PeculiarStreams, requests: Requests, context: Any) -> Iterator[bytes]:
    """In the midst of its items."""
    first = server.in_its_first
    yield opened()
    for count, item in enumerate(items_of(requests)):
        if first and count == _ANSWERED_ITEMS:
            fail(context, grpc.StatusCode.UNAVAILABLE, "STOPPING", "told to fail")
        yield answered(item)


def stream_silent(server: PeculiarStreams, requests: Requests, context: Any) -> Iterator[bytes]:
    """Neither an answer nor a heartbeat, until the client gives it up."""
    if server.in_its_first:
        yield opened(heartbeat_ms=100)
        given_up = Event()
        if context.add_callback(given_up.set):
            given_up.wait()
    else:
        yield from _honest(requests)


def stream_other_model(server: PeculiarStreams, requests: Requests, context: Any) -> Iterator[bytes]:
    """After the first has broken, another model is served."""
    first = server.in_its_first
    yield opened("f00d" if first else "beef")
    for item in items_of(requests):
        yield answered(item)
        if first:
            fail(context, grpc.StatusCode.UNAVAILABLE, "STOPPING", "told to fail")


def stream_busy_once(server: PeculiarStreams, requests: Requests, context: Any) -> Iterator[bytes]:
    """With leave to come back."""
    if server.in_its_first:
        overloaded(context, retry_ms=50, pushback="50")
    yield from _honest(requests)


def stream_busy(server: PeculiarStreams, requests: Requests, context: Any) -> Iterator[bytes]:
    """Without."""
    yield overloaded(context, retry_ms=1500)


def stream_bad_item(server: PeculiarStreams, requests: Requests, context: Any) -> Iterator[bytes]:
    """The third item fails; the place in its message is another than in the stream."""
    yield opened()
    for item in items_of(requests):
        if item.id == 2:
            error = types_pb2.ItemError(code=3, reason="TEXT_BAD", message="told to fail", field="items[0]")
            yield _results(embedding_pb2.EmbedStreamResult(id=item.id, error=error))
        else:
            yield answered(item)


STREAMS: dict[str, Callable[[Any, Any, Any], Iterator[bytes]]] = {
    each.__name__.replace("_", "-"): each
    for each in (
        stream_breaks,
        stream_silent,
        stream_other_model,
        stream_busy_once,
        stream_busy,
        stream_bad_item,
    )
}


def opened(fingerprint: str = "f00d", heartbeat_ms: int = 5000) -> bytes:
    """A stream's first message."""
    said = embedding_pb2.StreamOpened(
        model=types_pb2.ModelInfo(name="peculiar", fingerprint=fingerprint),
        max_unanswered_items=64,
        max_unanswered_bytes=1 << 20,
        heartbeat_interval_ms=heartbeat_ms,
        max_message_bytes=4 << 20,
        max_text_bytes=1000,
        max_image_bytes=1 << 20,
        text_length=64,
        image_size=32,
    )
    return embedding_pb2.EmbedStreamResponse(opened=said).SerializeToString()


def items_of(requests: Requests) -> Iterator[embedding_pb2.EmbedStreamItem]:
    for request in requests:
        yield from embedding_pb2.EmbedStreamRequest.FromString(request).items


def answered(item: embedding_pb2.EmbedStreamItem) -> bytes:
    vector = vector_of(types_pb2.DTYPE_F32)
    return _results(embedding_pb2.EmbedStreamResult(id=item.id, embedding=vector))


def _honest(requests: Requests) -> Iterator[bytes]:
    yield opened()
    yield from map(answered, items_of(requests))


def _results(*results: embedding_pb2.EmbedStreamResult) -> bytes:
    return embedding_pb2.EmbedStreamResponse(results=results).SerializeToString()
