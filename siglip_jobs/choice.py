"""Which column is embedded, which one names the rows: as asked for, or found by their usual names."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from siglip_jobs.errors import JobError

Kind = Literal["text", "path", "image"]

USUAL: dict[Kind, tuple[str, ...]] = {
    "image": ("image", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes"),
    "path": ("path", "file_name", "filename", "file", "filepath", "image_path"),
    "text": ("text", "caption", "prompt", "sentence", "title", "content"),
}
USUAL_ID = "id"
TAKEN = ("id", "vector", "error")


@dataclass(frozen=True, slots=True)
class Choice:
    """What is asked for. At most one of text, path and image; None: to be found."""

    text_column: str | None = None
    path_column: str | None = None
    image_column: str | None = None
    id_column: str | None = None
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.given()) > 1:
            raise JobError(
                f"give one of {', '.join(f'--{kind}-column' for kind in self.given())}, not several"
            )
        for name in self.columns:
            if name in TAKEN:
                raise JobError(f"--columns names {name!r}, a name that the result needs for itself")
        if len(set(self.columns)) < len(self.columns):
            raise JobError(f"--columns names one twice: {', '.join(self.columns)}")

    def given(self) -> dict[Kind, str]:
        asked: dict[Kind, str | None] = {
            "text": self.text_column,
            "path": self.path_column,
            "image": self.image_column,
        }
        return {kind: name for kind, name in asked.items() if name is not None}

    def refuse_for(self, source: str) -> None:
        """Raises JobError where a source without columns is asked for some."""
        for option, value in (*self.given().items(), ("id", self.id_column)):
            if value is not None:
                raise JobError(f"--{option}-column {value} is given, and {source} has no columns")
        if self.columns:
            raise JobError(f"--columns {','.join(self.columns)} is given, and {source} has no columns")


@dataclass(frozen=True, slots=True)
class Columns:
    """What a table's rows are made of."""

    kind: Kind
    content: str
    id: str | None
    kept: tuple[str, ...]

    @property
    def needed(self) -> list[str]:
        return list(dict.fromkeys([self.content, *([self.id] if self.id else []), *self.kept]))


def choose(choice: Choice, table: str, held: Sequence[str], paths_only: Sequence[str] = ()) -> Columns:
    """Raises JobError that names the columns that there are.

    paths_only: columns of text; one of them named as images usually are holds paths.
    """
    found = choice if choice.given() else _found(choice, table, held, paths_only)
    [(kind, content)] = found.given().items()
    identity = choice.id_column or (USUAL_ID if USUAL_ID in held and content != USUAL_ID else None)
    for option, name in [
        (f"--{kind}-column", content),
        ("--id-column", identity),
        *(("--columns", name) for name in choice.columns),
    ]:
        if name is not None and name not in held:
            raise JobError(f"{table} has no column {name!r} ({option}), only {', '.join(held)}")
    return Columns(kind, content, identity, choice.columns)


def _found(choice: Choice, table: str, held: Sequence[str], paths_only: Sequence[str]) -> Choice:
    usual = [
        (("path" if kind == "image" and name in paths_only else kind), name)
        for kind, names in USUAL.items()
        for name in names
        if name in held
    ]
    if len(usual) == 1:
        [(kind, name)] = usual
        return Choice(**{f"{kind}_column": name}, id_column=choice.id_column, columns=choice.columns)
    options = "--text-column, --path-column or --image-column"
    what = "several columns that could be embedded" if usual else "no column of a usual name"
    named = f" ({', '.join(name for _, name in usual)})" if usual else ""
    raise JobError(f"{table} has {what}{named}: give {options}; its columns are {', '.join(held)}")
