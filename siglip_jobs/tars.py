"""Images or texts of tar archives, WebDataset shards among them: members of one key are one sample."""

import json
import tarfile
from collections.abc import Iterable, Iterator
from typing import Any

from siglip_jobs import files, names
from siglip_jobs.choice import Choice
from siglip_jobs.errors import JobError, Problem
from siglip_jobs.listing import Listing, refuse_passing
from siglip_jobs.rows import Content, File, Row, Text, as_text

MAX_FIELD_BYTES = 1 << 20
"""Of a text or JSON member."""


class Tars:
    """Ids are shard/key; a sample with several images has an item for each, shard/member.

    A shard that cannot be read to its end is one failed item; the other shards go on.
    """

    kind = "tar"
    may_repeat = True
    grows = False

    def __init__(self, listing: Listing, choice: Choice) -> None:
        if choice.path_column:
            raise JobError("--path-column is given, and a tar holds its images itself: give --image-column")
        self._listing, self._choice = listing, choice
        self.column_types: dict[str, Any] = dict.fromkeys(choice.columns)
        for path in listing.paths[:1]:
            self._check(path)

    def rows(self, after: int = 0) -> Iterator[Row]:
        position = 0
        for path, name in self._listing:
            for identity, content, columns in self._shard(path, names.escape(name)):
                yield Row(identity, content, columns, position)
                position += 1

    def total(self) -> int | None:
        return None

    def identity(self) -> dict[str, Any]:
        asked = {f"{kind}_column": name for kind, name in self._choice.given().items()}
        return {
            "kind": self.kind,
            **self._listing.identity(),
            **asked,
            "id_column": self._choice.id_column,
        }

    def _check(self, path: str) -> None:
        """The first sample has what was asked for; a tar has no header that could tell."""
        try:
            with tarfile.open(path, "r:") as tar:
                sample = next(_samples(tar), None)
                held = sample.held if sample else []
        except (tarfile.TarError, OSError) as error:
            packed = "" if path.endswith(".tar") else " (a compressed one must be unpacked first)"
            raise JobError(f"{path} is no tar that can be read: {error}{packed}") from None
        asked = [*self._choice.given().values(), self._choice.id_column, *self._choice.columns]
        for name in asked:
            if sample and name is not None and name not in held:
                raise JobError(f"the first sample of {path} has no {name!r}, only {', '.join(held)}")

    def _shard(self, path: str, name: str) -> Iterator[tuple[str, Content, tuple[Any, ...]]]:
        try:
            with tarfile.open(path, "r:") as tar:
                for sample in _samples(tar):
                    yield from self._items(sample, name)
        except (tarfile.TarError, OSError, EOFError) as error:
            refuse_passing(error, path)
            yield name, Problem("SHARD_UNREADABLE", f"{' '.join(str(error).split())}"), self._none()

    def _items(self, sample: "Sample", shard: str) -> Iterator[tuple[str, Content, tuple[Any, ...]]]:
        columns = tuple(map(sample.value, self._choice.columns))
        key = f"{shard}/{names.escape(sample.key)}"
        if self._choice.id_column:
            value = sample.value(self._choice.id_column)
            key = key if value is None else names.storable(str(value))
        asked = (self._choice.text_column, self._choice.id_column, *self._choice.columns)
        problem = sample.problem(name for name in asked if name is not None)
        if self._choice.text_column:
            yield key, problem or sample.text(self._choice.text_column), columns
            return
        wanted = self._choice.image_column
        images = [end for end in sample.members if (end == wanted if wanted else files.is_image(f"x.{end}"))]
        if not images:
            yield (
                key,
                Problem("IMAGE_MISSING", f"the sample has no image, only {', '.join(sample.held)}"),
                columns,
            )
        for end in images:
            alone = len(images) == 1 or self._choice.id_column
            yield key if alone else f"{key}.{names.escape(end)}", problem or sample.file(end), columns

    def _none(self) -> tuple[Any, ...]:
        return (None,) * len(self._choice.columns)


class Sample:
    """Members of one key, by what follows the first dot of their names."""

    def __init__(self, key: str, tar: tarfile.TarFile) -> None:
        self.key = key
        self.members: dict[str, tarfile.TarInfo] = {}
        self._tar = tar
        self._json: dict[str, Any] | None = None

    @property
    def held(self) -> list[str]:
        return [*self.members, *self._fields()]

    def value(self, name: str) -> str | None:
        """A field of the JSON member as text, or a member that is text itself."""
        if name in self.members:
            return names.storable(self._read(name).decode("utf-8-sig", "surrogateescape"))
        return as_text(self._fields().get(name))

    def problem(self, fields: Iterable[str]) -> Problem | None:
        """Why one of them cannot be had whole."""
        found = (self._cut(name if name in self.members else "json") for name in fields)
        return next(filter(None, found), None)

    def text(self, name: str) -> Content:
        value = self.value(name)
        return Problem("TEXT_MISSING", f"the sample has no {name!r}") if value is None else Text(value)

    def file(self, end: str) -> Content:
        member = self.members[end]
        return _problem(member) or File(str(self._tar.name), member.offset_data, member.size)

    def _cut(self, end: str) -> Problem | None:
        if (member := self.members.get(end)) is None:
            return None
        if member.size > MAX_FIELD_BYTES:
            return Problem(
                "FIELD_TOO_LONG", f"{end!r} has {member.size} bytes, more than the limit, {MAX_FIELD_BYTES}"
            )
        return _problem(member)

    def _fields(self) -> dict[str, Any]:
        if self._json is None:
            try:
                held = json.loads(self._read("json")) if "json" in self.members else {}
            except (ValueError, RecursionError):
                held = {}
            self._json = held if isinstance(held, dict) else {}
        return self._json

    def _read(self, end: str) -> bytes:
        member = self.members[end]
        file = None if _problem(member) else self._tar.extractfile(member)
        return file.read(MAX_FIELD_BYTES) if file else b""


def _problem(member: tarfile.TarInfo) -> Problem | None:
    """Why its bytes cannot be had."""
    if not member.isreg():
        return Problem("LINK_NOT_READ", f"in the archive it is a link to {names.escape(member.linkname)}")
    if member.issparse():
        return Problem("SPARSE_NOT_READ", "in the archive it is a file with holes")
    return None


def _samples(tar: tarfile.TarFile) -> Iterator[Sample]:
    sample: Sample | None = None
    while member := tar.next():
        tar.members.clear()  # type: ignore[attr-defined]  # it would keep them all
        if not (member.isreg() or member.islnk() or member.issym()):
            continue
        folder, _, base = member.name.rpartition("/")
        key, _, end = base.partition(".")
        key = f"{folder}/{key}" if folder else key
        if sample is None or sample.key != key or end in sample.members:
            if sample is not None and sample.members:
                yield sample
            sample = Sample(key, tar)
        sample.members[end] = member
    if sample is not None:
        yield sample
    _check_end(tar)


def _check_end(tar: tarfile.TarFile) -> None:
    """tarfile ends in silence at a header that is cut off or damaged. Raises tarfile.ReadError."""
    assert tar.fileobj
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"the archive is cut off or damaged at byte {tar.offset}")
