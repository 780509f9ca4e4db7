"""What stands in Redis, as people see it; the shards of one queue are put together here."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from broker.jobs import JobClass, Tower, Work, WorkerInfo


@dataclass(frozen=True, slots=True)
class ServerView:
    """A Redis or Valkey server. `max_memory_bytes` 0: no limit; `address` is empty where there is but one."""

    name: str
    version: str
    memory_bytes: int
    max_memory_bytes: int
    policy: str
    round_trip_s: float
    clock_ahead_s: float
    """Of this machine's wall clock."""
    address: str = ""


@dataclass(frozen=True, slots=True)
class StreamView:
    """Entries of one tower and class. `oldest_s`: since when the longest waiting one does."""

    job_class: JobClass
    waiting: int
    running: int
    oldest_s: float


@dataclass(frozen=True, slots=True)
class TowerView:
    tower: Tower
    streams: list[StreamView]
    workers: list[tuple[WorkerInfo, Work]]
    dead_letters: int
    unserved: int = 0
    """Shards that gateways use and no worker serves, though others are served."""


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model's queue. `names` are those that live workers serve it under."""

    tag: str
    names: list[str]
    gateways: int
    towers: list[TowerView]
    shards: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class DeadLetter:
    """An entry, or one row of it, that was given up. Its payload is gone."""

    letter_id: str
    """Tower, tag, shard and the place in that stream: no other letter has it."""
    tag: str
    shard: int
    tower: Tower
    time_s: float
    """Of the server's clock, since the epoch."""
    reason: str
    deliveries: int
    row: int | None
    entry_id: str
    gateway_id: str
    shape: list[int]


def together(shards: Sequence[ModelView]) -> ModelView:
    """One model's queue from the views of its shards."""
    if len(shards) == 1:
        return shards[0]
    towers = [_tower(shards, position) for position in range(len(shards[0].towers))]
    names = sorted({name for shard in shards for name in shard.names})
    return ModelView(shards[0].tag, names, max(each.gateways for each in shards), towers, len(shards))


def _tower(shards: Sequence[ModelView], position: int) -> TowerView:
    parts = [shard.towers[position] for shard in shards]
    # Each lease tells of all that its worker does, some a moment later than others.
    leases = sorted((lease for part in parts for lease in part.workers), key=lambda lease: lease[1].rows)
    used = [part for shard, part in zip(shards, parts, strict=True) if shard.gateways]
    return TowerView(
        parts[0].tower,
        [_stream([part.streams[n] for part in parts]) for n in range(len(parts[0].streams))],
        list({info.worker_id: (info, work) for info, work in leases}.values()),
        sum(part.dead_letters for part in parts),
        unserved=sum(not part.workers for part in used) if leases else 0,
    )


def _stream(parts: Sequence[StreamView]) -> StreamView:
    waiting, running = sum(part.waiting for part in parts), sum(part.running for part in parts)
    oldest_s = max(part.oldest_s for part in parts)
    return replace(parts[0], waiting=waiting, running=running, oldest_s=oldest_s)
