"""From what the user named to a source of rows: a folder, a glob, archives, tables or standard input."""

import glob
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from siglip_jobs import files
from siglip_jobs.choice import Choice
from siglip_jobs.errors import JobError
from siglip_jobs.folders import Folder, Listed
from siglip_jobs.lines import Csv, JsonLines, StandardInput
from siglip_jobs.listing import Listing
from siglip_jobs.parquet import Parquet
from siglip_jobs.rows import Row
from siglip_jobs.tables import Format, Table
from siglip_jobs.tars import Tars

STDIN = "-"


class Source(Protocol):
    """Items in an order that is the same in every run, read as they are asked for."""

    kind: str
    grows: bool
    """Items may come and go between runs: they are told apart by their ids, not by their places."""
    column_types: dict[str, Any]
    """Arrow type of each metadata column that was asked for; None: text."""

    @property
    def may_repeat(self) -> bool:
        """Two rows can have one id."""

    def rows(self, after: int = 0) -> Iterator[Row]:
        """Those before position `after` may be left out, where no id can repeat, and need have only an id."""

    def total(self) -> int | None:
        """How many rows there are, where that can be known."""

    def identity(self) -> dict[str, Any]:
        """What must be the same for a job to go on with this source."""


def open_source(
    location: str,
    choice: Choice | None = None,
    *,
    paths: bool = False,
    stdin: BinaryIO | None = None,
    out: Path | None = None,
) -> Source:
    """Raises JobError for what is no source, and for columns that are not there.

    paths: lines of standard input are names of image files, not texts.
    out: where results go, which must not be read as a source.
    """
    choice = choice or Choice()
    if location == STDIN:
        choice.refuse_for("standard input")
        return StandardInput(stdin or _piped(), paths)
    if paths:
        raise JobError("--paths is for lines of standard input: give - as SOURCE")
    if not location:
        raise JobError("the name of SOURCE is empty; the current folder is .")
    if Path(location).is_dir():
        return _in_folder(location, choice, out)
    return _of_files(location, choice, out)


def _piped() -> BinaryIO:
    if sys.stdin is None or sys.stdin.isatty():  # None: the caller closed it
        raise JobError("- reads standard input, which gives nothing: pipe something in")
    # Not its own buffer: a thread that is left waiting there would make Python abort as it ends.
    return os.fdopen(os.dup(sys.stdin.fileno()), "rb")


def _in_folder(folder: str, choice: Choice, out: Path | None) -> Source:
    """Images win: a table that lies beside them describes them."""
    others: list[str] = []
    for path in files.walk(folder, lambda path: files.suffix(path) in files.ALL):
        if files.is_image(path):
            choice.refuse_for(f"the folder of images {folder}")
            return Folder(folder)
        others.append(path)
    if out and out.resolve().is_relative_to(Path(folder).resolve()):
        raise JobError(f"--out {out} is in {folder}, whose files are read: give one elsewhere")
    others = list(files.readable(folder, others))
    if not others:
        raise JobError(f"{folder} holds nothing to embed ({' '.join(sorted(files.ALL))})")
    return _of_kind([f"{folder}/{path}" for path in others], folder, choice)


def _of_files(location: str, choice: Choice, out: Path | None) -> Source:
    wholes = [location] if Path(location).is_file() else files.braces(location)
    if len(wholes) == 1 and glob.has_magic(location) and not Path(location).is_file():
        pattern = files.Glob(location)
        if any(map(files.is_image, pattern.paths())):  # which are then walked as they are needed
            choice.refuse_for("a glob of images")
            return Folder(pattern.root, pattern)
    found = files.named(location)
    if not found:
        raise JobError(f"no file matches {location}")
    if all(map(files.is_image, found)):
        choice.refuse_for("a list of images")
        return Listed(location, found, [files.beginning(whole) for whole in wholes])
    if out and (own := [path for path in found if Path(path).resolve().is_relative_to(out.resolve())]):
        raise JobError(f"{location} names {own[0]}, which --out {out} writes: give another one")
    return _of_kind(found, location, choice)


def _of_kind(paths: list[str], location: str, choice: Choice) -> Source:
    ends = sorted({files.suffix(path) for path in paths})
    if files.TARS.issuperset(ends):
        return Tars(Listing(paths), choice)
    if len(ends) > 1:
        raise JobError(f"{location} holds files of several kinds ({' '.join(ends)}): give one kind as a glob")
    return Table(Listing(paths), _format(ends[0], location), choice)


def _format(end: str, location: str) -> Format:
    if end == ".parquet":
        return Parquet()
    if end in (".csv", ".tsv"):
        return Csv("," if end == ".csv" else "\t")
    if end in (".jsonl", ".ndjson"):
        return JsonLines()
    raise JobError(
        f"{location} ends in {end or 'nothing'}, and a source in one of {' '.join(sorted(files.ALL))}"
    )
