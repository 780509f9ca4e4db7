"""One shard of several at which a worker works: a thread that reads from it and one that replies to it."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue

from broker.jobs import Job, JobResult
from broker.worker import WorkerBroker

READ_BLOCK_S = 0.5


class Lane:
    """Its threads share `changed` with the other lanes; `ready`, `alone` and `failure` are guarded by it.

    `appetite` says how many rows may be read now, 0 for none; an empty `ready` comes first.
    """

    def __init__(
        self, broker: WorkerBroker, changed: threading.Condition, appetite: Callable[[], int]
    ) -> None:
        self.broker = broker
        self.ready: deque[Job] = deque()
        # What is ready must run when nothing else does.
        self.alone = False
        self.failure: Exception | None = None
        self._changed = changed
        self._appetite = appetite
        self._draining = False
        # What the replying thread is to do, one after the other; None: nothing more.
        self._errands: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._asking = False
        self._threads = [
            threading.Thread(target=self._guard, args=(work,), name=f"broker-{name}", daemon=True)
            for name, work in (("reads", self._read_all), ("replies", self._reply_all))
        ]

    def start(self) -> None:
        """Reads and replies from now on."""
        for thread in self._threads:
            thread.start()

    def reply(self, results: Sequence[JobResult]) -> None:
        """Returns at once: a shard that is away must not keep the device from the others' work."""
        self._errands.put(partial(self.broker.answer, results))

    def ask(self, jobs: Sequence[Job]) -> "Future[list[Job]]":
        """Which of these gateways have withdrawn. None, at once, of a shard that is away or slow to tell."""
        answer: Future[list[Job]] = Future()
        old = self.broker.worth_asking(jobs)
        if old and self.broker.connected and not self._asking:
            self._asking = True
            self._errands.put(partial(self._look, old, answer))
        else:
            answer.set_result([])
        return answer

    def drop(self, jobs: Sequence[Job], withdrawn: Sequence[Job]) -> list[Job]:
        """Those that expired or are `withdrawn`; they are ended soon."""
        expired = self.broker.expired(jobs)
        gone = [job for job in withdrawn if job not in expired]
        if expired or gone:
            self._errands.put(partial(self.broker.drop, expired, gone))
        return [*expired, *gone]

    def drain(self) -> None:
        """Reads nothing more, and hands back what is ready."""
        with self._changed:
            self._draining = True
            self._changed.notify_all()
        self.broker.drain()

    def finish(self) -> None:
        """No reply follows."""
        self._errands.put(None)

    def flush(self, until_s: float) -> None:
        """Waits, until then at most, for what was to be sent before `finish`."""
        _, replies = self._threads
        if replies.is_alive():
            replies.join(max(0.0, until_s - time.monotonic()))

    def close(self, until_s: float) -> None:
        """What is not sent by then, a reading of time.monotonic(), is computed again by others."""
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, until_s - time.monotonic()))
        self.broker.close()

    def _read_all(self) -> None:
        while rows := self._rows_wanted():
            jobs = self.broker.take(rows, READ_BLOCK_S)
            with self._changed:
                self.ready.extend(jobs)
                self.alone = self.broker.in_quarantine
                self._changed.notify_all()
        with self._changed:
            left = [] if self.alone else list(self.ready)
            self.ready.clear()
        self.broker.give_back(left)

    def _rows_wanted(self) -> int:
        """Waits until there is an appetite; 0 at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._draining or (self._appetite() and not self.ready))
            return 0 if self._draining else self._appetite()

    def _reply_all(self) -> None:
        while errand := self._errands.get():
            errand()

    def _look(self, jobs: list[Job], answer: "Future[list[Job]]") -> None:
        # Cancelled: whoever asked could not wait.
        if answer.set_running_or_notify_cancel():
            answer.set_result(self.broker.withdrawn(jobs))
        self._asking = False

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            with self._changed:
                self.failure = error
                self._changed.notify_all()
