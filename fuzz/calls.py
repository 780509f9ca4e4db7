"""Request messages: every call ends with a reply that fits, or with an error that has a code."""

import asyncio
import atexit
import io
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from PIL import Image
from prometheus_client import CollectorRegistry
from siglip.v1 import embedding_pb2, model_pb2, zero_shot_pb2

from broker import Answer, Row
from fuzz.checkpoint import tiny
from gateway.access import Caller
from gateway.admission import Admission
from gateway.cache import Cache
from gateway.call import Call
from gateway.content_keys import ContentKeys
from gateway.embed import Embedder
from gateway.embedding import EmbeddingService
from gateway.errors import GatewayError, ItemFailure
from gateway.label_sets import LabelSets
from gateway.metrics import Metrics
from gateway.model import ModelService
from gateway.models import Models
from gateway.once import Once
from gateway.parts import Parts
from gateway.served import ServedModel
from gateway.status import failure_of, trailers
from gateway.streams import Streams
from gateway.tokens import TokenPool
from gateway.zero_shot import ZeroShotService
from siglip_model.image_processing import ImageError, ImageLimits, decode
from siglip_settings import GatewaySettings

import grpc  # isort: skip

# What stock gRPC clients accept.
STOCK_REPLY_BYTES = 4 << 20
STOCK_TRAILER_BYTES = 8 << 10
LIMITS = ImageLimits(max_pixels=1_000_000)
METHODS: list[tuple[Any, str, Any]] = [
    (EmbeddingService, "EmbedTexts", embedding_pb2.EmbedTextsRequest),
    (EmbeddingService, "EmbedImages", embedding_pb2.EmbedImagesRequest),
    (ZeroShotService, "Classify", zero_shot_pb2.ClassifyRequest),
    (ZeroShotService, "Score", zero_shot_pb2.ScoreRequest),
    (ModelService, "Tokenize", model_pb2.TokenizeRequest),
    (ZeroShotService, "CreateLabelSet", zero_shot_pb2.CreateLabelSetRequest),
]


class Vectors:
    """In the queue's place: a unit vector for every row."""

    def __init__(self, dim: int) -> None:
        self._row = Row(np.full(dim, dim**-0.5, "<f4").tobytes(), 1.0)

    async def embed(self, tower: str, rows: Sequence[bytes], *_: Any, **__: Any) -> Answer:
        return Answer([self._row] * len(rows), len(self._row.vector) // 4, 0, 0)


class Decoders:
    """In the pool's place."""

    def __init__(self, side: int) -> None:
        self._size = (side, side)

    async def decode_all(self, images: Sequence[bytes], *_: object) -> list[bytes | ItemFailure]:
        return [self._row(image) for image in images]

    def _row(self, image: bytes) -> bytes | ItemFailure:
        try:
            return decode(image, LIMITS, self._size).tobytes()
        except ImageError as error:
            return ItemFailure(grpc.StatusCode.INVALID_ARGUMENT, error.reason, error.message)


class Store:
    """In the place of Redis: every handle has the same value, which nobody has written."""

    async def put(self, *_: object) -> None: ...

    async def get(self, _: str) -> bytes:
        return b"\x0a\x01a"


@cache
def services() -> tuple[dict[Any, Any], asyncio.AbstractEventLoop]:
    settings = GatewaySettings(model=str(tiny()), cache_bytes=0)
    model = ServedModel.load(settings)
    tokens = TokenPool(model.tokenizer, model.text_length, settings.max_text_bytes)
    broker: Any = Vectors(model.embedding_dim)
    decoders: Any = Decoders(model.image_size)
    metrics, keys = Metrics(CollectorRegistry()).of(model.name), ContentKeys(model.fingerprint)
    store: Any = Store()
    once = Once(broker, metrics, Cache(0))
    embedder = Embedder(model, broker, tokens, decoders, metrics, keys, once)
    parts = Parts(
        settings,
        model,
        broker,
        tokens,
        embedder,
        Admission(settings.max_in_flight_rows, settings.max_in_flight_bytes),
        LabelSets(settings, keys, model.embedding_dim, embedder, store),
        Streams.of(settings),
        metrics,
    )
    loop = asyncio.new_event_loop()
    atexit.register(loop.close)
    models = Models([parts])
    return {kind: kind(models) for kind, _, _ in METHODS}, loop


def seeds() -> Iterator[bytes]:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    image = file.getvalue()
    requests = [
        embedding_pb2.EmbedTextsRequest(texts=["a cat", "", "a cat"]),
        embedding_pb2.EmbedImagesRequest(images=[image, b"no image"]),
        zero_shot_pb2.ClassifyRequest(
            images=[image], labels=["a", "b"], templates=["{} x"], top_k=1, threshold=0.5
        ),
        zero_shot_pb2.ScoreRequest(images=[image], texts=["a", "b"]),
        model_pb2.TokenizeRequest(texts=["a dog"]),
    ]
    for number, request in enumerate(requests):
        yield bytes([number]) + request.SerializeToString()
    # What is refused with as many words as can be.
    yield b"\0" + embedding_pb2.EmbedTextsRequest(model="犬" * 1000, texts=["a"]).SerializeToString()
    strange = ["犬" * 100] * 128
    request = zero_shot_pb2.ClassifyRequest(images=[image], labels=["a"], templates=strange)
    yield b"\2" + request.SerializeToString()


def trailer_bytes(error: GatewayError) -> int:
    """As HTTP/2 carries them at most: base64 for binary values, per cent for every character."""
    failure = failure_of(error)
    sent = trailers(failure, error, "i" * 128)
    sizes = (len(v) * 4 // 3 + 4 if isinstance(v, bytes) else len(v) for _, v in sent)
    return 3 * len(failure.message.encode()) + sum(len(key) for key, _ in sent) + sum(sizes)


def check(data: bytes) -> None:
    kind, method, message = METHODS[data[0] % len(METHODS)] if data else METHODS[0]
    try:
        request = message.FromString(data[1:])
    except DecodeError:
        return
    found, loop = services()
    call = Call(method, "fuzz", deadline=float("inf"), caller=Caller("fuzz"))
    try:
        reply = loop.run_until_complete(getattr(found[kind], method)(request, call))
    except GatewayError as error:
        assert error.code in grpc.StatusCode and error.reason and str(error)
        assert trailer_bytes(error) < STOCK_TRAILER_BYTES
        return
    assert reply.ByteSize() <= STOCK_REPLY_BYTES
    if hasattr(reply, "results"):
        items = request.images if hasattr(request, "images") else request.texts
        assert len(reply.results) == len(items)
