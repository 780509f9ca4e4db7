"""A gateway's end of a queue in several shards: each is complete by itself, calls go to one of them."""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from broker.errors import BrokerError, BrokerUnavailable, NoWorkers, QueueFull
from broker.gateway import GatewayBroker
from broker.held import wait_for_event
from broker.jobs import Answer, Dtype, JobClass, StreamState, Tower, WorkerInfo
from broker.limits import GatewayLimits

log = logging.getLogger(__name__)

# Calls that wait in a shard which has been away for so long go to another one.
LEAVE_AFTER_S = 1.0
LOOK_EVERY_S = 0.25


class ShardedGateway:
    """Has the shorter one of two shards, chosen at random, do the work of a call."""

    def __init__(self, shards: list[GatewayBroker], towers: tuple[Tower, ...], limits: GatewayLimits) -> None:
        self._shards = shards
        self._towers = towers
        self._limits = limits
        # Since when a shard is away, or has no worker of a tower.
        self._away_s: dict[GatewayBroker, float] = {}
        self._unserved_s: dict[tuple[int, Tower], float] = {}
        self._told: set[tuple[int, Tower]] = set()
        self._closing = asyncio.Event()
        self._watching = asyncio.create_task(self._watch(), name="broker-shards")

    async def embed(
        self,
        tower: Tower,
        rows: Sequence[bytes],
        row_shape: tuple[int, ...],
        dtype: Dtype,
        *,
        deadline_s: float,
        job_class: JobClass = "interactive",
        caller: str = "",
        trace_context: str = "",
    ) -> Answer:
        """As `GatewayBroker.embed`; what one shard cannot do now is tried in the next."""
        until_s = time.monotonic() + deadline_s
        left = list(self._shards)
        while True:
            left.remove(shard := await self._shorter(tower, left))
            left_s = until_s - time.monotonic()
            try:
                return await shard.embed(
                    tower,
                    rows,
                    row_shape,
                    dtype,
                    deadline_s=left_s,
                    job_class=job_class,
                    caller=caller,
                    trace_context=trace_context,
                )
            except (BrokerUnavailable, NoWorkers, QueueFull) as error:
                if self._closing.is_set() or not self._is_worth_trying(tower, left, error):
                    raise

    async def workers(self, tower: Tower) -> list[WorkerInfo]:
        """Live workers of any shard: every worker should serve all of them."""
        found = {info.worker_id: info for shard in self._shards for info in await shard.workers(tower)}
        return list(found.values())

    def live_workers(self) -> dict[Tower, int]:
        """How many workers of each served tower the shard that has most of them sees."""
        seen = [shard.live_workers() for shard in self._shards]
        return {tower: max(each[tower] for each in seen) for tower in self._towers}

    def answered(self, tower: Tower) -> int:
        """Entries answered since the start."""
        return sum(shard.answered(tower) for shard in self._shards)

    async def depth(self, tower: Tower) -> int:
        """Entries in all shards."""
        return sum([await shard.depth(tower) for shard in self._shards])

    def streams(self) -> list[StreamState]:
        """Of each tower and class, all shards together: their entries, and the age of the oldest."""
        states = [state for shard in self._shards for state in shard.streams()]
        states.sort(key=_kind)
        return [_together(list(same)) for _, same in groupby(states, key=_kind)]

    @property
    def outage(self) -> BrokerUnavailable | None:
        """Why no shard can be used; None when one can."""
        outages = [shard.outage for shard in self._shards]
        return None if None in outages else outages[0]

    @property
    def stats(self) -> Counter[str]:
        """As of one shard, in sum."""
        return sum((shard.stats for shard in self._shards), Counter[str]())

    async def close(self) -> None:
        """Closes all shards."""
        self._closing.set()
        await self._watching
        await asyncio.gather(*(shard.close() for shard in self._shards))

    def _is_worth_trying(self, tower: Tower, left: list[GatewayBroker], error: BrokerError) -> bool:
        """Whoever is refused at once should not wait in vain for workers of the shard that is left."""
        there = [shard for shard in left if shard.outage is None]
        if isinstance(error, QueueFull) and self.live_workers()[tower]:
            return any(shard.live_workers()[tower] for shard in there)
        return bool(there)

    async def _shorter(self, tower: Tower, among: list[GatewayBroker]) -> GatewayBroker:
        """Of those with workers; else of those that are there, where workers may come; else of all."""
        served = [shard for shard in among if shard.live_workers()[tower]]
        able = served or [shard for shard in among if shard.outage is None] or among
        two = random.sample(able, min(2, len(able)))
        depths = [await shard.depth(tower) for shard in two]
        return two[depths.index(min(depths))]

    async def _watch(self) -> None:
        while not await wait_for_event(self._closing, LOOK_EVERY_S):
            try:
                self._leave_the_absent()
                self._look_for_unserved()
            except Exception:
                # Whatever it was, calls wait for this task: it goes on.
                log.exception("the shards cannot be watched")

    def _leave_the_absent(self) -> None:
        if self.outage:
            return
        now_s = time.monotonic()
        for shard in self._shards:
            if shard.outage is None:
                self._away_s.pop(shard, None)
            elif now_s - self._away_s.setdefault(shard, now_s) > LEAVE_AFTER_S:
                shard.give_up(str(shard.outage))

    def _look_for_unserved(self) -> None:
        """Gateways and workers that disagree about the number of shards must not go unnoticed."""
        now_s = time.monotonic()
        for tower in self._towers:
            served = [bool(shard.live_workers()[tower]) for shard in self._shards]
            for number, shard in enumerate(self._shards):
                which = (number, tower)
                if served[number] or not any(served) or shard.outage:
                    self._unserved_s.pop(which, None)
                    self._told.discard(which)
                elif now_s - self._unserved_s.setdefault(which, now_s) > self._limits.no_worker_timeout_s:
                    self._tell(which)

    def _tell(self, which: tuple[int, Tower]) -> None:
        if which not in self._told:
            self._told.add(which)
            number, tower = which
            log.error(
                "no %s worker serves shard %d of %d, others are served: "
                "start workers and gateways with the same --redis-shards",
                tower, number + 1, len(self._shards),
            )  # fmt: skip


def _kind(state: StreamState) -> tuple[str, str]:
    return state.tower, state.job_class


def _together(same: list[StreamState]) -> StreamState:
    oldest_s = max(state.oldest_s for state in same)
    entries = sum(state.entries for state in same)
    return StreamState(same[0].tower, same[0].job_class, entries, oldest_s)
