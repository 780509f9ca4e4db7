"""What is refused, what expires, what is withdrawn."""

import asyncio
import threading
import time

import pytest

from broker import (
    BrokerUnavailable,
    DeadlineExceeded,
    EmbeddedServer,
    GatewayBroker,
    JobClass,
    NoWorkers,
    QueueFull,
    Row,
    WouldBeLate,
)
from broker.clock import ServerClock
from broker.keys import Keys
from broker.pace import Pace
from broker.sender import WINDOW_WHILE_PACE_IS_UNKNOWN
from tests.broker.conftest import Connect
from tests.broker.entries import add
from tests.broker.waiting import until
from tests.support.dead_gateway import die_with_calls
from tests.support.queue_worker import QueueWorker, text_row, vector_of
from tests.support.valkey import looking


def length(url: str, tag: str) -> int:
    with looking(url) as connection:
        return int(connection.xlen(Keys(tag).requests("text", "interactive")))


def embed(
    gateway: GatewayBroker, rows: int = 1, deadline_s: float = 20, caller: object = ""
) -> "asyncio.Task[object]":
    call = gateway.embed(
        "text", [text_row(1)] * rows, (16,), "int32", deadline_s=deadline_s, caller=str(caller)
    )
    return asyncio.create_task(call)


async def end(calls: "list[asyncio.Task[object]]") -> None:
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


@pytest.mark.fault(16)
async def test_a_cancelled_call_frees_its_memory_at_once(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(embedded)
    calls = [embed(gateway, rows=100) for _ in range(10)]
    await until(lambda: length(embedded.url, tag) == 20)
    await end(calls)
    await until(lambda: length(embedded.url, tag) == 0)
    assert await gateway.depth("text") in range(21)
    await until(lambda: gateway._held.depth.total() == 0)


@pytest.mark.fault(22)
async def test_calls_cancelled_before_and_while_they_are_sent_leave_nothing(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(embedded)
    for turns in range(30):
        call = embed(gateway)
        for _ in range(turns):
            await asyncio.sleep(0)
        await end([call])
    assert gateway._held.entries == {}
    await until(lambda: length(embedded.url, tag) == 0)


async def test_all_that_is_withdrawn_is_counted(embedded: EmbeddedServer, tag: str, connect: Connect) -> None:
    gateway = await connect(embedded)
    calls = [embed(gateway, rows=64) for _ in range(80)]
    # Not all may be in Redis by then.
    await until(lambda: length(embedded.url, tag) >= 64)
    await end(calls)
    await until(lambda: gateway.stats["withdrawn_waiting"] == 80)
    assert gateway.stats["withdrawn_in_work"] == 0


async def test_what_has_expired_is_dropped_before_a_worker_sees_it(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(embedded)
    # The gateway that sent it is dead: nobody withdraws it.
    add(embedded.url, tag, deadline_ms=int(time.time() * 1000) - 1)
    with QueueWorker(embedded.url, tag) as worker:
        await embed(gateway)
    assert len(worker.jobs) == 1
    assert worker.broker.stats["expired"] == 1


@pytest.mark.fault(16)
async def test_a_passed_deadline_is_told_and_withdrawn(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(embedded)
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"text: 1 rows had no answer in 0\.100 s"):
        await embed(gateway, deadline_s=0.1)
    assert time.monotonic() - started < 2
    await until(lambda: length(embedded.url, tag) == 0)
    with pytest.raises(DeadlineExceeded):
        await embed(gateway, deadline_s=0)


@pytest.mark.fault(16)
async def test_what_expires_or_is_withdrawn_in_the_workers_buffer_is_not_computed(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(embedded)
    worker = QueueWorker(embedded.url, tag)
    calls = [embed(gateway), embed(gateway, deadline_s=0.3)]
    jobs = []
    while len(jobs) < 2:
        jobs += await asyncio.to_thread(worker.broker.take, 64, 0.5)
    await end(calls[:1])
    with pytest.raises(DeadlineExceeded):
        await calls[1]
    await until(lambda: length(embedded.url, tag) == 0)
    assert worker.broker.wanted(jobs) == []
    stats = worker.broker.stats
    assert (stats["expired"], stats["withdrawn"]) == (1, 1)
    worker.broker.close()


@pytest.mark.fault(14)
async def test_clocks_of_different_machines_do_not_meet(
    embedded: EmbeddedServer, tag: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = time.time
    monkeypatch.setattr("broker.clock.time.time", lambda: right() - 600)
    gateway = await connect(embedded)
    call = embed(gateway, deadline_s=30)
    await until(lambda: length(embedded.url, tag) == 1)
    monkeypatch.undo()
    with QueueWorker(embedded.url, tag) as worker:
        await call
    assert worker.broker.stats["expired"] == 0


def test_the_sample_with_the_shortest_round_trip_counts() -> None:
    clock = ServerClock()
    now = time.monotonic()
    clock.observe(now - 0.001, now, (2_000, 0))
    clock.observe(now - 1, now, (2_003, 0))
    assert clock.now_ms() == pytest.approx(2_000_000, abs=100)


@pytest.mark.fault(11)
async def test_a_full_queue_is_refused_at_once(embedded: EmbeddedServer, tag: str, connect: Connect) -> None:
    gateway = await connect(embedded, queue_max_entries=5)
    calls = [embed(gateway, caller=n) for n in range(5)]
    await until(lambda: length(embedded.url, tag) == 5)
    with pytest.raises(QueueFull, match="holds 5 entries; 2 more pass the limit of 5") as refused:
        await embed(gateway, rows=65)
    assert 0.1 <= refused.value.retry_after_s <= 5
    other = await connect(embedded, queue_max_entries=5)
    with pytest.raises(QueueFull):
        await embed(other)
    with QueueWorker(embedded.url, tag):
        await asyncio.gather(*calls)
        await embed(gateway)


async def test_a_worker_of_small_batches_leaves_the_queue_its_room(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    """Its entries are a fourth of whole ones, and four times as many may wait."""
    gateway = await connect(embedded, queue_max_entries=5)
    goes_on = threading.Event()
    with QueueWorker(embedded.url, tag, max_batch_rows=16, on_jobs=lambda jobs: goes_on.wait(30)):
        await until(lambda: gateway.live_workers()["text"])
        calls = [embed(gateway, rows=64, caller=n) for n in range(5)]
        try:
            await asyncio.sleep(0)
            with pytest.raises(QueueFull, match="holds 20 entries; 4 more pass the limit of 20"):
                await embed(gateway, rows=64)
        finally:
            goes_on.set()
        await asyncio.gather(*calls)


async def test_a_burst_within_one_turn_of_the_loop_is_bounded_too(
    embedded: EmbeddedServer, connect: Connect
) -> None:
    gateway = await connect(embedded, queue_max_entries=5)
    calls = [embed(gateway, caller=n) for n in range(20)]
    done, waiting = await asyncio.wait(calls, timeout=0.2)
    assert (len(done), len(waiting)) == (15, 5)
    assert all(isinstance(call.exception(), QueueFull) for call in done)
    await end(calls)


async def test_bytes_in_flight_are_bounded(embedded: EmbeddedServer, connect: Connect) -> None:
    gateway = await connect(embedded, max_in_flight_bytes=1000)
    calls = [embed(gateway, rows=10)]
    await asyncio.sleep(0)
    message = "640 bytes are in flight; 640 more pass the limit of 1000"
    with pytest.raises(QueueFull, match=message) as refused:
        await embed(gateway, rows=10)
    assert refused.value.wall == "in_flight_bytes"
    await end(calls)
    await asyncio.sleep(0)
    assert gateway._room.used_bytes == 0


@pytest.mark.fault(11)
async def test_a_servers_full_memory_is_a_full_queue_and_workers_get_it_free_again(
    own_server: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(own_server, queue_memory_share=10.0)
    calls = [embed(gateway, rows=64) for _ in range(20)]
    await until(lambda: length(own_server.url, tag) == 20)
    with looking(own_server.url) as connection:
        connection.config_set("maxmemory", 1)
    with pytest.raises(QueueFull, match="memory is full") as refused:
        await embed(gateway)
    assert refused.value.wall == "server_memory"
    # Not one byte is free, and yet entries end; their replies follow when there is room.
    with QueueWorker(own_server.url, tag) as worker:
        await until(lambda: worker.broker.stats.get("out_of_memory"))
        with looking(own_server.url) as connection:
            connection.config_set("maxmemory", 100_000_000)
        await asyncio.gather(*calls)


async def test_the_queue_may_fill_a_share_of_the_servers_memory(
    own_server: EmbeddedServer, connect: Connect
) -> None:
    with looking(own_server.url) as connection:
        connection.config_set("maxmemory", 10_000_000)
    gateway = await connect(own_server, queue_memory_share=0.001)  # two entries of 4096 bytes
    calls = [embed(gateway, rows=64, caller=n) for n in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull, match="pass the limit of 2") as refused:
        await embed(gateway, rows=64)
    assert refused.value.wall == "queue_memory"
    await end(calls)


async def test_without_workers_calls_fail_waiting_ones_too(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    started = time.monotonic()
    gateway = await connect(embedded, no_worker_timeout_s=0.5)
    with pytest.raises(NoWorkers, match=r"no text worker has been alive for [01] s") as absent:
        await embed(gateway)
    assert absent.value.tower == "text"
    assert 0.5 < time.monotonic() - started < 10
    await until(lambda: length(embedded.url, tag) == 0)
    with pytest.raises(NoWorkers):
        await embed(gateway)
    assert length(embedded.url, tag) == 0
    with QueueWorker(embedded.url, tag):
        await until(lambda: gateway._monitor.absent_s("text") is None)
        answer = await gateway.embed("text", [text_row(1)], (16,), "int32", deadline_s=5)
    assert answer.rows == [Row(*vector_of(text_row(1)))]


async def test_closing_ends_waiting_calls_and_leaves_nothing(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(embedded)
    calls = [embed(gateway) for _ in range(5)]
    await until(lambda: length(embedded.url, tag) == 5)
    started = time.monotonic()
    await gateway.close()
    assert time.monotonic() - started < 2
    # By their flags: cancelling a Redis call may be swallowed on Python 3.11.
    assert all(task.done() and not task.cancelled() for task in gateway._tasks)
    for call in calls:
        with pytest.raises(BrokerUnavailable, match="closing"):
            await call
    with pytest.raises(BrokerUnavailable, match="closing"):
        await embed(gateway)
    assert length(embedded.url, tag) == 0


async def test_a_live_gateways_reply_stream_does_not_expire(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(embedded, reply_ttl_s=0.5)
    started = time.monotonic()
    await until(lambda: time.monotonic() - started > 1)
    with looking(embedded.url) as connection:
        assert connection.exists(Keys(tag).replies(gateway.gateway_id))
    assert gateway.stats["losses"] == 0


@pytest.mark.fault(15)
async def test_a_dead_gateway_leaves_nothing(embedded: EmbeddedServer, tag: str) -> None:
    gateway_id = await asyncio.to_thread(die_with_calls, embedded.url, tag)
    assert length(embedded.url, tag) == 3
    with looking(embedded.url) as connection:
        assert 0 < connection.pttl(Keys(tag).replies(gateway_id)) <= 500
        await until(lambda: not connection.exists(Keys(tag).replies(gateway_id)))
    # Its work is done or expires; answers to it make no key.
    with QueueWorker(embedded.url, tag):
        await until(lambda: length(embedded.url, tag) == 0)


def test_pace_is_learned_from_longer_queues_most() -> None:
    pace = Pace()
    assert pace.wait_s(1000) == 0  # nothing is known
    pace.observe(1, 0.05)
    assert pace.wait_s(10) == pytest.approx(0.5)
    assert pace.entries_in(1) == 20
    for _ in range(200):
        pace.observe(100, 1.0)  # batches fill: a hundredth of a second each
    assert pace.wait_s(500) == pytest.approx(5, rel=0.01)
    for _ in range(400):
        pace.observe(100, 4.0)
    assert pace.wait_s(500) == pytest.approx(20, rel=0.01)


def test_what_was_given_up_tells_of_slowness_only() -> None:
    pace = Pace()
    pace.observe(10, 1.0)
    pace.observe_unanswered(10, 0.1)  # cancelled early
    assert pace.wait_s(10) == pytest.approx(1.0)
    for _ in range(300):
        pace.observe_unanswered(10, 5.0)  # timed out
    assert pace.wait_s(10) == pytest.approx(5.0, rel=0.01)


async def test_what_would_be_late_is_refused_at_once(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    """A worker of a known speed, a queue of a known length."""
    gateway = await connect(embedded)
    with QueueWorker(embedded.url, tag, on_jobs=lambda jobs: time.sleep(0.01 * len(jobs))) as worker:
        await asyncio.gather(*(embed(gateway, deadline_s=30) for _ in range(60)))
    assert worker.jobs
    calls = [embed(gateway, deadline_s=30) for _ in range(60)]
    await until(lambda: length(embedded.url, tag) == 60)
    with pytest.raises(
        WouldBeLate, match=r"about [\d.]+ s of work waits and the deadline is in 0\.1 s"
    ) as late:
        await embed(gateway, deadline_s=0.1)
    assert 0.1 <= late.value.retry_after_s <= 5
    assert late.value.wall == "predicted_wait"
    assert gateway.stats["hopeless"] == 1
    assert length(embedded.url, tag) == 60  # it never reached the queue
    patient = embed(gateway, deadline_s=30)
    with QueueWorker(embedded.url, tag):
        await asyncio.gather(*calls, patient)
        await embed(gateway, deadline_s=5)  # nothing waits any more


async def test_urgent_work_goes_first_and_the_rest_is_not_starved(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    """Both queues are full: of four reads three are urgent ones."""
    gateway = await connect(embedded)
    rows = [text_row(1)]

    def call(job_class: JobClass) -> "asyncio.Task[object]":
        return asyncio.create_task(
            gateway.embed("text", rows, (16,), "int32", deadline_s=30, job_class=job_class)
        )

    calls = [call("interactive") for _ in range(240)] + [call("batch") for _ in range(120)]
    await until(lambda: gateway._held.depth.total() == 2 * WINDOW_WHILE_PACE_IS_UNKNOWN)
    # Slow enough that the gateway, which sends no more than is needed, keeps both queues filled.
    with QueueWorker(
        embedded.url, tag, max_rows=8, on_jobs=lambda jobs: time.sleep(0.002 * len(jobs))
    ) as worker:
        await asyncio.gather(*calls)
        late = call("batch")
        await late
    classes = [job.stream.rpartition(":")[2] for job in worker.jobs]
    early = classes[:160]
    assert 32 <= early.count("batch") <= 60  # a fourth, and what the very first read took of both
    assert classes.count("batch") == 121


async def test_the_wait_for_a_first_worker_is_not_taken_for_a_slow_queue(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(embedded)
    patient = embed(gateway)
    # The time of this call passes without a worker.
    with pytest.raises(DeadlineExceeded):
        await embed(gateway, deadline_s=1.0)
    with QueueWorker(embedded.url, tag):
        await patient
        stream = Keys(tag).requests("text", "interactive")
        assert gateway._held.pace[stream].wait_s(1) < 0.3
