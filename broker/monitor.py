"""Watches Redis and the workers for one gateway: loss of data, absence of workers, depth, clock."""

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import redis.asyncio
from redis.exceptions import ConnectionError, NoPermissionError, RedisError

from broker import wire
from broker.clock import ServerClock
from broker.connection import check_server
from broker.errors import BrokerError, NoWorkers
from broker.held import Held, Waiting, wait_for_event
from broker.jobs import Tower, WorkerInfo
from broker.keys import GROUP, Keys, worker_name
from broker.permissions import require_async
from broker.places import Place
from broker.reply_reader import ReplyReader
from broker.sender import Sender

log = logging.getLogger(__name__)

RETRY_S = 0.1
MISSING_AFTER_S = 1.0


class Monitor:
    """One task runs `run`; `probe` is also the first thing done on a new gateway."""

    def __init__(
        self,
        client: "redis.asyncio.Redis",
        keys: Keys,
        gateway_id: str,
        held: Held,
        clock: ServerClock,
        place: Place | None,
        *,
        towers: tuple[Tower, ...],
        check_every_s: float,
        reply_ttl_s: float,
        no_worker_timeout_s: float,
        explain: Callable[[BaseException], BrokerError],
    ) -> None:
        self._client = client
        self._keys = keys
        self._replies = keys.replies(gateway_id)
        self._held = held
        self._clock = clock
        self._towers = towers
        self._streams = [stream for tower in towers for stream in keys.all_requests(tower)]
        self._check_every_s = check_every_s
        self._reply_ttl_ms = int(reply_ttl_s * 1000)
        self._no_worker_timeout_s = no_worker_timeout_s
        self._explain = explain
        self._place = place
        # What tells one server from another.
        self._server: tuple[object, int] = (None, 0)
        self._last_alive_s = dict.fromkeys(towers, time.monotonic())
        self._outage_logged = False
        self._started = False
        # Data was lost, and not all of it has been sent again.
        self._lost = False

    async def start(self) -> None:
        """Checks the server, makes the streams. `run` does it where this was not done, or failed."""
        info = await self._check_server()
        self._server = (info.get("run_id"), self._moves)
        await self._require_permissions()
        await self._make_streams()
        for _ in range(3):
            await self._probe()
        self._started = True

    async def run(self, sender: Sender, reader: ReplyReader) -> None:
        """Until closing."""
        while not self._held.closing.is_set():
            await wait_for_event(self._held.alarm, self._check_every_s)
            self._held.alarm.clear()
            try:
                await self._check_again_if_cut_off(sender, reader)
            except Exception as error:
                # Whatever it was, held calls wait for this task: it goes on.
                self._note_outage(error)
                await wait_for_event(self._held.closing, RETRY_S)

    async def _check_again_if_cut_off(self, sender: Sender, reader: ReplyReader) -> None:
        """A connection that ends is no proof that the server did."""
        try:
            await self._check(sender, reader)
        except ConnectionError:
            self._held.disturbed = True
            await self._check(sender, reader)

    async def _check(self, sender: Sender, reader: ReplyReader) -> None:
        held = self._held
        if not self._started:
            await self.start()
        self._lost, held.stream_missing = self._lost or held.stream_missing, False
        disturbed, held.disturbed = held.disturbed, False
        if not await self._probe():
            self._lost = True
        if self._lost or disturbed or held.outage is not None:
            await self._recover(sender, reader)
        else:
            self._send_again(self._missing(), sender)
        await self._look_for_workers()
        self._note_return()

    def _note_return(self) -> None:
        if self._outage_logged:
            log.warning("the queue is back")
        self._outage_logged = False
        self._held.outage = None

    def _note_outage(self, error: Exception) -> None:
        outage = self._explain(error)
        if not self._outage_logged:
            foreseen = isinstance(error, (RedisError, OSError, BrokerError))
            log.warning("%s; waiting for its return", outage, exc_info=None if foreseen else error)
        self._outage_logged = True
        self._held.outage = str(outage)
        # Workers cannot be seen now; that is no proof of their absence.
        self._last_alive_s = dict.fromkeys(self._towers, time.monotonic())

    async def _probe(self) -> bool:
        """False when Redis has lost our reply stream or is another server than before."""
        pipe = self._client.pipeline(transaction=False)
        pipe.time()
        pipe.pexpire(self._replies, self._reply_ttl_ms)
        pipe.info("server")
        for stream in self._streams:
            pipe.xlen(stream)
        sent_s = time.monotonic()
        now, refreshed, info, *depths = await pipe.execute(raise_on_error=False)
        received_s = time.monotonic()
        for result in (now, refreshed, *depths):
            if isinstance(result, BaseException):
                raise result
        self._clock.observe(sent_s, received_s, now)
        for stream, depth in zip(self._streams, depths, strict=True):
            self._held.depth[stream] = depth
        self._held.to_send.set()
        # A user without INFO is served too: the reply stream alone tells then.
        run_id = info.get("run_id") if isinstance(info, dict) else self._server[0]
        before, self._server = self._server, (run_id, self._moves)
        return bool(refreshed) and self._server == before

    @property
    def _moves(self) -> int:
        return self._place.moves if self._place else 0

    async def _recover(self, sender: Sender, reader: ReplyReader) -> None:
        """What fails here is begun anew at the next check: until the end nothing lost is forgotten."""
        if self._lost:
            await self._check_server()
        await self._require_permissions()
        await self._make_streams()
        if self._lost:
            # Only now: what the sender adds while there is no reply stream is answered to nobody.
            self._forget_what_was_sent(reader)
            self._lost = False
            self._held.stats["losses"] += 1
            log.warning("the queue has lost its data, or another server has it now")
        self._last_alive_s = dict.fromkeys(self._towers, time.monotonic())
        unsent = [w for w in self._held.entries.values() if w.entry_id is None and not w.sending]
        self._send_again(unsent, sender)

    def _forget_what_was_sent(self, reader: ReplyReader) -> None:
        self._held.generation += 1
        for entry in self._held.entries.values():
            entry.entry_id = None
        reader.start_over()

    def _missing(self) -> list[Waiting]:
        """Entries that are neither waiting nor answered: their stream is empty, and has been for a while."""
        before_s = time.monotonic() - MISSING_AFTER_S
        held, depth = self._held.entries.values(), self._held.depth
        return [w for w in held if w.entry_id and not depth[w.stream] and w.confirmed_s < before_s]

    def _send_again(self, entries: list[Waiting], sender: Sender) -> None:
        if entries:
            log.warning("%d entries are sent again", len(entries))
            self._held.stats["readded"] += len(entries)
            sender.add_again(entries)

    async def _require_permissions(self) -> None:
        await require_async(self._client, "gateway", self._keys)

    async def _make_streams(self) -> None:
        pipe = self._client.pipeline(transaction=False)
        for stream in [*self._streams, self._replies]:
            pipe.xgroup_create(stream, GROUP, id="0", mkstream=True)
        pipe.pexpire(self._replies, self._reply_ttl_ms)
        for result in await pipe.execute(raise_on_error=False):
            if isinstance(result, BaseException) and not str(result).startswith("BUSYGROUP"):
                raise result

    async def _check_server(self) -> dict[str, Any]:
        info = await self._server_info()
        check_server(info, clustered=self._place is not None)
        self._held.max_memory_bytes = int(info.get("maxmemory", 0))
        return info

    async def _server_info(self) -> dict[str, Any]:
        try:
            return {**await self._client.info("server"), **await self._client.info("memory")}
        except NoPermissionError:
            return {}

    async def _look_for_workers(self) -> None:
        for tower, workers in zip(self._towers, await self._live_workers(), strict=True):
            self._held.found(tower, workers)
            if workers:
                self._last_alive_s[tower] = time.monotonic()
            elif (absent_s := self.absent_s(tower)) is not None:
                waiting = [w for w in self._held.entries.values() if w.tower == tower]
                self._held.fail(waiting, partial(NoWorkers, tower, absent_s))

    def absent_s(self, tower: Tower) -> float | None:
        """How long nobody has computed this tower, when that is too long."""
        absent_s = time.monotonic() - self._last_alive_s[tower]
        return absent_s if absent_s > self._no_worker_timeout_s else None

    async def _live_workers(self) -> list[list[WorkerInfo]]:
        """For each tower the consumers of its group that hold a lease."""
        pipe = self._client.pipeline(transaction=False)
        for tower in self._towers:
            pipe.xinfo_consumers(self._keys.requests(tower, "interactive"), GROUP)
        groups = [_members(reply) for reply in await pipe.execute(raise_on_error=False)]
        names = [[worker_name(consumer["name"]) for consumer in group] for group in groups]
        leases = [self._keys.lease(t, name) for t, of in zip(self._towers, names, strict=True) for name in of]
        values: list[Any] = await self._client.mget(leases) if leases else []
        found = iter([wire.unpack_lease(value) if value else None for value in values])
        return [[lease[0] for _ in of if (lease := next(found)) is not None] for of in names]


def _members(reply: Any) -> list[dict[str, Any]]:
    """Of a group that is not there: nobody."""
    if isinstance(reply, NoPermissionError):
        raise reply
    return [] if isinstance(reply, BaseException) else reply
