"""Runs the loop until a signal says stop, then drains it within its time."""

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from broker import BrokerError, WorkerEnd
from workers.compute import Computer
from workers.errors import SetupError
from workers.loop import Loop
from workers.metrics import Metrics

if TYPE_CHECKING:
    from siglip_traces.spans import Traces

log = logging.getLogger(__name__)

OK, FAILED = 0, 1
STOPPING = (signal.SIGTERM, signal.SIGINT)

STOP = "told to stop"
# For answers on their way when the device breaks: else they would be computed again, and be suspects.
FLUSH_S = 1.0

# What the main thread waits for: STOP from a signal, None from a drained loop, or what broke it.
Event = str | Exception | None
# A SimpleQueue, because its put may run in a signal handler.
Events = SimpleQueue[Event]


def serve(
    broker: WorkerEnd,
    computer: Computer,
    metrics: Metrics,
    drain_timeout_s: float,
    traces: "Traces | None" = None,
) -> int:
    """The exit status. What is not finished in time, or at a second signal, goes back to the queue.

    Raises SetupError when the queue refuses this worker.
    """
    events: Events = SimpleQueue()
    loop = Loop(broker, computer, metrics, events.put, traces)
    with _signals_to(events):
        loop.start()
        log.info("ready")
        event = events.get()
        if event == STOP:
            log.info("stopping: finishing what is held, for at most %g s", drain_timeout_s)
            loop.stop()
            event = _next(events, drain_timeout_s)
        return _end(broker, event)


def _next(events: Events, timeout_s: float) -> Event:
    try:
        return events.get(timeout=timeout_s)
    except Empty:
        return "no time left"


def _end(broker: WorkerEnd, event: Event) -> int:
    if isinstance(event, BrokerError):
        raise SetupError(str(event)) from event
    if isinstance(event, Exception):
        # Nothing is handed back: what we hold may be the reason, and only a reclaim is counted against it.
        log.error("ending: %s", event)
        broker.flush(FLUSH_S)
        return _exit_at_once(FAILED)
    if event is not None:
        log.warning("%s: what is held goes back to the queue", event)
    broker.close()
    return OK if event is None else _exit_at_once(OK)


def _exit_at_once(status: int) -> NoReturn:
    """Threads may still be inside the device's library, where an orderly end of Python would crash."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)


@contextmanager
def _signals_to(events: Events) -> Iterator[None]:
    def put(number: int, frame: FrameType | None) -> None:
        events.put(STOP)

    before = {number: signal.signal(number, put) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
