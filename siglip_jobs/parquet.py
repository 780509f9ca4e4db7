"""Reads Parquet files, some rows at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from siglip_jobs.errors import JobError

ROWS_AT_ONCE = 64
BYTES_AT_ONCE = 16 << 20
"""By the average row of a group, fewer rows are taken at once than that; at least one."""
BUFFER_BYTES = 1 << 20


class Parquet:
    def __init__(self) -> None:
        self._arrow = arrow()

    def columns(self, path: str) -> list[str]:
        return list(self._schema(path).names)

    def texts(self, path: str) -> list[str]:
        types = self._arrow.types
        schema = self._schema(path)
        return [
            field.name for field in schema if types.is_string(field.type) or types.is_large_string(field.type)
        ]

    def types(self, path: str, columns: tuple[str, ...]) -> dict[str, Any]:
        schema = self._schema(path)
        return {name: schema.field(name).type for name in columns}

    def count(self, path: str) -> int | None:
        with self._opened(path) as file:
            return int(file.metadata.num_rows)

    def values(self, path: str, columns: list[str]) -> Iterator[dict[str, Any]]:
        # Page by page, not all of a group, which may be the whole file. (Writers put up to a thousand
        # rows into a page, which has to be held.)
        options = {"pre_buffer": False, "buffer_size": BUFFER_BYTES}
        with damage_told(), self._arrow.parquet.ParquetFile(path, **options) as file:
            for group in range(file.num_row_groups):
                yield from _rows(file, group, columns)

    def _schema(self, path: str) -> Any:
        with self._opened(path) as file:
            return file.schema_arrow

    @contextmanager
    def _opened(self, path: str) -> Iterator[Any]:
        try:
            with damage_told(), self._arrow.parquet.ParquetFile(path) as file:
                yield file
        except (ValueError, OSError) as error:
            raise JobError(f"{path} is no Parquet file: {' '.join(str(error).split())}") from None


def _rows(file: Any, group: int, columns: list[str]) -> Iterator[dict[str, Any]]:
    about = file.metadata.row_group(group)
    fitting = BYTES_AT_ONCE * about.num_rows // max(1, about.total_byte_size)
    rows = max(1, min(ROWS_AT_ONCE, fitting))
    for batch in file.iter_batches(rows, row_groups=[group], columns=columns):
        yield from batch.to_pylist()


@contextmanager
def damage_told() -> Iterator[None]:
    """What Arrow finds wrong with a file becomes ValueError; only some of its errors are of that kind."""
    try:
        yield
    except arrow().ArrowException as error:
        raise ValueError(str(error)) from None


def arrow() -> Any:
    """pyarrow. Raises JobError where it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise JobError(
            "Parquet needs pyarrow, which is not installed: pip install 'siglip[jobs]' (or --format npy)"
        ) from None
    return pyarrow
