"""What manifest.json says: which model and options made the folder, from what, and how far the job is."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from siglip_jobs import atomic
from siglip_jobs.errors import OutputError

NAME = "manifest.json"
FORMAT = "siglip-embeddings"
VERSION = 1


@dataclass
class PartEntry:
    """A part that is written. `end`: position in the source after its last row."""

    files: dict[str, int]
    """Names and bytes."""
    rows: int
    failed: int
    end: int
    check: str = ""
    """Of standard input: a digest of all of it up to `end`."""
    sha256: dict[str, str] = field(default_factory=dict)
    """Of each file, in hexadecimal; empty in a folder of a version that had no checksums."""


@dataclass
class Manifest:
    model: dict[str, str]
    """name, revision, fingerprint"""
    embedding_dim: int
    dtype: str
    source: dict[str, Any]
    options: dict[str, Any]
    """Those that decide what is in the rows; a job cannot go on with others."""
    parts: list[PartEntry] = field(default_factory=list)
    finished: bool = False

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    @property
    def failed(self) -> int:
        return sum(part.failed for part in self.parts)

    @property
    def end(self) -> int:
        """Where the source goes on."""
        return self.parts[-1].end if self.parts else 0

    def save(self, folder: Path) -> None:
        """Raises OutputError."""
        values = {"format": FORMAT, "version": VERSION, **asdict(self), "rows": self.rows}
        text = (json.dumps(values, indent=1) + "\n").encode()
        atomic.write(folder / NAME, lambda file: file.write(text))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises OutputError."""
        path = folder / NAME
        try:
            values = json.loads(path.read_bytes())
            if values["format"] != FORMAT:
                raise ValueError(f"its format is {values['format']!r}")
            if values["version"] != VERSION:
                raise ValueError(f"its version is {values['version']!r}, and this program's is {VERSION}")
            parts = [PartEntry(**part) for part in values.pop("parts")]
            for part in parts:
                _check_part(part)
            return cls(
                **{name: _of_kind(name, values[name], kind) for name, kind in _KINDS.items()}, parts=parts
            )
        except OSError as error:
            raise OutputError(f"cannot read {path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise OutputError(f"{path} is no manifest of a job: {error!s:.200}") from None

    def check_same(self, now: "Manifest", folder: Path) -> None:
        """Raises OutputError that names the first difference, with what it was and what it is."""
        for what, before, after in _differences(self, now):
            raise OutputError(
                f"{folder} holds a job with {what} {_shown(before)}, and now it is {_shown(after)}: "
                "give what it was, or another --out"
            )
        if self.source != now.source:
            raise OutputError(f"{_changed(self.source, now.source)}: start again with another --out")


_KINDS: dict[str, type] = {
    "model": dict, "embedding_dim": int, "dtype": str, "source": dict, "options": dict, "finished": bool
}  # fmt: skip


def _of_kind(name: str, value: Any, kind: type) -> Any:
    """Raises ValueError."""
    if not isinstance(value, kind):
        raise ValueError(f"its {name} is {value!r:.60}")
    return value


def _check_part(part: PartEntry) -> None:
    """Raises ValueError. What is named is renamed later: it must be in this folder."""
    for name, size in _of_kind("list of files", part.files, dict).items():
        if Path(name).name != name or not isinstance(size, int):
            raise ValueError(f"it names the file {name!r:.60} with {size!r:.60} bytes")
    if _of_kind("list of checksums", part.sha256, dict) and part.sha256.keys() != part.files.keys():
        raise ValueError(f"it has checksums of {sorted(part.sha256)!s:.60} for {sorted(part.files)!s:.60}")
    for name in ("rows", "failed", "end"):
        _of_kind(f"number of {name}", getattr(part, name), int)


def _differences(old: Manifest, new: Manifest) -> list[tuple[str, Any, Any]]:
    """What the user gave, and what is served; not yet what the source's files are."""
    pairs: list[tuple[str, Any, Any]] = [
        ("model fingerprint", old.model.get("fingerprint"), new.model.get("fingerprint")),
        ("embedding_dim", old.embedding_dim, new.embedding_dim),
        ("dtype", old.dtype, new.dtype),
    ]
    for name in {**old.options, **new.options}:
        pairs.append((f"option {name}", old.options.get(name), new.options.get(name)))
    for name in {**old.source, **new.source}:
        if name != "files":
            pairs.append((f"source {name}", old.source.get(name), new.source.get(name)))
    return [(what, before, after) for what, before, after in pairs if before != after]


def _changed(old: dict[str, Any], new: dict[str, Any]) -> str:
    before = {name: state for name, *state in old.get("files", [])}
    now = {name: state for name, *state in new.get("files", [])}
    for name in sorted({*before, *now}):
        if name not in now:
            return f"the source's file {name} is not there any more"
        if name not in before:
            return f"the source has a file more than when the job began, {name}"
        if before[name] != now[name]:
            return f"the source's file {name} was changed since the job began"
    return "the source's files are in another order"


def _shown(value: Any) -> str:
    return "not given" if value is None else f"{value!r:.200}"
