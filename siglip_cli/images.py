"""From what the user named to the images meant: files, folders, globs and standard input."""

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from siglip_cli.errors import CommandError

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
STDIN = "-"


class Unreadable(Exception):
    """One image cannot be read; the others can."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Source:
    """One image to read, or why the name given leads to none."""

    name: str
    problem: str = ""


def find(arguments: Sequence[str]) -> list[Source]:
    """The images that the arguments name, in their order; inside a folder or glob, sorted."""
    if arguments.count(STDIN) > 1:
        raise CommandError("- (standard input) can be given only once")
    if "" in arguments:  # a shell variable that is not set; for pathlib it is the current folder
        raise CommandError("the name of an image is empty; the current folder is .")
    return [source for argument in arguments for source in _expand(argument)]


def read(source: Source, max_bytes: int) -> bytes:
    """The bytes of an encoded image. Raises Unreadable."""
    if source.problem:
        raise Unreadable("IMAGE_NOT_FOUND", source.problem)
    try:
        with _open(source.name) as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise Unreadable("IMAGE_NOT_READ", error.strerror or str(error)) from None
    if len(data) > max_bytes:
        raise Unreadable("IMAGE_TOO_LARGE", f"it has more bytes than the limit, {max_bytes}")
    return data


def _expand(argument: str) -> list[Source]:
    path = Path(argument)
    if path.is_dir():
        found = [Source(str(file)) for file in sorted(_inside(path))]
        return found or [Source(argument, f"no image in this folder ({' '.join(sorted(EXTENSIONS))})")]
    # Not is_file: a pipe, such as the shell's <(command), is as good.
    if argument == STDIN or path.exists():
        return [Source(argument)]
    if glob.has_magic(argument):
        return _matching(argument) or [Source(argument, "no file matches")]
    return [Source(argument, "no such file or folder")]


def _matching(pattern: str) -> list[Source]:
    # Not Path.glob, which takes no absolute pattern.
    names = glob.iglob(pattern, recursive=True)  # noqa: PTH207
    return [Source(name) for name in sorted(names) if Path(name).is_file()]


def _inside(folder: Path) -> Iterator[Path]:
    # Not followed: links to folders, which may lead round in a circle; hidden files, which are no photos.
    for where, _, names in os.walk(folder):
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS:
                yield Path(where, name)


def _open(name: str) -> BinaryIO:
    if name != STDIN:
        return Path(name).open("rb")
    if sys.stdin is None or sys.stdin.isatty():  # None: the caller closed it
        raise CommandError("- reads an image from standard input, which gives none: pipe one in")
    return sys.stdin.buffer
