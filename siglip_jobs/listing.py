"""The files of a source of tables or tars: their order, and whether they are still the same ones."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

from siglip_jobs import names
from siglip_jobs.errors import JobError


class Listing:
    """Iterates over (path, its part below the folder that all have in common)."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = [os.path.abspath(path) for path in paths]  # noqa: PTH100
        self.root = os.path.commonpath([os.path.dirname(path) for path in self.paths])  # noqa: PTH120

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for path in self.paths:
            yield path, os.path.relpath(path, self.root)

    def identity(self) -> dict[str, Any]:
        """Name, bytes and time of change of each: what a run later must find again."""
        return {"root": names.escape(self.root), "files": [_state(path, name) for path, name in self]}


def refuse_passing(error: Exception, path: str) -> None:
    """Raises JobError for what may be gone in the next run: places in the source would then be others."""
    if isinstance(error, OSError) and error.errno is not None:
        raise JobError(f"cannot read {path}: {error.strerror}; the same command continues") from None


def _state(path: str, name: str) -> list[Any]:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError as error:
        raise JobError(f"cannot read {path}: {error.strerror}") from None
    return [names.escape(name), status.st_size, status.st_mtime_ns]
