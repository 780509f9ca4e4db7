"""Workers die, hang and leave; every request still ends exactly once."""

import asyncio
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import redis

from broker import Answer, EmbeddedServer, GatewayBroker, Job, Row, RowError
from broker.keys import Keys
from tests.broker.conftest import Connect
from tests.broker.waiting import until
from tests.support.queue_worker import (
    HANGS,
    KILLS,
    QUICK,
    QueueWorker,
    compute,
    start_process,
    text_row,
    vector_of,
)
from tests.support.valkey import looking


@contextmanager
def process(url: str, tag: str, worker_id: str = "") -> Iterator["subprocess.Popen[bytes]"]:
    worker = start_process(url, tag, worker_id=worker_id)
    try:
        yield worker
    finally:
        worker.kill()
        worker.wait()


def embed(gateway: GatewayBroker, *rows: bytes, deadline_s: float = 30) -> "asyncio.Task[Answer]":
    return asyncio.create_task(gateway.embed("text", rows, (16,), "int32", deadline_s=deadline_s))


def pending_of(url: str, tag: str, worker_id: str) -> int:
    with looking(url) as connection:
        groups = connection.xinfo_consumers(Keys(tag).requests("text", "interactive"), "workers")
    return sum(group["pending"] for group in groups if group["name"] == worker_id.encode())


@pytest.mark.fault(1)
async def test_what_a_killed_worker_held_is_answered_by_another(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(embedded)
    rows = [text_row(number) for number in range(20)]
    hanging, *calls = [embed(gateway, row) for row in (text_row(HANGS), *rows)]
    await until(lambda: depth(embedded.url, tag) == 21)
    with process(embedded.url, tag, "victim") as victim:
        await until(lambda: pending_of(embedded.url, tag, "victim") >= 8)
        held = pending_of(embedded.url, tag, "victim")
        hanging.cancel()
        await until(lambda: depth(embedded.url, tag) == 20)
        victim.kill()
    with QueueWorker(embedded.url, tag) as rescuer:
        answers = await asyncio.gather(*calls)
    assert [answer.rows for answer in answers] == [[Row(*vector_of(row))] for row in rows]
    assert rescuer.broker.stats["reclaimed"] == held - 1
    assert len(rescuer.jobs) == len(rows)  # each once


def depth(url: str, tag: str) -> int:
    with looking(url) as connection:
        return int(connection.xlen(Keys(tag).requests("text", "interactive")))


@pytest.mark.fault(1)
async def test_what_a_reader_without_a_lease_held_is_reclaimed_alone_but_whole(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(embedded)
    call = embed(gateway, text_row(1), text_row(2))
    await until(lambda: depth(embedded.url, tag) == 1)
    read_as(embedded.url, tag, "victim")
    with QueueWorker(embedded.url, tag) as rescuer:
        assert (await call).rows == [Row(*vector_of(text_row(n))) for n in (1, 2)]
    assert rescuer.broker.stats["reclaimed"] == 1
    assert [job.rows for job in rescuer.jobs] == [2]


def _alive(url: str, tag: str) -> bool:
    with looking(url) as connection:
        return any(connection.scan_iter(match=f"{{siglip:{tag}:0}}:lease:*"))


@pytest.mark.fault(3)
async def test_only_the_row_that_kills_workers_fails(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(embedded)
    poisoned = [text_row(1), text_row(KILLS), text_row(2)]
    neighbours = [text_row(number) for number in range(10, 20)]
    calls = [embed(gateway, *poisoned), *(embed(gateway, row) for row in neighbours)]
    deaths = 0
    while not all(call.done() for call in calls):
        with process(embedded.url, tag) as worker:
            await until(lambda w=worker: w.poll() is not None or all(call.done() for call in calls))
            deaths += worker.poll() == -signal.SIGKILL
    poisoned_answer, *others = [call.result().rows for call in calls]
    assert others == [[Row(*vector_of(row))] for row in neighbours]
    assert poisoned_answer[0] == Row(*vector_of(poisoned[0]))
    assert poisoned_answer[2] == Row(*vector_of(poisoned[2]))
    error = poisoned_answer[1]
    assert isinstance(error, RowError)
    assert (error.reason, error.retryable) == ("POISON_QUARANTINED", False)
    assert deaths == 3
    letter = _take_dead_letter(embedded.url, tag)
    assert (letter[b"reason"], letter[b"row"], letter[b"deliveries"]) == (b"POISON_QUARANTINED", b"1", b"4")
    assert poisoned[0] not in b"".join(letter.values())  # never a payload


@pytest.mark.fault(3)
async def test_an_entry_of_one_poisonous_row_is_given_up(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(embedded)
    call = embed(gateway, text_row(KILLS))
    while not call.done():
        with process(embedded.url, tag) as worker:
            await until(lambda w=worker: w.poll() is not None or call.done())
    (error,) = call.result().rows
    assert isinstance(error, RowError) and error.reason == "POISON_QUARANTINED"
    assert _take_dead_letter(embedded.url, tag)[b"row"] == b""


def _take_dead_letter(url: str, tag: str) -> dict[bytes, bytes]:
    """The only one, removed."""
    key = Keys(tag).dead_letters("text")
    with looking(url) as connection:
        ((_, letter),) = connection.xrange(key)
        connection.delete(key)
    return letter


@pytest.mark.fault(4)
async def test_a_hanging_device_loses_its_lease_and_its_work(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(embedded)
    released, hangs = threading.Event(), threading.Event()
    hanging = QueueWorker(
        embedded.url, tag, worker_id="hangs", on_jobs=lambda jobs: jobs and released.wait(30)
    )
    hanging.broker.start_heartbeat(hangs.set)
    with hanging:
        call = embed(gateway, text_row(3))
        await until(lambda: pending_of(embedded.url, tag, "hangs") == 1)
        with QueueWorker(embedded.url, tag, worker_id="works") as working:
            assert (await call).rows == [Row(*vector_of(text_row(3)))]
        assert working.broker.stats["reclaimed"] == 1
        await until(hangs.is_set)
        released.set()
    # It found out in time that nobody waits any more.
    assert hanging.jobs == []


@pytest.mark.slow
async def test_a_long_run_that_makes_progress_keeps_its_work(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(embedded)

    def long_run(jobs: list[Job]) -> None:
        end = time.monotonic() + (2.5 if jobs else 0)  # longer than lease and hung_idle_s
        while time.monotonic() < end:
            slow.broker.progress()
            time.sleep(0.05)

    with QueueWorker(embedded.url, tag, on_jobs=long_run) as slow:
        call = embed(gateway, text_row(3))
        await until(lambda: pending_of(embedded.url, tag, slow.worker_id) == 1)
        with QueueWorker(embedded.url, tag) as scanner:
            assert (await call).rows == [Row(*vector_of(text_row(3)))]
        assert "reclaimed" not in scanner.broker.stats
    assert len(slow.jobs) == 1


@pytest.mark.fault(6)
async def test_draining_finishes_what_is_held_and_takes_nothing_more(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(embedded)
    holding, released = threading.Event(), threading.Event()

    def hold(jobs: list[Job]) -> None:
        if jobs:
            holding.set()
            released.wait(10)

    with QueueWorker(embedded.url, tag, on_jobs=hold, worker_id="drains") as draining:
        held = embed(gateway, text_row(1))
        await until(holding.is_set)
        draining.drain()
        later = embed(gateway, text_row(2))
        released.set()
        assert (await held).rows == [Row(*vector_of(text_row(1)))]
    assert not later.done()
    assert pending_of(embedded.url, tag, "drains") == 0
    with QueueWorker(embedded.url, tag):
        assert (await later).rows == [Row(*vector_of(text_row(2)))]
    with looking(embedded.url) as connection:
        consumers = connection.xinfo_consumers(Keys(tag).requests("text", "interactive"), "workers")
    assert b"drains" not in {consumer["name"] for consumer in consumers}


@pytest.mark.fault(6)
async def test_what_a_leaving_worker_cannot_finish_is_handed_back(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(embedded)
    leaving = QueueWorker(embedded.url, tag, worker_id="leaves")
    calls = [embed(gateway, text_row(number)) for number in range(3)]
    taken: list[Job] = []
    while len(taken) < 3:
        taken += await asyncio.to_thread(leaving.broker.take, 64, 0.5)
    leaving.broker.close()
    turns: list[int] = []
    with QueueWorker(embedded.url, tag, on_jobs=lambda jobs: turns.append(len(jobs))):
        answers = await asyncio.gather(*calls)
    assert [answer.rows for answer in answers] == [[Row(*vector_of(text_row(n)))] for n in range(3)]
    # Nobody died over them: they are no suspects, and come together.
    assert max(turns) == 3


async def test_a_draining_worker_takes_nothing(embedded: EmbeddedServer, tag: str, connect: Connect) -> None:
    gateway = await connect(embedded)
    draining = QueueWorker(embedded.url, tag)
    assert await asyncio.to_thread(draining.broker.take, 64, 0.01) == []
    draining.broker.drain()
    call = embed(gateway, text_row(1))
    await until(lambda: depth(embedded.url, tag) == 1)
    assert await asyncio.to_thread(draining.broker.take, 64, 0.5) == []
    assert pending_of(embedded.url, tag, draining.worker_id) == 0
    draining.broker.close()
    with QueueWorker(embedded.url, tag):
        await call


@pytest.mark.fault(1)
async def test_a_dead_workers_name_disappears(embedded: EmbeddedServer, tag: str, connect: Connect) -> None:
    gateway = await connect(embedded)
    with process(embedded.url, tag, "gone") as victim:
        await until(lambda: _alive(embedded.url, tag))
        await embed(gateway, text_row(1))
        victim.kill()
    with QueueWorker(embedded.url, tag, worker_id="stays"):
        await until(lambda: _names(embedded.url, tag) == {b"stays"})


def _names(url: str, tag: str) -> set[bytes]:
    with looking(url) as connection:
        groups = connection.xinfo_consumers(Keys(tag).requests("text", "interactive"), "workers")
    return {group["name"] for group in groups}


def read_as(url: str, tag: str, worker_id: str) -> None:
    """Some worker read everything, and never got the reply."""
    with looking(url) as connection:
        connection.xreadgroup("workers", worker_id, {Keys(tag).requests("text", "interactive"): ">"})


@pytest.mark.fault(1)
async def test_what_a_live_worker_forgot_is_reclaimed_after_a_while(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(embedded)
    call = embed(gateway, text_row(1))
    await until(lambda: depth(embedded.url, tag) == 1)
    read_as(embedded.url, tag, "forgets")
    with looking(embedded.url) as connection:
        connection.set(Keys(tag).lease("text", "forgets"), b"", px=60_000)
        started = time.monotonic()
        with QueueWorker(embedded.url, tag):
            await call
        connection.delete(Keys(tag).lease("text", "forgets"))
    assert 1 < time.monotonic() - started < 5  # QUICK.hung_idle_s is 1.5


@pytest.mark.fault(9)
async def test_a_worker_finds_at_once_all_it_lost_with_its_connection(
    embedded: EmbeddedServer, tag: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await connect(embedded)
    # What it does not find at once it does not find in time.
    worker = QueueWorker(embedded.url, tag, timing=replace(QUICK, hung_idle_s=60))
    assert await asyncio.to_thread(worker.broker.take, 64, 0.01) == []
    calls = [embed(gateway, text_row(number)) for number in range(3)]
    await until(lambda: depth(embedded.url, tag) == 3)
    reading = worker.broker._reading

    def lose(*arguments: object, **options: object) -> None:
        """The server has delivered, but its reply does not arrive."""
        monkeypatch.undo()
        assert reading.xreadgroup(*arguments, **options)  # type: ignore[arg-type]
        raise redis.ConnectionError("lost")

    monkeypatch.setattr(reading, "xreadgroup", lose)
    async with asyncio.timeout(10):
        while depth(embedded.url, tag):
            jobs = await asyncio.to_thread(worker.broker.take, 64, 0.1)
            worker.broker.reply([compute(job) for job in jobs])
    assert [call.rows for call in await asyncio.gather(*calls)] == [
        [Row(*vector_of(text_row(number)))] for number in range(3)
    ]
    worker.broker.close()
