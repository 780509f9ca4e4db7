"""Images of a folder, or those that a glob finds, as they stand on the disk now."""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from siglip_jobs import files, names
from siglip_jobs.errors import Problem
from siglip_jobs.rows import File, Row


class Folder:
    """Ids are paths relative to `root`. It may grow and shrink between runs of a job."""

    kind = "images"
    may_repeat = False
    grows = True

    def __init__(self, root: str, pattern: files.Glob | None = None) -> None:
        self.root = os.path.abspath(root)  # noqa: PTH100  # links in it are kept as the user wrote them
        self._pattern = pattern
        self.column_types: dict[str, Any] = {}

    def rows(self, after: int = 0) -> Iterator[Row]:
        yield from _rows(self.root, self._paths())

    def total(self) -> int | None:
        """Walks through all of it."""
        return sum(1 for _ in self._paths())

    def identity(self) -> dict[str, Any]:
        pattern = {"pattern": names.escape(self._pattern.pattern)} if self._pattern else {}
        return {"kind": self.kind, "root": names.escape(self.root), **pattern}

    def _paths(self) -> Iterator[str]:
        if (pattern := self._pattern) is None:
            return files.walk(self.root, files.is_image)
        return files.walk(
            self.root, lambda path: files.is_image(path) and pattern.matches(path), pattern.depth
        )


class Listed:
    """Image files named by a pattern with braces. Ids are relative to the folder where all of it begins."""

    kind = "images"
    may_repeat = False
    grows = True

    def __init__(self, pattern: str, paths: Sequence[str], beginnings: Sequence[str]) -> None:
        self._pattern = names.escape(pattern)
        self.root = os.path.commonpath([os.path.abspath(folder) for folder in beginnings])  # noqa: PTH100
        self._paths = sorted({os.path.relpath(path, self.root) for path in paths})
        self.column_types: dict[str, Any] = {}

    def rows(self, after: int = 0) -> Iterator[Row]:
        yield from _rows(self.root, self._paths)

    def total(self) -> int | None:
        return len(self._paths)

    def identity(self) -> dict[str, Any]:
        return {"kind": self.kind, "root": names.escape(self.root), "pattern": self._pattern}


def _rows(root: str, paths: Iterable[str]) -> Iterator[Row]:
    for position, path in enumerate(paths):
        lost = path.endswith("/")
        content = Problem("FOLDER_NOT_READ", "the folder cannot be read") if lost else File(f"{root}/{path}")
        yield Row(names.escape(path), content, position=position)
