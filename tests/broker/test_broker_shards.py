"""Several shards are one queue: calls spread, workers serve all, and what must run alone does."""

import asyncio
import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from broker import Answer, BrokerUnavailable, EmbeddedServer, GatewayEnd, Job, JobClass, QueueView, Row
from broker.in_hand import Entry
from broker.keys import Keys
from siglip_settings import RedisSettings
from tests.broker.conftest import Connect
from tests.broker.waiting import until
from tests.support.queue_worker import MAX_ROWS, QUICK, QueueWorker, compute, text_row, vector_of
from tests.support.valkey import kill_server, looking

SHARDS = 3
ROWS = [text_row(number) for number in range(60)]
RIGHT = [[Row(*vector_of(row))] for row in ROWS]


def settings_of(server: EmbeddedServer, shards: int = SHARDS) -> RedisSettings:
    return RedisSettings(redis_url=server.url, redis_shards=shards)


def embed_all(gateway: GatewayEnd, job_class: JobClass = "interactive") -> "list[asyncio.Task[Answer]]":
    calls = [gateway.embed("text", [row], (16,), "int32", deadline_s=20, job_class=job_class) for row in ROWS]
    return [asyncio.create_task(call) for call in calls]


def depths(server: EmbeddedServer, tag: str) -> list[int]:
    with looking(server.url) as connection:
        return [connection.xlen(Keys(tag, n).requests("text", "interactive")) for n in range(SHARDS)]  # type: ignore[misc]


async def test_calls_fill_all_shards_evenly_and_workers_empty_them(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(settings_of(embedded))
    calls = embed_all(gateway)
    await until(lambda: sum(depths(embedded, tag)) == len(ROWS))
    assert min(depths(embedded, tag)) > len(ROWS) / SHARDS * 0.6
    assert await gateway.depth("text") == len(ROWS)
    with QueueWorker(settings_of(embedded), tag) as worker:
        answers = await asyncio.gather(*calls)
        await until(lambda: gateway.live_workers()["text"] == 1)
        (state, _) = (each for each in gateway.streams() if each.tower == "text")
        assert (state.job_class, state.entries) == ("batch", 0)
    assert [answer.rows for answer in answers] == RIGHT
    assert len(worker.jobs) == len(ROWS)  # each once
    assert worker.broker.stats["rows"] == len(ROWS) and worker.broker.stats["batches"] < len(ROWS) / 2
    assert gateway.answered("text") == len(ROWS)


async def test_a_shard_without_workers_gets_no_calls_and_is_told_of(
    embedded: EmbeddedServer, tag: str, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await connect(settings_of(embedded), no_worker_timeout_s=0.5)
    with QueueWorker(settings_of(embedded, shards=2), tag):
        await until(lambda: sum(shard.live_workers()["text"] for shard in gateway._shards) == 2)
        calls = embed_all(gateway)
        await asyncio.sleep(0)
        assert [bool(shard._held.entries) for shard in gateway._shards] == [True, True, False]
        answers = await asyncio.gather(*calls)
        assert [answer.rows for answer in answers] == RIGHT
        await until(lambda: "no text worker serves shard 3 of 3" in caplog.text)
        await asyncio.sleep(0.6)
        view = QueueView(settings_of(embedded))
        (model,) = [each for each in view.models() if each.tag == tag]
        view.close()
    assert (model.shards, model.towers[0].unserved, len(model.towers[0].workers)) == (3, 1, 1)
    assert caplog.text.count("no text worker serves shard") == 1
    assert "--redis-shards" in caplog.text


async def test_a_worker_reads_about_one_batch_ahead(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(settings_of(embedded))
    released = threading.Event()
    with QueueWorker(settings_of(embedded), tag, on_jobs=lambda jobs: jobs and released.wait(20)) as worker:
        calls = [*embed_all(gateway), *embed_all(gateway), *embed_all(gateway), *embed_all(gateway)]
        await until(lambda: worker.broker.in_hand)
        await asyncio.sleep(0.6)  # longer than a read may take
        assert 0 < worker.broker.in_hand <= 2 * MAX_ROWS["text"]
        released.set()
        await asyncio.gather(*calls)


async def test_draining_hands_back_what_waits_here(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(settings_of(embedded))
    calls = embed_all(gateway)
    await until(lambda: sum(depths(embedded, tag)) == len(ROWS))
    leaving = QueueWorker(settings_of(embedded), tag)
    taken = leaving.broker.take(1, 5)
    await until(lambda: leaving.broker.in_hand > len(taken))
    leaving.broker.drain()
    await until(lambda: leaving.broker.in_hand == len(taken))
    assert leaving.broker.take(1, 5) == []
    leaving.broker.reply([compute(job) for job in taken])
    await asyncio.to_thread(leaving.broker.close)
    with QueueWorker(settings_of(embedded), tag) as other:
        answers = await asyncio.gather(*calls)
    assert [answer.rows for answer in answers] == RIGHT
    assert len(other.jobs) == len(ROWS) - len(taken)


async def test_a_suspect_runs_when_nothing_of_any_shard_does(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(settings_of(embedded))
    worker = QueueWorker(settings_of(embedded), tag, timing=replace(QUICK, stall_after_s=30))
    end = worker.broker

    async def take(wait_s: float = 5.0) -> list[Job]:
        return await asyncio.to_thread(end.take, 64, wait_s)

    async with asyncio.timeout(30):
        suspect, before = await sent_to(gateway, 0), await sent_to(gateway, 1)
        entry = read_by_another(embedded, tag, 0)
        running = await take()
        with looking(embedded.url) as connection:
            connection.delete(Keys(tag, 0).lease("text", "another"))  # it dies
        assert await take(1.0) == []  # while another shard's work runs
        assert end.stats["reclaimed"] == 1
        end.reply([compute(job) for job in running])
        (alone,) = await take()
        assert (alone.stream, alone.entry_id) == entry
        after = await sent_to(gateway, 2)
        assert await take(0.5) == []  # while it runs
        end.reply([compute(alone)])
        end.reply([compute(job) for job in await take()])
        await asyncio.gather(before, suspect, after)
    await asyncio.to_thread(end.close)


async def sent_to(gateway: Any, shard: int) -> "asyncio.Task[Answer]":
    """A call that is with this shard."""
    one = gateway._shards[shard]
    call = one.embed("text", [text_row(shard)], (16,), "int32", deadline_s=20)
    sent = asyncio.create_task(call)
    await until(lambda: any(entry.entry_id for entry in one._held.entries.values()))
    return sent


def read_by_another(server: EmbeddedServer, tag: str, shard: int) -> Entry:
    """The entry that another worker, alive until its lease is deleted, has read."""
    keys = Keys(tag, shard)
    stream = keys.requests("text", "interactive")
    with looking(server.url) as connection:
        connection.set(keys.lease("text", "another"), b"", px=60_000)
        answer = connection.xreadgroup("workers", "another", {stream: ">"}, count=1)
        ((_, ((entry_id, _),)),) = answer  # type: ignore[misc]
        return stream, entry_id


async def test_calls_leave_a_shard_that_is_away(
    embedded: EmbeddedServer, tag: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await connect(settings_of(embedded))
    calls = embed_all(gateway)
    await until(lambda: min(depths(embedded, tag)) > 0)
    away = gateway._shards[1]
    before = gateway.answered("text")

    async def fail(*_: object) -> None:
        raise ConnectionError("gone")

    monkeypatch.setattr(away._monitor, "_check", fail)
    await until(lambda: away.outage is not None)
    assert gateway.outage is None
    with QueueWorker(settings_of(embedded), tag) as worker:
        worker.broker._lanes[1].broker.drain()  # type: ignore[attr-defined]
        answers = await asyncio.gather(*calls, *embed_all(gateway))
    assert [answer.rows for answer in answers] == RIGHT * 2
    assert before == 0


async def test_without_any_shard_calls_fail_at_once(
    own_server: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(settings_of(own_server))
    await asyncio.to_thread(kill_server, own_server)
    await until(lambda: gateway.outage is not None)
    started_s = time.monotonic()
    with pytest.raises(BrokerUnavailable):
        await gateway.embed("text", [ROWS[0]], (16,), "int32", deadline_s=20)
    assert time.monotonic() - started_s < 1
    await asyncio.to_thread(own_server.restart)
