"""Texts and labels from options, files and standard input."""

import sys
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import click

from siglip_cli.errors import CommandError


def texts_given(given: Sequence[str], file: Path | None, option: str) -> list[str]:
    """`given` and then the lines of `file` that are not blank. Raises click.UsageError for none at all."""
    texts = [*given, *(line for line in _lines(file) if line.strip())] if file else list(given)
    if not texts:
        raise click.UsageError(f"give at least one {option}, or a file with one a line by {option}s-file")
    return texts


def stdin_lines() -> list[str]:
    """Every line of standard input, blank ones too, so that results keep its numbering."""
    if sys.stdin is None or sys.stdin.isatty():  # None: the caller closed it
        raise click.UsageError("give texts as arguments, or pipe them in, one a line")
    lines = _decode(sys.stdin.buffer.read(), "standard input")
    if not lines:
        raise click.UsageError("standard input holds no text")
    return lines


def _lines(file: Path) -> list[str]:
    try:
        return _decode(file.read_bytes(), str(file))
    except OSError as error:
        raise CommandError(f"cannot read {file}: {error.strerror}") from error


def _decode(data: bytes, name: str) -> list[str]:
    try:
        # Not splitlines, which also cuts at form feeds and at Unicode's own separators.
        return [line.rstrip("\n") for line in StringIO(data.decode("utf-8-sig"), newline=None)]
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CommandError(f"{name} is not UTF-8 (line {line})") from error
