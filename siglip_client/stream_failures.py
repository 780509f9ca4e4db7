"""When a stream that failed is opened again, and when its failure is the caller's."""

from __future__ import annotations

import random

from grpc import StatusCode

from siglip_client.status import FailedCall, pushback_s, reason_of

FIRST_S = 0.1
LONGEST_S = 3.0

_PASSING = {StatusCode.UNAVAILABLE, StatusCode.CANCELLED, StatusCode.DEADLINE_EXCEEDED}
# Of gRPC itself, when a connection breaks at the wrong moment. From the service they have a reason.
_PASSING_WITHOUT_REASON = {StatusCode.INTERNAL, StatusCode.UNKNOWN}


def reopen_wait_s(call: FailedCall, failures: int) -> float | None:
    """Seconds to wait after so many failures in a row; None: opening it again would not help."""
    wait_s = min(LONGEST_S, FIRST_S * 2.0 ** min(failures, 10) / 2)
    code = call.code()
    if code is StatusCode.RESOURCE_EXHAUSTED:
        told_s = pushback_s(call)
        if told_s is None:
            return None
        wait_s = max(wait_s, told_s)
    elif code not in _PASSING and (code not in _PASSING_WITHOUT_REASON or reason_of(call)):
        return None
    # Streams that were lost together should not come back together.
    return wait_s * random.uniform(0.75, 1.25)
