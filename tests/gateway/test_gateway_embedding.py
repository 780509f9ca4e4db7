"""EmbedTexts and EmbedImages: right vectors in the right order; a bad item fails alone."""

import io

import numpy as np
import pytest
from PIL import Image
from siglip.v1 import embedding_pb2, types_pb2

from broker import RowError
from siglip_model.image_processing import ImageLimits, decode
from tests.gateway.conftest import Served
from tests.gateway.rig import FakeWorker, picture
from tests.support.slow_model import vector_of

pytestmark = pytest.mark.asyncio(loop_scope="session")


def text_row(service: Served, text: str) -> bytes:
    model = service.served
    return model.tokenizer.encode_batch([text], model.text_length)[0].tobytes()


def image_row(service: Served, image: bytes) -> bytes:
    model = service.served
    size = (model.image_size, model.image_size)
    return decode(image, ImageLimits(), size, model.resample).tobytes()


def expected(service: Served, row: bytes) -> tuple[np.ndarray, float]:
    return vector_of(row, service.served.embedding_dim)


async def test_texts_get_the_workers_vectors_in_order(service: Served) -> None:
    texts = [f"a photo of {n} cats" for n in range(100)]
    reply = await service.embedding.EmbedTexts(embedding_pb2.EmbedTextsRequest(texts=texts))
    assert len(reply.results) == 100
    for text, result in zip(texts, reply.results, strict=True):
        vector = result.embedding
        assert (vector.dim, vector.dtype, vector.scale) == (32, types_pb2.DTYPE_F32, 1)
        assert vector.data == expected(service, text_row(service, text))[0].tobytes()


async def test_images_get_the_workers_vectors_in_order(service: Served) -> None:
    images = [picture(seed, (40 + seed, 90 - seed)) for seed in range(20)]
    reply = await service.embedding.EmbedImages(embedding_pb2.EmbedImagesRequest(images=images))
    got = [result.embedding.data for result in reply.results]
    assert got == [expected(service, image_row(service, image))[0].tobytes() for image in images]


async def test_replies_name_the_model_and_say_where_the_time_went(service: Served) -> None:
    reply = await service.embedding.EmbedImages(embedding_pb2.EmbedImagesRequest(images=[picture(1)]))
    assert (reply.model.name, reply.model.revision) == ("tiny", "")
    assert reply.model.fingerprint == service.served.fingerprint
    timing = reply.timing
    assert timing.compute_us == 1234
    assert timing.decode_us > 0
    assert timing.total_us > timing.decode_us
    assert timing.score_us == 0


async def test_equal_texts_are_computed_once(service: Served, text_worker: FakeWorker) -> None:
    # The tokenizer folds case and punctuation, so the first three are one row.
    texts = ["A cat.", "a cat", "a  CAT!", "a dog", "a cat"]
    reply = await service.embedding.EmbedTexts(embedding_pb2.EmbedTextsRequest(texts=texts))
    data = [result.embedding.data for result in reply.results]
    assert data[0] == data[1] == data[2] == data[4] != data[3]
    assert len(text_worker.rows) == 2


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16", "I8"])
async def test_every_dtype_with_and_without_the_norm(service: Served, dtype: str, normalize: bool) -> None:
    asked = types_pb2.Dtype.Value(f"DTYPE_{dtype}")
    options = embedding_pb2.EmbeddingOptions(dtype=asked, normalize=normalize)
    request = embedding_pb2.EmbedTextsRequest(texts=["a cat", "a dog"], options=options)
    reply = await service.embedding.EmbedTexts(request)
    for text, result in zip(request.texts, reply.results, strict=True):
        unit, norm = expected(service, text_row(service, text))
        truth = unit if normalize else unit * np.float32(norm)
        vector = result.embedding
        assert (vector.dtype, vector.dim) == (asked, 32)
        decoded = decoded_vector(vector)
        step = np.abs(truth).max() / 127
        tolerance = {"F32": 0.0, "F16": 2**-11, "BF16": 2**-8, "I8": step / 2 * 1.001}[dtype]
        allowed = tolerance if dtype == "I8" else tolerance * np.abs(truth) + 1e-7 * (dtype != "F32")
        assert (np.abs(decoded - truth) <= allowed).all()


def decoded_vector(vector: types_pb2.Vector) -> np.ndarray:
    match vector.dtype:
        case types_pb2.DTYPE_F32:
            values = np.frombuffer(vector.data, "<f4")
        case types_pb2.DTYPE_F16:
            values = np.frombuffer(vector.data, "<f2").astype(np.float32)
        case types_pb2.DTYPE_BF16:
            values = (np.frombuffer(vector.data, "<u2").astype(np.uint32) << 16).view(np.float32)
        case _:
            values = np.frombuffer(vector.data, np.int8).astype(np.float32)
    return values * np.float32(vector.scale)


def huge_header() -> bytes:
    """A PNG of a few hundred bytes whose header says 10,000 x 10,000."""
    data = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(data, "PNG")
    return data.getvalue()


BAD_IMAGES = {
    "truncated": (picture(3, (640, 480))[:5000], "IMAGE_TRUNCATED"),
    "text": (b"This is not a photo, whatever its name says.\n" * 9, "IMAGE_UNREADABLE"),
    "empty": (b"", "IMAGE_EMPTY"),
    "bomb": (huge_header(), "IMAGE_TOO_MANY_PIXELS"),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
async def test_a_bad_image_fails_alone(service: Served, kind: str) -> None:
    bad, reason = BAD_IMAGES[kind]
    images = [picture(1), bad, picture(2)]
    reply = await service.embedding.EmbedImages(embedding_pb2.EmbedImagesRequest(images=images))
    error = reply.results[1].error
    assert (error.index, error.field, error.code, error.reason) == (1, "images[1]", 3, reason)
    assert error.message
    assert not error.retryable
    for index in (0, 2):
        truth = expected(service, image_row(service, images[index]))[0]
        assert reply.results[index].embedding.data == truth.tobytes()


def animated() -> bytes:
    frames = [Image.new("RGB", (30, 20), colour) for colour in ("red", "green", "blue")]
    data = io.BytesIO()
    frames[0].save(data, "GIF", save_all=True, append_images=frames[1:])
    return data.getvalue()


def deep() -> bytes:
    """16 bits a pixel, a ramp from black to white."""
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    data = io.BytesIO()
    Image.fromarray(ramp).save(data, "PNG")
    return data.getvalue()


async def test_unusual_images_are_answered(service: Served, vision_worker: FakeWorker) -> None:
    images = [animated(), deep(), picture(5, mode="CMYK"), picture(6, kind="PNG", mode="P")]
    reply = await service.embedding.EmbedImages(embedding_pb2.EmbedImagesRequest(images=images))
    assert all(result.WhichOneof("result") == "embedding" for result in reply.results)
    pixels = [np.frombuffer(row, np.uint8).reshape(3, 32, 32) for row in vision_worker.rows]
    first_frame = next(image for image in pixels if image[0].min() > 250)
    assert first_frame[1:].max() < 5
    assert any(image.max() > 250 and image.min() < 5 and 120 < image.mean() < 135 for image in pixels)


async def test_a_text_above_the_limit_fails_alone(service: Served) -> None:
    texts = ["a cat", "x" * (service.gateway.parts.settings.max_text_bytes + 1), "a dog"]
    reply = await service.embedding.EmbedTexts(embedding_pb2.EmbedTextsRequest(texts=texts))
    error = reply.results[1].error
    assert (error.index, error.field, error.code, error.reason) == (1, "texts[1]", 3, "TEXT_TOO_LONG")
    assert "65537" in error.message and "65536" in error.message
    assert reply.results[0].HasField("embedding") and reply.results[2].HasField("embedding")


@pytest.mark.parametrize(
    ("reason", "told"),
    [("COMPUTE_FAILED", "COMPUTE_FAILED"), ("POISON", "COMPUTE_FAILED"), ("NON_FINITE", "NON_FINITE")],
)
async def test_a_row_that_the_model_cannot_compute_fails_alone(
    service: Served,
    text_worker: FakeWorker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    reason: str,
    told: str,
) -> None:
    """Callers get reasons and sentences that are ours; what the worker said is in the log."""
    monkeypatch.setattr(text_worker, "failure", RowError(reason, "RuntimeError: see /srv/worker.py", False))
    text_worker.failing.add(text_row(service, "a poisonous cat"))
    texts = ["a cat", "a poisonous cat"]
    reply = await service.embedding.EmbedTexts(embedding_pb2.EmbedTextsRequest(texts=texts))
    assert reply.results[0].HasField("embedding")
    error = reply.results[1].error
    assert (error.code, error.reason, error.field) == (13, told, "texts[1]")
    assert error.message and "/srv" not in error.message
    assert f"{reason}: RuntimeError: see /srv/worker.py" in caplog.text


async def test_large_texts_are_tokenized_as_small_ones(service: Served, text_worker: FakeWorker) -> None:
    texts = [f"{n} " + "a cat and a dog " * 600 for n in range(20)]
    reply = await service.embedding.EmbedTexts(embedding_pb2.EmbedTextsRequest(texts=texts))
    got = [result.embedding.data for result in reply.results]
    assert got == [expected(service, text_row(service, text))[0].tobytes() for text in texts]
