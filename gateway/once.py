"""Nothing is computed twice: an item is remembered, or joins equal work on its way, or is computed now."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import grpc

from broker import GatewayEnd, Row, SharedCache
from gateway.cache import Cache
from gateway.call import Call
from gateway.embedded import Embedded, Item
from gateway.errors import ItemFailure
from gateway.flights import Flight, Flights
from gateway.metrics import ModelMetrics
from siglip_settings import Tower

# Workers have died of it: those who wait for the same must not kill others.
POISON = "POISON_QUARANTINED"

Compute = Callable[[Sequence[int]], Awaitable[Embedded]]


class Once:
    """Of one model; several may share the cache. With one of 0 bytes only equal items of a call are one."""

    def __init__(
        self, broker: GatewayEnd, metrics: ModelMetrics, cache: Cache[Item], shared: SharedCache | None = None
    ) -> None:
        self._broker = broker
        self._metrics = metrics
        self._shared = shared
        self._flights = Flights() if cache.max_bytes else None
        self.cache = cache
        self._numerics: dict[Tower, set[str]] = {}

    async def embed(self, tower: Tower, keys: Sequence[bytes], compute: Compute, call: Call) -> Embedded:
        """An item for each key. `compute` gives those at some positions; it may be called again.

        Raises what it raises, and DeadlineExceeded.
        """
        position_of: dict[bytes, int] = {}
        for position, key in enumerate(keys):
            position_of.setdefault(key, position)
        found = await self._remembered(tower, position_of) if self._flights else {}
        computed = [Embedded([])]
        joined = len(keys) - len(position_of)
        while missing := [key for key in position_of if key not in found]:
            flights = self._flights.some(tower, missing, call) if self._flights else {}
            own = [key for key in missing if key not in flights]
            if own:
                positions = [position_of[key] for key in own]
                computed.append(await self._lead(tower, own, positions, compute, call))
                found.update(zip(own, computed[-1].items, strict=True))
            if flights:
                landed = await _landed(tower, flights, call)
                joined += len(landed)
                found |= landed
        call.at[tower] = "reply"
        self._metrics.cached(tower, "joined", joined)
        return _together([found[key] for key in keys], computed)

    async def numerics(self, tower: Tower) -> set[str]:
        """With what the tower's live workers compute; while there are none, what was last seen."""
        live = {worker.numerics for worker in await self._broker.workers(tower)}
        if live:
            self._numerics[tower] = live
        return self._numerics.get(tower, live)

    async def _remembered(self, tower: Tower, keys: Iterable[bytes]) -> dict[bytes, Item]:
        """What this gateway or another one knows, as one of the live workers could have computed it."""
        numerics = await self.numerics(tower)
        known = {key: item for key in keys if (item := self.cache.get(key)) and _fits(item, numerics)}
        refusals = sum(isinstance(item, ItemFailure) for item in known.values())
        self._metrics.cached(tower, "hit", len(known) - refusals)
        self._metrics.cached(tower, "refusal", refusals)
        unknown = [key for key in keys if key not in known]
        if not unknown or self._shared is None:
            return known
        rows = {k: row for k, row in (await self._shared.get(unknown)).items() if _fits(row, numerics)}
        for key, row in rows.items():
            self.cache.put(key, row, len(row.vector))
        self._metrics.cached(tower, "shared", len(rows))
        return {**known, **rows}

    async def _lead(
        self, tower: Tower, keys: Sequence[bytes], positions: Sequence[int], compute: Compute, call: Call
    ) -> Embedded:
        if self._flights is None:
            return await compute(positions)
        self._metrics.cached(tower, "miss", len(keys))
        with self._flights.lead(tower, keys, call) as landed:
            embedded = await compute(positions)
            for key, item in zip(keys, embedded.items, strict=True):
                if self._remember(key, item) or (isinstance(item, ItemFailure) and item.reason == POISON):
                    landed[key] = item
        return embedded

    def _remember(self, key: bytes, item: Item) -> bool:
        """Whether the content alone decided about the item."""
        if isinstance(item, ItemFailure):
            refused = item.code is grpc.StatusCode.INVALID_ARGUMENT
            if refused:
                self.cache.put(key, item, len(item.message))
            return refused
        if item.numerics:
            self.cache.put(key, item, len(item.vector))
            if self._shared:
                self._shared.put(key, item)
        return True


async def _landed(tower: Tower, flights: Mapping[bytes, Flight], call: Call) -> dict[bytes, Item]:
    """What others computed; without the keys that this call has to ask for itself."""
    with call.stage(tower, "queue"):
        items = [(key, await flight.wait(call.left_s())) for key, flight in flights.items()]
    return {key: item for key, item in items if item is not None}


def _fits(item: Item, numerics: set[str]) -> bool:
    return not isinstance(item, Row) or item.numerics in numerics


def _together(items: list[Item], computed: Sequence[Embedded]) -> Embedded:
    """The times of what was computed; usually that was one."""
    return Embedded(
        items,
        max(each.decode_us for each in computed),
        max(each.queue_us for each in computed),
        max(each.compute_us for each in computed),
    )
