"""How often a worker does what, and for how long it waits."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class WorkerTiming:
    """Rhythms of a worker's end; the defaults suit production, tests shorten them."""

    lease_s: float = 1.5
    beat_every_s: float = 0.5
    # Looking for the work of dead workers.
    scan_every_s: float = 0.5
    dead_idle_s: float = 0.2
    # A live worker that has held an entry so long without renewing it hangs.
    hung_idle_s: float = 15.0
    # No reply and no progress() for so long, with work in hand: the lease ends.
    stall_after_s: float = 15.0
    stale_consumer_s: float = 60.0
    # An entry that was with so many workers that died is given up, or its last row is.
    max_deliveries: int = 3
