"""One of two shards, each on a server of its own, is away: the other one does not notice."""

import asyncio
import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from broker import (
    BrokerUnavailable,
    EmbeddedServer,
    GatewayBroker,
    GatewayLimits,
    Job,
    JobResult,
    WorkerInfo,
    wire,
)
from broker.gateway_end import divided, start_all
from broker.keys import Keys
from broker.sharded_gateway import ShardedGateway
from broker.sharded_worker import ShardedWorker
from broker.worker import WorkerBroker
from siglip_settings import RedisSettings
from tests.broker.waiting import until
from tests.support.queue_worker import FINGERPRINT, QUICK, compute, text_row
from tests.support.valkey import kill_server, looking, server_pid, wait_until


@pytest.fixture
def worker(embedded: EmbeddedServer, own_server: EmbeddedServer, tag: str) -> Iterator[ShardedWorker]:
    """Its first shard is on `own_server`, the other one on `embedded`."""
    info = WorkerInfo("w", "text", "cpu", "float32", "sdpa", FINGERPRINT)
    shards = [
        WorkerBroker(
            RedisSettings(redis_url=server.url),
            tag=tag,
            tower="text",
            fingerprint=FINGERPRINT,
            info=info,
            timing=QUICK,
            shard=shard,
        )
        for shard, server in enumerate((own_server, embedded))
    ]
    end = ShardedWorker(shards)
    yield end
    end.close()


def test_shards_divide_what_a_gateway_and_a_server_may_hold() -> None:
    whole = GatewayLimits(max_in_flight_bytes=1000, queue_memory_share=0.5, queue_max_entries=7)
    share = divided(whole, 4)
    assert (share.max_in_flight_bytes, share.queue_memory_share, share.queue_max_entries) == (250, 0.125, 7)


def add(server: EmbeddedServer, tag: str, shard: int, deadline_s: float) -> bytes:
    """An entry of a gateway that is gone; its id."""
    with looking(server.url) as connection:
        now_s, now_us = connection.time()  # type: ignore[misc]
        header = wire.pack_header(
            job_id=secrets.token_bytes(16),
            gateway_id="gw-" + "a" * 16,
            fingerprint=FINGERPRINT,
            dtype="int32",
            shape=(1, 16),
            deadline_ms=int(now_s * 1000 + now_us / 1000 + deadline_s * 1000),
        )
        stream = Keys(tag, shard).requests("text", "interactive")
        return connection.xadd(stream, {"h": header, "p": text_row(shard)})  # type: ignore[return-value]


def take(worker: ShardedWorker) -> list[Job]:
    jobs: list[Job] = []
    wait_until(lambda: jobs.extend(worker.take(8, 0.5)) or jobs, 5)
    return jobs


@contextmanager
def stalled(server: EmbeddedServer) -> Iterator[None]:
    """It takes what is sent to it, and says nothing."""
    pid = server_pid(server.url)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def timed_wanted(worker: ShardedWorker, jobs: list[Job]) -> tuple[list[Job], float]:
    started_s = time.monotonic()
    return worker.wanted(jobs), time.monotonic() - started_s


@pytest.mark.parametrize("deadline_s", [0.3, 30.0])
def test_the_device_waits_for_no_shard(
    worker: ShardedWorker, embedded: EmbeddedServer, own_server: EmbeddedServer, tag: str, deadline_s: float
) -> None:
    hung: list[float] = []
    worker.start_heartbeat(lambda: hung.append(time.monotonic()))
    worker.take(8, 0.1)
    wait_until(lambda: worker.connected)
    add(own_server, tag, 0, deadline_s)
    jobs, late_s = take(worker), time.monotonic() + deadline_s
    with stalled(own_server):
        if deadline_s < 1:
            wait_until(lambda: time.monotonic() > late_s)
        kept, waited_s = timed_wanted(worker, jobs)
        assert kept == ([] if deadline_s < 1 else jobs)
        assert waited_s < 0.5
        if kept:
            worker.reply([compute(job) for job in kept])
        add(embedded, tag, 1, 30)
        others = take(worker)
        kept, waited_s = timed_wanted(worker, others)
        assert kept == others and waited_s < 0.5
        worker.reply([compute(job) for job in others])
    wait_until(lambda: worker.in_hand == 0)
    assert not hung
    assert worker.stats["expired"] == (deadline_s < 1)


def test_what_was_withdrawn_is_dropped(
    worker: ShardedWorker, embedded: EmbeddedServer, own_server: EmbeddedServer, tag: str
) -> None:
    worker.take(8, 0.1)
    entry_id = add(own_server, tag, 0, 30)
    add(embedded, tag, 1, 30)
    jobs = take(worker)
    wait_until(lambda: len(jobs) == 2 or jobs.extend(worker.take(8, 0.1)))
    with looking(own_server.url) as connection:
        connection.xdel(Keys(tag, 0).requests("text", "interactive"), entry_id)
    time.sleep(0.03)  # younger ones are not asked about
    kept = worker.wanted(jobs)
    assert [job.entry_id == entry_id for job in kept] == [False]
    worker.reply([compute(job) for job in kept])
    wait_until(lambda: worker.in_hand == 0)
    assert worker.stats["withdrawn"] == 1


def ends_of(tag: str, *servers: EmbeddedServer) -> list[GatewayBroker]:
    """A gateway's ends of shards that are on servers of their own, not yet started."""
    return [
        GatewayBroker(
            RedisSettings(redis_url=server.url),
            tag=tag,
            fingerprint=FINGERPRINT,
            limits=GatewayLimits(check_every_s=0.05),
            shard=shard,
        )
        for shard, server in enumerate(servers)
    ]


async def test_a_gateway_starts_while_a_shard_is_away(
    worker: ShardedWorker, embedded: EmbeddedServer, own_server: EmbeddedServer, tag: str
) -> None:
    shards = ends_of(tag, own_server, embedded)
    kill_server(own_server)
    await start_all(shards)
    gateway = ShardedGateway(shards, ("text",), GatewayLimits())
    assert shards[0].outage and gateway.outage is None
    await asyncio.to_thread(own_server.restart)
    await until(lambda: shards[0].outage is None)
    assert not gateway.stats["losses"]  # it starts there; nothing of it was lost
    await gateway.close()


async def test_a_gateway_does_not_start_where_every_shard_is_away(
    own_server: EmbeddedServer, tag: str
) -> None:
    shards = ends_of(tag, own_server, own_server)
    kill_server(own_server)
    with pytest.raises(BrokerUnavailable):
        await start_all(shards)
    own_server.restart()


async def test_calls_of_a_full_shard_go_to_another(
    embedded: EmbeddedServer, own_server: EmbeddedServer, tag: str
) -> None:
    shards = ends_of(tag, own_server, embedded)
    await start_all(shards)
    gateway = ShardedGateway(shards, ("text",), GatewayLimits())
    with looking(own_server.url) as connection:
        connection.config_set("maxmemory", 1)
    calls = [
        asyncio.create_task(gateway.embed("text", [text_row(n)], (16,), "int32", deadline_s=20))
        for n in range(20)
    ]
    stream = Keys(tag, 1).requests("text", "interactive")
    with looking(embedded.url) as connection:
        await until(lambda: connection.xlen(stream) == 20)
    assert not any(call.done() for call in calls)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    with looking(own_server.url) as connection:
        connection.config_set("maxmemory", 0)
    await gateway.close()


def test_what_is_answered_is_sent_before_a_worker_breaks_off(
    worker: ShardedWorker, embedded: EmbeddedServer, tag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.take(8, 0.1)
    add(embedded, tag, 1, 30)
    (job,) = take(worker)
    lane = worker._lanes[1]
    answer = lane.broker.answer

    def slowly(results: Sequence[JobResult]) -> None:
        time.sleep(0.2)
        answer(results)

    monkeypatch.setattr(lane.broker, "answer", slowly)
    worker.reply([compute(job)])
    assert worker.in_hand == 1
    worker.flush(5)
    assert worker.in_hand == 0


def test_a_healthy_shard_is_left_before_a_hung_one_is_given_up(
    worker: ShardedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung, healthy = worker._lanes
    healthy_is_left, in_time = threading.Event(), []
    closes = {lane: lane.close for lane in worker._lanes}

    def close_healthy(until_s: float) -> None:
        closes[healthy](until_s)
        healthy_is_left.set()

    def close_hung(until_s: float) -> None:
        in_time.append(healthy_is_left.wait(5))
        closes[hung](until_s)

    monkeypatch.setattr(healthy, "close", close_healthy)
    monkeypatch.setattr(hung, "close", close_hung)
    worker.close()
    assert in_time == [True]
    monkeypatch.undo()
