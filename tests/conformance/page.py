"""Outcomes as docs/conformance.md: what was tested, and what a user of each language sees."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.conformance.clients import Client
from tests.conformance.planning import Case
from tests.conformance.table import PASSED, mark
from tests.conformance.trial import Outcome

FILE = Path(__file__).parents[2] / "docs" / "conformance.md"
_HEAD = """# Clients: what was tested, and what their users see

Written by `make conformance-page`. Each client in [`clients/`](../clients/README.md) makes the calls of
[`cases.json`](../tests/conformance/cases.json) against the real service, with the demo checkpoint, and
one [judge](../tests/conformance/README.md) compares what came with the model library's own numbers.
"""
_KINDS = {
    "works": "Calls that work",
    "refused": "Bad input, and servers that cannot be used",
    "survives": "Retries and restarts",
}
_PORT = re.compile(r"(?<=:)\d{4,5}\b")
_SHOWN_CHARACTERS = 300


def page(cases: Sequence[Case], outcomes: Sequence[Outcome], clients: Sequence[Client]) -> str:
    versions = {client.language: client.versions() for client in clients}
    blocks = [_HEAD, "## Languages\n", _languages(outcomes, versions), "## Cases\n"]
    for kind, title in _KINDS.items():
        blocks += [f"### {title}\n", _cases([case for case in cases if case["kind"] == kind], outcomes)]
    blocks += ["## What a user sees\n", "Addresses and ports are those of the test.\n"]
    blocks += [_seen(case, outcomes) for case in cases if case["kind"] != "works"]
    return "\n".join(blocks)


def _languages(outcomes: Sequence[Outcome], versions: Mapping[str, str]) -> str:
    rows = []
    for outcome in outcomes:
        count = len(outcome.problems)
        result = (
            f"not run: {outcome.not_run}" if outcome.not_run else f"{count - len(outcome.failed)} of {count}"
        )
        rows.append([outcome.language, result, versions.get(outcome.language, "")])
    return _table(["language", "cases passed", "versions"], rows)


def _cases(cases: Sequence[Case], outcomes: Sequence[Outcome]) -> str:
    rows = [
        [f"`{case['name']}`", case["about"], *(mark(outcome, case["name"]) for outcome in outcomes)]
        for case in cases
    ]
    return _table(["case", "what", *(outcome.language for outcome in outcomes)], rows)


def _seen(case: Case, outcomes: Sequence[Outcome]) -> str:
    """Languages whose users see the same share a row."""
    seen: dict[tuple[str, str], list[str]] = {}
    for outcome in outcomes:
        if report := outcome.reports.get(case["name"]):
            about = _what(report)
            told = (
                outcome.language if mark(outcome, case["name"]) == PASSED else f"{outcome.language} (failed)"
            )
            seen.setdefault(about, []).append(told)
    rows = [[", ".join(languages), *about] for about, languages in seen.items()]
    return f"### {case['name']}\n\n{case['about']}\n\n" + _table(["language", "code", "message"], rows)


def _what(report: Mapping[str, Any]) -> tuple[str, str]:
    """Code and message as they are seen, those of items where the call itself is well."""
    if report["code"] != "OK":
        reason = f" ({report['reason']})" if report.get("reason") else ""
        return report["code"], _shown(f"{report.get('message', '')}{reason}")
    items = [
        f"item {each['index']}: {each['code']}: {each['message']} ({each['reason']})"
        for each in report.get("item_errors") or []
    ]
    items += [f"item {index}: a vector that cannot be read" for index in report.get("undecodable") or []]
    return "OK", _shown("<br>".join(items) or "answered")


def _shown(message: str) -> str:
    """In a cell of a table, without what differs from run to run."""
    masked = _PORT.sub("PORT", " ".join(message.split()))
    cut = masked if len(masked) <= _SHOWN_CHARACTERS else masked[:_SHOWN_CHARACTERS] + "…"
    return cut.replace("|", "\\|")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"
