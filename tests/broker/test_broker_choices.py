"""Small decisions of shards and lanes that no run of the whole queue shows."""

import threading
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from broker import GatewayLimits, NoWorkers, QueueFull
from broker.lane import Lane
from broker.sharded_gateway import ShardedGateway


def shard(workers: int) -> Any:
    return SimpleNamespace(outage=None, live_workers=lambda: {"text": workers})


@pytest.mark.parametrize(
    ("refused_by", "left", "error", "is_tried"),
    [
        (1, 0, QueueFull("full", 1.0), False),
        (1, 1, QueueFull("full", 1.0), True),
        (0, 0, QueueFull("full", 1.0), True),
        (0, 1, NoWorkers("text", 10.0), True),
    ],
)
async def test_a_refused_call_is_not_left_to_wait_where_nobody_works(
    refused_by: int, left: int, error: Exception, is_tried: bool
) -> None:
    first, other = shard(refused_by), shard(left)
    gateway = ShardedGateway([first, other], ("text",), GatewayLimits())
    assert gateway._is_worth_trying("text", [other], error) is is_tried  # type: ignore[arg-type]
    gateway._watching.cancel()


def test_a_shard_that_has_not_told_yet_is_not_asked_again() -> None:
    job: Any = object()
    broker: Any = SimpleNamespace(worth_asking=list, connected=True, withdrawn=lambda jobs: jobs)
    lane = Lane(broker, threading.Condition(), lambda: 0)
    first: Future[Any] = lane.ask([job])
    assert not first.done() and lane.ask([job]).result(0) == []
    told = lane._errands.get()
    assert told
    told()
    assert first.result(0) == [job] and not lane.ask([job]).done()
