"""From texts and images to unit vectors: tokenize or decode, then queue for the tower's workers.

What a user's bytes can break breaks here, before the queue, and only for its own item.
"""

import asyncio
import time
from collections.abc import Awaitable, Sequence

from broker import Dtype, GatewayEnd, Row
from gateway.call import Call, microseconds_since
from gateway.content_keys import ContentKeys, Kind
from gateway.deadlines import given_up_in_time
from gateway.decode_pool import DecodePool
from gateway.embedded import Embedded, with_failures
from gateway.errors import ItemFailure
from gateway.metrics import ModelMetrics
from gateway.once import Once
from gateway.row_errors import failure_of_row, log_failed_rows
from gateway.served import ServedModel
from gateway.status import failure_of
from gateway.tokens import TokenPool
from siglip_settings import Tower

ROW_KIND: dict[Tower, Kind] = {"text": "token ids", "vision": "pixels"}
# Hashing more than this keeps others waiting for longer than a hop to a thread and back takes.
INLINE_BYTES = 1 << 19


class Embedder:
    def __init__(
        self,
        model: ServedModel,
        broker: GatewayEnd,
        tokens: TokenPool,
        decoders: DecodePool,
        metrics: ModelMetrics,
        keys: ContentKeys,
        once: Once,
    ) -> None:
        self._model = model
        self._broker = broker
        self._tokens = tokens
        self._decoders = decoders
        self._metrics = metrics
        self._once = once
        self._keys = keys

    async def texts(self, texts: Sequence[str], call: Call) -> Embedded:
        return await self._counted("text", len(texts), self._texts(texts, call), call)

    async def images(self, images: Sequence[bytes], call: Call) -> Embedded:
        return await self._counted("vision", len(images), self._images(images, call), call)

    async def rows(self, tower: Tower, rows: Sequence[bytes], call: Call) -> Embedded:
        """Of what is tokenized or decoded already: each the bytes of one row."""
        return await self._counted(tower, len(rows), self._rows(tower, rows, call), call)

    def remembered(self, tower: Tower, count: int) -> None:
        """So many items have been answered without being asked for here."""
        self._metrics.items(tower, ["OK"] * count)
        self._metrics.cached(tower, "hit", count)

    async def numerics(self, tower: Tower) -> set[str]:
        """See `Once.numerics`."""
        return await self._once.numerics(tower)

    async def _texts(self, texts: Sequence[str], call: Call) -> Embedded:
        start = time.monotonic()
        with call.stage("text", "decode"):
            rows = await self._tokens.rows(texts)
        decode_us = microseconds_since(start)
        embedded = await self._rows("text", [row for row in rows if isinstance(row, bytes)], call)
        return with_failures(rows, embedded, decode_us)

    async def _rows(self, tower: Tower, rows: Sequence[bytes], call: Call) -> Embedded:
        keys = await self._keys_of(ROW_KIND[tower], rows)
        return await self._once.embed(
            tower, keys, lambda positions: self._queue(tower, [rows[i] for i in positions], call), call
        )

    async def _images(self, images: Sequence[bytes], call: Call) -> Embedded:
        """What is known by the file's bytes is not even decoded."""
        keys = await self._keys_of("image file", images)
        return await self._once.embed(
            "vision", keys, lambda positions: self._decode([images[i] for i in positions], call), call
        )

    async def _keys_of(self, kind: Kind, contents: Sequence[bytes]) -> list[bytes]:
        if sum(map(len, contents)) <= INLINE_BYTES:
            return self._keys.of_each(kind, contents)
        return await asyncio.to_thread(self._keys.of_each, kind, contents)

    async def _decode(self, images: Sequence[bytes], call: Call) -> Embedded:
        start = time.monotonic()
        with call.stage("vision", "decode"):
            rows = await self._decoders.decode_all(images, call.caller.name, call.left_s(), call.job_class)
        decode_us = microseconds_since(start)
        embedded = await self._queue("vision", [row for row in rows if isinstance(row, bytes)], call)
        return with_failures(rows, embedded, decode_us)

    async def _counted(self, tower: Tower, count: int, work: Awaitable[Embedded], call: Call) -> Embedded:
        """Every item has an outcome, also where the whole call ends without an answer."""
        try:
            embedded = await work
        except asyncio.CancelledError:
            # gRPC cancels a call at its deadline, too.
            in_time = given_up_in_time(call.deadline - call.started, call.left_s())
            outcome = "CANCELLED" if in_time else "DEADLINE_EXCEEDED"
            if not call.tried_again:
                self._metrics.items(tower, [outcome] * count)
            raise
        except Exception as error:
            if not call.tried_again:
                self._metrics.items(tower, [failure_of(error).reason] * count)
            raise
        outcomes = (item.reason if isinstance(item, ItemFailure) else "OK" for item in embedded.items)
        stages = {"decode": embedded.decode_us, "queue": embedded.queue_us, "compute": embedded.compute_us}
        self._metrics.items(tower, outcomes, **stages)
        return embedded

    async def _queue(self, tower: Tower, rows: Sequence[bytes], call: Call) -> Embedded:
        if not rows:
            return Embedded([])
        shape, dtype = self._row(tower)
        with call.stage(tower, "queue") as span:
            answer = await self._broker.embed(
                tower,
                rows,
                shape,
                dtype,
                deadline_s=call.left_s(),
                job_class=call.job_class,
                caller=call.caller.name,
                trace_context=span.context if span else "",
            )
        log_failed_rows(answer.rows, tower, call.request_id)
        results = [row if isinstance(row, Row) else failure_of_row(row) for row in answer.rows]
        return Embedded(results, 0, answer.queue_us, answer.compute_us)

    def _row(self, tower: Tower) -> tuple[tuple[int, ...], Dtype]:
        """Shape and dtype."""
        if tower == "text":
            return (self._model.text_length,), "int32"
        return (3, self._model.image_size, self._model.image_size), "uint8"
