"""What a job has written: its ids, and why rows failed."""

import json
from collections.abc import Iterator
from pathlib import Path

from siglip_jobs.errors import OutputError
from siglip_jobs.manifest import Manifest
from siglip_jobs.parquet import arrow, damage_told


def written_ids(folder: Path, found: Manifest) -> Iterator[str]:
    for part in found.parts:
        yield from _ids(folder, list(part.files))[0]


def failures(folder: Path, found: Manifest) -> Iterator[tuple[str, str]]:
    """(id, error) of each row that failed."""
    for part in found.parts:
        if part.failed:
            for identity, error in zip(*_ids(folder, list(part.files)), strict=True):
                if error is not None:
                    yield identity, error


def _ids(folder: Path, files: list[str]) -> tuple[list[str], list[str | None]]:
    """Raises OutputError."""
    path = folder / files[0]
    try:
        return _parquet_ids(path) if path.suffix == ".parquet" else _json_ids(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"cannot read {path}: {' '.join(str(error).split())}; put it back as it was written, or start "
            "again with another --out"
        ) from None


def _parquet_ids(path: Path) -> tuple[list[str], list[str | None]]:
    with damage_told(), arrow().parquet.ParquetFile(path, page_checksum_verification=True) as file:
        table = file.read(["id", "error"])
    return table["id"].to_pylist(), table["error"].to_pylist()


def _json_ids(path: Path) -> tuple[list[str], list[str | None]]:
    with path.open("rb") as file:
        rows = [json.loads(line) for line in file]
    return [row["id"] for row in rows], [row["error"] for row in rows]
