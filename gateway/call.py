"""One call on its way through the gateway: its identity, its deadline and its clock."""

import re
import time
import uuid
from dataclasses import dataclass, field

from broker import JobClass
from gateway.access import Caller

UNKNOWN = Caller("")
_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


@dataclass(slots=True)
class Call:
    """What the methods know of a call beside its request.

    `deadline` and `started` are in seconds of `time.monotonic()`.
    """

    method: str
    request_id: str
    deadline: float
    caller: Caller = UNKNOWN
    job_class: JobClass = "interactive"
    started: float = field(default_factory=time.monotonic)
    items: int = 0

    def left_s(self) -> float:
        """Seconds until the deadline; never negative."""
        return max(0.0, self.deadline - time.monotonic())

    def elapsed_us(self) -> int:
        return microseconds_since(self.started)


def microseconds_since(start: float) -> int:
    """Microseconds since `start`, a reading of `time.monotonic()`."""
    return round((time.monotonic() - start) * 1e6)


def request_id_from(given: str | bytes | None) -> str:
    """The client's id when it is 1 to 128 letters, digits or `._:/+=-`; otherwise a new one."""
    if isinstance(given, str) and _SANE_ID.fullmatch(given):
        return given
    return uuid.uuid4().hex
