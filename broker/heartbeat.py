"""Says that a worker is alive, as long as its device loop is."""

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import redis
from redis.exceptions import RedisError

from broker import wire
from broker.clock import ServerClock
from broker.connection import AWAY
from broker.in_hand import InHand
from broker.jobs import Work, WorkerInfo
from broker.keys import GROUP, Keys
from broker.outbox import claim_existing
from broker.timing import WorkerTiming

log = logging.getLogger(__name__)

# Entries that run longer are shown to be in work this many times per reclaim period.
RENEWALS = 3


class Heartbeat:
    """A thread that refreshes the worker's lease, keeps long-running entries its own, and the clock right."""

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        info: WorkerInfo,
        hand: InHand,
        clock: ServerClock,
        stats: Counter[str],
        timing: WorkerTiming,
    ) -> None:
        self._client = client
        self._lease = keys.lease(info.tower, info.worker_id)
        self._stream = keys.requests(info.tower, "interactive")
        self._info = info
        self._hand = hand
        self._clock = clock
        self._stats = stats
        self._every_s = timing.beat_every_s
        self._lease_ms = int(timing.lease_s * 1000)
        self._stall_after_s = timing.stall_after_s
        self._beats_until_hung = 1 + math.ceil(timing.stall_after_s / timing.beat_every_s)
        self._renew_every_s = timing.hung_idle_s / RENEWALS
        self._renewed_s = time.monotonic()
        # A reading of time.monotonic(): nobody may take a worker that has never beaten for one that just has.
        self.beaten_s = -math.inf
        self._stop = threading.Event()
        # Beats left out since the device loop showed progress; a process that was stopped leaves out none.
        self._stalled_beats = 0
        self._on_hang: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, name="broker-heartbeat", daemon=True)

    def start(self, on_hang: Callable[[], None] | None = None, max_batch_rows: int = 0) -> None:
        """The first beat happens before this returns, when Redis is there.

        `on_hang` is called, from the thread, when the lease has ended for lack of progress and after as long
        again there still is none.
        """
        self._on_hang = on_hang or self._on_hang
        if not self._thread.is_alive() and not self._stop.is_set():
            self._info = replace(self._info, max_batch_rows=max_batch_rows)
            self._try_beat()
            self._thread.start()

    def stop(self) -> None:
        """Ends the thread; the lease still lasts a moment."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def end_lease(self) -> None:
        """Others may take over at once."""
        try:
            self._client.delete(self._lease)
        except (RedisError, OSError) as error:
            log.warning("the lease stays until it expires: %s", error)
        self._client.close()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self._try_beat()

    def _try_beat(self) -> None:
        try:
            if self._may_beat():
                self._beat()
        except AWAY:
            self._stats["missed_beats"] += 1
        except RedisError as error:
            self._stats["missed_beats"] += 1
            log.error("the lease cannot be refreshed: %s", error)
        except Exception:
            # Whatever it was, the next beat may succeed; without this thread the worker counts as dead.
            log.exception("the lease was not refreshed")

    def _may_beat(self) -> bool:
        """A live process whose device hangs must not keep its work."""
        if not self._hand.stalled(self._stall_after_s):
            self._stalled_beats = 0
            return True
        self._stalled_beats += 1
        if self._stalled_beats == 1:
            log.error("no progress for %.1f s with work in hand: the lease ends", self._stall_after_s)
        if self._stalled_beats == self._beats_until_hung:
            self._on_hang()
        return False

    def _beat(self) -> None:
        pipe = self._client.pipeline(transaction=False)
        # Refreshing works even when the server's memory is full; setting does not.
        pipe.pexpire(self._lease, self._lease_ms)
        pipe.time()
        pipe.set(self._lease, wire.pack_lease(self._info, self._work()), px=self._lease_ms)
        # Gateways find workers as consumers of the group. Without a group this fails: reading makes one.
        pipe.xgroup_createconsumer(self._stream, GROUP, self._info.worker_id)
        sent_s = time.monotonic()
        refreshed, now, written, _ = pipe.execute(raise_on_error=False)
        for result in (refreshed, now):
            if isinstance(result, BaseException):
                raise result
        self._clock.observe(sent_s, time.monotonic(), now)
        if not refreshed and isinstance(written, BaseException):
            raise written
        self.beaten_s = time.monotonic()
        if time.monotonic() - self._renewed_s >= self._renew_every_s:
            self._renew()

    def _work(self) -> Work:
        return Work(*(self._stats[name] for name in ("rows", "batches", "compute_us", "entries", "wait_us")))

    def _renew(self) -> None:
        self._renewed_s = time.monotonic()
        if entries := self._hand.entries():
            existing = claim_existing(self._client, entries, self._info.worker_id)
            self._hand.mark_gone([entry for entry in entries if entry not in existing])
