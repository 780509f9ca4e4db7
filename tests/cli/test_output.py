import importlib
import json
import logging
import sys

import pytest

from siglip_cli.calling import Failure, blocks
from siglip_cli.errors import CommandError, explain
from siglip_cli.logs import JsonLines, TextLines
from siglip_cli.output import BAR_CELLS, Report, bar, probability_text, short


@pytest.mark.parametrize(
    ("probability", "shown"),
    [(1.0, "1.0000"), (0.12345, "0.1235"), (0.0001, "0.0001"), (0.00009, "9e-05"), (0.0, "0.0000")],
)
def test_small_probabilities_are_not_shown_as_zero(probability: float, shown: str) -> None:
    assert probability_text(probability) == shown


@pytest.mark.parametrize(
    ("share", "shown"), [(0.0, ""), (1.0, "█" * BAR_CELLS), (0.5, "█" * 12), (0.0052, "▏")]
)
def test_bars(share: float, shown: str) -> None:
    assert bar(share) == shown


def test_short_numbers_are_still_the_same_float32() -> None:
    assert short(0.10000000149011612) == 0.100000001


@pytest.mark.parametrize("for_people", [False, True])
def test_scores(capsys: pytest.CaptureFixture[str], for_people: bool) -> None:
    report = Report(as_json=False)
    report.for_people = for_people
    report.scores("a.png", [("a cat", 0.5), ("dog", 0.25)])
    report.note("decode 1 ms")
    printed = capsys.readouterr()
    if for_people:
        assert printed.out.splitlines() == [
            "a.png",
            f"  a cat   0.5000  {'█' * 12}",
            f"  dog     0.2500  {'█' * 6}",
        ]
        assert "decode 1 ms" in printed.err
    else:
        assert printed.out.splitlines() == ["a.png\t0.5000\ta cat", "a.png\t0.2500\tdog"]
        assert printed.err == ""


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="JSON"):
        Report(as_json=True).line(value=float("nan"))


def test_a_failed_text_is_not_printed_whole(capsys: pytest.CaptureFixture[str]) -> None:
    Report(as_json=False).failed("x" * 70_000, Failure("TEXT_TOO_LONG", "70000 bytes given"))
    printed = capsys.readouterr().err
    assert "xxx…: 70000 bytes given (TEXT_TOO_LONG)" in printed
    assert len(printed) < 300


NOT_UTF_8 = "caf\udce9.png"  # as Python reads the bytes caf\xe9.png


def test_json_is_utf_8_whatever_the_name(capsys: pytest.CaptureFixture[str]) -> None:
    Report(as_json=True).line(image=NOT_UTF_8)
    assert json.loads(capsys.readouterr().out.encode()) == {"image": "caf\ufffd.png"}


@pytest.mark.parametrize("for_people", [False, True])
def test_no_name_ends_a_line_or_a_column(capsys: pytest.CaptureFixture[str], for_people: bool) -> None:
    report = Report(as_json=False)
    report.for_people = for_people
    report.scores(f"a\n\tb\x1b[2J{NOT_UTF_8}", [("two\nlines", 0.5)])
    report.failed("c\nd", Failure("IMAGE_EMPTY", "0 bytes"))
    printed = capsys.readouterr()
    assert printed.err == "siglip: c\\nd: 0 bytes (IMAGE_EMPTY)\n"
    name, text = "a\\n\\tb\\x1b[2Jcaf\ufffd.png", "two\\nlines"
    expected = [name, f"  {text}   0.5000  {'█' * 12}"] if for_people else [f"{name}\t0.5000\t{text}"]
    assert printed.out.splitlines() == expected


def test_a_failed_item_is_told_and_remembered(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(as_json=False)
    assert report.exit_code == 0
    report.failed("a.png", Failure("IMAGE_EMPTY", "0 bytes"))
    assert report.exit_code == 1
    assert capsys.readouterr().err == "siglip: a.png: 0 bytes (IMAGE_EMPTY)\n"


def test_foreseen_errors() -> None:
    assert explain(CommandError("no", 3)) == ("no", 3)
    assert explain(RuntimeError("a defect")) is None


def record(error: Exception | None = None) -> logging.LogRecord:
    info = (type(error), error, None) if error else None
    return logging.LogRecord("gateway.x", logging.WARNING, "x.py", 1, "%d left", (3,), info)


def test_json_log_lines() -> None:
    line = json.loads(JsonLines("gateway").format(record(ValueError("odd"))))
    assert list(line) == ["time", "level", "process", "pid", "logger", "message", "exception"]
    assert (line["level"], line["process"], line["message"]) == ("warning", "gateway", "3 left")
    assert "odd" in line["exception"]


def test_text_log_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    found = record()
    found.created, found.msecs = 0.0, 7.0
    assert TextLines("gateway").format(found).startswith("1970-01-01T00:00:00.007Z WARNING gateway[")


def test_nothing_in_a_log_line_begins_another() -> None:
    forged = record(ValueError("a\nb\x1b[2J"))
    forged.args = ("x\n2026 INFO gateway[1] forged",)
    forged.msg = "%s left"
    first, *more = TextLines("gateway").format(forged).split("\n")
    assert first.endswith("x\\n2026 INFO gateway[1] forged left")
    assert more == ["  ValueError: a", "  b\\x1b[2J"]


def test_terminals_get_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert Report(as_json=False).for_people
    assert not Report(as_json=True).for_people


def test_a_part_that_is_not_installed() -> None:
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module("tensorflow_is_not_here")
    line, code = explain(caught.value) or ("", 0)
    assert "tensorflow_is_not_here is not installed" in line
    assert code == 2


def test_blocks_end_by_items_or_bytes() -> None:
    loaded: list[tuple[str, bytes | Failure]] = [
        ("a", b"12345"),
        ("b", b"12345"),
        ("c", b"1"),
        ("d", Failure("R", "m")),
        ("e", b""),
        ("f", b"1"),
    ]
    grouped = [[name for name, _ in block] for block in blocks(loaded, 3, 10)]
    assert grouped == [["a", "b"], ["c", "d", "e"], ["f"]]
