"""The main job through real processes: gateway, embedded Valkey, text and vision workers.

Whatever dies on the way, every call is answered, and with the vectors of the offline model.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import grpc
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from siglip.v1 import embedding_pb2, embedding_pb2_grpc, zero_shot_pb2, zero_shot_pb2_grpc

from siglip_model import ImageLimits, SiglipImageProcessor, SiglipTokenizer, load_model
from siglip_model.image_processing import decode, normalize, rescale
from siglip_model.modeling import SiglipModel, unit
from siglip_model.scoring import fill
from tests.support.checkpoints import write_tiny_checkpoint
from tests.support.pictures import encoded, scene
from tests.support.system import System, system
from tests.support.valkey import kill_server, wait_until

# Far above what is measured: the machine may be busy.
PATIENCE_S = 40.0
CALLS = 200
IMAGES_A_CALL = 2
PICTURES = [encoded(scene(seed=seed), "PNG") for seed in range(CALLS)]
LABELS = ["a red house", "two cats", "Zürich", "猫", "a photo of a dog near 3 trees!", "cat"]

Vectors = NDArray[np.float32]


@pytest.fixture(scope="module")
def service(queue_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    checkpoint = write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")
    with system(checkpoint, tmp_path_factory.mktemp("run")) as running:
        running.start_gateway()
        for tower in ("text", "vision", "vision"):
            running.start_worker(tower)
        running.wait_until_serving()
        running.wait_for_workers("vision", 2)
        yield running


@pytest.fixture(scope="module")
def offline(service: System) -> SiglipModel:
    return load_model(service.checkpoint)


@pytest.fixture(scope="module")
def expected(offline: SiglipModel) -> Vectors:
    """Unit vectors of PICTURES by the model alone."""
    with torch.inference_mode():
        return unit(offline.get_image_features(pixel_values(PICTURES))).numpy()


def pixel_values(pictures: Sequence[bytes]) -> torch.Tensor:
    limits, resample = ImageLimits(), SiglipImageProcessor().resample
    pixels = np.stack([decode(picture, limits, (32, 32), resample) for picture in pictures])
    return torch.from_numpy(normalize(rescale(pixels, 1 / 255), 0.5, 0.5))


@asynccontextmanager
async def channel_to(service: System) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(service.address) as channel:
        yield channel


def pictures_of(call: int) -> list[int]:
    """Every call sends other pictures, so that one call's answer is wrong for every other."""
    return [(call + i) % CALLS for i in range(IMAGES_A_CALL)]


async def embed(channel: grpc.aio.Channel, call: int) -> Vectors:
    request = embedding_pb2.EmbedImagesRequest(images=[PICTURES[i] for i in pictures_of(call)])
    stub = embedding_pb2_grpc.EmbeddingServiceStub(channel)
    response = await stub.EmbedImages(request, timeout=PATIENCE_S)
    return np.stack([np.frombuffer(result.embedding.data, "<f4") for result in response.results])


def start_calls(channel: grpc.aio.Channel, number: int = CALLS) -> list[asyncio.Task[Vectors]]:
    return [asyncio.create_task(embed(channel, call)) for call in range(number)]


async def answered(calls: list[asyncio.Task[Vectors]], at_least: int) -> None:
    """Until some calls are answered; in the middle means that others are not."""
    while sum(call.done() for call in calls) < at_least:
        await asyncio.wait([call for call in calls if not call.done()], return_when=asyncio.FIRST_COMPLETED)
    assert not all(call.done() for call in calls)


async def assert_all_right(calls: list[asyncio.Task[Vectors]], expected: Vectors) -> None:
    for call, vectors in enumerate(await asyncio.gather(*calls)):
        np.testing.assert_allclose(vectors, expected[pictures_of(call)], atol=1e-5)


async def test_probabilities_are_those_of_the_model_alone(service: System, offline: SiglipModel) -> None:
    request = zero_shot_pb2.ClassifyRequest(images=PICTURES[:5], labels=LABELS)
    async with channel_to(service) as channel:
        response = await zero_shot_pb2_grpc.ZeroShotServiceStub(channel).Classify(request, timeout=20)
    tokenizer = SiglipTokenizer.from_pretrained(service.checkpoint)
    ids, _ = tokenizer.encode_batch([fill("This is a photo of {}.", label) for label in LABELS], 64)
    with torch.inference_mode():
        logits = offline(torch.from_numpy(ids), pixel_values(PICTURES[:5])).logits_per_image
    for result, row in zip(response.results, logits, strict=True):
        scores = sorted(result.scores.scores, key=lambda score: score.label_index)
        assert [score.label for score in scores] == LABELS
        np.testing.assert_allclose([score.probability for score in scores], row.sigmoid(), atol=1e-5)
        np.testing.assert_allclose([score.logit for score in scores], row, atol=1e-3)
    assert response.timing.compute_us > 0


@pytest.mark.fault(1)
async def test_a_killed_worker_loses_nothing(service: System, expected: Vectors) -> None:
    victim = service.start_worker("vision")
    service.wait_for_workers("vision", 3)
    async with channel_to(service) as channel:
        calls = start_calls(channel)
        await answered(calls, 20)
        victim.kill()
        await assert_all_right(calls, expected)
    wait_until(lambda: service.left_overs() == {}, PATIENCE_S)


@pytest.mark.fault(5)
async def test_a_worker_that_slept_is_ignored(service: System, expected: Vectors) -> None:
    sleeper = service.workers["vision"][0]
    async with channel_to(service) as channel:
        calls = start_calls(channel)
        await answered(calls, 20)
        sleeper.send_signal(signal.SIGSTOP)
        try:
            await assert_all_right(calls, expected)
        finally:
            sleeper.send_signal(signal.SIGCONT)
        await assert_all_right(start_calls(channel), expected)
    wait_until(lambda: service.left_overs() == {}, PATIENCE_S)
    assert sleeper.poll() is None


@pytest.mark.fault(7)
async def test_a_queue_that_comes_back_empty_loses_nothing(service: System, expected: Vectors) -> None:
    workers = service.workers["vision"][:2]
    async with channel_to(service) as channel:
        for worker in workers:
            worker.send_signal(signal.SIGSTOP)
        try:
            # A gateway sends ahead what a second takes: so few on any machine.
            calls = start_calls(channel, 16)
            await asyncio.to_thread(wait_until, lambda: service.entries() == 16, PATIENCE_S)
            kill_server(service.valkey)
            service.valkey.restart()
        finally:
            for worker in workers:
                worker.send_signal(signal.SIGCONT)
        await assert_all_right(calls, expected)
    wait_until(lambda: service.left_overs() == {}, PATIENCE_S)
