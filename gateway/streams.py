"""All streams of a gateway: how many there may be, what they have in work together, and their end."""

from asyncio import Future, get_running_loop
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from broker import fair_share
from gateway.access import Caller
from gateway.errors import Overloaded, Stopping
from siglip_settings import GatewaySettings

RETRY_AFTER_S = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    rows: int
    size: int
    caller: Caller
    admitted: "Future[None]"


class Streams:
    """`max_rows` and `max_bytes` bound what streams have in work: the rest is for other calls."""

    def __init__(self, most: int, max_rows: int, max_bytes: int) -> None:
        self._most = most
        self._max_rows, self._max_bytes = max_rows, max_bytes
        self.rows = self._bytes = 0
        self._rows_of: Counter[str] = Counter()
        self._waiting: dict[_Waiting, None] = {}
        self._streams_of: Counter[str] = Counter()
        self._leave: dict[Callable[[], None], None] = {}
        self._stopping = False

    @property
    def count(self) -> int:
        """How many there are."""
        return self._streams_of.total()

    @classmethod
    def of(cls, settings: GatewaySettings) -> "Streams":
        """Half of what the gateway may have in work is left to other calls."""
        rows, size = settings.max_in_flight_rows // 2, settings.max_in_flight_bytes // 2
        return cls(settings.max_streams, rows, size)

    @contextmanager
    def one(self, caller: str, leave: Callable[[], None]) -> Iterator[None]:
        """Counts a stream while the block runs; `leave` asks it to end. Raises Overloaded, Stopping."""
        if self._stopping:
            raise Stopping
        used, own = self.count, self._streams_of[caller]
        share = fair_share(self._most, used)
        if used >= self._most:
            raise Overloaded("max_streams", self._most, 1, used, RETRY_AFTER_S)
        if own and own >= share:
            raise Overloaded("max_streams", share, 1, own, RETRY_AFTER_S, "the fair share", "fair_share")
        self._streams_of[caller] += 1
        self._leave[leave] = None
        try:
            yield
        finally:
            del self._leave[leave]
            self._streams_of[caller] -= 1
            self._streams_of += Counter()  # forgets who has none

    def drain(self) -> None:
        """From now on there are no new ones, and all are asked to end."""
        self._stopping = True
        for leave in list(self._leave):
            leave()

    @asynccontextmanager
    async def work(self, rows: int, size: int, caller: Caller) -> AsyncIterator[None]:
        """Waits until streams may have so much more in work, and holds it while the block runs."""
        if self._waiting or not self._fits(rows, size, caller):
            await self._turn(rows, size, caller)
        else:
            self._hold(rows, size, caller.name)
        try:
            yield
        finally:
            self._hold(-rows, -size, caller.name)
            self._admit_waiting()

    async def _turn(self, rows: int, size: int, caller: Caller) -> None:
        waiting = _Waiting(rows, size, caller, get_running_loop().create_future())
        self._waiting[waiting] = None
        self._admit_waiting()
        try:
            await waiting.admitted
        except BaseException:
            if waiting in self._waiting:
                del self._waiting[waiting]
            else:  # cancelled at the very moment that it was let in
                self._hold(-rows, -size, caller.name)
            self._admit_waiting()
            raise

    def _admit_waiting(self) -> None:
        """In the order of their coming; who is at a bound of its own keeps no others waiting."""
        for waiting in list(self._waiting):
            if not self._fits(waiting.rows, waiting.size, waiting.caller):
                continue
            del self._waiting[waiting]
            self._hold(waiting.rows, waiting.size, waiting.caller.name)
            if not waiting.admitted.done():
                waiting.admitted.set_result(None)

    def _fits(self, rows: int, size: int, caller: Caller) -> bool:
        """What is alone always does: one group has limits of its own."""
        own, most = self._rows_of[caller.name], caller.max_in_flight_rows
        if most is not None and own and own + rows > most:
            return False
        if not self.rows:
            return True
        return self.rows + rows <= self._max_rows and self._bytes + size <= self._max_bytes

    def _hold(self, rows: int, size: int, caller: str) -> None:
        self.rows += rows
        self._bytes += size
        self._rows_of[caller] += rows
        if not self._rows_of[caller]:
            del self._rows_of[caller]
