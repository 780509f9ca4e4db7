"""The worker's end of the queue: take jobs, reply with vectors. Synchronous, for threads."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from redis.exceptions import RedisError

from broker import wire
from broker.clock import ServerClock
from broker.connection import HOPELESS, check_files, check_server, sync_client, unavailable
from broker.finding import place_of
from broker.heartbeat import Heartbeat
from broker.in_hand import Entry, InHand
from broker.inbox import EXPIRED, Inbox
from broker.jobs import Job, JobResult, RedisUrls, Tower, WorkerInfo
from broker.keys import Keys
from broker.outbox import Outbox, Outgoing
from broker.permissions import require
from broker.reclaim import Reclaimer, hand_back, leave
from broker.timing import WorkerTiming

log = logging.getLogger(__name__)

RETRY_S = 0.1
# A job read more recently than this is not worth asking Redis about.
FRESH_S = 0.02


class WorkerBroker:
    """One per worker process and tower. `take` belongs to one thread; `reply` may run in another."""

    def __init__(
        self,
        settings: RedisUrls,
        *,
        tag: str,
        tower: Tower,
        fingerprint: str,
        info: WorkerInfo,
        timing: WorkerTiming | None = None,
        shard: int = 0,
    ) -> None:
        check_files(settings)
        self._settings = settings
        self._timing = timing = timing or WorkerTiming()
        self._tower = tower
        self.info = info
        self._me = info.worker_id
        self._hand = InHand()
        self._clock = ServerClock()
        self._draining = threading.Event()
        self._closing = threading.Event()
        self._connected = False
        self._was_connected = False
        self._counts: Counter[str] = Counter()
        self._keys = keys = Keys(tag, shard)
        self._place = place_of(settings, keys.requests(tower, "interactive"))
        self._reading, writing, beating = (sync_client(settings, self._place) for _ in range(3))
        self._writing = writing
        self._outbox = Outbox(writing, keys, tower, self._counts, self._closing, self._hand.progress)
        reclaimer = Reclaimer(self._reading, keys, tower, self._me, self._hand, timing)
        self._inbox = Inbox(
            self._reading, keys, tower, self._me, fingerprint, self._hand, self._outbox, reclaimer,
            self._clock, self._counts, timing,
        )  # fmt: skip
        self._heartbeat = Heartbeat(beating, keys, info, self._hand, self._clock, self._counts, timing)

    def start_heartbeat(self, on_hang: Callable[[], None] | None = None, max_batch_rows: int = 0) -> None:
        """Announces the worker: it is ready for work. `take` does this too.

        `on_hang` is called from another thread when the device loop hangs: others have its work by then.
        Gateways send no entries of more than `max_batch_rows`; 0: of any size.
        """
        self._heartbeat.start(on_hang, max_batch_rows)

    def take(self, max_rows: int, block_s: float) -> list[Job]:
        """Jobs of at most `max_rows` rows together, or one larger job; none after `block_s` or draining.

        Expired, withdrawn and invalid entries were dropped and answered. A quarantined job comes alone, only
        when nothing else is in hand, and nothing comes until it is answered. While Redis is away this waits.
        Raises BrokerUnavailable for a wrong user or password at the start and for commands that this user
        may not send then, UnsuitableServer.
        """
        until_s = time.monotonic() + block_s
        while not self._draining.is_set():
            left_s = max(0.0, until_s - time.monotonic())
            try:
                if jobs := self._inbox.next_jobs(max_rows):
                    return jobs
                self._connect()
                self._inbox.fill(max_rows, left_s)
                if jobs := self._inbox.next_jobs(max_rows):
                    return jobs
            except (RedisError, OSError) as error:
                self._wait_for_return(error, left_s)
            if time.monotonic() >= until_s:
                break
        self._hand_back_unread()
        return []

    def wanted(self, jobs: Sequence[Job]) -> list[Job]:
        """Those whose callers still wait; call it right before the device. The others are answered."""
        expired = self.expired(jobs)
        gone = self.withdrawn(self.worth_asking([job for job in jobs if job not in expired]))
        if not expired and not gone:
            return list(jobs)
        self.drop(expired, gone)
        return [job for job in jobs if job not in expired and job not in gone]

    def expired(self, jobs: Sequence[Job]) -> list[Job]:
        """Those whose deadlines have passed."""
        return [job for job in jobs if self._inbox.is_expired(job)]

    def worth_asking(self, jobs: Sequence[Job]) -> list[Job]:
        """Those read long enough ago to have been withdrawn since."""
        return [job for job in jobs if self._hand.age_s((job.stream, job.entry_id)) > FRESH_S]

    def withdrawn(self, jobs: Sequence[Job]) -> list[Job]:
        """Those that gateways have deleted, as Redis says now; none when it cannot be asked."""
        if not jobs:
            return []
        try:
            existing = self._outbox.existing([(job.stream, job.entry_id) for job in jobs], self._me)
        except (RedisError, OSError):
            return []
        return [job for job in jobs if (job.stream, job.entry_id) not in existing]

    def drop(self, expired: Sequence[Job], gone: Sequence[Job]) -> None:
        """Ends jobs that do not run, answering the expired ones. Waits while Redis is away."""
        self._counts["expired"] += len(expired)
        self._counts["withdrawn"] += len(gone)
        outgoing = Outgoing()
        for job in expired:
            outgoing.replies[job.gateway_id].append(wire.refusal(job.job_id, EXPIRED))
        self._inbox.abandon([*expired, *gone])
        self._end(outgoing, [*expired, *gone])

    def reply(self, results: Sequence[JobResult]) -> None:
        """Answers jobs: one transaction sends the vectors and ends the entries. Waits while Redis is away."""
        self.count(results)
        self.answer(results)

    def count(self, results: Sequence[JobResult]) -> None:
        """A batch has been computed."""
        self._counts["batches"] += 1
        self._counts["rows"] += sum(result.job.rows for result in results)
        self._counts["compute_us"] += max((result.compute_us for result in results), default=0)
        ours = [result for result in results if self.owns(result.job)]
        waited_us = (self.age_s(result.job) * 1e6 - result.compute_us for result in ours)
        self._counts["entries"] += len(ours)
        self._counts["wait_us"] += sum(max(0, round(each)) for each in waited_us)

    def answer(self, results: Sequence[JobResult]) -> None:
        """`reply` without counting, for a part of a batch."""
        outgoing, finished = Outgoing(), []
        now_us = int(self._clock.now_ms() * 1000)
        for result in results:
            whole = self._inbox.finish(result)
            if whole is not None:
                queue_us = now_us - whole.job.enqueued_ms * 1000 - whole.compute_us
                reply = wire.reply_of(whole, queue_us, self.info.numerics)
                outgoing.replies[whole.job.gateway_id].append(reply)
                finished.append(result.job)
        self._end(outgoing, finished, [result.job for result in results])

    def age_s(self, job: Job) -> float:
        """Seconds since the gateway queued it, by the server's clock."""
        return max(0.0, self._clock.now_ms() - job.enqueued_ms) / 1000

    def flush(self, timeout_s: float) -> None:
        """Nothing is left to send: `reply` has waited."""

    def progress(self) -> None:
        """The device loop is alive; call it at least every few seconds of a long run."""
        self._hand.progress()

    def give_back(self, jobs: Sequence[Job]) -> None:
        """Others may take these at once, and what was read beyond them. For the thread that takes."""
        self._hand_back([*((job.stream, job.entry_id) for job in jobs), *self._inbox.unread()])
        self._hand.take_back(list(jobs))

    def drain(self) -> None:
        """Stops taking: `take` returns at once with nothing from now on. What is in hand can be finished."""
        self._draining.set()

    def close(self) -> None:
        """Hands back what was not answered, ends the lease. Call it when the other threads rest."""
        self._draining.set()
        self._closing.set()
        # No beat may follow: it would make what is handed back look busy.
        self._heartbeat.stop()
        # The other connections may still be in use by threads that have not noticed.
        client = sync_client(self._settings, self._place)
        try:
            if left := self._hand.entries():
                hand_back(client, self._me, left, self._inbox.marks())
            self._heartbeat.end_lease()
            leave(client, self._me, self._keys.all_requests(self._tower))
        except (RedisError, OSError) as error:
            log.warning("others find our work when our lease has expired: %s", error)
        for each in (client, self._reading, self._writing):
            each.close()

    @property
    def connected(self) -> bool:
        """Whether Redis answered last time."""
        return self._connected

    @property
    def in_quarantine(self) -> bool:
        """What was taken last must run alone."""
        return self._inbox.in_quarantine

    def owns(self, job: Job) -> bool:
        """Whether the job is of this shard."""
        return job.stream.startswith(self._keys.prefix)

    @property
    def in_hand(self) -> int:
        """Entries taken and not answered."""
        return len(self._hand.entries())

    @property
    def lease_age_s(self) -> float:
        """Seconds since the lease was last refreshed; infinite before its first time."""
        return time.monotonic() - self._heartbeat.beaten_s

    @property
    def stats(self) -> Counter[str]:
        """Counters since the start: expired, withdrawn, invalid, reclaimed, dead_lettered, missed_beats..."""
        return self._counts.copy()

    def _connect(self) -> None:
        """Once, and again after each loss of the connection."""
        if self._connected:
            return
        try:
            self._check()
            require(self._reading, "worker", self._keys)
            self._inbox.make_groups()
        except HOPELESS as error:
            if self._was_connected:
                raise
            raise unavailable(self._settings, error) from error
        if self._was_connected:
            log.warning("the queue is back")
        self._connected = self._was_connected = True
        self._heartbeat.start()

    def _check(self) -> None:
        try:
            info = {**self._reading.info("server"), **self._reading.info("memory")}
            check_server(info, clustered=self._place is not None)
        except HOPELESS as error:
            # INFO may be forbidden; a wrong password is not.
            if "info" not in str(error).lower():
                raise

    def _wait_for_return(self, error: Exception, left_s: float) -> None:
        if self._connected or not self._counts["outages"]:
            log.warning("%s; waiting for its return", unavailable(self._settings, error))
            self._counts["outages"] += 1
        self._connected = False
        self._inbox.connection_lost()
        self._draining.wait(min(RETRY_S, left_s))

    def _end(self, outgoing: Outgoing, ended: list[Job], done: list[Job] | None = None) -> None:
        """`ended`: jobs whose entries end; `done`: jobs that the device loop no longer has."""
        outgoing.ended = [(job.stream, job.entry_id) for job in ended]
        outgoing.marked = [(job.stream, job.entry_id) for job in ended if job.quarantined]
        entries = list(outgoing.ended)
        if entries:
            self._outbox.send(outgoing)
        self._hand.remove(entries)
        self._hand.take_back(ended if done is None else done)

    def _hand_back_unread(self) -> None:
        if self._draining.is_set():
            self._hand_back(self._inbox.unread())

    def _hand_back(self, entries: list[Entry]) -> None:
        if not entries:
            return
        try:
            hand_back(self._reading, self._me, entries)
        except (RedisError, OSError) as error:
            log.warning("others find our work when our lease has expired: %s", error)
        self._hand.remove(entries)
