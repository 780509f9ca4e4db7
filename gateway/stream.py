"""One stream from its first message to its end: reads while there is room, answers as groups finish."""

import asyncio
import random
from collections.abc import Sequence

from siglip.v1 import embedding_pb2

from gateway import checks, vectors
from gateway.call import Call
from gateway.embedded import Item as Outcome
from gateway.errors import InvalidRequest, ItemFailure, TimeIsUp, Violation
from gateway.models import Models
from gateway.parts import Parts
from gateway.stream_groups import Group, Groups
from gateway.stream_items import TOWER_OF, Item, ItemReader, duplicate
from gateway.stream_outbox import Outbox, Result
from gateway.stream_window import Window
from gateway.wire import Wire

HEARTBEAT_S = 5.0
# Of a connection's age: a stream that begins as its connection's time ends has as much again to end in.
AGE_SHARE = 0.5

Request = embedding_pb2.EmbedStreamRequest
Response = embedding_pb2.EmbedStreamResponse
StreamWire = Wire[Request, Response]


async def embed_stream(models: Models, wire: StreamWire, call: Call) -> None:
    """Raises what ends the whole stream: InvalidRequest, UnknownModel, Overloaded, Stopping, TimeIsUp."""
    stream = Stream(models, wire, call)
    with models.first.streams.one(call.caller.name, stream.leave):
        await stream.run()


class Stream:
    def __init__(self, models: Models, wire: StreamWire, call: Call) -> None:
        self._models, self._wire, self._call = models, wire, call
        settings = self._settings = models.first.settings
        self._window = Window(settings.stream_max_items, settings.stream_max_bytes)
        # Ids to the sequence of whose they are.
        self._unanswered: dict[int, int] = {}
        self._outbox = Outbox(ordered=False)
        self._options = embedding_pb2.EmbeddingOptions()
        self._wake = asyncio.Event()
        self._leaving = False
        self._failure: Exception | None = None

    def leave(self) -> None:
        """Reads nothing more; what is read is answered."""
        self._leaving = True
        self._wake.set()

    async def run(self) -> None:
        first = await self._first()
        timer = asyncio.get_running_loop().call_later(self._age_s(), self.leave)
        await self._wire.write(Response(opened=self._opened()))
        reading = asyncio.create_task(self._read(first))
        reading.add_done_callback(lambda _: self._wake.set())
        try:
            await self._write(reading)
        finally:
            timer.cancel()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await self._groups.cancel()

    async def _first(self) -> Request:
        longest_s = self._settings.max_deadline_s
        try:
            async with asyncio.timeout(longest_s):
                request = await self._wire.read()
        except TimeoutError:
            raise TimeIsUp(longest_s) from None
        if request is None or not request.HasField("options"):
            raise _invalid("options", "FIELD_EMPTY", "the first message of a stream must have them")
        options = request.options
        self._serve(self._models.accept(self._call, options.model))
        checks.embed_stream(options)
        self._options, self._outbox = options.embedding, Outbox(options.ordered)
        return request

    def _serve(self, parts: Parts) -> None:
        """Of the model that the first message names."""
        self._parts = parts
        self._items = ItemReader(parts.model, self._settings.served_towers)
        self._groups = Groups(parts, self._call, self._answered, self._break)

    def _age_s(self) -> float:
        """Streams that began together end one after the other."""
        return self._settings.max_connection_age_s * AGE_SHARE * random.uniform(0.8, 1.0)

    def _opened(self) -> embedding_pb2.StreamOpened:
        settings, model = self._settings, self._parts.model
        return embedding_pb2.StreamOpened(
            model=model.info(),
            max_unanswered_items=self._window.max_items,
            max_unanswered_bytes=self._window.max_bytes,
            heartbeat_interval_ms=round(HEARTBEAT_S * 1000),
            max_message_bytes=settings.max_message_bytes,
            max_text_bytes=settings.max_text_bytes,
            max_image_bytes=settings.max_image_bytes,
            text_length=model.text_length,
            image_size=model.image_size,
        )

    async def _read(self, request: Request | None) -> None:
        while request is not None:
            self._accept(request.items)
            del request
            await self._window.room()
            request = await self._wire.read()
            if request is not None and request.HasField("options"):
                raise _invalid("options", "FIELD_NOT_ALLOWED", "only the first message of a stream has them")

    def _accept(self, items: Sequence[embedding_pb2.EmbedStreamItem]) -> None:
        checks.stream_items(len(items), self._window.max_items)
        refused: list[Result] = []
        for position, given in enumerate(items):
            kind, content, size = self._items.read(given)
            item = Item(self._call.items, given.id, position, size)
            self._call.items += 1
            self._window.hold(1, size)
            if self._unanswered.setdefault(item.id, item.sequence) != item.sequence:
                content = duplicate(item.id)
            if isinstance(content, ItemFailure):
                self._parts.metrics.items(TOWER_OF[kind] if kind else "none", [content.reason])
                refused.append((item, _failed(item, content)))
            elif kind:
                self._groups.add(kind, item, content)
        self._groups.flush()
        self._put(refused)

    def _put(self, results: list[Result]) -> None:
        self._outbox.put(results)
        if self._outbox:
            self._wake.set()

    def _answered(self, group: Group, outcomes: Sequence[Outcome]) -> None:
        rows = [outcome for outcome in outcomes if not isinstance(outcome, ItemFailure)]
        encoded = iter(vectors.encode(rows, self._options.dtype, _normalize(self._options)))
        self._put(
            [
                (item, _failed(item, outcome))
                if isinstance(outcome, ItemFailure)
                else (item, embedding_pb2.EmbedStreamResult(id=item.id, embedding=next(encoded)))
                for item, outcome in zip(group.items, outcomes, strict=True)
            ]
        )

    def _break(self, error: Exception) -> None:
        self._failure = error
        self._wake.set()

    async def _write(self, reading: "asyncio.Task[None]") -> None:
        """Until all that was read is answered, or reading has failed."""
        told = False
        while self._window.items or not reading.done():
            if self._failure:
                raise self._failure
            if self._leaving and not told:
                told = True
                reading.cancel()
                await self._wire.write(Response(draining=True))
            if reading.done():
                if not reading.cancelled():
                    reading.result()
                self._groups.flush(everything=True)
            if chunk := self._outbox.take():
                await self._send(chunk)
            else:
                await self._something()
        if not reading.cancelled():
            reading.result()

    async def _send(self, chunk: list[Result]) -> None:
        await self._wire.write(Response(results=[result for _, result in chunk]))
        # Only now: who does not read what is answered is sent nothing more, and cannot send more either.
        for item, _ in chunk:
            if self._unanswered.get(item.id) == item.sequence:
                del self._unanswered[item.id]
        self._window.hold(-len(chunk), -sum(item.size for item, _ in chunk))

    async def _something(self) -> None:
        """Waits for something to do; where nothing happens, the other end is told that we live."""
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                await self._wake.wait()
        except TimeoutError:
            await self._wire.write(Response())
        self._wake.clear()


def _failed(item: Item, failure: ItemFailure) -> embedding_pb2.EmbedStreamResult:
    return embedding_pb2.EmbedStreamResult(id=item.id, error=failure.to_proto(item.position, "items"))


def _normalize(options: embedding_pb2.EmbeddingOptions) -> bool:
    return options.normalize if options.HasField("normalize") else True


def _invalid(field: str, reason: str, message: str) -> InvalidRequest:
    return InvalidRequest([Violation(field, reason, message)])
