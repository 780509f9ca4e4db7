"""Gathers a stream's items into groups of the queue's entry size, and sees each group through.

There is no timer: an item waits for others only while enough of its kind is in work anyway.
"""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import grpc

from broker import (
    ROWS_PER_ENTRY,
    BrokerUnavailable,
    DeadlineExceeded,
    NoWorkers,
    QueueFull,
)
from gateway.call import Call
from gateway.embedded import Embedded
from gateway.embedded import Item as Outcome
from gateway.errors import ItemFailure, Overloaded, TimeIsUp
from gateway.parts import Parts
from gateway.status import failure_of
from gateway.stream_items import TOWER_OF, Content, Item, Kind

log = logging.getLogger(__name__)

# So many groups of a kind keep its stages busy; with fewer in work, a part of a group goes at once.
_BUSY = 2
_FIRST_RETRY_S = 0.05
_MAX_RETRY_S = 2.0
_PASSING = (Overloaded, QueueFull, NoWorkers, BrokerUnavailable)


@dataclass(slots=True)
class Group:
    """Items of one kind. `since`: when the first was accepted, by `time.monotonic()`."""

    kind: Kind
    items: list[Item]
    contents: list[Content]
    since: float


Answered = Callable[[Group, Sequence[Outcome]], None]


class Groups:
    """`answered` gets each group with an outcome for each of its items; `broken`, what it raises."""

    def __init__(
        self, parts: Parts, call: Call, answered: Answered, broken: Callable[[Exception], None]
    ) -> None:
        self._parts, self._call, self._answered, self._broken = parts, call, answered, broken
        self._gathering: dict[Kind, Group] = {}
        self._in_work: Counter[Kind] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        most = call.caller.max_in_flight_rows
        self._sizes = {
            kind: min(ROWS_PER_ENTRY[tower], most or ROWS_PER_ENTRY[tower])
            for kind, tower in TOWER_OF.items()
        }

    def add(self, kind: Kind, item: Item, content: Content) -> None:
        group = self._gathering.get(kind)
        if group is None:
            group = self._gathering[kind] = Group(kind, [], [], time.monotonic())
        group.items.append(item)
        group.contents.append(content)
        if len(group.items) == self._sizes[kind]:
            self._start(kind)

    def flush(self, everything: bool = False) -> None:
        """Nothing more is at hand: starts what need not wait for more, or all."""
        for kind in list(self._gathering):
            if everything or self._in_work[kind] < _BUSY:
                self._start(kind)

    async def cancel(self) -> None:
        """Ends what is not answered."""
        for group in self._gathering.values():
            self._count(group, "CANCELLED")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, kind: Kind) -> None:
        group = self._gathering.pop(kind)
        self._in_work[kind] += 1
        task = asyncio.create_task(self._run(group))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, group: Group) -> None:
        try:
            self._answered(group, await self._outcomes(group))
        except asyncio.CancelledError:
            self._count(group, "CANCELLED")
            raise
        except Exception as error:
            self._broken(error)
        self._in_work[group.kind] -= 1
        self.flush()

    async def _outcomes(self, group: Group) -> Sequence[Outcome]:
        """Until the group's deadline it is tried again where trying again may help."""
        call = self._call_of(group)
        retry_s = _FIRST_RETRY_S
        while True:
            try:
                async with asyncio.timeout(call.left_s()):
                    return (await self._embedded(group, call)).items
            except TimeoutError:
                return self._failed(group, TimeIsUp(call.own_s))
            except Exception as error:
                if not isinstance(error, _PASSING) or call.left_s() <= retry_s:
                    return self._failed(group, error)
            await asyncio.sleep(random.uniform(0.5, 1.0) * retry_s)
            retry_s = min(_MAX_RETRY_S, retry_s * 2)

    async def _embedded(self, group: Group, call: Call) -> Embedded:
        parts, count = self._parts, len(group.items)
        size = sum(item.size for item in group.items) + count * parts.row_bytes(TOWER_OF[group.kind])
        async with parts.streams.work(count, size, call.caller):
            with parts.admission.admit(count, size, call.caller):
                return await _embed(parts, group, call)

    def _failed(self, group: Group, error: Exception) -> list[Outcome]:
        failure = failure_of(error)
        retryable = isinstance(error, (*_PASSING, DeadlineExceeded, TimeIsUp))
        item = ItemFailure(failure.code, failure.reason, failure.message, retryable)
        if failure.code is grpc.StatusCode.INTERNAL:
            log.error("items of a stream failed, request_id=%s", self._call.request_id, exc_info=error)
        self._count(group, item.reason)
        return [item] * len(group.items)

    def _count(self, group: Group, outcome: str) -> None:
        self._parts.metrics.items(TOWER_OF[group.kind], [outcome] * len(group.items))

    def _call_of(self, group: Group) -> Call:
        own_s = self._parts.settings.max_deadline_s
        return Call(
            self._call.method,
            self._call.request_id,
            deadline=group.since + own_s,
            own_s=own_s,
            caller=self._call.caller,
            job_class=self._call.job_class,
            started=group.since,
            tried_again=True,
        )


async def _embed(parts: Parts, group: Group, call: Call) -> Embedded:
    match group.kind:
        case "text":
            return await parts.embedder.texts(cast("list[str]", group.contents), call)
        case "image":
            return await parts.embedder.images(cast("list[bytes]", group.contents), call)
        case _:
            return await parts.embedder.rows(TOWER_OF[group.kind], cast("list[bytes]", group.contents), call)
