"""A gateway of a few lines, over real gRPC: vectors follow from the bytes, and failures can be ordered."""

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message
from siglip.v1 import embedding_pb2, model_pb2, types_pb2, zero_shot_pb2
from siglip.v1.embedding_pb2_grpc import EmbeddingServiceServicer, add_EmbeddingServiceServicer_to_server
from siglip.v1.model_pb2_grpc import ModelServiceServicer, add_ModelServiceServicer_to_server
from siglip.v1.zero_shot_pb2_grpc import ZeroShotServiceServicer, add_ZeroShotServiceServicer_to_server

from gateway.errors import LabelSetNotFound
from gateway.status import failure_of, trailers

Connect = Callable[..., Any]

DIM = 8
TEXT_LENGTH = 4
LOGIT_SCALE, LOGIT_BIAS = 10.0, -5.0
BAD = b"bad"


@dataclass(frozen=True)
class Failure:
    """How one call is to fail."""

    code: grpc.StatusCode
    details: str = "told to fail"
    trailers: tuple[tuple[str, str | bytes], ...] = ()


@dataclass(frozen=True)
class Seen:
    method: str
    request: Any
    metadata: dict[str, str | bytes]
    time_left_s: float
    peer: str


def unit_vector(item: bytes | str) -> npt.NDArray[np.float32]:
    data = item.encode() if isinstance(item, str) else item
    seed = int.from_bytes(hashlib.sha256(data).digest()[:8], "little")
    vector = np.random.default_rng(seed).standard_normal(DIM)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def sigmoid(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


class StandIn(EmbeddingServiceServicer, ZeroShotServiceServicer, ModelServiceServicer):
    """Refuses items equal to BAD, and calls as `failures` says, one entry for each attempt."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.failures: deque[Failure] = deque()
        self.fingerprints: deque[str] = deque()
        self.label_sets: dict[str, list[str]] = {}
        self.generation = 0
        """Of another one the handles are others."""
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.limits = model_pb2.Limits(
            max_texts=4,
            max_images=3,
            max_labels=10,
            max_templates=4,
            max_prompts=40,
            max_scores=20,
            max_text_bytes=100,
            max_image_bytes=2_000_000,
            max_image_pixels=1_000_000,
            max_message_bytes=4_000_000,
            max_deadline_ms=60_000,
            max_reply_bytes=4_000_000,
        )

    def calls(self, method: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.method == method]

    def EmbedTexts(self, request: Any, context: Any) -> Any:
        self._enter("EmbedTexts", request, context)
        results = [_embedding(text, "texts", i, request.options) for i, text in enumerate(request.texts)]
        return embedding_pb2.EmbedTextsResponse(
            results=results, model=self._info(), timing=types_pb2.Timing(compute_us=len(results))
        )

    def EmbedImages(self, request: Any, context: Any) -> Any:
        self._enter("EmbedImages", request, context)
        results = [_embedding(image, "images", i, request.options) for i, image in enumerate(request.images)]
        return embedding_pb2.EmbedImagesResponse(results=results, model=self._info())

    def CreateLabelSet(self, request: Any, context: Any) -> Any:
        self._enter("CreateLabelSet", request, context)
        handle = hashlib.sha256(f"{self.generation}{request}".encode()).hexdigest()
        self.label_sets[handle] = list(request.labels)
        return zero_shot_pb2.CreateLabelSetResponse(
            label_set=handle, label_count=len(request.labels), expires_in_s=60, model=self._info()
        )

    def Classify(self, request: Any, context: Any) -> Any:
        self._enter("Classify", request, context)
        if request.label_set:
            if request.label_set not in self.label_sets:
                error = LabelSetNotFound(request.label_set)
                failure = failure_of(error)
                context.set_trailing_metadata(trailers(failure, error, "r"))
                context.abort(failure.code, failure.message)
            request.labels.extend(self.label_sets[request.label_set])
        return zero_shot_pb2.ClassifyResponse(
            results=[_labels(image, i, request) for i, image in enumerate(request.images)],
            logit_scale=LOGIT_SCALE,
            logit_bias=LOGIT_BIAS,
            model=self._info(),
        )

    def Score(self, request: Any, context: Any) -> Any:
        self._enter("Score", request, context)
        logits = np.array(
            [[_logit(image, text) for text in request.texts] for image in request.images], "<f4"
        )
        logits = logits.reshape(len(request.images), len(request.texts))
        errors = [_error("images", i) for i, image in enumerate(request.images) if image == BAD]
        errors += [_error("texts", i) for i, text in enumerate(request.texts) if text == BAD.decode()]
        return zero_shot_pb2.ScoreResponse(
            logits_per_image=_matrix(logits),
            probabilities=_matrix(sigmoid(logits)),
            errors=errors,
            model=self._info(),
        )

    def GetModel(self, request: Any, context: Any) -> Any:
        self._enter("GetModel", request, context)
        return model_pb2.GetModelResponse(
            name="stand-in",
            fingerprint="f00d",
            embedding_dim=DIM,
            text_length=TEXT_LENGTH,
            logit_scale=LOGIT_SCALE,
            logit_bias=LOGIT_BIAS,
            templates=["This is a photo of {}."],
            limits=self.limits,
            text_tower=model_pb2.TowerStatus(served=True, live_workers=1, devices=["cpu"]),
        )

    def Tokenize(self, request: Any, context: Any) -> Any:
        self._enter("Tokenize", request, context)
        return model_pb2.TokenizeResponse(results=[_tokens(text) for text in request.texts])

    def _enter(self, method: str, request: Message, context: Any) -> None:
        metadata = dict(context.invocation_metadata())
        self.seen.append(Seen(method, request, metadata, context.time_remaining(), context.peer()))
        self.may_answer.wait(10)
        if method != "GetModel" and self.failures:
            failure = self.failures.popleft()
            context.set_trailing_metadata(failure.trailers)
            context.abort(failure.code, failure.details)

    def _info(self) -> types_pb2.ModelInfo:
        fingerprint = self.fingerprints.popleft() if self.fingerprints else "f00d"
        return types_pb2.ModelInfo(name="stand-in", fingerprint=fingerprint)


@contextmanager
def serving(service: StandIn) -> Iterator[str]:
    """The address of a server on a free port."""
    options = [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", service.limits.max_message_bytes),
    ]
    server = grpc.server(futures.ThreadPoolExecutor(8), options=options)
    add_EmbeddingServiceServicer_to_server(service, server)
    add_ZeroShotServiceServicer_to_server(service, server)
    add_ModelServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def _error(field: str, index: int) -> types_pb2.ItemError:
    name = f"{field}[{index}]"
    message = f"{name} cannot be read"
    return types_pb2.ItemError(index=index, code=3, reason="ITEM_BAD", message=message, field=name)


def _embedding(item: bytes | str, field: str, index: int, options: Any) -> embedding_pb2.EmbeddingResult:
    if item in (BAD, BAD.decode()):
        return embedding_pb2.EmbeddingResult(error=_error(field, index))
    vector = unit_vector(item) * (1 if options.normalize else 3)
    return embedding_pb2.EmbeddingResult(embedding=_encode(vector, options.dtype))


def _encode(vector: npt.NDArray[np.float32], dtype: types_pb2.Dtype) -> types_pb2.Vector:
    if dtype == types_pb2.DTYPE_F16:
        return types_pb2.Vector(data=vector.astype("<f2").tobytes(), dtype=dtype, dim=DIM, scale=1)
    if dtype == types_pb2.DTYPE_BF16:
        upper = (vector.view(np.uint32) >> 16).astype("<u2")
        return types_pb2.Vector(data=upper.tobytes(), dtype=dtype, dim=DIM, scale=1)
    if dtype == types_pb2.DTYPE_I8:
        scale = float(np.abs(vector).max() / 127)
        data = np.rint(vector / scale).astype("i1").tobytes()
        return types_pb2.Vector(data=data, dtype=dtype, dim=DIM, scale=scale)
    return types_pb2.Vector(data=vector.astype("<f4").tobytes(), dtype=types_pb2.DTYPE_F32, dim=DIM, scale=1)


def _logit(image: bytes, text: str) -> float:
    if image == BAD or text == BAD.decode():
        return float("nan")
    return LOGIT_SCALE * float(unit_vector(image) @ unit_vector(text)) + LOGIT_BIAS


def _labels(image: bytes, index: int, request: Any) -> zero_shot_pb2.ClassificationResult:
    if image == BAD:
        return zero_shot_pb2.ClassificationResult(error=_error("images", index))
    logits = np.array([_logit(image, label) for label in request.labels], np.float32)
    order = np.argsort(-logits, kind="stable")[: request.top_k or None]
    scores = [
        zero_shot_pb2.LabelScore(
            label=request.labels[i],
            label_index=int(i),
            probability=float(sigmoid(logits[i])),
            logit=float(logits[i]),
            cosine=float((logits[i] - LOGIT_BIAS) / LOGIT_SCALE),
        )
        for i in order
    ]
    return zero_shot_pb2.ClassificationResult(scores=zero_shot_pb2.LabelScores(scores=scores))


def _matrix(values: npt.NDArray[np.float32]) -> types_pb2.Matrix:
    return types_pb2.Matrix(data=values.astype("<f4").tobytes(), rows=values.shape[0], cols=values.shape[1])


def _tokens(text: str) -> model_pb2.Tokens:
    ids = [len(word) for word in text.split()]
    padded = (ids + [1] * TEXT_LENGTH)[:TEXT_LENGTH]
    return model_pb2.Tokens(ids=padded, pieces=[str(i) for i in padded], truncated=len(ids) > TEXT_LENGTH)
