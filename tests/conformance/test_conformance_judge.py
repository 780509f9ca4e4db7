"""A wrong report is seen; a right one passes; what did not run has not passed."""

import copy
import re
from typing import Any

import numpy as np
import pytest

from tests.conformance.judge import Trial, judged
from tests.conformance.page import page
from tests.conformance.planning import read_cases
from tests.conformance.table import summary, table
from tests.conformance.trial import Outcome

CASES = {case["name"]: case for case in read_cases()}
ROW = np.array([0.6, 0.8], np.float32)


class Library:
    """Stands for the model: every vector is ROW, and label i has the logit -i."""

    def tokens(self, texts: list[str]) -> list[list[int]]:
        return [[7, 1] for _ in texts]

    def texts(self, texts: list[str], normalize: bool = True) -> Any:
        return np.stack([ROW * (1 if normalize else 3)] * len(texts))

    images = texts

    def logits(self, names: list[str], texts: list[str]) -> Any:
        return np.zeros((len(names), len(texts)), np.float32)

    def classification(self, request: Any, labels: list[str], templates: list[str]) -> Any:
        return [[(index, 0.5, -float(index)) for index in range(len(labels))] for _ in request["images"]]


def problems(name: str, report: dict[str, Any], attempts: int | None = None) -> list[str]:
    return judged(Trial(CASES[name], report, Library(), CASES, attempts))


def vectors(count: int, number: float = 0.6) -> list[list[float]]:
    return [[number, 0.8] for _ in range(count)]


MODEL = {"name": "shapes", "fingerprint": "f00d", "embedding_dim": 128, "text_length": 64}
TEXTS = {"code": "OK", "vectors": vectors(3), "dtypes": ["DTYPE_F32"] * 3, "item_errors": [], "model": MODEL}
EMPTY = {
    "code": "INVALID_ARGUMENT",
    "message": "texts: none given, at least 1 is needed",
    "reason": "FIELD_EMPTY",
    "domain": "siglip.v1",
    "field_violations": [{"field": "texts", "description": "none given, at least 1 is needed"}],
}
STREAM = {
    "code": "OK",
    "results": 1000,
    "duplicates": 0,
    "most_unanswered": 64,
    "allowed_unanswered": 64,
    "streams": 2,
    "item_errors": [],
    "vectors": vectors(1000),
}
LABELS = CASES["classify-sigmoid"]["request"]["labels"]
RANKED = [
    {"label": label, "index": index, "probability": 0.5, "logit": -index}
    for index, label in enumerate(LABELS)
]
IMAGES = {"code": "OK", "images": [RANKED, RANKED]}
EXACT = [0.5, -0.25, 2.0, 0.0]
DTYPES = {"code": "OK", "vectors": [EXACT, None, EXACT], "undecodable": [1]}
EXHAUSTED = {
    "code": "RESOURCE_EXHAUSTED",
    "message": "told to refuse",
    "reason": "OVERLOADED",
    "retry_delay_ms": 1500,
}
ROWS = [[None, None], [0.0, 0.0]]
SCORES = {
    "code": "OK",
    "logits": ROWS,
    "probabilities": [[None, None], [0.5, 0.5]],
    "item_errors": [
        {"index": 0, "code": "INVALID_ARGUMENT", "reason": "IMAGE_UNREADABLE", "field": "images[0]"}
    ],
}
SET = {"code": "OK", "label_set": "ab" * 32, "label_count": 4, "model": MODEL}
RIGHT = [
    ("texts", TEXTS, None),
    ("no-texts", EMPTY, None),
    ("stream-through-a-kill", STREAM, None),
    ("classify-sigmoid", IMAGES, None),
    ("newer-dtype", DTYPES, None),
    ("no-retry-without-pushback", EXHAUSTED, 1),
    ("bad-image-in-score", SCORES, None),
    ("label-set", SET, None),
    ("get-model", {"code": "OK", "model": MODEL}, None),
    ("tokenize", {"code": "OK", "tokens": [[7, 1], [7, 1]]}, None),
]
WRONG: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("texts", TEXTS, {"code": "UNKNOWN"}, "code is UNKNOWN, not OK"),
    ("texts", TEXTS, {"code": None}, "code is None"),
    ("texts", TEXTS, {"vectors": vectors(3, 0.61)}, "differs by 0.01"),
    ("texts", TEXTS, {"vectors": vectors(2)}, "2 vectors came, not 3"),
    ("texts", TEXTS, {"vectors": None}, "0 vectors came"),
    ("texts", TEXTS, {"vectors": [*vectors(2), None]}, "is absent"),
    ("texts", TEXTS, {"vectors": [*vectors(2), [float("nan"), 0.8]]}, "vectors\\[2\\] differs"),
    ("texts", TEXTS, {"vectors": [*vectors(2), [0.6]]}, "has \\(1,\\) numbers"),
    ("texts", TEXTS, {"dtypes": ["DTYPE_F16"] * 3}, "dtypes are"),
    ("texts", TEXTS, {"dtypes": None}, "dtypes are"),
    ("texts", TEXTS, {"item_errors": [{"index": 0}]}, "1 entries, not 0"),
    ("texts", TEXTS, {"model": None}, "model has no fingerprint"),
    ("no-texts", EMPTY, {"message": "no"}, "message has no"),
    ("no-texts", EMPTY, {"reason": "X"}, "reason is 'X'"),
    ("no-texts", EMPTY, {"domain": None}, "domain is None"),
    ("no-texts", EMPTY, {"field_violations": None}, "0 entries, not 1"),
    (
        "no-texts",
        EMPTY,
        {"field_violations": [{"field": "images", "description": "none given"}]},
        "field is 'images'",
    ),
    ("stream-through-a-kill", STREAM, {"results": 999}, "results is 999"),
    ("stream-through-a-kill", STREAM, {"duplicates": 1}, "duplicates is 1"),
    ("stream-through-a-kill", STREAM, {"duplicates": None}, "duplicates is None"),
    ("stream-through-a-kill", STREAM, {"most_unanswered": 65}, "most_unanswered is 65, allowed were 64"),
    ("stream-through-a-kill", STREAM, {"most_unanswered": 1}, "most_unanswered is 1"),
    ("stream-through-a-kill", STREAM, {"streams": 1}, "1 streams were opened"),
    ("classify-sigmoid", IMAGES, {"images": [RANKED, RANKED[::-1]]}, "images\\[1\\] ranks"),
    (
        "classify-sigmoid",
        IMAGES,
        {"images": [RANKED, [RANKED[0] | {"probability": 0.6}, *RANKED[1:]]]},
        "off",
    ),
    ("classify-sigmoid", IMAGES, {"images": [RANKED, [RANKED[0] | {"label": "x"}, *RANKED[1:]]]}, "calls"),
    ("classify-sigmoid", IMAGES, {"images": [RANKED, None]}, "is absent"),
    ("newer-dtype", DTYPES, {"undecodable": []}, "undecodable is"),
    ("newer-dtype", DTYPES, {"vectors": [EXACT, EXACT, EXACT]}, "is there, and should not be"),
    ("no-retry-without-pushback", EXHAUSTED, {"retry_delay_ms": None}, "retry_delay_ms is None"),
    ("bad-image-in-score", SCORES, {"logits": [[0.0, 0.0], [0.0, 0.0]]}, "logits\\[0\\] differs"),
    ("bad-image-in-score", SCORES, {"probabilities": ROWS}, "probabilities\\[1\\] differs"),
    ("label-set", SET, {"label_set": "AB"}, "not 64 hexadecimal digits"),
    ("label-set", SET, {"label_count": 3}, "label_count is 3"),
    (
        "get-model",
        {"code": "OK", "model": MODEL},
        {"model": {"name": "shapes"}},
        "model.embedding_dim is None",
    ),
    ("tokenize", {"code": "OK"}, {"tokens": [[7, 1]]}, "tokens are"),
]


@pytest.mark.parametrize(("name", "report", "attempts"), RIGHT, ids=[name for name, *_ in RIGHT])
def test_a_right_report_passes(name: str, report: dict[str, Any], attempts: int | None) -> None:
    assert problems(name, report, attempts) == []


@pytest.mark.parametrize(("name", "report", "change", "seen"), WRONG)
def test_a_wrong_report_is_seen(name: str, report: Any, change: dict[str, Any], seen: str) -> None:
    found = problems(name, copy.deepcopy(report) | change)
    assert found
    assert any(re.search(seen, problem) for problem in found), found


@pytest.mark.parametrize("attempts", [None, 0, 2])
def test_a_call_that_was_sent_again_is_seen(attempts: int | None) -> None:
    [problem] = problems("no-retry-without-pushback", EXHAUSTED, attempts)
    assert "attempts arrived, not 1" in problem


def test_what_did_not_run_has_not_passed() -> None:
    cases = [CASES["texts"], CASES["nobody"]]
    ran = Outcome("Python", problems={"texts": [], "nobody": ["code is OK, not UNAVAILABLE"]})
    lines = table(cases, [Outcome("Go", not_run="needs go"), ran]).splitlines()
    assert [line.split()[1:] for line in lines] == [["Go", "Python"], ["-", "ok"], ["-", "FAILED"]]
    assert summary([Outcome("Go", not_run="needs go"), ran]).splitlines() == [
        "Python: nobody: code is OK, not UNAVAILABLE",
        "Go: not run: needs go",
        "Python: 1 of 2 cases passed",
    ]


def test_the_page_shows_what_users_see_without_ports() -> None:
    report = {"code": "UNAVAILABLE", "message": "cannot connect to 127.0.0.1:40123: a|b"}
    ran = [
        Outcome(language, problems={"nobody": []}, reports={"nobody": report})
        for language in ("Go", "Python")
    ]
    shown = page([CASES["nobody"]], [*ran, Outcome("Rust", not_run="needs cargo")], [])
    assert "| Go, Python | UNAVAILABLE | cannot connect to 127.0.0.1:PORT: a\\|b |" in shown
    assert "| Rust | not run: needs cargo |" in shown
    assert "| `nobody` | Nobody listens. | ok | ok | - |" in shown


def test_what_is_wrong_in_all_cases_is_said_once() -> None:
    broken = ["no report: broken"]
    ran = Outcome("Go", problems={"a": broken, "b": broken, "c": ["x"], "d": []})
    assert summary([ran]).splitlines() == [
        "Go: a and 1 more: no report: broken",
        "Go: c: x",
        "Go: 1 of 4 cases passed",
    ]
