"""From texts and images to unit vectors: tokenize or decode, then queue for the tower's workers.

What a user's bytes can break breaks here, before the queue, and only for its own item.
"""

import asyncio
import time
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from broker import Dtype, GatewayEnd, Row
from gateway.call import Call, microseconds_since
from gateway.deadlines import given_up_in_time
from gateway.decode_pool import DecodePool
from gateway.errors import ItemFailure
from gateway.metrics import Metrics
from gateway.row_errors import failure_of_row, log_failed_rows
from gateway.served import ServedModel
from gateway.status import failure_of
from gateway.tokens import TokenPool
from siglip_settings import Tower

Item: TypeAlias = Row | ItemFailure


@dataclass(frozen=True, slots=True)
class Embedded:
    """One item for each text or image, in their order, and where the time went (microseconds)."""

    items: list[Item]
    decode_us: int
    queue_us: int = 0
    compute_us: int = 0

    def rows(self) -> list[Row]:
        return [item for item in self.items if isinstance(item, Row)]

    def failures(self) -> Iterable[tuple[int, ItemFailure]]:
        return ((i, item) for i, item in enumerate(self.items) if isinstance(item, ItemFailure))


class Embedder:
    def __init__(
        self,
        model: ServedModel,
        broker: GatewayEnd,
        tokens: TokenPool,
        decoders: DecodePool,
        metrics: Metrics,
    ) -> None:
        self._model = model
        self._broker = broker
        self._tokens = tokens
        self._decoders = decoders
        self._metrics = metrics

    async def texts(self, texts: Sequence[str], call: Call) -> Embedded:
        return await self._counted("text", len(texts), self._texts(texts, call), call)

    async def images(self, images: Sequence[bytes], call: Call) -> Embedded:
        return await self._counted("vision", len(images), self._images(images, call), call)

    async def rows(self, tower: Tower, rows: Sequence[bytes], call: Call) -> Embedded:
        """Of what is tokenized or decoded already: each the bytes of one row."""
        shape, dtype = self._row(tower)
        return await self._counted(tower, len(rows), self._run(tower, rows, shape, dtype, 0, call), call)

    def _row(self, tower: Tower) -> tuple[tuple[int, ...], Dtype]:
        """Shape and dtype."""
        if tower == "text":
            return (self._model.text_length,), "int32"
        return (3, self._model.image_size, self._model.image_size), "uint8"

    async def _texts(self, texts: Sequence[str], call: Call) -> Embedded:
        start = time.monotonic()
        with call.stage("text", "decode"):
            rows = await self._tokens.rows(texts)
        decode_us = microseconds_since(start)
        return await self._run("text", rows, (self._model.text_length,), "int32", decode_us, call)

    async def _images(self, images: Sequence[bytes], call: Call) -> Embedded:
        start = time.monotonic()
        with call.stage("vision", "decode"):
            rows = await self._decoders.decode_all(images, call.caller.name, call.left_s(), call.job_class)
        decode_us = microseconds_since(start)
        shape = (3, self._model.image_size, self._model.image_size)
        return await self._run("vision", rows, shape, "uint8", decode_us, call)

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

    async def _run(
        self,
        tower: Tower,
        rows: Sequence[bytes | ItemFailure],
        row_shape: tuple[int, ...],
        dtype: Literal["int32", "uint8"],
        decode_us: int,
        call: Call,
    ) -> Embedded:
        good = [row for row in rows if isinstance(row, bytes)]
        # Equal texts are computed once. Images are not compared: hashing pixels costs more than it saves.
        unique = list(dict.fromkeys(good)) if tower == "text" else good
        if not unique:
            return Embedded(list(_failures(rows)), decode_us)
        with call.stage(tower, "queue") as span:
            answer = await self._broker.embed(
                tower,
                unique,
                row_shape,
                dtype,
                deadline_s=call.left_s(),
                job_class=call.job_class,
                caller=call.caller.name,
                trace_context=span.context if span else "",
            )
        call.at[tower] = "reply"
        log_failed_rows(answer.rows, tower, call.request_id)
        results = [row if isinstance(row, Row) else failure_of_row(row) for row in answer.rows]
        if len(unique) < len(good):
            by_row = dict(zip(unique, results, strict=True))
            results = [by_row[row] for row in good]
        filled = iter(results)
        items = [next(filled) if isinstance(row, bytes) else row for row in rows]
        return Embedded(items, decode_us, answer.queue_us, answer.compute_us)


def _failures(rows: Sequence[bytes | ItemFailure]) -> Iterable[ItemFailure]:
    return (row for row in rows if isinstance(row, ItemFailure))
