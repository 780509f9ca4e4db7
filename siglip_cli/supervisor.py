"""Keeps the service's processes alive until told to stop, and then stops them in order."""

import logging
import time
from collections.abc import Callable, Sequence

from siglip_cli.child import Child
from siglip_cli.stop_signals import StopSignals

log = logging.getLogger("siglip.serve")

READY_POLL_S = 0.1
IDLE_POLL_S = 5.0
"""Only a safeguard: a signal, and with it a child's death, ends the wait at once."""


class NotReady(Exception):
    """The service did not become ready in time."""


def keep_alive(
    children: Sequence[Child],
    signals: StopSignals,
    *,
    is_ready: Callable[[], bool],
    announce: Callable[[], None],
    also_tend: Callable[[], None] = lambda: None,
    start_timeout_s: float,
) -> None:
    """Starts the children, announces once they are ready, and returns when a stop is asked for.

    Raises ConfigurationFailed when a child says so, NotReady when `start_timeout_s` is over.
    """
    deadline = time.monotonic() + start_timeout_s
    ready = False
    while not signals.count:
        also_tend()
        for child in children:
            child.tend()
        if not ready:
            ready = _became_ready(children, is_ready, announce)
            if not ready and time.monotonic() >= deadline:
                raise NotReady(f"not ready after {start_timeout_s:g} s (--start-timeout-s)")
        signals.wait(_until_next_task(children, ready))


def stop_in_order(groups: Sequence[Sequence[Child]], signals: StopSignals, *, timeout_s: float) -> bool:
    """Stops one group after the other; what outlives `timeout_s`, or a second signal, is killed.

    True when every child ended by itself.
    """
    impatient_at = signals.count + 1
    all_by_themselves = True
    for group in groups:
        deadline = time.monotonic() + timeout_s
        for child in group:
            child.terminate()
        while _running(group) and time.monotonic() < deadline and signals.count < impatient_at:
            signals.wait(deadline - time.monotonic())
        for child in _running(group):
            log.warning("killing %s, which did not stop by itself", child.name)
            child.kill()
            all_by_themselves = False
    return all_by_themselves


def _became_ready(
    children: Sequence[Child], is_ready: Callable[[], bool], announce: Callable[[], None]
) -> bool:
    if not is_ready():
        return False
    for child in children:
        child.has_served = True
    announce()
    return True


def _until_next_task(children: Sequence[Child], ready: bool) -> float:
    pause_s = IDLE_POLL_S if ready else READY_POLL_S
    due = [child.due_at - time.monotonic() for child in children if child.due_at is not None]
    return min([pause_s, *due])


def _running(group: Sequence[Child]) -> list[Child]:
    return [child for child in group if child.running]
