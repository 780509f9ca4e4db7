"""How long a stream is waited for, when one that ended is opened again, and whose failure is the caller's."""

from __future__ import annotations

import random
import time
from typing import Any

from grpc import StatusCode

from siglip_client.errors import DeadlineExceeded, SiglipError
from siglip_client.status import FailedCall, pushback_s, reason_of, to_exception
from siglip_client.stream_flow import Flow, Link

FIRST_S = 0.1
LONGEST_S = 3.0
# Whoever waits looks this often, at most and at least.
_LOOK_S = (0.05, 1.0)

_PASSING = {StatusCode.UNAVAILABLE, StatusCode.CANCELLED, StatusCode.DEADLINE_EXCEEDED}
# Of gRPC itself, when a connection breaks at the wrong moment. From the service they have a reason.
_PASSING_WITHOUT_REASON = {StatusCode.INTERNAL, StatusCode.UNKNOWN}


class Patience:
    """`calls`: those that are open, by their links."""

    def __init__(self, flow: Flow, timeout_s: float, address: str) -> None:
        self._flow, self._timeout_s, self._address = flow, timeout_s, address
        self.calls: dict[Link, Any] = {}
        self._last_failure: SiglipError | None = None

    def wait_s(self, since_s: float) -> float:
        """How long whoever waits since then waits for news; gives up silent links.

        Raises SiglipError when nothing moves. Time in the caller's hands does not count.
        """
        now = time.monotonic()
        stuck_s = self._flow.stuck_at_s(self._timeout_s, since_s)
        if now >= stuck_s:
            raise self._last_failure or DeadlineExceeded(f"no item was answered for {self._timeout_s:g} s")
        for link, call in self.calls.items():
            if now >= link.silent_s:
                call.cancel()
        least, most = _LOOK_S
        return max(least, min(most, stuck_s - now, *(link.silent_s - now for link in self.calls)))

    def heard(self) -> None:
        """The service lives."""
        self._last_failure = None

    def failed(self, error: Any, failures: int, request_id: str) -> float:
        """Seconds to wait after so many in a row. Raises what waiting does not cure."""
        failure = to_exception(error, self._address, request_id)
        wait_s = _reopen_wait_s(error, failures)
        if wait_s is None:
            raise failure from error
        self._last_failure = failure
        return wait_s


def failures_after(link: Link, failures: int) -> int:
    """In a row: a stream that was of use begins a new one."""
    if link.draining:
        return 0
    return 1 if link.answered else failures + 1


def backoff_s(failures: int) -> float:
    """Seconds to wait after so many failures in a row."""
    if not failures:
        return 0.0
    # Streams that were lost together should not come back together.
    return min(LONGEST_S, FIRST_S * 2.0 ** min(failures - 1, 10)) * random.uniform(0.75, 1.25)


def _reopen_wait_s(call: FailedCall, failures: int) -> float | None:
    code, wait_s = call.code(), backoff_s(failures)
    if code is StatusCode.RESOURCE_EXHAUSTED:
        told_s = pushback_s(call)
        return None if told_s is None else max(wait_s, told_s * random.uniform(1.0, 1.25))
    if code in _PASSING or (code in _PASSING_WITHOUT_REASON and not reason_of(call)):
        return wait_s
    return None
