"""The gateway's end of the queue: rows in, answers out."""

import asyncio
import logging
import math
import os
import secrets
from collections import Counter
from collections.abc import Sequence

from redis.exceptions import RedisError

from broker import wire
from broker.clock import ServerClock
from broker.connection import async_client, check_files, unavailable
from broker.errors import (
    BrokerError,
    BrokerUnavailable,
    DeadlineExceeded,
    FingerprintMismatch,
    NoWorkers,
)
from broker.finding import place_of
from broker.held import Held, Waiting
from broker.jobs import (
    DTYPE_OF,
    ITEM_BYTES,
    JOB_CLASSES,
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
from broker.limits import GatewayLimits
from broker.monitor import Monitor
from broker.reply_reader import ReplyReader
from broker.room import Room
from broker.sender import Sender

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 5.0


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
        shard: int = 0,
    ) -> None:
        self.gateway_id = f"gw-{secrets.token_hex(8)}"
        check_files(settings)
        self._settings = settings
        self._fingerprint = fingerprint
        self._limits = limits or GatewayLimits()
        self._keys = Keys(tag, shard)
        self._place = place_of(settings, self._keys.requests("text", "interactive"))
        self._towers = towers
        self._held = Held()
        self._clock = ServerClock()
        self._clients = sending, reading, watching = [async_client(settings, self._place) for _ in range(3)]
        self._sender = Sender(sending, self._held, self._explain)
        self._room = Room(self._held, self._sender, self._limits)
        self._reader = ReplyReader(reading, self._keys.replies(self.gateway_id), self._held)
        self._monitor = Monitor(
            watching,
            self._keys,
            self.gateway_id,
            self._held,
            self._clock,
            self._place,
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
        shard: int = 0,
    ) -> "GatewayBroker":
        """A connected gateway end. BrokerUnavailable or UnsuitableServer when the server is not usable."""
        broker = cls(settings, tag=tag, fingerprint=fingerprint, towers=towers, limits=limits, shard=shard)
        await broker.start()
        return broker

    async def start(self) -> None:
        """Connects. Raises as `connect`; `start_later` may follow then."""
        try:
            await self._monitor.start()
        except BaseException as error:
            await self._disconnect()
            if isinstance(error, (RedisError, OSError)):
                raise self._explain(error) from error
            raise
        self._run()

    def start_later(self, outage: BrokerUnavailable) -> None:
        """Tries again and again what `start` could not; until then there is this outage."""
        self._held.outage = str(outage)
        self._run()

    async def embed(
        self,
        tower: Tower,
        rows: Sequence[bytes],
        row_shape: tuple[int, ...],
        dtype: Dtype,
        *,
        deadline_s: float,
        job_class: JobClass = "interactive",
        caller: str = "",
        trace_context: str = "",
    ) -> Answer:
        """Vectors of `rows`, each the C-ordered little-endian bytes of `row_shape` and `dtype`.

        `deadline_s` is the time left; callers take turns; workers get `trace_context` as it is. Raises
        QueueFull, NoWorkers, DeadlineExceeded, BrokerUnavailable or FingerprintMismatch; a failure of single
        rows is in the answer. Cancelled, the work is withdrawn.
        """
        self._check_rows(tower, rows, row_shape, dtype)
        entries = self._split(tower, rows, row_shape, deadline_s, job_class, caller, trace_context)
        self._admit(tower, deadline_s)
        with self._room.hold(entries, deadline_s):
            self._held.hold(entries)
            self._sender.add(entries)
            try:
                async with asyncio.timeout(deadline_s):
                    await asyncio.gather(*(entry.answer for entry in entries))
            except TimeoutError:
                self._held.stats["deadlines"] += 1
                raise DeadlineExceeded(
                    f"{tower}: {len(rows)} rows had no answer in {deadline_s:.3f} s"
                ) from None
            finally:
                self._sender.withdraw([e for e in entries if e.resent or e.job_id in self._held.entries])
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
        """Entries waiting here, or in Redis of all gateways, or being computed, as last seen."""
        return sum(self._sender.depth(stream) for stream in self._keys.all_requests(tower))

    def streams(self) -> list[StreamState]:
        """All streams of the served towers, as last seen."""
        states = []
        for tower in self._towers:
            for job_class in JOB_CLASSES:
                stream = self._keys.requests(tower, job_class)
                entries, oldest_s = self._sender.depth(stream), self._held.oldest_s(stream)
                states.append(StreamState(tower, job_class, entries, oldest_s))
        return states

    @property
    def outage(self) -> BrokerUnavailable | None:
        """Why Redis cannot be used right now; None when it can."""
        return None if self._held.outage is None else BrokerUnavailable(self._held.outage)

    @property
    def stats(self) -> Counter[str]:
        """Counters since the start: deadlines, duplicates, hopeless, losses, readded, unreadable_replies,
        withdrawn_waiting, withdrawn_in_work."""
        return self._held.stats.copy()

    def give_up(self, why: str) -> None:
        """Ends all waiting calls with BrokerUnavailable. What was lost sight of expires in Redis."""
        left = list(self._held.entries.values())
        self._held.fail(left, lambda: BrokerUnavailable(why))
        self._sender.withdraw(left)

    async def close(self) -> None:
        """Ends all waiting calls with BrokerUnavailable and leaves nothing of them in Redis."""
        held = self._held
        self.give_up("this gateway is closing")
        held.closing.set()
        held.alarm.set()
        self._sender.wake()
        last = async_client(self._settings, self._place)
        self._clients.append(last)
        try:
            # Wakes the reader out of its blocking read.
            await last.xadd(self._keys.replies(self.gateway_id), {b"": b""}, nomkstream=True)
            await self._end_tasks()
            await last.delete(self._keys.replies(self.gateway_id))
        except (RedisError, OSError) as error:
            log.warning("the reply stream stays until it expires: %s", self._explain(error))
            await self._end_tasks()
        await self._disconnect()

    def _run(self) -> None:
        self._tasks = [
            asyncio.create_task(self._sender.run(), name="broker-sender"),
            asyncio.create_task(self._reader.run(), name="broker-replies"),
            asyncio.create_task(self._monitor.run(self._sender, self._reader), name="broker-monitor"),
        ]

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
        caller: str,
        trace_context: str,
    ) -> list[Waiting]:
        step = self._held.rows_per_entry(tower)
        deadline_ms = int(self._clock.now_ms() + deadline_s * 1000)
        stream = self._keys.requests(tower, job_class)
        chunks = [rows[i : i + step] for i in range(0, len(rows), step)]
        return [
            self._entry(tower, stream, chunk, row_shape, deadline_ms, caller, trace_context)
            for chunk in chunks
        ]

    def _entry(
        self,
        tower: Tower,
        stream: str,
        rows: Sequence[bytes],
        row_shape: tuple[int, ...],
        deadline_ms: int,
        caller: str,
        trace_context: str,
    ) -> Waiting:
        job_id = os.urandom(16)
        header = wire.pack_header(
            job_id=job_id,
            gateway_id=self.gateway_id,
            fingerprint=self._fingerprint,
            dtype=DTYPE_OF[tower],
            shape=(len(rows), *row_shape),
            deadline_ms=max(0, deadline_ms),
            trace_context=trace_context,
        )
        answer = asyncio.get_running_loop().create_future()
        return Waiting(job_id, tower, stream, caller, header, b"".join(rows), len(rows), answer)

    def _admit(self, tower: Tower, deadline_s: float) -> None:
        """Refuses at once what could only fail later."""
        if self._held.closing.is_set():
            raise BrokerUnavailable("this gateway is closing")
        if (outage := self.outage) is not None:
            raise outage
        if deadline_s <= 0:
            raise DeadlineExceeded(f"no time is left: {deadline_s:.3f} s")
        if (absent_s := self._monitor.absent_s(tower)) is not None:
            raise NoWorkers(tower, absent_s)


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
