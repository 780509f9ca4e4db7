"""From what the user named to the images meant: files, folders, globs, archives, tables, standard input."""

import glob
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar

import click

from siglip_cli.errors import CommandError
from siglip_jobs import files
from siglip_jobs.choice import Choice
from siglip_jobs.errors import Problem
from siglip_jobs.rows import Content, loaded

F = TypeVar("F", bound=Callable[..., Any])

STDIN = "-"
HELD = files.TARS | files.TABLES
"""Ends of files that hold images, or name them."""


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
    content: Content | None = None
    """Where it is, if not in a file of that name."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How standard input and tables are read."""

    choice: Choice = field(default_factory=Choice)
    paths: bool = False
    """Lines of standard input are names of files."""
    out: Path | None = None
    """Where results go, which must not be read as a source."""

    @classmethod
    def take(cls, given: dict[str, Any], out: Path | None) -> Self:
        """Takes the values of `reading_options` out of those that were given. Raises JobError."""
        columns = {name: given.pop(name) for name in ("image_column", "path_column", "id_column")}
        return cls(Choice(**columns), given.pop("paths"), out)


def reading_options(function: F) -> F:
    for name, text in (
        ("--id-column", "Column of a table that names its rows. [default: id]"),
        ("--path-column", "Column of a table with the paths of images, from the table's folder on."),
        ("--image-column", "Column of a table, or member of a tar's samples, that is an encoded image."),
    ):
        function = click.option(name, metavar="NAME", help=text)(function)
    return click.option("--paths", is_flag=True, help="- gives names of images, one a line.")(function)


DEFAULT = Reading()


def find(arguments: Sequence[str], reading: Reading = DEFAULT) -> Iterator[Source]:
    """The images that the arguments name, in their order, found as they are asked for; in a folder sorted."""
    if arguments.count(STDIN) > 1:
        raise CommandError("- (standard input) can be given only once")
    if "" in arguments:  # a shell variable that is not set; for pathlib it is the current folder
        raise CommandError("the name of an image is empty; the current folder is .")
    return chain.from_iterable(_expand(argument, reading) for argument in arguments)


def read(source: Source, max_bytes: int) -> bytes:
    """The bytes of an encoded image. Raises Unreadable."""
    if source.problem:
        raise Unreadable("IMAGE_NOT_FOUND", source.problem)
    if source.content:
        return _held(source.content, max_bytes)
    try:
        with _open(source.name) as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise Unreadable("IMAGE_NOT_READ", error.strerror or str(error)) from None
    if len(data) > max_bytes:
        raise Unreadable("IMAGE_TOO_LARGE", f"it has more bytes than the limit, {max_bytes}")
    return data


def _expand(argument: str, reading: Reading) -> Iterator[Source]:
    path = Path(argument)
    if path.is_dir():
        return _in_folder(argument, reading)
    if argument == STDIN:
        return _rows(argument, reading) if reading.paths else iter([Source(argument)])
    if files.suffix(argument) in HELD:
        return _rows(argument, reading)
    # Not is_file: a pipe, such as the shell's <(command), is as good.
    if path.exists():
        return iter([Source(argument)])
    if glob.has_magic(argument):
        return _or(_matching(argument), Source(argument, "no file matches"))
    return iter([Source(argument, "no such file or folder")])


def _matching(pattern: str) -> Iterator[Source]:
    found = files.Glob(pattern)
    if Path(found.root).is_dir():
        yield from (Source(str(Path(found.root, path))) for path in found.paths())


def _in_folder(folder: str, reading: Reading) -> Iterator[Source]:
    """Its images; of a folder without any, what its archives or tables hold."""
    paths = files.walk(folder, lambda path: files.suffix(path) in files.IMAGES)
    found = (Source(str(Path(folder, path))) for path in paths)
    if first := next(found, None):
        return chain([first], found)
    if any(files.walk(folder, lambda path: files.suffix(path) in HELD)):
        return _rows(folder, reading)
    return iter([Source(folder, f"no image in this folder ({' '.join(sorted(files.IMAGES))})")])


def _rows(location: str, reading: Reading) -> Iterator[Source]:
    from siglip_jobs.sources import open_source

    paths = reading.paths and location == STDIN
    source = open_source(location, reading.choice, paths=paths, out=reading.out)
    return (Source(row.id, content=row.content) for row in source.rows())


def _or(found: Iterator[Source], otherwise: Source) -> Iterator[Source]:
    return chain([next(found, otherwise)], found)


def _held(content: Content, max_bytes: int) -> bytes:
    data = loaded(content, max_bytes)
    if isinstance(data, str):
        raise CommandError("the source holds texts, not images: give --image-column or --path-column")
    if isinstance(data, Problem):
        raise Unreadable(data.reason, data.message)
    return data


def _open(name: str) -> BinaryIO:
    if name != STDIN:
        return Path(name).open("rb")
    if sys.stdin is None or sys.stdin.isatty():  # None: the caller closed it
        raise CommandError("- reads an image from standard input, which gives none: pipe one in")
    return sys.stdin.buffer
