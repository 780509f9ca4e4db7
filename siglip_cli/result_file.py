"""`--out FILE`: results as JSON Lines, CSV or Parquet, by the end of the name; whole or not at all."""

import csv
import io
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, Protocol, Self, TypeVar

import click

from siglip_cli.errors import CommandError
from siglip_cli.output import json_text, utf8
from siglip_jobs.parquet import arrow

F = TypeVar("F", bound=Callable[..., Any])
Fields = dict[str, Any]
Columns = dict[str, type]
"""str, int or float, in order."""

ENDS = (".jsonl", ".csv", ".parquet")
ROWS_AT_A_TIME = 8192
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula, which may be one of a stranger."""


class Sink(Protocol):
    def write(self, **line: Any) -> None:
        """One item, as the object that --json prints: some fields, one of them a list of objects."""


Open = Callable[[BinaryIO, Columns], AbstractContextManager[Sink]]


def out_option(function: F) -> F:
    return click.option(
        "--out",
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Write results there instead: .jsonl as --json prints them; .csv and .parquet as a table.",
    )(function)


def result_file(out: Path | None, as_json: bool, columns: Columns) -> AbstractContextManager["Sink | None"]:
    """The file asked for, if one was; it gets its name when the block ends well. Raises CommandError."""
    if out is None:
        return nullcontext()
    if as_json:
        raise click.UsageError(
            "give --json or --out, not both: the end of the file's name says how it is written"
        )
    return _written(out, columns)


@contextmanager
def _written(out: Path, columns: Columns) -> Iterator[Sink]:
    check(out)
    partial = out.with_name(out.name + ".partial")
    kinds: dict[str, Open] = {".jsonl": _JsonLines, ".csv": _Csv, ".parquet": _Parquet}
    try:
        with partial.open("wb") as file, kinds[out.suffix.lower()](file, columns) as sink:
            yield sink
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def check(out: Path) -> None:
    """Before the work is done, not after. Raises CommandError."""
    if out.suffix.lower() not in ENDS:
        raise CommandError(f"--out is {out}; its name must end with one of {' '.join(ENDS)}")
    if not out.parent.is_dir():
        raise CommandError(f"cannot write {out}: there is no folder {out.parent}")
    if out.exists() and not out.is_file():
        raise CommandError(f"cannot write {out}: it is not a regular file")
    if not os.access(out.parent, os.W_OK):
        raise CommandError(f"cannot write {out}: its folder is not writable")


class _JsonLines:
    def __init__(self, file: BinaryIO, columns: Columns) -> None:
        self._file = file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing is held back."""

    def write(self, **line: Any) -> None:
        self._file.write(json_text(line).encode() + b"\n")


class _Csv:
    def __init__(self, file: BinaryIO, columns: Columns) -> None:
        self._text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
        # A carriage return in a name would end its row, if it had no quotes.
        self._writer = csv.DictWriter(self._text, columns, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)

    def __enter__(self) -> Self:
        self._writer.writeheader()
        return self

    def __exit__(self, *error: object) -> None:
        self._text.detach()

    def write(self, **line: Any) -> None:
        self._writer.writerows(map(_shown, _rows(line)))


class _Parquet:
    def __init__(self, file: BinaryIO, columns: Columns) -> None:
        pa = arrow()
        kinds = {str: pa.string(), int: pa.int64(), float: pa.float64()}
        self._arrow, self._rows = pa, list[Fields]()
        self._schema = pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
        self._writer = pa.parquet.ParquetWriter(file, self._schema)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            if kind is None:
                self._flush()
                self._writer.close()
        finally:
            self._writer.is_open = False  # it would try again, and hide why the first time failed

    def write(self, **line: Any) -> None:
        self._rows += _rows(line)
        if len(self._rows) >= ROWS_AT_A_TIME:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_table(self._arrow.Table.from_pylist(self._rows, self._schema))
        self._rows.clear()


def _shown(row: Fields) -> Fields:
    """With an apostrophe before texts that would be formulas."""
    return {
        name: f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
        for name, value in row.items()
    }


def _rows(line: Fields) -> Iterator[Fields]:
    """One for each object of its list; one with nothing more than the name where that is empty."""
    [inner] = [value for value in line.values() if isinstance(value, list)]
    outer = {name: value for name, value in line.items() if value is not inner}
    for item in inner or [{}]:
        row = outer | item
        error = item.get("error") or line["error"]
        row["error"] = f"{error['reason']}: {error['message']}" if error else None
        yield {name: utf8(value) if isinstance(value, str) else value for name, value in row.items()}
