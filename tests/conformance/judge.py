"""Compares what a client reported with what a case expects: what is wrong, in words."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.conformance import figures
from tests.conformance.figures import Answers
from tests.conformance.planning import Case

Report = Mapping[str, Any]


@dataclass(frozen=True)
class Trial:
    """One report beside its case. `cases`: all of the list, for those that build on others."""

    case: Case
    report: Report
    answers: Answers
    cases: Mapping[str, Case]
    attempts: int | None = None
    """How often the call came to a server that counts."""

    def get(self, name: str) -> Any:
        return self.report.get(name)


def judged(trial: Trial) -> list[str]:
    """Every expectation that the report does not meet."""
    expect = trial.case["expect"]
    problems = _code(trial, expect["code"])
    if problems:
        return problems  # the rest would repeat it
    return [
        problem
        for name, wanted in expect.items()
        for problem in CHECKS[name](trial, wanted)
        if name != "code"
    ]


def _code(trial: Trial, wanted: str | list[str]) -> list[str]:
    allowed = [wanted] if isinstance(wanted, str) else wanted
    code = trial.get("code")
    if code in allowed:
        return []
    return [f"code is {code}, not {' or '.join(allowed)}: {trial.get('message')}"]


def _message(trial: Trial, fragments: list[str]) -> list[str]:
    message = str(trial.get("message"))
    return [f"message has no {part!r}: {message!r}" for part in fragments if part not in message]


def _equal(name: str) -> Callable[[Trial, Any], list[str]]:
    def check(trial: Trial, wanted: Any) -> list[str]:
        found = trial.get(name)
        return [] if found == wanted else [f"{name} is {found!r}, not {wanted!r}"]

    return check


def _violations(trial: Trial, wanted: list[dict[str, Any]]) -> list[str]:
    return _listed("field_violations", trial, wanted, "description")


def _item_errors(trial: Trial, wanted: list[dict[str, Any]]) -> list[str]:
    return _listed("item_errors", trial, wanted, "message")


def _listed(name: str, trial: Trial, wanted: list[dict[str, Any]], text: str) -> list[str]:
    """One for each wanted, in order; of a text, fragments are wanted."""
    found = trial.get(name) or []
    if len(found) != len(wanted):
        return [f"{name} has {len(found)} entries, not {len(wanted)}: {found!r}"]
    problems = []
    for each, want in zip(found, wanted, strict=True):
        for key, value in want.items():
            right = _all_in(value, str(each.get(key))) if key == text else each.get(key) == value
            if not right:
                problems.append(f"{name}: {key} is {each.get(key)!r}, not {value!r}")
    return problems


def _all_in(fragments: list[str], text: str) -> bool:
    return all(fragment in text for fragment in fragments)


def _retry_delay(trial: Trial, wanted: int) -> list[str]:
    found = trial.get("retry_delay_ms")
    right = isinstance(found, int | float) and abs(found - wanted) < 1
    return [] if right else [f"retry_delay_ms is {found!r}, not {wanted}"]


def _attempts(trial: Trial, wanted: int) -> list[str]:
    return [] if trial.attempts == wanted else [f"{trial.attempts} attempts arrived, not {wanted}"]


def _dtype(trial: Trial, wanted: str) -> list[str]:
    found = {each for each in trial.get("dtypes") or [None] if each is not None}
    return [] if found == {wanted} else [f"dtypes are {sorted(found)}, not {wanted}"]


def _model(trial: Trial, wanted: dict[str, Any]) -> list[str]:
    found = trial.get("model") or {}
    problems = [
        f"model.{name} is {found.get(name)!r}, not {value!r}"
        for name, value in wanted.items()
        if found.get(name) != value
    ]
    return problems if found.get("fingerprint") else [*problems, "model has no fingerprint"]


def _handle(trial: Trial, digits: int) -> list[str]:
    found = trial.get("label_set")
    right = isinstance(found, str) and len(found) == digits and set(found) <= set("0123456789abcdef")
    return [] if right else [f"label_set is {found!r}, not {digits} hexadecimal digits"]


def _back_pressure(trial: Trial, wanted: bool) -> list[str]:
    """More than one at a time, and never more than was allowed."""
    most, allowed = trial.get("most_unanswered"), trial.get("allowed_unanswered")
    if isinstance(most, int) and isinstance(allowed, int) and 1 < most <= allowed:
        return []
    return [f"most_unanswered is {most}, allowed were {allowed}"]


def _streams_at_least(trial: Trial, wanted: int) -> list[str]:
    found = trial.get("streams") or 0
    return [] if found >= wanted else [f"{found} streams were opened, at least {wanted} are needed"]


def _computed(check: Callable[..., list[str]]) -> Callable[[Trial, Any], list[str]]:
    def compare(trial: Trial, wanted: Any) -> list[str]:
        return check(trial.case, trial.report, wanted, trial.answers, trial.cases)

    return compare


CHECKS: dict[str, Callable[[Trial, Any], list[str]]] = {
    "code": _code,
    "message": _message,
    "reason": _equal("reason"),
    "domain": _equal("domain"),
    "metadata": _equal("metadata"),
    "field_violations": _violations,
    "retry_delay_ms": _retry_delay,
    "item_errors": _item_errors,
    "undecodable": _equal("undecodable"),
    "dtype": _dtype,
    "model": _model,
    "label_set_digits": _handle,
    "label_count": _equal("label_count"),
    "results": _equal("results"),
    "duplicates": _equal("duplicates"),
    "back_pressure": _back_pressure,
    "streams_at_least": _streams_at_least,
    "attempts": _attempts,
    "vectors": _computed(figures.vectors),
    "images": _computed(figures.images),
    "scores": _computed(figures.scores),
    "tokens": _computed(figures.tokens),
}
