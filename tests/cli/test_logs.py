"""Log lines: text for people, JSON for programs."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest

from siglip_cli.logs import start_logging


class Stream(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.fixture(autouse=True)
def root_logger_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.mark.parametrize(
    ("log_format", "terminal", "is_json"),
    [("auto", True, False), ("auto", False, True), ("text", False, False), ("json", True, True)],
)
def test_the_format_follows_the_terminal_unless_told(
    monkeypatch: pytest.MonkeyPatch, log_format: str, terminal: bool, is_json: bool
) -> None:
    monkeypatch.setattr(sys, "stderr", Stream(terminal))
    start_logging(log_format, "info", "gateway")
    logging.getLogger("gateway.x").info("call %s", "done", extra={"fields": {"request_id": "r-1"}})
    logging.getLogger("gateway.x").debug("not shown")
    assert isinstance(sys.stderr, Stream)
    (line,) = sys.stderr.getvalue().splitlines()
    if is_json:
        told = json.loads(line)
        assert (told["message"], told["request_id"], told["level"]) == ("call done", "r-1", "info")
        assert (told["process"], told["logger"]) == ("gateway", "gateway.x")
    else:
        assert "INFO gateway[" in line and line.endswith("call done")
