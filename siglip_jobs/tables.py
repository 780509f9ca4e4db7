"""Rows of Parquet, CSV and JSON Lines files: a text, a path or an image's bytes, and metadata beside it."""

import base64
import binascii
import os
from collections.abc import Iterator
from typing import Any, Protocol

from siglip_jobs import names
from siglip_jobs.choice import Choice, Columns, choose
from siglip_jobs.errors import JobError, Problem
from siglip_jobs.listing import Listing, refuse_passing
from siglip_jobs.rows import Content, Encoded, File, Row, Text, as_text

Values = dict[str, Any]


class Format(Protocol):
    """How one kind of file is read. Raises JobError for a file that is none of its kind."""

    def columns(self, path: str) -> list[str]: ...

    def texts(self, path: str) -> list[str]:
        """Those of the columns that hold text."""

    def types(self, path: str, columns: tuple[str, ...]) -> dict[str, Any]:
        """The Arrow type of each; None: text."""

    def count(self, path: str) -> int | None:
        """Rows, where the file says so itself."""

    def values(self, path: str, columns: list[str]) -> Iterator[Values | Problem]:
        """The rows in order.

        Raises ValueError, or OSError without a number, where the file is damaged.
        """


class Table:
    """Ids: those of the id column; else the path, where paths are embedded; else file:row, counted from 0.

    A file that cannot be read to its end is one failed item; the other files go on.
    """

    kind = "table"
    grows = False

    def __init__(self, listing: Listing, form: Format, choice: Choice) -> None:
        self._listing, self._format = listing, form
        first = listing.paths[0]
        self._columns = choose(choice, first, form.columns(first), form.texts(first))
        self.column_types = form.types(first, choice.columns)
        for path in listing.paths[1:]:
            self._check(path)

    @property
    def may_repeat(self) -> bool:
        return self._columns.id is not None or self._columns.kind == "path"

    def rows(self, after: int = 0) -> Iterator[Row]:
        position = 0
        for path, name in self._listing:
            # What is skipped is read as well: where damage ends a file decides the place of all that follows.
            for number, values in enumerate(self._values(path)):
                if self.may_repeat or position >= after:
                    yield self._row(path, f"{names.escape(name)}:{number}", values, position)
                position += 1

    def total(self) -> int | None:
        counts = [self._format.count(path) for path in self._listing.paths]
        return sum(count or 0 for count in counts) if None not in counts else None

    def identity(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            **self._listing.identity(),
            f"{self._columns.kind}_column": self._columns.content,
            "id_column": self._columns.id,
        }

    def _check(self, path: str) -> None:
        held = self._format.columns(path)
        if missing := [name for name in self._columns.needed if name not in held]:
            raise JobError(f"{path} has no column {missing[0]!r}, only {', '.join(held)}")
        for name, kind in self._format.types(path, self._columns.kept).items():
            if kind != self.column_types[name]:
                raise JobError(
                    f"{path} has {kind} in column {name!r}, and the first file has {self.column_types[name]}"
                )

    def _values(self, path: str) -> Iterator[Values | Problem]:
        try:
            yield from self._format.values(path, self._columns.needed)
        except (ValueError, OSError) as error:
            refuse_passing(error, path)
            yield Problem("FILE_UNREADABLE", f"{path}: {' '.join(str(error).split())}")

    def _row(self, path: str, place: str, values: Values | Problem, position: int) -> Row:
        if isinstance(values, Problem):
            return Row(place, values, (None,) * len(self._columns.kept), position)
        kept = tuple(self._kept(name, values.get(name)) for name in self._columns.kept)
        content = _content(self._columns, path, values.get(self._columns.content))
        if self._columns.id is not None:
            given = values.get(self._columns.id)
            if given is None:
                return Row(place, Problem("ID_MISSING", f"{self._columns.id!r} is empty"), kept, position)
            return Row(names.storable(str(given)), content, kept, position)
        if self._columns.kind == "path" and isinstance(given := values.get(self._columns.content), str):
            return Row(names.escape(given), content, kept, position)
        return Row(place, content, kept, position)

    def _kept(self, name: str, value: Any) -> Any:
        return as_text(value) if self.column_types[name] is None else value


def _content(columns: Columns, table: str, value: Any) -> Content:
    if value is None or (value == "" and columns.kind != "text"):
        return Problem(f"{columns.kind.upper()}_MISSING", f"{columns.content!r} is empty")
    if columns.kind == "image":
        return _image(columns.content, table, value)
    if not isinstance(value, str):
        return Problem(f"{columns.kind.upper()}_UNREADABLE", f"{columns.content!r} is no text: {value!r:.60}")
    return Text(value) if columns.kind == "text" else _file(table, value)


def _image(column: str, table: str, value: Any) -> Content:
    """Bytes, base64, or {bytes, path} as Hugging Face datasets writes."""
    if isinstance(value, dict):
        data, path = value.get("bytes"), value.get("path")
        if data is None and isinstance(path, str):
            return _file(table, path)
        value = data
    if isinstance(value, bytes):
        return Encoded(value)
    try:
        return Encoded(base64.b64decode(value, validate=True))
    except (TypeError, binascii.Error, ValueError):
        return Problem("IMAGE_UNREADABLE", f"{column!r} is neither bytes nor base64")


def _file(table: str, path: str) -> File:
    """Paths are relative to the table's folder."""
    return File(os.path.join(os.path.dirname(table), path))  # noqa: PTH118, PTH120
