"""Gateway -> stream: one pipeline carries whatever waits to be added or removed."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import redis.asyncio
from redis.exceptions import OutOfMemoryError

from broker.connection import AWAY
from broker.errors import BrokerError, QueueFull
from broker.held import Held, Waiting, wait_for_event
from broker.keys import GROUP, HEADER_FIELD, PAYLOAD_FIELD

log = logging.getLogger(__name__)

# Bytes of one pipeline: more would delay the first entries' start.
MAX_FLUSH_BYTES = 4 * 1024 * 1024
MAX_FLUSH_ENTRIES = 256
OUT_OF_MEMORY_RETRY_S = 1.0
RETRY_S = 0.1


class Sender:
    """Adds entries and removes those nobody waits for any more. One task runs `run`."""

    def __init__(
        self, client: "redis.asyncio.Redis", held: Held, explain: Callable[[BaseException], BrokerError]
    ) -> None:
        self._client = client
        self._held = held
        self._explain = explain
        self._outbox: deque[Waiting] = deque()
        self._removals: list[tuple[str, bytes]] = []
        self._wake = asyncio.Event()
        # Something unforeseen goes wrong, time after time; said once.
        self._failing = False

    def add(self, entries: Iterable[Waiting]) -> None:
        """Queues entries for sending; those already on their way are left alone."""
        for entry in entries:
            if not entry.sending:
                entry.sending, entry.entry_id = True, None
                self._outbox.append(entry)
                self._held.depth[entry.stream] += 1
        self._wake.set()

    def withdraw(self, entries: Iterable[Waiting]) -> None:
        """Nobody waits for these any more: frees their memory in Redis, and saves the device the work."""
        for entry in entries:
            self._held.entries.pop(entry.job_id, None)
            entry.answer.cancel()
            entry.withdrawn = True
            if entry.entry_id is not None:
                self._removals.append((entry.stream, entry.entry_id))
        self._wake.set()

    def wake(self) -> None:
        """Makes `run` look at the closing flag."""
        self._wake.set()

    async def run(self) -> None:
        """Until closing; what is still to be removed then is removed."""
        while not self._held.closing.is_set() or self._removals:
            if not self._outbox and not self._removals:
                await self._wake.wait()
            self._wake.clear()
            batch, removals = self._next_batch(), self._removals
            self._removals = []
            if not await self._try_to_flush(batch, removals):
                # Whether the entries arrived is unknown; the monitor sends those again that still wait.
                self._held.lost_touch()
                self._removals[:0] = removals
                if await wait_for_event(self._held.closing, RETRY_S):
                    return

    async def _try_to_flush(self, batch: list[Waiting], removals: list[tuple[str, bytes]]) -> bool:
        """False when it failed; either way the entries are no longer in our hands."""
        generation = self._held.generation
        try:
            await self._flush(batch, removals)
        except AWAY:
            return False
        except Exception as error:
            # A mistake of ours ends these calls, not the task that all calls need.
            if not self._failing:
                log.exception("entries could not be sent")
            self._failing = True
            self._held.fail(batch, partial(self._explain, error))
            return False
        finally:
            for entry in batch:
                entry.sending = False
        self._failing = False
        if generation != self._held.generation:
            # Redis lost its data while these were under way: before or after, nobody knows.
            self.add(entry for entry in batch if not entry.answer.done())
        return True

    def _next_batch(self) -> list[Waiting]:
        batch: list[Waiting] = []
        size = 0
        while self._outbox and len(batch) < MAX_FLUSH_ENTRIES and size < MAX_FLUSH_BYTES:
            entry = self._outbox.popleft()
            if entry.answer.done():
                entry.sending = False
                self._held.stats["withdrawn_waiting"] += 1
                continue
            batch.append(entry)
            size += len(entry.payload)
        return batch

    async def _flush(self, batch: list[Waiting], removals: list[tuple[str, bytes]]) -> None:
        if not batch and not removals:
            return
        streams = sorted({entry.stream for entry in batch})
        pipe = self._client.pipeline(transaction=False)
        for entry in batch:
            fields: dict[Any, Any] = {HEADER_FIELD: entry.header, PAYLOAD_FIELD: entry.payload}
            pipe.xadd(entry.stream, fields, nomkstream=True)
        for stream, entry_id in removals:
            # Only the group knows whether a worker has it by now.
            pipe.xpending_range(stream, GROUP, entry_id, entry_id, 1)
            pipe.xdel(stream, entry_id)
        for stream in streams:
            pipe.xlen(stream)
        results = await pipe.execute(raise_on_error=False)
        for entry, result in zip(batch, results, strict=False):
            self._settle(entry, result)
        for pending in results[len(batch) : len(batch) + 2 * len(removals) : 2]:
            if isinstance(pending, list):
                self._held.stats["withdrawn_in_work" if pending else "withdrawn_waiting"] += 1
        for stream, depth in zip(reversed(streams), reversed(results), strict=False):
            if isinstance(depth, int):
                self._held.depth[stream] = depth + sum(e.stream == stream for e in self._outbox)
                for entry in batch:
                    if entry.stream == stream:
                        entry.ahead = depth

    def _settle(self, entry: Waiting, result: object) -> None:
        if isinstance(result, bytes):
            entry.entry_id, entry.confirmed_s = result, time.monotonic()
            if entry.withdrawn:
                self._removals.append((entry.stream, result))
        elif result is None:
            self._held.lost_data()
        elif isinstance(result, OutOfMemoryError):
            full = partial(
                QueueFull, "the queue server's memory is full", OUT_OF_MEMORY_RETRY_S, "server_memory"
            )
            self._held.fail([entry], full)
        elif isinstance(result, AWAY):
            self._held.lost_touch()
        elif isinstance(result, BaseException):
            self._held.fail([entry], partial(self._explain, result))
