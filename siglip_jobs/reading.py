"""What jobs have written, for who uses it: all parts, of all shards."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from siglip_jobs import manifest, names
from siglip_jobs.errors import OutputError
from siglip_jobs.manifest import Manifest
from siglip_jobs.parquet import arrow, damage_told
from siglip_jobs.shards import shard_folders


@dataclass(frozen=True, slots=True, eq=False)
class WrittenPart:
    """`vectors`: float32 or float16 [rows, dim], NaN where a row has an error."""

    ids: list[str]
    vectors: npt.NDArray[Any]
    errors: list[str | None]


def manifests(out: Path) -> list[tuple[Path, Manifest]]:
    """(folder, its manifest): one, or one for each shard.

    Raises OutputError where there is none, and where shards are of different models.
    """
    folders = [folder for folder in shard_folders(out) if (folder / manifest.NAME).exists()] or [out]
    if not (folders[0] / manifest.NAME).exists():
        raise OutputError(f"{out} holds no {manifest.NAME}: it is no output of siglip embed")
    found = [(folder, Manifest.load(folder)) for folder in folders]
    for folder, each in found[1:]:
        if each.model["fingerprint"] != found[0][1].model["fingerprint"]:
            raise OutputError(f"{folder} holds vectors of another model than {found[0][0]}")
    return found


def written_parts(folder: Path, found: Manifest) -> Iterator[WrittenPart]:
    """Of one folder with a manifest, in their order."""
    for part in found.parts:
        yield _read(folder, list(part.files))


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


def picture_path(found: Manifest, identity: str) -> Path:
    """The file of a row of an images job."""
    return Path(names.unescape(found.source["root"]), names.unescape(identity))


def _read(folder: Path, files: list[str]) -> WrittenPart:
    ids, errors = _ids(folder, files)
    if files[0].endswith(".parquet"):
        vectors = arrow().parquet.read_table(folder / files[0], columns=["vector"])["vector"].combine_chunks()
        flat = vectors.values.to_numpy(zero_copy_only=False).reshape(len(ids), -1).copy()
        flat[[error is not None for error in errors]] = np.nan
        return WrittenPart(ids, flat, errors)
    return WrittenPart(ids, np.load(folder / files[1]), errors)


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
