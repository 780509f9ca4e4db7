"""Finds work that its reader will not finish: workers without a lease, and workers that hang."""

import contextlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import WatchError

from broker.in_hand import Entry, InHand
from broker.jobs import Tower
from broker.keys import GROUP, Keys, worker_name
from broker.timing import WorkerTiming

# An entry is handed back with this idle time; nothing else ever gets so old.
HANDED_BACK_MS = 3_600_000
LOOK_AT = 32


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """An entry that is ours now. All `deliveries` but the last, ours, ended with a worker that died or hung.

    `row` is the one that ran when the last of them did, if it ran row by row.
    """

    stream: str
    entry_id: bytes
    fields: dict[bytes, bytes]
    deliveries: int
    row: int | None = None

    @property
    def suspect(self) -> bool:
        """Whether a worker died or hung with it."""
        return self.deliveries > 1


class Reclaimer:
    """Claims other workers' abandoned entries: innocent ones freely, suspect ones one at a time."""

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        tower: Tower,
        worker_id: str,
        hand: InHand,
        timing: WorkerTiming,
    ) -> None:
        self._client = client
        self._keys = keys
        self._tower = tower
        self._me = worker_id
        self._hand = hand
        self._dead_idle_ms = int(timing.dead_idle_s * 1000)
        self._hung_idle_ms = int(timing.hung_idle_s * 1000)
        self._stale_consumer_ms = int(timing.stale_consumer_s * 1000)

    def claim(self, most: int, *, lost_own: bool = False) -> list[Reclaimed]:
        """Up to `most` innocent entries, or one suspect. `lost_own`: also what we read but never received."""
        for stream, group in self._consumers().items():
            alive = self._alive(consumer["name"] for consumer in group)
            for consumer in group:
                name = consumer["name"]
                if consumer["pending"]:
                    min_idle_ms = self._min_idle_ms(name, name in alive, lost_own)
                    if found := self._claim_from(stream, name, min_idle_ms, most):
                        return found
                elif name not in alive and consumer["idle"] > self._stale_consumer_ms:
                    self._delete_consumer(stream, name)
        return []

    def _consumers(self) -> dict[str, list[dict[str, Any]]]:
        return consumers(self._client, self._keys.all_requests(self._tower))

    def _alive(self, names: Iterable[bytes]) -> set[bytes]:
        asked = list(names)
        if not asked:
            return set()
        leases = self._client.mget([self._keys.lease(self._tower, name) for name in map(worker_name, asked)])
        return {name for name, lease in zip(asked, leases, strict=True) if lease is not None}

    def _min_idle_ms(self, name: bytes, alive: bool, lost_own: bool) -> int:
        if name == self._me.encode():
            return 0 if lost_own else self._hung_idle_ms
        return self._hung_idle_ms if alive else self._dead_idle_ms

    def _claim_from(self, stream: str, name: bytes, min_idle_ms: int, most: int) -> list[Reclaimed]:
        mine = set(self._hand.entries())
        pending: Any = self._client.xpending_range(
            stream, GROUP, "-", "+", LOOK_AT + len(mine), consumername=name, idle=min_idle_ms
        )
        found: list[Reclaimed] = []
        for entry in pending:
            handed_back = entry["time_since_delivered"] >= HANDED_BACK_MS // 2
            # Who hands back has not died: that delivery is not counted.
            deliveries = entry["times_delivered"] + (0 if handed_back else 1)
            if (stream, entry["message_id"]) in mine or (found and deliveries > 1):
                continue
            if claimed := self._claim_one(stream, entry["message_id"], min_idle_ms, deliveries):
                found.append(claimed)
            if found and (found[-1].suspect or len(found) == most):
                break
        return found

    def _claim_one(self, stream: str, entry_id: bytes, min_idle_ms: int, deliveries: int) -> Reclaimed | None:
        """None when another worker was quicker, or the gateway has withdrawn the entry."""
        pipe = self._client.pipeline(transaction=False)
        pipe.xclaim(stream, GROUP, self._me, min_idle_ms, [entry_id], retrycount=deliveries)
        pipe.get(self._keys.running_row(stream, entry_id))
        claimed, mark = pipe.execute(raise_on_error=False)
        if isinstance(claimed, BaseException):
            raise claimed
        if not claimed:
            return None
        return Reclaimed(stream, entry_id, claimed[0][1], deliveries, _row_of(mark))

    def _delete_consumer(self, stream: str, name: bytes) -> None:
        """Unless it reads in this very moment: deleting a consumer loses what it holds."""
        with self._client.pipeline(transaction=True) as pipe:
            pipe.watch(stream)  # type: ignore[no-untyped-call]
            held: dict[bytes, int] = defaultdict(int)
            for consumer in pipe.xinfo_consumers(stream, GROUP):
                held[consumer["name"]] = consumer["pending"]
            if held[name]:
                return
            pipe.multi()
            pipe.xgroup_delconsumer(stream, GROUP, name)
            try:
                pipe.execute()
            except WatchError:
                return


def consumers(client: redis.Redis, streams: list[str]) -> dict[str, list[dict[str, Any]]]:
    """The group's members on each stream, with what they hold."""
    pipe = client.pipeline(transaction=False)
    for stream in streams:
        pipe.xinfo_consumers(stream, GROUP)
    return dict(zip(streams, pipe.execute(), strict=True))


def _row_of(mark: object) -> int | None:
    """The row that a mark names; None when there is no mark, or none of ours."""
    with contextlib.suppress(ValueError):
        return int(mark) if isinstance(mark, bytes) else None
    return None


def hand_back(client: redis.Redis, worker_id: str, entries: list[Entry], marks: Iterable[str] = ()) -> None:
    """Others may take these at once, as if they had never been read; `marks` are keys that say otherwise."""
    pipe = client.pipeline(transaction=False)
    # First, lest it be the next owner's mark.
    for mark in marks:
        pipe.delete(mark)
    for stream, entry_id in entries:
        pipe.xclaim(stream, GROUP, worker_id, 0, [entry_id], idle=HANDED_BACK_MS, justid=True)
    pipe.execute(raise_on_error=False)


def leave(client: redis.Redis, worker_id: str, streams: list[str]) -> None:
    """Removes a worker from the groups where it holds nothing; elsewhere its entries would be lost."""
    for stream, group in consumers(client, streams).items():
        for consumer in group:
            if consumer["name"] == worker_id.encode() and not consumer["pending"]:
                client.xgroup_delconsumer(stream, GROUP, worker_id)
