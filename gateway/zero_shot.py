"""ZeroShotService: how well texts describe images."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Any

import numpy as np
from siglip.v1 import types_pb2, zero_shot_pb2, zero_shot_pb2_grpc

from gateway import checks, scores, timing
from gateway.call import Call, microseconds_since
from gateway.embed import Embedded
from gateway.parts import Parts
from gateway.vectors import Floats
from siglip_model import scoring


class ZeroShotService(zero_shot_pb2_grpc.ZeroShotServiceServicer):
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def Classify(
        self, request: zero_shot_pb2.ClassifyRequest, call: Call
    ) -> zero_shot_pb2.ClassifyResponse:
        parts = self._parts
        parts.accept(request.model, "text", "vision")
        templates = list(request.templates) or [scoring.DEFAULT_TEMPLATE]
        checks.classify(request, templates, parts.settings)
        prompts = checks.prompts(request.labels, templates)
        call.items = len(request.images)
        with parts.admit(request, call, texts=len(prompts), images=call.items):
            images, texts = await self._both(request.images, prompts, call)
        start = time.monotonic()
        with call.traced("score"):
            labels = scores.label_vectors(texts, len(templates))
            results = self._classified(request, images, labels)
        return zero_shot_pb2.ClassifyResponse(
            results=results,
            logit_scale=parts.model.logit_scale,
            logit_bias=parts.model.logit_bias,
            model=parts.model.info(),
            timing=timing.of(call, images, texts, score_us=microseconds_since(start)),
        )

    async def Score(self, request: zero_shot_pb2.ScoreRequest, call: Call) -> zero_shot_pb2.ScoreResponse:
        parts, model = self._parts, self._parts.model
        parts.accept(request.model, "text", "vision")
        checks.score(request, parts.settings)
        call.items = len(request.images) + len(request.texts)
        with parts.admit(request, call, texts=len(request.texts), images=len(request.images)):
            images, texts = await self._both(request.images, request.texts, call)
        start = time.monotonic()
        with call.traced("score"):
            logits = self._all_logits(images, texts)
        return zero_shot_pb2.ScoreResponse(
            logits_per_image=_matrix(logits),
            probabilities=_matrix(scoring.sigmoid(logits)),
            errors=_errors(images, "images") + _errors(texts, "texts"),
            logit_scale=model.logit_scale,
            logit_bias=model.logit_bias,
            model=model.info(),
            timing=timing.of(call, images, texts, score_us=microseconds_since(start)),
        )

    async def _both(
        self, images: Sequence[bytes], texts: Sequence[str], call: Call
    ) -> tuple[Embedded, Embedded]:
        embedder = self._parts.embedder
        return await _together(embedder.images(images, call), embedder.texts(texts, call))

    def _classified(
        self, request: zero_shot_pb2.ClassifyRequest, images: Embedded, labels: Floats
    ) -> list[zero_shot_pb2.ClassificationResult]:
        """One result for each image; `labels` are unit vectors [labels, dim]."""
        failures = dict(images.failures())
        cosines = scores.cosines(scores.unit_vectors(images, labels.shape[1]), labels)
        return [
            zero_shot_pb2.ClassificationResult(error=failures[index].to_proto(index, "images"))
            if index in failures
            else zero_shot_pb2.ClassificationResult(scores=self._scores(request, cosine))
            for index, cosine in enumerate(cosines)
        ]

    def _scores(self, request: zero_shot_pb2.ClassifyRequest, cosines: Floats) -> zero_shot_pb2.LabelScores:
        """The labels of one image; `cosines` [labels]."""
        labels, softmax = request.labels, request.activation == zero_shot_pb2.ACTIVATION_SOFTMAX
        logits = self._logits(cosines)
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

    def _all_logits(self, images: Embedded, texts: Embedded) -> Floats:
        """[images, texts]; NaN where one of the two failed."""
        dim = self._parts.model.embedding_dim
        logits = self._logits(
            scores.cosines(scores.unit_vectors(images, dim), scores.unit_vectors(texts, dim))
        )
        logits[[index for index, _ in images.failures()], :] = np.nan
        logits[:, [index for index, _ in texts.failures()]] = np.nan
        return logits

    def _logits(self, cosines: Floats) -> Floats:
        model = self._parts.model
        return cosines * np.float32(model.logit_scale) + np.float32(model.logit_bias)


def _errors(embedded: Embedded, list_name: str) -> list[types_pb2.ItemError]:
    return [failure.to_proto(index, list_name) for index, failure in embedded.failures()]


def _matrix(values: Floats) -> types_pb2.Matrix:
    return types_pb2.Matrix(data=values.astype("<f4").tobytes(), rows=values.shape[0], cols=values.shape[1])


async def _together(
    first: Coroutine[Any, Any, Embedded], second: Coroutine[Any, Any, Embedded]
) -> tuple[Embedded, Embedded]:
    """Runs both at once; the first error cancels the other side and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = group.create_task(first), group.create_task(second)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return tasks[0].result(), tasks[1].result()
