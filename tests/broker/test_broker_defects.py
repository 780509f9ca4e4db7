"""Something unforeseen goes wrong in a task that all calls need: it is told, and the task goes on."""

import asyncio
import logging

import pytest

from broker import Answer, BrokerError, EmbeddedServer, GatewayBroker, Row
from tests.broker.conftest import Connect
from tests.broker.waiting import until
from tests.support.queue_worker import QueueWorker, text_row, vector_of


def embed(gateway: GatewayBroker) -> "asyncio.Task[Answer]":
    return asyncio.create_task(gateway.embed("text", [text_row(1)], (16,), "int32", deadline_s=10))


class Broken:
    """Stands for a method that fails unforeseen; counts how often."""

    def __init__(self) -> None:
        self.times = 0

    async def __call__(self, *_: object) -> None:
        self.times += 1
        raise LookupError("nobody foresaw this")


def tracebacks(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(
    ("part", "method"), [("_sender", "_flush"), ("_reader", "_read"), ("_monitor", "_look_for_workers")]
)
async def test_calls_after_a_defect_are_answered_and_it_is_told_once(
    embedded: EmbeddedServer,
    tag: str,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    part: str,
    method: str,
) -> None:
    caplog.set_level(logging.WARNING)
    gateway = await connect(embedded)
    broken = Broken()
    with QueueWorker(embedded.url, tag), monkeypatch.context() as patched:
        patched.setattr(getattr(gateway, part), method, broken)
        while broken.times < 3:
            # Each is answered or refused, at once or by the next.
            call = embed(gateway)
            await until(lambda c=call: c.done() or broken.times >= 3)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        patched.undo()
        await until(lambda: gateway.outage is None)
        assert (await embed(gateway)).rows == [Row(*vector_of(text_row(1)))]
    assert len(tracebacks(caplog)) == 1
    assert "LookupError" in caplog.text


async def test_a_call_that_cannot_be_sent_fails_at_once(
    embedded: EmbeddedServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await connect(embedded)
    monkeypatch.setattr(gateway._sender, "_flush", Broken())
    with pytest.raises(BrokerError, match="nobody foresaw this"):
        await embed(gateway)


async def test_a_reply_that_breaks_the_reader_is_not_read_again(
    embedded: EmbeddedServer, tag: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await connect(embedded)
    right, times = gateway._reader._resolve, 0

    def fail_once(entries: "list[tuple[bytes, dict[bytes, bytes]]]") -> None:
        nonlocal times
        times += bool(entries)
        if times == 1:
            raise LookupError("nobody foresaw this")
        right(entries)

    monkeypatch.setattr(gateway._reader, "_resolve", fail_once)
    with QueueWorker(embedded.url, tag):
        lost = embed(gateway)
        await until(lambda: times == 1)
        assert (await embed(gateway)).rows == [Row(*vector_of(text_row(1)))]
        lost.cancel()
        await asyncio.gather(lost, return_exceptions=True)
