"""The files of an embedded folder, each read a block of rows at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from siglip_search.errors import SearchError

Floats = npt.NDArray[np.floating[Any]]
T = TypeVar("T")


class Part(Protocol):
    """One file of consecutive rows. What can be wrong with it raises SearchError."""

    @property
    def path(self) -> Path: ...

    @property
    def rows(self) -> int: ...

    def blocks(self, rows: int) -> Iterator[Floats]:
        """The vectors in order, at most `rows` at a time: float16 or float32 [n, dim], NaN where failed."""
        ...

    def ids(self, rows: Sequence[int]) -> list[str]:
        """The ids of some rows, in the order asked."""
        ...

    def id_blocks(self, rows: int) -> Iterator[list[str]]:
        """All ids in order, in lists as long as the blocks."""
        ...


class ParquetPart:
    """Columns `id` (string) and `vector` (fixed-size list of float or halffloat, null where failed)."""

    def __init__(self, path: Path, dim: int) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ModuleNotFoundError:
            raise SearchError(
                "Parquet needs pyarrow, which is not installed: pip install 'siglip[jobs]'"
            ) from None
        self.path = path
        self._dim = dim
        try:
            self._file = _read(
                path,
                lambda name: pyarrow.parquet.ParquetFile(
                    name, memory_map=True, page_checksum_verification=True
                ),
            )
            schema = self._file.schema_arrow
        except (OSError, ValueError, pyarrow.ArrowException) as error:  # ValueError: a name that is no UTF-8
            raise SearchError(f"cannot read {path}: {_first_line(error)}") from None
        self._check(schema)
        self.rows: int = self._file.metadata.num_rows

    def blocks(self, rows: int) -> Iterator[Floats]:
        for batch in self._batches("vector", rows):
            yield self._matrix(batch.column(0))

    def ids(self, rows: Sequence[int]) -> list[str]:
        """Reads only the row groups that hold them."""
        found: dict[int, str] = {}
        start = 0
        for group in range(self._file.num_row_groups):
            end = start + self._file.metadata.row_group(group).num_rows
            if wanted := [row for row in rows if start <= row < end]:
                batches = self._batches("id", end - start, [group])
                names = [name for batch in batches for name in self._names(batch.column(0))]
                found |= {row: names[row - start] for row in wanted}
            start = end
        return [found[row] for row in rows]

    def id_blocks(self, rows: int) -> Iterator[list[str]]:
        for batch in self._batches("id", rows):
            yield self._names(batch.column(0))

    def _names(self, column: Any) -> list[str]:
        try:
            return column.to_pylist()  # type: ignore[no-any-return]
        except ValueError as error:
            raise SearchError(f"cannot read {self.path}: {_first_line(error)}") from None

    def _batches(self, column: str, rows: int, groups: list[int] | None = None) -> Iterator[Any]:
        import pyarrow

        try:
            # One column, without threads that read ahead: memory is a page or two.
            yield from self._file.iter_batches(rows, groups, [column], use_threads=False)
        except (OSError, pyarrow.ArrowException) as error:
            raise SearchError(f"cannot read {self.path}: {_first_line(error)}") from None

    def _matrix(self, column: Any) -> Floats:
        right = column.is_valid().to_numpy(zero_copy_only=False)
        # Flattening leaves out the rows that are null.
        vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, self._dim)
        if len(vectors) == len(right):
            return vectors  # type: ignore[no-any-return]
        matrix = np.full((len(right), self._dim), np.nan, vectors.dtype)
        matrix[right] = vectors
        return matrix

    def _check(self, schema: Any) -> None:
        import pyarrow.types as types

        for name in ("id", "vector"):
            if name not in schema.names:
                raise SearchError(
                    f"{self.path} has no column {name!r}; its columns: {', '.join(schema.names)}"
                )
        kind = schema.field("vector").type
        if not types.is_fixed_size_list(kind) or not types.is_floating(kind.value_type):
            raise SearchError(f"{self.path}: the column vector is {kind}, not a fixed-size list of numbers")
        _check_dim(self.path, kind.list_size, self._dim)


class NpyPart:
    """part-N.npy, float16 or float32 [rows, dim], and part-N.ids.jsonl with a line for each row."""

    def __init__(self, path: Path, dim: int) -> None:
        self.path = path
        self._ids = path.with_suffix(".ids.jsonl")
        try:
            self._matrix: Floats = _read(path, partial(np.load, mmap_mode="r", allow_pickle=False))
        except Exception as error:  # numpy reads the header as Python: anything can be wrong
            raise SearchError(f"cannot read {path}: {_first_line(error)}") from None
        if self._matrix.ndim != 2 or self._matrix.dtype.kind != "f":
            raise SearchError(
                f"{path} holds {self._matrix.dtype} {list(self._matrix.shape)}, not rows of floats"
            )
        _check_dim(path, self._matrix.shape[1], dim)
        self.rows = len(self._matrix)

    def blocks(self, rows: int) -> Iterator[Floats]:
        for start in range(0, self.rows, rows):
            yield self._matrix[start : start + rows]

    def ids(self, rows: Sequence[int]) -> list[str]:
        wanted = set(rows)
        found = {row: self._id(row, line) for row, line in enumerate(self._lines()) if row in wanted}
        return [found[row] for row in rows]

    def id_blocks(self, rows: int) -> Iterator[list[str]]:
        names = (self._id(row, line) for row, line in enumerate(self._lines()))
        while block := list(islice(names, rows)):
            yield block

    def _lines(self) -> Iterator[bytes]:
        count = 0
        try:
            with _read(self._ids, lambda name: name.open("rb")) as lines:
                for line in islice(lines, self.rows):
                    count += 1
                    yield line
        except OSError as error:
            raise SearchError(f"cannot read {self._ids}: {error.strerror}") from None
        if count < self.rows:
            raise SearchError(f"{self._ids} has {count} lines, but {self.path.name} has {self.rows} rows")

    def _id(self, row: int, line: bytes) -> str:
        try:
            return str(json.loads(line)["id"])
        except (ValueError, KeyError, TypeError):
            raise SearchError(f"{self._ids}, line {row + 1}: not an object with an id") from None


def _read(path: Path, read: Callable[[Path], T]) -> T:
    """Also of a file that its job lists already, and is just giving its name."""
    for name in (path, path.with_name(f"{path.name}.unfinished")):
        with suppress(FileNotFoundError):
            return read(name)
    return read(path)


def _check_dim(path: Path, found: int, dim: int) -> None:
    if found != dim:
        raise SearchError(f"{path} has vectors of {found} numbers, but the folder's manifest says {dim}")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
