"""When a batch did what."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BatchTiming:
    """Nanoseconds since the epoch; `waited_s`: seconds that each job had been in the queue at the start."""

    waited_s: list[float]
    started_ns: int
    computed_ns: int
    replied_ns: int
