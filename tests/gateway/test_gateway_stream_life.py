"""EmbedStream among other calls: its place in the queue, overload, its number, its end, who may have one."""

import asyncio
import hashlib
import logging
import threading
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from prometheus_client import CollectorRegistry
from siglip.v1 import embedding_pb2

from gateway import server
from gateway.access import Caller
from gateway.decode_pool import DecodePool
from gateway.errors import Overloaded
from gateway.streams import Streams
from tests.gateway.conftest import Served, Start
from tests.gateway.rig import FakeWorker, refused, until
from tests.gateway.streams import Item, talking, texts

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_interactive_calls_go_before_streams(service: Served, text_worker: FakeWorker) -> None:
    text_worker.pause()
    async with talking(service) as talk:
        await talk.send(texts(500))
        await until(lambda: service.gateway.parts.streams.rows >= 448)
        urgent = embedding_pb2.EmbedTextsRequest(texts=["urgent"])
        call = asyncio.create_task(_unary(service, urgent))
        await until(lambda: len(_waiting(service)) == 2)
        text_worker.resume()
        await call
        await talk.rest()
    ids = service.served.tokenizer.encode_batch(["urgent"], service.served.text_length)[0][0]
    # Before all but what the worker has in hand already.
    assert text_worker.rows.index(ids.astype("<i4").tobytes()) < 256


async def _unary(service: Served, request: embedding_pb2.EmbedTextsRequest) -> None:
    await service.embedding.EmbedTexts(request)


def _waiting(service: Served) -> list[str]:
    return [state.job_class for state in service.gateway.parts.broker.streams() if state.entries]


async def test_an_interactive_picture_is_decoded_among_those_of_a_stream() -> None:
    may_decode, decoded = threading.Event(), []

    def decode(image: bytes) -> bytes:
        assert may_decode.wait(10)
        decoded.append(image)
        return image

    pool = DecodePool(decode, 1)
    batch = [
        asyncio.create_task(pool.decode_all([b"batch %d" % i] * 8, "me", job_class="batch")) for i in (1, 2)
    ]
    await asyncio.sleep(0)
    urgent = asyncio.create_task(pool.decode_all([b"urgent"], "me"))
    await asyncio.sleep(0.01)
    may_decode.set()
    await asyncio.gather(urgent, *batch)
    pool.close()
    assert decoded.index(b"urgent") <= 2
    # And a group is ready while the next one waits.
    decoded.remove(b"urgent")
    assert decoded == [b"batch 1"] * 8 + [b"batch 2"] * 8


@pytest.mark.parametrize("full", [{"max_in_flight_rows": 200}, {"queue_max_entries": 2}])
async def test_what_is_full_makes_a_stream_wait(
    start: Start, text_worker: FakeWorker, full: dict[str, int]
) -> None:
    async with start(**full) as served:
        text_worker.pause()
        async with talking(served) as talk:
            await talk.send(texts(512))
            await until(lambda: served.gateway.parts.streams.rows)
            # Of the gateway's rows half is left to others.
            assert served.gateway.parts.admission.rows <= full.get("max_in_flight_rows", 1024) // 2
            text_worker.resume()
            found = await talk.rest()
    assert len(found) == 512 and all(result.HasField("embedding") for result in found)


async def test_an_items_deadline_is_its_own(start: Start, text_worker: FakeWorker) -> None:
    """No worker answers: the items fail, may be sent again, and the stream goes on."""
    async with start(max_deadline_s=0.4) as served:
        text_worker.pause()
        async with talking(served) as talk:
            await talk.send(texts(2))
            late = await talk.results(2)
            text_worker.resume()
            await talk.send(texts(1))
            again = await talk.rest()
    assert {result.error.reason for result in late} == {"DEADLINE_EXCEEDED"}
    assert all(result.error.retryable for result in late)
    assert again[0].HasField("embedding")


async def test_without_workers_items_wait_until_one_comes(start: Start, text_worker: FakeWorker) -> None:
    """The gateway refuses such calls at once; a stream's items have their time."""
    alone = {"model_name": "nobody", "no_worker_timeout_s": 0, "max_deadline_s": 0.5}
    async with start(**alone) as served, talking(served) as talk:
        await talk.send(texts(1))
        (result,) = await talk.rest()
    assert result.error.reason in ("NO_WORKERS", "DEADLINE_EXCEEDED") and result.error.retryable


async def test_too_many_streams_are_refused_and_told_when_to_come_back(start: Start) -> None:
    async with start(max_streams=1) as served, talking(served):
        # Refused before anything is sent: a write could come too late, and fail itself.
        failure = await refused(served.embedding.EmbedStream().read())
        assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "max_streams" in failure.message
        assert int(failure.trailers["grpc-retry-pushback-ms"]) > 0
        assert failure.details["RetryInfo"].retry_delay.ToMilliseconds() > 0


async def test_one_caller_leaves_streams_to_others() -> None:
    streams = Streams(10, 100, 100)
    with ExitStack() as opened:

        def open_stream(caller: str) -> None:
            opened.enter_context(streams.one(caller, lambda: None))

        with pytest.raises(Overloaded, match="max_streams of the fair share is 8"):
            for _ in range(10):
                open_stream("greedy")
        open_stream("other")


async def test_a_callers_bound_keeps_no_other_caller_waiting() -> None:
    streams = Streams(10, 100, 1000)
    small, free = Caller("small", max_in_flight_rows=4), Caller("free")
    async with streams.work(4, 1, small):
        waits = asyncio.create_task(_pass(streams, small, 4))
        await asyncio.sleep(0)
        await asyncio.wait_for(_pass(streams, free, 90), 1)
        assert not waits.done()
        gone = asyncio.create_task(_pass(streams, small, 4))
        await asyncio.sleep(0)
        gone.cancel()
    await asyncio.wait_for(waits, 1)
    assert streams.rows == 0


async def _pass(streams: Streams, caller: Caller, rows: int) -> None:
    async with streams.work(rows, 1, caller):
        pass


async def test_a_stream_ends_before_its_connection_does(start: Start, text_worker: FakeWorker) -> None:
    async with start(max_connection_age_s=0.4) as served, talking(served) as talk:
        await talk.send(texts(3))
        found = await talk.to_its_end()
        assert talk.draining and len(found) == 3
        assert await talk.call.code() is grpc.StatusCode.OK


async def test_a_gateway_that_stops_answers_what_it_has_read(start: Start, text_worker: FakeWorker) -> None:
    async with start() as served, talking(served) as talk, talking(served) as idle:
        text_worker.pause()
        await talk.send(texts(200))
        await until(lambda: served.gateway.parts.streams.rows)
        stopping = asyncio.create_task(served.gateway.stop(10))
        assert await idle.to_its_end() == []
        assert await talk.read() == [] and talk.draining
        text_worker.resume()
        assert len(await talk.to_its_end()) == 200
        assert await talk.call.code() is grpc.StatusCode.OK
        await asyncio.wait_for(stopping, 5)


async def test_a_token_is_asked_for_before_anything_is_read(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text(f'[tokens.search]\nsha256 = "{hashlib.sha256(b"secret").hexdigest()}"\n')
    async with start(token_file=str(file)) as served:
        call = served.embedding.EmbedStream()
        assert (await refused(call.read())).code is grpc.StatusCode.UNAUTHENTICATED


async def test_a_stream_has_one_line_and_its_items_are_counted(
    start: Start, text_worker: FakeWorker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = CollectorRegistry()
    monkeypatch.setattr(server, "new_registry", lambda **_: registry)
    caplog.set_level(logging.INFO, "gateway.interceptor")

    def count(tower: str, outcome: str) -> float:
        labels = {"model": served.served.name, "tower": tower, "outcome": outcome}
        return registry.get_sample_value("siglip_items_total", labels) or 0

    async with start() as served:
        async with talking(served, (("x-request-id", "a-stream"),)) as talk:
            await talk.send([*texts(3), Item(id=99)])
            await talk.rest()
            trailers = dict(list(await talk.call.trailing_metadata()))
        assert trailers["x-request-id"] == "a-stream"
        (line,) = [record.getMessage() for record in caplog.records if "a-stream" in record.getMessage()]
        assert "EmbedStream code=OK" in line and "items=4" in line
        assert (count("text", "OK"), count("none", "CONTENT_MISSING")) == (3, 1)
        text_worker.pause()
        async with talking(served) as talk:
            await talk.send(texts(5))
            await until(lambda: served.gateway.parts.streams.rows == 5)
            assert registry.get_sample_value("siglip_streams") == 1
        await until(lambda: count("text", "CANCELLED") == 5)
