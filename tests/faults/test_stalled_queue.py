"""Redis stalls, loads, fills up, gets an entry twice: nobody's request is lost, none is answered wrongly."""

import asyncio
import os
import time

import pytest
import redis

from broker import Answer, EmbeddedServer, GatewayBroker, QueueFull, Row
from broker.keys import Keys
from broker.timing import WorkerTiming
from tests.broker.conftest import Connect
from tests.broker.waiting import until
from tests.support.line import line_to
from tests.support.queue_worker import QueueWorker, text_row, vector_of
from tests.support.tcp_server import TcpServer
from tests.support.valkey import looking

ROWS = [text_row(number) for number in range(50)]
OTHERS = [f"other:{number}" for number in range(20)]
LOADS_SLOWLY = ("--key-load-delay", "100000", "--loading-process-events-interval-bytes", "1024")
RIGHT = [[Row(*vector_of(row))] for row in ROWS]


def embed(gateway: GatewayBroker, *, deadline_s: float = 30) -> "list[asyncio.Task[Answer]]":
    calls = (gateway.embed("text", [row], (16,), "int32", deadline_s=deadline_s) for row in ROWS)
    return [asyncio.create_task(call) for call in calls]


async def rows_of(calls: "list[asyncio.Task[Answer]]") -> list[object]:
    return [answer.rows for answer in await asyncio.gather(*calls)]


def stall(url: str, how: str) -> None:
    """For longer than any socket of ours waits; what is sent meanwhile is carried out later."""
    with looking(url) as connection:
        if how == "DEBUG SLEEP":
            connection.execute_command("DEBUG", "SLEEP", "2.5")
        else:
            connection.execute_command("CLIENT", "PAUSE", "2500", how)


@pytest.mark.fault(10)
@pytest.mark.slow
@pytest.mark.parametrize("how", ["DEBUG SLEEP", "ALL", "WRITE"])
async def test_a_stalled_server_that_carries_out_late_what_it_was_sent(
    tcp_server: TcpServer, tag: str, connect: Connect, how: str
) -> None:
    gateway = await connect(tcp_server.url)
    with QueueWorker(tcp_server.url, tag):
        assert await rows_of(embed(gateway)) == RIGHT
        before = embed(gateway)
        stalled = asyncio.create_task(asyncio.to_thread(stall, tcp_server.url, how))
        during: list[asyncio.Task[Answer]] = []
        for row in ROWS[:10]:
            await asyncio.sleep(0.05)
            during.append(asyncio.create_task(gateway.embed("text", [row], (16,), "int32", deadline_s=30)))
        await stalled
        ended = await asyncio.gather(*before, *during, return_exceptions=True)
        await until(lambda: gateway.outage is None)
        assert await rows_of(embed(gateway)) == RIGHT
    assert [answer.rows for answer in ended if isinstance(answer, Answer)] == RIGHT + RIGHT[:10]
    await gateway.close()


@pytest.mark.fault(9)
@pytest.mark.slow
async def test_a_line_with_a_round_trip_of_300_ms(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    with line_to(embedded.url.removeprefix("unix://"), delay_s=0.15) as port:
        url = f"redis://127.0.0.1:{port}"
        with QueueWorker(url, tag, timing=WorkerTiming()), QueueWorker(url, tag, timing=WorkerTiming()):
            gateway = await connect(url)
            await until(lambda: gateway.live_workers()["text"] == 2)
            assert await rows_of(embed(gateway)) == RIGHT
            assert gateway.outage is None
        await gateway.close()


@pytest.mark.fault(7)
@pytest.mark.slow
async def test_a_server_that_comes_back_loading_an_old_state(
    tcp_server: TcpServer, tag: str, connect: Connect
) -> None:
    """What it saved once is not what waits now: answered entries come back, as does a dead consumer."""
    gateway = await connect(tcp_server.url)
    old = embed(gateway)
    stream = Keys(tag).requests("text", "interactive")
    with looking(tcp_server.url) as connection:
        await until(lambda: connection.xlen(stream) == len(ROWS))
        connection.xreadgroup("workers", "dead", {stream: ">"}, count=7)
        # Of these there are many, for loading to take long.
        connection.mset(dict.fromkeys(OTHERS, os.urandom(2000)))
        connection.save()
        connection.delete(*OTHERS)
    with QueueWorker(tcp_server.url, tag):
        assert await rows_of(old) == RIGHT
        calls = embed(gateway)
        await asyncio.to_thread(tcp_server.kill)
        tcp_server.start(*LOADS_SLOWLY, wait=False)
        await until(lambda: _is_loading(tcp_server.url))
        await until(tcp_server.answers)
        assert await rows_of(calls) == RIGHT
        with looking(tcp_server.url) as connection:
            await until(lambda: connection.xlen(stream) == 0)
            connection.delete(*OTHERS)
    await gateway.close()


def _is_loading(url: str) -> bool:
    with looking(url) as connection:
        try:
            connection.get("anything")
        except redis.BusyLoadingError:
            return True
        except redis.ConnectionError:
            return False
    return False


@pytest.mark.fault(11)
async def test_memory_that_pictures_fill(own_server: EmbeddedServer, tag: str, connect: Connect) -> None:
    """As many as fit wait and are answered; the others are refused at once, with a time to come back."""
    picture = bytes(3 * 224 * 224)
    with looking(own_server.url) as connection:
        connection.config_set("maxmemory", 9_000_000)
    gateway = await connect(own_server, queue_memory_share=10.0)
    calls = [
        asyncio.create_task(gateway.embed("vision", [picture], (3, 224, 224), "uint8", deadline_s=30))
        for _ in range(100)
    ]
    await until(lambda: sum(call.done() for call in calls) > 20)
    refused = sum(call.done() for call in calls)
    with QueueWorker(own_server.url, tag, "vision"):
        ended = await asyncio.gather(*calls, return_exceptions=True)
    errors = [end for end in ended if not isinstance(end, Answer)]
    assert 20 < refused <= len(errors) < 80
    assert all(isinstance(error, QueueFull) and error.retry_after_s > 0 for error in errors)
    assert all(end.rows == [Row(*vector_of(picture))] for end in ended if isinstance(end, Answer))


@pytest.mark.fault(13)
async def test_an_entry_that_stands_twice_in_the_stream_is_answered_once(
    embedded: EmbeddedServer, tag: str, connect: Connect
) -> None:
    gateway = await connect(embedded)
    calls = embed(gateway)
    stream = Keys(tag).requests("text", "interactive")
    with looking(embedded.url) as connection:
        await until(lambda: connection.xlen(stream) == len(ROWS))
        for _, fields in connection.xrange(stream):
            connection.xadd(stream, fields)
    with QueueWorker(embedded.url, tag):
        assert await rows_of(calls) == RIGHT
        await until(lambda: gateway.stats["duplicates"] == len(ROWS))


@pytest.mark.fault(12)
@pytest.mark.parametrize("kept", [True, False], ids=["stream kept", "stream expired"])
async def test_a_gateway_that_stands_still_gets_every_reply(
    embedded: EmbeddedServer, tag: str, connect: Connect, kept: bool
) -> None:
    """Its replies wait, however many; when their stream expires meanwhile, the work is done again."""
    gateway = await connect(embedded, reply_ttl_s=60 if kept else 0.3)
    calls = embed(gateway)
    with looking(embedded.url) as connection:
        await until(lambda: connection.xlen(Keys(tag).requests("text", "interactive")) == len(ROWS))
    worker = QueueWorker(embedded.url, tag)
    worker._max_rows = 1  # a batch each, and so a reply each
    with worker:
        time.sleep(1)  # noqa: ASYNC251 (the whole loop stands still)
        assert await rows_of(calls) == RIGHT
    assert (gateway.stats["losses"] > 0) is not kept
