"""The blocking client."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

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
from siglip_client.stream import Stream
from siglip_client.stream_flow import Flow
from siglip_client.stream_items import StreamItem, StreamResult
from siglip_client.stream_patience import Patience
from siglip_client.vectors import WireDtype

Result = TypeVar("Result")
Answer = tuple[Chunk[Any], Any]


class Client:
    """Calls a SigLIP gateway. Safe to share between threads; close it, or use `with`.

    address: "host:port", "dns:///name:port" (all its addresses are used in turn)
        or "unix:///path".
    model: name of the model to ask for; empty means the first one served.
    timeout_s: longest time for one call over the network, its retries included.
        A list too long for one call is sent in several, each with this time.
    retries: at most this often (0 to 4) a call is sent again when the service is
        unavailable, or overloaded and says when to come back.
    connections: connections to open; calls use them in turn. More than one spreads
        the load over several gateway processes behind one port.
    parallel_calls: how many calls a long list has on the way at a time.
    max_message_bytes: largest reply accepted.
    retry_buffer_bytes: largest request that can be sent again.
    tls: encrypt; a ca_file or cert_file implies it. ca_file (PEM) is the authority that
        signed the service, by default those of the system.
    cert_file, key_file: this side's certificate, where the service wants one.
    token: shown to the service with every call; refused in clear beyond this machine.
    priority: "batch" for work that may wait while interactive calls are answered.

    Every call raises SiglipError or one of its children (see siglip_client.errors).

    A process that is forked while calls are on the way must make none, not even with a client
    of its own: gRPC would wait in vain there, and may crash the parent. Processes that are
    started by "spawn" or "forkserver", or forked before the first call, may.
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
            grpc.secure_channel(address, credentials, options)
            if credentials
            else grpc.insecure_channel(address, options)
            for _ in range(connections)
        ]
        methods = [channel.methods(each) for each in self._channels]
        self._methods = itertools.cycle(methods)
        self._streams = [each["EmbedStream"] for each in methods]
        self._places = threading.Semaphore(connections * channel.CALLS_OF_A_CONNECTION)
        self._served: ModelDescription | None = None
        self._closed = threading.Event()

    def embed_texts(
        self,
        texts: Iterable[str],
        *,
        normalize: bool = True,
        dtype: WireDtype = "f32",
        on_error: OnError = "raise",
        timeout_s: float | None = None,
    ) -> Embeddings:
        """Vectors of texts, float32 [n, dim], of length 1 unless `normalize` is false.

        dtype: how vectors travel ("f32", "f16", "bf16", "i8"); smaller is coarser.
        on_error: "raise" raises ItemErrors if any item failed; "return" leaves NaN
            in its row and tells why in `errors`.
        """
        plan = partial(operations.embed_texts, texts, normalize=normalize, dtype=dtype, on_error=on_error)
        return self._run(plan, timeout_s)

    def embed_images(
        self,
        images: Iterable[ImageLike],
        *,
        normalize: bool = True,
        dtype: WireDtype = "f32",
        on_error: OnError = "raise",
        timeout_s: float | None = None,
    ) -> Embeddings:
        """Vectors of images, float32 [n, dim]. As embed_texts; for what an image may
        be see siglip_client.images.to_bytes."""
        plan = partial(operations.embed_images, images, normalize=normalize, dtype=dtype, on_error=on_error)
        return self._run(plan, timeout_s)

    def embed_stream(
        self,
        items: Iterable[StreamItem],
        *,
        ordered: bool = False,
        normalize: bool = True,
        dtype: WireDtype = "f32",
        fingerprint: str | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[StreamResult]:
        """Vectors of any number of items, as they come: exactly one result for each.

        items: TextItem, ImageItem, PixelsItem or TokensItem, in any mixture. They are
            taken as fast as results are; a generator runs in a thread of its own.
        ordered: results come in the order of the items, else as they finish.
        normalize, dtype: as in embed_texts.
        fingerprint: of the model that must answer; else all come from the one that answers
            first. Another one raises ModelChanged.
        timeout_s: longest time without any result; failures of the service that pass
            sooner are ridden out, and what was not answered is sent again.

        A bad item has an `error` instead of a vector. Leaving the loop ends everything
        that is on the way. It is "batch" work: interactive calls go first.
        """
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
        return Stream(flow, patience, self._streams, self._stream_metadata).results(items)

    def classify(
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
        """How probable each label is for each image, highest first.

        labels: or a LabelSet, whose vectors the service has already; one that it has
            forgotten is created again.
        templates: sentences with one "{}" each, into which labels are put; several
            are averaged. None: the model's own.
        activation: "sigmoid" judges each label on its own; with "softmax" the
            labels compete and sum to 1.
        top_k, threshold: return only so many labels, or only those of at least this
            probability; 0 returns all.
        """
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
        return self._run(plan, timeout_s)

    def create_label_set(
        self,
        labels: Iterable[str],
        templates: Iterable[str] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> LabelSet:
        """Labels whose vectors the service keeps for `classify`, as long as they are used.

        templates: as for classify. The same labels, templates and model make the same set.
        """
        plan = partial(operations.create_label_set, labels, templates=templates)
        return self._run(plan, timeout_s)

    def score(
        self,
        images: Iterable[ImageLike],
        texts: Iterable[str],
        *,
        on_error: OnError = "raise",
        timeout_s: float | None = None,
    ) -> Scores:
        """Logits and probabilities of every image with every text, [images, texts]."""
        return self._run(partial(operations.score, images, texts, on_error=on_error), timeout_s)

    def tokenize(self, texts: Iterable[str], *, timeout_s: float | None = None) -> Tokens:
        """The token ids that texts are embedded from, and whether any were cut off."""
        return self._run(partial(operations.tokenize, texts), timeout_s)

    def get_model(self, *, timeout_s: float | None = None) -> ModelDescription:
        """The served model, its limits and its live workers, asked for anew."""
        self._served = self._send(operations.get_model(self.model), timeout_s)
        return self._served

    def call(self, method: str, request: Message, *, timeout_s: float | None = None) -> Any:
        """Sends one request of siglip.v1 as it is, and returns the reply as it came.

        method: "EmbedTexts" and so on, but for EmbedStream. For requests that the other
        methods do not make; retries and errors are theirs. Raises ValueError for another method.
        """
        channel.check_method(method)
        return self._call(method, self._seconds(timeout_s), Chunk([], request))[1]

    def close(self) -> None:
        """Ends all calls and closes the connections."""
        self._closed.set()
        for each in self._channels:
            each.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _stream_metadata(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        """A new request id, and the metadata with it."""
        request_id = channel.new_request_id()
        return request_id, channel.metadata(request_id, self._token, self._priority)

    def _seconds(self, timeout_s: float | None) -> float:
        return channel.seconds(self.timeout_s if timeout_s is None else timeout_s)

    def _run(self, plan: Callable[..., Operation[Result]], timeout_s: float | None) -> Result:
        served = self._served or self.get_model(timeout_s=timeout_s)
        try:
            return self._send(plan(served=served, model=self.model), timeout_s)
        except InvalidRequest:
            self._served = None  # its limits may have changed since they were asked for
            raise

    def _send(self, operation: Operation[Result], timeout_s: float | None) -> Result:
        call = partial(self._call_with_labels, operation, self._seconds(timeout_s))
        return operation.read(list(self._in_order(call, operation.chunks)))

    def _in_order(
        self, call: Callable[[Chunk[Any]], Answer], chunks: Iterator[Chunk[Any]]
    ) -> Iterator[Answer]:
        """The answers in the order of the chunks, a few on the way at a time."""
        first = list(itertools.islice(chunks, 2))
        if len(first) < 2:
            yield from map(call, first)
            return
        pool = ThreadPoolExecutor(self._parallel_calls, "siglip-client")
        pending: deque[Future[Answer]] = deque()
        try:
            for chunk in itertools.chain(first, chunks):
                if len(pending) == self._parallel_calls:
                    yield pending.popleft().result()
                pending.append(pool.submit(call, chunk))
            while pending:
                yield pending.popleft().result()
        finally:
            # Not waited for: closing the client ends what is still on the way.
            pool.shutdown(wait=False, cancel_futures=True)

    def _call_with_labels(self, operation: Operation[Any], timeout_s: float, chunk: Chunk[Any]) -> Answer:
        """Once more with a forgotten label set created again; then with the labels themselves.

        While a new revision is rolled out, the set may be made by one and asked of the other.
        """
        try:
            return self._call(operation.method, timeout_s, chunk)
        except NotFound as error:
            if (labels := operation.label_set) is None or error.reason != LABEL_SET_NOT_FOUND:
                raise
        _, made = self._call("CreateLabelSet", timeout_s, Chunk([], labels))
        chunk.request.label_set = made.label_set
        try:
            return self._call(operation.method, timeout_s, chunk)
        except NotFound as error:
            if error.reason != LABEL_SET_NOT_FOUND:
                raise
        return self._call(operation.method, timeout_s, operations.spelled_out(chunk, labels))

    def _call(self, method: str, timeout_s: float, chunk: Chunk[Any]) -> Answer:
        request_id = channel.new_request_id()
        deadline = time.monotonic() + timeout_s
        for retries_left in range(self._retries, -1, -1):
            try:
                with self._place(deadline, request_id) as time_left_s:
                    send = next(self._methods)[method]
                    metadata = channel.metadata(request_id, self._token, self._priority)
                    return chunk, send(chunk.request, timeout=time_left_s, metadata=metadata)
            except ValueError:  # gRPC's word for a channel that is closed
                if self._closed.is_set():
                    raise Unavailable(channel.CLOSED, request_id=request_id) from None
                raise
            except grpc.RpcError as error:
                if self._closed.is_set() and error.code() is grpc.StatusCode.CANCELLED:
                    raise Unavailable(channel.CLOSED, request_id=request_id) from None
                wait_s = retry_wait_s(error, deadline - time.monotonic()) if retries_left else None
                if wait_s is None:
                    raise to_exception(error, self.address, request_id) from error
            self._closed.wait(wait_s)
        raise AssertionError("unreachable: the last attempt returns or raises")

    @contextmanager
    def _place(self, deadline: float, request_id: str) -> Iterator[float]:
        """One of the calls that the connections may have, and the seconds that are left for it."""
        if not self._places.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise DeadlineExceeded(channel.NO_PLACE, request_id=request_id)
        try:
            yield channel.time_left_s(deadline, request_id)
        finally:
            self._places.release()
