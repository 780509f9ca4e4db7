"""Work that need not be done: remembered vectors, equal work on its way, refusals; never another's vector."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from siglip.v1 import embedding_pb2, zero_shot_pb2

from broker import RowError, shared_cache
from gateway.cache import ENTRY_BYTES
from gateway.errors import StartError
from gateway.helpers import DecoderFailed
from siglip_model.image_processing import ImageLimits, decode
from tests.gateway.conftest import Served, Start
from tests.gateway.rig import FakeWorker, picture, refused, until
from tests.support.slow_model import vector_of

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def one_gateway(start: Start, workers: dict[str, FakeWorker]) -> AsyncIterator[Served]:
    async with start(cache_bytes=1 << 20, metrics_listen="127.0.0.1:0") as served:
        await workers_seen(served)
        yield served


async def workers_seen(served: Served) -> None:
    """Until then the gateway does not know whose vectors it may use."""
    await until(lambda: all(served.gateway.parts.broker.live_workers().values()))


@pytest.fixture
def served(one_gateway: Served, text_worker: FakeWorker, vision_worker: FakeWorker) -> Served:
    """A gateway that remembers nothing yet."""
    parts = one_gateway.gateway.parts
    for cache in (parts.embedder._once.cache, parts.label_sets._known):
        for key in list(cache._entries):
            cache.drop(key)
    return one_gateway


def texts(*texts: str) -> embedding_pb2.EmbedTextsRequest:
    return embedding_pb2.EmbedTextsRequest(texts=texts)


def images(*images: bytes) -> embedding_pb2.EmbedImagesRequest:
    return embedding_pb2.EmbedImagesRequest(images=images)


def counted(served: Served, tower: str, result: str) -> float:
    assert served.gateway.page
    labels = {"model": served.served.name, "tower": tower, "result": result}
    return served.gateway.page._registry.get_sample_value("siglip_cache_items_total", labels) or 0


def vectors(reply: Any) -> list[bytes]:
    return [result.embedding.data for result in reply.results]


def right(served: Served, *texts: str) -> list[bytes]:
    model = served.served
    ids = model.tokenizer.encode_batch(texts, model.text_length)[0]
    return [vector_of(row.tobytes(), model.embedding_dim)[0].tobytes() for row in ids]


def right_images(served: Served, *images: bytes) -> list[bytes]:
    model = served.served
    size = (model.image_size, model.image_size)
    rows = [decode(image, ImageLimits(), size, model.resample).tobytes() for image in images]
    return [vector_of(row, model.embedding_dim)[0].tobytes() for row in rows]


async def test_what_was_computed_is_not_computed_again(served: Served, text_worker: FakeWorker) -> None:
    first = await served.embedding.EmbedTexts(texts("a", "b"))
    again = await served.embedding.EmbedTexts(texts("b", "c", "a"))
    assert vectors(first) == right(served, "a", "b") and vectors(again) == right(served, "b", "c", "a")
    assert len(text_worker.rows) == 3
    assert (counted(served, "text", "hit"), counted(served, "text", "miss")) == (2, 3)
    # The length that the model gave is remembered, too.
    long = texts("a")
    long.options.normalize = False
    (norm,) = [
        np.linalg.norm(np.frombuffer(v, "<f4")) for v in vectors(await served.embedding.EmbedTexts(long))
    ]
    row = served.served.tokenizer.encode_batch(["a"], served.served.text_length)[0][0].tobytes()
    assert norm == pytest.approx(vector_of(row, served.served.embedding_dim)[1], rel=1e-5)


async def test_a_known_image_is_not_even_decoded(served: Served, vision_worker: FakeWorker) -> None:
    one, two = picture(1), picture(2)
    await served.embedding.EmbedImages(images(one))
    asked: list[bytes] = []
    decoders: Any = served.gateway.parts.embedder._decoders
    decoding = decoders._decode
    decoders._decode = lambda image: asked.append(image) or decoding(image)
    reply = await served.embedding.EmbedImages(images(two, one, one))
    assert vectors(reply) == right_images(served, two, one, one)
    assert asked == [two] and len(vision_worker.rows) == 2


async def test_a_bad_image_is_refused_from_memory_and_a_decoders_fault_is_not(
    served: Served, vision_worker: FakeWorker
) -> None:
    answers = iter([DecoderFailed("IMAGE_DECODER_CRASHED", "it crashed"), b"", b"no more"])
    decoders: Any = served.gateway.parts.embedder._decoders
    decoding, asked = decoders._decode, []

    def decode_or_fail(image: bytes) -> bytes:
        asked.append(image)
        if image == good and (fault := next(answers)):
            raise fault  # type: ignore[misc]
        return bytes(decoding(image))

    good, bad = picture(3), picture(4)[:-40]
    decoders._decode = decode_or_fail
    for _ in range(2):
        (result,) = (await served.embedding.EmbedImages(images(bad))).results
        assert result.error.reason == "IMAGE_TRUNCATED" and result.error.field == "images[0]"
    assert asked == [bad] and counted(served, "vision", "refusal") == 1
    (result,) = (await served.embedding.EmbedImages(images(good))).results
    assert result.error.reason == "IMAGE_DECODER_CRASHED"
    assert vectors(await served.embedding.EmbedImages(images(good))) == right_images(served, good)


async def test_what_a_worker_cannot_compute_is_tried_again(served: Served, text_worker: FakeWorker) -> None:
    model = served.served
    row = model.tokenizer.encode_batch(["x"], model.text_length)[0][0].tobytes()
    text_worker.failing, text_worker.failure = {row}, RowError("COMPUTE_FAILED", "", retryable=False)
    (result,) = (await served.embedding.EmbedTexts(texts("x"))).results
    assert result.error.reason == "COMPUTE_FAILED"
    text_worker.failing.clear()
    assert vectors(await served.embedding.EmbedTexts(texts("x"))) == right(served, "x")


async def test_equal_work_on_its_way_is_joined(served: Served, text_worker: FakeWorker) -> None:
    text_worker.pause()
    calls = [served.embedding.EmbedTexts(texts("same", str(number))) for number in range(5)]
    await until(lambda: served.gateway.parts.admission.rows == 10)
    text_worker.resume()
    for number, call in enumerate(calls):
        assert vectors(await call) == right(served, "same", str(number))
    assert len(text_worker.rows) == 6 and counted(served, "text", "joined") == 4


async def test_who_joined_is_answered_when_the_first_leaves(served: Served, text_worker: FakeWorker) -> None:
    text_worker.pause()
    leaving = served.embedding.EmbedTexts(texts("same"))
    await until(lambda: served.gateway.parts.admission.rows == 1)
    late = served.embedding.EmbedTexts(texts("same"), timeout=0.3)
    staying = [served.embedding.EmbedTexts(texts("same")) for _ in range(3)]
    await until(lambda: served.gateway.parts.admission.rows == 5)
    leaving.cancel()
    assert (await refused(late)).code is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: served.gateway.parts.admission.rows == 3)
    text_worker.resume()
    for call in staying:
        assert vectors(await call) == right(served, "same")
    assert len(text_worker.rows) == 1
    assert served.gateway.parts.admission.bytes == 0


async def test_a_first_with_little_time_takes_nobody_along(served: Served, text_worker: FakeWorker) -> None:
    text_worker.pause()
    hasty = served.embedding.EmbedTexts(texts("same"), timeout=0.2)
    await until(lambda: served.gateway.parts.admission.rows == 1)
    patient = served.embedding.EmbedTexts(texts("same"), timeout=20)
    assert (await refused(hasty)).code is grpc.StatusCode.DEADLINE_EXCEEDED
    text_worker.resume()
    assert vectors(await patient) == right(served, "same")


async def test_interactive_work_does_not_wait_for_batch_work(served: Served, text_worker: FakeWorker) -> None:
    text_worker.pause()
    batch = served.embedding.EmbedTexts(texts("same"), metadata=(("siglip-priority", "batch"),))
    await until(lambda: served.gateway.parts.admission.rows == 1)
    interactive = served.embedding.EmbedTexts(texts("same"))
    await until(lambda: len([s for s in served.gateway.parts.broker.streams() if s.entries]) == 2)
    text_worker.resume()
    assert vectors(await batch) == vectors(await interactive)


async def test_the_second_classification_costs_the_image_tower_only(
    served: Served, text_worker: FakeWorker, vision_worker: FakeWorker
) -> None:
    ask = zero_shot_pb2.ClassifyRequest(images=[picture(5)], labels=["a", "b"], templates=["a {}", "the {}"])
    first = await served.zero_shot.Classify(ask)
    ask.images[0] = picture(6)
    other = await served.zero_shot.Classify(ask)
    assert len(text_worker.rows) == 4 and len(vision_worker.rows) == 2
    ask.images[0] = picture(5)
    again = await served.zero_shot.Classify(ask)
    assert again.results == first.results and other.results != first.results
    ask.templates[0] = "no {}"
    assert (await served.zero_shot.Classify(ask)).results != first.results
    # Half of the prompts are new.
    assert len(text_worker.rows) == 6 and len(vision_worker.rows) == 2


async def test_gateways_share_what_they_computed(
    start: Start, text_worker: FakeWorker, vision_worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A machine that is busy with other things makes no server late.
    monkeypatch.setattr(shared_cache, "READ_TIMEOUT_S", 10.0)
    shared = {"cache_bytes": 1 << 20, "shared_cache_bytes": 1 << 40, "metrics_listen": "127.0.0.1:0"}
    async with start(**shared) as one, start(**shared) as other:
        await workers_seen(one), await workers_seen(other)
        new = [f"shared {time.time_ns()} {number}" for number in range(70)]
        seen = picture(int(time.time()))
        await one.embedding.EmbedTexts(texts(*new))
        await one.embedding.EmbedImages(images(seen))
        cache: Any = one.gateway.parts.embedder._once._shared
        await until(lambda: not cache._unwritten and cache._tasks["write"].done())
        assert vectors(await other.embedding.EmbedTexts(texts(*new))) == right(other, *new)
        assert vectors(await other.embedding.EmbedImages(images(seen))) == right_images(other, seen)
        assert len(text_worker.rows) == 70 and len(vision_worker.rows) == 1
        assert counted(other, "text", "shared") == 70 and counted(other, "vision", "shared") == 1
        # Asked for once: now the gateway itself remembers.
        await other.embedding.EmbedTexts(texts(*new))
        assert counted(other, "text", "hit") == 70


async def test_a_shared_cache_needs_one_of_its_own(start: Start) -> None:
    with pytest.raises(StartError, match=r"--shared-cache-bytes needs .*--cache-bytes above 0"):
        async with start(cache_bytes=0, shared_cache_bytes=1):
            pass


async def test_nothing_is_remembered_with_a_cache_of_no_bytes(start: Start, text_worker: FakeWorker) -> None:
    async with start(cache_bytes=0) as served:
        for _ in range(2):
            assert vectors(await served.embedding.EmbedTexts(texts("a", "a"))) == right(served, "a", "a")
        assert len(text_worker.rows) == 2


async def test_nobody_gets_anothers_vector(
    start: Start, text_worker: FakeWorker, vision_worker: FakeWorker
) -> None:
    """Pictures of one size, texts with one beginning, the bytes of one as the other, many times at once."""
    draw = random.Random(7)
    same_start = ["a" * n for n in range(1, 12)] + ["a" * n + "b" for n in range(11)]
    pictures = [picture(seed, kind=kind) for seed in range(6) for kind in ("JPEG", "PNG", "BMP")]
    # Too small for all: what is remembered changes all the time.
    async with start(cache_bytes=12 * (ENTRY_BYTES + 64 * 4)) as served:
        await workers_seen(served)
        answers = dict(zip(same_start, right(served, *same_start), strict=True))
        seen = dict(zip(pictures, right_images(served, *pictures), strict=True))

        async def text_call() -> None:
            asked = draw.choices(same_start, k=draw.randint(1, 9))
            assert vectors(await served.embedding.EmbedTexts(texts(*asked))) == [answers[t] for t in asked]

        async def image_call() -> None:
            asked = draw.choices(pictures, k=draw.randint(1, 5))
            assert vectors(await served.embedding.EmbedImages(images(*asked))) == [seen[i] for i in asked]

        for _ in range(8):
            await asyncio.gather(*(text_call() for _ in range(6)), *(image_call() for _ in range(3)))
        assert 0 < served.gateway.parts.embedder._once.cache.bytes <= 12 * (ENTRY_BYTES + 64 * 4)
        assert len(text_worker.rows) > len(set(text_worker.rows))
