"""Gateway -> stream: one pipeline carries whatever may be added or is to be removed.

Redis serves whoever comes first, so only what workers need for their next batches goes there; the rest waits
here, where callers take turns.
"""

import logging
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import redis.asyncio
from redis.exceptions import OutOfMemoryError

from broker.connection import AWAY
from broker.errors import BrokerError, QueueFull
from broker.held import Held, Waiting, wait_for_event
from broker.jobs import ROWS_PER_ENTRY, Tower
from broker.keys import GROUP, HEADER_FIELD, PAYLOAD_FIELD
from broker.line import Line

log = logging.getLogger(__name__)

# Bytes of one pipeline: more would delay the first entries' start.
MAX_FLUSH_BYTES = 4 * 1024 * 1024
MAX_FLUSH_ENTRIES = 256
# Work that may be in Redis: a worker's batch takes half a second at most, and it has one more at hand.
WINDOW_S = 1.0
WINDOW_WHILE_PACE_IS_UNKNOWN = 64
# A gateway's own entries in Redis, for each worker, however slow the queue or full of others' entries. More
# than autoscaling asks of a worker (entriesPerReplica): what waits behind them it does not see.
WINDOW_AT_LEAST = 12
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
        self._lines: dict[str, Line[Waiting]] = {}
        self._tower_of: dict[str, Tower] = {}
        self._removals: list[tuple[str, bytes]] = []
        # Something unforeseen goes wrong, time after time; said once.
        self._failing = False

    def depth(self, stream: str) -> int:
        """Entries that wait here or, of all gateways, in Redis."""
        here = len(self._lines.get(stream, ()))
        # What was last seen may be older than what we have sent.
        return here + max(self._held.depth[stream], self._held.count[stream] - here)

    def entries_before(self, entries: list[Waiting]) -> int:
        """How many would go before these, one call's of one stream."""
        first, line = entries[0], self._lines.get(entries[0].stream)
        if not line:
            return self.depth(first.stream)
        rows = sum(entry.rows for entry in entries)
        return self.depth(first.stream) - len(line) + line.ahead(first.caller, rows)

    def add(self, entries: Iterable[Waiting]) -> None:
        """Lines up entries for sending; those in our hands already are left alone."""
        for entry in entries:
            if not entry.sending:
                entry.sending, entry.entry_id = True, None
                self._line(entry).add(entry)
        self.wake()

    def add_again(self, entries: Iterable[Waiting]) -> None:
        """The same for entries that may have been lost."""
        for entry in entries:
            entry.resent = True
            self.add([entry])

    def withdraw(self, entries: Iterable[Waiting]) -> None:
        """Nobody waits for these any more: frees their memory in Redis, and saves the device the work."""
        for entry in entries:
            if entry.withdrawn:
                continue
            awaited = self._held.release(entry.job_id)
            if self._line(entry).remove(entry) and awaited:
                self._held.stats["withdrawn_waiting"] += 1
            entry.answer.cancel()
            entry.withdrawn = True
            if entry.entry_id is not None:
                self._held.gave_up(entry)
                self._held.depth[entry.stream] = max(0, self._held.depth[entry.stream] - 1)
                self._removals.append((entry.stream, entry.entry_id))
        self.wake()

    def wake(self) -> None:
        """Makes `run` look at what there is to do, and at the closing flag."""
        self._held.to_send.set()

    async def run(self) -> None:
        """Until closing; what is still to be removed then is removed."""
        while not self._held.closing.is_set() or self._removals:
            self._held.to_send.clear()
            batch, removals = self._next_batch(), self._removals
            if not batch and not removals:
                await self._held.to_send.wait()
                continue
            self._removals = []
            if not await self._try_to_flush(batch, removals):
                # Whether the entries arrived is unknown; the monitor sends those again that still wait.
                self._held.lost_touch()
                self._removals[:0] = removals
                if await wait_for_event(self._held.closing, RETRY_S):
                    return

    def _line(self, entry: Waiting) -> Line[Waiting]:
        self._tower_of[entry.stream] = entry.tower
        return self._lines.setdefault(entry.stream, Line(ROWS_PER_ENTRY[entry.tower]))

    def _room(self, stream: str) -> int:
        """How many entries may be sent now."""
        held, line = self._held, self._lines[stream]
        workers = max(1, len(held.workers.get(self._tower_of[stream], ())))
        own = held.count[stream] - len(line)
        most = held.pace[stream].entries_in(WINDOW_S) or WINDOW_WHILE_PACE_IS_UNKNOWN
        return max(most - held.depth[stream], WINDOW_AT_LEAST * workers - own)

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
            self.add_again(entry for entry in batch if not entry.answer.done())
        return True

    def _next_batch(self) -> list[Waiting]:
        """From each stream in turn."""
        batch: list[Waiting] = []
        size, open_streams = 0, list(self._lines)
        while open_streams and len(batch) < MAX_FLUSH_ENTRIES and size < MAX_FLUSH_BYTES:
            stream = open_streams.pop(0)
            if entry := self._take(stream):
                batch.append(entry)
                size += len(entry.payload)
                open_streams.append(stream)
        return batch

    def _take(self, stream: str) -> Waiting | None:
        """The next entry of a stream that may be sent and is still waited for."""
        while self._room(stream) > 0 and (entry := self._lines[stream].pop()):
            if not entry.answer.done():
                self._held.depth[stream] += 1
                return entry
            entry.sending = False
        return None

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
                self._held.depth[stream] = depth
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
