"""Callers take turns, and none of them gets everything."""

import asyncio
import time

import pytest

from broker import EmbeddedServer, GatewayBroker, QueueFull
from broker.held import Waiting
from broker.jobs import ROWS_PER_ENTRY
from broker.line import Line
from broker.sender import WINDOW_WHILE_PACE_IS_UNKNOWN
from tests.broker.conftest import Connect
from tests.broker.waiting import until
from tests.support.queue_worker import QueueWorker, text_row

TURN = ROWS_PER_ENTRY["text"]


def embed(
    gateway: GatewayBroker, caller: str, rows: int = 1, deadline_s: float = 30
) -> "asyncio.Task[object]":
    call = gateway.embed("text", [text_row(1)] * rows, (16,), "int32", deadline_s=deadline_s, caller=caller)
    return asyncio.create_task(call)


def waiting(caller: str, number: int, rows: int = TURN) -> Waiting:
    job_id = f"{caller}{number}".encode()
    return Waiting(job_id, "text", "stream", caller, b"", b"", rows, asyncio.Future())


async def order(line: Line[Waiting]) -> str:
    names = []
    while entry := line.pop():
        names.append(entry.job_id.decode())
    return " ".join(names)


async def test_callers_take_turns() -> None:
    line = Line[Waiting](TURN)
    for entry in [waiting("a", n) for n in range(4)] + [waiting("b", 0), waiting("c", 0), waiting("c", 1)]:
        line.add(entry)
    assert len(line) == 7
    assert await order(line) == "a0 b0 c0 a1 c1 a2 a3"
    assert len(line) == 0


async def test_a_turn_is_a_number_of_rows_not_of_entries() -> None:
    line = Line[Waiting](TURN)
    for n in range(3):
        line.add(waiting("big", n))
    for n in range(6):
        line.add(waiting("small", n, rows=TURN // 4))
    assert await order(line) == "big0 small0 small1 small2 small3 big1 small4 small5 big2"


async def test_who_leaves_gives_the_turn_away_and_a_new_one_is_whole() -> None:
    line = Line[Waiting](TURN)
    first, second = waiting("a", 0, rows=TURN // 2), waiting("a", 1, rows=TURN // 2)
    other = waiting("b", 0)
    for entry in (first, second, other):
        line.add(entry)
    assert line.pop() is first
    line.remove(second)
    line.remove(second)
    assert (len(line), line.pop(), line.pop()) == (1, other, None)


async def test_how_many_go_before() -> None:
    line = Line[Waiting](TURN)
    assert line.ahead("a", TURN) == 0
    for n in range(100):
        line.add(waiting("flood", n))
    assert line.ahead("flood", TURN) == 100
    assert line.ahead("a", TURN) == 1
    assert line.ahead("a", 3 * TURN) == 3
    line.add(waiting("a", 0))
    assert line.ahead("a", TURN) == 1 + 2
    for n in range(TURN):
        line.add(waiting("small", n, rows=1))
    assert line.ahead("b", TURN) == 1 + 1 + TURN


async def test_a_flood_does_not_delay_others(embedded: EmbeddedServer, tag: str, connect: Connect) -> None:
    """A patient caller has four hundred entries in the queue; another's turn comes at once."""
    gateway = await connect(embedded)
    flood = [embed(gateway, "flood") for _ in range(400)]
    await until(lambda: gateway._held.depth.total() == WINDOW_WHILE_PACE_IS_UNKNOWN)
    urgent = embed(gateway, "other", deadline_s=10)
    with QueueWorker(embedded.url, tag, max_rows=8, on_jobs=lambda jobs: time.sleep(0.005 * len(jobs))):
        await urgent
        unanswered = sum(not call.done() for call in flood)
        await asyncio.gather(*flood)
    assert unanswered > 200


async def test_who_floods_leaves_room_for_others(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(embedded, queue_max_entries=100)
    flood = [embed(gateway, "flood") for _ in range(100)]
    await asyncio.sleep(0)
    refused = [call for call in flood if call.done()]
    assert len(refused) == 20
    for call in refused:
        with pytest.raises(
            QueueFull, match=r"80 entries of the queue are this caller's; 1 more .* share of 80"
        ):
            await call
    others = [embed(gateway, f"other-{n % 3}") for n in range(9)]
    heavy = [embed(gateway, "heavy", rows=64) for _ in range(4)]
    with QueueWorker(embedded.url, tag):
        await asyncio.gather(*others, *heavy, *(call for call in flood if call not in refused))


async def test_bytes_are_shared_too(embedded: EmbeddedServer, connect: Connect) -> None:
    gateway = await connect(embedded, max_in_flight_bytes=64 * 100)
    flood = [embed(gateway, "flood", rows=10) for _ in range(10)]
    await asyncio.sleep(0)
    refused = [call for call in flood if call.done()]
    assert len(refused) == 2
    for call in refused:
        with pytest.raises(QueueFull, match=r"bytes in flight are this caller's; 640 more .* share of 5120"):
            await call
    other = embed(gateway, "other", rows=10)
    await asyncio.sleep(0)
    assert not other.done()
    for call in [*flood, other]:
        call.cancel()
    await asyncio.gather(*flood, other, return_exceptions=True)
    assert gateway._room.used_bytes == 0
