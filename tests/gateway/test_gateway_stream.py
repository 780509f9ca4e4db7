"""EmbedStream: what goes in comes out, one bad item is one item's error, order and credit hold."""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
import pytest
from siglip.v1 import embedding_pb2, types_pb2

from broker import RowError
from gateway import stream as stream_module
from siglip_model.image_processing import ImageLimits, decode
from tests.gateway.conftest import Served, Start
from tests.gateway.rig import FakeWorker, picture, refused, until
from tests.gateway.streams import Item, Request, Talk, talking, texts

pytestmark = pytest.mark.asyncio(loop_scope="session")


def by_id(results: Sequence[embedding_pb2.EmbedStreamResult]) -> dict[int, Any]:
    found = {result.id: result for result in results}
    assert len(found) == len(results)
    return found


def reasons(results: Sequence[embedding_pb2.EmbedStreamResult]) -> dict[int, str]:
    return {result.id: result.error.reason for result in results if result.HasField("error")}


class Sending:
    """Sends all items, in a task of its own."""

    def __init__(self, talk: Talk, items: list[Item], step: int) -> None:
        self.sent = 0
        self.task = asyncio.create_task(self._send(talk, items, step))

    async def stands_still(self) -> None:
        before = -1
        while self.sent != before:
            before = self.sent
            await asyncio.sleep(0.25)

    async def _send(self, talk: Talk, items: list[Item], step: int) -> None:
        for i in range(0, len(items), step):
            await talk.send(items[i : i + step])
            self.sent += step


async def test_every_kind_of_content_has_the_vector_of_a_unary_call(
    service: Served, text_worker: FakeWorker, vision_worker: FakeWorker
) -> None:
    pictures = [picture(seed) for seed in range(11)]
    words = [f"a text {i}" for i in range(70)] + [""]
    model = service.served
    ids = model.tokenizer.encode_batch(words[:3], model.text_length)[0]
    pixels = [decode(image, ImageLimits(), (model.image_size,) * 2, model.resample) for image in pictures[:3]]
    items = [Item(id=i, text=text) for i, text in enumerate(words)]
    items += [Item(id=100 + i, image=image) for i, image in enumerate(pictures)]
    items += [Item(id=200 + i, token_ids={"ids": row.tolist()}) for i, row in enumerate(ids)]
    items += [Item(id=300 + i, pixels=row.tobytes()) for i, row in enumerate(pixels)]
    async with talking(service) as talk:
        await talk.send(items)
        found = by_id(await talk.rest())
        assert await talk.call.code() is grpc.StatusCode.OK
    told = await service.embedding.EmbedTexts(embedding_pb2.EmbedTextsRequest(texts=words))
    seen = await service.embedding.EmbedImages(embedding_pb2.EmbedImagesRequest(images=pictures))
    assert len(found) == len(items)
    for i, result in enumerate(told.results):
        assert found[i].embedding == result.embedding
    for i, result in enumerate(seen.results):
        assert found[100 + i].embedding == result.embedding
    for i in range(3):
        assert found[200 + i].embedding == told.results[i].embedding
        assert found[300 + i].embedding == seen.results[i].embedding


async def test_options_hold_for_the_whole_stream(service: Served, text_worker: FakeWorker) -> None:
    options = embedding_pb2.EmbeddingOptions(dtype=types_pb2.DTYPE_F16, normalize=False)
    async with talking(service, embedding=options) as talk:
        await talk.send(texts(2))
        await talk.send(texts(2, 2))
        found = by_id(await talk.rest())
    request = embedding_pb2.EmbedTextsRequest(texts=[item.text for item in texts(4)], options=options)
    expected = await service.embedding.EmbedTexts(request)
    assert [found[i].embedding for i in range(4)] == [result.embedding for result in expected.results]


async def test_the_first_reply_says_what_may_be_sent(start: Start, text_worker: FakeWorker) -> None:
    limits = {"stream_max_items": 7, "stream_max_bytes": 9999, "max_image_bytes": 77}
    async with start(**limits) as served, talking(served) as talk:
        opened = talk.opened
    assert opened.model == served.served.info()
    assert (opened.max_unanswered_items, opened.max_unanswered_bytes) == (7, 9999)
    assert (opened.max_image_bytes, opened.max_text_bytes) == (77, 65536)
    assert (opened.text_length, opened.image_size) == (64, 32)
    assert opened.heartbeat_interval_ms == 5000


async def test_a_bad_item_is_that_items_error(
    service: Served, text_worker: FakeWorker, vision_worker: FakeWorker
) -> None:
    poisoned = service.served.tokenizer.encode_batch(["poison"], service.served.text_length)[0][0]
    text_worker.failing.add(poisoned.astype("<i4").tobytes())
    text_worker.failure = RowError("POISON_QUARANTINED", "seen", False)
    length, pixel_bytes = service.served.text_length, 3 * service.served.image_size**2
    bad = {
        "CONTENT_MISSING": Item(id=1),
        "TEXT_TOO_LONG": Item(id=2, text="x" * 70_000),
        "IMAGE_EMPTY": Item(id=3, image=b""),
        "IMAGE_UNREADABLE": Item(id=4, image=b"no image"),
        "TOKEN_IDS_LENGTH": Item(id=5, token_ids={"ids": [1] * (length - 1)}),
        "TOKEN_ID_UNKNOWN": Item(id=6, token_ids={"ids": [1] * (length - 1) + [-1]}),
        "PIXELS_LENGTH": Item(id=7, pixels=b"\0" * (pixel_bytes + 1)),
        "POISON_QUARANTINED": Item(id=8, text="poison"),
        "ID_DUPLICATE": Item(id=9, text="again"),
    }
    async with talking(service, ordered=True) as talk:
        await talk.send([Item(id=9, text="first"), *bad.values(), Item(id=10, text="good")])
        found = await talk.results(11)
        # An answered id may be used again, and the stream goes on.
        await talk.send([Item(id=9, text="first")])
        later = await talk.rest()
    assert [result.error.reason for result in found] == ["", *bad, ""]
    for position, result in enumerate(found):
        assert result.HasField("embedding") or result.error.field == f"items[{position}]"
        assert not result.error.retryable
    assert later[0].embedding == found[0].embedding


async def test_towers_that_are_not_served(start: Start, vision_worker: FakeWorker) -> None:
    async with start(towers="vision") as served, talking(served) as talk:
        await talk.send([Item(id=1, text="x"), Item(id=2, image=picture(1))])
        found = by_id(await talk.rest())
    assert found[1].error.reason == "TOWER_NOT_SERVED" and found[2].HasField("embedding")


async def test_ordered_results_come_in_the_order_of_the_items(
    service: Served, text_worker: FakeWorker, vision_worker: FakeWorker
) -> None:
    """Pictures that nobody computes keep back the texts behind them, which are done before."""
    items = [Item(id=i, image=picture(i)) if i % 5 == 0 else Item(id=i, text=f"{i}") for i in range(50)]
    vision_worker.pause()
    async with talking(service, ordered=True) as talk:
        await talk.send(items)
        await until(lambda: text_worker.rows)
        vision_worker.resume()
        assert [result.id for result in await talk.rest()] == list(range(50))
    vision_worker.pause()
    async with talking(service) as talk:
        await talk.send(items)
        early = await talk.results(40)
        vision_worker.resume()
        late = await talk.rest()
    assert all(result.id % 5 for result in early) and len(late) == 10


async def test_the_window_bounds_what_a_client_that_floods_can_have_read(
    start: Start, text_worker: FakeWorker
) -> None:
    async with start(stream_max_items=16) as served:
        text_worker.pause()
        async with talking(served) as talk:
            # Far more than all buffers of a connection hold.
            flood = [Item(id=i, text=f"{i} " + "x" * 20_000) for i in range(1000)]
            sending = Sending(talk, flood, 4)
            await sending.stands_still()
            assert sending.sent < 500
            text_worker.resume()
            await sending.task
            assert len(by_id(await talk.rest())) == 1000


async def test_who_does_not_read_is_not_read_from(start: Start) -> None:
    """Results that nobody reads fill no memory of ours. Refusals cost the least to make."""
    async with start() as served, talking(served) as talk:
        sending = Sending(talk, [Item(id=i) for i in range(150_000)], 500)
        await sending.stands_still()
        assert sending.sent < 100_000
        sending.task.cancel()


async def test_a_lone_item_may_be_larger_than_the_credit(start: Start, text_worker: FakeWorker) -> None:
    async with start(stream_max_bytes=10) as served, talking(served) as talk:
        await talk.send([Item(id=1, text="x" * 100)])
        await talk.results(1)
        await talk.send([Item(id=2, text="y" * 100)])
        assert len(await talk.rest()) == 1


async def test_items_that_come_slowly_are_not_kept_waiting(service: Served, text_worker: FakeWorker) -> None:
    async with talking(service) as talk:
        for i in range(5):
            await talk.send(texts(1, i))
            assert [result.id for result in await talk.results(1)] == [i]


async def test_a_stream_without_work_has_heartbeats(
    service: Served, text_worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "HEARTBEAT_S", 0.02)
    async with talking(service) as talk:
        assert talk.opened.heartbeat_interval_ms == 20
        while talk.heartbeats < 3:
            assert await talk.read() == []
        await talk.send(texts(1))
        assert len(await talk.results(1)) == 1


@pytest.mark.parametrize(
    ("first", "then", "field", "reason"),
    [
        (Request(), None, "options", "FIELD_EMPTY"),
        (Request(items=texts(1)), None, "options", "FIELD_EMPTY"),
        (Request(options={"embedding": {"dtype": 99}}), None, "options.embedding.dtype", "ENUM_UNKNOWN"),
        (Request(options={}), Request(options={}), "options", "FIELD_NOT_ALLOWED"),
        (Request(options={}), Request(items=texts(513)), "items", "LIMIT_EXCEEDED"),
    ],
)
async def test_what_breaks_the_rules_ends_the_stream(
    service: Served, first: Request, then: Request | None, field: str, reason: str
) -> None:
    call = service.embedding.EmbedStream()
    await call.write(first)
    if then:
        assert (await call.read()).HasField("opened")
        await call.write(then)
    failure = await refused(call.read())
    assert (failure.code, failure.fields) == (grpc.StatusCode.INVALID_ARGUMENT, [field])
    assert failure.reason == reason


async def test_an_unknown_model_and_a_stream_without_a_message(service: Served) -> None:
    call = service.embedding.EmbedStream()
    await call.write(Request(options={"model": "other"}))
    assert (await refused(call.read())).code is grpc.StatusCode.NOT_FOUND
    call = service.embedding.EmbedStream()
    await call.done_writing()
    assert (await refused(call.read())).code is grpc.StatusCode.INVALID_ARGUMENT


async def test_no_message_makes_more_than_a_refusal(service: Served, text_worker: FakeWorker) -> None:
    """Bodies that are cut, changed and mixed: each stream ends with a status of ours."""
    draw = np.random.default_rng(7)
    good = Request(options={}, items=[*texts(3), Item(id=9, token_ids={"ids": [1] * 64})]).SerializeToString()
    raw = service.channel.stream_stream("/siglip.v1.EmbeddingService/EmbedStream")
    codes = set()
    for _ in range(150):
        body = bytearray(good)
        for _ in range(draw.integers(1, 4)):
            body[draw.integers(len(body))] = draw.integers(256)
        call = raw()
        await call.write(bytes(body[: draw.integers(1, len(body) + 1)]))
        await call.done_writing()
        try:
            while await call.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError as error:
            assert "Traceback" not in (error.details() or "")
        codes.add(await call.code())
    assert codes <= {
        grpc.StatusCode.OK,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
    }
    assert grpc.StatusCode.INVALID_ARGUMENT in codes and grpc.StatusCode.OK in codes


async def test_a_client_that_leaves_takes_its_work_along(service: Served, text_worker: FakeWorker) -> None:
    text_worker.pause()
    async with talking(service) as talk:
        await talk.send(texts(10))
        await until(lambda: service.gateway.parts.streams.rows == 10)
    await until(lambda: service.gateway.parts.streams.rows == 0)
    await until(lambda: not any(state.entries for state in service.gateway.parts.broker.streams()))
    text_worker.resume()
    assert isinstance(talk, Talk)
