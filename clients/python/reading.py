"""What a user of siglip_client gets, as fields of a conformance report; see tests/conformance/README.md."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from siglip.v1 import types_pb2

from siglip_client import ItemError, SiglipError
from siglip_client.replies import item_error
from siglip_client.vectors import decode, known, matrix

Report = dict[str, Any]


def failure(error: SiglipError) -> Report:
    """A call that has no result."""
    report: Report = {"code": error.code.name, "message": error.message}
    report |= {"reason": error.reason, "domain": error.domain, "metadata": error.metadata}
    report["field_violations"] = [
        {"field": each.field, "description": each.description} for each in error.violations
    ]
    if error.retry_after_s is not None:
        report["retry_delay_ms"] = round(error.retry_after_s * 1000)
    return {name: value for name, value in report.items() if value not in ("", {}, [])}


def embeddings(reply: Any) -> Report:
    results = reply.results
    found = [each.embedding if each.HasField("embedding") else None for each in results]
    return {
        "vectors": [_numbers(vector) for vector in found],
        "dtypes": [_dtype(vector) for vector in found],
        "undecodable": [i for i, vector in enumerate(found) if vector is not None and not known(vector)],
        "item_errors": _errors(results),
        "model": _model(reply.model),
    }


def classification(reply: Any) -> Report:
    images = [_labels(each.scores) if each.HasField("scores") else None for each in reply.results]
    return {"images": images, "item_errors": _errors(reply.results), "model": _model(reply.model)}


def scores(reply: Any) -> Report:
    return {
        "logits": _rows(reply.logits_per_image),
        "probabilities": _rows(reply.probabilities),
        "item_errors": [told(item_error(each, each.index)) for each in reply.errors],
        "model": _model(reply.model),
    }


def label_set(reply: Any) -> Report:
    return {
        "label_set": reply.label_set,
        "label_count": reply.label_count,
        "model": _model(reply.model),
    }


def description(reply: Any) -> Report:
    model = {"embedding_dim": reply.embedding_dim, "text_length": reply.text_length}
    return {"model": _model(reply) | model}


def tokens(reply: Any) -> Report:
    return {"tokens": [list(each.ids) for each in reply.results]}


READERS: dict[str, Callable[[Any], Report]] = {
    "EmbedTexts": embeddings,
    "EmbedImages": embeddings,
    "Classify": classification,
    "Score": scores,
    "CreateLabelSet": label_set,
    "GetModel": description,
    "Tokenize": tokens,
}


def told(error: ItemError) -> Report:
    return {
        "index": error.index,
        "code": error.code.name,
        "reason": error.reason,
        "message": error.message,
        "field": error.field,
        "retryable": error.retryable,
    }


def _errors(results: Any) -> list[Report]:
    return [told(item_error(each.error, i)) for i, each in enumerate(results) if each.HasField("error")]


def _numbers(vector: types_pb2.Vector | None) -> list[float] | None:
    """A vector of a newer service's encoding has no numbers here, rather than wrong ones."""
    if vector is None or not known(vector):
        return None
    return [float(number) for number in decode([vector])[0]]


def _dtype(vector: types_pb2.Vector | None) -> str | None:
    return types_pb2.Dtype.Name(vector.dtype) if vector is not None and known(vector) else None


def _labels(found: Any) -> list[Report]:
    return [
        {
            "label": each.label,
            "index": each.label_index,
            "probability": each.probability,
            "logit": each.logit,
        }
        for each in found.scores
    ]


def _rows(message: types_pb2.Matrix) -> list[list[float | None]]:
    return [[None if math.isnan(number) else float(number) for number in row] for row in matrix(message)]


def _model(message: Any) -> Report:
    return {"name": message.name, "fingerprint": message.fingerprint}
