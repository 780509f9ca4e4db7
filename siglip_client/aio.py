"""The asyncio client: the same calls as Client, awaited."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from weakref import WeakSet

import grpc
from google.protobuf.message import Message

from siglip_client import channel, operations
from siglip_client.chunks import Chunk
from siglip_client.errors import LABEL_SET_NOT_FOUND, DeadlineExceeded, InvalidRequest, NotFound, Unavailable
from siglip_client.images import ImageLike
from siglip_client.operations import Operation
from siglip_client.results import (
    Activation,
    Classification,
    Embeddings,
    LabelSet,
    ModelDescription,
    OnError,
    Scores,
    Tokens,
)
from siglip_client.status import retry_wait_s, to_exception
from siglip_client.stream_aio import AsyncStream, is_cancelled
from siglip_client.stream_flow import Flow
from siglip_client.stream_items import StreamItem, StreamResult
from siglip_client.stream_patience import Patience
from siglip_client.vectors import WireDtype

Result = TypeVar("Result")
Answer = tuple[Chunk[Any], Any]


class AsyncClient:
    """Client for asyncio; see Client for every argument, result and error.

    Make and use it within one running event loop. Close it, or use `async with`.
    Image files are read and pixels encoded in a thread.
    """

    def __init__(
        self,
        address: str = channel.DEFAULT_ADDRESS,
        *,
        model: str = "",
        timeout_s: float = channel.DEFAULT_TIMEOUT_S,
        retries: int = channel.MAX_RETRIES,
        connections: int = 1,
        parallel_calls: int = 2,
        max_message_bytes: int = channel.DEFAULT_MESSAGE_BYTES,
        retry_buffer_bytes: int = channel.DEFAULT_MESSAGE_BYTES,
        tls: bool = False,
        ca_file: str | Path | None = None,
        cert_file: str | Path | None = None,
        key_file: str | Path | None = None,
        token: str | None = None,
        priority: channel.Priority = "interactive",
    ) -> None:
        asyncio.get_running_loop()  # a channel made outside belongs to a loop that never runs
        self.address = address
        self.model = model
        self.timeout_s = channel.seconds(timeout_s)
        self._retries = retries
        self._parallel_calls = parallel_calls
        options = channel.options(
            address,
            retries=retries,
            max_message_bytes=max_message_bytes,
            retry_buffer_bytes=retry_buffer_bytes,
        )
        access = channel.Access(tls=tls, ca_file=ca_file, cert_file=cert_file, key_file=key_file, token=token)
        self._token, self._priority = token, priority
        credentials = access.credentials(address)
        self._channels = [
            grpc.aio.secure_channel(address, credentials, options)
            if credentials
            else grpc.aio.insecure_channel(address, options)
            for _ in range(connections)
        ]
        methods = [channel.methods(each) for each in self._channels]
        self._methods = itertools.cycle(methods)
        self._streams = [each["EmbedStream"] for each in methods]
        self._places = asyncio.Semaphore(connections * channel.CALLS_OF_A_CONNECTION)
        self._open_streams: WeakSet[AsyncStream] = WeakSet()
        self._served: ModelDescription | None = None
        self._closed = asyncio.Event()

    async def embed_texts(
        self,
        texts: Iterable[str],
        *,
        normalize: bool = True,
        dtype: WireDtype = "f32",
        on_error: OnError = "raise",
        timeout_s: float | None = None,
    ) -> Embeddings:
        """See Client.embed_texts."""
        plan = partial(operations.embed_texts, texts, normalize=normalize, dtype=dtype, on_error=on_error)
        return await self._run(plan, timeout_s)

    async def embed_images(
        self,
        images: Iterable[ImageLike],
        *,
        normalize: bool = True,
        dtype: WireDtype = "f32",
        on_error: OnError = "raise",
        timeout_s: float | None = None,
    ) -> Embeddings:
        """See Client.embed_images."""
        plan = partial(operations.embed_images, images, normalize=normalize, dtype=dtype, on_error=on_error)
        return await self._run(plan, timeout_s)

    def embed_stream(
        self,
        items: Iterable[StreamItem] | AsyncIterable[StreamItem],
        *,
        ordered: bool = False,
        normalize: bool = True,
        dtype: WireDtype = "f32",
        fingerprint: str | None = None,
        timeout_s: float | None = None,
    ) -> AsyncIterator[StreamResult]:
        """See Client.embed_stream; `items` may be asynchronous, too. Others are iterated in a thread."""
        flow = Flow(
            model=self.model,
            normalize=normalize,
            dtype=dtype,
            ordered=ordered,
            retries=self._retries,
            connections=len(self._streams),
            fingerprint=fingerprint,
        )
        patience = Patience(flow, self._seconds(timeout_s), self.address)
        stream = AsyncStream(flow, patience, self._streams, self._stream_metadata)
        self._open_streams.add(stream)
        return stream.results(items)

    async def classify(
        self,
        images: Iterable[ImageLike],
        labels: Iterable[str] | LabelSet,
        *,
        templates: Iterable[str] | None = None,
        activation: Activation = "sigmoid",
        top_k: int = 0,
        threshold: float = 0.0,
        on_error: OnError = "raise",
        timeout_s: float | None = None,
    ) -> Classification:
        """See Client.classify."""
        plan = partial(
            operations.classify,
            images,
            labels,
            templates=templates,
            activation=activation,
            top_k=top_k,
            threshold=threshold,
            on_error=on_error,
        )
        return await self._run(plan, timeout_s)

    async def create_label_set(
        self,
        labels: Iterable[str],
        templates: Iterable[str] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> LabelSet:
        """See Client.create_label_set."""
        plan = partial(operations.create_label_set, labels, templates=templates)
        return await self._run(plan, timeout_s)

    async def score(
        self,
        images: Iterable[ImageLike],
        texts: Iterable[str],
        *,
        on_error: OnError = "raise",
        timeout_s: float | None = None,
    ) -> Scores:
        """See Client.score."""
        return await self._run(partial(operations.score, images, texts, on_error=on_error), timeout_s)

    async def tokenize(self, texts: Iterable[str], *, timeout_s: float | None = None) -> Tokens:
        """See Client.tokenize."""
        return await self._run(partial(operations.tokenize, texts), timeout_s)

    async def get_model(self, *, timeout_s: float | None = None) -> ModelDescription:
        """See Client.get_model."""
        self._served = await self._send(operations.get_model(self.model), timeout_s)
        return self._served

    async def call(self, method: str, request: Message, *, timeout_s: float | None = None) -> Any:
        """See Client.call."""
        channel.check_method(method)
        return (await self._call(method, self._seconds(timeout_s), Chunk([], request)))[1]

    async def close(self) -> None:
        """Ends all calls and closes the connections."""
        self._closed.set()
        for stream in self._open_streams:  # which closing a channel would let go on
            stream.fail(Unavailable(channel.CLOSED))
        for each in self._channels:
            await each.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _stream_metadata(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        """A new request id, and the metadata with it."""
        request_id = channel.new_request_id()
        return request_id, channel.metadata(request_id, self._token, self._priority)

    def _seconds(self, timeout_s: float | None) -> float:
        return channel.seconds(self.timeout_s if timeout_s is None else timeout_s)

    async def _run(self, plan: Callable[..., Operation[Result]], timeout_s: float | None) -> Result:
        served = self._served or await self.get_model(timeout_s=timeout_s)
        try:
            return await self._send(plan(served=served, model=self.model), timeout_s)
        except InvalidRequest:
            self._served = None  # its limits may have changed since they were asked for
            raise

    async def _send(self, operation: Operation[Result], timeout_s: float | None) -> Result:
        call = partial(self._call_with_labels, operation, self._seconds(timeout_s))
        return operation.read(await self._in_order(call, operation))

    async def _in_order(
        self, call: Callable[[Chunk[Any]], Coroutine[Any, Any, Answer]], operation: Operation[Any]
    ) -> list[Answer]:
        """The answers in the order of the chunks, a few on the way at a time."""
        answers: list[Answer] = []
        pending: deque[asyncio.Task[Answer]] = deque()
        try:
            while (chunk := await _next_chunk(operation)) is not None:
                if len(pending) == self._parallel_calls:
                    answers.append(await pending.popleft())
                pending.append(asyncio.create_task(call(chunk)))
            while pending:
                answers.append(await pending.popleft())
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        return answers

    async def _call_with_labels(
        self, operation: Operation[Any], timeout_s: float, chunk: Chunk[Any]
    ) -> Answer:
        """See Client._call_with_labels."""
        try:
            return await self._call(operation.method, timeout_s, chunk)
        except NotFound as error:
            if (labels := operation.label_set) is None or error.reason != LABEL_SET_NOT_FOUND:
                raise
        _, made = await self._call("CreateLabelSet", timeout_s, Chunk([], labels))
        chunk.request.label_set = made.label_set
        try:
            return await self._call(operation.method, timeout_s, chunk)
        except NotFound as error:
            if error.reason != LABEL_SET_NOT_FOUND:
                raise
        return await self._call(operation.method, timeout_s, operations.spelled_out(chunk, labels))

    async def _call(self, method: str, timeout_s: float, chunk: Chunk[Any]) -> Answer:
        request_id = channel.new_request_id()
        deadline = time.monotonic() + timeout_s
        for retries_left in range(self._retries, -1, -1):
            try:
                async with self._place(deadline, request_id) as time_left_s:
                    send = next(self._methods)[method]
                    metadata = channel.metadata(request_id, self._token, self._priority)
                    reply = await send(chunk.request, timeout=time_left_s, metadata=metadata)
                if reply is None:  # grpc.aio, when the deadline passes as the reply arrives
                    raise DeadlineExceeded("no answer in time", request_id=request_id)
                return chunk, reply
            except grpc.aio.UsageError:  # gRPC's word for a channel that is closed
                if self._closed.is_set():
                    raise Unavailable(channel.CLOSED, request_id=request_id) from None
                raise
            except asyncio.CancelledError:
                # Closing cancels what waits, which no caller asked for.
                if self._closed.is_set() and not is_cancelled():
                    raise Unavailable(channel.CLOSED, request_id=request_id) from None
                raise
            except grpc.RpcError as error:
                if self._closed.is_set() and error.code() is grpc.StatusCode.CANCELLED:
                    raise Unavailable(channel.CLOSED, request_id=request_id) from None
                wait_s = retry_wait_s(error, deadline - time.monotonic()) if retries_left else None
                if wait_s is None:
                    raise to_exception(error, self.address, request_id) from error
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._closed.wait()
        raise AssertionError("unreachable: the last attempt returns or raises")

    @contextlib.asynccontextmanager
    async def _place(self, deadline: float, request_id: str) -> AsyncIterator[float]:
        """See Client._place."""
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._places.acquire()
        except TimeoutError:
            raise DeadlineExceeded(channel.NO_PLACE, request_id=request_id) from None
        try:
            yield channel.time_left_s(deadline, request_id)
        finally:
            self._places.release()


async def _next_chunk(operation: Operation[Any]) -> Chunk[Any] | None:
    if operation.builds_slowly:
        return await asyncio.to_thread(next, operation.chunks, None)
    return next(operation.chunks, None)
