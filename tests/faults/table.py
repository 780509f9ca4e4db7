"""`make faults`: a pytest plugin that runs each fault on both servers, counts requests, and shows a table.

What a test asserts stands in the test. Here it is added that every request of a gateway's end has ended,
and in its time.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from broker import Answer, BrokerError, GatewayBroker
from tests.faults.load import Book

FAULTS = {
    1: "worker killed before, at and after its work",
    2: "worker killed, then who took over too",
    3: "a row that kills every worker",
    4: "a row that hangs every device",
    5: "worker stopped for longer than its lease",
    6: "SIGTERM under load, and a second one",
    7: "queue restarted empty or loading, flushed",
    8: "queue fails over, slots move",
    9: "links cut, one way too, slow, half-open",
    10: "queue stalls for longer than a timeout",
    11: "queue full, memory full",
    12: "gateway reads its replies late",
    13: "an entry or a reply comes twice",
    14: "clocks 10 minutes off, clocks that jump",
    15: "gateway killed with a full queue",
    16: "cancelled in every state, 1 ms to live",
    17: "gateway and worker of other versions",
    18: "queue that evicts",
    19: "queue user who lacks a command",
    20: "certificates expire and are replaced",
    21: "a thousand gateways come and go",
    22: "tasks cancelled at every await",
    23: "long run: memory and keys stay",
    24: "owner of the embedded server killed",
}
# After its deadline a request must have ended.
LATE_S = 3.0


@dataclass
class Count:
    """Requests of one test, or of all tests of one fault on one server."""

    answered: int = 0
    errors: int = 0
    cancelled: int = 0
    unended: int = 0
    late: int = 0
    slowest_s: float = 0.0

    def __iadd__(self, other: "Count") -> "Count":
        for name in ("answered", "errors", "cancelled", "unended", "late"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.slowest_s = max(self.slowest_s, other.slowest_s)
        return self


@dataclass
class Line:
    """One line of the table."""

    count: Count = field(default_factory=Count)
    outcomes: dict[str, int] = field(default_factory=lambda: defaultdict(int))


LINES: dict[tuple[int, str], Line] = defaultdict(Line)
COUNT, OUTCOME = pytest.StashKey[Count](), pytest.StashKey[str]()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "queue_server" in metafunc.fixturenames:
        metafunc.parametrize("queue_server", ["valkey", "redis"], indirect=True, scope="session")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    item.stash[COUNT] = count = Count()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(GatewayBroker, "embed", _counting(GatewayBroker.embed, count))
        patched.setattr(Book, "note", _noting(Book.note, count))
        return (yield)


def _noting(note: Any, count: Count) -> Any:
    def noted(book: Book, outcome: str, took_s: float, timeout_s: float) -> None:
        note(book, outcome, took_s, timeout_s)
        count.answered += outcome == "right"
        count.errors += outcome != "right"
        count.slowest_s = max(count.slowest_s, took_s)

    return noted


def _counting(embed: Any, count: Count) -> Any:
    async def counted(*arguments: Any, deadline_s: float, **options: Any) -> Answer:
        count.unended += 1
        began_s = time.monotonic()
        try:
            answer: Answer = await embed(*arguments, deadline_s=deadline_s, **options)
        except BrokerError:
            count.errors += 1
            raise
        except BaseException:
            count.cancelled += 1
            raise
        else:
            count.answered += 1
            return answer
        finally:
            count.unended -= 1
            took_s = time.monotonic() - began_s
            count.late += took_s > deadline_s + LATE_S
            count.slowest_s = max(count.slowest_s, took_s)

    return counted


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[assignment]
    count = item.stash[COUNT]
    if report.when == "teardown" and report.passed and (count.unended or count.late):
        report.outcome = "failed"
        report.longrepr = f"{count.unended} requests have not ended, {count.late} were late"
    if report.when == "call" or not report.passed:
        item.stash[OUTCOME] = report.outcome
    if report.when == "teardown":
        _note(item, item.stash[OUTCOME], count)
    return report  # type: ignore[return-value]


def _note(item: pytest.Item, outcome: str, count: Count) -> None:
    server = item.callspec.params.get("queue_server") if hasattr(item, "callspec") else None
    for mark in item.iter_markers("fault"):
        line = LINES[mark.args[0], server or "embedded"]
        line.outcomes[outcome] += 1
        line.count += count


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("faults")
    for line in table():
        terminalreporter.write_line(line)


def table() -> list[str]:
    """What ran, by number of the fault and server."""
    head = (
        "        fault                                          tests  answered  errors  cancelled  slowest s"
    )
    lines = [head]
    for (number, server), line in sorted(LINES.items()):
        count, ran = line.count, sum(line.outcomes.values())
        numbers = f"{ran:>5}  {count.answered:>8,}  {count.errors:>6,}  {count.cancelled:>9,}"
        wrong = ", ".join(f"{n} {what}" for what, n in line.outcomes.items() if what != "passed")
        title = FAULTS[number]
        lines.append(
            f"{number:>2}  {server:8}  {title:43}  {numbers}  {count.slowest_s:>9.1f}  {wrong or 'passed'}"
        )
    return lines
