"""Nobody waits for ever, and nothing is computed for those who left."""

import asyncio
import threading
import time
from pathlib import Path

import grpc
import pytest
from siglip.v1 import embedding_pb2, model_pb2, zero_shot_pb2

from broker import EmbeddedServer, WouldBeLate
from gateway.access import Caller
from gateway.admission import Admission
from gateway.decode_pool import DecodePool
from gateway.errors import Overloaded
from tests.gateway.conftest import Served, Start, serving, settings_for
from tests.gateway.rig import FakeWorker, Refused, picture, refused, until
from tests.support.checkpoints import write_tiny_checkpoint

pytestmark = pytest.mark.asyncio(loop_scope="session")


def texts(*texts: str) -> embedding_pb2.EmbedTextsRequest:
    return embedding_pb2.EmbedTextsRequest(texts=texts)


async def waiting_in_queue(service: Served, tower: str, entries: int) -> None:
    """Until the queue itself says so."""

    async def seen() -> bool:
        return await service.gateway.parts.broker.depth(tower) == entries

    await until(seen)


async def nothing_left(service: Served) -> None:
    await waiting_in_queue(service, "text", 0)
    await waiting_in_queue(service, "vision", 0)
    await until(lambda: service.gateway.parts.admission.rows == 0)
    assert service.gateway.parts.admission.bytes == 0


async def test_a_cancelled_call_leaves_the_queue(
    service: Served, text_worker: FakeWorker, vision_worker: FakeWorker
) -> None:
    text_worker.pause(), vision_worker.pause()
    request = zero_shot_pb2.ClassifyRequest(images=[picture(seed) for seed in range(9)], labels=["a", "b"])
    call = service.zero_shot.Classify(request)
    await waiting_in_queue(service, "text", 1)
    await waiting_in_queue(service, "vision", 2)
    assert service.gateway.parts.admission.rows == 11
    call.cancel()
    await nothing_left(service)
    text_worker.resume(), vision_worker.resume()
    assert (await service.embedding.EmbedTexts(texts("alive"))).results[0].HasField("embedding")
    assert len(text_worker.rows) == 1 and not vision_worker.rows


async def test_a_passed_deadline_drops_the_work(
    service: Served, text_worker: FakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    text_worker.pause()
    for _ in range(5):
        error = await refused(service.embedding.EmbedTexts(texts("a", "b"), timeout=0.1))
        assert error.code.name == "DEADLINE_EXCEEDED"
    await nothing_left(service)
    text_worker.resume()
    assert (await service.embedding.EmbedTexts(texts("alive"))).results[0].HasField("embedding")
    assert len(text_worker.rows) == 1
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


async def test_items_of_calls_that_end_early_are_counted(start: Start, text_worker: FakeWorker) -> None:
    async with start(metrics_listen="127.0.0.1:0") as served:
        assert served.gateway.page
        registry = served.gateway.page._registry

        def items(outcome: str) -> float:
            labels = {"model": served.served.name, "tower": "text", "outcome": outcome}
            return registry.get_sample_value("siglip_items_total", labels) or 0

        text_worker.pause()
        await refused(served.embedding.EmbedTexts(texts("a", "b"), timeout=0.1))
        await until(lambda: items("DEADLINE_EXCEEDED") == 2)
        call = served.embedding.EmbedTexts(texts("a", "b", "c"), timeout=10)
        await until(lambda: served.gateway.parts.admission.rows == 3)
        call.cancel()
        await until(lambda: items("CANCELLED") == 3)
        text_worker.resume()


async def test_the_longest_deadline_holds_for_clients_without_one(
    start: Start, text_worker: FakeWorker
) -> None:
    async with start(max_deadline_s=0.2) as served:
        text_worker.pause()
        error = await refused(served.embedding.EmbedTexts(texts("a")))
        assert (error.code.name, error.reason) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
        await nothing_left(served)


async def test_a_full_queue_says_when_to_come_back(start: Start, text_worker: FakeWorker) -> None:
    async with start(queue_max_entries=1) as served:
        text_worker.pause()
        first = asyncio.ensure_future(served.embedding.EmbedTexts(texts("a")))
        await waiting_in_queue(served, "text", 1)
        error = await refused(served.embedding.EmbedTexts(texts("b")))
        says_when_to_retry(error, "RESOURCE_EXHAUSTED", "QUEUE_FULL")
        text_worker.resume()
        assert (await first).results[0].HasField("embedding")
        assert (await served.embedding.EmbedTexts(texts("b"))).results[0].HasField("embedding")


async def test_admission_refuses_at_once(start: Start, text_worker: FakeWorker) -> None:
    async with start(max_in_flight_rows=3) as served:
        text_worker.pause()
        first = asyncio.ensure_future(served.embedding.EmbedTexts(texts("a", "b")))
        await waiting_in_queue(served, "text", 1)
        error = await refused(served.embedding.EmbedTexts(texts("c", "d")))
        says_when_to_retry(error, "RESOURCE_EXHAUSTED", "OVERLOADED")
        assert "max_in_flight_rows is 3" in error.message
        text_worker.resume()
        await first
        # More than fits beside another call is let in alone.
        assert len((await served.embedding.EmbedTexts(texts("c", "d", "e", "f"))).results) == 4


A = Caller("a")


async def test_admission_counts_bytes_and_gives_everything_back() -> None:
    admission = Admission(max_rows=10, max_bytes=100)
    with admission.admit(1, 60, A):
        message = "max_in_flight_bytes is 100: this call needs 50 and 60"
        with pytest.raises(Overloaded, match=message), admission.admit(1, 50, A):
            raise AssertionError("admitted")
        with pytest.raises(ZeroDivisionError), admission.admit(1, 40, A):
            _ = 1 // 0
        assert (admission.rows, admission.bytes) == (1, 60)
    assert (admission.rows, admission.bytes) == (0, 0)


def says_when_to_retry(error: Refused, code: str, reason: str) -> None:
    assert (error.code.name, error.reason) == (code, reason)
    delay_ms = error.details["RetryInfo"].retry_delay.ToMilliseconds()
    assert 50 <= delay_ms <= 5000
    assert error.trailers["grpc-retry-pushback-ms"] == str(delay_ms)


async def test_without_workers_calls_fail_soon(valkey: EmbeddedServer, tmp_path: Path) -> None:
    alone = write_tiny_checkpoint(tmp_path / "alone", seed=7)
    async with serving(settings_for(alone, valkey.url, no_worker_timeout_s=0.3)) as served:
        error = await refused(served.embedding.EmbedTexts(texts("a"), timeout=10))
        says_when_to_retry(error, "UNAVAILABLE", "NO_WORKERS")
        assert "text" in error.message
        await nothing_left(served)
        # What needs no worker is answered.
        assert (await served.model.GetModel(model_pb2.GetModelRequest())).text_tower.live_workers == 0


async def test_while_the_queue_is_away_calls_fail_and_then_work_again(checkpoint: Path) -> None:
    with EmbeddedServer() as queue:
        async with serving(settings_for(checkpoint, queue.url)) as served:
            worker = FakeWorker(queue.url, served.served, "text")
            try:
                assert (await served.embedding.EmbedTexts(texts("a"))).results[0].HasField("embedding")
                queue._end_guard()
                await until(lambda: served.gateway.parts.broker.outage)
                for call in (
                    served.embedding.EmbedTexts(texts("a")),
                    served.model.GetModel(model_pb2.GetModelRequest()),
                ):
                    error = await refused(call)
                    says_when_to_retry(error, "UNAVAILABLE", "QUEUE_UNAVAILABLE")
                    assert "valkey" not in error.message and "/" not in error.message
                queue.restart()
                await until(lambda: not served.gateway.parts.broker.outage)
                assert (await served.embedding.EmbedTexts(texts("a"))).results[0].HasField("embedding")
            finally:
                worker.stop()


class Decoder:
    """Stands still until it is released."""

    def __init__(self) -> None:
        self.begun: list[bytes] = []
        self.release = threading.Event()

    def __call__(self, image: bytes) -> bytes:
        self.begun.append(image)
        assert self.release.wait(10)
        return image


async def test_a_cancelled_call_leaves_its_images_undecoded() -> None:
    decode = Decoder()
    pool = DecodePool(decode, threads=2)
    call = asyncio.ensure_future(pool.decode_all([b"%d" % n for n in range(50)]))
    await until(lambda: len(decode.begun) == 2)
    other = asyncio.ensure_future(pool.decode_all([b"other"]))
    await asyncio.sleep(0)
    call.cancel()
    decode.release.set()
    assert await other == [b"other"]
    pool.close()
    assert sorted(decode.begun) in ([b"0", b"1", b"other"], [b"0", b"1", b"2", b"other"])


async def test_small_calls_do_not_wait_behind_large_ones() -> None:
    decode = Decoder()
    pool = DecodePool(decode, threads=1)
    large = asyncio.ensure_future(pool.decode_all([b"large"] * 40))
    await asyncio.sleep(0)
    small = asyncio.ensure_future(pool.decode_all([b"small"]))
    await asyncio.sleep(0)
    decode.release.set()
    await asyncio.gather(large, small)
    pool.close()
    assert decode.begun.index(b"small") <= 3


async def test_one_callers_pictures_do_not_keep_anothers_waiting() -> None:
    decode = Decoder()
    pool = DecodePool(decode, threads=1)
    flood = [asyncio.ensure_future(pool.decode_all([b"flood"] * 3, "flood")) for _ in range(20)]
    await asyncio.sleep(0)
    other = asyncio.ensure_future(pool.decode_all([b"other"], "other"))
    await asyncio.sleep(0)
    decode.release.set()
    await asyncio.gather(*flood, other)
    pool.close()
    assert decode.begun.index(b"other") <= 3


async def test_decoding_that_would_be_late_is_refused_at_once() -> None:
    release = threading.Event()

    def decode(image: bytes) -> bytes:
        assert image == b"warm" or release.wait(10)
        time.sleep(0.02)
        return image

    pool = DecodePool(decode, threads=1)
    await pool.decode_all([b"warm"] * 3)
    waiting = [asyncio.ensure_future(pool.decode_all([b"image"], "flood", 60)) for _ in range(50)]
    await asyncio.sleep(0)
    with pytest.raises(WouldBeLate, match=r"would take about \d\.\d s and the deadline is in 0\.5 s"):
        await pool.decode_all([b"image"], "flood", 0.5)
    # Another caller's turn comes sooner.
    other = asyncio.ensure_future(pool.decode_all([b"image"], "other", 0.5))
    await asyncio.sleep(0)
    assert not other.done()
    release.set()
    await asyncio.gather(*waiting, other)
    assert await pool.decode_all([b"image"], "flood", 0.001) == [b"image"]  # nothing waits: one finds out
    pool.close()


async def test_a_cancelled_picture_keeps_its_slot_until_it_is_decoded() -> None:
    """Else calls that are sent and cancelled would pile up their bytes behind the threads."""
    decode = Decoder()
    pool = DecodePool(decode, threads=1)
    for number in range(40):
        call = asyncio.ensure_future(pool.decode_all([b"%d" % number]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    assert pool._threads._work_queue.qsize() == 0 and not len(pool._line)
    decode.release.set()
    assert await pool.decode_all([b"last"]) == [b"last"]
    await until(lambda: pool._begun == 0)
    pool.close()
    assert decode.begun == [b"0", b"last"]


async def test_a_pool_that_closes_leaves_nobody_waiting() -> None:
    decode = Decoder()
    pool = DecodePool(decode, threads=1, on_close=decode.release.set)
    calls = [asyncio.ensure_future(pool.decode_all([b"%d" % number])) for number in range(5)]
    await until(lambda: decode.begun == [b"0"])
    await asyncio.to_thread(lambda: None)
    pool.close()
    ended = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 10)
    assert ended[0] == [b"0"] and all(isinstance(end, asyncio.CancelledError) for end in ended[2:])


async def test_only_quick_pictures_are_handed_ahead() -> None:
    pool = DecodePool(lambda image: image, threads=1)
    assert not pool._seconds
    await pool.decode_all([b"quick"] * 20)
    decode = pool._decode = Decoder()
    calls = [asyncio.ensure_future(pool.decode_all([b"%d" % number])) for number in range(5)]
    await until(lambda: decode.begun == [b"0"])
    assert pool._begun == 2
    pool._seconds = 1.0 * pool._pictures
    decode.release.set()
    await asyncio.gather(*calls)
    pool.close()


async def test_a_decoder_that_breaks_fails_one_image(caplog: pytest.LogCaptureFixture) -> None:
    def decode(image: bytes) -> bytes:
        if image == b"bad":
            raise MemoryError("secret")
        return image

    pool = DecodePool(decode, threads=2)
    first, bad, last = await pool.decode_all([b"a", b"bad", b"b"])
    pool.close()
    assert (first, last) == (b"a", b"b")
    assert not isinstance(bad, bytes)
    assert (bad.code, bad.reason) == (grpc.StatusCode.INTERNAL, "IMAGE_DECODER_FAILED")
    assert "secret" not in bad.message and "secret" in caplog.text
