"""Who is told to stop hands back what is left; nobody has died, and nothing is held against it."""

import asyncio

import pytest

from broker import Answer, EmbeddedServer, GatewayBroker, Job, Row, RowError
from broker.keys import GROUP, Keys
from tests.broker.conftest import Connect
from tests.broker.waiting import until
from tests.support.queue_worker import QueueWorker, compute, text_row, vector_of
from tests.support.valkey import looking

ROWS = [text_row(number) for number in (1, 2, 3)]
RIGHT = [Row(*vector_of(row)) for row in ROWS]


async def sent(gateway: GatewayBroker, url: str, tag: str) -> "asyncio.Task[Answer]":
    call = asyncio.create_task(gateway.embed("text", ROWS, (16,), "int32", deadline_s=30))
    with looking(url) as connection:
        await until(lambda: connection.xlen(Keys(tag).requests("text", "interactive")) == 1)
    return call


def die_with_it(url: str, tag: str, times: int) -> bytes:
    """As if that many workers had died with the only entry; its id."""
    stream = Keys(tag).requests("text", "interactive")
    with looking(url) as connection:
        connection.xreadgroup(GROUP, "dead", {stream: ">"})
        ((entry_id, _),) = connection.xrange(stream)
        connection.xclaim(stream, GROUP, "dead", 0, [entry_id], retrycount=times)
    return bytes(entry_id)


async def take(worker: QueueWorker) -> Job:
    """The next job, which comes alone."""
    async with asyncio.timeout(10):
        while not (jobs := await asyncio.to_thread(worker.broker.take, 64, 0.1)):
            pass
    (job,) = jobs
    return job


async def test_a_stop_between_rows_condemns_no_row(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(embedded)
    call = await sent(gateway, embedded.url, tag)
    entry_id = die_with_it(embedded.url, tag, times=2)
    stopped = QueueWorker(embedded.url, tag)
    first = await take(stopped)
    stopped.broker.reply([compute(first)])
    second = await take(stopped)
    assert [(job.row, job.quarantined) for job in (first, second)] == [(0, True), (1, True)]
    stopped.broker.drain()
    stopped.broker.close()
    with looking(embedded.url) as connection:
        mark = Keys(tag).running_row(Keys(tag).requests("text", "interactive"), entry_id)
        assert not connection.exists(mark)
    with QueueWorker(embedded.url, tag) as next_one:
        assert (await call).rows == RIGHT
    assert [job.row for job in next_one.jobs] == [0, 1, 2]
    assert next_one.broker.stats["dead_lettered"] == 0


async def test_a_stop_after_the_culprit_is_known_condemns_no_other(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(embedded)
    call = await sent(gateway, embedded.url, tag)
    entry_id = die_with_it(embedded.url, tag, times=3)
    with looking(embedded.url) as connection:
        connection.set(Keys(tag).running_row(Keys(tag).requests("text", "interactive"), entry_id), 1)
    stopped = QueueWorker(embedded.url, tag)
    stopped.broker.reply([compute(await take(stopped))])
    assert (await take(stopped)).row == 2
    stopped.broker.drain()
    stopped.broker.close()
    with QueueWorker(embedded.url, tag):
        first, second, third = (await call).rows
    assert (first, third) == (RIGHT[0], RIGHT[2])
    assert isinstance(second, RowError) and second.reason == "POISON_QUARANTINED"
    with looking(embedded.url) as connection:
        letters = connection.xrange(Keys(tag).dead_letters("text"))
        connection.delete(Keys(tag).dead_letters("text"))
    assert {fields[b"row"] for _, fields in letters} == {b"1"}


@pytest.mark.parametrize(("deaths", "rows"), [(0, [3]), (1, [3]), (2, [1, 1, 1])])
async def test_a_hand_back_counts_as_no_death(
    embedded: EmbeddedServer, tag: str, connect: Connect, deaths: int, rows: list[int]
) -> None:
    """However often it happens."""
    gateway = await connect(embedded)
    call = await sent(gateway, embedded.url, tag)
    if deaths:
        die_with_it(embedded.url, tag, deaths)
    for _ in range(4):
        stopped = QueueWorker(embedded.url, tag)
        await take(stopped)
        stopped.broker.close()
    with QueueWorker(embedded.url, tag) as last:
        assert (await call).rows == RIGHT
    assert [job.rows for job in last.jobs] == rows
