"""Reply messages -> results. Pure functions; positions are the caller's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

import grpc
import numpy as np
from siglip.v1 import embedding_pb2, model_pb2, types_pb2, zero_shot_pb2

from siglip_client.chunks import Chunk
from siglip_client.errors import InternalError, ItemError, ItemErrors
from siglip_client.results import (
    Classification,
    Embeddings,
    ImageLabels,
    LabelScore,
    LabelSet,
    Limits,
    ModelDescription,
    ModelInfo,
    OnError,
    Scores,
    Timing,
    Tokens,
    TowerStatus,
)
from siglip_client.vectors import decode, known, matrix, unknown_encoding


class HasErrors(Protocol):
    @property
    def errors(self) -> tuple[ItemError, ...]: ...


Result = TypeVar("Result", bound=HasErrors)
Answers = list[tuple[Chunk[Any], Any]]

_CODES = {code.value[0]: code for code in grpc.StatusCode}


def embeddings(
    answers: list[tuple[Chunk[Any], embedding_pb2.EmbedTextsResponse]],
    *,
    field: str,
    refused: list[ItemError],
    count: int,
    served: ModelDescription,
    on_error: OnError,
) -> Embeddings:
    errors = list(refused)
    found: dict[int, types_pb2.Vector] = {}
    for index, result in _results(answers):
        if result.HasField("error"):
            errors.append(item_error(result.error, index))
        elif not known(result.embedding):
            errors.append(unknown_encoding(result.embedding, index, f"{field}[{index}]"))
        else:
            found[index] = result.embedding
    dim = next(iter(found.values())).dim if found else served.embedding_dim
    vectors = np.full((count, dim), np.nan, np.float32)
    if found:
        vectors[list(found)] = decode(list(found.values()))
    result = Embeddings(vectors, _by_index(errors), _model(answers, served), _timing(answers))
    return _checked(result, count, on_error)


def classification(
    answers: list[tuple[Chunk[Any], zero_shot_pb2.ClassifyResponse]],
    *,
    refused: list[ItemError],
    count: int,
    served: ModelDescription,
    on_error: OnError,
) -> Classification:
    images = {error.index: ImageLabels(error.index, (), error) for error in refused}
    for index, result in _results(answers):
        images[index] = _image_labels(index, result)
    ordered = tuple(images[index] for index in sorted(images))
    scale, bias = _scale_and_bias(answers, served)
    result = Classification(
        images=ordered,
        errors=tuple(image.error for image in ordered if image.error is not None),
        logit_scale=scale,
        logit_bias=bias,
        model=_model(answers, served),
        timing=_timing(answers),
    )
    return _checked(result, count, on_error)


def label_set(
    answers: list[tuple[Chunk[Any], zero_shot_pb2.CreateLabelSetResponse]],
    *,
    labels: Sequence[str],
    templates: Sequence[str],
) -> LabelSet:
    [(_, reply)] = answers
    model = ModelInfo(reply.model.name, reply.model.revision, reply.model.fingerprint)
    return LabelSet(reply.label_set, tuple(labels), tuple(templates), reply.expires_in_s, model)


def scores(
    answers: list[tuple[Chunk[Any], zero_shot_pb2.ScoreResponse]],
    *,
    refused: list[ItemError],
    shape: tuple[int, int],
    served: ModelDescription,
    on_error: OnError,
) -> Scores:
    logits, probabilities = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
    # Every chunk compares with the same texts, so a bad text is told once.
    errors = {error.field: error for error in refused}
    for chunk, reply in answers:
        logits[chunk.indices] = matrix(reply.logits_per_image)
        probabilities[chunk.indices] = matrix(reply.probabilities)
        for message in reply.errors:
            of_image = message.field.startswith("images")
            error = item_error(message, chunk.indices[message.index] if of_image else message.index)
            errors[error.field] = error
    scale, bias = _scale_and_bias(answers, served)
    result = Scores(
        logits=logits,
        probabilities=probabilities,
        errors=_by_index(errors.values()),
        logit_scale=scale,
        logit_bias=bias,
        model=_model(answers, served),
        timing=_timing(answers),
    )
    return _checked(result, sum(shape), on_error)


def tokens(answers: list[tuple[Chunk[Any], model_pb2.TokenizeResponse]]) -> Tokens:
    found = [result for _, result in _results(answers)]
    return Tokens(
        ids=np.array([result.ids for result in found], np.int32),
        pieces=tuple(tuple(result.pieces) for result in found),
        truncated=np.array([result.truncated for result in found], np.bool_),
    )


def description(answers: list[tuple[Chunk[Any], model_pb2.GetModelResponse]]) -> ModelDescription:
    [(_, reply)] = answers
    return ModelDescription(
        name=reply.name,
        revision=reply.revision,
        fingerprint=reply.fingerprint,
        embedding_dim=reply.embedding_dim,
        image_size=reply.image_size,
        text_length=reply.text_length,
        logit_scale=reply.logit_scale,
        logit_bias=reply.logit_bias,
        dtype=reply.dtype,
        attention=reply.attention,
        templates=tuple(reply.templates),
        limits=Limits(**{name: getattr(reply.limits, name) for name in Limits.__dataclass_fields__}),
        text_tower=_tower(reply.text_tower),
        vision_tower=_tower(reply.vision_tower),
        image_resample=reply.image_resample if reply.HasField("image_resample") else None,
        served_models=tuple(reply.served_models),
    )


def item_error(message: types_pb2.ItemError, index: int) -> ItemError:
    """An error of one call's item, told with its position in the caller's list."""
    field = f"{message.field.partition('[')[0]}[{index}]"
    return ItemError(
        index=index,
        code=_CODES.get(message.code, grpc.StatusCode.UNKNOWN),
        reason=message.reason,
        message=message.message.replace(message.field, field) if message.field else message.message,
        field=field,
        retryable=message.retryable,
    )


def _results(answers: Answers) -> Iterable[tuple[int, Any]]:
    """(index, result) of all items answered."""
    for chunk, reply in answers:
        if len(reply.results) != len(chunk.indices):
            raise InternalError(f"{len(chunk.indices)} items were sent, {len(reply.results)} came back")
        yield from zip(chunk.indices, reply.results, strict=True)


def _image_labels(index: int, result: zero_shot_pb2.ClassificationResult) -> ImageLabels:
    if result.HasField("error"):
        return ImageLabels(index, (), item_error(result.error, index))
    labels = tuple(
        LabelScore(score.label, score.label_index, score.probability, score.logit, score.cosine)
        for score in result.scores.scores
    )
    return ImageLabels(index, labels)


def _model(answers: Answers, served: ModelDescription) -> ModelInfo:
    infos = {ModelInfo(r.model.name, r.model.revision, r.model.fingerprint) for _, r in answers}
    if len({info.fingerprint for info in infos}) > 1:
        raise InternalError("the served model changed during the call; send it again")
    return infos.pop() if infos else served.info


def _timing(answers: Answers) -> Timing:
    timings = [reply.timing for _, reply in answers]
    return Timing(
        **{
            name: max((getattr(timing, name) for timing in timings), default=0)
            for name in Timing.__dataclass_fields__
        }
    )


def _scale_and_bias(answers: Answers, served: ModelDescription) -> tuple[float, float]:
    source = answers[0][1] if answers else served
    return source.logit_scale, source.logit_bias


def _tower(message: model_pb2.TowerStatus) -> TowerStatus:
    return TowerStatus(message.served, message.live_workers, tuple(message.devices))


def _by_index(errors: Iterable[ItemError]) -> tuple[ItemError, ...]:
    return tuple(sorted(errors, key=lambda error: (error.field.partition("[")[0], error.index)))


def _checked(result: Result, count: int, on_error: OnError) -> Result:
    if result.errors and on_error != "return":
        raise ItemErrors(result, count)
    return result
