"""Cases of cases.json -> the plan that a client's program reads."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CASES_FILE = Path(__file__).with_name("cases.json")
# What of a case its program may see: not what is expected of it.
_SHOWN = (
    "name",
    "endpoint",
    "call",
    "request",
    "request_base64",
    "timeout_ms",
    "retries",
    "label_set_from",
    "stream",
)

Case = dict[str, Any]


def read_cases(names: Sequence[str] = ()) -> list[Case]:
    """All cases, or those of these names and the ones that they build on; written out in full.

    Raises SystemExit for a name without a case.
    """
    cases = [expanded(case) for case in json.loads(CASES_FILE.read_text(encoding="utf-8"))]
    if strange := set(names) - {case["name"] for case in cases}:
        raise SystemExit(f"there is no case {', '.join(sorted(strange))}; they are in {CASES_FILE.name}")
    wanted = set(names) | {case["label_set_from"] for case in cases if _builds(case, names)}
    return [case for case in cases if not names or case["name"] in wanted]


def expanded(value: Any) -> Any:
    """{"repeat": x, "times": n} -> n times x; {"number": "text {}", "times": n} -> text 0, text 1, ..."""
    match value:
        case {"repeat": item, "times": times}:
            return [item] * times
        case {"number": text, "times": times}:
            return [text.replace("{}", str(number)) for number in range(times)]
        case dict():
            return {name: expanded(each) for name, each in value.items()}
        case list():
            return [expanded(each) for each in value]
    return value


def plan(cases: Sequence[Case], endpoints: Mapping[str, Any], inputs: Path) -> dict[str, Any]:
    used = {case["endpoint"] for case in cases}
    return {
        "inputs": str(inputs),
        "endpoints": {name: endpoints[name] for name in sorted(used)},
        "cases": [{name: case[name] for name in _SHOWN if name in case} for case in cases],
    }


def _builds(case: Case, names: Sequence[str]) -> bool:
    return "label_set_from" in case and case["name"] in names
