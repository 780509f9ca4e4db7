"""Vectors, probabilities and tokens of a report beside those of the model library."""

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from google.protobuf import json_format
from siglip.v1 import embedding_pb2

from siglip_model.scoring import DEFAULT_TEMPLATE, sigmoid

Floats = npt.NDArray[np.float32]
Cases = Mapping[str, dict[str, Any]]


class Answers(Protocol):
    """See expected.Expected."""

    def tokens(self, texts: list[str]) -> list[list[int]]: ...
    def texts(self, texts: list[str], normalize: bool = True) -> Floats: ...
    def images(self, names: list[str], normalize: bool = True) -> Floats: ...
    def logits(self, names: list[str], texts: list[str]) -> Floats: ...
    def classification(
        self, request: dict[str, Any], labels: list[str], templates: list[str]
    ) -> list[Any]: ...


def vectors(case: Any, report: Any, wanted: Any, answers: Answers, cases: Cases) -> list[str]:
    """wanted: {"tolerance"}, of each number; {"exactly"}: these, instead of computed ones."""
    found = report.get("vectors")
    failed = _failed(case)
    exactly = wanted.get("exactly")
    right = _rows_of(exactly) if exactly else _computed(case, failed, answers)
    if not isinstance(found, list) or len(found) != len(right):
        return [f"{len(found or [])} vectors came, not {len(right)}"]
    return [
        f"vectors[{index}] {problem}"
        for index, (row, should) in enumerate(zip(found, right, strict=True))
        if (problem := _difference(row, should, wanted["tolerance"]))
    ][:3]


def images(case: Any, report: Any, wanted: Any, answers: Answers, cases: Cases) -> list[str]:
    """wanted: {"tolerance"} of probabilities, and of logits times 20."""
    request = case["request"]
    source = cases[case["label_set_from"]]["request"] if "label_set_from" in case else request
    failed = _failed(case)
    good = [name for index, name in enumerate(request["images"]) if index not in failed]
    templates = source.get("templates") or [DEFAULT_TEMPLATE]
    right = iter(answers.classification(request | {"images": good}, source["labels"], templates))
    found = report.get("images") or []
    if len(found) != len(request["images"]):
        return [f"{len(found)} images came, not {len(request['images'])}"]
    problems = []
    for index, labels in enumerate(found):
        should = None if index in failed else next(right)
        if problem := _ranking(labels, should, source["labels"], wanted["tolerance"]):
            problems.append(f"images[{index}] {problem}")
    return problems


def scores(case: Any, report: Any, wanted: Any, answers: Answers, cases: Cases) -> list[str]:
    """wanted: {"tolerance"} of logits and probabilities. A bad image's row is null all through."""
    request, failed = case["request"], _failed(case)
    good = [name for index, name in enumerate(request["images"]) if index not in failed]
    rows = iter(answers.logits(good, request["texts"]))
    blank = np.full(len(request["texts"]), np.nan, np.float32)
    logits = np.stack([blank if index in failed else next(rows) for index in range(len(request["images"]))])
    problems = []
    for name, right in (("logits", logits), ("probabilities", sigmoid(logits))):
        found = report.get(name) or []
        if len(found) != len(right):
            return [f"{len(found)} rows of {name} came, not {len(right)}"]
        for index, (row, should) in enumerate(zip(found, right, strict=True)):
            problem = _difference(_with_nan(row), should, wanted["tolerance"])
            problems += [f"{name}[{index}] {problem}"] if problem else []
    return problems


def tokens(case: Any, report: Any, wanted: Any, answers: Answers, cases: Cases) -> list[str]:
    right = answers.tokens(case["request"]["texts"])
    return [] if report.get("tokens") == right else [f"tokens are {report.get('tokens')}, not {right}"]


def _computed(case: Any, failed: set[int], answers: Answers) -> list[Floats | None]:
    if case["call"] == "EmbedStream":
        stream = case["stream"]
        kind = "texts" if "texts" in stream else "images"
        items, normalize = stream[kind][: stream["count"]], stream.get("normalize", True)
    else:
        request = _request(case)
        kind = "images" if case["call"] == "EmbedImages" else "texts"
        items, normalize = request[kind], request.get("options", {}).get("normalize", True)
    good = [item for index, item in enumerate(items) if index not in failed]
    compute = answers.images if kind == "images" else answers.texts
    rows = iter(compute(good, normalize))
    return [None if index in failed else next(rows) for index in range(len(items))]


def _request(case: Any) -> dict[str, Any]:
    """As it is in the list, or read from what a client of another version would send."""
    if "request" in case:
        return dict(case["request"])
    message = embedding_pb2.EmbedTextsRequest.FromString(base64.b64decode(case["request_base64"]))
    return dict(json_format.MessageToDict(message, preserving_proto_field_name=True))


def _failed(case: Any) -> set[int]:
    expect = case["expect"]
    return {error["index"] for error in expect.get("item_errors", [])} | set(expect.get("undecodable", []))


def _rows_of(exactly: Sequence[Any]) -> list[Floats | None]:
    return [None if row is None else np.array(row, np.float32) for row in exactly]


def _difference(found: Any, right: Floats | None, tolerance: float) -> str:
    if right is None or found is None:
        return "" if found is right else f"is {'absent' if found is None else 'there'}, and should not be"
    row = np.array(found, np.float32)
    if row.shape != right.shape:
        return f"has {row.shape} numbers, not {right.shape}"
    both_absent = np.isnan(row) & np.isnan(right)
    off = np.where(both_absent, 0, np.abs(row - right))
    if (off <= tolerance).all():
        return ""
    return f"differs by {np.nan_to_num(off, nan=np.inf).max():.3g}, at most {tolerance:g} is right"


def _with_nan(row: Any) -> list[float]:
    return [math.nan if number is None else number for number in row]


def _ranking(found: Any, right: Any, labels: Sequence[str], tolerance: float) -> str:
    if right is None or found is None:
        return "" if found is right else f"is {'absent' if found is None else 'there'}, and should not be"
    if [each["index"] for each in found] != [index for index, _, _ in right]:
        return f"ranks {[each['index'] for each in found]}, not {[index for index, _, _ in right]}"
    for each, (index, probability, logit) in zip(found, right, strict=True):
        if each["label"] != labels[index]:
            return f"calls label {index} {each['label']!r}"
        off = max(abs(each["probability"] - probability), abs(each["logit"] - logit) / 20)
        if not off <= tolerance:
            return f"is off by {off:.3g} for {labels[index]!r}"
    return ""
