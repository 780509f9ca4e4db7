"""Redis forgets, dies and comes back; what gateways hold is sent again."""

import asyncio
import os
import signal
import threading

import pytest
import redis

from broker import Answer, BrokerUnavailable, DeadlineExceeded, EmbeddedServer, GatewayBroker, Row
from broker.keys import GROUP, Keys
from tests.broker.conftest import Connect
from tests.broker.waiting import until
from tests.support.queue_worker import QueueWorker, text_row, vector_of
from tests.support.valkey import kill_server, looking, server_pid

# More than a worker reads at once, and more than a gateway sends at once.
ROWS = [text_row(number) for number in range(100)]
RIGHT = [[Row(*vector_of(row))] for row in ROWS]


class Gate:
    """Keeps a worker from computing what it has taken."""

    def __init__(self) -> None:
        self.holding, self.released = threading.Event(), threading.Event()

    def hold(self, jobs: object) -> None:
        if jobs:
            self.holding.set()
            self.released.wait(20)


def embed_all(gateway: GatewayBroker, deadline_s: float = 30) -> "list[asyncio.Task[Answer]]":
    calls = [gateway.embed("text", [row], (16,), "int32", deadline_s=deadline_s) for row in ROWS]
    return [asyncio.create_task(call) for call in calls]


async def test_answers_wait_while_redis_refuses_writes(
    own_server: EmbeddedServer, tag: str, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """As a primary does that lacks replicas, or whose disk is full."""
    gateway = await connect(own_server)
    gate = Gate()
    with QueueWorker(own_server.url, tag, on_jobs=gate.hold), looking(own_server.url) as connection:
        calls = embed_all(gateway)
        await until(gate.holding.is_set)
        connection.config_set("min-replicas-to-write", 1)
        gate.released.set()
        await until(lambda: "answers wait for Redis: XADD: NOREPLICAS" in caplog.text)
        connection.config_set("min-replicas-to-write", 0)
        answers = await asyncio.gather(*calls)
    assert [answer.rows for answer in answers] == RIGHT
    assert caplog.text.count("answers wait for Redis") == 1
    assert "caused error" not in caplog.text  # before that redis-py shows the bytes of a reply


@pytest.mark.fault(7)
@pytest.mark.parametrize("command", ["FLUSHALL", "DEL", "DEL, then add", "XGROUP DESTROY"])
async def test_lost_data_is_sent_again(
    own_server: EmbeddedServer, tag: str, connect: Connect, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if command != "DEL":
        # Noticed at once, not by finding entries missing after a while.
        monkeypatch.setattr("broker.monitor.MISSING_AFTER_S", 60)
    gateway = await connect(own_server)
    gate = Gate()
    with QueueWorker(own_server.url, tag, max_rows=16, on_jobs=gate.hold):
        calls = embed_all(gateway)
        await until(gate.holding.is_set)
        stream = Keys(tag).requests("text", "interactive")
        with looking(own_server.url) as connection:
            if command == "FLUSHALL":
                connection.flushall()
            elif command.startswith("DEL"):
                connection.delete(stream)
            else:
                connection.xgroup_destroy(stream, GROUP)
        if command == "DEL, then add":
            # Adding shows at once that the stream is gone.
            calls += embed_all(gateway)
            await until(lambda: gateway.stats["losses"])
        gate.released.set()
        answers = await asyncio.gather(*calls)
    assert [answer.rows for answer in answers] == RIGHT * (len(calls) // len(ROWS))
    assert (gateway.stats["readded"] > 0) == (command != "XGROUP DESTROY")


@pytest.mark.parametrize("failing", ["making the streams", "sending again"])
async def test_a_broken_connection_right_after_a_loss_does_not_make_us_forget_it(
    own_server: EmbeddedServer, tag: str, connect: Connect, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    monkeypatch.setattr("broker.monitor.MISSING_AFTER_S", 60)
    gateway = await connect(own_server)
    call = asyncio.create_task(gateway.embed("text", [ROWS[0]], (16,), "int32", deadline_s=10))
    await until(lambda: all(entry.entry_id for entry in gateway._held.entries.values()))
    part, method = (
        (gateway._sender, "_flush") if failing == "sending again" else (gateway._monitor, "_make_streams")
    )
    right = getattr(part, method)
    failed = asyncio.Event()

    async def fail_once(*arguments: object) -> None:
        if failed.is_set():
            await right(*arguments)
            return
        failed.set()
        if failing == "making the streams":
            # They are made; only their maker does not hear of it.
            await right()
        raise redis.ConnectionError("lost again")

    monkeypatch.setattr(part, method, fail_once)
    with looking(own_server.url) as connection:
        connection.flushall()
    await failed.wait()
    with QueueWorker(own_server.url, tag):
        assert (await call).rows == RIGHT[0]
    assert gateway.stats["losses"] == 1


@pytest.mark.fault(7)
async def test_server_killed_and_restarted_empty(
    own_server: EmbeddedServer, tag: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.monitor.MISSING_AFTER_S", 60)
    gateway = await connect(own_server)
    holding, released = threading.Event(), threading.Event()

    def hold(jobs: object) -> None:
        if jobs:
            holding.set()
            released.wait(20)

    with QueueWorker(own_server.url, tag, on_jobs=hold):
        calls = embed_all(gateway)
        await until(holding.is_set)
        await asyncio.to_thread(kill_server, own_server)
        await until(lambda: gateway.outage is not None)
        with pytest.raises(BrokerUnavailable, match=r"^Redis at unix://.*: "):
            await gateway.embed("text", [ROWS[0]], (16,), "int32", deadline_s=5)
        await asyncio.to_thread(own_server.restart)
        released.set()
        answers = await asyncio.gather(*calls)
        assert gateway.outage is None
    assert [answer.rows for answer in answers] == RIGHT
    assert gateway.stats["readded"] > 0


@pytest.mark.fault(7)
@pytest.mark.slow
async def test_a_device_that_waits_for_redis_does_not_hang(
    own_server: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(own_server)
    holding, released, hangs = threading.Event(), threading.Event(), threading.Event()

    def hold(jobs: object) -> None:
        if jobs:
            holding.set()
            released.wait(20)

    worker = QueueWorker(own_server.url, tag, on_jobs=hold)
    worker.broker.start_heartbeat(hangs.set)
    with worker:
        calls = embed_all(gateway)
        await until(holding.is_set)
        await asyncio.to_thread(kill_server, own_server)
        released.set()
        assert not await asyncio.to_thread(hangs.wait, 3.5)
        await asyncio.to_thread(own_server.restart)
        assert [answer.rows for answer in await asyncio.gather(*calls)] == RIGHT
        with looking(own_server.url) as connection:
            # One that was sent on the way back may have been sent twice.
            await until(lambda: not connection.xlen(Keys(tag).requests("text", "interactive")))


@pytest.mark.fault(7)
async def test_replies_of_a_restarted_server_are_seen_though_their_ids_are_smaller(
    own_server: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(own_server)
    with looking(own_server.url) as connection:
        future = {b"r": b""}
        connection.xadd(Keys(tag).replies(gateway.gateway_id), future, id="9999999999999-0")
        await until(lambda: connection.xlen(Keys(tag).replies(gateway.gateway_id)) == 0)
        connection.flushall()
    with QueueWorker(own_server.url, tag):
        await until(lambda: gateway.stats["losses"])
        answer = await gateway.embed("text", [ROWS[0]], (16,), "int32", deadline_s=10)
    assert answer.rows == RIGHT[0]


@pytest.mark.fault(9)
async def test_a_broken_connection_loses_nothing(
    own_server: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(own_server)
    with QueueWorker(own_server.url, tag):
        for _ in range(5):
            calls = embed_all(gateway)
            with looking(own_server.url) as connection:
                connection.execute_command("CLIENT KILL TYPE normal SKIPME yes")
            answers = await asyncio.gather(*calls, *embed_all(gateway))
            assert [answer.rows for answer in answers] == RIGHT * 2
            assert gateway.outage is None  # a connection is not the server


@pytest.mark.fault(10)
async def test_a_failed_pipeline_is_sent_again_and_nobody_refused(
    embedded: EmbeddedServer, tag: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await connect(embedded)

    later: list[asyncio.Task[Answer]] = []

    async def fail(*_: object) -> None:
        monkeypatch.undo()
        later.extend(embed_all(gateway))
        raise redis.ConnectionError("lost on the way")

    monkeypatch.setattr(gateway._sender, "_flush", fail)
    with QueueWorker(embedded.url, tag):
        answers = await asyncio.gather(*embed_all(gateway))
        answers += await asyncio.gather(*later)
    assert [answer.rows for answer in answers] == RIGHT * 2
    assert gateway.stats["losses"] == 0


@pytest.mark.fault(10)
async def test_a_stopped_server_ends_calls_at_their_deadline_and_is_forgiven(
    own_server: EmbeddedServer, tag: str, connect: Connect
) -> None:
    """Nothing is refused, nothing answers: only socket timeouts tell."""
    gateway = await connect(own_server)
    pid = server_pid(own_server.url)
    with QueueWorker(own_server.url, tag):
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises((DeadlineExceeded, BrokerUnavailable)):
                await gateway.embed("text", [ROWS[0]], (16,), "int32", deadline_s=0.3)
            await until(lambda: gateway.outage is not None)
        finally:
            os.kill(pid, signal.SIGCONT)
        await until(lambda: gateway.outage is None)
        answers = await asyncio.gather(*embed_all(gateway))
    assert [answer.rows for answer in answers] == RIGHT


async def test_workers_wait_for_a_server_that_is_not_there_yet(
    own_server: EmbeddedServer, tag: str, connect: Connect
) -> None:
    await asyncio.to_thread(kill_server, own_server)
    with QueueWorker(own_server.url, tag) as worker:
        await until(lambda: worker.broker.stats.get("outages"))
        await asyncio.to_thread(own_server.restart)
        gateway = await connect(own_server)
        answers = await asyncio.gather(*embed_all(gateway))
    assert [answer.rows for answer in answers] == RIGHT
