"""What is being computed right now: whoever wants the same waits for it instead of asking again.

A flight that its leader gives up, or that fails with it, tells nothing about the content: who waited then
asks for itself.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from broker import ROWS_PER_ENTRY, DeadlineExceeded, JobClass
from gateway.call import Call
from gateway.embedded import Item
from siglip_settings import Tower


@dataclass(slots=True, eq=False)
class Flight:
    """`landed` has the item, or None where whoever waits must ask for itself."""

    caller: str
    landed: "asyncio.Future[Item | None]" = field(default_factory=asyncio.Future)

    async def wait(self, left_s: float) -> Item | None:
        """Raises DeadlineExceeded after `left_s` seconds. Who leaves takes nobody along."""
        await asyncio.wait({self.landed}, timeout=left_s)
        if not self.landed.done():
            raise DeadlineExceeded(f"no answer in {left_s:.3f} s")
        return self.landed.result()


class Flights:
    def __init__(self) -> None:
        # Interactive work does not wait for batch work.
        self._flights: dict[tuple[JobClass, bytes], Flight] = {}
        self._rows_of: Counter[tuple[Tower, str]] = Counter()

    def some(self, tower: Tower, keys: Sequence[bytes], call: Call) -> dict[bytes, Flight]:
        """Those of the keys for which this call may wait.

        A caller that floods waits longest for its own work: others do not join it there.
        """
        flights = {key: flight for key in keys if (flight := self._flights.get((call.job_class, key)))}
        return {key: flight for key, flight in flights.items() if self._is_quick(tower, flight, call)}

    def _is_quick(self, tower: Tower, flight: Flight, call: Call) -> bool:
        same_caller = flight.caller == call.caller.name
        return same_caller or self._rows_of[tower, flight.caller] <= ROWS_PER_ENTRY[tower]

    @contextmanager
    def lead(self, tower: Tower, keys: Sequence[bytes], call: Call) -> Iterator[dict[bytes, Item]]:
        """While the block runs, others wait for these keys; it fills in what they get."""
        found: dict[bytes, Item] = {}
        flights = {key: Flight(call.caller.name) for key in keys}
        for key, flight in flights.items():
            self._flights.setdefault((call.job_class, key), flight)
        self._rows_of[tower, call.caller.name] += len(flights)
        try:
            yield found
        finally:
            self._rows_of[tower, call.caller.name] -= len(flights)
            if not self._rows_of[tower, call.caller.name]:
                del self._rows_of[tower, call.caller.name]
            self._land(call.job_class, flights, found)

    def _land(
        self, job_class: JobClass, flights: Mapping[bytes, Flight], found: Mapping[bytes, Item]
    ) -> None:
        for key, flight in flights.items():
            if self._flights.get((job_class, key)) is flight:
                del self._flights[job_class, key]
            flight.landed.set_result(found.get(key))
