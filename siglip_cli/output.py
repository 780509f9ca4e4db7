"""What commands print: JSON lines for programs, tables for people, tab-separated lines into pipes."""

import json
import re
import sys
from collections.abc import Sequence
from typing import Any

import click

from siglip_cli import exit_codes
from siglip_cli.calling import Failure

BAR_CELLS = 24
_NAME_CHARACTERS = 200  # most paths are shorter
_EIGHTHS = " ▏▎▍▌▋▊▉"

JSON_HELP = "Print JSON: one object a line and item. In names, bytes that are not UTF-8 become U+FFFD."
# How Python keeps bytes that are not UTF-8.
_STRAY = re.compile("[\ud800-\udfff]")
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")

json_option = click.option("--json", "as_json", is_flag=True, help=JSON_HELP)


class Report:
    """Prints items as they come and remembers whether any failed."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.for_people = not as_json and sys.stdout is not None and sys.stdout.isatty()
        self._failed = False

    @property
    def exit_code(self) -> int:
        return exit_codes.SOME_FAILED if self._failed else exit_codes.OK

    def line(self, **fields: Any) -> None:
        """One JSON object. The fields of a command are always the same ones."""
        click.echo(json_text(fields))

    def failed(self, name: str, failure: Failure) -> None:
        """Notes a failed item; outside of JSON, where it has a line, it is told on standard error."""
        self._failed = True
        if not self.as_json:
            click.echo(f"siglip: {one_line(_cut(name))}: {failure.message} ({failure.reason})", err=True)

    def scores(self, name: str, rows: Sequence[tuple[str, float]]) -> None:
        """Texts with their probabilities."""
        name, rows = one_line(name), [(one_line(text), probability) for text, probability in rows]
        if not self.for_people:
            for text, probability in rows:
                click.echo(f"{name}\t{probability_text(probability)}\t{text}")
            return
        click.secho(name, bold=True)
        width = max((len(text) for text, _ in rows), default=0)
        for text, probability in rows:
            click.echo(f"  {text:{width}}  {probability_text(probability):>7}  {bar(probability)}")

    def note(self, line: str) -> None:
        """An aside for people."""
        if self.for_people:
            click.secho(line, dim=True, err=True)


def _cut(name: str) -> str:
    """A text is its own name: one that was refused for its length would fill the screen."""
    return name if len(name) <= _NAME_CHARACTERS else name[:_NAME_CHARACTERS] + "…"


def json_text(value: Any) -> str:
    """JSON that is UTF-8, whatever the names in it: stray bytes become U+FFFD."""
    return utf8(json.dumps(value, ensure_ascii=False, allow_nan=False))


def utf8(text: str) -> str:
    """Stray bytes become U+FFFD."""
    return _STRAY.sub("\ufffd", text)


def one_line(text: str) -> str:
    """Stray bytes become U+FFFD and control characters \\n, \\t, \\x1b: no name ends a line or a column."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], utf8(text))


def error_fields(failure: Failure | None) -> dict[str, Any] | None:
    """The `error` field of a JSON line."""
    if failure is None:
        return None
    return {"reason": failure.reason, "message": failure.message, "retryable": failure.retryable}


def probability_text(probability: float) -> str:
    """Four decimals, or the power of ten where these would be zeros."""
    return f"{probability:.4f}" if probability >= 0.0001 or probability == 0 else f"{probability:.0e}"


def bar(share: float, cells: int = BAR_CELLS) -> str:
    """A bar of at most `cells` characters."""
    eighths = round(share * cells * 8)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def short(number: float) -> float:
    """A float32 without the digits that only its float64 form has."""
    return float(f"{number:.9g}")
