"""Messages that arrive slowly: a few may, and nobody may have them all."""

import asyncio
import contextlib

import grpc
import pytest

from gateway import arrivals
from gateway.arrivals import Arrivals
from gateway.errors import Overloaded
from siglip_client import AsyncClient
from tests.gateway.conftest import Start
from tests.gateway.rig import FakeWorker, until

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def waits(bound: Arrivals, caller: str, came: asyncio.Event) -> str:
    with bound.one(caller):
        await came.wait()
    return "read"


async def test_prompt_messages_are_never_counted() -> None:
    bound, came = Arrivals(1), asyncio.Event()
    calls = [asyncio.create_task(waits(bound, "a", came)) for _ in range(50)]
    await asyncio.sleep(0)
    came.set()
    assert await asyncio.gather(*calls) == ["read"] * 50


async def test_slow_ones_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "PROMPT_S", 0.01)
    bound, came = Arrivals(10), asyncio.Event()
    flood = [asyncio.create_task(waits(bound, "flood", came)) for _ in range(30)]
    await until(lambda: sum(call.done() for call in flood) == 22)
    other = asyncio.create_task(waits(bound, "other", came))
    await until(lambda: bound._slow_of["other"] == 1)
    left = asyncio.create_task(waits(bound, "other", came))
    await asyncio.sleep(0)
    left.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await left
    came.set()
    assert await other == "read"
    ended = await asyncio.gather(*flood, return_exceptions=True)
    assert ended.count("read") == 8
    refusals = [end for end in ended if isinstance(end, Overloaded)]
    assert len(refusals) == 22 and "max_slow_messages of the fair share" in str(refusals[0])
    assert not bound._slow_of


async def test_a_caller_that_holds_its_messages_back_is_refused_and_others_are_answered(
    start: Start, text_worker: FakeWorker
) -> None:
    async with start(max_slow_messages=2, max_deadline_s=1) as served:
        method = served.channel.stream_unary("/siglip.v1.EmbeddingService/EmbedTexts")
        slow = [method() for _ in range(6)]
        codes = await asyncio.gather(*(call.code() for call in slow))
        async with AsyncClient(f"127.0.0.1:{served.gateway.port}") as client:
            assert len(await client.embed_texts(["a cat"])) == 1
    assert codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) == 4
    assert codes.count(grpc.StatusCode.DEADLINE_EXCEEDED) == 2
