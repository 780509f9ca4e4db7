"""Outcomes as text: languages beside cases, and what is wrong."""

from collections.abc import Iterator, Sequence

from tests.conformance.planning import Case
from tests.conformance.trial import Outcome

PASSED, FAILED, NOT_RUN = "ok", "FAILED", "-"


def mark(outcome: Outcome, case: str) -> str:
    """Never "ok" for what did not run."""
    if outcome.not_run or case not in outcome.problems:
        return NOT_RUN
    return FAILED if outcome.problems[case] else PASSED


def table(cases: Sequence[Case], outcomes: Sequence[Outcome]) -> str:
    width = max(len(case["name"]) for case in cases)
    columns = [max(len(outcome.language), len(FAILED)) for outcome in outcomes]
    head = [outcome.language.ljust(column) for outcome, column in zip(outcomes, columns, strict=True)]
    lines = ["  ".join(["case".ljust(width), *head]).rstrip()]
    for case in cases:
        marks = [
            mark(outcome, case["name"]).ljust(column)
            for outcome, column in zip(outcomes, columns, strict=True)
        ]
        lines.append("  ".join([case["name"].ljust(width), *marks]).rstrip())
    return "\n".join(lines)


def summary(outcomes: Sequence[Outcome]) -> str:
    return "\n".join([*_problems(outcomes), *(line(outcome) for outcome in outcomes)])


def line(outcome: Outcome) -> str:
    """How it went in all."""
    if outcome.not_run:
        return f"{outcome.language}: not run: {outcome.not_run}"
    failed, count = len(outcome.failed), len(outcome.problems)
    return f"{outcome.language}: {count - failed} of {count} cases passed"


def _problems(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Each once: what could not be built fails in all cases alike."""
    for outcome in outcomes:
        cases: dict[str, list[str]] = {}
        for name in outcome.failed:
            for problem in outcome.problems[name]:
                cases.setdefault(problem, []).append(name)
        for problem, (first, *more) in cases.items():
            yield f"{outcome.language}: {first}{f' and {len(more)} more' if more else ''}: {problem}"
