"""Messages that arrive slowly: a few may, and nobody may have them all."""

import asyncio
import contextlib

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub
from siglip.v1.embedding_pb2 import EmbedTextsRequest, EmbedTextsResponse

from gateway import arrivals, crowds, strangers
from gateway.arrivals import Arrivals
from gateway.errors import InvalidRequest, Overloaded
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


async def test_a_refusal_is_no_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever catches it can wait for other things in the same task."""
    monkeypatch.setattr(arrivals, "PROMPT_S", 0.01)
    bound, never = Arrivals(1), asyncio.Event()
    bound.admit("other")
    with pytest.raises(Overloaded), bound.one("a"):
        await never.wait()
    task = asyncio.current_task()
    assert task and not task.cancelling()


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


@pytest.mark.parametrize("method", ["Check", "Watch"])
async def test_strangers_hold_few_large_messages_to_health(
    start: Start, text_worker: FakeWorker, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(strangers, "READ_TIMEOUT_S", 0.6)
    async with start() as served:
        ask = served.channel.stream_unary if method == "Check" else served.channel.stream_stream
        slow = [ask(f"/grpc.health.v1.Health/{method}")() for _ in range(8)]
        codes = await asyncio.gather(*(call.code() for call in slow))
        health = HealthStub(served.channel)
        assert (await health.Check(HealthCheckRequest())).status
        watching = health.Watch(HealthCheckRequest())
        assert (await watching.read()).status
        watching.cancel()
    assert codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) == 4
    assert codes.count(grpc.StatusCode.DEADLINE_EXCEEDED) == 4


async def test_a_crowd_of_empty_texts_is_refused_before_it_is_parsed(
    start: Start, text_worker: FakeWorker
) -> None:
    async with start() as served:
        embed = served.channel.unary_unary("/siglip.v1.EmbeddingService/EmbedTexts")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await embed(b"\x12\x00" * 1_000_000)
        texts = ["a" * 500] * 512
        request = EmbedTextsRequest(texts=texts).SerializeToString()
        reply = EmbedTextsResponse.FromString(await embed(request))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "which no request may hold" in str(refused.value.details())
    assert len(reply.results) == len(texts)


@pytest.mark.parametrize("entry", [b"\x08\x80\x01", b"\x09" + b"\0" * 8, b"\x0d" + b"\0" * 4, b"\x12\x02ab"])
async def test_fields_of_all_kinds_are_counted(entry: bytes) -> None:
    count = 100_000
    crowds.refuse_crowd(entry * count, count)
    with pytest.raises(InvalidRequest, match=f"more than {count - 1} texts"):
        crowds.refuse_crowd(entry * count, count - 1)
    crowds.refuse_crowd(b"\xff" * count, 1)  # the parser's to refuse
