"""Bounds what this gateway has accepted and not yet answered. Refuses at once; nothing waits here."""

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.errors import Overloaded

# Long enough for a few batches to finish, short enough that a burst is not felt.
RETRY_AFTER_S = 0.5


class Admission:
    def __init__(self, max_rows: int, max_bytes: int) -> None:
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self.rows = 0
        self.bytes = 0

    @contextmanager
    def admit(self, rows: int, size: int) -> Iterator[None]:
        """Holds `rows` texts or images and `size` bytes while the block runs. Raises Overloaded.

        A call that is alone is always let in: what one call may hold has limits of its own.
        """
        if self.rows:
            _check("max_in_flight_rows", self._max_rows, rows, self.rows)
            _check("max_in_flight_bytes", self._max_bytes, size, self.bytes)
        self.rows += rows
        self.bytes += size
        try:
            yield
        finally:
            self.rows -= rows
            self.bytes -= size


def _check(limit_name: str, limit: int, asked: int, used: int) -> None:
    if used + asked > limit:
        raise Overloaded(limit_name, limit, asked, used, RETRY_AFTER_S)
