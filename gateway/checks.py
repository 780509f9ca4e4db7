"""Checks a request against the limits before any work is done. Each check returns what is wrong."""

import math
from collections.abc import Sequence
from typing import Any

from siglip.v1 import embedding_pb2, model_pb2, types_pb2, zero_shot_pb2

from gateway.errors import InvalidRequest, Violation, shown
from siglip_model.scoring import fill
from siglip_settings import GatewaySettings

Violations = list[Violation]

# Tag, length and the fixed fields of one LabelScore beside its label.
_SCORE_BYTES = 32


def embed_texts(request: embedding_pb2.EmbedTextsRequest, limits: GatewaySettings) -> None:
    _raise(
        _count("texts", len(request.texts), "max_texts", limits.max_texts)
        + _known("options.dtype", request.options.dtype, types_pb2.Dtype)
    )


def embed_images(request: embedding_pb2.EmbedImagesRequest, limits: GatewaySettings) -> None:
    _raise(
        _count("images", len(request.images), "max_images", limits.max_images)
        + _known("options.dtype", request.options.dtype, types_pb2.Dtype)
    )


def embed_stream(options: embedding_pb2.EmbedStreamOptions) -> None:
    _raise(_known("options.embedding.dtype", options.embedding.dtype, types_pb2.Dtype))


def stream_items(count: int, limit: int) -> None:
    _raise(_at_most("items", count, "stream_max_items", limit))


def tokenize(request: model_pb2.TokenizeRequest, limits: GatewaySettings) -> None:
    _raise(
        _count("texts", len(request.texts), "max_texts", limits.max_texts)
        or _lengths("texts", request.texts, limits)
    )


def score(request: zero_shot_pb2.ScoreRequest, limits: GatewaySettings) -> None:
    images, texts = len(request.images), len(request.texts)
    _raise(
        _count("images", images, "max_images", limits.max_images)
        + _count("texts", texts, "max_texts", limits.max_texts)
    )
    _raise(_at_most("images x texts", images * texts, "max_scores", limits.max_scores))


def classify(
    request: zero_shot_pb2.ClassifyRequest, templates: Sequence[str], limits: GatewaySettings
) -> None:
    labels = request.labels
    images = _count("images", len(request.images), "max_images", limits.max_images)
    _raise(images + _label_counts(labels, templates, limits) + _how(request))
    _raise(_scores(request, labels, limits) + _label_texts(labels, templates, limits))
    _raise(_prompt_bytes(labels, templates, limits) + _reply_bytes(request, labels, limits))


def classify_by_handle(request: zero_shot_pb2.ClassifyRequest, limits: GatewaySettings) -> None:
    """Before the labels are known; `reply` is for when they are."""
    images = _count("images", len(request.images), "max_images", limits.max_images)
    _raise(images + _either_labels_or_set(request) + _how(request))


def reply(request: zero_shot_pb2.ClassifyRequest, labels: Sequence[str], limits: GatewaySettings) -> None:
    _raise(_scores(request, labels, limits))
    _raise(_reply_bytes(request, labels, limits))


def create_label_set(
    request: zero_shot_pb2.CreateLabelSetRequest, templates: Sequence[str], limits: GatewaySettings
) -> None:
    _raise(_label_counts(request.labels, templates, limits))
    _raise(_label_texts(request.labels, templates, limits))
    _raise(_prompt_bytes(request.labels, templates, limits))


def label_set_bytes(size: int, limits: GatewaySettings) -> None:
    most = limits.label_sets_bytes
    _raise(_at_most("labels", size, "label_sets_bytes", most, " bytes with their vectors"))


def _how(request: zero_shot_pb2.ClassifyRequest) -> Violations:
    return _known("activation", request.activation, zero_shot_pb2.Activation) + _probability(
        "threshold", request.threshold
    )


def _scores(
    request: zero_shot_pb2.ClassifyRequest, labels: Sequence[str], limits: GatewaySettings
) -> Violations:
    count = len(request.images) * len(labels)
    return _at_most("images x labels", count, "max_scores", limits.max_scores)


def _label_counts(labels: Sequence[str], templates: Sequence[str], limits: GatewaySettings) -> Violations:
    return _count("labels", len(labels), "max_labels", limits.max_labels) + _count(
        "templates", len(templates), "max_templates", limits.max_templates
    )


def _label_texts(labels: Sequence[str], templates: Sequence[str], limits: GatewaySettings) -> Violations:
    return (
        _at_most("labels x templates", len(labels) * len(templates), "max_prompts", limits.max_prompts)
        + _lengths("labels", labels, limits)
        + _lengths("templates", templates, limits)
        + _one_placeholder(templates)
    )


def _raise(violations: Violations) -> None:
    if violations:
        raise InvalidRequest(violations)


def _count(field: str, count: int, limit_name: str, limit: int) -> Violations:
    if count == 0:
        return [Violation(field, "FIELD_EMPTY", "none given, at least 1 is needed")]
    return _at_most(field, count, limit_name, limit)


def _at_most(field: str, value: int, limit_name: str, limit: int, unit: str = "") -> Violations:
    if value <= limit:
        return []
    return [
        Violation(field, "LIMIT_EXCEEDED", f"{value}{unit} given, at most {limit} allowed ({limit_name})")
    ]


def _lengths(field: str, texts: Sequence[str], limits: GatewaySettings) -> Violations:
    name, limit = "max_text_bytes", limits.max_text_bytes
    return [
        violation
        for index, text in enumerate(texts)
        for violation in _at_most(f"{field}[{index}]", len(text.encode()), name, limit, " bytes")
    ]


def _either_labels_or_set(request: zero_shot_pb2.ClassifyRequest) -> Violations:
    if not request.label_set or not (request.labels or request.templates):
        return []
    message = "given beside labels or templates, which it has already; give one of the two"
    return [Violation("label_set", "FIELDS_EXCLUDE", message)]


def _one_placeholder(templates: Sequence[str]) -> Violations:
    return [
        Violation(
            f"templates[{index}]",
            "TEMPLATE_INVALID",
            f"{shown(template)} holds {{}}, the label's place, {template.count('{}')} times; 1 is needed",
        )
        for index, template in enumerate(templates)
        if template.count("{}") != 1
    ]


def _known(field: str, value: int, enum: Any) -> Violations:
    if value in enum.values():
        return []
    names = ", ".join(enum.keys()[1:])
    return [Violation(field, "ENUM_UNKNOWN", f"{value} is not a known value; known are {names}")]


def _probability(field: str, value: float) -> Violations:
    if not math.isnan(value) and 0 <= value <= 1:
        return []
    return [Violation(field, "OUT_OF_RANGE", f"{value:g} is not a probability, 0 to 1")]


def _prompt_bytes(labels: Sequence[str], templates: Sequence[str], limits: GatewaySettings) -> Violations:
    """Few long labels under many long templates make far more text than the request held."""
    label_bytes, template_bytes = _size(labels), _size(templates)
    filled = len(templates) * label_bytes + len(labels) * template_bytes
    return _at_most(
        "labels x templates", filled, "max_message_bytes", limits.max_message_bytes, " bytes when filled in"
    )


def _reply_bytes(
    request: zero_shot_pb2.ClassifyRequest, labels: Sequence[str], limits: GatewaySettings
) -> Violations:
    """The reply repeats each label for each image; it must stay within what stock clients accept."""
    sizes = sorted((len(label.encode()) + _SCORE_BYTES for label in labels), reverse=True)
    reply = len(request.images) * sum(sizes[: request.top_k or None])
    if reply <= limits.max_reply_bytes:
        return []
    message = (
        f"the reply would have up to {reply} bytes, at most {limits.max_reply_bytes} allowed "
        "(max_reply_bytes); a smaller top_k or fewer images make it smaller"
    )
    return [Violation("images x labels", "LIMIT_EXCEEDED", message)]


def _size(texts: Sequence[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def prompts(labels: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Each label in each template: those of the first label first."""
    return [fill(template, label) for label in labels for template in templates]
