"""Several models at one gateway: who is meant, what they share, and what they never share."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2
from siglip.v1 import embedding_pb2, model_pb2, zero_shot_pb2

from broker import EmbeddedServer, GatewayBroker
from gateway.served import ServedModel
from siglip_settings import ModelSettings
from tests.gateway.conftest import Served, Start
from tests.gateway.rig import FakeWorker, picture, refused, until
from tests.support.checkpoints import write_tiny_checkpoint

pytestmark = pytest.mark.asyncio(loop_scope="session")

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
LABELS = ["a cat", "a dog"]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of other sizes than the first model: pictures, texts and vectors of one are nothing to the other."""
    return write_tiny_checkpoint(
        tmp_path_factory.mktemp("checkpoints") / "large",
        seed=5,
        text_length=16,
        text={"hidden_size": 64},
        vision={"hidden_size": 64, "image_size": 48},
    )


@pytest.fixture(scope="module")
def large_workers(large: Path, valkey: EmbeddedServer) -> AsyncIterator[dict[str, FakeWorker]]:
    model = ServedModel.load(ModelSettings(model=str(large)))
    both = {tower: FakeWorker(valkey.url, model, tower) for tower in ("text", "vision")}
    yield both
    for worker in both.values():
        worker.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def two(
    start: Start, large: Path, workers: dict[str, FakeWorker], large_workers: dict[str, FakeWorker]
) -> AsyncIterator[Served]:
    async with start(more_models=f"large={large}", cache_bytes=1 << 20) as served:
        for parts in served.gateway.models.each:
            await until(lambda parts=parts: all(parts.broker.live_workers().values()))
        yield served


async def test_each_is_described_under_its_name(two: Served) -> None:
    first = await two.model.GetModel(model_pb2.GetModelRequest())
    large = await two.model.GetModel(model_pb2.GetModelRequest(model="large"))
    assert (first.name, first.embedding_dim, first.image_size, first.text_length) == ("tiny", 32, 32, 64)
    assert (large.name, large.embedding_dim, large.image_size, large.text_length) == ("large", 64, 48, 16)
    assert list(first.served_models) == list(large.served_models) == ["tiny", "large"]
    assert first.fingerprint != large.fingerprint


async def test_an_unknown_name_is_told_those_that_are_served(two: Served) -> None:
    error = await refused(two.embedding.EmbedTexts(embedding_pb2.EmbedTextsRequest(model="x", texts=["a"])))
    assert (error.code.name, error.reason) == ("NOT_FOUND", "MODEL_UNKNOWN")
    assert "'x'" in error.message and "'tiny', 'large'" in error.message


async def test_the_line_of_a_call_names_its_model(two: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for name in ("", "large"):
        await two.embedding.EmbedTexts(embedding_pb2.EmbedTextsRequest(model=name, texts=["of a line"]))
    await refused(two.embedding.EmbedTexts(embedding_pb2.EmbedTextsRequest(model="x", texts=["a"])))
    lines = [record.message for record in caplog.records if "EmbedTexts" in record.message]
    assert ["model=tiny" in lines[0], "model=large" in lines[1], "model=" in lines[2]] == [True, True, False]


async def test_equal_items_are_computed_by_each_model_for_itself(
    two: Served, text_worker: FakeWorker, vision_worker: FakeWorker, large_workers: dict[str, FakeWorker]
) -> None:
    """They share the memory of vectors, and no vector."""
    image = picture(77)
    for _ in range(2):
        for name, dim in (("", 32), ("large", 64), ("tiny", 32)):
            texts = await two.embedding.EmbedTexts(
                embedding_pb2.EmbedTextsRequest(model=name, texts=["to both"])
            )
            images = await two.embedding.EmbedImages(
                embedding_pb2.EmbedImagesRequest(model=name, images=[image])
            )
            for reply in (texts, images):
                assert reply.results[0].embedding.dim == dim
                assert reply.model.name == (name or "tiny")
    assert len(text_worker.rows) == len(vision_worker.rows) == 1
    assert [len(large_workers[tower].rows[-1]) for tower in ("text", "vision")] == [16 * 4, 3 * 48 * 48]


async def test_a_label_set_belongs_to_its_model(two: Served) -> None:
    made = await two.zero_shot.CreateLabelSet(
        zero_shot_pb2.CreateLabelSetRequest(model="large", labels=LABELS)
    )
    own = zero_shot_pb2.ClassifyRequest(model="large", images=[picture(3)], label_set=made.label_set)
    assert len((await two.zero_shot.Classify(own)).results[0].scores.scores) == 2
    own.model = "tiny"
    error = await refused(two.zero_shot.Classify(own))
    assert (error.code.name, error.reason) == ("NOT_FOUND", "LABEL_SET_NOT_FOUND")


async def test_a_stream_is_of_the_model_that_it_names(two: Served) -> None:
    for name, dim in (("large", 64), ("", 32)):
        first = embedding_pb2.EmbedStreamRequest(
            options=embedding_pb2.EmbedStreamOptions(model=name),
            items=[embedding_pb2.EmbedStreamItem(id=1, text="of a stream")],
        )
        replies = [reply async for reply in two.embedding.EmbedStream(iter([first]))]
        assert replies[0].opened.model.name == (name or "tiny")
        assert [result.embedding.dim for reply in replies for result in reply.results] == [dim]


async def test_what_is_in_flight_is_bounded_for_all_together(
    start: Start, large: Path, text_worker: FakeWorker, large_workers: dict[str, FakeWorker]
) -> None:
    async with start(more_models=f"large={large}", max_in_flight_bytes=600) as served:
        text_worker.hold()
        one = embedding_pb2.EmbedTextsRequest(texts=["a", "b"])
        waits = asyncio.ensure_future(served.embedding.EmbedTexts(one))
        await until(lambda: served.gateway.parts.admission.bytes)
        error = await refused(
            served.embedding.EmbedTexts(embedding_pb2.EmbedTextsRequest(model="large", texts=["c", "d"]))
        )
        assert error.code.name == "RESOURCE_EXHAUSTED" and "max_in_flight_bytes is 600" in error.message
        text_worker.resume()
        await waits


async def test_one_without_workers_takes_nobody_else_along(
    start: Start, large: Path, workers: dict[str, FakeWorker]
) -> None:
    """Before all have been there, the gateway is not ready; afterwards those that work go on."""
    model = ServedModel.load(ModelSettings(model=str(large), model_name="late"))

    async with start(more_models=f"late={large}") as served:

        async def health(name: str) -> int:
            return (await served.health.Check(health_pb2.HealthCheckRequest(service=name))).status

        async def shown(*wanted: int) -> bool:
            return [await health(name) for name in ("", "models/tiny", "models/late")] == list(wanted)

        await until(lambda: shown(NOT_SERVING, SERVING, NOT_SERVING))
        url = served.gateway.parts.settings.redis_url
        assert url
        late = [FakeWorker(url, model, tower) for tower in ("text", "vision")]
        try:
            await until(lambda: shown(SERVING, SERVING, SERVING))
        finally:
            for worker in late:
                worker.stop()
        await until(lambda: shown(SERVING, SERVING, NOT_SERVING))
        request = embedding_pb2.EmbedTextsRequest(texts=["a"])
        assert (await served.embedding.EmbedTexts(request)).model.name == "tiny"


async def test_their_queues_are_left_at_once(
    start: Start, large: Path, workers: dict[str, FakeWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Redis that does not answer holds up the end of a gateway once, not once for each model."""
    both = asyncio.Barrier(2)
    leave = GatewayBroker.close

    async def meet(broker: GatewayBroker) -> None:
        try:
            async with asyncio.timeout(5):
                await both.wait()
        finally:
            await leave(broker)

    monkeypatch.setattr(GatewayBroker, "close", meet)
    async with start(more_models=f"large={large}"):
        pass
