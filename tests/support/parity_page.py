"""Runs the comparisons with the reference and writes docs/parity.md: `make parity`, `make parity-slow`."""

import argparse
import importlib.metadata
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.parity import RECORDS, ROWS, Place, Records, Stage

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "parity.md"
PACKAGES = ("torch", "transformers", "numpy", "pillow", "sentencepiece", "tokenizers")
FULL_SIZE = "\n## Full size\n"

HEAD = """\
# Parity with the reference

Written by `make parity` and `make parity-slow`, never by hand. Every part of `siglip_model` against
transformers: either the installed release, run beside ours on the same random weights and inputs, or what
release 4.50.3, whose API this is, gave for the same inputs (`tests/model/goldens`). Where transformers has
nothing to compare with, the line says what was taken instead. A difference is absolute, the largest of all
numbers of all cases; bit-equal means that not one bit differs. Tests count what is no number, too: names,
shapes, errors, files.
"""


class Collector:
    """A pytest plugin that keeps what the tests compared."""

    def __init__(self) -> None:
        self.records = Records()

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.records = session.config.stash.get(RECORDS, self.records)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slow", action="store_true", help="the full-size comparisons, which take minutes")
    slow = parser.parse_args().slow
    collector = Collector()
    chosen = "parity and slow" if slow else "parity and not slow"
    status = pytest.main([str(ROOT / "tests" / "model"), "-m", chosen, "--durations=0", "-q"], [collector])
    if status != pytest.ExitCode.OK:
        print("the page is left as it was: not all comparisons passed", file=sys.stderr)
        return int(status)
    old = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
    front, _, full_size = old.partition(FULL_SIZE)
    if slow:
        full_size = f"\nFrom `make parity-slow`, {versions()}.\n" + "".join(tables(collector.records))
    else:
        front = f"{HEAD}\nThis run: {versions()}.\n" + summary(collector.records)
        front += "".join(tables(collector.records))
    PAGE.write_text(front + (FULL_SIZE + full_size if full_size else ""), encoding="utf-8")
    print(f"written: {PAGE.relative_to(ROOT)}")
    return 0


def versions() -> str:
    found = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return f"Python {platform.python_version()}, {found}, on the CPU"


def summary(records: Records) -> str:
    lines = [
        "\n| | row | what is compared | comparisons | closest to its tolerance | tests |\n",
        "|--|--|--|--|--|--|\n",
    ]
    for number, (row, what) in enumerate(ROWS.items(), start=1):
        stages = {name: stage for (place, name), stage in records.stages.items() if place.row == row}
        tests = sum(count for place, count in records.passed.items() if place.row == row)
        cases = sum(stage.cases for stage in stages.values())
        lines.append(f"| {number} | {row} | {what} | {cases} | {closest(stages)} | {tests} |\n")
    return "".join(lines)


def closest(stages: dict[str, Stage]) -> str:
    inexact = {name: stage for name, stage in stages.items() if stage.tolerance}
    if not inexact:
        return "bit-equal" if stages else ""
    name = max(inexact, key=lambda name: inexact[name].largest / inexact[name].tolerance)
    if inexact[name].largest == 0:
        return "bit-equal"
    return f"{name}: {difference(inexact[name])} of {inexact[name].tolerance:.0e}"


def tables(records: Records) -> Iterator[str]:
    for number, row in enumerate(ROWS, start=1):
        places = sorted(
            {place for place in (*records.passed, *(p for p, _ in records.stages)) if place.row == row}
        )
        if places:
            yield f"\n### {number}. {row}\n"
        for place in places:
            yield table(place, records)


def table(place: Place, records: Records) -> str:
    stages = {name: stage for (here, name), stage in records.stages.items() if here == place}
    text = f"\nAgainst {place.against}: {counted(records.passed[place])}.\n"
    for (here, reason), count in sorted(records.skipped.items()):
        if here == place:
            text += f"Not run here, {counted(count)}: {reason}.\n"
    if stages:
        text += "\n| stage | cases | largest difference | tolerance |\n|--|--|--|--|\n"
    for name, stage in sorted(stages.items()):
        allowed = f"{stage.tolerance:.0e}" if stage.tolerance else "0"
        text += f"| {name} | {stage.cases} | {difference(stage)} | {allowed} |\n"
    return text


def counted(tests: int) -> str:
    return f"{tests} test{'s' if tests != 1 else ''}"


def difference(stage: Stage) -> str:
    return "bit-equal" if stage.largest == 0 else f"{stage.largest:.1e}"


if __name__ == "__main__":
    sys.exit(main())
