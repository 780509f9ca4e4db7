"""Reads CSV and JSON Lines files, and standard input, a line at a time."""

import codecs
import csv
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterator
from typing import IO, Any, AnyStr, BinaryIO

from siglip_jobs import names
from siglip_jobs.errors import JobError, Problem
from siglip_jobs.rows import File, Row, Text

LOOKED_AT_LINES = 100
"""Of a JSON Lines file, for the names of its columns."""
MAX_FIELD_CHARACTERS = 64 << 20
"""Of CSV; and of a whole line of JSON, which may hold an image in base64."""
MAX_LINE_BYTES = 1 << 20
"""Of standard input: a text or a path."""
LOOKED_AT_BYTES = 1000
"""Of a file, for the zeros that other encodings have and UTF-8 has not."""
READ = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": ""}


class _Untyped:
    """What files without types have in common: every value that is kept is kept as text."""

    def types(self, path: str, columns: tuple[str, ...]) -> dict[str, Any]:
        return dict.fromkeys(columns)

    def count(self, path: str) -> int | None:
        return None


class Csv(_Untyped):
    def __init__(self, delimiter: str = ",") -> None:
        self._delimiter = delimiter
        csv.field_size_limit(MAX_FIELD_CHARACTERS)

    def columns(self, path: str) -> list[str]:
        try:
            _refuse_other_encodings(path)
            with open(path, **READ) as file:  # type: ignore[call-overload]  # noqa: PTH123
                held = list(csv.DictReader(file, delimiter=self._delimiter).fieldnames or [])
        except (OSError, csv.Error) as error:
            raise JobError(f"cannot read {path}: {error}") from None
        if not held:
            raise JobError(f"{path} is empty: its first line must name its columns")
        if twice := next((name for name in held if held.count(name) > 1), None):
            raise JobError(f"{path} names the column {twice!r} twice in its first line")
        return held

    texts = columns

    def values(self, path: str, columns: list[str]) -> Iterator[dict[str, Any] | Problem]:
        with open(path, **READ) as file:  # type: ignore[call-overload]  # noqa: PTH123
            reader = csv.DictReader(file, delimiter=self._delimiter, strict=True)
            try:
                for row in reader:
                    yield row if None not in row else _ragged(reader, row)
            except csv.Error as error:
                raise ValueError(f"line {reader.line_num}: {error}") from None


def _ragged(reader: Any, row: dict[Any, Any]) -> Problem:
    """More fields than columns: most often a comma in a text that has no quotes, which would be cut there."""
    named = len(reader.fieldnames)
    found = named + len(row[None])
    return Problem(
        "ROW_UNREADABLE", f"line {reader.line_num} has {found} fields, and the first line names {named}"
    )


class JsonLines(_Untyped):
    def columns(self, path: str) -> list[str]:
        return list(self._looked_at(path))

    def texts(self, path: str) -> list[str]:
        return [name for name, value in self._looked_at(path).items() if isinstance(value, str)]

    def values(self, path: str, columns: list[str]) -> Iterator[dict[str, Any] | Problem]:
        with open(path, **READ) as file:  # type: ignore[call-overload]  # noqa: PTH123
            for number, (line, is_whole) in enumerate(_lines(file, MAX_FIELD_CHARACTERS), 1):
                if not is_whole:
                    message = f"line {number} has more than {MAX_FIELD_CHARACTERS} characters"
                    yield Problem("ROW_UNREADABLE", message)
                elif line.strip():
                    yield _object(line, number)

    def _looked_at(self, path: str) -> dict[str, Any]:
        """A value of each column of the first lines."""
        found: dict[str, Any] = {}
        try:
            _refuse_other_encodings(path)
            for row in itertools.islice(self.values(path, []), LOOKED_AT_LINES):
                for name, value in row.items() if isinstance(row, dict) else ():
                    if found.get(name) is None:
                        found[name] = value
        except OSError as error:
            raise JobError(f"cannot read {path}: {error.strerror}") from None
        if not found:
            raise JobError(f"{path} has no line that is a JSON object with columns")
        return found


class StandardInput:
    """One item a line: texts, whose ids are their numbers from 0, or paths, which are their own ids."""

    kind = "lines"
    grows = False

    def __init__(self, stream: BinaryIO, paths: bool) -> None:
        self._stream, self.may_repeat = stream, paths
        self.column_types: dict[str, Any] = {}

    def rows(self, after: int = 0) -> Iterator[Row]:
        digest = hashlib.sha256()
        for position, (line, is_whole) in enumerate(_lines(self._stream, MAX_LINE_BYTES, digest.update)):
            if not is_whole:
                problem = Problem("LINE_TOO_LONG", f"it has more bytes than the limit, {MAX_LINE_BYTES}")
                yield Row(str(position), problem, position=position, check=digest.digest())
                continue
            if position == 0 and (encoding := _other_encoding(line)):
                raise _not_utf8("standard input", encoding)
            text = (
                line.removeprefix(b"\xef\xbb\xbf" if position == 0 else b"")
                .removesuffix(b"\n")
                .removesuffix(b"\r")
            )
            yield self._row(os.fsdecode(text), position, digest.digest())

    def total(self) -> int | None:
        return None

    def identity(self) -> dict[str, Any]:
        """What comes in is compared as it is read, by the digest of each row."""
        root = names.escape(os.getcwd())  # noqa: PTH109
        return {"kind": self.kind, "paths": self.may_repeat, **({"root": root} if self.may_repeat else {})}

    def _row(self, line: str, position: int, check: bytes) -> Row:
        if not self.may_repeat:
            return Row(str(position), Text(line), position=position, check=check)
        content = File(line) if line else Problem("PATH_MISSING", "the line is empty")
        return Row(names.escape(line), content, position=position, check=check)


_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def _refuse_other_encodings(path: str) -> None:
    """Raises JobError."""
    with open(path, "rb") as file:  # noqa: PTH123
        if encoding := _other_encoding(file.read(LOOKED_AT_BYTES)):
            raise _not_utf8(path, encoding)


def _other_encoding(beginning: bytes) -> str | None:
    """UTF-32 or UTF-16, by its mark, or by the zero bytes beside Latin letters."""
    for mark, encoding in _MARKS:
        if beginning.startswith(mark):
            return encoding
    even, odd = beginning[::2].count(0), beginning[1::2].count(0)
    if max(even, odd) * 4 > len(beginning):  # every second byte of one letter or another
        return "UTF-16BE" if even > odd else "UTF-16LE"
    return None


def _not_utf8(what: str, encoding: str) -> JobError:
    return JobError(
        f"{what} looks like {encoding}, and UTF-8 is read: convert it first (iconv -f {encoding} -t UTF-8)"
    )


def _lines(
    file: IO[AnyStr], most: int, read: Callable[[AnyStr], object] = lambda piece: None
) -> Iterator[tuple[AnyStr, bool]]:
    """Each line, and whether it is whole: of one that is longer than `most` the rest is left out.

    `read` is told all that comes.
    """
    while line := file.readline(most):
        read(line)
        whole = len(line) < most or _ends(line)
        yield line, whole
        while not whole and (rest := file.readline(most)):
            read(rest)
            whole = _ends(rest)


def _ends(line: str | bytes) -> bool:
    return line[-1:] in (b"\n", "\n", "\r")  # bytes are cut at line feeds alone


def _object(line: str, number: int) -> dict[str, Any] | Problem:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Problem("ROW_UNREADABLE", f"line {number} is no JSON: {error!s:.200}")
    if not isinstance(value, dict):
        return Problem("ROW_UNREADABLE", f"line {number} is no JSON object: {line.strip():.60}")
    return value
