"""The two threads of a worker: one takes from the queue while the other computes and replies."""

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from broker import BrokerError, Job, WorkerEnd
from workers import traces
from workers.answer import answer
from workers.buffer import Buffer
from workers.compute import Computer
from workers.errors import DeviceHangs, DeviceLost
from workers.metrics import Metrics
from workers.timing import BatchTiming

if TYPE_CHECKING:
    from siglip_traces.spans import Traces

log = logging.getLogger(__name__)

TAKE_BLOCK_S = 0.5
"""Longest time until the taking thread notices a stop."""


class Loop:
    """`on_end` is called from a thread of the loop: with None when drained, or with what broke or hangs."""

    def __init__(
        self,
        broker: WorkerEnd,
        computer: Computer,
        metrics: Metrics,
        on_end: Callable[[Exception | None], None],
        traces: "Traces | None" = None,
    ) -> None:
        self._broker = broker
        self._computer = computer
        self._metrics = metrics
        self._on_end = on_end
        self._traces = traces
        self._buffer = Buffer(computer.max_rows)
        self._stopping = threading.Event()

    def start(self) -> None:
        """From now on the worker is announced, and takes."""
        self._broker.start_heartbeat(
            lambda: self._on_end(DeviceHangs("the device makes no progress")), self._computer.max_rows
        )
        for work in (self._take, self._compute):
            # Daemons, because a hung device must not keep the process from ending.
            threading.Thread(target=self._guard, args=(work,), name=work.__name__[1:], daemon=True).start()

    def stop(self) -> None:
        """Takes nothing more; what is held is finished, then `on_end` is called."""
        self._stopping.set()
        self._broker.drain()

    def _take(self) -> None:
        while (room := self._buffer.wait_for_room()) and not self._stopping.is_set():
            self._buffer.add(self._broker.take(room, TAKE_BLOCK_S))
        self._buffer.close()

    def _compute(self) -> None:
        while jobs := self._buffer.next_batch():
            if wanted := self._broker.wanted(jobs):
                self._run(wanted)
                self._buffer.max_rows = self._computer.max_rows
        self._on_end(None)

    def _run(self, jobs: list[Job]) -> None:
        waited_s, started_ns = [self._broker.age_s(job) for job in jobs], time.time_ns()
        results = answer(jobs, self._computer)
        computed_ns = time.time_ns()
        # Replying from here, not from a third thread, was quicker in every measurement.
        self._broker.reply(results)
        timing = BatchTiming(waited_s, started_ns, computed_ns, time.time_ns())
        self._metrics.batch(results, self._computer.max_rows, timing)
        if self._traces is not None:
            traces.record(self._traces, jobs, timing)

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (DeviceLost, BrokerError) as error:
            self._on_end(error)
        except Exception as error:
            log.exception("the %s thread failed", work.__name__[1:])
            self._on_end(error)
