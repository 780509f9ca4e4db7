"""Finds files, sorted and without end: each real folder once, names of any bytes."""

import glob
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

from siglip_jobs.errors import JobError

IMAGES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
TARS = frozenset({".tar"})
TABLES = frozenset({".parquet", ".csv", ".tsv", ".jsonl", ".ndjson"})

ALL = IMAGES | TARS | TABLES

_BRACES = re.compile(r"\{([^{}]*(?:,|\.\.)[^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")

Wanted = Callable[[str], bool]


def is_image(path: str) -> bool:
    return suffix(path) in IMAGES and not path.endswith("/")


def suffix(name: str) -> str:
    return PurePath(name).suffix.lower()


def walk(root: str, wanted: Wanted, depth: float = math.inf) -> Iterator[str]:
    """Paths below `root`, relative to it, of the files that are wanted; sorted folder by folder.

    A folder that cannot be read is given too, with a / at its end; for `root` itself JobError is raised.
    Links are followed, but into each real folder once, so that circles end. Hidden names are left out.
    Memory grows with the number of folders; of files, only those of the folders that are open are held.
    """
    yield from _walk(root, "", wanted, depth, set())


def _walk(root: str, below: str, wanted: Wanted, depth: float, seen: set[tuple[int, int]]) -> Iterator[str]:
    folder = os.path.join(root, below)  # noqa: PTH118  # Path is slow for millions of names
    try:
        if (real := _identity(folder)) in seen:
            return
        seen.add(real)
        with os.scandir(folder) as entries:
            found = sorted((entry.name, _is_folder(entry)) for entry in entries)
    except OSError as error:
        if not below:
            raise JobError(f"cannot read the folder {root}: {error.strerror}") from None
        yield below
        return
    for name, is_folder in found:
        if name.startswith("."):
            continue
        if is_folder and depth > 1:
            yield from _walk(root, f"{below}{name}/", wanted, depth - 1, seen)
        elif not is_folder and wanted(below + name):
            yield below + name


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(folder)  # noqa: PTH116
    return status.st_dev, status.st_ino


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself: told when it is read
        return False


def readable(root: str, paths: Iterable[str]) -> Iterator[str]:
    """The files of a walk. Raises JobError for a folder that cannot be read."""
    for path in paths:
        if path.endswith("/"):
            raise JobError(f"cannot read the folder {root}/{path}")
        yield path


class Glob:
    """A pattern as the folder to walk, and which of the paths below it match; ** is any number of folders."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        parts = PurePath(pattern).parts
        fixed = next(number for number, part in enumerate(parts) if glob.has_magic(part))
        self.root = str(PurePath(*parts[:fixed]))
        self._parts = parts[fixed:]
        self.depth = math.inf if "**" in self._parts else len(self._parts)

    def matches(self, path: str) -> bool:
        return _match(path.split("/"), self._parts)

    def paths(self) -> Iterator[str]:
        """Relative to `root`. Raises JobError where that is no folder."""
        if not Path(self.root).is_dir():
            raise JobError(f"there is no folder {self.root}, where {self.pattern} would begin")
        return walk(self.root, self.matches, self.depth)


def _match(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern or not parts:
        return not pattern and not parts
    if pattern[0] == "**":
        return len(pattern) == 1 or _match(parts, pattern[1:]) or _match(parts[1:], pattern)
    return fnmatchcase(parts[0], pattern[0]) and _match(parts[1:], pattern[1:])


def named(location: str) -> list[str]:
    """The files that a name, a glob or a brace pattern stands for. Raises JobError for a name of none."""
    if Path(location).is_file():
        return [location]
    return [path for whole in braces(location) for path in _expanded(whole, location)]


def beginning(pattern: str) -> str:
    """The folder that is searched, or that holds the file that is named."""
    return Glob(pattern).root if glob.has_magic(pattern) else str(PurePath(pattern).parent)


def braces(pattern: str) -> list[str]:
    """`a-{000..002}.tar` and `{a,b}.csv` written out, as shells do."""
    if not (found := _BRACES.search(pattern)):
        return [pattern]
    head, tail = pattern[: found.start()], pattern[found.end() :]
    return [whole for middle in _choices(found[1]) for whole in braces(head + middle + tail)]


def _choices(inside: str) -> list[str]:
    if not (bounds := _RANGE.fullmatch(inside)):
        return inside.split(",")
    first, last = bounds[1], bounds[2]
    width = max(len(first), len(last)) if "0" in (first[0], last[0]) else 0
    return [f"{number:0{width}d}" for number in range(int(first), int(last) + 1)]


def _expanded(whole: str, location: str) -> list[str]:
    if Path(whole).is_file():
        return [whole]
    if not glob.has_magic(whole):
        of = f" (of {location})" if whole != location else ""
        raise JobError(f"there is no file or folder {whole}{of}")
    found = Glob(whole)
    return [str(PurePath(found.root, path)) for path in readable(found.root, found.paths())]
