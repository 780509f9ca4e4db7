"""A worker's end of a queue in several shards: it works at all of them."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

from broker.ends import WorkerEnd
from broker.jobs import Job, JobResult, RedisUrls, Tower, WorkerInfo
from broker.lane import Lane
from broker.timing import WorkerTiming
from broker.worker import WorkerBroker

# For answers on their way, and for threads to notice the end; all shards together.
END_TIMEOUT_S = 5.0
# For a shard to tell what was withdrawn, while the device waits; one that is late is not asked again until it
# has told.
ASK_TIMEOUT_S = 0.1
# Of a batch, whose parts come from several shards: counted once.
OF_BATCHES = ("rows", "batches", "compute_us")


def worker_end(
    settings: RedisUrls,
    *,
    tag: str,
    tower: Tower,
    fingerprint: str,
    info: WorkerInfo,
    timing: WorkerTiming | None = None,
) -> WorkerEnd:
    """A worker's end of all shards. Raises BrokerUnavailable for a URL that cannot be used."""
    shards = [
        WorkerBroker(
            settings, tag=tag, tower=tower, fingerprint=fingerprint, info=info, timing=timing, shard=shard
        )
        for shard in range(settings.redis_shards)
    ]
    return shards[0] if len(shards) == 1 else ShardedWorker(shards)


class ShardedWorker:
    """Each shard has a thread that waits for its work; while nobody takes, none of them reads on.

    So at most a share of a batch from each shard, about one batch together, waits here.
    """

    def __init__(self, shards: list[WorkerBroker]) -> None:
        self._changed = threading.Condition()
        self._lanes = [Lane(broker, self._changed, self._share) for broker in shards]
        # Rows that `take` waits for.
        self._wanted_rows = 0
        # What the device loop has, and whether it is something that must run alone.
        self._out: set[Job] = set()
        self._out_alone = False
        self._turn = 0
        self._started = False
        self._draining = False

    @property
    def info(self) -> WorkerInfo:
        """The same in all shards."""
        return self._lanes[0].broker.info

    def start_heartbeat(self, on_hang: Callable[[], None] | None = None, max_batch_rows: int = 0) -> None:
        """Announces the worker in all shards; as in `WorkerBroker`."""
        for lane in self._lanes:
            lane.broker.start_heartbeat(on_hang, max_batch_rows)

    def take(self, max_rows: int, block_s: float) -> list[Job]:
        """As `WorkerBroker.take`; the jobs may come from several shards."""
        self._start()
        with self._changed:
            self._wanted_rows = max_rows
            self._changed.notify_all()
            self._changed.wait_for(self._has_news, block_s)
            self._wanted_rows = 0
            for lane in self._lanes:
                if lane.failure:
                    raise lane.failure
            return [] if self._draining else self._next_jobs(max_rows)

    def age_s(self, job: Job) -> float:
        """As `WorkerBroker.age_s`."""
        (lane,) = self._by_lane([job])
        return lane.broker.age_s(job)

    def wanted(self, jobs: Sequence[Job]) -> list[Job]:
        """As `WorkerBroker.wanted`, but waits for no shard: what one does not tell soon is kept."""
        parts = self._by_lane(jobs)
        answers = {lane: lane.ask(part) for lane, part in parts.items()}
        told, late = wait(answers.values(), ASK_TIMEOUT_S)
        for answer in late:
            answer.cancel()
        dropped: set[Job] = set()
        for lane, answer in answers.items():
            dropped.update(lane.drop(parts[lane], answer.result() if answer in told else []))
        self._take_back(dropped)
        return [job for job in jobs if job not in dropped]

    def reply(self, results: Sequence[JobResult]) -> None:
        """As `WorkerBroker.reply`, but does not wait until Redis has them."""
        for lane in self._lanes:
            lane.broker.count(results)
        self.progress()
        result_of = {result.job: result for result in results}
        for lane, jobs in self._by_lane(list(result_of)).items():
            lane.reply([result_of[job] for job in jobs])
        self._take_back(result_of)

    def progress(self) -> None:
        """The device loop is alive."""
        for lane in self._lanes:
            lane.broker.progress()

    def drain(self) -> None:
        """Stops taking."""
        self._draining = True
        for lane in self._lanes:
            lane.drain()

    def close(self) -> None:
        """Sends what is answered, hands back the rest, ends the leases."""
        self.drain()
        for lane in self._lanes:
            lane.finish()
        until_s = time.monotonic() + END_TIMEOUT_S
        # Side by side: what a healthy shard gets back does not wait for one that hangs.
        with ThreadPoolExecutor(len(self._lanes), "broker-close") as threads:
            list(threads.map(lambda lane: lane.close(until_s), self._lanes))

    def flush(self, timeout_s: float) -> None:
        """Sends what is answered, as far as that can be done in time; no reply may follow."""
        for lane in self._lanes:
            lane.finish()
        until_s = time.monotonic() + timeout_s
        for lane in self._lanes:
            lane.flush(until_s)

    @property
    def connected(self) -> bool:
        """Whether a shard answered last time: there is work to do then, as for a gateway."""
        return any(lane.broker.connected for lane in self._lanes)

    @property
    def in_hand(self) -> int:
        """Entries taken and not answered."""
        return sum(lane.broker.in_hand for lane in self._lanes)

    @property
    def lease_age_s(self) -> float:
        """Of the oldest lease."""
        return max(lane.broker.lease_age_s for lane in self._lanes)

    @property
    def stats(self) -> Counter[str]:
        """As of one shard, in sum."""
        each = [lane.broker.stats for lane in self._lanes]
        return Counter({**sum(each, Counter[str]()), **{name: each[0][name] for name in OF_BATCHES}})

    def _start(self) -> None:
        if not self._started:
            self._started = True
            for lane in self._lanes:
                lane.start()

    def _share(self) -> int:
        """Rows that one shard may bring to the batch that is wanted."""
        return -(-self._wanted_rows // len(self._lanes))

    def _has_news(self) -> bool:
        return self._draining or any(lane.failure for lane in self._lanes) or self._may_go_on()

    def _may_go_on(self) -> bool:
        """What runs alone waits for the device to be empty, and everything else waits for it."""
        if self._out_alone or not any(lane.ready for lane in self._lanes):
            return False
        return not (self._out and any(lane.alone and lane.ready for lane in self._lanes))

    def _next_jobs(self, max_rows: int) -> list[Job]:
        if not self._may_go_on():
            return []
        lonely = next((lane for lane in self._lanes if lane.alone and lane.ready), None)
        jobs = [lonely.ready.popleft()] if lonely else self._mixed(max_rows)
        self._out.update(jobs)
        self._out_alone = lonely is not None
        self._changed.notify_all()
        return jobs

    def _mixed(self, max_rows: int) -> list[Job]:
        """One job of each shard in turn, up to `max_rows` rows together, or one larger job."""
        jobs: list[Job] = []
        rows = 0
        while filled := [lane for lane in self._lanes if lane.ready]:
            self._turn += 1
            queue = filled[self._turn % len(filled)].ready
            if jobs and rows + queue[0].rows > max_rows:
                break
            rows += queue[0].rows
            jobs.append(queue.popleft())
        return jobs

    def _take_back(self, jobs: Iterable[Job]) -> None:
        """The device loop is done with these."""
        with self._changed:
            self._out.difference_update(jobs)
            self._out_alone = self._out_alone and bool(self._out)
            self._changed.notify_all()

    def _by_lane(self, jobs: Sequence[Job]) -> dict[Lane, list[Job]]:
        found: dict[Lane, list[Job]] = {}
        for job in jobs:
            lane = next(lane for lane in self._lanes if lane.broker.owns(job))
            found.setdefault(lane, []).append(job)
        return found
