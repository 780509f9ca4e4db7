"""Why the queue could not answer a call.

BrokerError
├── QueueFull            the queue, this gateway or the server's memory is full; try later
│   └── WouldBeLate      what waits already takes longer than the time given
├── NoWorkers            nobody has computed this tower for a while
├── DeadlineExceeded     the time given ran out
├── BrokerUnavailable    Redis cannot be reached, or refuses us
│   └── UnusableSettings no URL, or a URL or files that nothing can be done with
├── UnsuitableServer     Redis answers, but is too old or may evict queued work
└── FingerprintMismatch  gateway and worker were started with different weights
"""


class BrokerError(Exception):
    """Root of everything the queue raises."""


class QueueFull(BrokerError):
    """Refused before any work was done; `retry_after_s` says when trying again is worthwhile.

    `wall` names the limit that was met, for whoever counts refusals.
    """

    def __init__(self, message: str, retry_after_s: float, wall: str = "queue_entries") -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.wall = wall


class WouldBeLate(QueueFull):
    """There is room, but what waits takes longer than the caller does. The message is for the caller."""


class NoWorkers(BrokerError):
    """No worker of `tower` has been alive for a while."""

    def __init__(self, tower: str, absent_s: float) -> None:
        super().__init__(f"no {tower} worker has been alive for {absent_s:.0f} s")
        self.tower = tower


class DeadlineExceeded(BrokerError):
    """The time given ran out before all rows were answered."""


class BrokerUnavailable(BrokerError):
    """Redis cannot be reached, or refuses this user. The message names the URL without its password."""


class UnusableSettings(BrokerUnavailable):
    """No server is at fault: what is said of it cannot be used, and trying again does not help."""


class UnsuitableServer(BrokerError):
    """Redis answers, but its version or configuration would lose work."""


class FingerprintMismatch(BrokerError):
    """A worker with other weights or preprocessing read the work, and refused it."""
