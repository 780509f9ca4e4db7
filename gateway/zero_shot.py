"""ZeroShotService: how well texts describe images."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
from siglip.v1 import types_pb2, zero_shot_pb2, zero_shot_pb2_grpc

from gateway import checks, scores, timing
from gateway.call import Call, microseconds_since
from gateway.embedded import Embedded
from gateway.label_sets import LabelSet
from gateway.models import Models
from gateway.parts import Parts
from gateway.served import ServedModel
from gateway.vectors import Floats
from siglip_model import scoring

First = TypeVar("First")
Second = TypeVar("Second")


class ZeroShotService(zero_shot_pb2_grpc.ZeroShotServiceServicer):
    def __init__(self, models: Models) -> None:
        self._models = models

    async def Classify(
        self, request: zero_shot_pb2.ClassifyRequest, call: Call
    ) -> zero_shot_pb2.ClassifyResponse:
        parts = self._accepted(request, call)
        prompts = _checked(request, parts)
        call.items = len(request.images)
        with parts.admit(request, call, texts=prompts, images=call.items):
            labels = await _labels(parts, request, call)
            embedding = parts.embedder.images(request.images, call)
            images, (label_set, texts) = await _together(embedding, labels())
        start = time.monotonic()
        with call.traced("score"):
            results = _classified(parts.model, request, images, label_set)
        return zero_shot_pb2.ClassifyResponse(
            results=results,
            logit_scale=parts.model.logit_scale,
            logit_bias=parts.model.logit_bias,
            model=parts.model.info(),
            timing=timing.of(call, images, texts, score_us=microseconds_since(start)),
        )

    async def CreateLabelSet(
        self, request: zero_shot_pb2.CreateLabelSetRequest, call: Call
    ) -> zero_shot_pb2.CreateLabelSetResponse:
        parts = self._models.accept(call, request.model, "text")
        templates = _templates(request)
        checks.create_label_set(request, templates, parts.settings)
        call.items = len(request.labels)
        with parts.admit(request, call, texts=len(request.labels) * len(templates)):
            label_set, texts = await parts.label_sets.create(request.labels, templates, call)
        return zero_shot_pb2.CreateLabelSetResponse(
            label_set=label_set.handle,
            label_count=len(label_set.labels),
            expires_in_s=int(parts.settings.label_set_ttl_s),
            model=parts.model.info(),
            timing=timing.of(call, texts),
        )

    async def Score(self, request: zero_shot_pb2.ScoreRequest, call: Call) -> zero_shot_pb2.ScoreResponse:
        parts = self._models.accept(call, request.model, "text", "vision")
        model = parts.model
        checks.score(request, parts.settings)
        call.items = len(request.images) + len(request.texts)
        with parts.admit(request, call, texts=len(request.texts), images=len(request.images)):
            images, texts = await _both(parts, request.images, request.texts, call)
        start = time.monotonic()
        with call.traced("score"):
            logits = _all_logits(model, images, texts)
        return zero_shot_pb2.ScoreResponse(
            logits_per_image=_matrix(logits),
            probabilities=_matrix(scoring.sigmoid(logits)),
            errors=_errors(images, "images") + _errors(texts, "texts"),
            logit_scale=model.logit_scale,
            logit_bias=model.logit_bias,
            model=model.info(),
            timing=timing.of(call, images, texts, score_us=microseconds_since(start)),
        )

    def _accepted(self, request: zero_shot_pb2.ClassifyRequest, call: Call) -> Parts:
        if request.label_set:
            return self._models.accept(call, request.model, "vision")
        return self._models.accept(call, request.model, "text", "vision")


def _checked(request: zero_shot_pb2.ClassifyRequest, parts: Parts) -> int:
    """How many texts it holds."""
    if request.label_set:
        checks.classify_by_handle(request, parts.settings)
        return 0
    templates = _templates(request)
    checks.classify(request, templates, parts.settings)
    return len(request.labels) * len(templates)


async def _labels(
    parts: Parts, request: zero_shot_pb2.ClassifyRequest, call: Call
) -> Callable[[], Coroutine[Any, Any, tuple[LabelSet, Embedded]]]:
    """What gives the labels' vectors. A handle that nobody knows costs no work on images."""
    label_sets = parts.label_sets
    if not request.label_set:
        return partial(label_sets.of, request.labels, _templates(request), call)
    known = await label_sets.get(request.label_set)
    checks.reply(request, known.labels, parts.settings)
    return partial(label_sets.current, known, call)


async def _both(
    parts: Parts, images: Sequence[bytes], texts: Sequence[str], call: Call
) -> tuple[Embedded, Embedded]:
    embedder = parts.embedder
    return await _together(embedder.images(images, call), embedder.texts(texts, call))


def _classified(
    model: ServedModel, request: zero_shot_pb2.ClassifyRequest, images: Embedded, label_set: LabelSet
) -> list[zero_shot_pb2.ClassificationResult]:
    """One result for each image."""
    failures, vectors = dict(images.failures()), label_set.vectors
    cosines = scores.cosines(scores.unit_vectors(images, vectors.shape[1]), vectors)
    return [
        zero_shot_pb2.ClassificationResult(error=failures[index].to_proto(index, "images"))
        if index in failures
        else zero_shot_pb2.ClassificationResult(scores=_scores(model, request, label_set.labels, cosine))
        for index, cosine in enumerate(cosines)
    ]


def _scores(
    model: ServedModel, request: zero_shot_pb2.ClassifyRequest, labels: Sequence[str], cosines: Floats
) -> zero_shot_pb2.LabelScores:
    """The labels of one image; `cosines` [labels]."""
    softmax = request.activation == zero_shot_pb2.ACTIVATION_SOFTMAX
    logits = _logits(model, cosines)
    # Over all labels, before any is left out.
    probabilities = scoring.softmax(logits) if softmax else scoring.sigmoid(logits)
    ranked = scoring.rank(probabilities, request.top_k, request.threshold)
    columns = (values[ranked].tolist() for values in (probabilities, logits, cosines))
    return zero_shot_pb2.LabelScores(
        scores=[
            zero_shot_pb2.LabelScore(
                label=labels[index],
                label_index=index,
                probability=probability,
                logit=logit,
                cosine=cosine,
            )
            for index, probability, logit, cosine in zip(ranked, *columns, strict=True)
        ]
    )


def _all_logits(model: ServedModel, images: Embedded, texts: Embedded) -> Floats:
    """[images, texts]; NaN where one of the two failed."""
    dim = model.embedding_dim
    logits = _logits(model, scores.cosines(scores.unit_vectors(images, dim), scores.unit_vectors(texts, dim)))
    logits[[index for index, _ in images.failures()], :] = np.nan
    logits[:, [index for index, _ in texts.failures()]] = np.nan
    return logits


def _logits(model: ServedModel, cosines: Floats) -> Floats:
    return cosines * np.float32(model.logit_scale) + np.float32(model.logit_bias)


def _templates(request: zero_shot_pb2.ClassifyRequest | zero_shot_pb2.CreateLabelSetRequest) -> list[str]:
    return list(request.templates) or [scoring.DEFAULT_TEMPLATE]


def _errors(embedded: Embedded, list_name: str) -> list[types_pb2.ItemError]:
    return [failure.to_proto(index, list_name) for index, failure in embedded.failures()]


def _matrix(values: Floats) -> types_pb2.Matrix:
    return types_pb2.Matrix(data=values.astype("<f4").tobytes(), rows=values.shape[0], cols=values.shape[1])


async def _together(
    first: Coroutine[Any, Any, First], second: Coroutine[Any, Any, Second]
) -> tuple[First, Second]:
    """Runs both at once; the first error cancels the other side and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            one, other = group.create_task(first), group.create_task(second)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return one.result(), other.result()
