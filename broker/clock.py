"""The clock of the Redis server, so that clocks of different machines never meet."""

import time
from collections import deque


class ServerClock:
    """Tells the server's time from this machine's monotonic clock; steps of the wall clock do not matter."""

    def __init__(self) -> None:
        # (round trip, server time minus monotonic time), both in seconds
        self._samples: deque[tuple[float, float]] = deque([(float("inf"), time.time() - time.monotonic())], 8)

    def observe(self, sent_s: float, received_s: float, server_time: tuple[int, int]) -> None:
        """Takes one reply of TIME; `sent_s` and `received_s` are readings of time.monotonic()."""
        seconds, micros = server_time
        middle_s = (sent_s + received_s) / 2
        self._samples.append((received_s - sent_s, seconds + micros / 1e6 - middle_s))

    def now_ms(self) -> float:
        """Milliseconds of the server's clock since the epoch."""
        _, offset_s = min(self._samples)
        return (time.monotonic() + offset_s) * 1000
