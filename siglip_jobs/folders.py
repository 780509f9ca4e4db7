"""Images of a folder, or those that a glob finds, as they stand on the disk now."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

from siglip_jobs import files, names
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
        for position, path in enumerate(self._paths()):
            if position >= after:
                yield Row(names.escape(path), File(f"{self.root}/{path}"), position=position)

    def total(self) -> int | None:
        """Walks through all of it."""
        return sum(1 for _ in self._paths())

    def identity(self) -> dict[str, Any]:
        return {"kind": self.kind, "root": names.escape(self.root)}

    def _paths(self) -> Iterator[str]:
        if self._pattern:
            return files.walk(self.root, self._pattern.matches, self._pattern.depth)
        return files.walk(self.root, _is_image)


class Listed:
    """Image files that were named one by one, or by several globs."""

    kind = "images"
    may_repeat = False
    grows = True

    def __init__(self, paths: Sequence[str]) -> None:
        whole = sorted({os.path.abspath(path) for path in paths})  # noqa: PTH100
        self.root = os.path.commonpath([os.path.dirname(path) for path in whole])  # noqa: PTH120
        self._paths = [os.path.relpath(path, self.root) for path in whole]
        self.column_types: dict[str, Any] = {}

    def rows(self, after: int = 0) -> Iterator[Row]:
        for position, path in enumerate(self._paths):
            if position >= after:
                yield Row(names.escape(path), File(f"{self.root}/{path}"), position=position)

    def total(self) -> int | None:
        return len(self._paths)

    def identity(self) -> dict[str, Any]:
        return {"kind": self.kind, "root": names.escape(self.root)}


def _is_image(path: str) -> bool:
    return files.suffix(path) in files.IMAGES
