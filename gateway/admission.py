"""Bounds what this gateway has accepted and not yet answered. Refuses at once; nothing waits here.

Each caller may hold a fair share, which shrinks as others come.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from broker import fair_share
from gateway.access import Caller
from gateway.errors import InvalidRequest, Overloaded, Violation

# Long enough for a few batches to finish, short enough that a burst is not felt.
RETRY_AFTER_S = 0.5


class Admission:
    def __init__(self, max_rows: int, max_bytes: int) -> None:
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self.rows = 0
        self.bytes = 0
        self._rows_of: Counter[str] = Counter()
        self._bytes_of: Counter[str] = Counter()

    @contextmanager
    def admit(self, rows: int, size: int, caller: Caller) -> Iterator[None]:
        """Holds `rows` texts or images and `size` bytes while the block runs. Raises Overloaded.

        A caller's only call is let in wherever there is room, and a call that is alone always: what one
        call may hold has limits of its own. Raises InvalidRequest for a call that never fits its caller's.
        """
        name, most = caller.name, caller.max_in_flight_rows
        if most is not None and rows > most:
            raise InvalidRequest([_never_fits(rows, most, name)])
        if self.rows:
            self._check("max_in_flight_rows", self._max_rows, rows, self.rows, self._rows_of[name])
            self._check("max_in_flight_bytes", self._max_bytes, size, self.bytes, self._bytes_of[name])
        own = self._rows_of[name]
        if most is not None and own + rows > most:
            whose = f"caller {name}"
            raise Overloaded("max_in_flight_rows", most, rows, own, RETRY_AFTER_S, whose, "token_bound")
        self._hold(name, rows, size)
        try:
            yield
        finally:
            self._hold(name, -rows, -size)

    def _hold(self, name: str, rows: int, size: int) -> None:
        self.rows += rows
        self.bytes += size
        self._rows_of[name] += rows
        self._bytes_of[name] += size
        if not self._rows_of[name]:
            del self._rows_of[name], self._bytes_of[name]

    def _check(self, limit_name: str, limit: int, asked: int, used: int, own: int) -> None:
        if used + asked > limit:
            raise Overloaded(limit_name, limit, asked, used, RETRY_AFTER_S)
        share = fair_share(limit, used)
        if own and own + asked > share:
            raise Overloaded(limit_name, share, asked, own, RETRY_AFTER_S, "the fair share", "fair_share")


def _never_fits(rows: int, most: int, name: str) -> Violation:
    message = f"{rows} texts and images given, at most {most} allowed (max_in_flight_rows of caller {name})"
    return Violation("request", "LIMIT_EXCEEDED", message)
