"""From the ids of rows back to their pictures, as far as these can be found."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siglip_jobs import names
from siglip_jobs.errors import JobError
from siglip_jobs.rows import Content, File, Row

if TYPE_CHECKING:
    from siglip_search import EmbeddedFolder


def find_pictures(folder: "EmbeddedFolder", ids: Iterable[str], place: Path | None) -> dict[str, Content]:
    """Where to read each that is a file or in a tar. `place`: the folder of the files now, if another."""
    source = folder.manifest.get("source", {})
    root = Path(names.unescape(source.get("root", "")))
    if source.get("kind") == "tar" and not place:
        wanted = set(ids)
        return {row.id: row.content for row in _rows(root, source, wanted)}
    return {name: File(str((place or root) / names.unescape(name))) for name in ids}


def _rows(root: Path, source: dict[str, Any], wanted: set[str]) -> Iterator[Row]:
    """Reads headers, not pictures, and no further than needed. What is gone holds nothing."""
    from siglip_jobs.sources import open_source

    for name, *_ in source.get("files", []):
        try:
            for row in open_source(str(root / names.unescape(name))).rows() if wanted else ():
                if row.id in wanted:
                    wanted.discard(row.id)
                    yield row
        except JobError:
            continue
