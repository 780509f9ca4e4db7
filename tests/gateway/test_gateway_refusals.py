"""Bad requests: the right code, the field, the limit and the value; and the service lives on."""

import asyncio
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from siglip.v1 import embedding_pb2, model_pb2, zero_shot_pb2

from siglip_client import AsyncClient
from tests.broker.waiting import until
from tests.gateway.conftest import Served, Start
from tests.gateway.rig import FakeWorker, picture, refused

pytestmark = pytest.mark.asyncio(loop_scope="session")

ONE = [picture(1)]


def texts(**given: Any) -> embedding_pb2.EmbedTextsRequest:
    return embedding_pb2.EmbedTextsRequest(**given)


def images(**given: Any) -> embedding_pb2.EmbedImagesRequest:
    return embedding_pb2.EmbedImagesRequest(**given)


def classify(**given: Any) -> zero_shot_pb2.ClassifyRequest:
    return zero_shot_pb2.ClassifyRequest(**{"images": ONE, "labels": ["cat"]} | given)


def score(**given: Any) -> zero_shot_pb2.ScoreRequest:
    return zero_shot_pb2.ScoreRequest(**{"images": ONE, "texts": ["cat"]} | given)


def options(dtype: int) -> embedding_pb2.EmbeddingOptions:
    return embedding_pb2.EmbeddingOptions(dtype=dtype)


# request, reason, field, words of the message
REFUSED = {
    "no texts": (texts(), "FIELD_EMPTY", "texts", ["at least 1"]),
    "many texts": (texts(texts=["a"] * 513), "LIMIT_EXCEEDED", "texts", ["513", "512", "max_texts"]),
    "no images": (images(), "FIELD_EMPTY", "images", ["at least 1"]),
    "many images": (images(images=[b"a"] * 65), "LIMIT_EXCEEDED", "images", ["65", "64", "max_images"]),
    "dtype of texts": (
        texts(texts=["a"], options=options(9)),
        "ENUM_UNKNOWN",
        "options.dtype",
        ["9", "DTYPE_I8"],
    ),
    "dtype of images": (
        images(images=ONE, options=options(-1)),
        "ENUM_UNKNOWN",
        "options.dtype",
        ["-1", "DTYPE_F32"],
    ),
    "classify without images": (classify(images=[]), "FIELD_EMPTY", "images", ["at least 1"]),
    "classify without labels": (classify(labels=[]), "FIELD_EMPTY", "labels", ["at least 1"]),
    "10,000 labels": (
        classify(labels=[f"label {n}" for n in range(10_000)]),
        "LIMIT_EXCEEDED",
        "labels",
        ["10000", "1024", "max_labels"],
    ),
    "many templates": (
        classify(templates=["{}"] * 129),
        "LIMIT_EXCEEDED",
        "templates",
        ["129", "128", "max_templates"],
    ),
    "many prompts": (
        classify(labels=["a"] * 1000, templates=["{}"] * 5),
        "LIMIT_EXCEEDED",
        "labels x templates",
        ["5000", "4096", "max_prompts"],
    ),
    "many scores": (
        classify(images=ONE * 17, labels=["a"] * 1000),
        "LIMIT_EXCEEDED",
        "images x labels",
        ["17000", "16384", "max_scores"],
    ),
    "template without {}": (
        classify(templates=["a photo of {}", "a photo"]),
        "TEMPLATE_INVALID",
        "templates[1]",
        ["'a photo'", "0 times"],
    ),
    "template with two": (classify(templates=["{} and {}"]), "TEMPLATE_INVALID", "templates[0]", ["2 times"]),
    "named placeholder": (classify(templates=["a {label}"]), "TEMPLATE_INVALID", "templates[0]", ["0 times"]),
    "activation": (classify(activation=7), "ENUM_UNKNOWN", "activation", ["7", "ACTIVATION_SOFTMAX"]),
    "threshold not a number": (
        classify(threshold=float("nan")),
        "OUT_OF_RANGE",
        "threshold",
        ["nan", "0 to 1"],
    ),
    "threshold above 1": (classify(threshold=1.5), "OUT_OF_RANGE", "threshold", ["1.5"]),
    "threshold below 0": (classify(threshold=-0.1), "OUT_OF_RANGE", "threshold", ["-0.1"]),
    "long label": (
        classify(labels=["x" * 65_537]),
        "LIMIT_EXCEEDED",
        "labels[0]",
        ["65537", "max_text_bytes"],
    ),
    "long template": (
        classify(templates=["{}" + "x" * 65_535]),
        "LIMIT_EXCEEDED",
        "templates[0]",
        ["65537", "max_text_bytes"],
    ),
    "prompts of 100 MB": (
        classify(labels=["a"] * 32, templates=["{}" + "x" * 30_000] * 100),
        "LIMIT_EXCEEDED",
        "labels x templates",
        ["bytes when filled in", "max_message_bytes"],
    ),
    "reply of 6 MB": (
        classify(images=ONE * 64, labels=["x" * 1000] * 100),
        "LIMIT_EXCEEDED",
        "images x labels",
        ["the reply would have up to 6604800 bytes", "4194304", "max_reply_bytes", "top_k"],
    ),
    "score without images": (score(images=[]), "FIELD_EMPTY", "images", ["at least 1"]),
    "score without texts": (score(texts=[]), "FIELD_EMPTY", "texts", ["at least 1"]),
    "score of too many": (
        score(images=ONE * 64, texts=["a"] * 512),
        "LIMIT_EXCEEDED",
        "images x texts",
        ["32768", "16384", "max_scores"],
    ),
    "tokenize nothing": (model_pb2.TokenizeRequest(), "FIELD_EMPTY", "texts", ["at least 1"]),
}


def send(service: Served, request: Any) -> Any:
    method = type(request).__name__.removesuffix("Request")
    home = next(
        stub for stub in (service.embedding, service.zero_shot, service.model) if hasattr(stub, method)
    )
    return getattr(home, method)(request)


@pytest.mark.parametrize("name", REFUSED)
async def test_a_bad_request_is_refused_by_name(service: Served, name: str) -> None:
    request, reason, field, words = REFUSED[name]
    error = await refused(send(service, request))
    assert (error.code.name, error.reason) == ("INVALID_ARGUMENT", reason)
    assert error.fields[0] == field
    assert field in error.message
    for word in words:
        assert word in error.message
    assert error.trailer_bytes < 8192
    assert (await send(service, texts(texts=["still alive"]))).results[0].HasField("embedding")


async def test_all_violations_are_listed(service: Served) -> None:
    error = await refused(send(service, classify(images=[], labels=[], threshold=2.0, activation=9)))
    assert error.fields == ["images", "labels", "activation", "threshold"]
    assert "3 more" in error.message


async def test_hostile_text_cannot_swell_the_trailers(service: Served) -> None:
    templates = ["犬" * 20_000 + str(n) for n in range(100)]
    error = await refused(send(service, classify(templates=templates)))
    assert error.reason == "TEMPLATE_INVALID"
    assert 1 < len(error.fields) <= 100
    assert error.trailer_bytes < 8192


async def test_a_model_name_of_a_megabyte_is_shown_cut(service: Served) -> None:
    error = await refused(send(service, texts(model="名" * 300_000, texts=["a"])))
    assert error.code.name == "NOT_FOUND"
    assert error.trailer_bytes < 2048


async def test_the_largest_default_replies_fit_stock_clients(service: Served) -> None:
    draw = np.random.default_rng(0)
    labels = ["".join(draw.choice(list("abcdefgh "), 180)) for _ in range(1024)]
    reply = await send(service, classify(images=ONE * 16, labels=labels))
    assert reply.ByteSize() < 4 * 1024 * 1024
    reply = await send(service, model_pb2.TokenizeRequest(texts=[f"{n} red cats" for n in range(512)]))
    assert reply.ByteSize() < 4 * 1024 * 1024


async def test_a_message_above_the_limit_is_refused_and_the_channel_lives(start: Start) -> None:
    async with start(max_message_bytes=100_000) as served:
        error = await refused(send(served, images(images=[b"x" * 200_000])))
        assert error.code.name == "RESOURCE_EXHAUSTED"
        assert (await served.model.GetModel(model_pb2.GetModelRequest())).limits.max_message_bytes == 100_000


async def test_image_limits_are_those_of_the_settings(start: Start, workers: dict[str, FakeWorker]) -> None:
    async with start(max_image_bytes=5000, max_image_pixels=2000) as served:
        noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
        large = io.BytesIO()
        Image.fromarray(noise).save(large, "PNG")
        reply = await send(
            served, images(images=[large.getvalue(), picture(1, (50, 50)), picture(2, (30, 30))])
        )
        assert [result.error.reason for result in reply.results] == [
            "IMAGE_TOO_LARGE",
            "IMAGE_TOO_MANY_PIXELS",
            "",
        ]
        assert "2500" in reply.results[1].error.message and "2000" in reply.results[1].error.message


async def test_the_class_of_a_call_is_checked_and_travels(service: Served, text_worker: FakeWorker) -> None:
    error = await refused(
        service.embedding.EmbedTexts(
            embedding_pb2.EmbedTextsRequest(texts=["a"]), metadata=(("siglip-priority", "urgent"),)
        )
    )
    assert (error.code.name, error.reason) == ("INVALID_ARGUMENT", "PRIORITY_UNKNOWN")
    assert "'urgent'; it must be interactive or batch" in error.message
    text_worker.pause()
    async with AsyncClient(f"127.0.0.1:{service.gateway.port}", priority="batch") as client:
        call = asyncio.create_task(client.embed_texts(["a"]))
        await until(lambda: [s.entries for s in service.gateway.parts.broker.streams()][1] == 1)
        text_worker.resume()
        assert len(await call) == 1
