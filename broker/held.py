"""What one gateway holds: its unanswered entries, and what it last saw of the queue."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from siglip.broker.v1 import job_pb2

from broker.errors import BrokerError
from broker.jobs import ROWS_PER_ENTRY, Tower, WorkerInfo
from broker.pace import Pace


@dataclass(slots=True, eq=False)
class Waiting:
    """One entry whose answer is awaited. The gateway's copy is the truth: Redis may lose its own."""

    job_id: bytes
    tower: Tower
    stream: str
    # Whose turn it takes.
    caller: str
    header: bytes
    payload: bytes
    rows: int
    answer: "asyncio.Future[job_pb2.JobReply]"
    # Id in the stream; None until Redis has confirmed it.
    entry_id: bytes | None = None
    # When it did, by time.monotonic().
    confirmed_s: float = 0.0
    # Entries in the stream then, this one included.
    ahead: int = 0
    # When it came to us.
    added_s: float = field(default_factory=time.monotonic)
    # In the sender's hands: waiting in line, or on its way.
    sending: bool = False
    # Sent more than once: a copy may be left when the other is answered.
    resent: bool = False
    # Nobody waits any more: if it is on its way, it must be removed when it has arrived.
    withdrawn: bool = False


@dataclass(slots=True)
class Held:
    """State that sender, reader and monitor share; all live on one event loop."""

    entries: dict[bytes, Waiting] = field(default_factory=dict)
    # Of each stream, how many these are.
    count: Counter[str] = field(default_factory=Counter)
    # None: connected. Else why not; new work is refused with it, held work waits for the return.
    outage: str | None = None
    # A connection failed: what was on its way must be sent again.
    disturbed: bool = False
    # Redis answered as if it had no stream of ours: it has lost its data.
    stream_missing: bool = False
    # Counts the times Redis lost its data; what was sent before is gone.
    generation: int = 0
    # Of the server; 0: no limit is known.
    max_memory_bytes: int = 0
    # Entries in Redis, over all gateways, and on their way to it.
    depth: Counter[str] = field(default_factory=Counter)
    last_queue_us: Counter[str] = field(default_factory=Counter)
    pace: defaultdict[str, Pace] = field(default_factory=lambda: defaultdict(Pace))
    # Entries of each tower.
    answered: Counter[str] = field(default_factory=Counter)
    workers: dict[Tower, list[WorkerInfo]] = field(default_factory=dict)
    # Since when there have been some, without a pause.
    served_since_s: dict[Tower, float] = field(default_factory=dict)
    stats: Counter[str] = field(default_factory=Counter)
    # Set when the sender may have something to do.
    to_send: asyncio.Event = field(default_factory=asyncio.Event)
    # Set when something looks wrong: the monitor then checks at once.
    alarm: asyncio.Event = field(default_factory=asyncio.Event)
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    def hold(self, entries: list[Waiting]) -> None:
        """From now on their answers are awaited."""
        for entry in entries:
            self.entries[entry.job_id] = entry
            self.count[entry.stream] += 1

    def release(self, job_id: bytes) -> Waiting | None:
        """The entry, which is held no longer; None when it was not."""
        entry = self.entries.pop(job_id, None)
        if entry:
            self.count[entry.stream] -= 1
            self.to_send.set()
        return entry

    def lost_touch(self) -> None:
        """A connection failed, and perhaps what it carried. Whether Redis is away the monitor finds out."""
        self.disturbed = True
        self.alarm.set()

    def lost_data(self) -> None:
        """An entry could not be added, for its stream is gone."""
        self.stream_missing = True
        self.alarm.set()

    def oldest_s(self, stream: str) -> float:
        """Since when the entry waits that does so longest; 0 without one."""
        added = [entry.added_s for entry in self.entries.values() if entry.stream == stream]
        return time.monotonic() - min(added) if added else 0.0

    def resolve(self, reply: job_pb2.JobReply) -> None:
        """Hands a reply to whoever waits; second and unknown replies are only counted."""
        entry = self.release(reply.job_id)
        if entry is None or entry.answer.done():
            self.stats["duplicates"] += 1
            return
        self.depth[entry.stream] = max(0, self.depth[entry.stream] - 1)
        self.last_queue_us[entry.stream] = reply.queue_us
        self.answered[entry.tower] += 1
        if entry.ahead and self.workers.get(entry.tower):
            self.pace[entry.stream].observe(entry.ahead, self._in_line_s(entry))
        entry.answer.set_result(reply)

    def gave_up(self, entry: Waiting) -> None:
        """It was sent, and nobody waits for its answer any more: with live workers, that tells their pace."""
        if entry.ahead and not entry.resent and self.outage is None and self.workers.get(entry.tower):
            self.pace[entry.stream].observe_unanswered(entry.ahead, self._in_line_s(entry))

    def _in_line_s(self, entry: Waiting) -> float:
        """What it waited for work before it, not for a first worker: that tells nothing of later entries."""
        return time.monotonic() - max(entry.confirmed_s, self.served_since_s.get(entry.tower, 0.0))

    def found(self, tower: Tower, workers: list[WorkerInfo]) -> None:
        """These are alive now."""
        if workers and not self.workers.get(tower):
            self.served_since_s[tower] = time.monotonic()
        self.workers[tower] = workers

    def rows_per_entry(self, tower: Tower) -> int:
        """No more than the live worker with the smallest batch computes at once."""
        batches = [each.max_batch_rows for each in self.workers.get(tower, ()) if each.max_batch_rows]
        return min([ROWS_PER_ENTRY[tower], *batches])

    def fail(self, entries: list[Waiting], make_error: Callable[[], BrokerError]) -> None:
        """Ends the waiting for these entries; each gets an error of its own, raised in its own place."""
        for entry in entries:
            if not entry.answer.done():
                entry.answer.set_exception(make_error())


async def wait_for_event(event: asyncio.Event, timeout_s: float) -> bool:
    """Whether the event was set in time."""
    try:
        await asyncio.wait_for(event.wait(), timeout_s)
    except TimeoutError:
        return False
    return True
