"""Stream -> worker: reads what waits, drops what nobody may or wants to compute, hands out the rest."""

import contextlib
import logging
import random
import time
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

import redis
from redis.exceptions import OutOfMemoryError, ResponseError

from broker import wire
from broker.clock import ServerClock
from broker.connection import BLOCK_MS
from broker.in_hand import Entry, InHand
from broker.jobs import ROWS_PER_ENTRY, Job, JobResult, RowError, Tower
from broker.keys import GROUP, HEADER_FIELD, Keys
from broker.outbox import DeadLetter, Outbox, Outgoing
from broker.quarantine import POISON, Quarantine, condemned
from broker.reclaim import Reclaimed, Reclaimer
from broker.timing import WorkerTiming

log = logging.getLogger(__name__)

# Of the reads while urgent work waits, each so-many-th is for the other work.
BATCH_TURN = 4
# Entries per read even when each could be as large as allowed: text rows are cheap, images are not.
LEAST_READ: dict[Tower, int] = {"text": 8, "vision": 1}
MARK_OUTLIVES_DEADLINE_MS = 60_000
# An entry may claim any deadline; Redis does not take any expiry.
MARK_AT_MOST_MS = 86_400_000
EXPIRED = RowError("DEADLINE_EXCEEDED", "the deadline passed before a worker was free", retryable=False)


class Inbox:
    """The reading thread's side of a worker. Buffers at most what one read brought beyond `max_rows`."""

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        tower: Tower,
        worker_id: str,
        fingerprint: str,
        hand: InHand,
        outbox: Outbox,
        reclaimer: Reclaimer,
        clock: ServerClock,
        stats: Counter[str],
        timing: WorkerTiming,
    ) -> None:
        self._client = client
        self._keys = keys
        self._tower = tower
        self._me = worker_id
        self._fingerprint = fingerprint
        self._hand = hand
        self._outbox = outbox
        self._reclaimer = reclaimer
        self._clock = clock
        self._stats = stats
        self._timing = timing
        self._next_scan_s = 0.0
        # Whoever had our name before may have left entries too.
        self._lost_own = True
        self._reads = 0
        # The last read of urgent work was full: more of it waits.
        self._urgent_backlog = False
        self._ready: deque[Job] = deque()
        self._quarantine: Quarantine | None = None
        self._refused = Outgoing()

    def make_groups(self) -> None:
        """From the first entry on: what another group, lost with its data, had read is read again."""
        for stream in self._keys.all_requests(self._tower):
            try:
                self._client.xgroup_create(stream, GROUP, id="0", mkstream=True)
            except OutOfMemoryError:
                # Said even when there is nothing to make; reading will tell.
                continue
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    def next_jobs(self, max_rows: int) -> list[Job]:
        """Jobs of at most `max_rows` rows together, or one larger job; while in quarantine one row, alone."""
        jobs = self._next_quarantined() if self._quarantine else self._next_ready(max_rows)
        self._hand.hand_out(jobs)
        self._send_refused()
        return jobs

    def fill(self, max_rows: int, wait_s: float) -> None:
        """Waits for work, at most about `wait_s`."""
        if self._quarantine:
            self._hand.wait_until_idle(min(wait_s, BLOCK_MS / 1000))
            return
        try:
            if time.monotonic() >= self._next_scan_s and self._reclaim(max_rows):
                return
            self._read_all(max_rows, wait_s)
        except ResponseError as error:
            if not str(error).lower().startswith(("nogroup", "no such")):
                raise
            log.warning("the queue has lost its data; it is being made again")
            self.make_groups()

    def connection_lost(self) -> None:
        """A reply of Redis may have been lost, and entries with it: the next scan looks for our own."""
        self._lost_own = True
        self._next_scan_s = 0.0

    def finish(self, result: JobResult) -> JobResult | None:
        """The result of the whole entry; None while rows of a quarantined one are still to come."""
        quarantine = self._quarantine
        if quarantine is None or quarantine.job.entry_id != result.job.entry_id:
            return None if result.job.quarantined else result
        if joined := quarantine.add(result):
            self._quarantine = None
        return joined

    def abandon(self, jobs: list[Job]) -> None:
        """These were dropped: the remaining rows of a quarantined one do not run either."""
        if self._quarantine and self._quarantine.job.entry_id in {job.entry_id for job in jobs}:
            self._quarantine = None

    @property
    def in_quarantine(self) -> bool:
        """Whether nothing but one suspect entry is handed out."""
        return self._quarantine is not None

    def is_expired(self, job: Job) -> bool:
        """Whether the caller has stopped waiting, by the server's clock."""
        return self._clock.now_ms() >= job.deadline_ms

    def refuse(self, job: Job, error: RowError, *, mark: bool = False) -> None:
        """Answers a job that will not run; sent with the next batch of refusals."""
        self._end((job.stream, job.entry_id), (job.gateway_id, job.job_id), error)
        if mark:
            self._refused.marked.append((job.stream, job.entry_id))

    def unread(self) -> list[Entry]:
        """Entries read and never handed out; forgets them."""
        entries = [(job.stream, job.entry_id) for job in self._ready]
        self._ready.clear()
        return entries

    def marks(self) -> list[str]:
        """Keys that name a row as running now; it has killed nobody."""
        quarantine = self._quarantine
        if quarantine is None or quarantine.culprit_known:
            return []
        return [self._keys.running_row(quarantine.job.stream, quarantine.job.entry_id)]

    def _next_ready(self, max_rows: int) -> list[Job]:
        jobs: list[Job] = []
        rows = 0
        while self._ready and (not jobs or rows + self._ready[0].rows <= max_rows):
            job = self._ready.popleft()
            if self.is_expired(job):
                self._stats["expired"] += 1
                self.refuse(job, EXPIRED)
            elif self._hand.is_gone((job.stream, job.entry_id)):
                self._drop_withdrawn((job.stream, job.entry_id))
            else:
                jobs.append(job)
                rows += job.rows
        return jobs

    def _next_quarantined(self) -> list[Job]:
        quarantine = self._quarantine
        if quarantine is None or not self._hand.wait_until_idle(0):
            return []
        if self.is_expired(quarantine.job):
            self._stats["expired"] += 1
            self._quarantine = None
            self.refuse(quarantine.job, EXPIRED, mark=True)
            return []
        if (job := quarantine.next_job()) is None:
            return []
        if job.quarantined and not quarantine.culprit_known:
            self._mark(job)
        quarantine.handed_out()
        return [job]

    def _mark(self, job: Job) -> None:
        """Should this row kill us, who claims the entry next will know."""
        left_ms = min(MARK_AT_MOST_MS, max(0, int(job.deadline_ms - self._clock.now_ms())))
        key = self._keys.running_row(job.stream, job.entry_id)
        with contextlib.suppress(OutOfMemoryError):
            self._client.set(key, job.row, px=left_ms + MARK_OUTLIVES_DEADLINE_MS)

    def _read_all(self, max_rows: int, wait_s: float) -> None:
        """Waits for the first entry, then takes what else is there, as far as there is room."""
        block_ms: int | None = min(BLOCK_MS, int(wait_s * 1000)) or None
        while True:
            room = max_rows - sum(job.rows for job in self._ready)
            count = self._entries_for(room)
            read = self._read(count, block_ms)
            block_ms = None
            if read < count or sum(job.rows for job in self._ready) >= max_rows:
                return

    def _entries_for(self, rows: int) -> int:
        """How many entries to ask for, not knowing their sizes."""
        return max(LEAST_READ[self._tower], rows // ROWS_PER_ENTRY[self._tower])

    def _read(self, count: int, block_ms: int | None) -> int:
        """While urgent work fills every read, the rest gets each BATCH_TURN-th; else all streams are read."""
        urgent, *others = self._keys.all_requests(self._tower)
        self._reads += 1
        if self._urgent_backlog:
            if self._reads % BATCH_TURN == 0 and (read := self._take(others, count, None)):
                return max(read.values())
            read = self._take([urgent], count, None)
            self._urgent_backlog = read.get(urgent, 0) >= count
            if read:
                return read[urgent]
        read = self._take([urgent, *others], count, block_ms)
        self._urgent_backlog = read.get(urgent, 0) >= count
        return max(read.values(), default=0)

    def _take(self, streams: list[str], count: int, block_ms: int | None) -> dict[str, int]:
        """How many entries came from each stream."""
        wanted: dict[Any, Any] = dict.fromkeys(streams, ">")
        answer: Any = self._client.xreadgroup(GROUP, self._me, wanted, count=count, block=block_ms)
        read = {}
        for stream, entries in answer or []:
            for entry_id, fields in entries:
                if job := self._accept(stream.decode(), entry_id, fields):
                    self._ready.append(job)
            read[stream.decode()] = len(entries)
        self._send_refused()
        return read

    def _accept(self, stream: str, entry_id: bytes, fields: Mapping[bytes, bytes]) -> Job | None:
        """The entry's job, in hand from now on; None when it was refused."""
        self._hand.add((stream, entry_id))
        try:
            job = wire.unpack_entry(
                stream, entry_id, fields, tower=self._tower, fingerprint=self._fingerprint
            )
        except wire.InvalidEntry as error:
            self._stats["invalid"] += 1
            log.error("entry %s refused: %s: %s", entry_id.decode(), error.reason, error)
            self._end((stream, entry_id), error.reply_to, RowError(error.reason, str(error), retryable=False))
            if error.reply_to is None:
                self._bury((stream, entry_id), fields, error.reason, 1)
            return None
        return job

    def _reclaim(self, max_rows: int) -> bool:
        """Whether there is work now that others had left."""
        most = self._entries_for(max_rows)
        claimed = self._reclaimer.claim(most, lost_own=self._lost_own)
        # One connection may have lost many, and suspects come one at a time.
        self._lost_own = self._lost_own and bool(claimed)
        # Where one was found there are more; else at a time of its own, lest all workers look at once.
        pause_s = 0.0 if claimed else self._timing.scan_every_s * random.uniform(0.8, 1.2)
        self._next_scan_s = time.monotonic() + pause_s
        for entry in claimed:
            self._stats["reclaimed"] += 1
            job = self._accept(entry.stream, entry.entry_id, entry.fields)
            if job is not None and entry.suspect:
                self._isolate(job, entry)
            elif job is not None:
                self._ready.append(job)
        self._send_refused()
        return bool(claimed)

    def _isolate(self, job: Job, entry: Reclaimed) -> None:
        """A suspect entry runs alone; the last time row by row; after that without its culprit, or never."""
        if entry.deliveries <= self._timing.max_deliveries:
            self._quarantine = Quarantine(job, by_row=entry.deliveries == self._timing.max_deliveries)
            return
        self._stats["dead_lettered"] += 1
        error = condemned(entry.deliveries)
        ran_by_row = entry.deliveries == self._timing.max_deliveries + 1 and job.rows > 1
        culprit = entry.row if ran_by_row and entry.row in range(job.rows) else None
        shown = "" if culprit is None else f", row {culprit}"
        log.error("entry %s given up%s: %s", job.entry_id.decode(), shown, error)
        where = (job.stream, job.entry_id)
        if culprit is not None:
            self._quarantine = Quarantine(job, by_row=True, errors={culprit: error})
            self._bury(where, entry.fields, POISON, entry.deliveries, culprit)
        else:
            self.refuse(job, error, mark=True)
            self._bury(where, entry.fields, POISON, entry.deliveries)

    def _bury(
        self,
        entry: Entry,
        fields: Mapping[bytes, bytes],
        reason: str,
        deliveries: int,
        row: int | None = None,
    ) -> None:
        header = fields.get(HEADER_FIELD, b"")
        self._refused.dead_letters.append(DeadLetter(entry, header, reason, deliveries, row))

    def _drop_withdrawn(self, entry: Entry) -> None:
        self._stats["withdrawn"] += 1
        self._end(entry, None, EXPIRED)

    def _end(self, entry: Entry, reply_to: tuple[str, bytes] | None, error: RowError) -> None:
        self._refused.ended.append(entry)
        if reply_to is not None:
            gateway_id, job_id = reply_to
            self._refused.replies[gateway_id].append(wire.refusal(job_id, error))

    def _send_refused(self) -> None:
        if not self._refused.ended and not self._refused.dead_letters:
            return
        refused, self._refused = self._refused, Outgoing()
        ended = list(refused.ended)
        self._outbox.send(refused)
        self._hand.remove(ended)
