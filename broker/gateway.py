"""The gateway's end of the queue: rows in, answers out."""

import asyncio
import logging
import math
import os
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from redis.exceptions import RedisError

from broker import wire
from broker.clock import ServerClock
from broker.connection import async_client, unavailable
from broker.errors import (
    BrokerError,
    BrokerUnavailable,
    DeadlineExceeded,
    FingerprintMismatch,
    NoWorkers,
    QueueFull,
    WouldBeLate,
)
from broker.held import Held, Waiting
from broker.jobs import (
    DTYPE_OF,
    ITEM_BYTES,
    JOB_CLASSES,
    ROWS_PER_ENTRY,
    Answer,
    Dtype,
    JobClass,
    RedisUrls,
    Row,
    RowError,
    StreamState,
    Tower,
    WorkerInfo,
)
from broker.keys import Keys
from broker.monitor import Monitor
from broker.permissions import require_commands
from broker.reply_reader import ReplyReader
from broker.sender import Sender

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 5.0
# Of its time, a call may spend so much in the queue by prediction: those admitted for the last moment would
# be computed and yet come late, half of them.
PATIENCE = 0.75


@dataclass(frozen=True, kw_only=True)
class GatewayLimits:
    """Bounds and rhythms of a gateway's end; the defaults suit production, tests shorten them."""

    # Entries waiting in one stream, over all gateways; above it calls are refused.
    queue_max_entries: int = 512
    # Share of the server's memory limit that one stream of entries may fill.
    queue_memory_share: float = 0.6
    # Payload bytes of this gateway's unanswered entries.
    max_in_flight_bytes: int = 512 * 1024 * 1024
    no_worker_timeout_s: float = 10.0
    check_every_s: float = 0.25
    # How long the reply stream outlives a dead gateway.
    reply_ttl_s: float = 60.0


class GatewayBroker:
    """One per gateway process, on its event loop. Every `embed` ends with an answer or a BrokerError."""

    def __init__(
        self,
        settings: RedisUrls,
        *,
        tag: str,
        fingerprint: str,
        towers: tuple[Tower, ...] = ("text", "vision"),
        limits: GatewayLimits | None = None,
    ) -> None:
        self.gateway_id = f"gw-{secrets.token_hex(8)}"
        self._settings = settings
        self._fingerprint = fingerprint
        self._limits = limits or GatewayLimits()
        self._keys = Keys(tag)
        self._towers = towers
        self._held = Held()
        self._clock = ServerClock()
        self._max_memory_bytes = 0
        self._in_flight_bytes = 0
        self._clients = sending, reading, watching = [async_client(settings) for _ in range(3)]
        self._sender = Sender(sending, self._held, self._explain)
        self._reader = ReplyReader(reading, self._keys.replies(self.gateway_id), self._held)
        self._monitor = Monitor(
            watching,
            self._keys,
            self.gateway_id,
            self._held,
            self._clock,
            towers=towers,
            check_every_s=self._limits.check_every_s,
            reply_ttl_s=self._limits.reply_ttl_s,
            no_worker_timeout_s=self._limits.no_worker_timeout_s,
            explain=self._explain,
        )
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def connect(
        cls,
        settings: RedisUrls,
        *,
        tag: str,
        fingerprint: str,
        towers: tuple[Tower, ...] = ("text", "vision"),
        limits: GatewayLimits | None = None,
    ) -> "GatewayBroker":
        """A connected gateway end. BrokerUnavailable or UnsuitableServer when the server is not usable."""
        broker = cls(settings, tag=tag, fingerprint=fingerprint, towers=towers, limits=limits)
        try:
            await asyncio.to_thread(require_commands, settings)
            broker._max_memory_bytes = await broker._monitor.start()
        except BaseException as error:
            await broker._disconnect()
            if isinstance(error, (RedisError, OSError)):
                raise broker._explain(error) from error
            raise
        broker._tasks = [
            asyncio.create_task(broker._sender.run(), name="broker-sender"),
            asyncio.create_task(broker._reader.run(), name="broker-replies"),
            asyncio.create_task(broker._monitor.run(broker._sender, broker._reader), name="broker-monitor"),
        ]
        return broker

    async def embed(
        self,
        tower: Tower,
        rows: Sequence[bytes],
        row_shape: tuple[int, ...],
        dtype: Dtype,
        *,
        deadline_s: float,
        job_class: JobClass = "interactive",
    ) -> Answer:
        """Vectors of `rows`, each the C-ordered little-endian bytes of `row_shape` and `dtype`.

        `deadline_s` is the time left. Raises QueueFull, NoWorkers, DeadlineExceeded, BrokerUnavailable or
        FingerprintMismatch; a failure of single rows is in the answer. Cancelled, the work is withdrawn.
        """
        self._check_rows(tower, rows, row_shape, dtype)
        entries = self._split(tower, rows, row_shape, deadline_s, job_class)
        self._admit(tower, entries, deadline_s)
        self._in_flight_bytes += (size := sum(len(entry.payload) for entry in entries))
        self._held.entries.update((entry.job_id, entry) for entry in entries)
        self._sender.add(entries)
        try:
            async with asyncio.timeout(deadline_s):
                await asyncio.gather(*(entry.answer for entry in entries))
        except TimeoutError:
            self._held.stats["deadlines"] += 1
            raise DeadlineExceeded(f"{tower}: {len(rows)} rows had no answer in {deadline_s:.3f} s") from None
        finally:
            self._in_flight_bytes -= size
            self._sender.withdraw([entry for entry in entries if entry.job_id in self._held.entries])
        return _join(entries)

    async def workers(self, tower: Tower) -> list[WorkerInfo]:
        """Live workers as of the last check, at most a moment ago; empty while Redis is away."""
        return [] if self._held.outage else list(self._held.workers.get(tower, ()))

    def live_workers(self) -> dict[Tower, int]:
        """How many workers of each served tower were alive at the last check."""
        return {
            tower: 0 if self._held.outage else len(self._held.workers.get(tower, ()))
            for tower in self._towers
        }

    def answered(self, tower: Tower) -> int:
        """Entries of this gateway that workers of the tower have answered since the start."""
        return self._held.answered[tower]

    async def depth(self, tower: Tower) -> int:
        """Entries waiting or being computed, over all gateways, as last seen."""
        return sum(self._held.depth[stream] for stream in self._keys.all_requests(tower))

    def streams(self) -> list[StreamState]:
        """All streams of the served towers, as last seen."""
        held, now_ms = self._held, self._clock.now_ms()
        states = []
        for tower in self._towers:
            for job_class in JOB_CLASSES:
                stream = self._keys.requests(tower, job_class)
                entries, oldest_ms = held.depth[stream], held.oldest_ms.get(stream)
                age_s = None if oldest_ms is None else max(0.0, now_ms - oldest_ms) / 1000
                states.append(StreamState(tower, job_class, entries, age_s if entries else 0.0))
        return states

    @property
    def outage(self) -> BrokerUnavailable | None:
        """Why Redis cannot be used right now; None when it can."""
        return None if self._held.outage is None else BrokerUnavailable(self._held.outage)

    @property
    def stats(self) -> Counter[str]:
        """Counters since the start: duplicates, deadlines, hopeless, losses, readded, unreadable_replies."""
        return self._held.stats.copy()

    async def close(self) -> None:
        """Ends all waiting calls with BrokerUnavailable and leaves nothing of them in Redis."""
        held = self._held
        left = list(held.entries.values())
        held.fail(left, lambda: BrokerUnavailable("this gateway is closing"))
        self._sender.withdraw(left)
        held.closing.set()
        held.alarm.set()
        self._sender.wake()
        last = async_client(self._settings)
        try:
            # Wakes the reader out of its blocking read.
            await last.xadd(self._keys.replies(self.gateway_id), {b"": b""}, nomkstream=True)
            await self._end_tasks()
            await last.delete(self._keys.replies(self.gateway_id))
        except (RedisError, OSError) as error:
            log.warning("the reply stream stays until it expires: %s", self._explain(error))
            await self._end_tasks()
        await last.aclose()
        await self._disconnect()

    async def _end_tasks(self) -> None:
        """Tasks end by the closing flag; cancelling a Redis call may be swallowed."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=CLOSE_TIMEOUT_S)
            for task in late:
                task.cancel()

    async def _disconnect(self) -> None:
        for client in self._clients:
            await client.aclose()

    def _explain(self, error: BaseException) -> BrokerError:
        return error if isinstance(error, BrokerError) else unavailable(self._settings, error)

    def _check_rows(
        self, tower: Tower, rows: Sequence[bytes], row_shape: tuple[int, ...], dtype: Dtype
    ) -> None:
        if dtype != DTYPE_OF[tower]:
            raise ValueError(f"{tower} takes {DTYPE_OF[tower]}, not {dtype}")
        expected = math.prod(row_shape) * ITEM_BYTES[dtype]
        for index, row in enumerate(rows):
            if len(row) != expected:
                raise ValueError(f"rows[{index}] has {len(row)} bytes; {row_shape} {dtype} has {expected}")

    def _split(
        self,
        tower: Tower,
        rows: Sequence[bytes],
        row_shape: tuple[int, ...],
        deadline_s: float,
        job_class: JobClass,
    ) -> list[Waiting]:
        step = ROWS_PER_ENTRY[tower]
        deadline_ms = int(self._clock.now_ms() + deadline_s * 1000)
        stream = self._keys.requests(tower, job_class)
        chunks = [rows[i : i + step] for i in range(0, len(rows), step)]
        return [self._entry(tower, stream, chunk, row_shape, deadline_ms) for chunk in chunks]

    def _entry(
        self, tower: Tower, stream: str, rows: Sequence[bytes], row_shape: tuple[int, ...], deadline_ms: int
    ) -> Waiting:
        job_id = os.urandom(16)
        header = wire.pack_header(
            job_id=job_id,
            gateway_id=self.gateway_id,
            fingerprint=self._fingerprint,
            dtype=DTYPE_OF[tower],
            shape=(len(rows), *row_shape),
            deadline_ms=max(0, deadline_ms),
        )
        answer = asyncio.get_running_loop().create_future()
        return Waiting(job_id, tower, stream, header, b"".join(rows), len(rows), answer)

    def _admit(self, tower: Tower, entries: list[Waiting], deadline_s: float) -> None:
        """Refuses at once what could only fail later."""
        if self._held.closing.is_set():
            raise BrokerUnavailable("this gateway is closing")
        if (outage := self.outage) is not None:
            raise outage
        if deadline_s <= 0:
            raise DeadlineExceeded(f"no time is left: {deadline_s:.3f} s")
        if (absent_s := self._monitor.absent_s(tower)) is not None:
            raise NoWorkers(tower, absent_s)
        if entries:
            self._admit_size(entries)
            self._admit_wait(entries, deadline_s)

    def _admit_wait(self, entries: list[Waiting], deadline_s: float) -> None:
        """What would be answered too late only keeps others waiting."""
        stream = entries[0].stream
        wait_s = self._held.pace[stream].wait_s(self._held.depth[stream] + len(entries))
        if wait_s > PATIENCE * deadline_s:
            self._held.stats["hopeless"] += 1
            message = f"about {wait_s:.1f} s of work waits and the deadline is in {deadline_s:.1f} s"
            raise WouldBeLate(message, min(5.0, max(0.1, wait_s - PATIENCE * deadline_s)))

    def _admit_size(self, entries: list[Waiting]) -> None:
        stream, size = entries[0].stream, sum(len(entry.payload) for entry in entries)
        depth, limit = self._held.depth[stream], self._limits.queue_max_entries
        if self._max_memory_bytes:
            room = int(self._limits.queue_memory_share * self._max_memory_bytes)
            limit = min(limit, room // max(1, size // len(entries)))
        if depth and depth + len(entries) > limit:
            message = f"the queue holds {depth} entries; {len(entries)} more pass the limit of {limit}"
            raise QueueFull(message, self._retry_after_s(stream))
        in_flight, most = self._in_flight_bytes, self._limits.max_in_flight_bytes
        if in_flight and in_flight + size > most:
            message = f"{in_flight} bytes are in flight; {size} more pass the limit of {most}"
            raise QueueFull(message, self._retry_after_s(stream))

    def _retry_after_s(self, stream: str) -> float:
        """Half of what entries waited lately: by then the queue has room."""
        return min(5.0, max(0.1, self._held.last_queue_us[stream] / 2e6))


def _join(entries: list[Waiting]) -> Answer:
    rows: list[Row | RowError] = []
    dim = queue_us = compute_us = 0
    for entry in entries:
        reply = entry.answer.result()
        if reply.WhichOneof("outcome") == "error":
            _raise_for_call(reply.error.reason, reply.error.message)
        try:
            rows += wire.rows_of(reply, entry.rows)
        except ValueError as error:
            rows += [RowError("INVALID_REPLY", str(error), retryable=True)] * entry.rows
        dim = max(dim, reply.rows.dim)
        queue_us = max(queue_us, reply.queue_us)
        compute_us = max(compute_us, reply.compute_us)
    return Answer(rows, dim, queue_us, compute_us)


def _raise_for_call(reason: str, message: str) -> None:
    """Reasons that concern the whole call; others stay with their rows."""
    if reason == "FINGERPRINT_MISMATCH":
        raise FingerprintMismatch(message)
    if reason == "DEADLINE_EXCEEDED":
        raise DeadlineExceeded(message)
